//! The service killed and stopped under load: what it has answered stands, whatever happens (I2, I3).

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod caller;
mod kills;
mod lists;
mod stops;

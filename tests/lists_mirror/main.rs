//! The mirror of the lists: a real service beside a real Redis, to which everything happens that happens to servers. After
//! each of it, what other systems read there is what `GET /v1/lists` shows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod entries;
mod histories;
mod on_kafka;
mod pair;
mod rebuild;
mod servers;

//! Damaged files, missing files, a full disk, a second process: the service says what is wrong and decides nothing
//! wrong (DESIGN 6).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod checkpoints;
mod disk;
mod files;
mod journal;
mod refusals;

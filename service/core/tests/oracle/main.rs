//! An oracle for profiles and features: a history that keeps every event for ever and answers by scanning all of it.
//!
//! It is written from the contract alone and shares no code with the profile: where the two disagree, one of them is
//! wrong. It refuses to be fast, bounded or clever.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod bounded;
mod exact;
mod history;
mod money;
mod naive;
mod predicates;
mod stories;

//! Projections: what other readers make of the journal (I4).
//!
//! A projection tails the journal from a position of its own, which it stores with its rows in one transaction, and
//! writes idempotently by deterministic ids. Down, slow or wiped, it catches up; decisions never wait for it, and
//! nothing here is ever read to decide.

pub mod alert_feed;
mod back_off;
mod lag;
pub mod lists;
pub mod outbox;
#[cfg(test)]
mod placed;
pub mod review;
pub mod review_labels;
pub mod review_store;

pub use lag::{Follower, Reflections};

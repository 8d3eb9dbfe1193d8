//! The actix shell: one arbiter a shard, a `ShardActor` on it, and one `UserActor` per hot user; others are bytes.
//!
//! An event takes one way: `Gateway` (permit) → `ShardActor` (routes) → `UserActor` (weighs; waits for the model in a
//! batch; decides; commits) → `ShardContext` (numbers the record) → `Journal` → answer. All of the deciding is in
//! `verdict-core`; this room only keeps order and bounds.

mod answered;
mod appending;
mod breaker;
mod checkpointing;
pub mod claim;
pub mod completion;
pub mod context;
pub mod dormant;
mod fallback;
pub mod gateway;
mod listing;
pub mod memory;
pub mod messages;
pub mod originals;
mod outbox;
pub mod partition;
pub mod permits;
mod recent;
pub mod recovery;
pub mod replica;
pub mod requests;
mod scoring;
pub mod shard;
pub mod source_offsets;
pub mod sources;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod user;
pub mod users;
#[cfg(test)]
mod users_tests;
pub mod work;

//! The actix shell: one arbiter a shard, a `ShardActor` on it, and one `UserActor` per user.

pub mod gateway;
pub mod messages;

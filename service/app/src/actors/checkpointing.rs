//! Saving the changed profiles of a shard, without holding up its decisions.
//!
//! The position is taken first and the profiles after it, so that every record below the position is in one of them; they
//! may already hold later ones, which a replay then skips. Nothing is saved before all of it is durable.

use super::context::{Completion, ShardContext};
use super::partition::partition_of;
use super::user::{CopyProfile, UserActor};
use crate::journal::checkpoint::{Checkpoint, Checkpoints, Marker, ProfileSnapshot};
use crate::journal::{Partition, profile_v1};
use crate::telemetry::events;
use actix::Addr;
use futures_util::future::join_all;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::error;
use verdict_core::profile::Profile;

/// Profiles copied between two turns of the shard: some 100 us of its time.
const COPIES_PER_TURN: usize = 64;

/// How to get at a profile.
pub(super) enum Copy {
    /// Nobody else has it.
    Ready(Box<Profile>),
    /// Its actor has.
    Ask(Addr<UserActor>),
}

/// Saves these profiles and the position that they reflect, which was taken before them; `false` when that failed and is to be tried again.
pub(super) async fn save(
    context: Rc<ShardContext>,
    store: Arc<dyn Checkpoints>,
    partitions: Partition,
    marker: Marker,
    profiles: Vec<(Rc<str>, Copy)>,
) -> bool {
    let started = context.clock.instant();
    let changed = profiles.iter().map(|(id, _)| Rc::clone(id)).collect::<Vec<_>>();
    let mut snapshots = Vec::with_capacity(profiles.len());
    let mut rest = profiles.into_iter();
    loop {
        let turn = rest.by_ref().take(COPIES_PER_TURN).collect::<Vec<_>>();
        if turn.is_empty() {
            break;
        }
        let copies = join_all(turn.into_iter().map(async |(id, copy)| match copy {
            Copy::Ready(profile) => Some((id, profile)),
            // A user that is gone has ended with its epoch, and so has this checkpoint.
            Copy::Ask(user) => Some((id, Box::new(user.send(CopyProfile).await.ok()?))),
        }))
        .await;
        for (id, profile) in copies.into_iter().flatten() {
            let partition = partition_of(&id, partitions);
            let bytes = profile_v1::encode(&profile);
            snapshots.push(ProfileSnapshot { user_id: (&*id).into(), partition, n: profile.next_n(), bytes });
        }
        tokio::task::yield_now().await;
    }
    let (done, durable) = oneshot::channel();
    context.after_commits(Completion::Durable(done));
    if !matches!(durable.await, Ok(true)) || context.is_closed() {
        return false;
    }
    let count = snapshots.len();
    match store.save(&Checkpoint { profiles: snapshots, marker }).await {
        Ok(()) => {
            events::CheckpointSaved { profiles: count as u64, seconds: context.clock.since(started).as_secs_f64() }
                .emit(&context.metrics);
            true
        }
        Err(error) => {
            error!(%error, "cannot save a checkpoint; a later one will hold it");
            changed.iter().for_each(|id| context.mark_dirty(id));
            false
        }
    }
}

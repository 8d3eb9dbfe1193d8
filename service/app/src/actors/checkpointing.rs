//! Saving the changed profiles of a shard, without holding up its decisions.
//!
//! The position is taken first and the profiles after it, so that every record below the position is in one of them; they
//! may already hold later ones, which a replay then skips. Nothing is saved before all of it is durable.

use super::context::{Completion, ShardContext};
use super::partition::partition_of;
use super::users::Users;
use crate::journal::Partition;
use crate::journal::checkpoint::{Checkpoint, CheckpointStore, Marker, ProfileSnapshot};
use crate::telemetry::events;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::error;

/// Profiles encoded between two turns of the shard: some 100 us of its time.
const COPIES_PER_TURN: usize = 64;

/// Saves the profiles of these users and the position that they reflect, which was taken before them; `false` when that failed and is to be tried again.
pub(super) async fn save(
    context: Rc<ShardContext>,
    store: Arc<CheckpointStore>,
    partitions: Partition,
    marker: Marker,
    users: Rc<RefCell<Users>>,
    changed: HashSet<Rc<str>>,
) -> bool {
    let started = context.clock.instant();
    let mut snapshots = Vec::with_capacity(changed.len());
    for (place, id) in changed.iter().enumerate() {
        // Hot or dormant by now: a profile holds every record that was numbered, at any moment between two turns.
        if let Some((n, bytes)) = users.borrow().stored(id) {
            snapshots.push(ProfileSnapshot {
                user_id: (&**id).into(),
                partition: partition_of(id, partitions),
                n,
                bytes,
            });
        }
        if (place + 1) % COPIES_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(users);
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

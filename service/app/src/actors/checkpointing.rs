//! Saving the changed profiles and list entries of a shard, without holding up its decisions and without a copy of all of them.
//!
//! The position is taken first, and list entries and profiles after it, so that every record below the position is in one
//! of them; they may already hold later ones, which a replay then skips or does again. Profiles are written as they are copied, a part at a time, and
//! nothing counts before all of it is durable: then the transaction around them is committed. Where a part stands by itself, all
//! that is in it is durable before it is handed over.

use super::completion::Completion;
use super::context::ShardContext;
use super::partition::partition_of;
use super::users::Users;
use crate::journal::Partition;
use crate::journal::checkpoint::{Checkpoints, ListSnapshot, Marker, ProfileSnapshot, ROWS_PER_STATEMENT};
use crate::telemetry::events;
use futures_util::stream::{self, StreamExt};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;
use std::vec;
use tokio::sync::oneshot;
use tracing::error;
use verdict_core::lists::{ListEntry, ListKey};

/// Profiles encoded between two turns of the shard, and bytes of them: some 100 us of its time. The largest profile has
/// 700 KB, and a turn of its own.
const COPIES_PER_TURN: usize = 64;
const BYTES_PER_TURN: usize = 64 << 10;

/// Bytes of profiles in a part, beyond which the last may go.
const BYTES_PER_PART: usize = 4 << 20;

/// Saves the profiles of these users, the list entries of these partitions, and the position that they reflect, which was
/// taken before them; `false` when that failed and is to be tried again.
pub(super) async fn save(
    context: Rc<ShardContext>,
    store: Arc<dyn Checkpoints>,
    partitions: Partition,
    marker: Marker,
    users: Rc<RefCell<Users>>,
    changed: HashSet<Rc<str>>,
    changed_lists: HashSet<Partition>,
) -> bool {
    let started = context.clock.instant();
    let lists = list_snapshots(&context, &changed_lists).await;
    let mut by_partition: BTreeMap<Partition, Vec<&Rc<str>>> = BTreeMap::new();
    for id in &changed {
        by_partition.entry(partition_of(id, partitions)).or_default().push(id);
    }
    let users = &users;
    let copies = stream::iter(by_partition).flat_map(|(partition, mut ids)| {
        // In the order of the file; a partition at a time, so that the shard is not held up for long.
        ids.sort_unstable();
        stream::unfold(ids.into_iter(), move |ids| copy(users, partition, ids))
    });
    let copies = copies.then(async |part| {
        let may_stand = !store.stands_in_parts() || durable(&context).await;
        may_stand.then_some(part)
    });
    let given_up = stream::once(durable(&context)).filter_map(|durable| ready((!durable).then_some(None)));
    let count = changed.len() as u64;
    match store.save_parts(copies.chain(given_up).boxed_local(), &lists, &marker).await {
        Ok(true) => {
            events::CheckpointSaved { profiles: count, seconds: context.clock.since(started).as_secs_f64() }
                .emit(&context.metrics);
            true
        }
        // Its epoch has ended, and what it knows with it.
        Ok(false) => false,
        Err(error) => {
            error!(%error, "cannot save a checkpoint; a later one will hold it");
            changed.iter().for_each(|id| context.mark_dirty(id));
            changed_lists.iter().for_each(|partition| context.mark_lists_dirty(*partition));
            false
        }
    }
}

/// Every list entry of these partitions, some at a time.
async fn list_snapshots(context: &ShardContext, changed: &HashSet<Partition>) -> Vec<ListSnapshot> {
    if changed.is_empty() {
        return Vec::new();
    }
    let mut by_partition: HashMap<Partition, Vec<(ListKey, ListEntry)>> =
        changed.iter().map(|partition| (*partition, Vec::new())).collect();
    let mut after = None;
    loop {
        let (listed, next) = context.lists.replica().listed_behind(after.as_ref(), changed);
        for (partition, key, entry) in listed {
            by_partition.entry(partition).or_default().push((key, entry));
        }
        if next.is_none() {
            return by_partition.into_iter().map(|(partition, entries)| ListSnapshot { partition, entries }).collect();
        }
        after = next;
        tokio::task::yield_now().await;
    }
}

/// The next part of the profiles of one partition as they are stored, with those that are left; `None` at the end.
async fn copy<'a>(
    users: &RefCell<Users>,
    partition: Partition,
    mut ids: vec::IntoIter<&'a Rc<str>>,
) -> Option<(Vec<ProfileSnapshot>, vec::IntoIter<&'a Rc<str>>)> {
    if ids.len() == 0 {
        return None;
    }
    let (mut snapshots, mut part_bytes) = (Vec::with_capacity(ids.len().min(ROWS_PER_STATEMENT)), 0);
    let (mut turn_copies, mut turn_bytes) = (0, 0);
    while snapshots.len() < ROWS_PER_STATEMENT
        && part_bytes < BYTES_PER_PART
        && let Some(id) = ids.next()
    {
        // Hot or dormant by now: a profile holds every record that was numbered, at any moment between two turns.
        let Some((n, bytes)) = users.borrow().stored(id) else { continue };
        part_bytes += bytes.len();
        (turn_copies, turn_bytes) = (turn_copies + 1, turn_bytes + bytes.len());
        snapshots.push(ProfileSnapshot { user_id: (&**id).into(), partition, n, bytes });
        if turn_copies >= COPIES_PER_TURN || turn_bytes >= BYTES_PER_TURN {
            tokio::task::yield_now().await;
            (turn_copies, turn_bytes) = (0, 0);
        }
    }
    tokio::task::yield_now().await;
    Some((snapshots, ids))
}

/// Whether everything that was committed until now became durable.
async fn durable(context: &ShardContext) -> bool {
    let (done, durable) = oneshot::channel();
    context.after_commits(Completion::Durable(done));
    matches!(durable.await, Ok(true)) && !context.is_closed()
}

//! The last decisions of a shard, for retries that come soon. Refuses to be the truth: whatever is not here is read back.

use crate::journal::Partition;
use crate::journal::record::Decided;
use std::collections::VecDeque;
use std::sync::Arc;

/// Decisions whose whole answer is kept for duplicates, at least: more would be kept where more can be in flight, so that
/// a duplicate of one that is not durable yet is always found here.
const RECENT_DECISIONS: usize = 16_384;

/// The last decisions of a shard, oldest out first. A partition's numbers come in order, so that none needs a look-up.
pub(super) struct RecentDecisions {
    most: usize,
    /// By partition.
    decisions: Vec<VecDeque<(u64, Arc<Decided>)>>,
    order: VecDeque<Partition>,
}

impl RecentDecisions {
    /// Room for as many as can be in flight, and for no fewer than is of use to retries.
    pub(super) fn new(in_flight: usize) -> Self {
        Self { most: in_flight.max(RECENT_DECISIONS), decisions: Vec::new(), order: VecDeque::new() }
    }

    pub(super) fn put(&mut self, partition: Partition, n: u64, decided: Arc<Decided>) {
        let place = usize::from(partition);
        if place >= self.decisions.len() {
            self.decisions.resize_with(place + 1, VecDeque::new);
        }
        self.decisions[place].push_back((n, decided));
        self.order.push_back(partition);
        if self.order.len() > self.most
            && let Some(oldest) =
                self.order.pop_front().and_then(|partition| self.decisions.get_mut(usize::from(partition)))
        {
            oldest.pop_front();
        }
    }

    pub(super) fn get(&self, partition: Partition, n: u64) -> Option<&Arc<Decided>> {
        let decisions = self.decisions.get(usize::from(partition))?;
        let place = decisions.binary_search_by_key(&n, |(n, _)| *n).ok()?;
        decisions.get(place).map(|(_, decided)| decided)
    }
}

//! The last decisions of a shard, for retries that come soon. Refuses to be the truth: whatever is not here is read back.

use crate::journal::Partition;
use crate::journal::record::Decided;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Decisions whose whole answer is kept for duplicates; far above what can be in flight, so that a duplicate of one that
/// is not durable yet is always found here.
const RECENT_DECISIONS: usize = 16_384;

/// The last decisions of a shard, oldest out first. A partition's numbers come in order, so that none needs a look-up.
#[derive(Default)]
pub(super) struct RecentDecisions {
    decisions: HashMap<Partition, VecDeque<(u64, Arc<Decided>)>>,
    order: VecDeque<Partition>,
}

impl RecentDecisions {
    pub(super) fn put(&mut self, partition: Partition, n: u64, decided: Arc<Decided>) {
        self.decisions.entry(partition).or_default().push_back((n, decided));
        self.order.push_back(partition);
        if self.order.len() > RECENT_DECISIONS
            && let Some(oldest) = self.order.pop_front().and_then(|partition| self.decisions.get_mut(&partition))
        {
            oldest.pop_front();
        }
    }

    pub(super) fn get(&self, partition: Partition, n: u64) -> Option<&Arc<Decided>> {
        let decisions = self.decisions.get(&partition)?;
        let place = decisions.binary_search_by_key(&n, |(n, _)| *n).ok()?;
        decisions.get(place).map(|(_, decided)| decided)
    }
}

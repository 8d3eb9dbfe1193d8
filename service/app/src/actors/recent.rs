//! The last decisions of a shard, for retries that come at once, and all that are not durable. Refuses to be the truth:
//! whatever is not here is read back.

use crate::journal::Partition;
use crate::journal::record::Decided;
use std::collections::VecDeque;
use std::sync::Arc;

/// Decisions that are kept for duplicates once they are durable, if no more than that are not. Few, as each takes more than a
/// kilobyte through the processor's cache once more when it goes: with 16,384 of them a decision takes 3 to 4 % longer.
const RECENT_DECISIONS: usize = 512;

/// The last decisions of a shard, oldest out first. A partition's numbers come in order, so that none needs a look-up.
#[derive(Default)]
pub(super) struct RecentDecisions {
    /// By partition.
    decisions: Vec<VecDeque<(u64, Arc<Decided>)>>,
    order: VecDeque<Partition>,
}

impl RecentDecisions {
    /// Keeps a decision, and lets go of the oldest if there are many: of none that cannot be read back yet. After an outage
    /// there are too many, and two go for each that comes, so that no decision waits for all of them to go.
    pub(super) fn put(
        &mut self,
        partition: Partition,
        n: u64,
        decided: Arc<Decided>,
        is_durable: impl Fn(Partition, u64) -> bool,
    ) {
        let place = usize::from(partition);
        if place >= self.decisions.len() {
            self.decisions.resize_with(place + 1, VecDeque::new);
        }
        self.decisions[place].push_back((n, decided));
        self.order.push_back(partition);
        for _ in 0..2 {
            if self.order.len() > RECENT_DECISIONS
                && let Some(&oldest) = self.order.front()
                && let Some(of_partition) = self.decisions.get_mut(usize::from(oldest))
                && of_partition.front().is_none_or(|(n, _)| is_durable(oldest, *n))
            {
                of_partition.pop_front();
                self.order.pop_front();
            }
        }
    }

    pub(super) fn get(&self, partition: Partition, n: u64) -> Option<&Arc<Decided>> {
        let decisions = self.decisions.get(usize::from(partition))?;
        let place = decisions.binary_search_by_key(&n, |(n, _)| *n).ok()?;
        decisions.get(place).map(|(_, decided)| decided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decision::testing::answer;

    #[test]
    fn the_last_are_kept_and_whatever_is_not_durable() {
        let decided = answer().decided;
        let mut recent = RecentDecisions::default();
        let mut put = |n, durable_n| {
            recent.put((n % 3) as Partition, n, Arc::clone(&decided), |_, n| n < durable_n);
            (0..=n).filter(|n| recent.get((n % 3) as Partition, *n).is_some()).collect::<Vec<u64>>()
        };
        let most = RECENT_DECISIONS as u64;
        (0..most + 4).for_each(|n| drop(put(n, n)));
        assert_eq!(put(most + 4, 10), (5..most + 5).collect::<Vec<_>>(), "the oldest is gone");
        for n in most + 5..2 * most {
            assert_eq!(put(n, 10), (10.min(n - most + 1)..=n).collect::<Vec<_>>(), "the tenth is not durable");
        }
        for n in 2 * most..3 * most {
            let oldest = (12 + 2 * (n - 2 * most)).min(n - most + 1);
            assert_eq!(put(n, n), (oldest..=n).collect::<Vec<_>>(), "all are, and two go for each that comes");
        }
    }
}

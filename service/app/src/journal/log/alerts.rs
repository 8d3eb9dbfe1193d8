//! The last alerts that became durable, in memory: a projection that keeps up gets them from here, in place of reading and
//! verifying everything that was written between them. It saves time only, and holds a bounded number of bytes (I7). Pure.

use super::batch::Frame;
use super::segment::Floors;
use crate::journal::codec::{DecodeError, Decoder};
use crate::journal::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;

/// An alert's record, as it was written.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    partition: usize,
    n: u64,
    bytes: Arc<[u8]>,
}

impl Alert {
    /// The record of a frame, if it raises an alert.
    pub(super) fn of(frame: &Frame<'_>) -> Option<Self> {
        let alert = || Self { partition: frame.partition.into(), n: frame.n, bytes: frame.record.into() };
        frame.raises_alert().then(alert)
    }

    pub(super) fn decode(&self, decoder: &mut Decoder) -> Result<Record, DecodeError> {
        decoder.decode(&self.bytes)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct LastAlerts {
    /// In journal order.
    kept: VecDeque<Alert>,
    /// For every partition the number from which on all its alerts are kept.
    from: Vec<u64>,
    bytes: usize,
    max_bytes: usize,
}

impl LastAlerts {
    /// None of what was written before these ends; never more than so many bytes.
    pub(super) const fn after(ends: Vec<u64>, max_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), from: ends, bytes: 0, max_bytes }
    }

    /// Keeps what has become durable; the oldest go.
    pub(super) fn keep(&mut self, alerts: Vec<Alert>) {
        self.bytes += alerts.iter().map(|alert| alert.bytes.len()).sum::<usize>();
        self.kept.extend(alerts);
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes.len();
            self.from[oldest.partition] = oldest.n + 1;
        }
    }

    /// All alerts from these numbers on; `None` where some were not kept.
    pub(super) fn from(&self, floors: &Floors) -> Option<Vec<Alert>> {
        let goes_back = floors.0.iter().zip(&self.from).all(|(wanted, from)| wanted >= from);
        let wanted = |alert: &&Alert| alert.n >= floors.0[alert.partition];
        goes_back.then(|| self.kept.iter().filter(wanted).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alert(partition: usize, n: u64) -> Alert {
        Alert { partition, n, bytes: [0; 10].into() }
    }

    fn numbers(last: &LastAlerts, floors: [u64; 2]) -> Option<Vec<(usize, u64)>> {
        let found = last.from(&Floors(floors.to_vec()))?;
        Some(found.iter().map(|alert| (alert.partition, alert.n)).collect())
    }

    #[test]
    fn what_was_not_kept_is_not_given_in_part() {
        let mut last = LastAlerts::after(vec![5, 0], 30);
        assert_eq!(numbers(&last, [4, 0]), None, "it begins with what is written from now on");
        assert_eq!(numbers(&last, [5, 0]), Some(vec![]));
        last.keep(vec![alert(0, 5), alert(1, 3), alert(0, 9)]);
        assert_eq!(numbers(&last, [5, 0]), Some(vec![(0, 5), (1, 3), (0, 9)]));
        assert_eq!(numbers(&last, [6, u64::MAX]), Some(vec![(0, 9)]));
        last.keep(vec![alert(1, 7)]);
        assert_eq!(numbers(&last, [5, 0]), None, "the first has gone");
        assert_eq!(numbers(&last, [6, 0]), Some(vec![(1, 3), (0, 9), (1, 7)]));
    }

    proptest! {
        /// Either all that is wanted or nothing, whatever was kept and has gone.
        #[test]
        fn all_or_nothing(
            batches in prop::collection::vec(prop::collection::vec((0..2_usize, 1..4_u64), 0..6), 0..20),
            floors in [0..40_u64, 0..40_u64],
        ) {
            let (mut last, mut ends, mut all) = (LastAlerts::after(vec![0, 0], 100), [0_u64; 2], Vec::new());
            for batch in batches {
                let mut alerts = Vec::new();
                for (partition, step) in batch {
                    ends[partition] += step;
                    alerts.push(alert(partition, ends[partition]));
                    all.push((partition, ends[partition]));
                }
                last.keep(alerts);
                prop_assert!(last.kept.len() <= 10);
            }
            let gone = &all[..all.len().saturating_sub(10)];
            let wanted = |alerts: &[(usize, u64)]| -> Vec<(usize, u64)> {
                alerts.iter().filter(|(partition, n)| *n >= floors[*partition]).copied().collect()
            };
            let expected = wanted(gone).is_empty().then(|| wanted(&all));
            prop_assert_eq!(numbers(&last, floors), expected);
        }
    }
}

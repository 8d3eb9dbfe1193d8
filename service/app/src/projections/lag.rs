//! How far a projection is behind the journal, and how much it has come to reflect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What is measured of a projection.
pub trait Follower {
    /// Durable records that are not reflected yet.
    fn records(&self) -> u64;
    /// Whether, in every partition, all records before these numbers are reflected.
    fn has_reflected(&self, ends: &[u64]) -> bool;
    /// Records that it has come to reflect since the start; what is done again after a failure counts again.
    fn reflected(&self) -> u64;
}

/// Counts what one or several have come to reflect; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reflections(Arc<AtomicU64>);

impl Reflections {
    /// So many more.
    pub(super) fn add(&self, records: u64) {
        self.0.fetch_add(records, Ordering::Relaxed);
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a projection of the whole journal says how far it is.
pub(super) struct Reflecting {
    reflected: watch::Sender<Vec<u64>>,
    counted: Reflections,
}

impl Reflecting {
    /// Nothing is reflected yet.
    pub(super) fn new(partitions: usize) -> Self {
        Self { reflected: watch::Sender::new(vec![0; partitions]), counted: Reflections::default() }
    }

    /// It goes on from these first records that are not reflected: what is before them was done by somebody else.
    pub(super) fn stand_at(&self, next: &[u64]) {
        self.reflected.send_if_modified(|reflected| {
            let moved = *reflected != next;
            reflected.clear();
            reflected.extend(next);
            moved
        });
    }

    /// It has come to these.
    pub(super) fn come_to(&self, next: &[u64]) {
        let more =
            next.iter().zip(self.reflected.borrow().iter()).map(|(next, before)| next.saturating_sub(*before)).sum();
        self.counted.add(more);
        self.stand_at(next);
    }

    pub(super) fn lag(&self, durable: watch::Receiver<Vec<u64>>) -> Lag {
        Lag { durable, reflected: self.reflected.subscribe(), counted: self.counted.clone() }
    }
}

/// How far the projection is behind; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lag {
    /// For every partition the number of durable records.
    durable: watch::Receiver<Vec<u64>>,
    /// And the first that is not reflected.
    reflected: watch::Receiver<Vec<u64>>,
    counted: Reflections,
}

impl Lag {
    /// Durable records that are not reflected yet.
    #[must_use]
    pub fn records(&self) -> u64 {
        let (durable, reflected) = (self.durable.borrow(), self.reflected.borrow());
        durable.iter().zip(reflected.iter()).map(|(end, next)| end.saturating_sub(*next)).sum()
    }

    /// For every partition the first record that is not reflected; changes as the projection advances.
    #[must_use]
    pub fn reflected(&self) -> watch::Receiver<Vec<u64>> {
        self.reflected.clone()
    }
}

impl Follower for Lag {
    fn records(&self) -> u64 {
        self.records()
    }

    fn has_reflected(&self, ends: &[u64]) -> bool {
        ends.iter().zip(self.reflected.borrow().iter()).all(|(end, next)| next >= end)
    }

    fn reflected(&self) -> u64 {
        self.counted.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_came_to_and_not_where_it_began() {
        let (durable, told) = watch::channel(vec![9, 4]);
        let reflecting = Reflecting::new(2);
        let lag = reflecting.lag(told);
        assert_eq!((lag.records(), Follower::reflected(&lag)), (13, 0));
        reflecting.stand_at(&[7, 0]);
        assert_eq!((lag.records(), Follower::reflected(&lag)), (6, 0));
        reflecting.come_to(&[9, 1]);
        assert_eq!((lag.records(), Follower::reflected(&lag)), (3, 3));
        assert!(lag.has_reflected(&[9, 1]) && !lag.has_reflected(&[8, 2]));
        // A rebuild begins at the start again.
        reflecting.stand_at(&[0, 0]);
        reflecting.come_to(&[9, 4]);
        assert_eq!((lag.records(), Follower::reflected(&lag)), (0, 16));
        drop(durable);
    }
}

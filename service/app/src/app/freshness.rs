//! How long what a projection does not reflect yet has waited: not the events' own time, but that since their records were
//! durable, or since the start for those of before.
//!
//! The ends of the journal are noted at every look. A projection is as old as the first ends that it has not come to; the
//! truth is up to one look older. Of a long wait not every look is kept.

use crate::projections::Follower;
use crate::telemetry::events::ProjectionLag;
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::watch;

/// Looks that are kept, beyond which every second one is let go of.
const MOST_LOOKS: usize = 256;

/// See the module.
pub(super) struct Freshness {
    /// For every partition the number of durable records.
    durable: watch::Receiver<Vec<u64>>,
    followers: Vec<(&'static str, Box<dyn Follower>)>,
    /// Different ends, and when they were first seen.
    looks: VecDeque<(Instant, Vec<u64>)>,
}

impl Freshness {
    pub(super) fn new(durable: watch::Receiver<Vec<u64>>, followers: Vec<(&'static str, Box<dyn Follower>)>) -> Self {
        Self { durable, followers, looks: VecDeque::new() }
    }

    /// How far every projection is at this moment; to be called again and again.
    pub(super) fn look(&mut self, now: Instant) -> Vec<ProjectionLag> {
        let ends = self.durable.borrow().clone();
        if self.looks.back().is_none_or(|(_, last)| *last != ends) {
            self.looks.push_back((now, ends));
        }
        let all = |ends: &[u64]| self.followers.iter().all(|(_, follower)| follower.has_reflected(ends));
        while self.looks.len() > 1 && self.looks.front().is_some_and(|(_, ends)| all(ends)) {
            self.looks.pop_front();
        }
        if self.looks.len() > MOST_LOOKS {
            let mut kept = false;
            self.looks.retain(|_| {
                kept = !kept;
                kept
            });
        }
        self.followers.iter().map(|(name, follower)| self.lag(name, &**follower, now)).collect()
    }

    fn lag(&self, projection: &'static str, follower: &dyn Follower, now: Instant) -> ProjectionLag {
        let waits = self.looks.iter().find(|(_, ends)| !follower.has_reflected(ends));
        let seconds = waits.map_or(0.0, |(since, _)| now.saturating_duration_since(*since).as_secs_f64());
        ProjectionLag { projection, records: follower.records(), seconds, reflected: follower.reflected() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct At(Rc<RefCell<Vec<u64>>>);

    impl Follower for At {
        fn records(&self) -> u64 {
            0
        }
        fn has_reflected(&self, ends: &[u64]) -> bool {
            ends.iter().zip(&*self.0.borrow()).all(|(end, next)| next >= end)
        }
        fn reflected(&self) -> u64 {
            0
        }
    }

    #[test]
    fn each_is_as_old_as_the_first_end_that_it_has_not_come_to() {
        let (durable, told) = watch::channel(vec![0, 0]);
        let [quick, slow] = [At(Rc::new(RefCell::new(vec![0, 0]))), At(Rc::new(RefCell::new(vec![0, 0])))];
        let followers: Vec<(_, Box<dyn Follower>)> =
            vec![("quick", Box::new(quick.clone())), ("slow", Box::new(slow.clone()))];
        let (mut freshness, start) = (Freshness::new(told, followers), clock::instant());
        let mut ages = |second: u64| {
            let lags = freshness.look(start + Duration::from_secs(second));
            lags.iter().map(|lag| lag.seconds).collect::<Vec<_>>()
        };
        assert_eq!(ages(0), [0.0, 0.0]);
        durable.send_replace(vec![5, 1]);
        assert_eq!(ages(10), [0.0, 0.0], "it was durable a moment ago");
        assert_eq!(ages(12), [2.0, 2.0]);
        quick.0.replace(vec![5, 1]);
        durable.send_replace(vec![9, 1]);
        assert_eq!(ages(13), [0.0, 3.0]);
        // One partition alone, however far the other is.
        slow.0.replace(vec![9, 0]);
        assert_eq!(ages(20), [7.0, 10.0]);
        slow.0.replace(vec![5, 1]);
        assert_eq!(ages(21), [8.0, 8.0]);
        quick.0.replace(vec![9, 1]);
        slow.0.replace(vec![9, 1]);
        assert_eq!(ages(22), [0.0, 0.0]);
    }

    #[test]
    fn a_long_wait_keeps_its_beginning_and_stays_small() {
        let (durable, told) = watch::channel(vec![0]);
        let slow = At(Rc::new(RefCell::new(vec![0])));
        let (mut freshness, start) = (Freshness::new(told, vec![("slow", Box::new(slow.clone()))]), clock::instant());
        for second in 1..=2_000 {
            durable.send_replace(vec![second]);
            let age = freshness.look(start + Duration::from_secs(second))[0].seconds;
            assert_eq!(age, (second - 1) as f64);
            assert!(freshness.looks.len() <= MOST_LOOKS + 1);
        }
        slow.0.replace(vec![1_000]);
        let age = freshness.look(start + Duration::from_secs(2_000))[0].seconds;
        assert!((900.0..=1_000.0).contains(&age), "{age}");
    }
}

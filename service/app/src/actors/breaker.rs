//! When a shard stops asking a model that hangs. A run that is stopped at its time has held up the whole shard until then,
//! and the next one would as well; decisions by rules alone then come at once. It keeps no time and runs nothing.

use std::time::{Duration, Instant};

/// Runs in a row that were stopped after a fair time, until the model is asked no more: a second of a shard, with the
/// default deadline.
const OPEN_AFTER: u32 = 5;

/// Time in which a full batch is scored hundreds of times over. A run that had less says nothing of the model, so that
/// callers with short deadlines cannot take it from the others; and a run that only tries gets no more.
pub(super) const FAIR_RUN: Duration = Duration::from_millis(50);

/// Time until one run tries again: a hundredth of a shard's time, at most, goes into that.
const PAUSE: Duration = Duration::from_secs(5);

/// How much the model may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Whole batches.
    Batches,
    /// One row, for no longer than [`FAIR_RUN`], to see whether it answers again.
    OneRow,
    /// Nothing.
    Nothing,
}

/// One shard's and one generation's; the next generation begins anew.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    timeouts: u32,
    /// While the model hangs: when it is tried again.
    open_until: Option<Instant>,
}

impl Breaker {
    /// How much the model may be asked now.
    #[must_use]
    pub(super) fn asking(&self, now: Instant) -> Asking {
        match self.open_until {
            None => Asking::Batches,
            Some(until) if now < until => Asking::Nothing,
            Some(_) => Asking::OneRow,
        }
    }

    /// A run came back by itself, with scores or with an error; `true` if none had for a while.
    pub(super) fn came_back(&mut self) -> bool {
        self.timeouts = 0;
        self.open_until.take().is_some()
    }

    /// A run was stopped after this time; for how long the model is left alone now, if it is.
    pub(super) fn was_stopped(&mut self, after: Option<Duration>, now: Instant) -> Option<Duration> {
        if self.open_until.is_none() {
            if after.is_some_and(|after| after < FAIR_RUN) {
                return None;
            }
            self.timeouts += 1;
            if self.timeouts < OPEN_AFTER {
                return None;
            }
        }
        self.open_until = Some(now + PAUSE);
        Some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;

    const LONG: Option<Duration> = Some(Duration::from_millis(198));
    const MS: Duration = Duration::from_millis(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<_> = (0..OPEN_AFTER).map(|_| breaker.was_stopped(LONG, now).is_some()).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn it_opens_after_runs_in_a_row_and_tries_one_after_a_pause() {
        let now = clock::instant();
        let mut breaker = opened(now);
        assert_eq!(breaker.asking(now), Asking::Nothing);
        assert_eq!(breaker.asking(now + PAUSE - MS), Asking::Nothing);
        assert_eq!(breaker.asking(now + PAUSE), Asking::OneRow);
        // One that hangs still is enough, however short it was.
        assert_eq!(breaker.was_stopped(Some(MS), now + PAUSE), Some(PAUSE));
        assert_eq!(breaker.asking(now + PAUSE * 2 - MS), Asking::Nothing);
        assert_eq!(breaker.asking(now + PAUSE * 2), Asking::OneRow);
        assert!(breaker.came_back());
        assert_eq!(breaker.asking(now), Asking::Batches);
        assert!(!breaker.came_back(), "said once");
        assert_eq!(breaker.was_stopped(LONG, now), None, "counted anew");
    }

    #[test]
    fn one_that_comes_back_in_between_starts_the_count_again() {
        let (now, mut breaker) = (clock::instant(), Breaker::default());
        for _ in 0..10 {
            (1..OPEN_AFTER).for_each(|_| assert_eq!(breaker.was_stopped(LONG, now), None));
            assert!(!breaker.came_back());
        }
        assert_eq!(breaker.asking(now), Asking::Batches);
    }

    #[test]
    fn runs_that_had_little_time_say_nothing() {
        let (now, mut breaker) = (clock::instant(), Breaker::default());
        for _ in 0..100 {
            assert_eq!(breaker.was_stopped(Some(FAIR_RUN - MS), now), None);
        }
        assert_eq!(breaker.asking(now), Asking::Batches);
    }
}

//! How many events of a worker are on their way together: as many as the machine answers in time, found by trial.
//!
//! A round is as many answers as the limit. After a round that took too long in the mean the limit is cut by as much as
//! that was too long, as time in a queue is proportional to its length, but to a half at most; after one in time it grows
//! by a sixteenth, if there was use for more. It knows neither rates nor costs, so it follows whatever slows the answers: a slow
//! processor, a slow disk, batches. The mean, since a single event may wait for others of its own user. Reads no clock.

use std::time::Duration;

/// The least and the most that is left of the limit after a round that took too long.
const CUT: (f64, f64) = (0.5, 0.9);

/// Part of it that a round in time adds: less than what the least cut takes.
const GROWTH: usize = 16;

/// Where it starts: room for four full batches of the model.
const START: usize = 256;

/// What it never falls below: with fewer, neither the model nor the journal would see a batch.
const FLOOR: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Limit {
    value: usize,
    floor: usize,
    ceiling: usize,
    target: Duration,
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    answers: u32,
    took: Duration,
    /// More would have come in.
    full: bool,
}

impl Limit {
    /// A limit that holds answers to about `target` in the mean, and is never above `ceiling`.
    pub(super) fn new(target: Duration, ceiling: usize) -> Self {
        let within = |count: usize| count.min(ceiling).max(1);
        let (value, floor, ceiling) = (within(START), within(FLOOR), within(ceiling));
        Self { value, floor, ceiling, target, round: Round::default() }
    }

    /// Events that may be on their way now.
    pub(super) const fn get(&self) -> usize {
        self.value
    }

    /// Learns from an answer that took so long; `full`: there was no room for another.
    pub(super) fn answered(&mut self, took: Duration, full: bool) {
        self.round.answers += 1;
        self.round.took += took;
        self.round.full |= full;
        if self.round.answers as usize >= self.value {
            let Round { answers, took, full } = std::mem::take(&mut self.round);
            self.learn(took / answers, full);
        }
    }

    fn learn(&mut self, mean: Duration, full: bool) {
        if mean > self.target {
            let left = (self.target.as_secs_f64() / mean.as_secs_f64()).clamp(CUT.0, CUT.1);
            self.value = ((self.value as f64 * left) as usize).max(self.floor);
        } else if full {
            self.value = (self.value + (self.value / GROWTH).max(1)).min(self.ceiling);
        }
    }
}

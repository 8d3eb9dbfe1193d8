//! How many events of a worker are on their way together: no more than keep its thread busy and are answered in time, found by
//! trial.
//!
//! A round is as many answers as the limit. After a round that took too long in the mean the limit is cut by as much as
//! that was too long, as time in a queue is proportional to its length, but to a half at most. After one in time it grows by a
//! sixteenth if there was use for more, which takes two things: that others wait, and that the thread did, for the disk or
//! for another shard. Where the thread hardly rests, more on its way only works on more
//! memory, and the limit falls slowly. It knows neither rates nor costs, so it follows whatever slows the answers: a slow
//! processor, a slow disk, batches. The mean, since a single event may wait for others of its own user. Reads no clock.

use std::time::{Duration, Instant};

/// The least and the most that is left of the limit after a round that took too long.
const CUT: (f64, f64) = (0.5, 0.9);

/// Part of it that a round in time adds: less than what the least cut takes.
const GROWTH: usize = 16;

/// Part of it that a round without a rest takes.
const DECLINE: usize = 32;

/// Shares of its time that the thread rests: below the first more on the way is too much, from the second on it is of use.
/// By the runtime's books, in which looking for what the sockets have is rest.
const REST: (f64, f64) = (0.07, 0.10);

/// Rounds that a share of rest is the mean of, about: a round of few answers is as short as a write to the disk.
const REST_ROUNDS: f64 = 8.0;

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
    /// What the thread had done when the round began.
    began: Option<Worked>,
    /// Part of its time that the thread rests.
    rest: f64,
}

/// What a thread has done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worked {
    /// By now.
    pub(super) now: Instant,
    /// So long it was busy since it started.
    pub(super) busy: Duration,
}

#[derive(Debug, Default)]
struct Round {
    answers: u32,
    took: Duration,
    /// More would have come in.
    full: bool,
}

impl Worked {
    /// The part of the time since another look that the thread rested, if any time has passed.
    fn rest_since(self, before: Self) -> Option<f64> {
        let passed = self.now.saturating_duration_since(before.now).as_secs_f64();
        let busy = self.busy.saturating_sub(before.busy).as_secs_f64();
        (passed > 0.0).then(|| (1.0 - busy / passed).max(0.0))
    }
}

impl Limit {
    /// A limit that holds answers to about `target` in the mean, and is never above `ceiling`.
    pub(super) fn new(target: Duration, ceiling: usize) -> Self {
        let within = |count: usize| count.min(ceiling).max(1);
        let (value, floor, ceiling) = (within(START), within(FLOOR), within(ceiling));
        Self { value, floor, ceiling, target, round: Round::default(), began: None, rest: REST.1 }
    }

    /// Events that may be on their way now.
    pub(super) const fn get(&self) -> usize {
        self.value
    }

    /// Learns from an answer that took so long; `full`: there was no room for another.
    pub(super) fn answered(&mut self, took: Duration, full: bool, worked: Worked) {
        self.round.answers += 1;
        self.round.took += took;
        self.round.full |= full;
        if self.round.answers as usize >= self.value {
            let Round { answers, took, full } = std::mem::take(&mut self.round);
            if let Some(rest) = self.began.replace(worked).and_then(|began| worked.rest_since(began)) {
                self.rest += (rest - self.rest) / REST_ROUNDS;
            }
            self.learn(took / answers, full);
        }
    }

    fn learn(&mut self, mean: Duration, full: bool) {
        if mean > self.target {
            let left = (self.target.as_secs_f64() / mean.as_secs_f64()).clamp(CUT.0, CUT.1);
            self.value = ((self.value as f64 * left) as usize).max(self.floor);
        } else if full && self.rest >= REST.1 {
            self.value = (self.value + (self.value / GROWTH).max(1)).min(self.ceiling);
        } else if full && self.rest < REST.0 {
            self.value = (self.value - self.value / DECLINE).max(self.floor);
        }
    }
}

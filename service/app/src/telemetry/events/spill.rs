//! What becomes of answers that are not durable when they are given.

use super::approximate;
use crate::telemetry::metrics::Metrics;

/// An answer was given from the spill.
#[derive(Clone, Copy, Debug)]
pub struct AnswerSpilled;

impl AnswerSpilled {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().answers_spilled.increment(1);
    }
}

/// The spill did not take an answer.
#[derive(Clone, Copy, Debug)]
pub struct SpillRefused;

impl SpillRefused {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().spill_refused.increment(1);
    }
}

/// Another answer to a transaction was given than the one that counts.
#[derive(Clone, Copy, Debug)]
pub struct AnswerConflicted;

impl AnswerConflicted {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().answer_conflicts.increment(1);
    }
}

/// How full the spill is, sampled.
#[derive(Clone, Copy, Debug)]
pub struct SpillLevel {
    /// Answers in it.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl SpillLevel {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().spill_entries.set(approximate(self.entries as u64));
        metrics.handles().spill_bytes.set(approximate(self.bytes as u64));
    }
}

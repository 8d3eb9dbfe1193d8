//! What happens to topics.

use super::super::metrics::Metrics;
use super::approximate;

/// A record of a topic was moved to its user's partition.
#[derive(Clone, Copy, Debug)]
pub struct RecordSkipped;

impl RecordSkipped {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().skipped.increment(1);
    }
}

/// How far a partition of a topic was consumed, sampled.
#[derive(Clone, Copy, Debug)]
pub struct SourceLag<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Records that are there and not in the journal.
    pub records: u64,
}

impl SourceLag<'_> {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("topic", self.topic.to_owned()), ("partition", self.partition.to_string())];
        metrics.gauge_of("verdict_source_lag_records", labels).set(approximate(self.records));
    }
}

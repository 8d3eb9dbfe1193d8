//! What is counted when the journal is trimmed.

use super::super::metrics::Metrics;
use super::approximate;

/// Records of the journal were deleted.
#[derive(Clone, Copy, Debug)]
pub struct JournalTrimmed {
    /// How many.
    pub records: u64,
}

impl JournalTrimmed {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().journal_trimmed_records.increment(self.records);
    }
}

/// Where a partition of the journal begins, sampled.
#[derive(Clone, Copy, Debug)]
pub struct JournalStart {
    /// The partition.
    pub partition: u16,
    /// Number of its first record.
    pub first: u64,
}

impl JournalStart {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("partition", self.partition.to_string())];
        metrics.gauge_of("verdict_journal_first_record", labels).set(approximate(self.first));
    }
}

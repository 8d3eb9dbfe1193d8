//! What happens to topics, and what comes back on the way from them.

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
    /// Everything before this offset is in the journal.
    pub next: u64,
}

impl SourceLag<'_> {
    /// Records the levels.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("topic", self.topic.to_owned()), ("partition", self.partition.to_string())];
        metrics.gauge_of("verdict_source_lag_records", labels.clone()).set(approximate(self.records));
        metrics.gauge_of("verdict_source_offset", labels).set(approximate(self.next));
    }
}

/// How old the newest event of a partition of a topic is that was decided, sampled.
#[derive(Clone, Copy, Debug)]
pub struct SourceAge<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Now minus the event's own timestamp, in seconds.
    pub seconds: f64,
}

impl SourceAge<'_> {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("topic", self.topic.to_owned()), ("partition", self.partition.to_string())];
        metrics.gauge_of("verdict_source_age_seconds", labels).set(self.seconds);
    }
}

/// How many records of a partition of a topic were read since the start, sampled.
#[derive(Clone, Copy, Debug)]
pub struct SourceRead<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Records; never fewer than before.
    pub records: u64,
}

impl SourceRead<'_> {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("topic", self.topic.to_owned()), ("partition", self.partition.to_string())];
        metrics.counter_of("verdict_source_records_total", labels).absolute(self.records);
    }
}

/// How far a heartbeat has come; the label `stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatStage {
    /// Consumed, decided by rules and model, and read back from the journal.
    Decided,
    /// Behind the outbox too, in a transaction of its partition.
    Published,
}

impl HeartbeatStage {
    /// Every stage, in the order of the path.
    pub const ALL: [Self; 2] = [Self::Decided, Self::Published];

    const fn name(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Published => "published",
        }
    }
}

/// A heartbeat has come to a stage.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatSeen {
    /// The stage.
    pub stage: HeartbeatStage,
    /// Since it was made, in seconds.
    pub seconds: f64,
}

impl HeartbeatSeen {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.histogram("verdict_heartbeat_seconds", "stage", self.stage.name()).record(self.seconds);
    }
}

/// How long ago the last heartbeat of a partition came to a stage, sampled.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatAge {
    /// The journal partition.
    pub partition: u16,
    /// The stage.
    pub stage: HeartbeatStage,
    /// Since then, or since the start if none came, in seconds.
    pub seconds: f64,
}

impl HeartbeatAge {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let labels = [("partition", self.partition.to_string()), ("stage", self.stage.name().to_owned())];
        metrics.gauge_of("verdict_heartbeat_age_seconds", labels).set(self.seconds);
    }
}

//! What happens that is worth counting: one struct an event, each knowing the metrics that it moves. Logging is up to
//! the boundary that handles the event; nothing here decides anything.

mod levels;
mod reloads;
mod sources;
mod spill;
#[cfg(test)]
mod tests;
mod trims;

use super::metrics::Metrics;
pub use levels::{ProjectionLag, Ready};
pub use reloads::{ReloadOutcome, Reloaded};
pub use sources::{HeartbeatAge, HeartbeatSeen, HeartbeatStage, RecordSkipped, SourceAge, SourceLag, SourceRead};
pub use spill::{AnswerConflicted, AnswerSpilled, SpillLevel, SpillRefused};
pub use trims::{JournalStart, JournalTrimmed};
use verdict_core::decision::{DecisionMode, Outcome};

/// A transaction was decided for the first time.
#[derive(Clone, Copy, Debug)]
pub struct DecisionMade {
    /// What was decided.
    pub outcome: Outcome,
    /// How complete the answer is.
    pub mode: DecisionMode,
    /// From receipt to decision, before durability, in seconds.
    pub seconds: f64,
}

impl DecisionMade {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.decisions(self.outcome, self.mode).increment(1);
        metrics.handles().decide_seconds.record(self.seconds);
    }
}

/// A durable answer is ready to leave.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// From receipt to the durable answer, in seconds.
    pub seconds: f64,
}

impl Answered {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().end_to_end_seconds.record(self.seconds);
    }
}

/// An event was seen before.
#[derive(Clone, Copy, Debug)]
pub struct DuplicateSeen;

impl DuplicateSeen {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().duplicates.increment(1);
    }
}

/// An event was refused over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Rejected {
    /// The problem's code, from a closed set: it becomes a label.
    pub reason: &'static str,
}

impl Rejected {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.counter("verdict_rejected_total", "reason", self.reason).increment(1);
    }
}

/// An event of a topic or a file was refused.
#[derive(Clone, Copy, Debug)]
pub struct DeadLettered {
    /// The reason code, from a closed set: it becomes a label.
    pub reason: &'static str,
}

impl DeadLettered {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.counter("verdict_dead_letters_total", "reason", self.reason).increment(1);
    }
}

/// A decision raised an alert.
#[derive(Clone, Copy, Debug)]
pub struct AlertRaised;

impl AlertRaised {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().alerts.increment(1);
    }
}

/// The model ran over the rows that waited.
#[derive(Clone, Copy, Debug)]
pub struct ModelRun {
    /// Rows that it was given.
    pub rows: u64,
}

impl ModelRun {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().model_runs.increment(1);
        metrics.handles().model_rows.increment(self.rows);
    }
}

/// One write of the journal became durable.
#[derive(Clone, Copy, Debug)]
pub struct JournalCommitted {
    /// Records in it.
    pub records: u64,
    /// From the start of the write, in seconds.
    pub seconds: f64,
}

impl JournalCommitted {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().journal_records.increment(self.records);
        metrics.handles().journal_commit_seconds.record(self.seconds);
    }
}

/// A write of the journal failed for good.
#[derive(Clone, Copy, Debug)]
pub struct JournalFailed;

impl JournalFailed {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().journal_failures.increment(1);
    }
}

/// A checkpoint was written.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointSaved {
    /// Profiles in it.
    pub profiles: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl CheckpointSaved {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().checkpoint_profiles.increment(self.profiles);
        metrics.handles().checkpoint_seconds.record(self.seconds);
    }
}

/// A shard has loaded its profiles and serves.
#[derive(Clone, Copy, Debug)]
pub struct ShardRecovered {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Journal records that it read.
    pub replayed: u64,
}

impl ShardRecovered {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().shard_recoveries.increment(1);
        metrics.handles().replayed_records.increment(self.replayed);
        metrics.handles().shard_recovery_seconds.record(self.seconds);
    }
}

/// A decision became durable that is less than complete.
#[derive(Clone, Copy, Debug)]
pub struct Degraded {
    /// What was missing, from a closed set: it becomes a label.
    pub reason: &'static str,
}

impl Degraded {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.counter("verdict_degraded_total", "reason", self.reason).increment(1);
    }
}

/// A shard stopped asking its model, which hangs, for a while; again, when a try has hung as well.
#[derive(Clone, Copy, Debug)]
pub struct ModelLeftAlone;

impl ModelLeftAlone {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().model_left_alone.increment(1);
    }
}

/// Users came into memory, left it, or went from one state to another; by how many.
#[derive(Clone, Copy, Debug)]
pub struct UsersMoved {
    /// Users that are actors.
    pub hot: i64,
    /// Users that are bytes.
    pub dormant: i64,
}

impl UsersMoved {
    /// Records the change; shards add up.
    #[expect(clippy::cast_precision_loss, reason = "as with `approximate`")]
    pub fn emit(self, metrics: &Metrics) {
        let (hot, dormant) = (&metrics.handles().hot_users, &metrics.handles().dormant_users);
        for (gauge, by) in [(hot, self.hot), (dormant, self.dormant)].into_iter().filter(|(_, by)| *by != 0) {
            gauge.increment(by as f64);
        }
    }
}

/// A hot user became dormant.
#[derive(Clone, Copy, Debug)]
pub struct UserPassivated;

impl UserPassivated {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().user_passivations.increment(1);
    }
}

/// A dormant user became hot.
#[derive(Clone, Copy, Debug)]
pub struct UserWoken;

impl UserWoken {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().user_wake_ups.increment(1);
    }
}

/// The number of requests in flight changed.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Requests between receipt and answer, over all shards.
    pub requests: usize,
}

impl InFlight {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().in_flight.set(approximate(self.requests as u64));
    }
}

/// The number of list entries, sampled.
#[derive(Clone, Copy, Debug)]
pub struct ListEntries {
    /// Entries of both lists, of every kind.
    pub entries: usize,
}

impl ListEntries {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().list_entries.set(approximate(self.entries as u64));
    }
}

/// Labels that follow from reviews count.
#[derive(Clone, Copy, Debug)]
pub struct ReviewLabelled {
    /// How many.
    pub labels: u64,
}

impl ReviewLabelled {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().review_labels.increment(self.labels);
    }
}

/// Labels that follow from reviews and cannot go, because their users' profiles cannot take them.
#[derive(Clone, Copy, Debug)]
pub struct ReviewLabelsWaiting {
    /// How many.
    pub labels: u64,
}

impl ReviewLabelsWaiting {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().review_labels_waiting.set(approximate(self.labels));
    }
}

/// The number of connections that follow alerts, sampled.
#[derive(Clone, Copy, Debug)]
pub struct AlertStreams {
    /// Those that carry a stream.
    pub open: usize,
}

impl AlertStreams {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().alert_streams.set(approximate(self.open as u64));
    }
}

/// A client that follows alerts did not keep up and was cut off.
#[derive(Clone, Copy, Debug)]
pub struct AlertStreamCutOff;

impl AlertStreamCutOff {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.handles().alert_streams_cut_off.increment(1);
    }
}

/// A gauge is a float: counts above 2^53 lose their last digits, which no graph shows.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn approximate(count: u64) -> f64 {
    count as f64
}

//! What happens that is worth counting: one struct an event, each knowing the metrics that it moves. Logging is up to
//! the boundary that handles the event; nothing here decides anything.

use super::metrics::{Metrics, Mode};
use verdict_core::decision::Outcome;

/// A transaction was decided for the first time.
#[derive(Clone, Copy, Debug)]
pub struct DecisionMade {
    /// What was decided.
    pub outcome: Outcome,
    /// How complete the answer is.
    pub mode: Mode,
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

/// What came of an attempt to reload rules and model; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// They are in force.
    Adopted,
    /// They are what was in force.
    Unchanged,
    /// Something is wrong with them; what was in force stays.
    Refused,
}

impl ReloadOutcome {
    /// Every outcome, with its name in labels.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Adopted, "adopted"), (Self::Unchanged, "unchanged"), (Self::Refused, "refused")];
}

/// Rules and model were read again.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// What came of it.
    pub outcome: ReloadOutcome,
}

impl Reloaded {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.reloads(self.outcome).increment(1);
        metrics.handles().reload_failed.set(if self.outcome == ReloadOutcome::Refused { 1.0 } else { 0.0 });
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

/// How far a projection is behind the journal, sampled.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionLag {
    /// Its name, such as `alerts`.
    pub projection: &'static str,
    /// Durable records that it has not read.
    pub records: u64,
}

impl ProjectionLag {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        metrics.gauge("verdict_projection_lag_records", "projection", self.projection).set(approximate(self.records));
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

#[cfg(test)]
mod tests {
    use super::super::metrics::METRICS;
    use super::*;

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn every_outcome_and_mode_has_a_series_from_the_start() {
        let text = Metrics::new().render();
        for (_, decision) in Outcome::ALL {
            for (_, mode) in Mode::ALL {
                assert_line(&text, &format!("verdict_decisions_total{{decision=\"{decision}\",mode=\"{mode}\"}} 0"));
            }
        }
        for (_, outcome) in ReloadOutcome::ALL {
            assert_line(&text, &format!("verdict_reloads_total{{outcome=\"{outcome}\"}} 0"));
        }
        for name in
            ["verdict_duplicates_total", "verdict_alerts_total", "verdict_in_flight_requests", "verdict_reload_failed"]
        {
            assert_line(&text, &format!("{name} 0"));
        }
    }

    #[test]
    fn every_event_moves_its_metrics_and_no_other_registry() {
        let (metrics, other) = (Metrics::new(), Metrics::new());
        for (index, (outcome, _)) in Outcome::ALL.into_iter().enumerate() {
            let mode = Mode::ALL[index % 3].0;
            DecisionMade { outcome, mode, seconds: 0.002 }.emit(&metrics);
        }
        Answered { seconds: 0.3 }.emit(&metrics);
        DuplicateSeen.emit(&metrics);
        Rejected { reason: "SCHEMA" }.emit(&metrics);
        Rejected { reason: "SCHEMA" }.emit(&metrics);
        DeadLettered { reason: "TOO_OLD" }.emit(&metrics);
        AlertRaised.emit(&metrics);
        JournalCommitted { records: 16, seconds: 0.0004 }.emit(&metrics);
        JournalFailed.emit(&metrics);
        CheckpointSaved { profiles: 7, seconds: 0.01 }.emit(&metrics);
        ShardRecovered { seconds: 2.0, replayed: 9 }.emit(&metrics);
        for outcome in [ReloadOutcome::Adopted, ReloadOutcome::Unchanged, ReloadOutcome::Refused] {
            Reloaded { outcome }.emit(&metrics);
        }
        Degraded { reason: "MODEL_TIMEOUT" }.emit(&metrics);
        UsersMoved { hot: 3, dormant: 9 }.emit(&metrics);
        UsersMoved { hot: -1, dormant: 1 }.emit(&metrics);
        UserPassivated.emit(&metrics);
        UserWoken.emit(&metrics);
        InFlight { requests: 5 }.emit(&metrics);
        ListEntries { entries: 6 }.emit(&metrics);
        ProjectionLag { projection: "alerts", records: 3 }.emit(&metrics);
        ReviewLabelled { labels: 3 }.emit(&metrics);
        ReviewLabelsWaiting { labels: 4 }.emit(&metrics);
        AlertStreams { open: 2 }.emit(&metrics);
        AlertStreamCutOff.emit(&metrics);
        metrics.run_upkeep();
        let text = metrics.clone().render();
        for line in [
            "verdict_decisions_total{decision=\"approve\",mode=\"normal\"} 1",
            "verdict_decisions_total{decision=\"challenge\",mode=\"degraded\"} 1",
            "verdict_decisions_total{decision=\"review\",mode=\"fallback\"} 1",
            "verdict_decisions_total{decision=\"block\",mode=\"normal\"} 1",
            "verdict_decide_seconds_bucket{le=\"0.0015\"} 0",
            "verdict_decide_seconds_bucket{le=\"0.0025\"} 4",
            "verdict_decide_seconds_count 4",
            "verdict_end_to_end_seconds_bucket{le=\"0.2\"} 0",
            "verdict_end_to_end_seconds_bucket{le=\"0.3\"} 1",
            "verdict_duplicates_total 1",
            "verdict_list_entries 6",
            "verdict_rejected_total{reason=\"SCHEMA\"} 2",
            "verdict_dead_letters_total{reason=\"TOO_OLD\"} 1",
            "verdict_alerts_total 1",
            "verdict_journal_records_total 16",
            "verdict_journal_commit_seconds_count 1",
            "verdict_journal_failures_total 1",
            "verdict_checkpoint_profiles_total 7",
            "verdict_checkpoint_seconds_bucket{le=\"0.01\"} 1",
            "verdict_shard_recoveries_total 1",
            "verdict_replayed_records_total 9",
            "verdict_shard_recovery_seconds_bucket{le=\"1\"} 0",
            "verdict_shard_recovery_seconds_bucket{le=\"5\"} 1",
            "verdict_reloads_total{outcome=\"adopted\"} 1",
            "verdict_reloads_total{outcome=\"refused\"} 1",
            "verdict_reload_failed 1",
            "verdict_degraded_total{reason=\"MODEL_TIMEOUT\"} 1",
            "verdict_hot_users 2",
            "verdict_dormant_users 10",
            "verdict_user_passivations_total 1",
            "verdict_user_wake_ups_total 1",
            "verdict_in_flight_requests 5",
            "verdict_review_labels_total 3",
            "verdict_review_labels_waiting 4",
            "verdict_alert_streams 2",
            "verdict_alert_streams_cut_off_total 1",
            "verdict_projection_lag_records{projection=\"alerts\"} 3",
        ] {
            assert_line(&text, line);
        }
        assert_line(&other.render(), "verdict_alerts_total 0");
    }

    #[test]
    fn every_metric_shown_is_described() {
        let metrics = Metrics::new();
        Rejected { reason: "SCHEMA" }.emit(&metrics);
        DeadLettered { reason: "TOO_OLD" }.emit(&metrics);
        Degraded { reason: "MODEL_TIMEOUT" }.emit(&metrics);
        ProjectionLag { projection: "alerts", records: 3 }.emit(&metrics);
        let text = metrics.render();
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), METRICS, "{text}");
        for name in names {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP");
        }
    }
}

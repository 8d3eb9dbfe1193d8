//! The registry of metrics: every name, its unit, its HELP, and handles made once. Opens no port: whoever serves
//! `/metrics` calls [`Metrics::render`].
//!
//! A handle is an atomic: recording through one takes some 10 ns, while looking a name and its labels up takes some
//! 100 ns and more. So what is recorded on every decision has a handle here, and what is rare is looked up.
//!
//! There is no global recorder: a registry is made in the composition root and passed on (tests have their own).

use super::events::ReloadOutcome;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::fmt;
use std::sync::Arc;
use verdict_core::decision::{DecisionMode, Outcome};

/// Bounds of latency histograms in seconds, 100 us to 1 s: dense around the deadline of 200 ms and the goal of a few.
const LATENCY_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0];

/// Bounds of a shard's recovery in seconds: from an empty journal to a long replay.
const RECOVERY_BUCKETS: [f64; 8] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// Bounds of the way of a heartbeat in seconds: from milliseconds to a wait behind a backlog.
const HEARTBEAT_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

/// How many metrics there are.
#[cfg(test)]
pub(super) const METRICS: usize = COUNTERS.len() + GAUGES.len() + HISTOGRAMS.len();

/// Name, unit and HELP of every metric; names are a contract with whoever watches the service.
const COUNTERS: &[(&str, &str)] = &[
    ("verdict_decisions_total", "Transactions decided, by decision and by mode of the answer"),
    ("verdict_degraded_total", "Transactions decided with less than was configured, by what was missing"),
    ("verdict_duplicates_total", "Events seen before, answered or skipped without counting again"),
    ("verdict_rejected_total", "Events refused over HTTP, by reason code"),
    ("verdict_dead_letters_total", "Events of a topic or a file that were refused, by reason code"),
    ("verdict_skipped_total", "Records of topics that were moved to their user's partition"),
    ("verdict_source_records_total", "Records read from a topic, by topic and partition"),
    ("verdict_projection_records_total", "Journal records that a projection has come to reflect, by projection"),
    ("verdict_alerts_total", "Alerts raised"),
    ("verdict_model_runs_total", "Runs of the model over the rows that waited, whatever came of them"),
    ("verdict_model_rows_total", "Rows given to the model, over all runs"),
    ("verdict_journal_records_total", "Records made durable"),
    (
        "verdict_journal_trimmed_records_total",
        "Records of the journal that were deleted because nothing needs them any more",
    ),
    ("verdict_journal_failures_total", "Appends that failed; each makes a shard recover"),
    ("verdict_checkpoint_profiles_total", "Profiles written to checkpoints"),
    ("verdict_shard_recoveries_total", "Shards that finished loading their profiles"),
    ("verdict_replayed_records_total", "Journal records read again to recover"),
    ("verdict_reloads_total", "Attempts to reload rules and model, by outcome"),
    ("verdict_user_passivations_total", "Hot users that became dormant: idle, or their place was needed"),
    ("verdict_user_wake_ups_total", "Dormant users that became hot: an event came"),
    ("verdict_model_left_alone_total", "Times that a shard stopped asking a model that hangs, for some seconds"),
    ("verdict_review_labels_total", "Labels that followed from reviews"),
    ("verdict_answers_spilled_total", "Answers given before they were durable, from the spill"),
    ("verdict_spill_refused_total", "Decisions whose record was late and that the spill did not take, answered 503"),
    ("verdict_answer_conflicts_total", "Transactions to which another answer was given than the one that counts"),
    ("verdict_alert_streams_cut_off_total", "Clients that followed alerts and did not keep up"),
];
const GAUGES: &[(&str, &str)] = &[
    ("verdict_alert_streams", "Connections that follow alerts"),
    ("verdict_journal_first_record", "Number of the first record that is still in a partition of the journal"),
    ("verdict_in_flight_requests", "Requests between receipt and answer"),
    ("verdict_spill_entries", "Answers in the spill: given, and not known to be durable"),
    ("verdict_spill_bytes", "Bytes of the answers in the spill"),
    ("verdict_list_entries", "Entries of the block and allow lists"),
    ("verdict_reload_failed", "1 while the rules or the model in the files are refused and older ones decide, else 0"),
    ("verdict_review_labels_waiting", "Labels that follow from reviews and wait for a profile that can take them"),
    ("verdict_projection_lag_records", "Durable records that a projection has not read yet, by projection"),
    (
        "verdict_projection_age_seconds",
        "How long the oldest of them has waited since this start, by projection; 0 if none waits",
    ),
    (
        "verdict_source_lag_records",
        "Records of a topic that are not in the journal yet, by topic and partition, as the last fetch found them",
    ),
    ("verdict_source_offset", "Everything before this offset is in the journal, by topic and partition"),
    (
        "verdict_source_age_seconds",
        "Time since the newest event that was decided, in event time, by topic and partition",
    ),
    (
        "verdict_heartbeat_age_seconds",
        "Time since the last heartbeat came to a stage of the path, by partition and stage",
    ),
    ("verdict_ready", "1 while the service can take traffic, as /readyz says, else 0"),
    ("verdict_component_ready", "The same of each component that /readyz names"),
    ("verdict_hot_users", "Users in memory as actors"),
    ("verdict_dormant_users", "Users in memory as bytes"),
];
const HISTOGRAMS: &[(&str, &[f64], &str)] = &[
    ("verdict_decide_seconds", &LATENCY_BUCKETS, "From the receipt of a transaction to its decision, in seconds"),
    (
        "verdict_end_to_end_seconds",
        &LATENCY_BUCKETS,
        "From the receipt of an event (on a topic its timestamp) to its durable answer, in seconds",
    ),
    (
        "verdict_heartbeat_seconds",
        &HEARTBEAT_BUCKETS,
        "From the making of a heartbeat until it has come to a stage of the path, in seconds",
    ),
    ("verdict_journal_commit_seconds", &LATENCY_BUCKETS, "One write of the journal until it is durable, in seconds"),
    ("verdict_checkpoint_seconds", &LATENCY_BUCKETS, "One checkpoint, in seconds"),
    ("verdict_shard_recovery_seconds", &RECOVERY_BUCKETS, "One shard's recovery until it serves, in seconds"),
];

const METADATA: Metadata<'static> = Metadata::new("verdict", Level::INFO, None);

/// All metrics of one service; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    handles: Handles,
}

/// The handles of what is recorded often.
pub(super) struct Handles {
    decisions: [[Counter; DecisionMode::ALL.len()]; Outcome::ALL.len()],
    pub(super) duplicates: Counter,
    pub(super) skipped: Counter,
    pub(super) alerts: Counter,
    pub(super) decide_seconds: Histogram,
    pub(super) end_to_end_seconds: Histogram,
    pub(super) model_runs: Counter,
    pub(super) model_rows: Counter,
    pub(super) journal_records: Counter,
    pub(super) journal_trimmed_records: Counter,
    pub(super) journal_failures: Counter,
    pub(super) journal_commit_seconds: Histogram,
    pub(super) checkpoint_profiles: Counter,
    pub(super) checkpoint_seconds: Histogram,
    pub(super) shard_recoveries: Counter,
    pub(super) replayed_records: Counter,
    pub(super) shard_recovery_seconds: Histogram,
    pub(super) in_flight: Gauge,
    pub(super) list_entries: Gauge,
    pub(super) ready: Gauge,
    reloads: [Counter; ReloadOutcome::ALL.len()],
    pub(super) reload_failed: Gauge,
    pub(super) user_passivations: Counter,
    pub(super) user_wake_ups: Counter,
    pub(super) model_left_alone: Counter,
    pub(super) hot_users: Gauge,
    pub(super) dormant_users: Gauge,
    pub(super) review_labels: Counter,
    pub(super) review_labels_waiting: Gauge,
    pub(super) answers_spilled: Counter,
    pub(super) spill_refused: Counter,
    pub(super) answer_conflicts: Counter,
    pub(super) spill_entries: Gauge,
    pub(super) spill_bytes: Gauge,
    pub(super) alert_streams: Gauge,
    pub(super) alert_streams_cut_off: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry, every unlabelled metric and every kind of decision at zero.
    #[must_use]
    pub fn new() -> Self {
        let recorder = recorder();
        for (name, help) in COUNTERS.iter().copied() {
            recorder.describe_counter(KeyName::from_const_str(name), Some(Unit::Count), SharedString::const_str(help));
        }
        for (name, help) in GAUGES.iter().copied() {
            recorder.describe_gauge(KeyName::from_const_str(name), Some(Unit::Count), SharedString::const_str(help));
        }
        for (name, _, help) in HISTOGRAMS.iter().copied() {
            let unit = Some(Unit::Seconds);
            recorder.describe_histogram(KeyName::from_const_str(name), unit, SharedString::const_str(help));
        }
        let handles = Handles::new(&recorder);
        Self { inner: Arc::new(Inner { handle: recorder.handle(), handles, recorder }) }
    }

    /// The text of `/metrics`, in the exposition format of Prometheus 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.inner.handle.render()
    }

    /// Folds recorded samples into the histograms. Samples wait in memory until this or [`Metrics::render`] is called,
    /// so call it about once a second (I7).
    pub fn run_upkeep(&self) {
        self.inner.handle.run_upkeep();
    }

    pub(super) fn handles(&self) -> &Handles {
        &self.inner.handles
    }

    pub(super) fn decisions(&self, outcome: Outcome, mode: DecisionMode) -> &Counter {
        &self.inner.handles.decisions[outcome as usize][mode as usize]
    }

    pub(super) fn reloads(&self, outcome: ReloadOutcome) -> &Counter {
        &self.inner.handles.reloads[outcome as usize]
    }

    /// Looks a counter with one label up, or makes it.
    pub(super) fn counter(&self, name: &'static str, label: &'static str, value: &'static str) -> Counter {
        let labels = vec![Label::from_static_parts(label, value)];
        self.inner.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    /// Looks a gauge with one label up, or makes it.
    pub(super) fn gauge(&self, name: &'static str, label: &'static str, value: &'static str) -> Gauge {
        let labels = vec![Label::from_static_parts(label, value)];
        self.inner.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    /// Looks a histogram with one label up, or makes it.
    pub(super) fn histogram(&self, name: &'static str, label: &'static str, value: &'static str) -> Histogram {
        let labels = vec![Label::from_static_parts(label, value)];
        self.inner.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }

    /// Looks a gauge with labels of a bounded number of values up, or makes it.
    pub(super) fn gauge_of<const N: usize>(&self, name: &'static str, labels: [(&'static str, String); N]) -> Gauge {
        self.inner.recorder.register_gauge(&Key::from_parts(name, labels_of(labels)), &METADATA)
    }

    /// The same of a counter.
    pub(super) fn counter_of<const N: usize>(
        &self,
        name: &'static str,
        labels: [(&'static str, String); N],
    ) -> Counter {
        self.inner.recorder.register_counter(&Key::from_parts(name, labels_of(labels)), &METADATA)
    }
}

fn labels_of<const N: usize>(labels: [(&'static str, String); N]) -> Vec<Label> {
    labels.into_iter().map(|(label, value)| Label::new(label, value)).collect()
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Handles {
    fn new(recorder: &PrometheusRecorder) -> Self {
        let counter = |name: &'static str| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let gauge = |name: &'static str| recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let histogram = |name: &'static str| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let reloads = ReloadOutcome::ALL.map(|(_, outcome)| {
            let labels = vec![Label::new("outcome", outcome)];
            recorder.register_counter(&Key::from_parts("verdict_reloads_total", labels), &METADATA)
        });
        let decisions = Outcome::ALL.map(|(_, decision)| {
            DecisionMode::ALL.map(|(_, mode)| {
                let labels = vec![Label::new("decision", decision), Label::new("mode", mode)];
                recorder.register_counter(&Key::from_parts("verdict_decisions_total", labels), &METADATA)
            })
        });
        Self {
            decisions,
            duplicates: counter("verdict_duplicates_total"),
            skipped: counter("verdict_skipped_total"),
            alerts: counter("verdict_alerts_total"),
            decide_seconds: histogram("verdict_decide_seconds"),
            end_to_end_seconds: histogram("verdict_end_to_end_seconds"),
            model_runs: counter("verdict_model_runs_total"),
            model_rows: counter("verdict_model_rows_total"),
            journal_records: counter("verdict_journal_records_total"),
            journal_trimmed_records: counter("verdict_journal_trimmed_records_total"),
            journal_failures: counter("verdict_journal_failures_total"),
            journal_commit_seconds: histogram("verdict_journal_commit_seconds"),
            checkpoint_profiles: counter("verdict_checkpoint_profiles_total"),
            checkpoint_seconds: histogram("verdict_checkpoint_seconds"),
            shard_recoveries: counter("verdict_shard_recoveries_total"),
            replayed_records: counter("verdict_replayed_records_total"),
            shard_recovery_seconds: histogram("verdict_shard_recovery_seconds"),
            in_flight: gauge("verdict_in_flight_requests"),
            list_entries: gauge("verdict_list_entries"),
            ready: gauge("verdict_ready"),
            reloads,
            reload_failed: gauge("verdict_reload_failed"),
            user_passivations: counter("verdict_user_passivations_total"),
            user_wake_ups: counter("verdict_user_wake_ups_total"),
            model_left_alone: counter("verdict_model_left_alone_total"),
            hot_users: gauge("verdict_hot_users"),
            dormant_users: gauge("verdict_dormant_users"),
            review_labels: counter("verdict_review_labels_total"),
            review_labels_waiting: gauge("verdict_review_labels_waiting"),
            answers_spilled: counter("verdict_answers_spilled_total"),
            spill_refused: counter("verdict_spill_refused_total"),
            answer_conflicts: counter("verdict_answer_conflicts_total"),
            spill_entries: gauge("verdict_spill_entries"),
            spill_bytes: gauge("verdict_spill_bytes"),
            alert_streams: gauge("verdict_alert_streams"),
            alert_streams_cut_off: counter("verdict_alert_streams_cut_off_total"),
        }
    }
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets, _) in HISTOGRAMS.iter().copied() {
        builder = match builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets) {
            Ok(builder) => builder,
            // invariant: the only error is an empty list of bounds, and the lists above are constants.
            Err(error) => unreachable!("{name}: {error}"),
        };
    }
    builder.build_recorder()
}

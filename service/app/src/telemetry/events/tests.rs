//! Every event moves the metrics that it names.

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
        for (_, mode) in DecisionMode::ALL {
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

/// What is sampled, once.
fn levels(metrics: &Metrics) {
    ProjectionLag { projection: "review", records: 3, seconds: 2.5, reflected: 40 }.emit(metrics);
    let (topic, partition) = ("transactions", 3);
    SourceLag { topic, partition, records: 8, next: 82 }.emit(metrics);
    SourceAge { topic, partition, seconds: 1.5 }.emit(metrics);
    SourceRead { topic, partition, records: 90 }.emit(metrics);
    HeartbeatSeen { stage: HeartbeatStage::Decided, seconds: 0.03 }.emit(metrics);
    HeartbeatSeen { stage: HeartbeatStage::Published, seconds: 0.2 }.emit(metrics);
    HeartbeatAge { partition: 7, stage: HeartbeatStage::Decided, seconds: 4.5 }.emit(metrics);
    Ready { ready: false, components: &[("shards", true), ("sources", false)] }.emit(metrics);
}

#[test]
fn every_event_moves_its_metrics_and_no_other_registry() {
    let (metrics, other) = (Metrics::new(), Metrics::new());
    for (index, (outcome, _)) in Outcome::ALL.into_iter().enumerate() {
        let mode = DecisionMode::ALL[index % 3].0;
        DecisionMade { outcome, mode, seconds: 0.002 }.emit(&metrics);
    }
    Answered { seconds: 0.3 }.emit(&metrics);
    DuplicateSeen.emit(&metrics);
    Rejected { reason: "SCHEMA" }.emit(&metrics);
    Rejected { reason: "SCHEMA" }.emit(&metrics);
    DeadLettered { reason: "TOO_OLD" }.emit(&metrics);
    AlertRaised.emit(&metrics);
    ModelRun { rows: 64 }.emit(&metrics);
    ModelRun { rows: 1 }.emit(&metrics);
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
    ModelLeftAlone.emit(&metrics);
    InFlight { requests: 5 }.emit(&metrics);
    ListEntries { entries: 6 }.emit(&metrics);
    levels(&metrics);
    ReviewLabelled { labels: 3 }.emit(&metrics);
    ReviewLabelsWaiting { labels: 4 }.emit(&metrics);
    AlertStreams { open: 2 }.emit(&metrics);
    AlertStreamCutOff.emit(&metrics);
    RecordSkipped.emit(&metrics);
    JournalTrimmed { records: 21 }.emit(&metrics);
    JournalStart { partition: 3, first: 21 }.emit(&metrics);
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
        "verdict_model_runs_total 2",
        "verdict_model_rows_total 65",
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
        "verdict_model_left_alone_total 1",
        "verdict_in_flight_requests 5",
        "verdict_review_labels_total 3",
        "verdict_review_labels_waiting 4",
        "verdict_alert_streams 2",
        "verdict_alert_streams_cut_off_total 1",
        "verdict_skipped_total 1",
        "verdict_journal_trimmed_records_total 21",
        "verdict_journal_first_record{partition=\"3\"} 21",
        "verdict_source_lag_records{topic=\"transactions\",partition=\"3\"} 8",
        "verdict_source_offset{topic=\"transactions\",partition=\"3\"} 82",
        "verdict_source_age_seconds{topic=\"transactions\",partition=\"3\"} 1.5",
        "verdict_source_records_total{topic=\"transactions\",partition=\"3\"} 90",
        "verdict_projection_lag_records{projection=\"review\"} 3",
        "verdict_projection_age_seconds{projection=\"review\"} 2.5",
        "verdict_projection_records_total{projection=\"review\"} 40",
        "verdict_heartbeat_seconds_bucket{stage=\"decided\",le=\"0.025\"} 0",
        "verdict_heartbeat_seconds_bucket{stage=\"decided\",le=\"0.05\"} 1",
        "verdict_heartbeat_seconds_count{stage=\"published\"} 1",
        "verdict_heartbeat_age_seconds{partition=\"7\",stage=\"decided\"} 4.5",
        "verdict_ready 0",
        "verdict_component_ready{component=\"shards\"} 1",
        "verdict_component_ready{component=\"sources\"} 0",
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
    levels(&metrics);
    JournalStart { partition: 3, first: 8 }.emit(&metrics);
    let text = metrics.render();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(names.len(), METRICS, "{text}");
    for name in names {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP");
    }
}

//! Answers whose records are late: given from the spill in time, and journaled whatever becomes of their epoch.

use super::*;
use crate::actors::partition::partition_of;
use crate::journal::record::{Body, Decided};
use crate::journal::spill::Spill;
use tempfile::TempDir;
use verdict_core::time::DAY_MS;

const LIMIT: usize = 32;

/// A shard over a journal and a spill, either of which may be of a life before.
pub(super) struct Stage {
    pub(super) journal: Arc<Moody>,
    pub(super) spill: Arc<Spill>,
    metrics: Metrics,
    pub(super) gateway: Gateway,
    folder: TempDir,
}

impl Stage {
    pub(super) async fn start(journal: Arc<Moody>, folder: TempDir, max_bytes: usize) -> Self {
        let spill = Arc::new(Spill::open(folder.path(), "a test", max_bytes).expect("opens"));
        let settings = ShardSettings { spill: Some(Arc::clone(&spill)), ..settings(Arc::clone(&journal), LIMIT) };
        let metrics = settings.metrics.clone();
        let (gateway, _) = start_with(settings);
        gateway.serving().await.expect("serving");
        Self { journal, spill, metrics, gateway, folder }
    }

    pub(super) async fn fresh() -> Self {
        Self::start(Moody::new(), tempfile::tempdir().expect("a directory"), 1 << 20).await
    }

    pub(super) async fn decide(&self, id: &str) -> Result<Answer, Refusal> {
        self.gateway.decide(within_time(id)).await
    }

    /// Waits until nothing is left in the spill.
    pub(super) async fn until_empty(&self) {
        while self.spill.level().entries > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[track_caller]
    pub(super) fn assert_counted(&self, line: &str) {
        let text = self.metrics.render();
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
}

/// A payment that must be answered soon, durable or not.
pub(super) fn within_time(id: &str) -> Submission<Transaction> {
    Submission { deadline: Some(clock::instant() + Duration::from_secs(1)), undurable: true, ..payment(id, 1_000) }
}

/// The payment of another user.
fn other(user_id: &str) -> Box<Transaction> {
    let mut event = payment("t-1", 1_000).event;
    event.user_id = user_id.into();
    event
}

pub(super) fn decided(record: &Record) -> &Decided {
    match &record.body {
        Body::Decision(decided) | Body::Answered(decided) => decided,
        other => panic!("expected a decision, found {other:?}"),
    }
}

#[test]
fn a_late_record_is_answered_from_the_spill_and_leaves_it_when_it_is_durable() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        let before = stage.decide("before").await.expect("an answer");
        assert!(before.durable);
        stage.journal.held.send_replace(true);
        let sent = within_time("t-1");
        let deadline = sent.deadline.expect("a deadline");
        let late = stage.gateway.decide(sent).await.expect("an answer");
        assert!(!late.durable && !late.duplicate && clock::instant() < deadline);
        assert_eq!(stage.gateway.in_flight(), 0, "its permit is given back with the answer");
        assert_eq!((stage.spill.level().entries, count(&late)), (1, 2.0));
        // Nobody waits again for what did not come: the next ones are answered at once.
        let began = clock::instant();
        let again = stage.decide("t-1").await.expect("an answer");
        let next = stage.gateway.decide(Submission { event: other("u-2"), ..within_time("t-1") }).await;
        assert!(!next.expect("an answer").durable && began.elapsed() < Duration::from_millis(500));
        assert!(!again.durable && again.duplicate);
        assert_eq!(again.decided, late.decided);
        assert!(stage.decide("before").await.expect("an answer").durable, "it was durable before");
        // Whoever wants a durable answer waits for it, and keeps the permit.
        let strict = Submission { undurable: false, ..within_time("t-2") };
        let refused = stage.gateway.decide(strict).await.expect_err("it is late");
        assert!(matches!(refused, Refusal::JournalLate), "{refused}");
        assert_eq!((stage.spill.level().entries, stage.gateway.in_flight()), (2, 1));
        stage.assert_counted("verdict_answers_spilled_total 3");
        stage.assert_counted("verdict_decisions_total{decision=\"approve\",mode=\"degraded\"} 0");

        stage.journal.held.send_replace(false);
        stage.until_empty().await;
        let durable = stage.decide("t-1").await.expect("an answer");
        assert!(durable.durable && durable.duplicate && durable.decided == late.decided);
        assert_eq!(records(&stage.journal).await.len(), 4);
        stage.assert_counted("verdict_decisions_total{decision=\"approve\",mode=\"degraded\"} 2");
        stage.assert_counted("verdict_degraded_total{reason=\"JOURNAL_LATE\"} 2");
        stage.assert_counted("verdict_shard_recoveries_total 1");
    });
}

#[test]
fn answers_of_an_epoch_that_fails_are_journaled_under_the_next() {
    actix::System::new().block_on(async {
        for landed in [false, true] {
            let stage = Stage::fresh().await;
            stage.decide("before").await.expect("an answer");
            stage.journal.held.send_replace(true);
            stage.journal.loses.store(!landed, Ordering::SeqCst);
            stage.journal.breaks.store(true, Ordering::SeqCst);
            let late = stage.decide("t-1").await.expect("an answer");
            assert!(!late.durable);
            stage.journal.loses.store(false, Ordering::SeqCst);
            stage.journal.breaks.store(false, Ordering::SeqCst);
            stage.journal.held.send_replace(false);
            stage.until_empty().await;
            stage.gateway.serving().await.expect("recovered");
            let again = stage.decide("t-1").await.expect("an answer");
            assert!(again.durable && again.duplicate);
            assert_eq!(again.decided.decision, late.decided.decision);
            assert_eq!(again.decided.features, late.decided.features);
            // It counts, once.
            assert_eq!(count(&stage.decide("t-2").await.expect("an answer")), 3.0);
            let journaled = records(&stage.journal).await;
            assert_eq!(journaled.len(), 3);
            assert_eq!(decided(&journaled[1]).as_answered, !landed, "landed: {landed}");
            stage.assert_counted("verdict_answer_conflicts_total 0");
            stage.assert_counted("verdict_shard_recoveries_total 2");
        }
    });
}

#[test]
fn what_a_killed_process_left_is_journaled_before_the_next_serves() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        stage.journal.held.send_replace(true);
        stage.journal.loses.store(true, Ordering::SeqCst);
        let ids: Vec<String> = (0..12).map(|n| format!("t-{n}")).collect();
        let late = join_all(ids.iter().map(|id| stage.decide(id))).await;
        let late: Vec<Answer> = late.into_iter().map(|answer| answer.expect("an answer")).collect();
        assert!(late.iter().all(|answer| !answer.durable));
        assert_eq!(late[11].decided.decision.outcome, Outcome::Block);
        let Stage { folder, gateway, .. } = stage;
        gateway.end().await;
        // The journal knows nothing of them, nor of the other life's holds.
        let next = Stage::start(Moody::new(), folder, 1 << 20).await;
        assert_eq!(next.spill.level().entries, 0);
        let journaled = records(&next.journal).await;
        assert_eq!(journaled.len(), 12);
        for (record, answer) in journaled.iter().zip(&late) {
            let (found, given) = (decided(record), &answer.decided);
            assert!(found.as_answered && matches!(record.body, Body::Decision(_)));
            assert_eq!(
                (&found.transaction, &found.decision, &found.features),
                (&given.transaction, &given.decision, &given.features)
            );
        }
        // The block that one of them made binds, and so it does after a replay (I3).
        for id in ["next-1", "next-2"] {
            let again =
                Stage::start(Arc::clone(&next.journal), tempfile::tempdir().expect("a directory"), 1 << 20).await;
            let answer = again.decide(id).await.expect("an answer");
            assert_eq!(answer.decided.decision.list_hits.len(), 1, "{id}");
            let expected = if id == "next-1" { 13.0 } else { 14.0 };
            assert_eq!(count(&answer), expected);
            again.gateway.end().await;
        }
        next.assert_counted("verdict_decisions_total{decision=\"block\",mode=\"degraded\"} 2");
    });
}

/// Puts an answer into a spill that was given to somebody in a life before.
async fn given(folder: &TempDir, changed: impl FnOnce(&mut Decided)) -> Record {
    let elsewhere = Stage::fresh().await;
    let answer = elsewhere.decide("t-1").await.expect("an answer");
    elsewhere.gateway.end().await;
    let mut decided = (*answer.decided).clone();
    changed(&mut decided);
    let partition = partition_of("u-1", 2);
    let body = Body::Decision(Arc::new(decided));
    let record = Record { partition, epoch: 1_000, n: 700, source: Source::Http, received_at: NOON, body };
    let spill = Spill::open(folder.path(), "a test", 1 << 20).expect("opens");
    spill.put(&record).expect("there is room").await.expect("told").expect("kept");
    record
}

#[test]
fn another_answer_to_a_known_transaction_is_recorded_and_counts_no_spend() {
    actix::System::new().block_on(async {
        let same = |_: &mut Decided| {};
        let other = |decided: &mut Decided| decided.decision.outcome = Outcome::Review;
        let reused = |decided: &mut Decided| decided.transaction.merchant_id = "m-2".into();
        type Changed = fn(&mut Decided);
        let cases: [(Changed, usize); 3] = [(same, 0), (other, 1), (reused, 1)];
        for (changed, conflicts) in cases {
            let folder = tempfile::tempdir().expect("a directory");
            let entry = given(&folder, changed).await;
            let journal = Moody::new();
            let first = Stage::start(Arc::clone(&journal), tempfile::tempdir().expect("a directory"), 1 << 20).await;
            first.decide("t-1").await.expect("an answer");
            first.gateway.end().await;
            let stage = Stage::start(journal, folder, 1 << 20).await;
            assert_eq!(stage.spill.level().entries, 0);
            stage.assert_counted(&format!("verdict_answer_conflicts_total {conflicts}"));
            let journaled = records(&stage.journal).await;
            assert_eq!(journaled.len(), 1 + conflicts);
            if let Some(record) = journaled.get(1) {
                assert!(matches!(record.body, Body::Answered(_)));
                assert_eq!(decided(record).decision, decided(&entry).decision);
            }
            // Its spend counts once.
            assert_eq!(count(&stage.decide("t-2").await.expect("an answer")), 2.0);
            assert!(stage.decide("t-1").await.expect("an answer").durable);
        }
    });
}

#[test]
fn however_old_an_answer_is_it_is_journaled_once() {
    actix::System::new().block_on(async {
        let folder = tempfile::tempdir().expect("a directory");
        given(&folder, |decided| decided.transaction.at = NOON - 20 * DAY_MS).await;
        let journal = Moody::new();
        let first = Stage::start(Arc::clone(&journal), tempfile::tempdir().expect("a directory"), 1 << 20).await;
        first.decide("t-9").await.expect("an answer");
        first.gateway.end().await;
        let stage = Stage::start(journal, folder, 1 << 20).await;
        let journaled = records(&stage.journal).await;
        assert_eq!((journaled.len(), stage.spill.level().entries), (2, 0));
        let old = decided(&journaled[1]);
        assert!(old.as_answered && matches!(journaled[1].body, Body::Decision(_)));
        assert_eq!(old.transaction.at, NOON - 20 * DAY_MS);
    });
}

#[test]
fn a_full_spill_refuses_and_keeps_the_permit() {
    actix::System::new().block_on(async {
        let stage = Stage::start(Moody::new(), tempfile::tempdir().expect("a directory"), 10).await;
        stage.journal.held.send_replace(true);
        let refused = stage.decide("t-1").await.expect_err("there is no room");
        assert!(matches!(refused, Refusal::SpillFull), "{refused}");
        assert_eq!(stage.gateway.in_flight(), 1, "its record is on its way, and bounded by that");
        stage.assert_counted("verdict_spill_refused_total 1");
        stage.journal.held.send_replace(false);
        let again = stage.decide("t-1").await.expect("an answer");
        assert!(again.durable && again.duplicate);
        assert_eq!((records(&stage.journal).await.len(), stage.gateway.in_flight()), (1, 0));
    });
}

#[test]
fn a_recovery_that_cannot_journal_what_is_left_is_tried_again_and_says_why() {
    actix::System::new().block_on(async {
        let folder = tempfile::tempdir().expect("a directory");
        given(&folder, |_| {}).await;
        let journal = Moody::new();
        journal.fails.store(true, Ordering::SeqCst);
        let spill = Arc::new(Spill::open(folder.path(), "a test", 1 << 20).expect("opens"));
        let settings = ShardSettings { spill: Some(Arc::clone(&spill)), ..settings(Arc::clone(&journal), LIMIT) };
        let readiness = settings.readiness.clone();
        let (gateway, _) = start_with(settings);
        while !readiness.report(crate::telemetry::health::Audience::Operator).waiting_for.contains("disk is full") {
            tokio::task::yield_now().await;
        }
        assert_eq!(spill.level().entries, 1);
        gateway.serving().await.expect("serving");
        assert_eq!((records(&journal).await.len(), spill.level().entries), (1, 0));
    });
}

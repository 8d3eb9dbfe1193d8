//! What is late, and what fails: each asserts the answer, the record and the counts.

use super::*;
use crate::actors::originals::READS_AT_ONCE;
use crate::journal::record::{Body, Decided};
use actix::Arbiter;
use futures_util::FutureExt;
use std::sync::mpsc;
use verdict_core::decision::Degradation;
use verdict_core::event::Login;

fn rules() -> Arc<RuleSet> {
    compile(RULES, "base: USD\nrates: {}\n")
}

fn of(user: &str, id: &str, minor: i64) -> Submission<Transaction> {
    let mut sent = payment(id, minor);
    sent.event.user_id = user.into();
    sent
}

fn within<E>(sent: Submission<E>, ms: u64) -> Submission<E> {
    Submission { deadline: Some(clock::instant() + Duration::from_millis(ms)), ..sent }
}

/// A scorer that is always in time.
fn quick(score: f32) -> Box<dyn Score> {
    Box::new(Fake(move |rows: &[&FeatureVector], _| Ok(vec![score; rows.len()])))
}

/// A scorer that waits for a word before each batch: its first message says how many rows it has, and then it waits.
fn held(asked: mpsc::Sender<usize>, word: mpsc::Receiver<()>) -> Box<dyn Score> {
    Box::new(Fake(move |rows: &[&FeatureVector], _| {
        asked.send(rows.len()).expect("the test listens");
        word.recv().expect("the test gives its word");
        Ok(vec![0.125; rows.len()])
    }))
}

async fn decisions(journal: &Moody) -> Vec<Arc<Decided>> {
    let decided = |record: Record| match record.body {
        Body::Decision(decided) => Some(decided),
        _ => None,
    };
    records(journal).await.into_iter().filter_map(decided).collect()
}

#[track_caller]
fn assert_count(metrics: &Metrics, line: &str) {
    let text = metrics.render();
    assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
}

/// Waits, without holding up the shard on this thread, until somebody on another has said something.
async fn heard<T>(from: &mpsc::Receiver<T>) -> T {
    loop {
        match from.try_recv() {
            Ok(said) => return said,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn what_a_shard_has_not_begun_in_time_is_never_begun() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let (gateway, start) = prepare(Arc::clone(&journal), 8, judge_by(rules(), None), &Metrics::new());
        // The shard's thread is busy with something else: nothing takes its messages.
        let refused = gateway.decide(within(payment("t-1", 100), 10)).await.expect_err("nobody begins it");
        assert!(matches!(refused, Refusal::DeadlineExceeded), "{refused}");
        let login = Login {
            login_id: "l-1".into(),
            user_id: "u-1".into(),
            at: NOON,
            ip_address: None,
            device_id: None,
            user_agent: None,
            location: None,
            success: true,
        };
        let login = Submission {
            event: Box::new(login),
            source: Source::Http,
            received_at: NOON,
            started: clock::instant(),
            deadline: None,
            undurable: false,
            original: None,
        };
        let refused = gateway.login(within(login.clone(), 10)).await.expect_err("nobody begins it");
        assert!(matches!(refused, Refusal::DeadlineExceeded), "{refused}");
        assert_eq!(gateway.in_flight(), 2, "they wait in the mailbox still");
        start();
        gateway.serving().await.expect("serving");
        let again = gateway.decide(payment("t-1", 100)).await.expect("an answer");
        assert!(again.durable && !again.duplicate, "new, as it was said to be");
        assert!(!gateway.login(login).await.expect("an answer").duplicate);
        assert_eq!(count(&again), 1.0);
        assert_eq!(records(&journal).await.len(), 2);
        assert_eq!(gateway.in_flight(), 0);
    });
}

#[test]
fn a_view_that_nobody_waits_for_holds_its_permit_as_long_as_its_place() {
    actix::System::new().block_on(async {
        let (gateway, start) = prepare(Moody::new(), 1, judge_by(rules(), None), &Metrics::new());
        assert!(gateway.profile("u-1").now_or_never().is_none(), "nothing takes the shard's messages");
        assert_eq!(gateway.in_flight(), 1, "it waits in the mailbox still");
        let refused = gateway.profile("u-1").await.expect_err("one waits");
        assert!(matches!(refused, Refusal::Overloaded { limit: 1 }), "{refused}");
        start();
        gateway.serving().await.expect("serving");
        assert_eq!(gateway.in_flight(), 0);
        assert!(gateway.profile("u-1").await.expect("a view").is_none());
    });
}

#[test]
fn a_decision_that_is_read_back_counts_and_may_be_late() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        let before = start(Arc::clone(&journal), 8);
        before.serving().await.expect("serving");
        let first = before.decide(payment("t-1", 100)).await.expect("an answer");
        before.stop().await;
        let (gateway, start) = prepare(Arc::clone(&journal), 8, judge_by(rules(), None), &metrics);
        start();
        gateway.serving().await.expect("serving");
        let again = gateway.decide(within(payment("t-1", 100), 60_000)).await.expect("an answer");
        assert!(again.duplicate && again.durable && again.decided == first.decided);
        assert_count(&metrics, "verdict_duplicates_total 1");
        assert_count(&metrics, "verdict_end_to_end_seconds_count 1");
        journal.reads_held.send_replace(true);
        let late = gateway.decide(within(payment("t-1", 100), 30)).await.expect_err("it is not read in time");
        assert!(matches!(late, Refusal::OriginalUnavailable), "its record is durable: {late}");
        journal.reads_held.send_replace(false);
        assert!(gateway.decide(payment("t-1", 100)).await.expect("an answer").duplicate);
        assert_eq!(records(&journal).await.len(), 1);
    });
}

#[test]
fn retries_wait_for_their_turn_to_be_read_back() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let before = start(Arc::clone(&journal), 2 * READS_AT_ONCE);
        before.serving().await.expect("serving");
        let ids: Vec<String> = (0..2 * READS_AT_ONCE).map(|n| format!("t-{n}")).collect();
        for id in &ids {
            before.decide(payment(id, 100)).await.expect("an answer");
        }
        before.stop().await;
        let gateway = start(Arc::clone(&journal), 2 * READS_AT_ONCE);
        gateway.serving().await.expect("serving");
        journal.reads_held.send_replace(true);
        let (first, second) = ids.split_at(READS_AT_ONCE);
        let reading = join_all(first.iter().map(|id| gateway.decide(payment(id, 100))));
        let late = join_all(second.iter().map(|id| gateway.decide(within(payment(id, 100), 300))));
        for late in late.await {
            assert!(matches!(late, Err(Refusal::OriginalUnavailable)), "it waits behind the others: {late:?}");
        }
        assert_eq!(gateway.in_flight(), 2 * READS_AT_ONCE, "its place is still taken");
        journal.reads_held.send_replace(false);
        for answer in reading.await {
            assert!(answer.expect("an answer").duplicate);
        }
        let all = join_all(ids.iter().map(|id| gateway.decide(payment(id, 100))));
        assert!(all.await.into_iter().all(|answer| answer.is_ok_and(|answer| answer.duplicate)), "each in its turn");
    });
}

#[test]
fn a_shard_made_busy_by_its_model_tells_what_it_began_from_what_it_did_not() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        let ((asked, asks), (give, word)) = (mpsc::channel(), mpsc::channel());
        let judge = judge_by(rules(), Some(held(asked, word)));
        let (gateway, start) = prepare(Arc::clone(&journal), 64, judge, &metrics);
        Arbiter::new().spawn_fn(start);
        gateway.serving().await.expect("serving");
        let begun = actix::spawn({
            let gateway = gateway.clone();
            async move { gateway.decide(within(of("u-1", "t-1", 100), 40)).await }
        });
        assert_eq!(heard(&asks).await, 1);
        let not_begun = join_all([
            gateway.decide(within(of("u-2", "t-1", 100), 30)),
            gateway.decide(within(of("u-1", "t-2", 100), 30)),
        ]);
        for refused in not_begun.await {
            assert!(matches!(refused, Err(Refusal::DeadlineExceeded)), "{refused:?}");
        }
        let late = begun.await.expect("joined").expect_err("the model has not answered");
        assert!(matches!(late, Refusal::JournalLate), "{late}");
        // Words enough for everything that follows.
        (0..8).for_each(|_| give.send(()).expect("the scorer listens"));
        let again = gateway.decide(of("u-1", "t-1", 100)).await.expect("an answer");
        assert!(again.durable && again.duplicate, "begun, so it was decided");
        assert_eq!((again.decided.decision.score, count(&again)), (Some(0.125), 1.0));
        for (user, counted) in [("u-2", 1.0), ("u-1", 2.0)] {
            let id = if user == "u-1" { "t-2" } else { "t-1" };
            let new = gateway.decide(of(user, id, 100)).await.expect("an answer");
            assert!(!new.duplicate, "{user}: dropped, so it is new");
            assert_eq!(count(&new), counted, "{user}");
        }
        assert_eq!(decisions(&journal).await.len(), 3);
        assert_count(&metrics, "verdict_decisions_total{decision=\"approve\",mode=\"normal\"} 3");
    });
}

#[test]
fn a_model_that_takes_too_long_is_left_out_and_the_rows_with_more_time_are_tried_again() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        let mut calls = 0;
        // As a model that hangs and is stopped at its time; the second time it answers.
        let slow = Fake(move |rows: &[&FeatureVector], allowed: Option<Duration>| {
            calls += 1;
            if calls > 1 {
                return Ok(vec![0.25; rows.len()]);
            }
            assert_eq!(rows.len(), 2);
            let until = clock::instant() + allowed.expect("a deadline");
            while clock::instant() < until {
                std::thread::yield_now();
            }
            Err(ScoreError::TimedOut)
        });
        let judge = judge_by(rules(), Some(Box::new(slow)));
        let (gateway, start) = prepare(Arc::clone(&journal), 8, judge, &metrics);
        start();
        gateway.serving().await.expect("serving");
        // The hasty one has the time that its answer needs after the model's: it is not refused.
        let hasty = Some(clock::instant() + Duration::from_millis(150));
        let hasty = gateway.decide(Submission { deadline: hasty, ..of("hasty", "t-1", 10_001) });
        let (hasty, patient) = tokio::join!(hasty, gateway.decide(within(of("patient", "t-1", 100), 60_000)));
        let late = match hasty {
            Ok(answer) => answer,
            // A machine that is too busy for the 2 ms after the model: the answer waits for the retry.
            Err(Refusal::JournalLate) => gateway.decide(of("hasty", "t-1", 10_001)).await.expect("an answer"),
            Err(refusal) => panic!("{refusal}"),
        };
        assert!(late.durable);
        assert_eq!(late.decided.decision.degraded, [Degradation::ModelTimeout]);
        assert_eq!((late.decided.decision.outcome, late.decided.decision.score), (Outcome::Block, None), "by rules");
        let scored = patient.expect("an answer").decided;
        assert_eq!((&scored.decision.degraded[..], scored.decision.score), (&[][..], Some(0.25)));
        let recorded = decisions(&journal).await;
        assert!(recorded.contains(&late.decided) && recorded.contains(&scored) && recorded.len() == 2);
        assert_count(&metrics, "verdict_degraded_total{reason=\"MODEL_TIMEOUT\"} 1");
        assert_count(&metrics, "verdict_decisions_total{decision=\"block\",mode=\"degraded\"} 1");
        assert_count(&metrics, "verdict_decisions_total{decision=\"approve\",mode=\"normal\"} 1");
    });
}

#[test]
fn a_row_whose_time_is_over_is_never_shown_to_the_model() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let ((asked, asks), (give, word)) = (mpsc::channel(), mpsc::channel());
        let judge = judge_by(rules(), Some(held(asked, word)));
        let (gateway, start) = prepare(Arc::clone(&journal), 256, judge, &Metrics::new());
        Arbiter::new().spawn_fn(start);
        gateway.serving().await.expect("serving");
        let first = actix::spawn({
            let gateway = gateway.clone();
            async move { gateway.decide(of("u-0", "t", 100)).await }
        });
        assert_eq!(heard(&asks).await, 1);
        // While the shard is busy with it, a full batch comes, and one more, which has little time.
        let full: Vec<String> = (1..=64).map(|user| format!("u-{user}")).collect();
        let waiting = actix::spawn({
            let gateway = gateway.clone();
            async move { join_all(full.iter().map(|user| gateway.decide(of(user, "t", 100)))).await }
        });
        while gateway.in_flight() < 65 {
            tokio::task::yield_now().await;
        }
        let deadline = clock::instant() + Duration::from_millis(100);
        let last = actix::spawn({
            let gateway = gateway.clone();
            async move { gateway.decide(Submission { deadline: Some(deadline), ..of("last", "t", 10_001) }).await }
        });
        while gateway.in_flight() < 66 {
            tokio::task::yield_now().await;
        }
        give.send(()).expect("the scorer listens");
        assert_eq!(heard(&asks).await, 64, "the full batch, and the last is begun and waits");
        let late = last.await.expect("joined").expect_err("the model is slow");
        assert!(matches!(late, Refusal::JournalLate), "{late}");
        give.send(()).expect("the scorer listens");
        assert!(waiting.await.expect("joined").into_iter().all(|answer| answer.is_ok()));
        assert!(first.await.expect("joined").is_ok());
        let retried = gateway.decide(of("last", "t", 10_001)).await.expect("an answer");
        assert!(retried.duplicate && retried.durable);
        assert_eq!(retried.decided.decision.degraded, [Degradation::ModelTimeout]);
        assert_eq!(retried.decided.decision.outcome, Outcome::Block, "by rules");
        assert!(asks.try_recv().is_err(), "the model was not asked again");
        assert_eq!(decisions(&journal).await.len(), 66);
    });
}

#[test]
fn a_model_that_fails_is_left_out() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        let failing = Fake(|_: &[&FeatureVector], _| Err(ScoreError::Run("out of memory".to_owned())));
        let judge = judge_by(rules(), Some(Box::new(failing)));
        let (gateway, start) = prepare(Arc::clone(&journal), 8, judge, &metrics);
        start();
        gateway.serving().await.expect("serving");
        let answers =
            join_all([gateway.decide(within(of("u-1", "t", 10_001), 60_000)), gateway.decide(of("u-2", "t", 1))]).await;
        for (answer, outcome) in answers.into_iter().zip([Outcome::Block, Outcome::Approve]) {
            let Answer { decided, durable, .. } = answer.expect("an answer");
            assert!(durable);
            assert_eq!((decided.decision.outcome, decided.decision.score), (outcome, None));
            assert_eq!(decided.decision.degraded, [Degradation::ModelError]);
            assert!(decisions(&journal).await.contains(&decided), "the record says so");
        }
        assert_count(&metrics, "verdict_degraded_total{reason=\"MODEL_ERROR\"} 2");
        assert_count(&metrics, "verdict_decisions_total{decision=\"approve\",mode=\"degraded\"} 1");
    });
}

#[test]
fn a_slow_disk_is_no_answer_and_counts_once_it_is_done() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        let (gateway, start) = prepare(Arc::clone(&journal), 8, judge_by(rules(), Some(quick(0.5))), &metrics);
        start();
        gateway.serving().await.expect("serving");
        journal.held.send_replace(true);
        let late = gateway.decide(within(payment("t-1", 100), 30)).await.expect_err("the disk is slow");
        assert!(matches!(late, Refusal::JournalLate), "{late}");
        // A second one of the same user is decided over the first, and as late.
        let late = gateway.decide(within(payment("t-2", 100), 30)).await.expect_err("the disk is slow");
        assert!(matches!(late, Refusal::JournalLate), "{late}");
        assert_count(&metrics, "verdict_decisions_total{decision=\"approve\",mode=\"normal\"} 0");
        // A retry does not decide again: it waits for the same record.
        let retry = gateway.decide(within(payment("t-1", 100), 30)).await.expect_err("the disk is slow still");
        assert!(matches!(retry, Refusal::JournalLate), "{retry}");
        journal.held.send_replace(false);
        for (id, counted) in [("t-1", 1.0), ("t-2", 2.0)] {
            let retried = gateway.decide(payment(id, 100)).await.expect("an answer");
            assert!(retried.durable && retried.duplicate && retried.decided.decision.degraded.is_empty());
            assert_eq!(count(&retried), counted);
        }
        assert_eq!(decisions(&journal).await.len(), 2);
        assert_count(&metrics, "verdict_decisions_total{decision=\"approve\",mode=\"normal\"} 2");
    });
}

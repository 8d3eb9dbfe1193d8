//! Which rows the model is shown together: as many as may be and no more, none of them of one user, and the answers are
//! the same however many there are.

use super::*;
use crate::journal::record::Decided;
use crate::telemetry::clock::TimeSource;
use actix::Arbiter;
use std::collections::HashSet;
use std::sync::{Mutex, mpsc};
use std::time::Instant;
use verdict_core::decision::Degradation;

const USERS: i64 = 10;
const PAYMENTS: i64 = 3;

/// A number of the features that tells the user, and which of the user's payments it is.
fn of_row(row: &FeatureVector) -> (f64, f64) {
    (row.named("amount").expect("a feature"), row.named("user_count_1h").expect("a feature"))
}

/// A clock that only the model's runs move, so that nothing hangs on how fast the machine is.
struct Moved {
    started: Instant,
    by: Mutex<Duration>,
}

impl TimeSource for Moved {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn instant(&self) -> Instant {
        self.started + *self.by.lock().expect("no holder panicked")
    }
}

/// A scorer that tells which rows it is shown, waits for a word before its first answer, and takes so long for each. Each row
/// has its own score.
fn telling(
    shown: mpsc::Sender<Vec<(f64, f64)>>,
    word: mpsc::Receiver<()>,
    takes: Duration,
    time: Arc<Moved>,
) -> Box<dyn Score> {
    let mut told = false;
    Box::new(Fake(move |rows: &[&FeatureVector], _| {
        shown.send(rows.iter().map(|row| of_row(row)).collect()).expect("the test listens");
        if !std::mem::replace(&mut told, true) {
            word.recv().expect("the test gives its word");
        }
        *time.by.lock().expect("no holder panicked") += takes;
        let score = |(amount, count): (f64, f64)| (amount / 1_000.0 + count / 100.0) as f32;
        Ok(rows.iter().map(|row| score(of_row(row))).collect())
    }))
}

fn of(user: i64, number: i64) -> Submission<Transaction> {
    let mut sent = payment(&format!("t-{number}"), 100 + user);
    sent.event.user_id = format!("u-{user}").into();
    sent
}

/// Some payments of each of so many users, in the order of payments.
fn of_each(users: i64, payments: i64) -> Vec<(i64, i64)> {
    (0..payments).flat_map(|number| (0..users).map(move |user| (user, number))).collect()
}

/// What the model was shown after its first row, run by run, and the decisions in the order of these payments, which are there
/// before the first is scored: one of user [`USERS`].
async fn decide_all(max_batch: usize, payments: &[(i64, i64)]) -> (Vec<Vec<(f64, f64)>>, Vec<Arc<Decided>>) {
    decide_by(Duration::ZERO, max_batch, payments).await
}

/// The same by a model that takes so long for each run.
async fn decide_by(
    takes: Duration,
    max_batch: usize,
    payments: &[(i64, i64)],
) -> (Vec<Vec<(f64, f64)>>, Vec<Arc<Decided>>) {
    let metrics = Metrics::new();
    let ((shown, runs), (give, word)) = (mpsc::channel(), mpsc::channel());
    let time = Arc::new(Moved { started: clock::instant(), by: Mutex::default() });
    let scorer = telling(shown, word, takes, Arc::clone(&time));
    let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(scorer));
    let clock = Clock::Given(time);
    let settings = ShardSettings { max_batch, clock, metrics: metrics.clone(), ..settings(Moody::new(), 256) };
    let (permits, lists) = (settings.permits.clone(), Arc::clone(&settings.lists));
    let (address, start) = ShardActor::prepare(settings, judge);
    let gateway = Gateway::new(vec![address], 2, permits, lists);
    // On a thread of its own, so that rows come while the model runs.
    Arbiter::new().spawn_fn(start);
    gateway.serving().await.expect("serving");
    let decide = |user, number| {
        let gateway = gateway.clone();
        actix::spawn(async move { gateway.decide(of(user, number)).await.expect("an answer").decided })
    };
    let mut sent = vec![decide(USERS, 0)];
    let first = loop {
        match runs.try_recv() {
            Ok(first) => break first,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(first.len(), 1, "nothing else waits, so it is scored by itself");
    sent.extend(payments.iter().map(|&(user, number)| decide(user, number)));
    while gateway.in_flight() < sent.len() {
        tokio::task::yield_now().await;
    }
    give.send(()).expect("the scorer listens");
    let decided = join_all(sent).await.into_iter().map(|decided| decided.expect("joined")).collect();
    let runs: Vec<_> = runs.try_iter().collect();
    let text = metrics.render();
    for line in [
        format!("verdict_model_runs_total {}", 1 + runs.len()),
        format!("verdict_model_rows_total {}", 1 + payments.len()),
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
    (runs, decided)
}

#[test]
fn rows_of_different_users_are_scored_together_and_decided_as_by_themselves() {
    actix::System::new().block_on(async {
        let payments = of_each(USERS, PAYMENTS);
        let (singly, expected) = decide_all(1, &payments).await;
        assert!(singly.iter().all(|rows| rows.len() == 1), "{singly:?}");
        let scores: HashSet<_> = expected.iter().map(|decided| decided.decision.score.map(f32::to_bits)).collect();
        assert_eq!(scores.len() as i64, 1 + USERS * PAYMENTS, "every row has its own score");
        for (max_batch, sizes) in [(64, [10, 10, 10].as_slice()), (4, &[4, 4, 2, 4, 4, 2, 4, 4, 2])] {
            let (runs, decided) = decide_all(max_batch, &payments).await;
            assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "at most {max_batch}");
            for rows in runs {
                let users: HashSet<u64> = rows.iter().map(|(amount, _)| amount.to_bits()).collect();
                assert_eq!(users.len(), rows.len(), "two of one user: {rows:?}");
            }
            for (decided, expected) in decided.iter().zip(&expected) {
                assert_eq!((&decided.features, &decided.decision), (&expected.features, &expected.decision));
                assert_eq!(decided.transaction, expected.transaction);
            }
        }
    });
}

#[test]
fn a_user_with_a_long_line_does_not_wait_for_others_and_they_do_not_wait_for_its_end() {
    actix::System::new().block_on(async {
        let (others, busy) = (5, 60);
        let mut payments = of_each(others, PAYMENTS);
        payments.extend((1..=busy).map(|number| (USERS, number)));
        let (_, expected) = decide_all(1, &payments).await;
        let (runs, decided) = decide_all(64, &payments).await;
        // One of everybody, while nobody stands behind the busy one's yet; then 32 in one go, and one with the others; then all
        // but the last sixteen of what is left.
        let sizes = [vec![6], vec![1; 32], vec![6], vec![1; 10], vec![6], vec![1; 15]].concat();
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        for (decided, expected) in decided.iter().zip(&expected) {
            assert_eq!((&decided.features, &decided.decision), (&expected.features, &expected.decision));
        }
    });
}

#[test]
fn a_model_that_is_slow_has_everybody_take_turns() {
    actix::System::new().block_on(async {
        let mut payments = of_each(1, PAYMENTS);
        payments.extend((1..=21).map(|number| (USERS, number)));
        let (runs, _) = decide_by(Duration::from_millis(2), 64, &payments).await;
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [vec![2, 1, 2, 1, 2], vec![1; 16]].concat());
    });
}

#[test]
fn what_is_tried_again_goes_before_what_was_not_tried_yet() {
    actix::System::new().block_on(async {
        let (shown, runs) = mpsc::channel();
        let mut calls = 0;
        // As a model that hangs and is stopped at its time; from the second time on it answers.
        let slow = Fake(move |rows: &[&FeatureVector], allowed: Option<Duration>| {
            shown.send(rows.iter().map(|row| of_row(row).0).collect::<Vec<_>>()).expect("the test listens");
            calls += 1;
            if calls > 1 {
                return Ok(vec![0.25; rows.len()]);
            }
            let until = clock::instant() + allowed.expect("a deadline");
            while clock::instant() < until {
                std::thread::yield_now();
            }
            Err(ScoreError::TimedOut)
        });
        let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(Box::new(slow)));
        let settings = ShardSettings { max_batch: 2, ..settings(Moody::new(), 8) };
        let (permits, lists) = (settings.permits.clone(), Arc::clone(&settings.lists));
        let (address, start) = ShardActor::prepare(settings, judge);
        let gateway = Gateway::new(vec![address], 2, permits, lists);
        start();
        gateway.serving().await.expect("serving");
        let deadline = Some(clock::instant() + Duration::from_millis(150));
        let hasty = gateway.decide(Submission { deadline, ..of(0, 0) });
        let patient = join_all((1..4).map(|user| gateway.decide(of(user, 0))));
        let (hasty, patient) = tokio::join!(hasty, patient);
        // A machine that is too busy for the 2 ms after the model gives it at the retry.
        assert!(matches!(hasty, Ok(_) | Err(Refusal::JournalLate)), "{hasty:?}");
        let hasty = gateway.decide(of(0, 0)).await.expect("an answer").decided;
        assert_eq!((hasty.decision.score, &hasty.decision.degraded[..]), (None, &[Degradation::ModelTimeout][..]));
        for answer in patient {
            assert_eq!(answer.expect("an answer").decided.decision.score, Some(0.25));
        }
        assert_eq!(runs.try_iter().collect::<Vec<_>>(), [vec![1.0, 1.01], vec![1.01, 1.02], vec![1.03]]);
    });
}

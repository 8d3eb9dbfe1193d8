//! A model that hangs in every run, on a clock that the test moves: the shard stops asking it, and tries it again.

use super::*;
use crate::telemetry::clock::TimeSource;
use std::sync::Mutex;
use std::time::Instant;
use verdict_core::decision::Degradation;

/// Both clocks, moved by hand.
struct Manual {
    start: Instant,
    passed: Mutex<Duration>,
}

impl Manual {
    fn pass(&self, time: Duration) {
        *self.passed.lock().expect("a lock") += time;
    }
}

impl TimeSource for Manual {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn instant(&self) -> Instant {
        self.start + *self.passed.lock().expect("a lock")
    }
}

/// A shard over a model that hangs until it is stopped while `hangs` says so, and the rows and times of its runs.
struct Stage {
    gateway: Gateway,
    clock: Arc<Manual>,
    hangs: Arc<AtomicBool>,
    runs: Arc<Mutex<Vec<(usize, Duration)>>>,
    metrics: Metrics,
}

impl Stage {
    async fn start() -> Self {
        let clock = Arc::new(Manual { start: clock::instant(), passed: Mutex::default() });
        let (hangs, runs) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let model = {
            let (clock, hangs, runs) = (Arc::clone(&clock), Arc::clone(&hangs), Arc::clone(&runs));
            Fake(move |rows: &[&FeatureVector], allowed: Option<Duration>| {
                let allowed = allowed.expect("a deadline");
                runs.lock().expect("a lock").push((rows.len(), allowed));
                if hangs.load(Ordering::SeqCst) {
                    clock.pass(allowed);
                    return Err(ScoreError::TimedOut);
                }
                Ok(vec![0.25; rows.len()])
            })
        };
        let metrics = Metrics::new();
        let given = Clock::Given(clock.clone());
        let settings = ShardSettings { clock: given, metrics: metrics.clone(), ..settings(Moody::new(), 64) };
        let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(Box::new(model)));
        let (partitions, lists) = (settings.journal.partitions(), Arc::clone(&settings.lists));
        let permits = settings.permits.clone();
        let (address, start) = ShardActor::prepare(settings, judge);
        start();
        let gateway = Gateway::new(vec![address], partitions, permits, lists);
        gateway.serving().await.expect("serving");
        Self { gateway, clock, hangs, runs, metrics }
    }

    /// Decides this many payments at once, each of a user of its own; how many got a score.
    async fn decide(&self, id: &str, count: usize) -> usize {
        // Far in the future of the real clock, by which callers wait.
        let deadline = Some(self.clock.instant() + Duration::from_secs(60));
        let answers = join_all((0..count).map(|user| {
            let mut sent = Submission { deadline, ..payment(id, 100) };
            sent.event.user_id = format!("u-{user}").into();
            self.gateway.decide(sent)
        }));
        let answers = answers.await.into_iter().map(|answer| answer.expect("an answer").decided);
        let scored = answers.filter(|decided| {
            let degraded = &decided.decision.degraded[..];
            assert_eq!(decided.decision.score.is_none(), degraded == [Degradation::ModelTimeout], "{degraded:?}");
            decided.decision.score.is_some()
        });
        scored.count()
    }

    /// The runs since this was last asked.
    fn runs(&self) -> Vec<(usize, Duration)> {
        std::mem::take(&mut *self.runs.lock().expect("a lock"))
    }

    #[track_caller]
    fn assert_left_alone(&self, times: u32) {
        let (text, line) = (self.metrics.render(), format!("verdict_model_left_alone_total {times}"));
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn it_is_left_alone_tried_with_one_row_and_asked_again() {
    actix::System::new().block_on(async {
        let stage = Stage::start().await;
        let long = Duration::from_millis(59_998);
        for n in 0..5 {
            stage.assert_left_alone(0);
            assert_eq!(stage.decide(&format!("hangs-{n}"), 1).await, 0);
            assert_eq!(stage.runs(), [(1, long)], "run {n}");
        }
        stage.assert_left_alone(1);
        for n in 0..3 {
            assert_eq!(stage.decide(&format!("open-{n}"), 8).await, 0);
        }
        assert_eq!(stage.runs(), [], "nobody waits for it");

        let (pause, fair) = (Duration::from_secs(5), Duration::from_millis(50));
        stage.clock.pass(pause);
        assert_eq!(stage.decide("tried", 8).await, 0);
        assert_eq!(stage.runs(), [(1, fair)], "one row, a short time, and the others do not wait for another run");
        stage.assert_left_alone(2);

        stage.clock.pass(pause);
        stage.hangs.store(false, Ordering::SeqCst);
        assert_eq!(stage.decide("back", 8).await, 8);
        let runs = stage.runs();
        assert_eq!(runs[0], (1, fair));
        assert_eq!(runs[1..].iter().map(|(rows, _)| rows).sum::<usize>(), 7, "{runs:?}");
        assert_eq!(stage.decide("well", 8).await, 8);
        stage.assert_left_alone(2);
    });
}

#[test]
fn a_generation_that_hangs_says_nothing_of_the_next() {
    actix::System::new().block_on(async {
        let stage = Stage::start().await;
        for n in 0..6 {
            assert_eq!(stage.decide(&format!("hangs-{n}"), 1).await, 0);
        }
        assert_eq!(stage.runs().len(), 5);
        let next = Fake(|rows: &[&FeatureVector], _| Ok(vec![0.5; rows.len()]));
        let rules = compile(RULES, "base: USD\nrates: {}\n");
        stage.gateway.adopt(vec![judge_by(rules, Some(Box::new(next)))]).await;
        assert_eq!(stage.decide("next", 4).await, 4);
    });
}

//! A shard from its gateway, over a journal in memory that can be made to fail.

mod batches;
mod deadlines;
mod fallbacks;
mod generations;
mod hanging;
mod lists;
mod offsets;
mod recoveries;
mod spilled;

use super::context::Judge;
use super::gateway::Gateway;
use super::messages::{Answer, Refusal, Submission};
use super::permits::Permits;
use super::replica::ListReplica;
use super::shard::{ShardActor, ShardSettings, Start};
use super::users::HotBounds;
use crate::journal::record::{Generation, ModelRef, Record};
use crate::journal::{AppendError, Cursor, Journal, JournalError, MemoryJournal, Partition, Tenure, Wanted};
use crate::model::{Score, ScoreError};
use crate::telemetry::Metrics;
use crate::telemetry::clock::{self, Clock};
use crate::telemetry::health::Readiness;
use actix::Addr;
use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::BoxStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use verdict_core::decision::Outcome;
use verdict_core::event::{Source, Transaction};
use verdict_core::features::{FeatureVector, schema_version};
use verdict_core::money::{Currency, Money};
use verdict_core::profile::Retention;
use verdict_core::rules::{RuleSet, RuleSources, SourceFile};
use verdict_core::time::Timestamp;

const RULES: &str = "
rules:
  - {id: spend, version: 1, when: user_spend_today > 100.0, outcome: block, reason: {code: SPEND, message: Spent}}
  - {id: listed, version: 1, when: block_list_hits > 0, outcome: block, reason: {code: LISTED, message: Listed}}
policy:
  on_block: {list: user, ttl: 24h}
  fallback: {above_amount: '500.00', outcome: review, otherwise: approve}
";

/// 2026-11-23T12:00:00Z.
pub(super) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// List entries that may be asked for.
const MAX_LISTED: usize = 3;

/// A journal that fails, or holds its answers back, when told to.
pub(super) struct Moody {
    inner: MemoryJournal,
    pub(super) fails: AtomicBool,
    epoch_ended: AtomicBool,
    /// Whether what is appended never lands, and its appends never come back.
    loses: AtomicBool,
    /// Whether appends fail once they are no longer held, whatever became of their records.
    breaks: AtomicBool,
    pub(super) held: watch::Sender<bool>,
    /// Called with each append, which then waits for a turn of everybody else.
    on_append: Mutex<Option<Box<dyn FnMut() + Send>>>,
    /// Whether take-overs wait.
    recovery_held: watch::Sender<bool>,
    /// Whether single records are read, or wait.
    reads_held: watch::Sender<bool>,
}

impl Moody {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryJournal::new(2, true),
            fails: AtomicBool::new(false),
            epoch_ended: AtomicBool::new(false),
            loses: AtomicBool::new(false),
            breaks: AtomicBool::new(false),
            held: watch::Sender::new(false),
            on_append: Mutex::default(),
            recovery_held: watch::Sender::new(false),
            reads_held: watch::Sender::new(false),
        })
    }
}

impl Journal for Moody {
    fn partitions(&self) -> Partition {
        self.inner.partitions()
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        let mut held = self.recovery_held.subscribe();
        Box::pin(async move {
            let _ = held.wait_for(|held| !held).await;
            self.epoch_ended.store(false, Ordering::SeqCst);
            self.inner.take_over(partitions).await
        })
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        if self.fails.swap(false, Ordering::SeqCst) {
            self.epoch_ended.store(true, Ordering::SeqCst);
        }
        if self.epoch_ended.load(Ordering::SeqCst) {
            return Box::pin(async { Err(AppendError::Store("the disk is full".into())) });
        }
        let watched = self.on_append.lock().expect("no holder panicked").as_mut().map(|called| called()).is_some();
        let (loses, breaks) = (self.loses.load(Ordering::SeqCst), self.breaks.load(Ordering::SeqCst));
        let appended = (!loses).then(|| self.inner.append(records));
        let mut held = self.held.subscribe();
        Box::pin(async move {
            if watched {
                tokio::task::yield_now().await;
            }
            // The sender lives as long as the test.
            let _ = held.wait_for(|held| !held).await;
            match appended {
                Some(appended) if !breaks => appended.await,
                _ => Err(AppendError::Store("an epoch ended".into())),
            }
        })
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        self.inner.replay(from, wanted)
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let (read, mut held) = (self.inner.read(partition, n), self.reads_held.subscribe());
        Box::pin(async move {
            // The sender lives as long as the test.
            let _ = held.wait_for(|held| !held).await;
            read.await
        })
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.inner.durable()
    }
}

fn compile(ruleset: &str, fx: &str) -> Arc<RuleSet> {
    let fx = SourceFile { path: "fx.yaml", text: fx };
    let ruleset = SourceFile { path: "ruleset.yaml", text: ruleset };
    Arc::new(RuleSet::compile(&RuleSources { name: "test", ruleset, fx }).expect("rules"))
}

/// A judge with these rules; with a scorer, its generation names a model.
fn judge_by(rules: Arc<RuleSet>, scorer: Option<Box<dyn Score>>) -> Judge {
    let named = || ModelRef { name: "fake".into(), version: "1".into(), sha256: [7; 32] };
    let generation = Generation {
        ruleset_name: "test".into(),
        ruleset_hash: rules.hash(),
        model: scorer.as_ref().map(|_| named()),
        feature_schema: schema_version(),
    };
    Judge::new(rules, Arc::new(generation), scorer)
}

/// What a scorer does with rows that must be scored by then.
type Scores = Result<Vec<f32>, ScoreError>;

/// A scorer that does as it is told.
struct Fake<F>(F);

impl<F: FnMut(&[&FeatureVector], Option<Duration>) -> Scores + Send> Score for Fake<F> {
    fn score(&mut self, rows: &[&FeatureVector], allowed: Option<Duration>) -> Scores {
        (self.0)(rows, allowed)
    }
}

/// One shard for all partitions of a journal.
pub(super) fn settings(journal: Arc<Moody>, limit: usize) -> ShardSettings {
    ShardSettings {
        shard: 0,
        partitions: (0..journal.partitions()).collect(),
        retention: Retention::default(),
        hot: HotBounds { users: 1_000, idle_ticks: 300 },
        max_batch: 64,
        clock: Clock::System,
        lists: ListReplica::new(journal.partitions(), MAX_LISTED),
        journal,
        checkpoints: None,
        spill: None,
        checkpoint_every: Duration::from_secs(3_600),
        begun: Arc::new(|_| ()),
        readiness: Readiness::new(1),
        metrics: Metrics::new(),
        permits: Permits::new(limit, 1),
    }
}

/// Everything in the journal, each partition in order.
async fn records(journal: &Moody) -> Vec<Record> {
    let from = (0..journal.partitions()).map(|partition| (partition, 0)).collect();
    journal.replay(from, Wanted::Everything).try_collect().await.expect("a journal in memory")
}

fn start(journal: Arc<Moody>, limit: usize) -> Gateway {
    start_with(settings(journal, limit)).0
}

pub(super) fn start_with(settings: ShardSettings) -> (Gateway, Addr<ShardActor>) {
    let (partitions, permits) = (settings.journal.partitions(), settings.permits.clone());
    let lists = Arc::clone(&settings.lists);
    let (address, start) = ShardActor::prepare(settings, judge_by(compile(RULES, "base: USD\nrates: {}\n"), None));
    start();
    (Gateway::new(vec![address.clone()], partitions, permits, lists), address)
}

/// A gateway to one shard, and what starts that on the thread that calls it.
fn prepare(journal: Arc<Moody>, limit: usize, judge: Judge, metrics: &Metrics) -> (Gateway, Start) {
    let settings = ShardSettings { metrics: metrics.clone(), ..settings(journal, limit) };
    let (partitions, permits) = (settings.journal.partitions(), settings.permits.clone());
    let lists = Arc::clone(&settings.lists);
    let (address, start) = ShardActor::prepare(settings, judge);
    (Gateway::new(vec![address], partitions, permits, lists), start)
}

pub(super) fn payment(id: &str, minor: i64) -> Submission<Transaction> {
    let usd = Currency::from_code("USD").expect("a currency");
    let event = Transaction {
        transaction_id: id.into(),
        user_id: "u-1".into(),
        amount: Money::from_minor(minor, usd),
        base: verdict_core::money::BaseMinor(minor),
        merchant_id: "m-1".into(),
        at: NOON,
        ip_address: None,
        user_agent: None,
        device_id: None,
        merchant_category: None,
        location: None,
    };
    let started = clock::instant();
    Submission {
        event: Box::new(event),
        source: Source::Http,
        received_at: NOON,
        started,
        deadline: None,
        undurable: false,
        original: None,
    }
}

pub(super) fn count(answer: &Answer) -> f64 {
    answer.decided.features.named("user_count_1h").expect("a feature")
}

#[test]
fn events_sent_together_see_one_another_in_order() {
    actix::System::new().block_on(async {
        let gateway = start(Moody::new(), 64);
        gateway.serving().await.expect("serving");
        let ids: Vec<String> = (0..20).map(|n| format!("t-{n}")).collect();
        let answers = join_all(ids.iter().map(|id| gateway.decide(payment(id, 1_000)))).await;
        for (index, answer) in answers.into_iter().enumerate() {
            let answer = answer.expect("an answer");
            assert!(answer.durable && !answer.duplicate);
            assert_eq!(count(&answer), (index + 1) as f64);
            // 100.00 is not over 100.00; the block binds the very next decision.
            let expected = if index < 10 { Outcome::Approve } else { Outcome::Block };
            assert_eq!(answer.decided.decision.outcome, expected, "{index}");
            assert_eq!(answer.decided.decision.list_hits.is_empty(), index <= 10, "{index}");
        }
    });
}

#[test]
fn a_failed_append_is_never_answered_and_leaves_no_trace() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(Arc::clone(&journal), 64);
        gateway.serving().await.expect("serving");
        assert!(gateway.decide(payment("t-1", 1_000)).await.expect("an answer").durable);
        journal.fails.store(true, Ordering::SeqCst);
        let failed = gateway.decide(payment("t-2", 1_000)).await.expect_err("the disk is full");
        assert!(matches!(&failed, Refusal::JournalUnavailable(why) if why.contains("disk is full")), "{failed}");
        // What failed was in memory only: after the recovery it is new, and what was durable is known.
        gateway.serving().await.expect("recovered");
        let again = gateway.decide(payment("t-2", 1_000)).await.expect("an answer");
        assert!(again.durable && !again.duplicate);
        assert_eq!(count(&again), 2.0);
        let first = gateway.decide(payment("t-1", 1_000)).await.expect("read back from the journal");
        assert!(first.durable && first.duplicate);
        assert_eq!(count(&first), 1.0);
    });
}

#[test]
fn permits_bound_what_is_in_flight_and_come_back() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(Arc::clone(&journal), 2);
        gateway.serving().await.expect("serving");
        journal.held.send_replace(true);
        let (released, was_released) = oneshot::channel();
        let waiting = actix::spawn({
            let gateway = gateway.clone();
            async move {
                let both = [payment("t-1", 100), payment("t-2", 100)];
                let answers = join_all(both.map(|payment| gateway.decide(payment))).await;
                let _ = released.send(());
                answers
            }
        });
        while gateway.in_flight() < 2 {
            tokio::task::yield_now().await;
        }
        let refused = gateway.decide(payment("t-3", 100)).await.expect_err("two are in flight");
        assert!(matches!(refused, Refusal::Overloaded { limit: 2 }), "{refused}");
        journal.held.send_replace(false);
        was_released.await.expect("answered");
        assert!(waiting.await.expect("joined").into_iter().all(|answer| answer.is_ok()));
        assert!(gateway.decide(payment("t-3", 100)).await.is_ok());
        assert_eq!(gateway.in_flight(), 0);
    });
}

#[test]
fn a_late_answer_is_refused_and_kept_for_the_retry() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(Arc::clone(&journal), 8);
        gateway.serving().await.expect("serving");
        journal.held.send_replace(true);
        let deadline = Some(clock::instant() + Duration::from_millis(30));
        let late = gateway.decide(Submission { deadline, ..payment("t-1", 100) }).await.expect_err("the disk is slow");
        assert!(matches!(late, Refusal::JournalLate), "{late}");
        journal.held.send_replace(false);
        let retried = gateway.decide(payment("t-1", 100)).await.expect("an answer");
        assert!(retried.durable && retried.duplicate);
    });
}

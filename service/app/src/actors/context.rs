//! What the actors of one shard share on their thread: the rules, the rows that wait for the model, and the records that
//! wait for the journal.
//!
//! A context lives as long as an epoch. When an append fails, it is closed: actors that still hold it are refused, and
//! the shard starts over with a new one.

use super::messages::{Accepted, Answer, Refusal, Settled};
use super::user::UserActor;
use crate::journal::record::{Body, Decided, Generation, Record};
use crate::journal::{Partition, Tenure};
use crate::model::Scorer;
use crate::telemetry::clock;
use actix::Addr;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use verdict_core::event::Source;
use verdict_core::features::FeatureVector;
use verdict_core::profile::Retention;
use verdict_core::rules::RuleSet;
use verdict_core::time::Timestamp;

/// Decisions whose whole answer is kept for duplicates; far above what can be in flight, so that a duplicate of one that
/// is not durable yet is always found here.
const RECENT_DECISIONS: usize = 16_384;

/// Where `evaluated_at` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The wall clock.
    Wall,
    /// The event's own time: a backtest.
    EventTime,
}

/// What decides: one generation of rules and model (I8).
pub struct Judge {
    /// The rule set.
    pub rules: Arc<RuleSet>,
    /// How records name rules, model and schema.
    pub generation: Arc<Generation>,
    /// This thread's session of the model, if one is configured.
    pub scorer: Option<Scorer>,
}

/// What came along with an event, and the way back to whoever sent it.
pub struct Ticket<T> {
    /// Where it entered.
    pub source: Source,
    /// When it entered.
    pub received_at: Timestamp,
    /// When it entered, for measuring.
    pub started: Instant,
    /// When an answer is of no more use.
    pub deadline: Option<Instant>,
    /// The bytes as they came, of a source that must leave a record.
    pub original: Option<Box<[u8]>>,
    /// The way back.
    pub reply: oneshot::Sender<Result<T, Refusal>>,
    /// Bounds what is in flight; given back with the answer.
    pub permit: OwnedSemaphorePermit,
}

impl<T> Ticket<T> {
    /// Answers. A caller that has gone away is no error: what was decided stays decided.
    pub fn answer(self, answer: Result<T, Refusal>) {
        let _ = self.reply.send(answer);
    }

    /// Whether the deadline has passed.
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| clock::instant() >= deadline)
    }
}

/// Who hears of a record, or of everything before it, once that is durable.
pub enum Completion {
    /// A decision: first or duplicate.
    Decided(Ticket<Settled>, Answer),
    /// A transaction of a topic or a file that was seen before.
    SeenBefore(Ticket<Settled>),
    /// A login or a label.
    Accepted(Ticket<Accepted>, Accepted),
    /// A refused transaction whose dead letter is durable.
    TransactionRefused(Ticket<Settled>, Refusal),
    /// A refused login or label whose dead letter is durable.
    EventRefused(Ticket<Accepted>, Refusal),
}

impl Completion {
    /// Answers once the append is over.
    pub fn complete(self, appended: Result<(), Refusal>) {
        match (self, appended) {
            (Self::Decided(ticket, answer), Ok(())) => {
                ticket.answer(Ok(Settled::Answer(Answer { durable: true, ..answer })));
            }
            (Self::SeenBefore(ticket), Ok(())) => ticket.answer(Ok(Settled::SeenBefore)),
            (Self::Accepted(ticket, accepted), Ok(())) => ticket.answer(Ok(accepted)),
            (Self::TransactionRefused(ticket, refusal), Ok(())) => ticket.answer(Err(refusal)),
            (Self::EventRefused(ticket, refusal), Ok(())) => ticket.answer(Err(refusal)),
            (
                Self::Decided(ticket, _) | Self::TransactionRefused(ticket, _) | Self::SeenBefore(ticket),
                Err(refusal),
            ) => {
                ticket.answer(Err(refusal));
            }
            (Self::Accepted(ticket, _) | Self::EventRefused(ticket, _), Err(refusal)) => ticket.answer(Err(refusal)),
        }
    }
}

/// A transaction that waits for its score.
pub struct WaitingRow {
    /// Whose it is.
    pub user: Addr<UserActor>,
    /// What the model sees.
    pub features: FeatureVector,
    /// When its answer is of no more use.
    pub deadline: Option<Instant>,
}

/// Records and completions that wait for the next append.
#[derive(Default)]
pub struct Outbox {
    /// In journal order.
    pub records: Vec<Record>,
    /// Told when the append is durable.
    pub completions: Vec<Completion>,
}

/// See the module.
pub struct ShardContext {
    /// What decides.
    pub judge: RefCell<Judge>,
    /// How much profiles keep.
    pub retention: Retention,
    /// Where `evaluated_at` comes from.
    pub clock: Clock,
    /// Rows that wait for the model.
    pub rows: RefCell<Vec<WaitingRow>>,
    /// What waits for the journal.
    pub outbox: RefCell<Outbox>,
    /// Users changed since the last checkpoint.
    pub dirty: RefCell<HashSet<Rc<str>>>,
    /// Woken when a row or a record is the first to wait.
    wake: Box<dyn Fn(Wake)>,
    tenures: RefCell<HashMap<Partition, Tenure>>,
    recent: RefCell<RecentDecisions>,
    closed: Cell<bool>,
}

/// What the shard is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Rows wait for the model.
    Score,
    /// Records wait for the journal.
    Append,
}

impl ShardContext {
    /// A context for the epochs in `tenures`; `wake` is called when the first row or record waits.
    pub fn new(judge: Judge, retention: Retention, clock: Clock, tenures: &[Tenure], wake: Box<dyn Fn(Wake)>) -> Self {
        Self {
            judge: RefCell::new(judge),
            retention,
            clock,
            rows: RefCell::default(),
            outbox: RefCell::default(),
            dirty: RefCell::default(),
            wake,
            tenures: RefCell::new(tenures.iter().map(|tenure| (tenure.partition, *tenure)).collect()),
            recent: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// Ends the context: nothing more is taken for its epochs.
    pub fn close(&self) {
        self.closed.set(true);
        self.rows.borrow_mut().clear();
    }

    /// Whether its epochs have ended.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Puts a row in the queue for the model.
    pub fn wait_for_score(&self, row: WaitingRow) {
        let mut rows = self.rows.borrow_mut();
        rows.push(row);
        if rows.len() == 1 {
            (self.wake)(Wake::Score);
        }
    }

    /// Numbers a record, queues it for the journal, and returns its number. `completion` is told when it is durable.
    pub fn commit(
        &self,
        partition: Partition,
        source: Source,
        received_at: Timestamp,
        body: Body,
        completion: Completion,
    ) -> u64 {
        let mut tenures = self.tenures.borrow_mut();
        // invariant I1: the gateway routes a user only to the shard that owns the user's partition.
        #[expect(clippy::expect_used, reason = "a record of a partition that is not owned must never be written")]
        let tenure = tenures.get_mut(&partition).expect("an owned partition");
        let n = tenure.next_n;
        tenure.next_n += 1;
        if let Body::Decision(decided) = &body {
            self.recent.borrow_mut().put((partition, n), Arc::clone(decided));
        }
        self.queue(Some(Record { partition, epoch: tenure.epoch, n, source, received_at, body }), completion);
        n
    }

    /// Tells `completion` once everything committed before is durable.
    pub fn after_commits(&self, completion: Completion) {
        self.queue(None, completion);
    }

    fn queue(&self, record: Option<Record>, completion: Completion) {
        let mut outbox = self.outbox.borrow_mut();
        let first = outbox.completions.is_empty();
        outbox.records.extend(record);
        outbox.completions.push(completion);
        if first {
            (self.wake)(Wake::Append);
        }
    }

    /// The decision in a record, if it is recent.
    pub fn recent_decision(&self, partition: Partition, n: u64) -> Option<Arc<Decided>> {
        self.recent.borrow().decisions.get(&(partition, n)).cloned()
    }

    /// Remembers that a user's profile changed.
    pub fn mark_dirty(&self, user_id: &Rc<str>) {
        let mut dirty = self.dirty.borrow_mut();
        if !dirty.contains(user_id) {
            dirty.insert(Rc::clone(user_id));
        }
    }

    /// For every owned partition the number of the next record.
    pub fn positions(&self) -> Vec<(Partition, u64)> {
        self.tenures.borrow().values().map(|tenure| (tenure.partition, tenure.next_n)).collect()
    }
}

/// A bounded cache, oldest out first.
#[derive(Default)]
struct RecentDecisions {
    decisions: HashMap<(Partition, u64), Arc<Decided>>,
    order: VecDeque<(Partition, u64)>,
}

impl RecentDecisions {
    fn put(&mut self, key: (Partition, u64), decided: Arc<Decided>) {
        self.decisions.insert(key, decided);
        self.order.push_back(key);
        if self.order.len() > RECENT_DECISIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.decisions.remove(&oldest);
        }
    }
}

//! What the actors of one shard share on their thread: the rules, the rows that wait for the model, and the records that
//! wait for the journal.
//!
//! A context lives as long as an epoch. When an append fails, it is closed: actors that still hold it are refused, and
//! the shard starts over with a new one.

use super::appending;
use super::breaker::Breaker;
use super::claim::Claim;
use super::completion::Completion;
use super::messages::Refusal;
use super::originals::READS_AT_ONCE;
use super::outbox::Outbox;
use super::recent::RecentDecisions;
use super::replica::ListReader;
use super::shard::ShardSettings;
use super::source_offsets::SourceOffsets;
use super::sources::Opening;
use super::turns::{Parked, Turns, Waiting};
use super::user::{UserActor, YourTurn};
use crate::journal::checkpoint::{Mark, SourceOffset, Totals};
use crate::journal::record::{Body, Generation, Record};
use crate::journal::spill::{RecordId, Spill};
use crate::journal::{Journal, Partition, Tenure};
use crate::model::Score;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use actix::Addr;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use verdict_core::event::Source;
use verdict_core::features::Computed;
use verdict_core::profile::Retention;
use verdict_core::rules::RuleSet;
use verdict_core::time::Timestamp;

/// What decides: one generation of rules and model (I8).
pub struct Judge {
    /// The rule set.
    pub rules: Arc<RuleSet>,
    /// How records name rules, model and schema.
    pub generation: Arc<Generation>,
    /// This thread's session of the model, if one is configured.
    pub scorer: Option<RefCell<Box<dyn Score>>>,
    /// Whether that is asked.
    pub(super) breaker: RefCell<Breaker>,
}

impl Judge {
    /// A generation for one shard.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, generation: Arc<Generation>, scorer: Option<Box<dyn Score>>) -> Self {
        Self { rules, generation, scorer: scorer.map(RefCell::new), breaker: RefCell::default() }
    }
}

/// The generation in force in a shard. A decision takes it once, when it begins, and keeps it to its end.
pub type InForce = Rc<RefCell<Rc<Judge>>>;

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
    /// Whether an answer will do that is not durable by then.
    pub undurable: bool,
    /// The bytes as they came, of a source that must leave a record.
    pub original: Option<Box<[u8]>>,
    /// The way back.
    pub reply: oneshot::Sender<Result<T, Refusal>>,
    /// Bounds what is in flight; given back with the answer.
    pub permit: OwnedSemaphorePermit,
    /// Held by the caller as well, if it does not wait for ever.
    pub claim: Option<Claim>,
}

impl<T> Ticket<T> {
    /// Answers. A caller that has gone away is no error: what was decided stays decided.
    pub fn answer(self, answer: Result<T, Refusal>) {
        let _ = self.reply.send(answer);
    }

    /// Begins the event. `None`: its time is over, its caller hears so or has given up, and it must leave no trace.
    #[must_use]
    pub fn begin(self, clock: &Clock) -> Option<Self> {
        let Some(claim) = &self.claim else { return Some(self) };
        let late = self.deadline.is_some_and(|deadline| clock.instant() >= deadline);
        if late && claim.give_up() {
            self.answer(Err(Refusal::DeadlineExceeded));
            return None;
        }
        claim.begin().then_some(self)
    }
}

/// A transaction that waits for its score.
pub struct WaitingRow {
    /// The generation that decides it, whose model scores it.
    pub judge: Rc<Judge>,
    /// Whose it is.
    pub user: Rc<Addr<UserActor>>,
    /// What the model sees.
    pub computed: Rc<Computed>,
    /// When its answer is of no more use.
    pub deadline: Option<Instant>,
}

/// See the module.
pub struct ShardContext {
    /// Itself, for what goes on in its name.
    own: Weak<Self>,
    /// What decides; outlives the context.
    pub judge: InForce,
    /// How much profiles keep.
    pub retention: Retention,
    /// Rows that the model scores in one run at most; at least one.
    pub max_batch: usize,
    /// The time.
    pub clock: Clock,
    /// Rows that wait for the model.
    pub rows: RefCell<Vec<WaitingRow>>,
    /// What waits for the journal.
    pub(super) outbox: RefCell<Outbox>,
    /// Entries about merchants, devices and addresses.
    pub lists: ListReader,
    /// Where counts go.
    pub metrics: Metrics,
    /// Where records go.
    pub(super) journal: Arc<dyn Journal>,
    /// Where answers are kept whose records are late, if they may be given.
    pub(super) spill: Option<Arc<Spill>>,
    /// Wakes the shard for what waits.
    wake: Box<dyn Fn(Wake)>,
    /// By partition; `None` of those that others own.
    pub(super) ledger: RefCell<Vec<Option<Account>>>,
    /// How far sources with offsets were consumed.
    sources: RefCell<SourceOffsets>,
    /// Keeps their records in the order of offsets.
    pub(super) turns: Turns,
    /// Users changed since the last checkpoint.
    dirty: RefCell<HashSet<Rc<str>>>,
    /// Counts the checkpoints, from 1.
    round: Cell<u64>,
    /// Partitions whose list entries changed since.
    dirty_lists: RefCell<HashSet<Partition>>,
    /// The last decisions.
    pub(super) recent: RefCell<RecentDecisions>,
    /// Decisions that are being read back, and that wait to be.
    pub(super) reads: Cell<usize>,
    /// Lets so many be read at once.
    pub(super) reading: Semaphore,
    /// When each append began that is not through, in their order.
    pub(super) under_way: RefCell<VecDeque<Instant>>,
    /// Says whether the append before the next one became durable.
    last_append: RefCell<Option<oneshot::Receiver<bool>>>,
    closed: RefCell<Option<Refusal>>,
    superseded: Cell<bool>,
}

/// An owned partition: its epoch, its next number, and its books.
pub(super) struct Account {
    pub(super) tenure: Tenure,
    totals: Totals,
    /// Records before this one are known to be durable.
    pub(super) durable_n: u64,
}

/// What the shard is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Rows wait for the model.
    Score,
    /// Records wait for the journal, and somebody for them.
    Append,
    /// Records of topics wait for the journal, and may wait for more.
    AppendSoon,
    /// The context was closed: its epoch is to be recovered.
    Recover,
}

impl ShardContext {
    /// A context for the epochs that were recovered.
    pub fn new(
        judge: InForce,
        settings: &ShardSettings,
        tenures: &[Tenure],
        totals: &HashMap<Partition, Totals>,
        sources: SourceOffsets,
        wake: Box<dyn Fn(Wake)>,
    ) -> Rc<Self> {
        let account = |tenure: &Tenure| Account {
            tenure: *tenure,
            totals: totals.get(&tenure.partition).copied().unwrap_or_default(),
            durable_n: tenure.next_n,
        };
        let mut ledger: Vec<Option<Account>> = Vec::new();
        for tenure in tenures {
            let place = usize::from(tenure.partition);
            ledger.resize_with(ledger.len().max(place + 1), || None);
            ledger[place] = Some(account(tenure));
        }
        Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            judge,
            retention: settings.retention,
            max_batch: settings.max_batch,
            clock: settings.clock.clone(),
            rows: RefCell::default(),
            outbox: RefCell::new(Outbox::new(settings.permits.clone())),
            lists: settings.lists.reader(),
            metrics: settings.metrics.clone(),
            journal: Arc::clone(&settings.journal),
            spill: settings.spill.clone(),
            wake,
            ledger: RefCell::new(ledger),
            sources: RefCell::new(sources),
            turns: Turns::default(),
            dirty: RefCell::default(),
            round: Cell::new(1),
            dirty_lists: RefCell::default(),
            recent: RefCell::default(),
            reads: Cell::new(0),
            reading: Semaphore::new(READS_AT_ONCE),
            under_way: RefCell::default(),
            last_append: RefCell::default(),
            closed: RefCell::new(None),
            superseded: Cell::new(false),
        })
    }

    /// Ends the context: what waits is refused, and so is whatever comes from actors that still hold it.
    pub fn close(&self, refusal: &Refusal) {
        *self.closed.borrow_mut() = Some(refusal.clone());
        self.rows.take();
        let (_, waiting) = self.outbox.borrow_mut().take();
        self.fail(waiting.into_iter().chain(self.turns.close()), refusal);
    }

    /// The epochs that follow serve: nothing of this one is journaled any more.
    pub(super) fn supersede(&self) {
        self.superseded.set(true);
    }

    /// Whether the epochs that follow serve.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.get()
    }

    /// Ends the epoch because the actor of a user has gone down. What it was doing may be in the journal and not in the
    /// profile, or half in it: only the journal says (I2).
    pub fn lose(&self, user_id: &str) {
        if !self.is_closed() {
            tracing::error!(user_id, "the actor of a user panicked");
            self.close(&Refusal::Recovering);
            (self.wake)(Wake::Recover);
        }
    }

    /// What is answered to all that comes, once its epochs have ended.
    pub fn closed_with(&self) -> Option<Refusal> {
        self.closed.borrow().clone()
    }

    /// Whether its epochs have ended.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// The generation in force, for a decision that begins.
    pub fn judge(&self) -> Rc<Judge> {
        Rc::clone(&self.judge.borrow())
    }

    /// Wakes the shard.
    pub fn wake(&self, wake: Wake) {
        (self.wake)(wake);
    }

    /// Puts a row in the queue for the model.
    pub fn wait_for_score(&self, row: WaitingRow) {
        if self.is_closed() {
            // The row is gone, and so will be the actor with its shard's hold on it: its callers hear of the recovery.
            return;
        }
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
        let mut next = self.turns.leave(partition, &source);
        let n = self.number(partition, source, received_at, body, completion);
        // Those that were ready before their turn, up to the first that is not.
        while let Some(waiting) = next {
            next = match waiting {
                Waiting::Record(parked) => {
                    let Parked { partition, source, received_at, body, completion } = *parked;
                    let next = self.turns.leave(partition, &source);
                    self.number(partition, source, received_at, body, completion);
                    next
                }
                Waiting::User(user) => {
                    if let Err(error) = user.try_send(YourTurn) {
                        tracing::error!(%error, "a user did not take its turn");
                    }
                    None
                }
            };
        }
        n
    }

    /// Like [`Self::commit`], for a record of no user: when it is its source's turn.
    pub(super) fn commit_in_turn(&self, parked: Parked) {
        if self.turns.is_turn(parked.partition, &parked.source) {
            let Parked { partition, source, received_at, body, completion } = parked;
            self.commit(partition, source, received_at, body, completion);
        } else {
            let (partition, source) = (parked.partition, parked.source.clone());
            self.turns.wait(partition, &source, Waiting::Record(Box::new(parked)));
        }
    }

    fn number(
        &self,
        partition: Partition,
        source: Source,
        received_at: Timestamp,
        body: Body,
        mut completion: Completion,
    ) -> u64 {
        let mut ledger = self.ledger.borrow_mut();
        // invariant I1: the gateway routes a user only to the shard that owns the user's partition.
        #[expect(clippy::expect_used, reason = "a record of a partition that is not owned must never be written")]
        let account = ledger.get_mut(usize::from(partition)).and_then(Option::as_mut).expect("an owned partition");
        let Tenure { epoch, next_n: n, .. } = account.tenure;
        account.tenure.next_n += 1;
        if let Completion::Decided(_, _, id) = &mut completion {
            *id = Some(RecordId { partition, epoch, n });
        }
        let record = Record { partition, epoch, n, source, received_at, body };
        account.totals.count(&record);
        self.sources.borrow_mut().pass(&record.source);
        drop(ledger);
        // Nobody waits for the first answer to a duplicate of a topic or a file.
        if let (Body::Decision(decided), Source::Http) = (&record.body, &record.source) {
            let is_durable = |partition, n| self.on_its_way(partition, n).is_none();
            self.recent.borrow_mut().put(partition, n, Arc::clone(decided), is_durable);
        }
        self.queue(Some(record), completion);
        n
    }

    /// A place after every append of this epoch until now: what the one before it became, and how to say what this one did.
    pub fn line_up(&self) -> (Option<oneshot::Receiver<bool>>, oneshot::Sender<bool>) {
        let (told, last) = oneshot::channel();
        (self.last_append.replace(Some(last)), told)
    }

    /// Tells `completion` once everything committed before is durable.
    pub fn after_commits(&self, completion: Completion) {
        self.queue(None, completion);
    }

    fn queue(&self, record: Option<Record>, completion: Completion) {
        if let Some(refusal) = &*self.closed.borrow() {
            return self.fail([completion], refusal);
        }
        let when = self.outbox.borrow_mut().push(record, completion);
        if let (Some(when), Some(own)) = (when, self.own.upgrade()) {
            appending::append_at(own, when);
        }
    }

    /// Remembers that a user's profile changed.
    pub fn mark_dirty(&self, user_id: &Rc<str>) {
        self.dirty.borrow_mut().insert(Rc::clone(user_id));
    }

    /// The checkpoint that will have what changes now; who was marked for it need not be marked again.
    pub fn round(&self) -> u64 {
        self.round.get()
    }

    /// Remembers that list entries of a partition changed.
    pub fn mark_lists_dirty(&self, partition: Partition) {
        self.dirty_lists.borrow_mut().insert(partition);
    }

    /// Takes the partitions where list entries changed since this was last called.
    pub fn take_dirty_lists(&self) -> HashSet<Partition> {
        self.dirty_lists.take()
    }

    /// Takes the users that changed since this was last called.
    pub fn take_dirty(&self) -> HashSet<Rc<str>> {
        self.round.set(self.round.get() + 1);
        self.dirty.take()
    }

    /// Opens the sources of a partition; `None` while something that they sent before has not left, and once this epoch has
    /// ended: it counts records that were numbered and never written.
    pub(super) fn open_sources(&self, partition: Partition) -> Option<Opening> {
        if self.is_closed() {
            return None;
        }
        let epoch = self.ledger.borrow().get(usize::from(partition))?.as_ref()?.tenure.epoch;
        let session = self.turns.open(partition, epoch)?;
        Some(Opening { session, offsets: self.sources.borrow().of(partition) })
    }

    /// How far the sources were consumed by the records that [`Self::marks`] counts.
    pub fn source_offsets(&self) -> Vec<SourceOffset> {
        self.sources.borrow().all()
    }

    /// The position and the books of every owned partition.
    pub fn marks(&self) -> Vec<Mark> {
        let ledger = self.ledger.borrow();
        ledger
            .iter()
            .flatten()
            .map(|Account { tenure, totals, .. }| Mark {
                partition: tenure.partition,
                next_n: tenure.next_n,
                totals: *totals,
            })
            .collect()
    }
}

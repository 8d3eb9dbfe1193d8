//! One user: the only writer of that user's profile (I1).
//!
//! Events are taken one at a time. A transaction that waits for its score holds back the ones after it, so that each
//! sees the profile as its predecessor left it, blocks included.

use super::completion::Completion;
use super::context::{Judge, ShardContext, Ticket, WaitingRow};
use super::listing;
use super::memory::Memory;
use super::messages::{Accepted, Answer, LastLogin, ListChanged, ProfileView, RecentTransaction, Refusal, Settled};
use super::scoring;
use super::turns::Waiting;
use super::work::{Work, dead_letter};
use crate::journal::Partition;
use crate::journal::record::{Body, Decided};
use actix::{Actor, AsyncContext, Context, Handler, Message};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use verdict_core::decision::{ModelVerdict, RuleHit};
use verdict_core::event::{Label, Login, Source, Transaction};
use verdict_core::features::{Computed, compute};
use verdict_core::lists::{List, ListChange, ListHit};
use verdict_core::profile::{Admission, Change, Profile};
use verdict_core::rules::DecideInput;

/// Transactions that a view shows.
const VIEW_RECENT: usize = 20;

/// With so many behind it a transaction does not wait for rows of others to be scored with: a row costs more then, and under
/// load a run comes every millisecond.
const LONG_LINE: usize = 16;

/// Most transactions that are decided in one go so; then others have their turn.
const MOST_ALONE: u32 = 32;

/// A row for which the model takes this long is the last of its go: a hundred times what it should take.
const LONG_RUN: Duration = Duration::from_millis(1);

/// See the module.
pub struct UserActor {
    memory: Rc<Memory>,
    partition: Partition,
    shard: Rc<ShardContext>,
    /// In a box: most users are between decisions.
    scoring: Option<Box<Scoring>>,
    /// What waits for the turn of its source.
    stalled: Option<Stalled>,
    /// Bounded by the shard's permits.
    held: VecDeque<Work>,
    /// Transactions since the last one that was scored with others.
    alone: u32,
}

/// A transaction between its features and its decision.
struct Scoring {
    /// The generation that it began with, and ends with (I8).
    judge: Rc<Judge>,
    transaction: Box<Transaction>,
    ticket: Ticket<Settled>,
    list_hits: Vec<ListHit>,
    rule_hits: Vec<RuleHit>,
    /// Shared with its row.
    computed: Rc<Computed>,
    heartbeat: bool,
}

/// An event that changes a profile and asks for no decision.
enum Remembered {
    Login(Box<Login>),
    Label(Box<Label>),
}

/// What is ready before those that its source delivered before it.
enum Stalled {
    /// An event that leaves its record at once.
    Work(Box<Work>),
    /// The model's word on the transaction that waited for it.
    Scored(ModelVerdict),
}

/// What the source delivered before has left.
#[derive(Message)]
#[rtype(result = "()")]
pub struct YourTurn;

/// The model's word on the transaction that waits for it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Scored(pub ModelVerdict);

impl UserActor {
    /// A user with what is remembered.
    pub fn new(memory: Rc<Memory>, partition: Partition, shard: Rc<ShardContext>) -> Self {
        Self { memory, partition, shard, scoring: None, stalled: None, held: VecDeque::new(), alone: 0 }
    }

    /// Whether what comes is to wait.
    fn is_busy(&self) -> bool {
        self.scoring.is_some() || self.stalled.is_some()
    }

    fn is_turn(&self, source: &Source) -> bool {
        self.shard.turns.is_turn(self.partition, source)
    }

    /// Puts off what is ready until the turn of its source.
    fn stall(&mut self, source: &Source, stalled: Stalled, ctx: &Context<Self>) {
        self.stalled = Some(stalled);
        self.shard.turns.wait(self.partition, source, Waiting::User(ctx.address()));
    }

    fn take(&mut self, work: Work, ctx: &Context<Self>) {
        match work {
            // These leave a record at once; a transaction may be ready for its model before.
            Work::Login(..) | Work::Label(..) if !self.is_turn(work.source()) => {
                let source = work.source().clone();
                return self.stall(&source, Stalled::Work(Box::new(work)), ctx);
            }
            Work::Transaction(transaction, ticket) => self.weigh(transaction, ticket, false, ctx),
            Work::Heartbeat(transaction, ticket) => self.weigh(transaction, ticket, true, ctx),
            Work::Login(login, ticket) => self.remember(Remembered::Login(login), ticket),
            Work::Label(label, ticket) => self.remember(Remembered::Label(label), ticket),
            Work::List(change, ticket) => self.relist(*change, ticket),
        }
        if !self.is_busy() {
            self.memory.finished();
        }
    }

    /// First half of a decision: features and rules; then the model is asked.
    fn weigh(
        &mut self,
        mut transaction: Box<Transaction>,
        ticket: Ticket<Settled>,
        heartbeat: bool,
        ctx: &Context<Self>,
    ) {
        let Some(ticket) = ticket.begin(&self.shard.clock) else { return };
        let admission = match heartbeat {
            true => Admission::New,
            false => self.memory.profile().admit_transaction(&transaction, &self.shard.retention),
        };
        let judge = self.shard.judge();
        // It was priced when it was parsed, perhaps by the rates of the generation before this one.
        let price = judge.rules.rates().to_base(transaction.amount);
        let refusal = match (&admission, price) {
            (Admission::New, Ok(base)) => {
                transaction.base = base;
                None
            }
            (Admission::New, Err(why)) => Some(Refusal::Unpriced(why)),
            (Admission::Duplicate { .. }, _) => None,
            (Admission::IdReused, _) => Some(Refusal::IdReused),
            (Admission::TooOld { floor }, _) => Some(Refusal::TooOld { floor: *floor }),
        };
        if (admission != Admission::New || refusal.is_some()) && !self.is_turn(&ticket.source) {
            let (source, work) = (ticket.source.clone(), if heartbeat { Work::Heartbeat } else { Work::Transaction });
            return self.stall(&source, Stalled::Work(Box::new(work(transaction, ticket))), ctx);
        }
        if let Some(refusal) = refusal {
            return self.refuse(ticket, refusal, Completion::TransactionRefused);
        }
        if let Admission::Duplicate { n } = admission {
            return self.answer_again(&transaction, n, ticket);
        }
        let profile = self.memory.profile();
        let mut list_hits = profile.list_hits(&self.memory.user_id, ticket.received_at);
        self.shard.lists.hit(&transaction, ticket.received_at, &mut list_hits);
        let computed = Rc::new(compute(&profile, &transaction, &list_hits, judge.rules.rates().base()));
        let mut rule_hits = Vec::new();
        judge.rules.evaluate(&computed.features, &mut rule_hits);
        drop(profile);
        let row = match (&judge.scorer, self.memory.address()) {
            (None, _) => None,
            // The shard has let go of the actor, which ends: its callers hear of the recovery.
            (Some(_), None) => return,
            (Some(_), Some(user)) => {
                let (judge, computed) = (Rc::clone(&judge), Rc::clone(&computed));
                Some(WaitingRow { judge, user, computed, deadline: ticket.deadline })
            }
        };
        self.scoring =
            Some(Box::new(Scoring { judge, transaction, ticket, list_hits, rule_hits, computed, heartbeat }));
        match row {
            Some(row) => self.ask(row, ctx),
            None => self.decide(ModelVerdict::Absent, ctx),
        }
    }

    /// Has the model score a row: with those of other users, or at once where many of this user's wait behind it. Of a user a
    /// run has one row, so that whoever makes more of the traffic than a row of a run would wait longer and longer.
    fn ask(&mut self, row: WaitingRow, ctx: &Context<Self>) {
        let at_once = self.held.len() >= LONG_LINE && self.alone < MOST_ALONE;
        match at_once.then(|| self.ask_alone(&row)).flatten() {
            Some(verdict) => self.decide(verdict, ctx),
            None => {
                self.alone = 0;
                self.shard.wait_for_score(row);
            }
        }
    }

    fn ask_alone(&mut self, row: &WaitingRow) -> Option<ModelVerdict> {
        let started = self.shard.clock.instant();
        let verdict = scoring::score_alone(&self.shard, row)?;
        self.alone = if self.shard.clock.since(started) < LONG_RUN { self.alone + 1 } else { MOST_ALONE };
        Some(verdict)
    }

    /// Second half: the decision, its record, and only then the profile.
    fn decide(&mut self, model: ModelVerdict, ctx: &Context<Self>) {
        let Some(scoring) = self.scoring.take() else { return };
        if !self.is_turn(&scoring.ticket.source) {
            let source = scoring.ticket.source.clone();
            self.scoring = Some(scoring);
            return self.stall(&source, Stalled::Scored(model), ctx);
        }
        let Scoring { judge, transaction, ticket, list_hits, rule_hits, computed, heartbeat } = *scoring;
        let (source, received_at) = (ticket.source.clone(), ticket.received_at);
        let decided = {
            let decision = judge.rules.decide(DecideInput {
                transaction: &transaction,
                features: &computed.features,
                rule_hits,
                list_hits,
                model,
                window_approximate: computed.approximate,
                received_at,
            });
            Arc::new(Decided {
                transaction: *transaction,
                features: computed.features,
                decision,
                generation: Arc::clone(&judge.generation),
                evaluated_at: self.shard.clock.evaluated_at(received_at),
                latency_us: u32::try_from(self.shard.clock.since(ticket.started).as_micros()).unwrap_or(u32::MAX),
                as_answered: false,
            })
        };
        let answer = Answer { decided: Arc::clone(&decided), durable: false, duplicate: false };
        if heartbeat {
            // Its record is all that it leaves: no profile, list, alert or table hears of it.
            let body = Body::stays(&decided.transaction.user_id, &source);
            self.shard.commit(self.partition, source, received_at, body, Completion::Heartbeat(ticket, answer));
            return;
        }
        let body = Body::Decision(Arc::clone(&decided));
        let n = self.shard.commit(self.partition, source, received_at, body, Completion::Decided(ticket, answer, None));
        self.changed(Change::Decided(&decided.transaction, &decided.decision), n);
        if decided.decision.block_entry.is_some() {
            let profile = self.memory.profile();
            listing::publish(&self.shard, self.partition, &self.memory.user_id, profile.entry(List::Block));
        }
    }

    /// A login or a label.
    fn remember(&mut self, event: Remembered, ticket: Ticket<Accepted>) {
        let Some(ticket) = ticket.begin(&self.shard.clock) else { return };
        let (admission, event_id) = match &event {
            Remembered::Login(login) => {
                (self.memory.profile().admit_login(login, &self.shard.retention), &login.login_id)
            }
            Remembered::Label(label) => {
                (self.memory.profile().admit_label(label, &self.shard.retention), &label.transaction_id)
            }
        };
        let refusal = match admission {
            Admission::New => None,
            Admission::Duplicate { .. } => {
                let done = Accepted { duplicate: true };
                if ticket.original.is_none() {
                    return self.shard.after_commits(Completion::Accepted(ticket, done));
                }
                let body = Body::Duplicate { user_id: (&**self.memory.user_id()).into(), event_id: event_id.clone() };
                let (source, received_at) = (ticket.source.clone(), ticket.received_at);
                self.shard.commit(self.partition, source, received_at, body, Completion::Accepted(ticket, done));
                return;
            }
            Admission::IdReused => Some(Refusal::IdReused),
            Admission::TooOld { floor } => Some(Refusal::TooOld { floor }),
        };
        if let Some(refusal) = refusal {
            return self.refuse(ticket, refusal, Completion::EventRefused);
        }
        let (source, received_at) = (ticket.source.clone(), ticket.received_at);
        let completion = Completion::Accepted(ticket, Accepted { duplicate: false });
        match event {
            Remembered::Login(login) => {
                let body = Body::Login(Login::clone(&login));
                let n = self.shard.commit(self.partition, source, received_at, body, completion);
                self.changed(Change::LoggedIn(&login), n);
            }
            Remembered::Label(label) => {
                let body = Body::Label(Label::clone(&label));
                let n = self.shard.commit(self.partition, source, received_at, body, completion);
                self.changed(Change::Labelled(&label), n);
            }
        }
    }

    /// A change of the user's own list entry.
    fn relist(&mut self, change: ListChange, ticket: Ticket<ListChanged>) {
        let settled = {
            let profile = self.memory.profile();
            listing::settle(&self.shard, self.partition, profile.entry(change.key.list), change, ticket)
        };
        if let Some((change, n)) = settled {
            self.changed(Change::Listed(&change), n);
        }
    }

    fn changed(&mut self, change: Change<'_>, n: u64) {
        self.memory.profile.borrow_mut().apply(change, n, &self.shard.retention);
        let round = self.shard.round();
        if self.memory.marked_for.replace(round) != round {
            self.shard.mark_dirty(&self.memory.user_id);
        }
    }

    /// Refuses an event; one of a source that must leave a record leaves a dead letter (I6).
    fn refuse<T>(
        &self,
        mut ticket: Ticket<T>,
        refusal: Refusal,
        completion: impl FnOnce(Ticket<T>, Refusal) -> Completion,
    ) {
        let Some(original) = ticket.original.take() else { return ticket.answer(Err(refusal)) };
        let body = dead_letter(&refusal, original);
        let (source, received_at) = (ticket.source.clone(), ticket.received_at);
        self.shard.commit(self.partition, source, received_at, body, completion(ticket, refusal));
    }

    /// Answers a transaction that was decided before, once its first record is durable.
    fn answer_again(&self, transaction: &Transaction, n: u64, ticket: Ticket<Settled>) {
        if ticket.original.is_some() {
            // A duplicate of a topic or a file reads nothing: nobody waits for the first answer.
            let body =
                Body::Duplicate { user_id: transaction.user_id.clone(), event_id: transaction.transaction_id.clone() };
            let (source, received_at) = (ticket.source.clone(), ticket.received_at);
            self.shard.commit(self.partition, source, received_at, body, Completion::SeenBefore(ticket));
            return;
        }
        self.shard.answer_again(self.partition, n, transaction, ticket);
    }

    /// Takes what was held back, until something waits for the model again.
    fn take_held(&mut self, ctx: &Context<Self>) {
        while !self.is_busy()
            && let Some(work) = self.held.pop_front()
        {
            self.take(work, ctx);
        }
    }
}

impl Actor for UserActor {
    type Context = Context<Self>;
}

impl Drop for UserActor {
    fn drop(&mut self) {
        // An actor whose handler panics is dropped while it unwinds: before a checkpoint can copy what it has left.
        if std::thread::panicking() {
            self.shard.lose(&self.memory.user_id);
        }
    }
}

impl Handler<Work> for UserActor {
    type Result = ();

    fn handle(&mut self, work: Work, ctx: &mut Context<Self>) {
        if self.is_busy() {
            self.held.push_back(work);
        } else {
            self.take(work, ctx);
        }
    }
}

impl Handler<Scored> for UserActor {
    type Result = ();

    fn handle(&mut self, Scored(verdict): Scored, ctx: &mut Context<Self>) {
        self.decide(verdict, ctx);
        if !self.is_busy() {
            self.memory.finished();
            self.take_held(ctx);
        }
    }
}

impl Handler<YourTurn> for UserActor {
    type Result = ();

    fn handle(&mut self, _: YourTurn, ctx: &mut Context<Self>) {
        match self.stalled.take() {
            Some(Stalled::Work(work)) => self.take(*work, ctx),
            Some(Stalled::Scored(verdict)) => {
                self.decide(verdict, ctx);
                self.memory.finished();
            }
            None => {}
        }
        self.take_held(ctx);
    }
}

/// What a profile shows of itself at `now`.
#[must_use]
pub fn view(user_id: &str, profile: &Profile, shard: &ShardContext, now: verdict_core::time::Timestamp) -> ProfileView {
    let list_hits = profile.list_hits(user_id, now);
    let judge = shard.judge();
    ProfileView {
        user_id: user_id.into(),
        features: verdict_core::features::compute_idle(profile, now, &list_hits, judge.rules.rates().base()).features,
        recent: profile
            .recent_payments()
            .take(VIEW_RECENT)
            .map(|payment| RecentTransaction { at: payment.at, base_minor: payment.minor })
            .collect(),
        retained: profile.payments_retained(),
        last_login: profile
            .last_login(now)
            .map(|login| LastLogin { at: login.at, location: login.location.map(|p| (p.latitude(), p.longitude())) }),
        fraud_labels: profile.labels().filter(|label| label.is_fraud).count(),
        entries: profile.entries().filter(|entry| entry.binds(now)).cloned().collect(),
    }
}

//! One shard: owns its partitions, starts the actors of their users, and moves what they leave for the model and the
//! journal in batches.
//!
//! It decides nothing itself. When an append fails, memory is ahead of the truth (I2): the shard drops every user,
//! closes the context of that epoch, and recovers under a new one.

mod recovering;

use super::appending;
use super::checkpointing;
use super::completion::Completion;
use super::context::{InForce, Judge, ShardContext, Wake};
use super::fallback::Fallback;
use super::listing;
use super::messages::Refusal;
use super::permits::Permits;
use super::recovery::Recovered;
use super::replica::ListReplica;
use super::requests::{Adopt, Checkpoint, Refuse, Relist, Stop, Submit, TellWhenServing, Tick, View};
use super::scoring;
use super::users::{HotBounds, STEPS_PER_TURN, Users};
use crate::journal::checkpoint::{Checkpoints, Marker};
use crate::journal::record::Body;
use crate::journal::spill::Spill;
use crate::journal::{Journal, Partition};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::health::Readiness;
use actix::dev::channel::channel;
use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::error;
use verdict_core::profile::Retention;

/// Messages that a shard's mailbox takes beyond what permits let in: its own wake-ups and timers, and what ends or changes it.
const MAILBOX_RESERVE: usize = 1_024;

/// Time between two ticks of the users' idle time.
const TICK: Duration = Duration::from_secs(1);

/// How long records of topics wait for others to share an append with. Each append costs wake-ups in six threads and a request
/// to a broker, whatever it holds.
const SHARE_FOR: Duration = Duration::from_millis(5);

/// What a shard is made of.
pub struct ShardSettings {
    /// Number of the shard.
    pub shard: u16,
    /// The partitions that it owns.
    pub partitions: Vec<Partition>,
    /// How much profiles keep.
    pub retention: Retention,
    /// How many users are actors, and for how long.
    pub hot: HotBounds,
    /// Rows that the model scores in one run at most; at least one.
    pub max_batch: usize,
    /// The time.
    pub clock: Clock,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Where profiles are saved; `None` keeps them in memory only: a backtest.
    pub checkpoints: Option<Arc<dyn Checkpoints>>,
    /// Where answers are kept whose records are late; `None` gives none.
    pub spill: Option<Arc<Spill>>,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// All list entries, shared by all shards.
    pub lists: Arc<ListReplica>,
    /// Told when the shard serves and when it does not.
    pub readiness: Readiness,
    /// Told when a new epoch of its partitions serves: everything that goes with an epoch begins then.
    pub begun: Begun,
    /// Where counts go.
    pub metrics: Metrics,
    /// What the gateway takes for every event that it sends, and for looks at a user.
    pub permits: Permits,
}

/// What is called with the partitions whose epoch has begun.
pub type Begun = Arc<dyn Fn(&[Partition]) + Send + Sync>;

/// See the module.
pub struct ShardActor {
    settings: ShardSettings,
    judge: InForce,
    serving: Option<Serving>,
    checkpoint_running: bool,
    /// Told when the shard serves.
    waiting: Vec<oneshot::Sender<()>>,
    /// Answers while it does not.
    fallback: Option<Fallback>,
    /// What becomes of payments while it does not.
    meanwhile: Meanwhile,
    /// How often this recovery has looked for answers that were given.
    looks: u32,
    /// The context of the last epoch.
    last: Weak<ShardContext>,
}

/// Starts a shard on the thread that calls it, which must run an arbiter; the shard stays there.
pub type Start = Box<dyn FnOnce() + Send>;

/// What becomes of payments while a shard recovers.
#[derive(Default)]
enum Meanwhile {
    /// The fallback answers them.
    #[default]
    Answer,
    /// They wait for a moment, so that the last answers can be journaled before it serves; permits bound them.
    Hold(Vec<Submit>),
    /// They are refused: what was answered meanwhile has held it up for too long.
    Refuse,
}

/// The users of one epoch.
struct Serving {
    context: Rc<ShardContext>,
    users: Rc<RefCell<Users>>,
}

/// Rows or records wait.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush(Wake);

/// So many steps of the users' hand are due.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep(usize);

impl ShardActor {
    /// A shard that recovers as soon as it is started.
    pub fn new(settings: ShardSettings, judge: Judge) -> Self {
        let judge = Rc::new(RefCell::new(Rc::new(judge)));
        let fallback = Fallback::new(&settings, Rc::clone(&judge));
        Self {
            settings,
            judge,
            serving: None,
            checkpoint_running: false,
            waiting: Vec::new(),
            fallback,
            meanwhile: Meanwhile::Answer,
            looks: 0,
            last: Weak::new(),
        }
    }

    /// The address of a shard, and what starts it; messages wait until then.
    #[must_use]
    pub fn prepare(settings: ShardSettings, judge: Judge) -> (Addr<Self>, Start) {
        let (sender, receiver) = channel(settings.permits.limit() + MAILBOX_RESERVE);
        let start = move || drop(Context::with_receiver(receiver).run(Self::new(settings, judge)));
        (Addr::new(sender), Box::new(start))
    }

    /// Goes on with the payments that were held back.
    fn let_go(&mut self) {
        if let Meanwhile::Hold(held) = std::mem::take(&mut self.meanwhile) {
            held.into_iter().for_each(|submit| self.take(submit));
        }
    }

    fn take(&mut self, submit: Submit) {
        let Submit { partition, work, turn } = submit;
        match (&self.serving, &self.fallback, &mut self.meanwhile) {
            (Some(Serving { context, .. }), ..)
                if turn.is_some_and(|turn| !context.turns.enter(partition, work.source(), turn)) =>
            {
                work.refuse(Refusal::Recovering);
            }
            (Some(serving), ..) => serving.users.borrow_mut().send(partition, work),
            (None, Some(fallback), Meanwhile::Hold(held)) if fallback.can_wait(&work, recovering::LONGEST_HOLD) => {
                held.push(Submit { partition, work, turn });
            }
            (None, Some(fallback), Meanwhile::Answer | Meanwhile::Hold(_)) => fallback.answer(partition, work),
            (None, ..) => work.refuse(Refusal::Recovering),
        }
    }

    fn serve(&mut self, recovered: Recovered, ctx: &mut Context<Self>) {
        let address = ctx.address();
        // A full mailbox would lose a wake-up: there is room beyond the permits for these.
        let wake = Box::new(move |wake| {
            if let Err(error) = address.try_send(Flush(wake)) {
                error!(%error, "a shard cannot wake itself");
            }
        });
        let context = ShardContext::new(
            Rc::clone(&self.judge),
            &self.settings,
            &recovered.tenures,
            &recovered.totals,
            recovered.sources,
            wake,
        );
        recovered.changed.iter().for_each(|id| context.mark_dirty(id));
        recovered.changed_lists.iter().for_each(|partition| context.mark_lists_dirty(*partition));
        let checkpoints = self.settings.checkpoints.clone();
        let users = Users::new(recovered.users, self.settings.hot, Rc::clone(&context), checkpoints);
        if let Some(last) = self.last.upgrade() {
            last.supersede();
        }
        self.last = Rc::downgrade(&context);
        self.serving = Some(Serving { context, users: Rc::new(RefCell::new(users)) });
        // Those who no longer wait are no error.
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
        if let Some(spill) = &self.settings.spill {
            self.settings.readiness.set_spill(spill.level().into());
        }
        self.settings.readiness.set_journal(None);
        self.settings.readiness.set_shard(self.settings.shard, true);
        (self.settings.begun)(&self.settings.partitions);
        self.let_go();
    }

    /// What those share who serve, while it serves.
    pub(super) fn context(&self) -> Option<&Rc<ShardContext>> {
        self.serving.as_ref().map(|serving| &serving.context)
    }

    /// Recovers if the epoch has ended.
    fn recover_if_closed(&mut self, ctx: &mut Context<Self>) {
        let Some(refusal) = self.serving.as_ref().and_then(|serving| serving.context.closed_with()) else { return };
        error!(shard = self.settings.shard, error = %refusal, "dropping state and recovering");
        if let Refusal::JournalUnavailable(_) = refusal {
            self.settings.readiness.set_journal(Some(refusal.to_string().into()));
        }
        self.recover(ctx);
    }
}

impl Drop for ShardActor {
    fn drop(&mut self) {
        // A shard whose handler panics is dropped while it unwinds. Its partitions have no owner any more, and none comes
        // before the next start.
        if std::thread::panicking() {
            error!(shard = self.settings.shard, "a shard panicked; its partitions are not served until the next start");
            self.settings.readiness.lose_shard(self.settings.shard);
        }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.recover(ctx);
        ctx.run_interval(TICK, |_, ctx| ctx.notify(Tick));
        if self.settings.checkpoints.is_some() {
            ctx.run_interval(self.settings.checkpoint_every, |_, ctx| ctx.notify(Checkpoint { done: None }));
        }
    }
}

impl Handler<Submit> for ShardActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, _: &mut Context<Self>) {
        self.take(submit);
    }
}

impl Handler<Tick> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        let Some(serving) = &self.serving else { return };
        let due = serving.users.borrow_mut().tick();
        ctx.notify(Sweep(due));
        // Whatever became of their wake-up, nothing waits for longer than this.
        let context = Rc::clone(&serving.context);
        if !context.rows.borrow().is_empty() {
            scoring::score(&context);
        }
        appending::append(&context);
        self.recover_if_closed(ctx);
    }
}

impl Handler<Sweep> for ShardActor {
    type Result = ();

    fn handle(&mut self, Sweep(due): Sweep, ctx: &mut Context<Self>) {
        let Some(serving) = &self.serving else { return };
        serving.users.borrow_mut().sweep(due.min(STEPS_PER_TURN));
        if due > STEPS_PER_TURN {
            ctx.notify(Sweep(due - STEPS_PER_TURN));
        }
    }
}

impl Handler<Refuse> for ShardActor {
    type Result = ();

    fn handle(&mut self, refuse: Refuse, _: &mut Context<Self>) {
        let Refuse { partition, reason, detail, mut ticket } = refuse;
        let Some(serving) = &self.serving else { return ticket.answer(Err(Refusal::Recovering)) };
        let original = ticket.original.take().unwrap_or_default();
        let (source, received_at) = (ticket.source.clone(), ticket.received_at);
        let body = Body::DeadLetter { reason: reason.into(), detail, original, cut: None };
        let completion = Completion::DeadLetter(ticket, reason);
        serving.context.commit(partition, source, received_at, body, completion);
    }
}

impl Handler<Relist> for ShardActor {
    type Result = ();

    fn handle(&mut self, relist: Relist, _: &mut Context<Self>) {
        match &self.serving {
            Some(serving) => listing::relist(&serving.context, &serving.users, relist),
            None => relist.ticket.answer(Err(Refusal::Recovering)),
        }
    }
}

impl Handler<View> for ShardActor {
    type Result = ();

    fn handle(&mut self, view: View, _: &mut Context<Self>) {
        let viewed = match &self.serving {
            Some(serving) => serving.users.borrow().view(&view.user_id),
            None => Err(Refusal::Recovering),
        };
        view.answer(viewed);
    }
}

impl Handler<TellWhenServing> for ShardActor {
    type Result = ();

    fn handle(&mut self, TellWhenServing(told): TellWhenServing, _: &mut Context<Self>) {
        match self.serving {
            Some(_) => _ = told.send(()),
            None => self.waiting.push(told),
        }
    }
}

impl Handler<Adopt> for ShardActor {
    type Result = ();

    fn handle(&mut self, Adopt(judge): Adopt, _: &mut Context<Self>) {
        // What has begun holds its own generation; what begins from now on takes this one.
        *self.judge.borrow_mut() = Rc::new(judge);
    }
}

impl Handler<Flush> for ShardActor {
    type Result = ();

    fn handle(&mut self, Flush(wake): Flush, ctx: &mut Context<Self>) {
        let Some(serving) = &self.serving else { return };
        match wake {
            Wake::Score => scoring::score(&serving.context),
            Wake::Append => appending::append(&serving.context),
            // Whatever has been appended meanwhile, this one is early at worst.
            Wake::AppendSoon => _ = ctx.notify_later(Flush(Wake::Append), SHARE_FOR),
            Wake::Recover => self.recover_if_closed(ctx),
        }
    }
}

impl Handler<Checkpoint> for ShardActor {
    type Result = ();

    fn handle(&mut self, Checkpoint { done }: Checkpoint, ctx: &mut Context<Self>) {
        let (Some(serving), Some(store)) = (&self.serving, &self.settings.checkpoints) else {
            return tell(done, self.settings.checkpoints.is_none());
        };
        if self.checkpoint_running {
            // The one who waits is served after the one that runs; the timer has another turn.
            if done.is_some() {
                ctx.notify_later(Checkpoint { done }, Duration::from_millis(20));
            }
            return;
        }
        self.checkpoint_running = true;
        let marker = Marker { marks: serving.context.marks(), sources: serving.context.source_offsets() };
        let saving = checkpointing::save(
            Rc::clone(&serving.context),
            Arc::clone(store),
            self.settings.journal.partitions(),
            marker,
            Rc::clone(&serving.users),
            serving.context.take_dirty(),
            serving.context.take_dirty_lists(),
        );
        ctx.spawn(saving.into_actor(self).map(|saved, shard, _| {
            shard.checkpoint_running = false;
            tell(done, saved);
        }));
    }
}

/// One who no longer waits is no error.
fn tell(done: Option<oneshot::Sender<bool>>, saved: bool) {
    if let Some(done) = done {
        let _ = done.send(saved);
    }
}

impl Handler<Stop> for ShardActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        if let Some(serving) = self.serving.take() {
            serving.context.close(&Refusal::Stopping);
        }
        ctx.stop();
    }
}

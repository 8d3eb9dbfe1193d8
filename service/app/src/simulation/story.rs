//! One seed from its first step to its end: lives of the service, each from a start to a crash or a stop, over one disk.
//!
//! Whatever the dice decide is drawn by the one who tells the story, at moments when nothing else can run, so that the
//! same seed is the same story.

use super::alerts::{SimAlerts, StoreFaults};
use super::audit::Audit;
use super::clients::Clients;
use super::followers::{Counts, Follower, Mode};
use super::plan::{ALERTS, DISK, MODEL, ModelFaults, Plan, STORY};
use super::ports::{Rules, SimModel, SimTime};
use super::register::{Moment, Register};
use super::sent::Sent;
use super::service::Service;
use super::step::{FOLLOWERS, Step};
use super::{batches, rest, senders};
use crate::journal::Partition;
use crate::journal::simulated::{Disk, Faults};
use crate::projections::alert_feed::MAX_BEHIND;
use crate::telemetry::clock::virtual_now;
use crate::telemetry::health::Audience;
use crate::traffic::dice::Dice;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;
use verdict_core::time::Timestamp;

/// 2026-11-23T12:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// Why a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Stop,
    /// The story is over.
    Over,
}

/// See the module.
pub(super) struct Story<'a> {
    pub(super) plan: Plan,
    pub(super) rules: &'a Rules,
    pub(super) disk: Disk,
    pub(super) model: Option<SimModel>,
    pub(super) alerts: SimAlerts,
    pub(super) followers: [Rc<Follower>; FOLLOWERS as usize],
    pub(super) dice: Dice,
    pub(super) clients: Rc<RefCell<Clients>>,
    pub(super) audit: Audit,
    pub(super) life: usize,
    pub(super) line: u64,
    wall: Timestamp,
    /// Which rules are in force.
    which: usize,
    step: u32,
    trace: Vec<String>,
}

/// How a story ended.
pub(super) struct Told {
    /// A hash of everything that happened.
    pub(super) fingerprint: u64,
    pub(super) records: usize,
    pub(super) requests: usize,
    pub(super) lives: usize,
    pub(super) followed: [Counts; FOLLOWERS as usize],
}

/// What went wrong, and how it came to that.
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) plan: Plan,
    pub(super) trace: Vec<String>,
}

impl<'a> Story<'a> {
    fn new(plan: Plan, rules: &'a Rules) -> Self {
        let dice = |stream| Dice::new(plan.seed, stream, 0);
        let disk = Disk::new(plan.partitions, dice(DISK));
        Self {
            rules,
            model: plan.model.map(|_| SimModel::new(dice(MODEL))),
            alerts: SimAlerts::new(dice(ALERTS)),
            // One hears of everybody's alerts, the other of one user's.
            followers: [Follower::new(None), Follower::new(Some("u-0".to_owned()))],
            dice: dice(STORY),
            clients: Rc::new(RefCell::new(Clients::new(disk.clone(), plan.retention, plan.http))),
            audit: Audit::new(&plan),
            life: 0,
            line: 0,
            wall: START,
            which: 0,
            step: 0,
            trace: Vec::new(),
            disk,
            plan,
        }
    }

    /// Tells the story of a seed, or only so many of its steps.
    pub(super) fn tell(seed: u64, steps: Option<u32>, rules: &Rules) -> Result<Told, Box<Broken>> {
        let mut story = Story::new(Plan::of(seed, steps), rules);
        match story.lives() {
            Ok(()) => Ok(story.told()),
            Err(what) => Err(Box::new(Broken { what, plan: story.plan, trace: story.trace })),
        }
    }

    fn told(&self) -> Told {
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        self.disk.with_log(|log| format!("{log:?}").hash(&mut hasher));
        let requests = self.clients.borrow().sent.len();
        let records = self.disk.with_log(<[_]>::len);
        let followed = std::array::from_fn(|who| self.followers[who].counts());
        Told { fingerprint: hasher.finish(), records, requests, lives: self.life, followed }
    }

    fn lives(&mut self) -> Result<(), String> {
        self.behave(false);
        loop {
            let end = self.live()?;
            if end == End::Over {
                break;
            }
        }
        // Once more over what the end has left, on a disk that works: everything is still known.
        self.life_of(async |story, service| rest::come_to(story, service).await.map(|()| End::Over)).map(|_| ())
    }

    /// One life of the service.
    fn live(&mut self) -> Result<End, String> {
        let first = self.disk.with_log(<[_]>::len);
        let end = self.life_of(async |story, service| story.happen(service).await)?;
        self.disk.restore_power(end == End::Crash);
        let left = self.clients.borrow().pending();
        if end != End::Crash && left > 0 {
            return Err(format!("I6: the service stopped and left {left} requests without an answer"));
        }
        self.clients.borrow_mut().lose_all();
        self.read_journal()?;
        self.disk.with_log(|log| self.clients.borrow().check_order(self.life, &log[first..]))?;
        self.note(&format!("{end:?}, with {} records", self.disk.with_log(<[_]>::len)));
        Ok(end)
    }

    /// Starts the service on a runtime of its own, whose clock stands still until nothing is left to do, and drops all of
    /// it when `happen` is done, finished or not.
    fn life_of(&mut self, happen: impl AsyncFnOnce(&mut Self, &Service) -> Result<End, String>) -> Result<End, String> {
        self.life += 1;
        self.clients.borrow_mut().reigns = Register::new(self.which);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().expect("a runtime")
        };
        self.alerts.set_power(true);
        let system = actix::System::with_tokio_rt(runtime);
        let (end, runtime) = system.block_on(async {
            let time = SimTime::starting_at(self.wall);
            let service = Service::start(
                &self.plan,
                (self.rules, self.which),
                (&self.disk, &self.alerts),
                self.model.as_ref(),
                time,
            )
            .await;
            if self.plan.http {
                let is_tight = self.plan.alerts_behind < MAX_BEHIND;
                for follower in &self.followers {
                    let (follower, clients) = (Rc::clone(follower), Rc::clone(&self.clients));
                    actix::spawn(follower.run(service.clone(), clients, is_tight));
                }
            }
            let end = happen(self, &service).await;
            self.wall = service.now() + i64::from(self.dice.below(3_000));
            (end, tokio::runtime::Handle::current())
        });
        self.disk.cut_power();
        self.alerts.set_power(false);
        // What is dropped may still ask for a timer.
        let entered = runtime.enter();
        drop(system);
        drop(entered);
        self.followers.iter().for_each(|follower| follower.hang_up());
        end
    }

    /// Everything that happens in a life.
    async fn happen(&mut self, service: &Service) -> Result<End, String> {
        loop {
            if self.step == self.plan.steps {
                rest::come_to(self, service).await?;
                rest::ask_again(self, service).await?;
                rest::stop(self, service).await?;
                return Ok(End::Over);
            }
            self.step += 1;
            let step = Step::draw(&mut self.dice, &self.plan);
            self.note(&format!("{step:?}"));
            let end = self.take(step, service).await?;
            self.look_around(service)?;
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    async fn take(&mut self, step: Step, service: &Service) -> Result<Option<End>, String> {
        // Whatever was started now runs as far as it can before time passes, and nothing runs while the story is told.
        let mut pause_ms = 1;
        match step {
            Step::Send(count) => (0..count).for_each(|_| senders::send(self, service)),
            Step::Batch(count) => batches::send(self, service, count),
            Step::Follow(who, mode) => {
                self.followers[who].set(mode);
                // Long enough for the service to lose its patience.
                pause_ms = if mode == Mode::Sleeps && self.dice.chance(0.3) { self.dice.count(1, 40_000) } else { 1 };
            }
            Step::Wait(ms) => pause_ms = ms,
            Step::Jump(by_ms) => service.time.jump(by_ms),
            Step::Look => rest::look(self, service),
            Step::Sweep => {
                self.audit.lists.sweep(service.now());
                service.lists.sweep(service.now());
            }
            Step::Checkpoint => {
                let gateway = service.gateway.clone();
                actix::spawn(async move { gateway.checkpoint().await });
            }
            Step::Calm(calm) => self.behave(calm),
            Step::Reload => {
                // In the same instant, so that some have begun and are not scored when the others come into force.
                (0..self.dice.below(5)).for_each(|_| senders::send(self, service));
                self.reload(service);
            }
            Step::Rest => {
                rest::come_to(self, service).await?;
                self.behave(false);
            }
            Step::Crash => return Ok(Some(End::Crash)),
            Step::Stop => {
                rest::stop(self, service).await?;
                return Ok(Some(End::Stop));
            }
        }
        tokio::time::sleep(Duration::from_millis(pause_ms.into())).await;
        Ok(None)
    }

    /// Puts the other rules in force, as a reload does when it has read them. What was sent before may be decided by either,
    /// what is sent once every shard has them by these alone (I8).
    fn reload(&mut self, service: &Service) {
        self.which = 1 - self.which;
        let judges = (0..self.plan.shards).map(|_| self.rules.judge(self.which, self.model.clone())).collect();
        let place = {
            let mut clients = self.clients.borrow_mut();
            let asked = clients.tick();
            clients.reigns.write(self.which, (asked, Moment::MAX));
            clients.reigns.len() - 1
        };
        let (gateway, clients) = (service.gateway.clone(), Rc::clone(&self.clients));
        let turns = self.dice.below(6);
        actix::spawn(async move {
            for _ in 0..turns {
                // Behind what is ready now, and before what that makes ready; yielding would come behind both.
                let _ = actix::spawn(async {}).await;
            }
            gateway.adopt(judges).await;
            let mut clients = clients.borrow_mut();
            let done = clients.tick();
            clients.reigns.settle(place, done);
        });
    }

    /// Whether the disk and the model do what they should from here on.
    pub(super) fn behave(&self, well: bool) {
        self.disk.set_faults(if well { Faults::default() } else { self.plan.disk });
        self.alerts.set_faults(if well { StoreFaults::default() } else { self.plan.store });
        if let (Some(model), Some(faults)) = (&self.model, self.plan.model) {
            model.set_faults(if well { ModelFaults::default() } else { faults });
        }
    }

    /// What must hold at every moment.
    pub(super) fn look_around(&mut self, service: &Service) -> Result<(), String> {
        let news = std::mem::take(&mut self.clients.borrow_mut().news);
        for id in news {
            let line = {
                let clients = self.clients.borrow();
                let sent = &clients.sent[id];
                let outcome = sent.outcome.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("  {id} {}: {outcome}", clients.pool.events[sent.event].name())
            };
            self.note(&line);
        }
        if let Some(what) = self.followers.iter().find_map(|follower| follower.broken()).or_else(|| service.breach()) {
            return Err(what);
        }
        if let Some(what) = self.clients.borrow().broken.first().or(self.disk.breaches().first()) {
            return Err(what.clone());
        }
        let (in_flight, limit) = (service.gateway.in_flight(), self.plan.limit);
        if in_flight > limit || self.disk.most_waiting() > limit {
            let waiting = self.disk.most_waiting();
            return Err(format!(
                "I7: expected at most {limit} in flight, found {in_flight}, and {waiting} at the disk"
            ));
        }
        // The books of the handlers: what they counted as refused is what callers were told.
        let (rejected, clients) = (service.rejected(), self.clients.borrow());
        let told = &clients.refused;
        let heard = told.iter().all(|(code, told)| rejected.get(code).is_some_and(|counted| told <= counted));
        if !heard || !clients.waits_for_batches() && rejected != *told {
            return Err(format!("I6: callers were told {told:?}, counted are {rejected:?}"));
        }
        Ok(())
    }

    /// Everything durable so far, against the naive history; and what was answered must be in it.
    pub(super) fn read_journal(&mut self) -> Result<(), String> {
        let Self { audit, clients, disk, rules, .. } = self;
        disk.with_log(|log| audit.read(log, rules, &mut clients.borrow_mut()))?;
        self.clients.borrow().check_lines(&self.audit.lines)
    }

    /// The number of durable records by partition.
    pub(super) fn ends(&self) -> BTreeMap<Partition, u64> {
        let mut ends: BTreeMap<_, _> = (0..self.plan.partitions).map(|partition| (partition, 0)).collect();
        self.disk.with_log(|log| log.iter().for_each(|record| *ends.entry(record.partition).or_default() += 1));
        ends
    }

    /// Notes that an event of the pool is sent now; gives the number of the request.
    pub(super) fn note_sent(
        &self,
        service: &Service,
        event: usize,
        deadline: Option<Duration>,
        line: Option<u64>,
        batch: Option<usize>,
    ) -> usize {
        let mut clients = self.clients.borrow_mut();
        let sent = Sent {
            event,
            life: self.life,
            from: clients.tick(),
            to: None,
            at: virtual_now(),
            wall: service.now(),
            answered_at: None,
            deadline: deadline.map(|deadline| virtual_now() + deadline),
            ready: service.readiness.report(Audience::Operator).ready,
            line,
            batch,
            outcome: None,
            made_it: false,
            lost: false,
        };
        clients.sent.push(sent);
        clients.sent.len() - 1
    }

    pub(super) fn note(&mut self, what: &str) {
        self.trace.push(format!("life {} step {:>3}: {what}", self.life, self.step));
    }
}

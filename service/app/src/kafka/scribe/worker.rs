//! The thread of a scribe: takes jobs, puts them into transactions, and answers.

use super::jobs::{Job, Order, Waiting};
use super::transaction::{Failure, Ledger};
use super::{ScribeError, Shared};
use crate::kafka::Topic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tracing::{error, warn};

/// How long a transaction waits for more jobs while there are none, so that those of many moments share one: a transaction
/// costs its coordinator and every partition in it some writes.
const LINGER: Duration = Duration::from_millis(20);
/// Age at which a transaction takes no more jobs; what it has is then committed within milliseconds (PROTOCOL: 100 ms).
const INTAKE: Duration = Duration::from_millis(80);
/// How long brokers that answer may leave the records of a transaction lying before it is tried again: another leader is
/// found within it. While none answers, nothing is aborted: librdkafka sends everything again once one does, and an abort of
/// what may never have begun would be its end.
const ON_THE_WAY: Duration = Duration::from_secs(5);
/// How long a thread with nothing to do sleeps before it looks what the client has to say.
const IDLE: Duration = Duration::from_millis(500);
/// How long it waits for the client while records are on their way.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Worker {
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    ledger: Ledger,
    waiting: Waiting,
    /// Nobody can send orders any more.
    is_left: bool,
    /// Whether what a former owner published last may hang yet: see `rehearse`.
    may_hang: bool,
}

impl Worker {
    /// Makes the producer and initialises its transactions, within this time.
    pub(super) fn start(shared: Arc<Shared>, orders: Receiver<Order>, within: Duration) -> Result<Self, ScribeError> {
        let ledger = Ledger::open(&shared, within)?;
        Ok(Self { shared, orders, ledger, waiting: Waiting::default(), is_left: false, may_hang: true })
    }

    pub(super) fn run(mut self) {
        let over = loop {
            if let Err(over) = self.next().and_then(|job| self.transact(job)) {
                break over;
            }
        };
        if !matches!(over, ScribeError::Closed { .. }) {
            error!(error = %over, "checkpoints and alerts of a partition stand still until it is taken over; decisions go on");
        }
        self.shared.end(over.clone());
        self.waiting.fail_all(&over);
        // Until nobody can ask any more, so that everybody hears why.
        let refused = self.orders.try_iter().filter_map(|order| match order {
            Order::Write(job) => Some(job),
            Order::Close => None,
        });
        refused.for_each(|job| job.answer(Err(over.clone())));
    }

    /// The next job, or why there is none.
    fn next(&mut self) -> Result<Job, ScribeError> {
        loop {
            self.take_orders();
            if self.shared.is_due() {
                return Err(self.shared.closed());
            }
            if let Some(lost) = self.ledger.lost() {
                return Err(lost);
            }
            let now = self.shared.clock.instant();
            if let Some(job) = self.waiting.next(now) {
                return Ok(job);
            }
            if self.waiting.is_empty() && (self.is_left || self.shared.until().is_some()) {
                return Err(self.shared.closed());
            }
            let wait = self.waiting.until_next(now).unwrap_or(IDLE).min(IDLE);
            self.wait(wait);
        }
    }

    /// Waits for an order, no longer than this, and hears what the client has to say.
    fn wait(&mut self, wait: Duration) {
        if self.is_left {
            std::thread::sleep(wait);
        } else {
            match self.orders.recv_timeout(wait) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.is_left = true,
            }
        }
        self.ledger.hear();
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.take(order);
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Write(job) => self.waiting.push(job),
            // When it must end is looked up all the time.
            Order::Close => {}
        }
    }

    /// One transaction, with this job and others that came. An error ends the scribe.
    fn transact(&mut self, first: Job) -> Result<(), ScribeError> {
        let mut jobs = vec![first];
        let written = self.rehearse(&mut jobs).and_then(|()| self.write(&mut jobs)).and_then(|()| self.ledger.commit());
        let failed = match written {
            Ok(()) => {
                jobs.into_iter().for_each(|job| job.answer(Ok(())));
                return Ok(());
            }
            Err(Failure::Passing(why)) => self.ledger.abort().map(|()| why),
            Err(Failure::Over(over)) => Err(over),
        };
        match failed {
            Ok(why) => {
                let partition = self.shared.partition;
                let retry = self.waiting.take_back(jobs, self.shared.clock.instant());
                warn!(
                    partition,
                    retry_ms = retry.as_millis() as u64,
                    "a transaction was aborted and is tried again: {why}"
                );
                Ok(())
            }
            Err(over) => {
                jobs.into_iter().for_each(|job| job.answer(Err(over.clone())));
                Err(over)
            }
        }
    }

    /// Writes what goes out first, and aborts it, before it is written for good. What the former owner published last and what
    /// says so were to be committed together. If neither was, the second was aborted as this scribe began, and the first may
    /// hang where this comes to lie, since the same is published again: it must not be committed with it.
    fn rehearse(&mut self, jobs: &mut Vec<Job>) -> Result<(), Failure> {
        let profiles = self.shared.settings.topic(Topic::Profiles);
        let goes_out = |job: &Job| job.messages.iter().any(|message| message.topic != profiles);
        if !self.may_hang || !jobs.iter().any(goes_out) {
            return Ok(());
        }
        self.write(jobs)?;
        self.ledger.abort().map_err(Failure::Over)?;
        self.may_hang = false;
        Ok(())
    }

    /// Sends the job, and those that come while its transaction is young, until all of it is there.
    fn write(&mut self, jobs: &mut Vec<Job>) -> Result<(), Failure> {
        let clock = self.shared.clock.clone();
        let begun = clock.instant();
        let mut patient_since = begun;
        let alone = jobs.iter().any(Job::goes_alone);
        self.ledger.begin()?;
        for message in jobs.iter().flat_map(|job| &job.messages) {
            self.ledger.send(message)?;
        }
        loop {
            let age = clock.since(begun);
            self.take_orders();
            if !alone
                && age < INTAKE
                && let Some(job) = self.waiting.next_untried()
            {
                let sent = job.messages.iter().try_for_each(|message| self.ledger.send(message));
                jobs.push(job);
                sent?;
                self.ledger.hear();
                continue;
            }
            let lingers = !alone && age < LINGER && !self.is_left && self.shared.until().is_none();
            if !lingers && self.ledger.on_the_way() == 0 {
                return Ok(());
            }
            self.ledger.check(false)?;
            if clock.since(patient_since) > ON_THE_WAY {
                self.ledger.check(self.ledger.is_answered())?;
                patient_since = clock.instant();
            }
            self.wait(if lingers { LINGER.saturating_sub(age) } else { LOOK });
        }
    }
}

//! The one writer: a thread that admits what the shards append, in the order in which it was queued, and produces it.
//!
//! It never waits for a broker. A record is durable when the tail has read it back; what librdkafka reports is only what
//! went wrong for good, and then the epoch of that partition ends. Without an answer it sends again for ever, in order and
//! once, until it says that it cannot keep that promise any more: then every epoch ends, and the next take-over makes a new
//! producer.

use super::Shared;
use super::consumer::drop_aside;
use super::entry::{self, Claim, Entry};
use super::flight::{AppendDone, Outcome, Size, TakeOverDone};
use super::tail::Follow;
use crate::journal::ledger::Key;
use crate::journal::{AppendError, JournalError, Partition};
use crate::kafka::{ClientLog, KafkaSettings};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the writer waits for work before it looks at reports and at the time.
const TICK: Duration = Duration::from_millis(20);
/// Commands that are admitted under one lock.
const MAX_ADMITTED: usize = 256;
/// Events of librdkafka that are looked at between two waits; one may be about many records.
const MAX_REPORTS: usize = 8;
/// A take-over is given up when nothing of its partitions was read for so long.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(30);

/// What callers want of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Append(Queued),
    TakeOver(Vec<Partition>, TakeOverDone),
    /// Let what is under way come back until then, and end.
    Close(Instant),
    /// Have librdkafka find that it cannot keep its promise.
    #[cfg(test)]
    BreakProducer,
}

/// An encoded append.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) keys: Vec<Key>,
    /// The entries, one behind the other.
    pub(super) entries: Vec<u8>,
    /// Where each of them ends.
    pub(super) ends: Vec<usize>,
    pub(super) done: AppendDone,
}

impl Queued {
    pub(super) fn size(&self) -> Size {
        Size { bytes: self.entries.len(), records: self.keys.len() }
    }
}

/// Something that librdkafka gave up.
struct GivenUp {
    partition: Partition,
    /// The epoch of a record; `None` for the entry of an epoch.
    epoch: Option<u64>,
    error: KafkaError,
}

/// Hears of what is given up.
struct Reports {
    log: ClientLog,
    partitions: Partition,
    given_up: Mutex<Vec<GivenUp>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let Ok(partition) = Partition::try_from(message.partition()) else { return };
        let entry = Entry::parse(message.payload().unwrap_or_default(), partition, self.partitions);
        let epoch = match entry {
            Ok(Entry::Record { epoch, .. }) => Some(epoch),
            _ => None,
        };
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.push(GivenUp { partition, epoch, error: error.clone() });
    }
}

type JournalProducer = BaseProducer<Reports>;

fn producer(settings: &KafkaSettings, partitions: Partition) -> Result<JournalProducer, JournalError> {
    let mut config = settings.producer();
    // The tail reads what landed; only failures are of interest, and a report a record would cost as much as the record.
    config.set("delivery.report.only.error", "true");
    let reports = Reports { log: settings.log("journal"), partitions, given_up: Mutex::default() };
    let made = JournalProducer::from_config_and_context(&config, reports);
    made.map_err(|error| JournalError::Store(settings.explain(&error).to_string().into()))
}

/// See the module.
pub(super) struct Writer {
    settings: KafkaSettings,
    shared: Arc<Shared>,
    queue: Receiver<Command>,
    follow: Sender<Follow>,
    producer: JournalProducer,
    /// Why the producer is of no more use.
    broken: Option<AppendError>,
    /// The next claim; nobody else has one that is near.
    claim: Claim,
    outcomes: Vec<Outcome>,
}

impl Writer {
    pub(super) fn new(
        settings: KafkaSettings,
        shared: Arc<Shared>,
        queue: Receiver<Command>,
        follow: Sender<Follow>,
        claim: Claim,
    ) -> Result<Self, JournalError> {
        let producer = producer(&settings, shared.partitions)?;
        Ok(Self { settings, shared, queue, follow, producer, broken: None, claim, outcomes: Vec::new() })
    }

    /// Runs until it is told to close, or nobody is left who could.
    pub(super) fn run(mut self) {
        let mut until = None;
        loop {
            match self.queue.recv_timeout(TICK) {
                Ok(first) => {
                    if let Some(instant) = self.work(first) {
                        until = Some(instant);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => until = Some(self.shared.clock.instant()),
            }
            self.look_at_reports();
            self.give_up_take_overs();
            self.tell();
            if let Some(until) = until
                && (self.shared.flight().is_empty() || self.shared.clock.instant() >= until)
            {
                return self.end();
            }
        }
    }

    /// Works on a command and those that wait behind it; gives the time of a close among them.
    fn work(&mut self, first: Command) -> Option<Instant> {
        let (mut until, mut admitted, mut next) = (None, Vec::new(), Some(first));
        for left in (0..MAX_ADMITTED).rev() {
            match next.take() {
                Some(Command::Append(append)) => admitted.push(append),
                Some(Command::TakeOver(partitions, done)) => {
                    self.append(&mut admitted);
                    self.take_over(partitions, done);
                }
                Some(Command::Close(instant)) => until = Some(instant),
                #[cfg(test)]
                Some(Command::BreakProducer) => {
                    self.append(&mut admitted);
                    break_producer(&self.producer);
                }
                None => break,
            }
            if left > 0 {
                next = self.queue.try_recv().ok();
            }
        }
        self.append(&mut admitted);
        until
    }

    fn append(&mut self, queued: &mut Vec<Queued>) {
        if queued.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut flight = shared.flight();
        let mut entries: Vec<(Vec<Key>, Vec<u8>, Vec<usize>)> = Vec::with_capacity(queued.len());
        for queued in queued.drain(..) {
            let size = queued.size();
            let Queued { keys, entries: bytes, ends, done } = queued;
            if flight.admit(&keys, size, done, &mut self.outcomes) {
                entries.push((keys, bytes, ends));
            }
        }
        drop(flight);
        for (keys, bytes, ends) in entries {
            let mut start = 0;
            for (key, end) in keys.iter().zip(ends) {
                if let Err(error) = self.produce(key.partition, &bytes[start..end]) {
                    self.shared.flight().fail(key.partition, Some(key.epoch), &error, &mut self.outcomes);
                }
                start = end;
            }
        }
        self.tell();
    }

    fn produce(&self, partition: Partition, entry: &[u8]) -> Result<(), AppendError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let record = BaseRecord::<(), [u8]>::to(&self.shared.topic).partition(partition.into()).payload(entry);
        self.producer.send(record).map_err(|(error, _)| self.not_written(&error))
    }

    fn not_written(&self, error: &KafkaError) -> AppendError {
        AppendError::Store(self.settings.explain(error).to_string().into())
    }

    fn take_over(&mut self, partitions: Vec<Partition>, done: TakeOverDone) {
        if let Err(error) = self.mend() {
            return self.outcomes.push(Outcome::TakeOver(done, Err(error)));
        }
        self.claim = self.claim.wrapping_add(1);
        let now = self.shared.clock.instant();
        let claimed = self.shared.flight().take_over(partitions.clone(), self.claim, now, done, &mut self.outcomes);
        if !claimed {
            return;
        }
        for partition in partitions {
            // A tail that is gone has said so to all that wait.
            let _ = self.follow.send(Follow(partition));
            let mut entry = Vec::new();
            entry::push_epoch(partition, self.shared.partitions, self.claim, &mut entry);
            if let Err(error) = self.produce(partition, &entry) {
                let error = JournalError::Store(error.to_string().into());
                self.shared.flight().give_up(Some(partition), None, &error, &mut self.outcomes);
            }
        }
    }

    /// Makes a new producer, if the one there is cannot go on.
    fn mend(&mut self) -> Result<(), JournalError> {
        if self.broken.is_some() {
            let old = std::mem::replace(&mut self.producer, producer(&self.settings, self.shared.partitions)?);
            self.broken = None;
            drop_aside(old);
        }
        Ok(())
    }

    /// Ends the epochs of what was given up, and all of them if the producer cannot go on.
    fn look_at_reports(&mut self) {
        if self.broken.is_some() {
            return;
        }
        // A call takes one event, which may also be a line for the log.
        for _ in 0..MAX_REPORTS {
            self.producer.poll(Duration::ZERO);
        }
        let reports = &self.producer.client().context().given_up;
        let given_up = std::mem::take(&mut *reports.lock().unwrap_or_else(PoisonError::into_inner));
        for GivenUp { partition, epoch, error } in given_up {
            let error = self.not_written(&error);
            tracing::error!(partition, %error, "an entry of the journal was refused; its owner recovers");
            let mut flight = self.shared.flight();
            if epoch.is_some() {
                flight.fail(partition, epoch, &error, &mut self.outcomes);
            } else {
                let error = JournalError::Store(error.to_string().into());
                flight.give_up(Some(partition), None, &error, &mut self.outcomes);
            }
        }
        if let Some((code, why)) = self.producer.client().fatal_error() {
            let why = self.producer.client().context().log.hide(&why);
            tracing::error!(%code, why, "the journal's producer cannot go on; every epoch ends, and owners recover");
            let error = AppendError::Store(format!("its producer cannot go on: {why}").into());
            let shared = Arc::clone(&self.shared);
            let mut flight = shared.flight();
            flight.fail_all(&error, &mut self.outcomes);
            flight.give_up(None, None, &JournalError::Store(error.to_string().into()), &mut self.outcomes);
            drop(flight);
            self.broken = Some(error);
        }
    }

    fn give_up_take_overs(&mut self) {
        if let Some(before) = self.shared.clock.instant().checked_sub(TAKE_OVER_LIMIT) {
            let seconds = TAKE_OVER_LIMIT.as_secs();
            let error = JournalError::Store(format!("nothing came back from the brokers for {seconds} s").into());
            self.shared.flight().give_up(None, Some(before), &error, &mut self.outcomes);
        }
    }

    fn tell(&mut self) {
        self.shared.tell(&mut self.outcomes);
    }

    /// Refuses what is left. What is in librdkafka's hands is dropped: its outcome stays unknown, as its callers hear.
    fn end(mut self) {
        let shared = Arc::clone(&self.shared);
        let closed = JournalError::Store("the journal is closed".into());
        let mut flight = shared.flight();
        flight.fail_all(&AppendError::Closed, &mut self.outcomes);
        flight.give_up(None, None, &closed, &mut self.outcomes);
        drop(flight);
        // The tail ends with it.
        shared.closed.store(true, Ordering::Release);
        self.tell();
        drop_aside(self.producer);
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "librdkafka's own way to test how a client takes a fatal error")]
fn break_producer(producer: &JournalProducer) {
    use rdkafka::bindings;
    use rdkafka::types::RDKafkaRespErr;
    let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // SAFETY: the client outlives the call, and the text ends with a zero.
    unsafe { bindings::rd_kafka_test_fatal_error(producer.client().native_ptr(), code, c"a test".as_ptr()) };
}

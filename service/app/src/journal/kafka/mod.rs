//! The journal on Kafka: topic `verdict.journal`, one record an entry, a partition of the topic for each of the journal's
//! (PROTOCOL, "Journal").
//!
//! `writer` produces what shards append, `tail` reads it back, and only what it has read and what counts is durable. Many
//! appends are on their way at a time. An epoch is the offset of its entry, which a take-over writes and reads before
//! anybody gets a tenure; whoever reads a newer one has lost the partition, whatever it still writes.
//!
//! An append whose fate is unknown is not failed early: librdkafka sends it again until a broker answers. Whoever cannot
//! wait so long has a deadline of its own.

mod consumer;
mod counting;
mod entry;
mod flight;
mod places;
mod proof;
mod reader;
mod recent;
mod tail;
#[cfg(test)]
pub(super) mod tests;
mod topic;
mod writer;

use super::record::Record;
use super::{AppendError, Cursor, Journal, JournalError, Partition, Position, Tenure, Wanted};
use crate::kafka::KafkaSettings;
use crate::telemetry::clock::Clock;
use consumer::Pool;
use entry::Claim;
use flight::{AppendDone, Flight, Outcome};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use places::Places;
use recent::Recent;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tail::Tail;
use tokio::sync::{oneshot, watch};
use writer::{Command, Queued, Writer};

/// Appends that may wait for the writer (I7). Shards bound what they have in flight far below; this is the last line.
const MAX_QUEUED: usize = 65_536;
/// Bytes and records that may be on their way (I7), both below what librdkafka may hold.
const MAX_BYTES: usize = 96 << 20;
const MAX_RECORDS: usize = 150_000;
/// Bytes of records that stay in memory once they are read, for readers that follow closely (I7).
const RECENT_BYTES: usize = 64 << 20;
/// What the entries of an append start with for each record: most records fit.
const USUAL_ENTRY_BYTES: usize = 512;
/// How long a journal that is dropped without a close waits for what is on its way.
const DROP_LIMIT: Duration = Duration::from_secs(2);
/// How long its threads may take to end after that; both look up several times in it.
const END_LIMIT: Duration = Duration::from_secs(1);

/// See the module.
pub struct KafkaJournal {
    queue: SyncSender<Command>,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// Ends when both threads have.
    ended: Mutex<Receiver<()>>,
}

/// What the threads and the callers share.
struct Shared {
    topic: Arc<str>,
    partitions: Partition,
    clock: Clock,
    opened: Instant,
    flight: Mutex<Flight>,
    places: Vec<Mutex<Places>>,
    recent: Vec<Mutex<Recent>>,
    durable: watch::Sender<Vec<u64>>,
    waiting_bytes: AtomicUsize,
    waiting_records: AtomicUsize,
    /// When the tail last looked for records, in milliseconds since `opened`.
    polled_ms: AtomicU64,
    /// Whether nothing more is taken.
    closing: AtomicBool,
    /// Whether everybody is to end.
    closed: AtomicBool,
}

impl Shared {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self, partition: Partition) -> MutexGuard<'_, Places> {
        self.places[usize::from(partition)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self, partition: Partition) -> MutexGuard<'_, Recent> {
        self.recent[usize::from(partition)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody. Nobody may hold the lock of what is under way.
    fn tell(&self, outcomes: &mut Vec<Outcome>) {
        for outcome in outcomes.drain(..) {
            // Whoever dropped the future does not want to know.
            match outcome {
                Outcome::Append { done, result, size } => {
                    self.take_off(size);
                    let _ = done.send(result);
                }
                Outcome::TakeOver(done, result) => drop(done.send(result)),
            }
        }
    }

    fn take_off(&self, size: flight::Size) {
        self.waiting_bytes.fetch_sub(size.bytes, Ordering::Relaxed);
        self.waiting_records.fetch_sub(size.records, Ordering::Relaxed);
    }

    fn note_poll(&self) {
        let since = self.clock.since(self.opened).as_millis();
        self.polled_ms.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl KafkaJournal {
    /// Opens the journal in its topic, which must be there with so many partitions, and be set up to keep what it is given.
    /// Nothing is read before a take-over.
    ///
    /// # Errors
    /// When the brokers do not answer, or the topic is not what the protocol asks for; all faults are named at once.
    pub async fn open(settings: KafkaSettings, partitions: Partition, clock: Clock) -> Result<Self, JournalError> {
        let topic = topic::check(settings.clone(), partitions).await?;
        let shared = Arc::new(Shared {
            topic,
            partitions,
            opened: clock.instant(),
            clock,
            flight: Mutex::new(Flight::new(partitions)),
            places: (0..partitions).map(|_| Mutex::default()).collect(),
            recent: (0..partitions).map(|_| Mutex::new(Recent::new(RECENT_BYTES / usize::from(partitions)))).collect(),
            durable: watch::Sender::new(vec![0; partitions.into()]),
            waiting_bytes: AtomicUsize::new(0),
            waiting_records: AtomicUsize::new(0),
            polled_ms: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let (queue, commands) = mpsc::sync_channel(MAX_QUEUED);
        let (follow, followed) = mpsc::channel();
        let (ends, ended) = mpsc::channel::<()>();
        let tail = Tail::new(settings.clone(), Arc::clone(&shared), followed)?;
        let writer = Writer::new(settings.clone(), Arc::clone(&shared), commands, follow, unlike_any_other())?;
        let end = ends.clone();
        start("journal-tail", move || {
            tail.run();
            drop(end);
        })?;
        start("journal", move || {
            writer.run();
            drop(ends);
        })
        // The tail has nobody left to work for.
        .inspect_err(|_| shared.closed.store(true, Ordering::Release))?;
        Ok(Self { queue, shared, pool: Arc::new(Pool::new(settings)), ended: Mutex::new(ended) })
    }

    /// When the tail last looked for records. It looks many times a second, whether or not there are any; one that has not
    /// done so for seconds hangs, and nothing will become durable.
    #[must_use]
    pub fn tail_polled(&self) -> Instant {
        self.shared.opened + Duration::from_millis(self.shared.polled_ms.load(Ordering::Relaxed))
    }

    /// Takes nothing more, waits for what is on its way, `within` this time and no longer, and ends both threads, which takes
    /// a second more at most, whatever the brokers do. What did not come back by then fails with `Closed`, and so do reads
    /// under way; an append that failed so may still count. Blocks.
    pub fn close(&self, within: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        let until = self.shared.clock.instant() + within;
        // A queue that is full, or a writer that is gone, is not waited for.
        let told = self.queue.try_send(Command::Close(until)).is_ok();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if told && ended.recv_timeout(within + END_LIMIT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the journal's threads have not ended in time");
        }
        self.shared.closed.store(true, Ordering::Release);
        self.pool.close();
    }

    fn enqueue(&self, records: &[Record], done: AppendDone) -> Result<(), AppendError> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let queued = encode(records, done)?;
        let size = queued.size();
        let bytes = self.shared.waiting_bytes.fetch_add(size.bytes, Ordering::Relaxed) + size.bytes;
        let waiting = self.shared.waiting_records.fetch_add(size.records, Ordering::Relaxed) + size.records;
        let full = |what: String| Err(AppendError::Store(format!("expected at most {what} on their way").into()));
        let sent = if bytes > MAX_BYTES {
            full(format!("{MAX_BYTES} bytes"))
        } else if waiting > MAX_RECORDS {
            full(format!("{MAX_RECORDS} records"))
        } else {
            match self.queue.try_send(Command::Append(queued)) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(_)) => full(format!("{MAX_QUEUED} appends")),
                Err(TrySendError::Disconnected(_)) => Err(AppendError::Closed),
            }
        };
        if sent.is_err() {
            // The owner's next append leaves a gap, which ends its epoch.
            self.shared.take_off(size);
        }
        sent
    }
}

fn encode(records: &[Record], done: AppendDone) -> Result<Queued, AppendError> {
    let mut entries = Vec::with_capacity(records.len() * USUAL_ENTRY_BYTES);
    let (mut keys, mut ends) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
    for record in records {
        entry::push_record(record, &mut entries).map_err(|what| AppendError::Store(what.into()))?;
        keys.push(record.into());
        ends.push(entries.len());
    }
    Ok(Queued { keys, entries, ends, done })
}

/// A number that no other process, and no other journal in this one, starts from.
fn unlike_any_other() -> Claim {
    // The keys of the standard library's hash maps come from the system.
    let random = RandomState::new();
    Claim::from(random.hash_one(0_u8)) << 64 | Claim::from(random.hash_one(1_u8))
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), JournalError> {
    let failed = |error: std::io::Error| JournalError::Store(format!("its thread cannot start: {error}").into());
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(failed)
}

impl Journal for KafkaJournal {
    fn partitions(&self) -> Partition {
        self.shared.partitions
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        let (done, tenures) = oneshot::channel();
        let closed = || JournalError::Store("the journal is closed".into());
        if self.shared.closing.load(Ordering::Acquire) {
            return ready(Err(closed())).boxed();
        }
        match self.queue.try_send(Command::TakeOver(partitions, done)) {
            Ok(()) => tenures.map(move |tenures| tenures.unwrap_or_else(|_| Err(closed()))).boxed(),
            Err(TrySendError::Disconnected(_)) => ready(Err(closed())).boxed(),
            Err(TrySendError::Full(_)) => {
                let what = format!("expected at most {MAX_QUEUED} appends on their way");
                ready(Err(JournalError::Store(what.into()))).boxed()
            }
        }
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        let (done, outcome) = oneshot::channel();
        match self.enqueue(&records, done) {
            Ok(()) => outcome.map(|outcome| outcome.unwrap_or(Err(AppendError::Closed))).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        reader::replay(Arc::clone(&self.shared), Arc::clone(&self.pool), from, wanted)
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let known = self.shared.places.get(usize::from(partition)).is_some();
        let beyond = || self.shared.places(partition).reached().is_some_and(|reached| n >= reached.n);
        if !known || beyond() {
            return ready(Ok(None)).boxed();
        }
        reader::read(Arc::clone(&self.shared), Arc::clone(&self.pool), partition, n).boxed()
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.shared.durable.subscribe()
    }

    fn position(&self, partition: Partition, n: u64) -> Option<Position> {
        self.shared.places.get(usize::from(partition))?;
        self.shared.places(partition).nearest(n).exact(n)
    }

    fn locate(&self, positions: &[(Partition, Position)]) {
        for (partition, position) in positions {
            if usize::from(*partition) < self.shared.places.len() {
                self.shared.places(*partition).learn(*position);
            }
        }
    }

    fn locate_proven(&self, positions: Vec<(Partition, Position)>) -> BoxFuture<'_, Result<(), JournalError>> {
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
        reader::blocking(move || proof::learn(&shared, &pool, &positions)).boxed()
    }

    fn first(&self, partition: Partition) -> u64 {
        let known = self.shared.places.get(usize::from(partition)).is_some();
        let first = known.then(|| self.shared.places(partition).first()).flatten();
        first.map_or(0, |first| first.n)
    }

    fn begin_at(&self, positions: &[(Partition, Position)]) {
        for (partition, first) in positions {
            if usize::from(*partition) < self.shared.places.len() {
                self.shared.places(*partition).begin_at(*first);
            }
        }
    }
}

impl Drop for KafkaJournal {
    fn drop(&mut self) {
        if !self.shared.closing.load(Ordering::Acquire) {
            self.close(DROP_LIMIT);
        }
    }
}

//! The embedded journal: an append-only log in segments, `journal/NUMBER.log` in the data directory (ADR 0006).
//!
//! One thread writes for all partitions: everything that waits becomes one batch, one write and one sync. Readers open
//! the files for themselves and never hold it up. A batch is written only after the one before it is on the disk, so a
//! crash can tear the last one only, which nobody was told of; it is cut off with a warning at the next start. Any other
//! damage is refused with file and batch: a journal that lost a batch would decide on a history that answers have left
//! behind.

mod alerts;
mod batch;
pub(super) mod disk;
mod observer;
mod reader;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use observer::JournalObserver;

use super::codec::{DecodeError, Decoder};
use super::record::Record;
use super::{AppendError, Cursor, DirLock, Journal, JournalError, Partition, Tenure, Wanted};
use alerts::LastAlerts;
use disk::{Disk, RealDisk, explain};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use scan::Tail;
use segment::{Floors, Header, Segment};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Command, Place, Queued, Writer};

/// Most partitions: every batch carries 8 bytes for each.
const MAX_PARTITIONS: Partition = 1_024;
/// Appends that may wait (I7). Shards bound what they have in flight far below; this is the last line.
const MAX_WAITING: usize = 65_536;
/// Bytes that may wait (I7), so that large dead letters cannot fill the memory.
const MAX_WAITING_BYTES: usize = 256 << 20;
/// Bodies that are kept for the next appends, and bytes of each: more than a shard's batch of the model has.
const MAX_SPARES: usize = 64;
const MAX_SPARE_BYTES: usize = 64 << 10;
/// What a body starts with for each record: most records of version 1 fit.
const USUAL_RECORD_BYTES: usize = 512;
/// Bytes of alerts that are kept for a projection that keeps up: over a thousand, and it comes every 50 ms.
const ALERT_BYTES: usize = 1 << 20;
/// Indexes of older segments that are kept, each of some 100 KiB with 12 partitions.
const MAX_INDEXES: usize = 8;

/// How the log lies on the disk.
#[derive(Clone, Debug)]
struct Layout {
    /// A segment is closed before it would be longer; one batch is never split.
    segment_bytes: u64,
    /// Zeros that are kept written ahead of the batches, so that a sync has no new length to store.
    space_bytes: u64,
    /// Bytes of alerts that are kept in memory.
    alert_bytes: usize,
    disk: Arc<dyn Disk>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, space_bytes: 4 << 20, alert_bytes: ALERT_BYTES, disk: Arc::new(RealDisk) }
    }
}

/// See the module. Dropping it writes what waits and ends the writer.
#[derive(Debug)]
pub struct LogJournal {
    queue: Option<mpsc::Sender<Command>>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer tells the others.
#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    durable: watch::Sender<Vec<u64>>,
    /// Number of the last durable batch; raised before `durable` is.
    last_seq: AtomicU64,
    /// Those in durable batches; kept while `durable` is raised.
    alerts: Mutex<LastAlerts>,
    waiting_bytes: AtomicUsize,
    spares: Spares,
}

impl Shared {
    fn alerts(&self) -> MutexGuard<'_, LastAlerts> {
        // Nothing under this lock leaves anything half done, whatever happened to another holder.
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a log.
#[derive(Debug)]
struct Log {
    partitions: Partition,
    /// In their order, at least one.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    /// Older segments with an index, the latest use of a missing one last.
    indexed: Mutex<VecDeque<Arc<Segment>>>,
}

impl Log {
    fn new(segments: Vec<Arc<Segment>>) -> Self {
        // invariant: a header holds at most 65,535 counts
        let partitions = segments.first().map_or(0, |first| first.header.counts.len()) as Partition;
        Self { partitions, segments: RwLock::new(Arc::new(segments)), indexed: Mutex::default() }
    }

    /// The log in a folder, `None` if it holds no segment.
    fn load(folder: &Path) -> Result<Option<Self>, JournalError> {
        let segments = segment::list(folder)?;
        Ok((!segments.is_empty()).then(|| Self::new(segments)))
    }

    fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn last(&self) -> Arc<Segment> {
        let segments = self.segments();
        // invariant: there is at least one
        Arc::clone(&segments[segments.len() - 1])
    }

    /// Adds the segment that is written from now on.
    fn push(&self, segment: Arc<Segment>) {
        let before = self.last();
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let longer = segments.iter().cloned().chain([segment]).collect();
        *segments = Arc::new(longer);
        drop(segments);
        self.keep_index(&before);
    }

    /// Bounds the indexes that are kept, this one being the latest.
    fn keep_index(&self, segment: &Arc<Segment>) {
        let mut indexed = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        indexed.retain(|known| !Arc::ptr_eq(known, segment));
        indexed.push_back(Arc::clone(segment));
        if indexed.len() > MAX_INDEXES
            && let Some(oldest) = indexed.pop_front()
        {
            oldest.forget_index();
        }
    }

    fn floors(&self, cursor: &[(Partition, u64)]) -> Result<Floors, JournalError> {
        let mut floors = vec![u64::MAX; usize::from(self.partitions)];
        for &(partition, n) in cursor {
            match floors.get_mut(usize::from(partition)) {
                Some(from) => *from = n.min(*from),
                None => {
                    let what = format!("expected a partition below {}, found {partition}", self.partitions);
                    return Err(JournalError::Store(what.into()));
                }
            }
        }
        Ok(Floors(floors))
    }
}

impl LogJournal {
    /// Opens the journal of a data directory; creates it where missing. The number of partitions is fixed when it is
    /// created. The writer holds the directory until it has written its last byte, whoever else lets go of it.
    ///
    /// # Errors
    /// When it cannot be opened, has another number of partitions, or its last segment is damaged.
    pub async fn open(lock: DirLock, partitions: Partition) -> Result<Self, JournalError> {
        reader::blocking(move || Self::open_now(lock, partitions, Layout::default())).await
    }

    fn open_now(lock: DirLock, partitions: Partition, layout: Layout) -> Result<Self, JournalError> {
        let dir = lock.dir();
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let what = format!("expected 1 to {MAX_PARTITIONS} partitions, found {partitions}");
            return Err(JournalError::Store(what.into()));
        }
        refuse_older_layout(dir)?;
        let folder = folder_in(dir);
        make_folder(dir, &folder)?;
        let log = match Log::load(&folder)? {
            Some(log) => log,
            None => first_segment(&folder, partitions, &layout)?,
        };
        let created = log.partitions;
        if created != partitions {
            let what = format!(
                "{} was created with {created} partitions, the configuration says {partitions}; set data.partitions = \
                 {created}, or use another data directory",
                folder.display()
            );
            return Err(JournalError::Store(what.into()));
        }
        let segment = log.last();
        let mut tail = Tail::find(&segment)?;
        let place = Place::settle(&folder, &segment, &tail, layout.disk.as_ref())?;
        *segment.index() = Some(std::mem::take(&mut tail.index));

        let shared = Arc::new(Shared {
            log: Arc::new(log),
            durable: watch::Sender::new(tail.ends.clone()),
            last_seq: AtomicU64::new(tail.seq),
            alerts: Mutex::new(LastAlerts::after(tail.ends.clone(), layout.alert_bytes)),
            waiting_bytes: AtomicUsize::new(0),
            spares: Spares::default(),
        });
        let (queue, commands) = mpsc::channel(MAX_WAITING);
        let writer = Writer::new(folder, layout, place, tail, Arc::clone(&shared), commands);
        let failed = |error: std::io::Error| JournalError::Store(format!("its thread cannot start: {error}").into());
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let start = move || {
            writer.run();
            drop(lock);
        };
        let writer = thread.spawn(start).map_err(failed)?;
        Ok(Self { queue: Some(queue), shared, writer: Some(writer) })
    }

    fn enqueue(&self, records: &[Record], done: oneshot::Sender<Result<(), AppendError>>) -> Result<(), AppendError> {
        let queued = encode(records, self.shared.spares.take(), done)?;
        let bytes = queued.body.len();
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let full = |what: String| AppendError::Store(format!("expected at most {what} to wait").into());
        let sent = if waiting > MAX_WAITING_BYTES {
            Err(full(format!("{MAX_WAITING_BYTES} bytes")))
        } else {
            let queue = self.queue.as_ref().ok_or(AppendError::Closed)?;
            queue.try_send(Command::Append(queued)).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => full(format!("{MAX_WAITING} appends")),
                mpsc::error::TrySendError::Closed(_) => AppendError::Closed,
            })
        };
        if sent.is_err() {
            // The owner's next append leaves a gap, which ends its epoch.
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

/// Bodies of appends that were written, for the next ones: memory that one thread takes and another gives back costs an
/// allocator several times what a record costs.
#[derive(Debug, Default)]
struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut body: Vec<u8>) {
        if body.capacity() <= MAX_SPARE_BYTES {
            body.clear();
            let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if spares.len() < MAX_SPARES {
                spares.push(body);
            }
        }
    }
}

fn encode(
    records: &[Record],
    mut body: Vec<u8>,
    done: oneshot::Sender<Result<(), AppendError>>,
) -> Result<Queued, AppendError> {
    body.reserve(records.len() * USUAL_RECORD_BYTES);
    let mut keys = Vec::with_capacity(records.len());
    for record in records {
        batch::push_frame(record, &mut body).map_err(|what| AppendError::Store(what.into()))?;
        keys.push(record.into());
    }
    Ok(Queued { keys, body, done })
}

impl Journal for LogJournal {
    fn partitions(&self) -> Partition {
        self.shared.log.partitions
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        let (reply, answer) = oneshot::channel();
        let closed = || JournalError::Store("the journal is closed".into());
        async move {
            let queue = self.queue.as_ref().ok_or_else(closed)?;
            queue.send(Command::TakeOver { partitions, reply }).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        }
        .boxed()
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        let (done, outcome) = oneshot::channel();
        match self.enqueue(&records, done) {
            Ok(()) => outcome.map(|outcome| outcome.unwrap_or(Err(AppendError::Closed))).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        if let (Wanted::Alerts, Ok(floors)) = (wanted, self.shared.log.floors(&from))
            && let Some(alerts) = self.shared.alerts().from(&floors)
        {
            let mut decoder = Decoder::default();
            let unreadable = |error: DecodeError| JournalError::Store(error.to_string().into());
            return stream::iter(alerts).map(move |alert| alert.decode(&mut decoder).map_err(unreadable)).boxed();
        }
        let last_seq = self.shared.last_seq.load(Ordering::Acquire);
        reader::replay(Arc::clone(&self.shared.log), from, wanted, last_seq)
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let durable = self.shared.durable.borrow().get(usize::from(partition)).copied().unwrap_or(0);
        if n >= durable {
            return ready(Ok(None)).boxed();
        }
        let last_seq = self.shared.last_seq.load(Ordering::Acquire);
        reader::read(Arc::clone(&self.shared.log), partition, n, last_seq).map(|read| read.map(Some)).boxed()
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.shared.durable.subscribe()
    }
}

impl Drop for LogJournal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to write; its appends were answered with `Closed`.
            let _ = writer.join();
        }
    }
}

fn make_folder(dir: &Path, folder: &Path) -> Result<(), JournalError> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let what = format!("expected a directory that this user may write to at {}: {error}", dir.display());
        JournalError::Store(what.into())
    })?;
    disk::sync_dir(dir)
        .and_then(|()| disk::sync_dir(folder))
        .map_err(|error| JournalError::Store(explain(folder, &error)))
}

fn first_segment(folder: &Path, partitions: Partition, layout: &Layout) -> Result<Log, JournalError> {
    let zeros = vec![0; usize::from(partitions)];
    let header = Header { first: 1, counts: zeros.clone(), epochs: zeros };
    let (_, path, _) = segment::create(layout.disk.as_ref(), folder, &header, 0)?;
    Ok(Log::new(vec![Arc::new(Segment::new(path, header, None))]))
}

/// Refuses a directory whose journal was kept in SQLite, rather than start an empty one beside it.
fn refuse_older_layout(dir: &Path) -> Result<(), JournalError> {
    let older = dir.join("journal.db");
    if !older.exists() {
        return Ok(());
    }
    let what = "was written by an earlier, unreleased layout of the journal; start with another data directory";
    Err(JournalError::Store(format!("{} {what}", older.display()).into()))
}

/// The journal's folder in a data directory.
fn folder_in(dir: &Path) -> PathBuf {
    dir.join("journal")
}

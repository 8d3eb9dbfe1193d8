//! The embedded journal: `journal.db`, SQLite in write-ahead mode, one row a commit (ADR 0002).
//!
//! One thread writes for all partitions, a statement a commit; readers have connections of their own and never hold it
//! up. SQLite itself drops what was never committed. What it does return is verified, and damage is refused with file
//! and batch, never cut off: a journal that lost its last batch would decide on a history that answers have left behind.

mod batch;
mod observer;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use observer::JournalObserver;

use super::record::Record;
use super::{AppendError, Cursor, Journal, JournalError, Partition, Tenure};
use crate::sqlite::Layout;
use batch::Batch;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use reader::Reader;
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{Row, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Command, Queued, Writer};

const LAYOUT: Layout = Layout {
    kind: "journal",
    format: 1,
    sql: include_str!("../../../../../migrations/sqlite/journal.sql"),
    upgrades: &[],
    synchronous: SqliteSynchronous::Full,
    // Only the end of one table is ever written.
    cache_kib: 2_000,
};

/// Most partitions: every batch carries 8 bytes for each.
const MAX_PARTITIONS: Partition = 1_024;
/// Appends that may wait (I7). Shards bound what they have in flight far below; this is the last line.
const MAX_WAITING: usize = 65_536;
/// Bytes that may wait (I7), so that large dead letters cannot fill the memory.
const MAX_WAITING_BYTES: usize = 256 << 20;
/// What a body starts with for each record: most records of version 1 fit.
const USUAL_RECORD_BYTES: usize = 512;

/// See the module. Dropping it writes what waits and ends the writer.
#[derive(Debug)]
pub struct SqliteJournal {
    partitions: Partition,
    queue: Option<mpsc::Sender<Command>>,
    shared: Arc<Shared>,
    reader: Reader,
    writer: Option<JoinHandle<()>>,
}

/// What the writer tells the others.
#[derive(Debug)]
struct Shared {
    durable: watch::Sender<Vec<u64>>,
    /// Number of the last durable batch; raised before `durable` is.
    last_seq: AtomicU64,
    waiting_bytes: AtomicUsize,
}

impl SqliteJournal {
    /// Opens `journal.db` in the directory; creates both where missing. The number of partitions is fixed when the
    /// file is created. Take the directory's [`super::DirLock`] first.
    ///
    /// # Errors
    /// When the file cannot be opened, has another number of partitions, or its last batch is damaged.
    pub async fn open(dir: &Path, partitions: Partition) -> Result<Self, JournalError> {
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let what = format!("expected 1 to {MAX_PARTITIONS} partitions, found {partitions}");
            return Err(JournalError::Store(what.into()));
        }
        let path = file_in(dir);
        let mut connection = crate::sqlite::open(&path, &LAYOUT).await.map_err(JournalError::Store)?;
        check_partitions(&path, &mut connection, partitions).await?;
        let tail = Tail::load(&path, &mut connection, partitions).await?;
        let epochs = load_epochs(&path, &mut connection, partitions).await?;

        let shared = Arc::new(Shared {
            durable: watch::Sender::new(tail.ends.clone()),
            last_seq: AtomicU64::new(tail.seq),
            waiting_bytes: AtomicUsize::new(0),
        });
        let (queue, commands) = mpsc::channel(MAX_WAITING);
        let reader = Reader::new(path.clone(), partitions);
        let writer = Writer::new(path, connection, tail, epochs, Arc::clone(&shared), commands);
        let failed = |error: std::io::Error| JournalError::Store(format!("its thread cannot start: {error}").into());
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let writer = thread.spawn(move || runtime.block_on(writer.run())).map_err(failed)?;
        Ok(Self { partitions, queue: Some(queue), shared, reader, writer: Some(writer) })
    }

    fn enqueue(&self, records: &[Record], done: oneshot::Sender<Result<(), AppendError>>) -> Result<(), AppendError> {
        let queued = encode(records, done)?;
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

fn encode(records: &[Record], done: oneshot::Sender<Result<(), AppendError>>) -> Result<Queued, AppendError> {
    let mut body = Vec::with_capacity(records.len() * USUAL_RECORD_BYTES);
    let mut keys = Vec::with_capacity(records.len());
    for record in records {
        batch::push_frame(record, &mut body).map_err(|what| AppendError::Store(what.into()))?;
        keys.push(record.into());
    }
    Ok(Queued { keys, body, done })
}

impl Journal for SqliteJournal {
    fn partitions(&self) -> Partition {
        self.partitions
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

    fn replay(&self, from: Cursor) -> BoxStream<'_, Result<Record, JournalError>> {
        self.reader.replay(from, self.shared.last_seq.load(Ordering::Acquire))
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let durable = self.shared.durable.borrow().get(usize::from(partition)).copied().unwrap_or(0);
        let last_seq = self.shared.last_seq.load(Ordering::Acquire);
        async move { if n < durable { self.reader.read(partition, n, last_seq).await.map(Some) } else { Ok(None) } }
            .boxed()
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.shared.durable.subscribe()
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to write; its appends were answered with `Closed`.
            let _ = writer.join();
        }
    }
}

/// The end of the journal as the file has it.
#[derive(Debug)]
struct Tail {
    /// Number of the last batch, 0 for none.
    seq: u64,
    /// Number of records of every partition.
    ends: Vec<u64>,
}

impl Tail {
    async fn load(path: &Path, connection: &mut SqliteConnection, partitions: Partition) -> Result<Self, JournalError> {
        let partitions = usize::from(partitions);
        let last: Option<SqliteRow> =
            sqlx::query("SELECT seq, ends, checksum, body FROM batches ORDER BY seq DESC LIMIT 1")
                .fetch_optional(connection)
                .await
                .map_err(|error| JournalError::Store(crate::sqlite::explain(path, &error)))?;
        let Some(row) = last else { return Ok(Self { seq: 0, ends: vec![0; partitions] }) };
        let seq = row.try_get::<i64, _>(0).unwrap_or(0).cast_unsigned();
        let batch = batch_of(&row).map_err(|error| read_error(path, seq, &error))?;
        let ends = batch.verify(partitions, None).map_err(|what| damaged(path, batch.seq, what))?;
        Ok(Self { seq: batch.seq, ends })
    }
}

async fn check_partitions(
    path: &Path,
    connection: &mut SqliteConnection,
    partitions: Partition,
) -> Result<(), JournalError> {
    let failed = |error: sqlx::Error| JournalError::Store(crate::sqlite::explain(path, &error));
    sqlx::query("INSERT OR IGNORE INTO meta (key, value) VALUES ('partitions', ?)")
        .bind(partitions.to_string())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let created: String = sqlx::query_scalar::<Sqlite, String>("SELECT value FROM meta WHERE key = 'partitions'")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    if created == partitions.to_string() {
        return Ok(());
    }
    Err(JournalError::Store(
        format!(
            "{} was created with {created} partitions, the configuration says {partitions}; set data.partitions = \
             {created}, or use another data directory",
            path.display()
        )
        .into(),
    ))
}

async fn load_epochs(
    path: &Path,
    connection: &mut SqliteConnection,
    partitions: Partition,
) -> Result<Vec<u64>, JournalError> {
    let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT partition, epoch FROM epochs")
        .fetch_all(connection)
        .await
        .map_err(|error| JournalError::Store(crate::sqlite::explain(path, &error)))?;
    let mut epochs = vec![0; usize::from(partitions)];
    for (partition, epoch) in rows {
        let known = usize::try_from(partition).ok().and_then(|partition| epochs.get_mut(partition));
        if let (Some(known), Ok(epoch)) = (known, u64::try_from(epoch)) {
            *known = epoch;
        }
    }
    Ok(epochs)
}

/// A row of seq, ends, checksum and body.
fn batch_of(row: &SqliteRow) -> Result<Batch, sqlx::Error> {
    let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
    Ok(Batch { seq, ends: row.try_get(1)?, checksum: row.try_get(2)?, body: row.try_get(3)? })
}

fn damaged(path: &Path, batch: u64, what: impl Into<Arc<str>>) -> JournalError {
    JournalError::Damaged { file: path.display().to_string().into(), batch, what: what.into() }
}

/// A failed read at a batch: damage where SQLite says so or finds another type than was written, else the store.
fn read_error(path: &Path, batch: u64, error: &sqlx::Error) -> JournalError {
    if crate::sqlite::is_damage(error) || matches!(error, sqlx::Error::ColumnDecode { .. }) {
        damaged(path, batch, error.to_string())
    } else {
        JournalError::Store(crate::sqlite::explain(path, error))
    }
}

/// The journal's file in a data directory.
fn file_in(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

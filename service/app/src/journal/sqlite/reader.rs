//! Reads batches back, verified, on read-only connections of its own.
//!
//! A cursor is found by a search over `seq` that starts at the end, where most readers are. The scan then reads pages of
//! batches and holds no transaction between them: an open one would keep SQLite from reusing the write-ahead log, however
//! slowly the reader goes.

use super::batch::{Batch, decode_ends};
use super::{batch_of, damaged, read_error};
use crate::journal::codec::Decoder;
use crate::journal::record::Record;
use crate::journal::{Cursor, JournalError, Partition};
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream};
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Batches in a page: a statement costs about as much as decoding 50 records.
const PAGE_BATCHES: i64 = 64;
/// A page ends after this many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// Rows that wait between SQLite's thread and the reader: each is a whole batch.
const MAX_WAITING_ROWS: usize = 8;
/// Connections that are kept for the next reader.
const MAX_IDLE: usize = 4;

#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    partitions: usize,
    idle: Mutex<Vec<SqliteConnection>>,
}

/// The first wanted number of every partition; `u64::MAX` where none is wanted.
struct Wanted(Vec<u64>);

impl Wanted {
    /// Whether batches up to one with these ends hold any wanted record.
    fn within(&self, ends: &[u64]) -> bool {
        ends.iter().zip(&self.0).any(|(end, from)| end > from)
    }
}

impl Reader {
    pub(super) fn new(path: PathBuf, partitions: Partition) -> Self {
        Self { path, partitions: partitions.into(), idle: Mutex::new(Vec::new()) }
    }

    /// The records from the cursor on, in the batches up to the last one given.
    pub(super) fn replay(&self, from: Cursor, last_seq: u64) -> BoxStream<'_, Result<Record, JournalError>> {
        let batches = stream::try_unfold(None, move |scan: Option<Scan<'_>>| {
            let from = from.clone();
            async move {
                let mut scan = match scan {
                    Some(scan) => scan,
                    None => Scan::start(self, &from, last_seq).await?,
                };
                let records = scan.next().await?;
                Ok::<_, JournalError>(records.map(|records| (records, Some(scan))))
            }
        });
        Box::pin(batches.map_ok(|records| stream::iter(records.into_iter().map(Ok))).try_flatten())
    }

    /// One record that is durable.
    pub(super) async fn read(&self, partition: Partition, n: u64, last_seq: u64) -> Result<Record, JournalError> {
        let wanted = self.wanted(&[(partition, n)])?;
        let seq = self.last_unwanted(&wanted, last_seq).await? + 1;
        let batch = self.page(seq, seq).await?.pop_front().ok_or_else(|| self.missing(seq))?;
        let damage = |what: String| damaged(&self.path, seq, what);
        batch.verify(self.partitions, None).map_err(damage)?;
        for frame in batch.frames() {
            let frame = frame.map_err(damage)?;
            if (frame.partition, frame.n) == (partition, n) {
                return frame.decode(&mut Decoder::default()).map_err(damage);
            }
        }
        Err(damage(format!("expected record {n} of partition {partition} in it")))
    }

    fn wanted(&self, cursor: &[(Partition, u64)]) -> Result<Wanted, JournalError> {
        let mut wanted = vec![u64::MAX; self.partitions];
        for &(partition, n) in cursor {
            match wanted.get_mut(usize::from(partition)) {
                Some(from) => *from = n.min(*from),
                None => {
                    let what = format!("expected a partition below {}, found {partition}", self.partitions);
                    return Err(JournalError::Store(what.into()));
                }
            }
        }
        Ok(Wanted(wanted))
    }

    /// The last batch up to which there is no wanted record; `last_seq` if there is none at all.
    ///
    /// It believes the ends that it meets; the scan that follows starts with the batch found here, and verifies it.
    async fn last_unwanted(&self, wanted: &Wanted, last_seq: u64) -> Result<u64, JournalError> {
        let mut connection = self.connect().await?;
        // Everything up to `low` is not wanted, and `high` is.
        let (mut low, mut high, mut step) = (last_seq, last_seq + 1, 1);
        while low > 0 && wanted.within(&self.ends(&mut connection, low).await?) {
            (low, high, step) = (low.saturating_sub(step), low, step * 2);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if wanted.within(&self.ends(&mut connection, middle).await?) {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.give_back(connection);
        Ok(low)
    }

    async fn ends(&self, connection: &mut SqliteConnection, seq: u64) -> Result<Vec<u64>, JournalError> {
        let ends: Option<Vec<u8>> = sqlx::query_scalar("SELECT ends FROM batches WHERE seq = ?")
            .bind(seq.cast_signed())
            .fetch_optional(connection)
            .await
            .map_err(|error| read_error(&self.path, seq, &error))?;
        let ends = ends.ok_or_else(|| self.missing(seq))?;
        decode_ends(&ends, self.partitions).map_err(|what| damaged(&self.path, seq, what))
    }

    /// Consecutive batches from one on, at least one and not beyond the last.
    async fn page(&self, from: u64, last: u64) -> Result<VecDeque<Batch>, JournalError> {
        let failed =
            |error: &sqlx::Error, page: &VecDeque<Batch>| read_error(&self.path, from + page.len() as u64, error);
        let mut connection = self.connect().await?;
        let mut page = VecDeque::new();
        let mut bytes = 0;
        let sql = "SELECT seq, ends, checksum, body FROM batches WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?";
        let query = sqlx::query(sql).bind(from.cast_signed()).bind(last.cast_signed()).bind(PAGE_BATCHES);
        let mut rows = query.fetch(&mut connection);
        while let Some(row) = rows.try_next().await.map_err(|error| failed(&error, &page))? {
            let batch = batch_of(&row).map_err(|error| failed(&error, &page))?;
            let expected = from + page.len() as u64;
            if batch.seq != expected {
                return Err(self.missing(expected));
            }
            bytes += batch.body.len();
            page.push_back(batch);
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        drop(rows);
        self.give_back(connection);
        if page.is_empty() { Err(self.missing(from)) } else { Ok(page) }
    }

    fn missing(&self, seq: u64) -> JournalError {
        damaged(&self.path, seq, "the batch is missing")
    }

    async fn connect(&self) -> Result<SqliteConnection, JournalError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => {
                let opened = crate::sqlite::open_reader(&self.path, MAX_WAITING_ROWS).await;
                opened.map_err(|error| JournalError::Store(crate::sqlite::explain(&self.path, &error)))
            }
        }
    }

    /// Keeps a connection for the next reader; one that failed is dropped instead.
    fn give_back(&self, connection: SqliteConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// A replay under way.
struct Scan<'a> {
    reader: &'a Reader,
    wanted: Wanted,
    /// The next batch to check.
    seq: u64,
    last_seq: u64,
    /// Ends of the batch before, once one was checked.
    before: Option<Vec<u64>>,
    page: VecDeque<Batch>,
    decoder: Decoder,
}

impl<'a> Scan<'a> {
    async fn start(reader: &'a Reader, from: &Cursor, last_seq: u64) -> Result<Self, JournalError> {
        let wanted = reader.wanted(from)?;
        let seq = reader.last_unwanted(&wanted, last_seq).await?;
        let before = (seq == 0).then(|| vec![0; reader.partitions]);
        let (page, decoder) = (VecDeque::new(), Decoder::default());
        Ok(Self { reader, wanted, seq: seq.max(1), last_seq, before, page, decoder })
    }

    /// The wanted records of the next batch, `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Record>>, JournalError> {
        if self.seq > self.last_seq {
            return Ok(None);
        }
        if self.page.is_empty() {
            self.page = self.reader.page(self.seq, self.last_seq).await?;
        }
        let Some(batch) = self.page.pop_front() else { return Ok(None) };
        let damage = |what: String| damaged(&self.reader.path, batch.seq, what);
        let ends = batch.verify(self.reader.partitions, self.before.as_deref()).map_err(damage)?;
        let mut records = Vec::new();
        for frame in batch.frames() {
            let frame = frame.map_err(damage)?;
            if frame.n >= self.wanted.0[usize::from(frame.partition)] {
                records.push(frame.decode(&mut self.decoder).map_err(damage)?);
            }
        }
        self.before = Some(ends);
        self.seq += 1;
        Ok(Some(records))
    }
}

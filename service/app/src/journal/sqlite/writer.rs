//! The one writer: takes everything that waits, writes it as one batch with one statement, then tells everybody.
//!
//! A statement outside a transaction commits by itself, so a batch costs one round to SQLite and one sync. After a
//! failed statement nobody knows what landed: the file is read again before anything else is written, and until its
//! owner takes over anew, a partition that had records in the failed batch takes no more.

use super::batch::{checksum, encode_ends};
use super::{LAYOUT, Shared, Tail};
use crate::journal::ledger::{Key, Ledger};
use crate::journal::{AppendError, JournalError, Partition, Tenure};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, QueryBuilder};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// A batch is closed when it has this many records.
const MAX_BATCH_RECORDS: usize = 4_096;
/// A batch is closed when it has this many bytes; one append is never split, so a batch may be larger by one append.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// What callers want of the writer.
#[derive(Debug)]
pub(super) enum Command {
    Append(Queued),
    TakeOver { partitions: Vec<Partition>, reply: oneshot::Sender<Result<Vec<Tenure>, JournalError>> },
}

/// An encoded append.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) keys: Vec<Key>,
    pub(super) body: Vec<u8>,
    pub(super) done: oneshot::Sender<Result<(), AppendError>>,
}

/// A batch being filled.
#[derive(Default)]
struct Filling {
    keys: Vec<Key>,
    body: Vec<u8>,
    waiters: Vec<oneshot::Sender<Result<(), AppendError>>>,
}

impl Filling {
    fn is_full(&self) -> bool {
        self.keys.len() >= MAX_BATCH_RECORDS || self.body.len() >= MAX_BATCH_BYTES
    }

    fn take(&mut self, queued: Queued) {
        if self.body.is_empty() {
            (self.keys, self.body) = (queued.keys, queued.body);
        } else {
            self.keys.extend(queued.keys);
            self.body.extend_from_slice(&queued.body);
        }
        self.waiters.push(queued.done);
    }

    fn answer(self, outcome: &Result<(), AppendError>) {
        for waiter in self.waiters {
            // Whoever dropped the future does not want to know.
            let _ = waiter.send(outcome.clone());
        }
    }
}

pub(super) struct Writer {
    path: PathBuf,
    connection: SqliteConnection,
    /// Number of the last batch.
    seq: u64,
    ledger: Ledger,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Command>,
    /// Taken from the queue already, before the rest of it.
    kept: VecDeque<Command>,
    /// Whether a statement failed since the file's end was last read.
    uncertain: bool,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        connection: SqliteConnection,
        tail: Tail,
        epochs: Vec<u64>,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Command>,
    ) -> Self {
        let ledger = Ledger::new(tail.ends, epochs);
        Self { path, connection, seq: tail.seq, ledger, shared, queue, kept: VecDeque::new(), uncertain: false }
    }

    /// Runs until every sender is gone and everything queued is written.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.wait().await {
            let mut filling = Filling::default();
            let mut command = Some(first);
            while let Some(current) = command {
                match current {
                    Command::Append(queued) => self.admit(queued, &mut filling).await,
                    Command::TakeOver { partitions, reply } => {
                        self.write(std::mem::take(&mut filling)).await;
                        let _ = reply.send(self.take_over(&partitions).await);
                    }
                }
                command = if filling.is_full() { None } else { self.next_queued() };
            }
            self.write(filling).await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the journal was not closed cleanly; nothing durable is lost");
        }
    }

    async fn wait(&mut self) -> Option<Command> {
        match self.kept.pop_front() {
            Some(command) => Some(command),
            None => self.queue.recv().await,
        }
    }

    fn next_queued(&mut self) -> Option<Command> {
        self.kept.pop_front().or_else(|| self.queue.try_recv().ok())
    }

    async fn admit(&mut self, queued: Queued, filling: &mut Filling) {
        self.shared.waiting_bytes.fetch_sub(queued.body.len(), Ordering::Relaxed);
        let admitted = match self.ledger.check_epochs(&queued.keys) {
            // A barrier writes nothing, so it needs no certainty about the file.
            Ok(()) if queued.keys.is_empty() => Ok(()),
            Ok(()) => match self.settle().await {
                Ok(()) => self.ledger.admit(&queued.keys),
                Err(error) => {
                    self.ledger.fail(&queued.keys);
                    Err(AppendError::Store(error.to_string().into()))
                }
            },
            Err(error) => Err(error),
        };
        match admitted {
            Ok(()) => filling.take(queued),
            Err(error) => {
                let _ = queued.done.send(Err(error));
            }
        }
    }

    async fn write(&mut self, mut filling: Filling) {
        if filling.body.is_empty() {
            return filling.answer(&Ok(()));
        }
        let (seq, ends) = (self.seq + 1, encode_ends(self.ledger.next()));
        let body = std::mem::take(&mut filling.body);
        let checksum = checksum(seq, &ends, &body);
        let inserted = sqlx::query("INSERT INTO batches (seq, ends, checksum, body) VALUES (?, ?, ?, ?)")
            .bind(seq.cast_signed())
            .bind(ends)
            .bind(checksum)
            .bind(body)
            .execute(&mut self.connection)
            .await;
        match inserted {
            Ok(_) => {
                self.seq = seq;
                self.publish();
                filling.answer(&Ok(()));
            }
            Err(error) => {
                let error = AppendError::Store(crate::sqlite::explain(&self.path, &error));
                tracing::error!(batch = seq, %error, "a batch was not written; its owners recover");
                self.uncertain = true;
                self.ledger.fail(&filling.keys);
                filling.answer(&Err(error.clone()));
                self.refuse_queued(&error);
            }
        }
    }

    /// Fails what was queued behind a failed batch: barriers, and appends of the epochs that ended with it.
    fn refuse_queued(&mut self, error: &AppendError) {
        for _ in 0..self.queue.len() {
            self.kept.extend(self.queue.try_recv());
        }
        for command in std::mem::take(&mut self.kept) {
            match command {
                Command::Append(queued)
                    if self.ledger.check_epochs(&queued.keys).is_err() || queued.keys.is_empty() =>
                {
                    self.shared.waiting_bytes.fetch_sub(queued.body.len(), Ordering::Relaxed);
                    let _ = queued.done.send(Err(error.clone()));
                }
                other => self.kept.push_back(other),
            }
        }
    }

    /// After a failure, learns from the file what landed.
    async fn settle(&mut self) -> Result<(), JournalError> {
        if !self.uncertain {
            return Ok(());
        }
        let mut connection = crate::sqlite::open(&self.path, &LAYOUT).await.map_err(JournalError::Store)?;
        // invariant: the ledger was made for a number of partitions that fits
        let partitions = self.ledger.next().len() as Partition;
        let tail = Tail::load(&self.path, &mut connection, partitions).await?;
        self.connection = connection;
        self.seq = tail.seq;
        self.ledger.correct(&tail.ends);
        self.uncertain = false;
        self.publish();
        Ok(())
    }

    async fn take_over(&mut self, partitions: &[Partition]) -> Result<Vec<Tenure>, JournalError> {
        self.settle().await?;
        let epochs = self.ledger.next_epochs(partitions)?;
        if epochs.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = QueryBuilder::new("INSERT OR REPLACE INTO epochs (partition, epoch) ");
        statement.push_values(&epochs, |mut row, (partition, epoch)| {
            row.push_bind(i64::from(*partition)).push_bind(epoch.cast_signed());
        });
        // The text differs by the number of partitions; it is not worth a place among the prepared statements.
        let stored = statement.build().persistent(false).execute(&mut self.connection).await;
        stored.map_err(|error| JournalError::Store(crate::sqlite::explain(&self.path, &error)))?;
        Ok(self.ledger.take_over(&epochs))
    }

    fn publish(&self) {
        self.shared.last_seq.store(self.seq, Ordering::Release);
        self.shared.durable.send_modify(|durable| durable.copy_from_slice(self.ledger.next()));
    }
}

//! A journal whose readers need places, and what it is told of those that were stored: for the tests of projections that
//! store them.

use crate::journal::record::Record;
use crate::journal::{AppendError, Cursor, Journal, JournalError, MemoryJournal, Partition, Position, Tenure, Wanted};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// As another one, each record of which lies in a topic of its own, behind an epoch's entry.
pub(super) struct Placed {
    journal: Arc<MemoryJournal>,
    heard: Mutex<Vec<Heard>>,
}

/// What it was told, and what it was asked for, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Located(Vec<(Partition, Position)>),
    /// All records from these on.
    Read(Cursor),
    /// One record.
    Looked(Partition, u64),
}

/// Where the records from this one on are found.
pub(super) fn place(n: u64) -> Position {
    Position { offset: n + 1, epoch: 0, n }
}

impl Placed {
    pub(super) fn new(journal: &Arc<MemoryJournal>) -> Arc<Self> {
        Arc::new(Self { journal: Arc::clone(journal), heard: Mutex::default() })
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().expect("no holder panicked").push(heard);
    }

    /// What it heard since this was last asked.
    pub(super) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().expect("no holder panicked"))
    }
}

impl Journal for Placed {
    fn partitions(&self) -> Partition {
        self.journal.partitions()
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        self.journal.take_over(partitions)
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.journal.append(records)
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        self.hear(Heard::Read(from.clone()));
        self.journal.replay(from, wanted)
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        self.hear(Heard::Looked(partition, n));
        self.journal.read(partition, n)
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.journal.durable()
    }

    fn position(&self, partition: Partition, n: u64) -> Option<Position> {
        Some(place(self.durable().borrow()[usize::from(partition)].min(n)))
    }

    fn locate(&self, positions: &[(Partition, Position)]) {
        self.hear(Heard::Located(positions.to_vec()));
    }
}

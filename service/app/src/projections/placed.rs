//! A journal as one on Kafka is: its readers need places, and its start may have been trimmed. It tells what it was told and asked
//! for, for the tests of projections that store places.

use crate::journal::record::Record;
use crate::journal::{AppendError, Cursor, Journal, JournalError, MemoryJournal, Partition, Position, Tenure, Wanted};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// As another one, each record of which lies in a topic of its own, behind an epoch's entry.
pub(super) struct Placed {
    journal: Arc<MemoryJournal>,
    heard: Mutex<Vec<Heard>>,
    firsts: Vec<u64>,
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
        Self::trimmed(journal, vec![0; usize::from(journal.partitions())])
    }

    /// Without what lies before these records.
    pub(super) fn trimmed(journal: &Arc<MemoryJournal>, firsts: Vec<u64>) -> Arc<Self> {
        Arc::new(Self { journal: Arc::clone(journal), heard: Mutex::default(), firsts })
    }

    fn refuse(&self, partition: Partition, n: u64) -> Result<(), JournalError> {
        let first = self.first(partition);
        let refused = || JournalError::Trimmed { topic: "a test".into(), partition, n, first };
        if n < first { Err(refused()) } else { Ok(()) }
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
        match from.iter().try_for_each(|&(partition, n)| self.refuse(partition, n)) {
            Ok(()) => self.journal.replay(from, wanted),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        self.hear(Heard::Looked(partition, n));
        match self.refuse(partition, n) {
            Ok(()) => self.journal.read(partition, n),
            Err(error) => ready(Err(error)).boxed(),
        }
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
    fn first(&self, partition: Partition) -> u64 {
        self.firsts[usize::from(partition)]
    }
}

//! The spill: decisions that were answered although their records are not known to be durable (PROTOCOL, "Answers that are
//! not durable"), in one file of the data folder.
//!
//! Contract: a record that was put is on the disk when what [`Spill::put`] gave resolves with `Ok`, and stays there until
//! [`Spill::remove`] says that its transaction is in the journal. What is left is read at the next start. A removal that a
//! crash forgets does no harm: the record is found in the journal then. It is bounded (I7), by entries and bytes, and refuses
//! what is beyond. It never decides when an entry may leave; whoever has read the journal does.
//!
//! One thread writes: everything that waits shares one write and one sync.

mod file;
mod frame;
mod index;
#[cfg(test)]
mod tests;

use super::Partition;
use super::codec::{self, Decoder};
use super::log::disk::{Disk, RealDisk};
use super::record::{Body, Decided, Record};
use crate::telemetry::health::Spilled;
use file::{SpillFile, Stored};
use index::{Entry, Index};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{error, info};
use verdict_core::event::Source;
use verdict_core::time::Timestamp;

/// The file in the data folder.
pub const FILE: &str = "spill.log";
/// Most entries: with those that hold a permit, fewer records than the journal on Kafka takes on their way.
const MAX_ENTRIES: usize = 100_000;
/// Commands that share a write, at most.
const MAX_GROUP: usize = 4_096;
/// Bytes that a file may have beyond twice those of its entries before it is written again.
const SLACK_BYTES: u64 = 1 << 20;

/// The epoch of records that none has numbered: they were answered without one.
pub(super) const NO_EPOCH: u64 = u64::MAX;

/// What identifies a record: nobody else numbers one so under this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it was numbered.
    pub epoch: u64,
    /// Its number.
    pub n: u64,
}

impl From<&Record> for RecordId {
    fn from(record: &Record) -> Self {
        Self { partition: record.partition, epoch: record.epoch, n: record.n }
    }
}

/// Why the spill cannot be opened.
#[derive(Clone, Debug, Error)]
pub enum SpillError {
    /// The file system failed.
    #[error("answers that are not durable yet cannot be kept: {0}")]
    Store(Arc<str>),
    /// What is in the file is not what was written.
    #[error(
        "{file} is damaged at byte {offset}: {what}; restore it from a copy. Whoever moves it away loses the answers in it \
         that are not in the journal: their payments count nowhere"
    )]
    Damaged {
        /// The file.
        file: Arc<str>,
        /// Where.
        offset: u64,
        /// Checksum, number or record.
        what: String,
    },
    /// It holds answers that belong to another journal.
    #[error(
        "{file} holds {entries} answers that are not known to be in the journal on topic {found}, and this is {expected}: \
         start with the brokers and topics that it belongs to, or use another data folder"
    )]
    OtherJournal {
        /// The file.
        file: Arc<str>,
        /// How many.
        entries: usize,
        /// The journal of this service.
        expected: Box<str>,
        /// The journal of the file.
        found: Box<str>,
    },
}

/// Why a record was not put.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotKept {
    /// The bound is reached.
    #[error("as many answers as are allowed wait for their records: {entries} of {bytes} bytes")]
    Full {
        /// Entries.
        entries: usize,
        /// Bytes.
        bytes: usize,
    },
    /// The file cannot be written.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// Resolves when a record is on the disk. Dropped by the other side, the record was not put.
pub type Kept = oneshot::Receiver<Result<(), NotKept>>;

/// How full it is, and what ails it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Entries.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Why the file could not be written the last time, if so.
    pub failure: Option<Arc<str>>,
}

impl From<Level> for Spilled {
    fn from(Level { entries, bytes, failure }: Level) -> Self {
        Self { entries, bytes, failure }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Spill {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

#[derive(Debug)]
struct Shared {
    max_bytes: usize,
    index: Mutex<Index>,
}

#[derive(Debug)]
enum Command {
    Put(RecordId, Arc<[u8]>),
    Done(Vec<RecordId>),
    Close(oneshot::Sender<()>),
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a data folder whose spill holds answers for another journal than this one, which keeps none.
///
/// # Errors
/// When it does, or cannot be read.
pub fn expect_empty(dir: &Path, journal: &str) -> Result<(), SpillError> {
    let path = dir.join(FILE);
    if path.exists() {
        SpillFile::open(&path, journal, Arc::new(RealDisk))?;
    }
    Ok(())
}

impl Spill {
    /// Opens the spill of a data folder; `journal` names the journal that it belongs to. What it holds may be more than
    /// `max_bytes`, from which on nothing more is taken.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or belongs to another journal.
    pub fn open(dir: &Path, journal: &str, max_bytes: usize) -> Result<Self, SpillError> {
        Self::open_with(dir, journal, max_bytes, Arc::new(RealDisk))
    }

    fn open_with(dir: &Path, journal: &str, max_bytes: usize, disk: Arc<dyn Disk>) -> Result<Self, SpillError> {
        let (file, stored) = SpillFile::open(&dir.join(FILE), journal, disk)?;
        let mut index = Index::default();
        for (id, record) in stored {
            let event = Decoder::default().decode(&record).ok().and_then(|record| index::event_of(&record.body));
            index.insert(id, Entry { record, event, waiting: None });
        }
        if !index.entries.is_empty() {
            info!(entries = index.entries.len(), "answers are left whose records are not known to be in the journal");
        }
        let shared = Arc::new(Shared { max_bytes, index: Mutex::new(index) });
        let (commands, waiting) = mpsc::channel();
        let writer = Writer { shared: Arc::clone(&shared), commands: waiting, file, in_doubt: false };
        let thread = std::thread::Builder::new().name("spill".to_owned()).spawn(|| writer.run());
        thread.map_err(|error| SpillError::Store(format!("its thread cannot start: {error}").into()))?;
        Ok(Self { shared, commands })
    }

    /// Puts a record. One that is there already is not put again.
    ///
    /// # Errors
    /// When there are as many as are allowed.
    pub fn put(&self, record: &Record) -> Result<Kept, NotKept> {
        let id = RecordId::from(record);
        let (told, kept) = oneshot::channel();
        let mut index = self.shared.index();
        match index.entries.get_mut(&id) {
            Some(Entry { waiting: Some(waiting), .. }) => {
                waiting.push(told);
                return Ok(kept);
            }
            Some(Entry { waiting: None, .. }) => {
                // The receiver is here.
                let _ = told.send(Ok(()));
                return Ok(kept);
            }
            None => {}
        }
        let mut bytes = Vec::new();
        codec::encode(record, &mut bytes).map_err(|error| NotKept::Failed(error.to_string().into()))?;
        let entry = Entry { record: bytes.into(), event: index::event_of(&record.body), waiting: Some(vec![told]) };
        let (entries, bytes) = (index.entries.len(), index.bytes);
        if entries >= MAX_ENTRIES || bytes + entry.size() > self.shared.max_bytes {
            return Err(NotKept::Full { entries, bytes });
        }
        let command = Command::Put(id, Arc::clone(&entry.record));
        index.insert(id, entry);
        drop(index);
        self.send(command);
        Ok(kept)
    }

    /// Puts a decision that no epoch has a number for.
    ///
    /// # Errors
    /// When there are as many as are allowed.
    pub fn put_unnumbered(
        &self,
        partition: Partition,
        received_at: Timestamp,
        decided: &Arc<Decided>,
    ) -> Result<Kept, NotKept> {
        let n = self.shared.index().number();
        let body = Body::Decision(Arc::clone(decided));
        self.put(&Record { partition, epoch: NO_EPOCH, n, source: Source::Http, received_at, body })
    }

    /// The decision of a transaction that is there, and when it is on the disk.
    #[must_use]
    pub fn known(&self, user_id: &str, transaction_id: &str) -> Option<(Arc<Decided>, Kept)> {
        let record = self.shared.index().known(user_id, transaction_id)?;
        let record = Decoder::default().decode(&record).ok()?;
        // Between the two looks it may have left: then the journal has it, and a retry meets it there.
        let kept = self.put(&record).ok()?;
        match record.body {
            Body::Decision(decided) => Some((decided, kept)),
            _ => None,
        }
    }

    /// What is there of these partitions.
    #[must_use]
    pub fn ids(&self, partitions: &[Partition]) -> BTreeSet<RecordId> {
        let index = self.shared.index();
        index.entries.keys().filter(|id| partitions.contains(&id.partition)).copied().collect()
    }

    /// The decision of a record that is there, on the disk.
    #[must_use]
    pub fn get(&self, id: &RecordId) -> Option<Arc<Decided>> {
        let index = self.shared.index();
        let record = Arc::clone(&index.entries.get(id).filter(|entry| entry.waiting.is_none())?.record);
        drop(index);
        match Decoder::default().decode(&record).ok()?.body {
            Body::Decision(decided) => Some(decided),
            _ => None,
        }
    }

    /// Takes records off: their transactions are known to be in the journal. Those that are not there are no error.
    pub fn remove(&self, ids: Vec<RecordId>) {
        let mut index = self.shared.index();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(entry) = index.remove(&id) else { continue };
            found.push(id);
            // The journal has it, which is more than they wait for.
            for waiting in entry.waiting.into_iter().flatten() {
                let _ = waiting.send(Ok(()));
            }
        }
        drop(index);
        if !found.is_empty() {
            self.send(Command::Done(found));
        }
    }

    /// The records of these partitions that are there, in their order, those that are being written included.
    ///
    /// # Errors
    /// Never for what was put; the signature leaves the judgement to the decoder.
    pub fn left(&self, partitions: &[Partition]) -> Result<Vec<Record>, codec::DecodeError> {
        let wanted = |id: &RecordId| partitions.contains(&id.partition);
        let stored: Vec<Arc<[u8]>> = {
            let index = self.shared.index();
            let entries = index.entries.iter().filter(|(id, _)| wanted(id));
            entries.map(|(_, entry)| Arc::clone(&entry.record)).collect()
        };
        let mut decoder = Decoder::default();
        stored.iter().map(|record| decoder.decode(record)).collect()
    }

    /// How full it is.
    #[must_use]
    pub fn level(&self) -> Level {
        let index = self.shared.index();
        Level { entries: index.entries.len(), bytes: index.bytes, failure: index.failure.clone() }
    }

    /// Writes what waits and ends the thread; nothing is taken from then on.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.send(Command::Close(done));
        // A thread that is gone has written all that it could.
        let _ = closed.await;
        let entries = self.level().entries;
        if entries > 0 {
            info!(entries, "answers that are not in the journal stay in {FILE}; the next start journals them");
        }
    }

    fn send(&self, command: Command) {
        let Err(mpsc::SendError(command)) = self.commands.send(command) else { return };
        if let Command::Put(id, _) = command {
            // Whoever waits hears of it.
            drop(self.shared.index().remove(&id));
        }
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    file: SpillFile,
    /// A write failed: nobody knows what is in the file behind what was there before.
    in_doubt: bool,
}

/// What shares a write.
#[derive(Default)]
struct Group {
    puts: Vec<(RecordId, Arc<[u8]>)>,
    dones: Vec<RecordId>,
    close: Option<oneshot::Sender<()>>,
}

impl Group {
    fn add(&mut self, command: Command) {
        match command {
            Command::Put(id, record) => self.puts.push((id, record)),
            Command::Done(ids) => self.dones.extend(ids),
            Command::Close(done) => self.close = Some(done),
        }
    }
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.commands.recv() {
            let mut group = Group::default();
            group.add(first);
            while group.close.is_none()
                && group.puts.len() + group.dones.len() < MAX_GROUP
                && let Ok(command) = self.commands.try_recv()
            {
                group.add(command);
            }
            self.write(&group);
            self.shorten(group.close.is_some());
            if let Some(done) = group.close {
                // Nobody writes what was sent since, and nothing can be sent from here on: whoever waits hears so.
                drop(self.commands);
                self.shared.index().forget_unwritten();
                // One who no longer waits is no error.
                let _ = done.send(());
                return;
            }
        }
    }

    fn write(&mut self, group: &Group) {
        let written = if self.in_doubt {
            self.file.rewrite(&self.live())
        } else {
            self.file.append(group.puts.iter().map(|(_, record)| &**record), group.dones.iter().copied())
        };
        self.note(&written);
        let mut index = self.shared.index();
        for (id, _) in &group.puts {
            let told = match &index.failure {
                None => index.entries.get_mut(id).and_then(|entry| entry.waiting.take()).map(|told| (told, Ok(()))),
                Some(why) => {
                    let why = NotKept::Failed(Arc::clone(why));
                    index.remove(id).and_then(|entry| entry.waiting).map(|told| (told, Err(why)))
                }
            };
            let Some((told, result)) = told else { continue };
            for waiting in told {
                // One who no longer waits is no error.
                let _ = waiting.send(result.clone());
            }
        }
    }

    /// Writes the file again when most of it is of no more interest.
    fn shorten(&mut self, closing: bool) {
        let index = self.shared.index();
        let (bytes, empty) = (index.bytes as u64, index.entries.is_empty());
        drop(index);
        let long = self.file.length() > 2 * bytes + SLACK_BYTES || (closing && empty);
        if long && !self.in_doubt {
            let written = self.file.rewrite(&self.live());
            self.note(&written);
        }
    }

    /// All entries, those that are yet to be written too: they do no harm in the file.
    fn live(&self) -> Stored {
        let index = self.shared.index();
        index.entries.iter().map(|(id, entry)| (*id, Arc::clone(&entry.record))).collect()
    }

    fn note(&mut self, written: &std::io::Result<()>) {
        let failure = written.as_ref().err().map(|error| self.file.explain(error));
        if let Some(why) = &failure
            && !self.in_doubt
        {
            error!(error = &**why, "answers that are not durable cannot be kept, and are refused until they can be");
        }
        self.in_doubt = failure.is_some();
        self.shared.index().failure = failure;
    }
}

//! The one writer: takes everything that waits, writes it as one batch with one write and one sync, then tells everybody.
//!
//! After a write or a sync that failed nobody knows what is on the disk, and asking the system to sync again proves
//! nothing. So the place of that batch is overwritten with zeros, which are synced, before anything else is written:
//! what failed stays failed. Until its owner takes over anew, a partition that had records in it takes no more.

use super::alerts::Alert;
use super::batch::{self, Kind};
use super::disk::{self, Disk, explain};
use super::scan::Tail;
use super::segment::{self, Header, Index, Segment};
use super::{Layout, Shared};
use crate::journal::ledger::{Key, Ledger};
use crate::journal::{AppendError, JournalError, Partition, Tenure};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// A batch is closed when it has this many records.
const MAX_BATCH_RECORDS: usize = 4_096;
/// A batch is closed when it has this many bytes; one append is never split, so a batch may be larger by one append.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Batches after which space that could not be had is asked for again.
const SPACE_AGAIN_AFTER: u64 = 1_024;

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

/// Where the next batch goes.
#[derive(Debug)]
pub(super) struct Place {
    segment: Arc<Segment>,
    file: File,
    /// Where the last batch ends.
    end: u64,
    /// Where the zeros end that were written ahead.
    space: u64,
}

impl Place {
    /// Cuts off what a crash left behind the last batch, and makes that batch certain: it may be in the system's memory
    /// only, even after a sync that failed and was forgotten.
    pub(super) fn settle(
        folder: &Path,
        segment: &Arc<Segment>,
        tail: &Tail,
        disk: &dyn Disk,
    ) -> Result<Self, JournalError> {
        let path = &segment.path;
        let failed = |error: io::Error| JournalError::Store(explain(path, &error));
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        if tail.torn_bytes > 0 {
            tracing::warn!(
                file = %path.display(), offset = tail.end, bytes = tail.torn_bytes, after_batch = tail.seq,
                "a write that a crash tore is cut off; nothing in it was ever confirmed"
            );
            disk.cut(&file, tail.end).map_err(failed)?;
        }
        if let Some(last) = tail.last {
            let mut bytes = vec![0; (tail.end - last) as usize];
            file.read_exact_at(&mut bytes, last).map_err(failed)?;
            disk.write(&file, &bytes, last).map_err(failed)?;
            disk.sync(&file).map_err(failed)?;
        }
        // A segment that a crash has left without its place in the directory would be lost with its batches.
        disk::sync_dir(folder).map_err(failed)?;
        let space = file.metadata().map_err(failed)?.len();
        Ok(Self { segment: Arc::clone(segment), file, end: tail.end, space })
    }
}

/// What a batch is made of, beside the bytes.
#[derive(Default)]
struct Filling {
    keys: Vec<Key>,
    waiters: Vec<oneshot::Sender<Result<(), AppendError>>>,
}

impl Filling {
    fn answer(&mut self, outcome: &Result<(), AppendError>) {
        for waiter in self.waiters.drain(..) {
            // Whoever dropped the future does not want to know.
            let _ = waiter.send(outcome.clone());
        }
        self.keys.clear();
    }
}

pub(super) struct Writer {
    folder: PathBuf,
    layout: Layout,
    place: Place,
    /// Number of the last batch.
    seq: u64,
    /// Whether it says that the journal was closed.
    closed: bool,
    ledger: Ledger,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Command>,
    /// Taken from the queue already, before the rest of it.
    kept: VecDeque<Command>,
    filling: Filling,
    /// The batch being filled, as it will be written.
    buffer: Vec<u8>,
    /// Bytes behind the last batch that a failed write may have left; the ledger is ahead of the file then.
    doubtful: Option<u64>,
    /// Whether the next batch must begin a segment: one of that name may be there already.
    must_roll: bool,
    /// The batch from which on space is asked for.
    space_again: u64,
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        layout: Layout,
        place: Place,
        tail: Tail,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Command>,
    ) -> Self {
        let mut buffer = Vec::new();
        batch::begin(&mut buffer, tail.ends.len());
        Self {
            folder,
            layout,
            place,
            seq: tail.seq,
            closed: tail.closed,
            ledger: Ledger::new(tail.ends, tail.epochs),
            shared,
            queue,
            kept: VecDeque::new(),
            filling: Filling::default(),
            buffer,
            doubtful: None,
            must_roll: false,
            space_again: 0,
        }
    }

    /// Runs until every sender is gone and everything queued is written.
    pub(super) fn run(mut self) {
        while let Some(first) = self.wait() {
            let mut command = Some(first);
            while let Some(current) = command {
                match current {
                    Command::Append(queued) => self.admit(queued),
                    Command::TakeOver { partitions, reply } => {
                        self.write_filling();
                        let _ = reply.send(self.take_over(&partitions));
                    }
                }
                let full = self.filling.keys.len() >= MAX_BATCH_RECORDS || self.buffer.len() >= MAX_BATCH_BYTES;
                command = if full { None } else { self.next_queued() };
            }
            self.write_filling();
            self.reserve();
        }
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the journal was not closed cleanly; nothing durable is lost");
        }
    }

    fn wait(&mut self) -> Option<Command> {
        self.kept.pop_front().or_else(|| self.queue.blocking_recv())
    }

    fn next_queued(&mut self) -> Option<Command> {
        self.kept.pop_front().or_else(|| self.queue.try_recv().ok())
    }

    fn admit(&mut self, queued: Queued) {
        self.shared.waiting_bytes.fetch_sub(queued.body.len(), Ordering::Relaxed);
        let admitted = match self.ledger.check_epochs(&queued.keys) {
            // A barrier writes nothing, so it needs no certainty about the file.
            Ok(()) if queued.keys.is_empty() => Ok(()),
            Ok(()) => match self.settle() {
                Ok(()) => self.ledger.follow(&queued.keys),
                Err(error) => {
                    self.ledger.fail(&queued.keys);
                    Err(AppendError::Store(error))
                }
            },
            Err(error) => Err(error),
        };
        match admitted {
            Ok(()) => {
                self.buffer.extend_from_slice(&queued.body);
                self.shared.spares.give(queued.body);
                self.filling.keys.extend(queued.keys);
                self.filling.waiters.push(queued.done);
            }
            Err(error) => {
                let _ = queued.done.send(Err(error));
            }
        }
    }

    fn write_filling(&mut self) {
        if self.filling.keys.is_empty() {
            return self.filling.answer(&Ok(()));
        }
        // Each of them was pushed whole.
        let frames = batch::frames(&self.buffer, self.ledger.next().len()).flatten();
        let alerts = frames.filter_map(|frame| Alert::of(&frame)).collect();
        match self.write(Kind::Records) {
            Ok(()) => {
                self.shared.durable.send_modify(|durable| {
                    // Whoever sees them durable finds their alerts.
                    self.shared.alerts().keep(alerts);
                    durable.copy_from_slice(self.ledger.next());
                });
                self.filling.answer(&Ok(()));
            }
            Err(error) => {
                let error = AppendError::Store(error);
                tracing::error!(batch = self.seq + 1, %error, "a batch was not written; its owners recover");
                self.ledger.fail(&self.filling.keys);
                self.filling.answer(&Err(error.clone()));
                self.refuse_queued(&error);
            }
        }
    }

    /// Writes the batch in the buffer behind the last one, and empties the buffer.
    fn write(&mut self, kind: Kind) -> Result<(), Arc<str>> {
        let written = self.try_write(kind);
        batch::begin(&mut self.buffer, self.ledger.next().len());
        self.buffer.shrink_to(2 * MAX_BATCH_BYTES);
        written
    }

    fn try_write(&mut self, kind: Kind) -> Result<(), Arc<str>> {
        let (seq, size) = (self.seq + 1, batch::size(&self.buffer));
        let full = self.place.end + size > self.layout.segment_bytes && self.place.end > self.place.segment.start();
        if full || self.must_roll {
            self.must_roll = true;
            self.roll(size).inspect_err(|_| self.doubtful = Some(0))?;
            self.must_roll = false;
        }
        let (disk, place) = (&self.layout.disk, &mut self.place);
        batch::finish(&mut self.buffer, kind, seq, self.ledger.next(), place.end);
        let written = disk.write(&place.file, &self.buffer, place.end).and_then(|()| disk.sync(&place.file));
        if let Err(error) = written {
            self.doubtful = Some(size);
            return Err(explain(&place.segment.path, &error));
        }
        // Only a batch of records changes these, and that publishes them after this.
        place.segment.note(place.end, seq, &self.shared.durable.borrow());
        place.end += size;
        place.space = place.space.max(place.end);
        (self.seq, self.closed) = (seq, kind == Kind::Closed);
        self.shared.last_seq.store(seq, Ordering::Release);
        Ok(())
    }

    /// Begins the next segment, for a batch of this size.
    fn roll(&mut self, size: u64) -> Result<(), Arc<str>> {
        let header = Header {
            first: self.seq + 1,
            counts: self.shared.durable.borrow().clone(),
            epochs: self.ledger.epochs().to_vec(),
        };
        let disk = &self.layout.disk;
        let space = self.layout.space_bytes.max(size).min(self.layout.segment_bytes);
        let created = segment::create(disk.as_ref(), &self.folder, &header, space);
        let (file, path, space) = created.map_err(|error| -> Arc<str> { error.to_string().into() })?;
        // Zeros at the end of a file that has its successor are only in the way.
        if let Err(error) = disk.cut(&self.place.file, self.place.end) {
            tracing::warn!(file = %self.place.segment.path.display(), %error, "the space behind the last batch stays");
        }
        let segment = Arc::new(Segment::new(path, header, Some(Index::default())));
        self.shared.log.push(Arc::clone(&segment));
        self.place = Place { end: segment.start(), segment, file, space };
        Ok(())
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

    /// After a failure, makes sure that nothing of the failed batch is left.
    fn settle(&mut self) -> Result<(), Arc<str>> {
        let Some(bytes) = self.doubtful else { return Ok(()) };
        let place = &self.place;
        let settled = place.file.metadata().and_then(|metadata| {
            // A file that is shorter has nothing there, and a full disk might have no room for zeros.
            let to = (place.end + bytes).min(metadata.len());
            disk::write_zeros(self.layout.disk.as_ref(), &place.file, place.end, to)?;
            self.layout.disk.sync(&place.file)
        });
        settled.map_err(|error| explain(&place.segment.path, &error))?;
        self.ledger.correct(&self.shared.durable.borrow());
        self.doubtful = None;
        Ok(())
    }

    fn take_over(&mut self, partitions: &[Partition]) -> Result<Vec<Tenure>, JournalError> {
        self.settle().map_err(JournalError::Store)?;
        let epochs = self.ledger.next_epochs(partitions)?;
        if epochs.is_empty() {
            return Ok(Vec::new());
        }
        batch::push_epochs(&epochs, &mut self.buffer);
        self.write(Kind::Epochs).map_err(JournalError::Store)?;
        Ok(self.ledger.take_over(&epochs))
    }

    /// Writes zeros ahead while nobody waits, so that a sync of a batch has no new length to store.
    fn reserve(&mut self) {
        let (place, layout) = (&mut self.place, &self.layout);
        let to = (place.end + layout.space_bytes).min(layout.segment_bytes);
        let enough = place.space >= to || place.space - place.end >= layout.space_bytes / 2;
        // A batch that finds no space waits for the file system's own journal, and so would each after it under load.
        let low = place.space.saturating_sub(place.end) < layout.space_bytes / 8;
        let waits = !low && (!self.kept.is_empty() || !self.queue.is_empty());
        if enough || waits || self.doubtful.is_some() || self.seq < self.space_again {
            return;
        }
        let disk = layout.disk.as_ref();
        match disk::write_zeros(disk, &place.file, place.space, to).and_then(|()| disk.sync(&place.file)) {
            Ok(()) => place.space = to,
            Err(error) => {
                // Batches that still fit are written all the same.
                self.space_again = self.seq + SPACE_AGAIN_AFTER;
                tracing::warn!(error = %explain(&place.segment.path, &error), "no space could be made ahead of the journal");
            }
        }
    }

    /// Says in the log that it ends here, and leaves nothing behind it.
    fn close(&mut self) -> Result<(), Arc<str>> {
        self.settle()?;
        if self.closed {
            return Ok(());
        }
        self.write(Kind::Closed)?;
        let place = &self.place;
        self.layout.disk.cut(&place.file, place.end).map_err(|error| explain(&place.segment.path, &error))
    }
}

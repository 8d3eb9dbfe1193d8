//! Walks through the batches of a log: a window on a file, and the scan that finds where the log ends.
//!
//! A batch is written only after the one before it is on the disk. So what follows the last good batch is what a crash
//! tore, and was never confirmed, unless a good batch lies behind it: then it is damage. The scan only looks; whoever
//! owns the log cuts off what is torn.

use super::batch::{ALIGN, Batch, Chain, FIXED, Head, Kind, MAGIC};
use super::disk::{ZEROS, explain};
use super::segment::{Index, Segment, damaged};
use crate::journal::JournalError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once where everything is.
pub(super) const SCAN_BYTES: usize = 1 << 20;

/// How many bytes of a file are read at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    first: usize,
    most: usize,
}

impl Steps {
    /// Always so many.
    pub(super) const fn of(bytes: usize) -> Self {
        Self { first: bytes, most: bytes }
    }

    /// Few at first, twice as many with every read: for whoever may want a little only.
    pub(super) const fn growing(first: usize, most: usize) -> Self {
        Self { first, most }
    }
}

/// A part of a file in memory, which moves as it is read.
#[derive(Debug)]
pub(super) struct Window {
    path: PathBuf,
    file: File,
    start: u64,
    bytes: Vec<u8>,
    /// Bytes that are read at once, at least: more with every read, as whoever reads on wants more.
    step: usize,
    /// What that grows to.
    most: usize,
}

impl Window {
    pub(super) fn open(path: &Path, steps: Steps) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(|error| JournalError::Store(explain(path, &error)))?;
        Ok(Self { path: path.to_owned(), file, start: 0, bytes: Vec::new(), step: steps.first, most: steps.most })
    }

    fn length(&self) -> Result<u64, JournalError> {
        let length = self.file.metadata().map(|metadata| metadata.len());
        length.map_err(|error| JournalError::Store(explain(&self.path, &error)))
    }

    /// Up to so many bytes at a place; fewer only where the file ends.
    pub(super) fn at(&mut self, offset: u64, length: usize) -> Result<&[u8], JournalError> {
        let held = (self.start..=self.start + self.bytes.len() as u64).contains(&offset);
        if !held || self.start + (self.bytes.len() as u64) < offset + length as u64 {
            self.fill(offset, length.max(self.step))
                .map_err(|error| JournalError::Store(explain(&self.path, &error)))?;
            self.step = (2 * self.step).min(self.most);
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + length)])
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        // What the file says of its length bounds what a damaged batch may ask for.
        let rest = self.file.metadata()?.len().saturating_sub(offset);
        self.bytes.resize(length.min(usize::try_from(rest).unwrap_or(usize::MAX)), 0);
        self.start = offset;
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }

    /// Reads from the file again what is asked for next.
    fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The first bytes of the batch with this number at a place, or why there is none.
    pub(super) fn head(
        &mut self,
        offset: u64,
        seq: u64,
        partitions: usize,
    ) -> Result<Result<Head, String>, JournalError> {
        let bytes = self.at(offset, Head::with_ends(partitions))?;
        Ok(match Head::parse(bytes, partitions) {
            Ok(head) if head.seq != seq => Err(format!("the batch is missing, found batch {}", head.seq)),
            Err(_) if bytes.is_empty() => Err("the batch is missing: the file ends before it".to_owned()),
            parsed => parsed,
        })
    }

    /// The batch of a head, or why it is none.
    pub(super) fn batch(&mut self, head: &Head, offset: u64) -> Result<Result<Batch<'_>, String>, JournalError> {
        Ok(head.batch(self.at(offset, head.size())?, offset))
    }

    /// Where the bytes that are not zero end, from a place on; the place itself if all are.
    pub(super) fn end_of_traces(&mut self, offset: u64) -> Result<u64, JournalError> {
        let (mut at, mut end) = (offset, offset);
        loop {
            let bytes = self.at(at, SCAN_BYTES)?;
            if bytes.is_empty() {
                return Ok(end);
            }
            for chunk in bytes.chunks(ZEROS.len()) {
                // Comparing is several times as fast as looking for the byte, and most chunks are zeros.
                if chunk != &ZEROS[..chunk.len()] {
                    let last = chunk.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                    end = at + last as u64 + 1;
                }
                at += chunk.len() as u64;
            }
        }
    }

    /// Number of any good batch behind a place that comes after one with this number.
    fn later_batch(&mut self, offset: u64, end: u64, seq: u64, partitions: usize) -> Result<Option<u64>, JournalError> {
        let length = self.length()?;
        let mut at = offset;
        while at < end {
            let bytes = self.at(at, SCAN_BYTES)?;
            let found = bytes.chunks(ALIGN).position(|chunk| chunk.starts_with(&MAGIC));
            let Some(found) = found else {
                at += bytes.len().next_multiple_of(ALIGN).max(ALIGN) as u64;
                continue;
            };
            at += (found * ALIGN) as u64;
            if let Ok(head) = Head::parse(self.at(at, FIXED)?, partitions)
                && head.seq > seq
                && at + head.size() as u64 <= length
                && self.batch(&head, at)?.is_ok()
            {
                return Ok(Some(head.seq));
            }
            at += ALIGN as u64;
        }
        Ok(None)
    }
}

/// The end of a log as its last segment has it.
#[derive(Debug)]
pub(super) struct Tail {
    /// Number of the last batch, 0 for none.
    pub(super) seq: u64,
    /// Number of records of every partition.
    pub(super) ends: Vec<u64>,
    /// Epoch of every partition, 0 for none.
    pub(super) epochs: Vec<u64>,
    /// Where the last batch ends.
    pub(super) end: u64,
    /// Where it begins, if it is in this segment.
    pub(super) last: Option<u64>,
    /// Whether the journal was closed there.
    pub(super) closed: bool,
    /// Bytes behind it that a crash left.
    pub(super) torn_bytes: u64,
    pub(super) index: Index,
}

impl Tail {
    /// Verifies a segment from its start to its end.
    ///
    /// # Errors
    /// When it is damaged: a batch does not verify and there is a good one behind it.
    pub(super) fn find(segment: &Segment) -> Result<Self, JournalError> {
        let header = &segment.header;
        let partitions = header.counts.len();
        let mut window = Window::open(&segment.path, Steps::of(SCAN_BYTES))?;
        let mut tail = Self {
            seq: header.first - 1,
            ends: header.counts.clone(),
            epochs: header.epochs.clone(),
            end: segment.start(),
            last: None,
            closed: false,
            torn_bytes: 0,
            index: Index::default(),
        };
        let mut looked_twice = false;
        loop {
            let refused = match tail.step(&mut window, partitions)? {
                Ok(()) => {
                    looked_twice = false;
                    continue;
                }
                Err(what) => what,
            };
            let traces = window.end_of_traces(tail.end)?;
            if let Some(later) = window.later_batch(tail.end, traces, tail.seq, partitions)? {
                // Beside a running service, the batch may have been written between the two looks.
                if !looked_twice {
                    looked_twice = true;
                    window.forget();
                    continue;
                }
                let what = format!("{refused}, and batch {later} follows it");
                return Err(damaged(&segment.path, tail.seq + 1, what));
            }
            tail.torn_bytes = traces - tail.end;
            return Ok(tail);
        }
    }

    /// Takes the next batch, or says why it is none.
    fn step(&mut self, window: &mut Window, partitions: usize) -> Result<Result<(), String>, JournalError> {
        let (offset, seq) = (self.end, self.seq + 1);
        let head = match window.head(offset, seq, partitions)? {
            Ok(head) => head,
            Err(what) => return Ok(Err(what)),
        };
        let mut chain = Chain::after(&self.ends);
        let checked = window.batch(&head, offset)?.and_then(|batch| {
            chain.follow(&batch)?;
            batch.apply_epochs(&mut self.epochs)?;
            Ok(batch.kind == Kind::Closed)
        });
        Ok(checked.map(|closed| {
            if self.index.wants(offset) {
                self.index.push(offset, seq, &self.ends);
            }
            self.ends = chain.ends();
            (self.seq, self.last, self.closed) = (seq, Some(offset), closed);
            self.end += head.size() as u64;
        }))
    }
}

//! The spill's file: frames behind one another, each written and synced before the next.
//!
//! A crash can tear the last frame only, which nobody was told of; it is cut off with a warning. Any other damage is refused,
//! as it may have been an answer that somebody got. A file that has grown, or that a failed write has left in doubt, is
//! written again beside itself and put in its place when all of it is on the disk.

use super::frame::{self, Item};
use super::{RecordId, SpillError};
use crate::journal::codec::Decoder;
use crate::journal::log::disk::{Disk, explain};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// Bytes of items after which a frame is ended while the file is written again.
const FRAME_BYTES: usize = 1 << 20;

/// Records as they are stored.
pub(super) type Stored = BTreeMap<RecordId, Arc<[u8]>>;

/// See the module.
#[derive(Debug)]
pub(super) struct SpillFile {
    path: PathBuf,
    owner: Box<str>,
    disk: Arc<dyn Disk>,
    file: File,
    /// Where the next frame begins.
    length: u64,
    /// Its number.
    number: u64,
    buffer: Vec<u8>,
}

impl SpillFile {
    /// Opens the file or makes one, and gives what is in it.
    pub(super) fn open(path: &Path, owner: &str, disk: Arc<dyn Disk>) -> Result<(Self, Stored), SpillError> {
        let store = |error: &io::Error| SpillError::Store(explain(path, error));
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self::make(path, owner, disk, &Stored::new()).map_err(|error| store(&error))?;
                return Ok((made, Stored::new()));
            }
            Err(error) => return Err(store(&error)),
        };
        let Read { found_owner, stored, length, number } = read(path, &bytes)?;
        if &*found_owner != owner {
            return if stored.is_empty() {
                let made = Self::make(path, owner, disk, &stored).map_err(|error| store(&error))?;
                Ok((made, stored))
            } else {
                let (entries, expected, found) = (stored.len(), owner.into(), found_owner);
                Err(SpillError::OtherJournal { file: path.display().to_string().into(), entries, expected, found })
            };
        }
        let file = File::options().read(true).write(true).open(path).map_err(|error| store(&error))?;
        if length < bytes.len() as u64 {
            let torn = bytes.len() as u64 - length;
            warn!(file = %path.display(), torn, "cutting off what a crash tore, of which nobody was told");
            disk.cut(&file, length).map_err(|error| store(&error))?;
        }
        Ok((
            Self { path: path.to_owned(), owner: owner.into(), disk, file, length, number, buffer: Vec::new() },
            stored,
        ))
    }

    /// Writes the file anew, with these records, in place of the one that is there.
    fn make(path: &Path, owner: &str, disk: Arc<dyn Disk>, live: &Stored) -> io::Result<Self> {
        let beside = path.with_extension("new");
        let file = disk.create(&beside)?;
        let (path, owner) = (path.to_owned(), owner.into());
        let mut made = Self { path, owner, disk, file, length: 0, number: 0, buffer: Vec::new() };
        frame::begin(&mut made.buffer);
        frame::push(Item::Owner(&made.owner), &mut made.buffer);
        for record in live.values() {
            if made.buffer.len() >= FRAME_BYTES {
                made.write()?;
                frame::begin(&mut made.buffer);
            }
            frame::push(Item::Put(record), &mut made.buffer);
        }
        made.write()?;
        made.disk.sync(&made.file)?;
        made.disk.publish(&beside, &made.path)?;
        Ok(made)
    }

    /// Writes the file again with these records, and nothing else.
    pub(super) fn rewrite(&mut self, live: &Stored) -> io::Result<()> {
        *self = Self::make(&self.path, &self.owner, Arc::clone(&self.disk), live)?;
        Ok(())
    }

    /// Adds records and takes records off; all of it is on the disk when this returns. After an error nobody knows what is in
    /// the file behind what was there before, and it must be written again.
    pub(super) fn append<'a>(
        &mut self,
        puts: impl Iterator<Item = &'a [u8]>,
        dones: impl Iterator<Item = RecordId>,
    ) -> io::Result<()> {
        frame::begin(&mut self.buffer);
        puts.for_each(|record| frame::push(Item::Put(record), &mut self.buffer));
        dones.for_each(|id| frame::push(Item::Done(id), &mut self.buffer));
        if frame::is_empty(&self.buffer) {
            return Ok(());
        }
        self.write()?;
        self.disk.sync(&self.file)
    }

    /// Bytes of the file.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    fn write(&mut self) -> io::Result<()> {
        frame::finish(&mut self.buffer, self.number, self.length);
        self.disk.write(&self.file, &self.buffer, self.length)?;
        self.length += self.buffer.len() as u64;
        self.number += 1;
        Ok(())
    }

    /// An error of the file, with what to do.
    pub(super) fn explain(&self, error: &io::Error) -> Arc<str> {
        explain(&self.path, error)
    }
}

/// What a file holds.
struct Read {
    found_owner: Box<str>,
    stored: Stored,
    /// Bytes that are whole.
    length: u64,
    /// Number of the next frame.
    number: u64,
}

fn read(path: &Path, bytes: &[u8]) -> Result<Read, SpillError> {
    let damaged =
        |offset: u64, what: String| SpillError::Damaged { file: path.display().to_string().into(), offset, what };
    let (mut found_owner, mut stored, mut decoder) = (None, Stored::new(), Decoder::default());
    let (mut length, mut number) = (0, 0);
    while (length as usize) < bytes.len() {
        let rest = &bytes[length as usize..];
        let frame = match frame::read(rest, length) {
            Ok(frame) if frame.number == number => frame,
            Ok(frame) => return Err(damaged(length, format!("expected frame {number}, found {}", frame.number))),
            // Only what is behind all frames can be torn, and the first was whole before the file had its name.
            Err(what) if number == 0 || frame::is_any_behind(rest, length, number) => {
                return Err(damaged(length, what));
            }
            Err(_) => break,
        };
        for item in frame.items {
            match item {
                Item::Owner(name) => found_owner = Some(name.into()),
                Item::Done(id) => _ = stored.remove(&id),
                Item::Put(record) => {
                    let id = decoder.decode(record).map_err(|error| damaged(length, error.to_string()))?;
                    stored.insert(RecordId::from(&id), record.into());
                }
            }
        }
        length += frame.size as u64;
        number += 1;
    }
    let found_owner = found_owner.ok_or_else(|| damaged(0, "expected the name of a journal, found none".to_owned()))?;
    Ok(Read { found_owner, stored, length, number })
}

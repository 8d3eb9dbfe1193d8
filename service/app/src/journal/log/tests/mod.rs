//! What is particular to the files: a disk that fails when told to, and what the tests of this folder share.

mod damage;
mod failures;
mod model;
mod restarts;

use super::batch::Head;
use super::disk::{Disk, RealDisk};
use super::scan::{SCAN_BYTES, Steps, Window};
use super::segment::{self, Segment};
use super::{Layout, LogJournal, folder_in};
use crate::journal::contract::own;
use crate::journal::record::Record;
use crate::journal::{DirLock, Journal, JournalError, Partition, Wanted, samples};
use futures_util::TryStreamExt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

/// What becomes of a write that fails.
#[derive(Clone, Copy, Debug)]
enum Landing {
    /// So many bytes from its start.
    Prefix(usize),
    /// The sectors of 512 bytes whose bit is set, in turn.
    Sectors(u64),
}

#[derive(Debug, Default)]
struct Faults {
    /// The next write lands in part and fails.
    write: Option<Landing>,
    /// So many syncs from now on fail; what was written before them is in the file.
    syncs: u32,
    /// The next new name fails, before or after it is given.
    publish: Option<bool>,
    /// From the next fault on everything fails, as for a process that is gone.
    dies: bool,
    dead: bool,
    /// Nothing can be written from this byte of a file on.
    full_at: Option<u64>,
    /// Syncs wait.
    held: bool,
    /// Syncs that were done.
    synced: u32,
}

/// A disk that fails when told to.
#[derive(Debug, Default)]
struct FaultyDisk {
    faults: Mutex<Faults>,
    released: Condvar,
}

impl FaultyDisk {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().expect("no panic"));
        self.released.notify_all();
    }

    fn get<T>(&self, look: impl FnOnce(&Faults) -> T) -> T {
        look(&self.faults.lock().expect("no panic"))
    }

    /// Waits until so many syncs were done. Space ahead is made, and synced, when nobody waits for the writer.
    fn wait_for_syncs(&self, synced: u32) {
        while self.get(|faults| faults.synced < synced) {
            std::thread::yield_now();
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.get(|faults| faults.dead) { Err(broken()) } else { Ok(()) }
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.alive()?;
        RealDisk.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.alive()?;
        let mut faults = self.faults.lock().expect("no panic");
        if let Some(limit) = faults.full_at.filter(|limit| offset + bytes.len() as u64 > *limit) {
            let fits = limit.saturating_sub(offset) as usize;
            file.write_all_at(&bytes[..fits], offset)?;
            return Err(io::Error::from_raw_os_error(28));
        }
        let Some(landing) = faults.write.take() else { return file.write_all_at(bytes, offset) };
        faults.dead = faults.dies;
        match landing {
            Landing::Prefix(length) => file.write_all_at(&bytes[..length.min(bytes.len())], offset)?,
            Landing::Sectors(mask) => {
                for (sector, part) in bytes.chunks(512).enumerate().filter(|(sector, _)| mask >> (sector % 64) & 1 == 1)
                {
                    file.write_all_at(part, offset + sector as u64 * 512)?;
                }
            }
        }
        Err(broken())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.alive()?;
        let mut faults = self.faults.lock().expect("no panic");
        while faults.held {
            faults = self.released.wait(faults).expect("no panic");
        }
        if faults.syncs > 0 {
            faults.syncs -= 1;
            faults.dead = faults.dies;
            return Err(broken());
        }
        faults.synced += 1;
        drop(faults);
        file.sync_data()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.alive()?;
        RealDisk.cut(file, length)
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        let fault = self.faults.lock().expect("no panic").publish.take();
        if fault == Some(false) {
            return Err(broken());
        }
        RealDisk.publish(from, to)?;
        if fault == Some(true) { Err(broken()) } else { Ok(()) }
    }
}

/// Segments of a few batches, and little space ahead.
fn small(disk: &Arc<FaultyDisk>) -> Layout {
    Layout { segment_bytes: 7_500, space_bytes: 2_000, alert_bytes: 3_000, disk: Arc::clone(disk) as Arc<dyn Disk> }
}

fn lock(dir: &Path) -> DirLock {
    DirLock::acquire(dir).expect("free")
}

fn open_with(dir: &Path, layout: Layout) -> LogJournal {
    LogJournal::open_now(lock(dir), 2, layout).expect("opens")
}

async fn open(dir: &Path) -> LogJournal {
    LogJournal::open(lock(dir), 2).await.expect("opens")
}

/// A closed journal: batch 1 gives epochs, 2 to 11 have three records in partition 0 and one in partition 1, 12 closes.
async fn ten_batches_with(layout: Layout) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open_with(dir.path(), layout);
    let epochs = own(&journal).await;
    for batch in 0..10 {
        let mut records: Vec<Record> = (0..3).map(|n| samples::decision(0, epochs[0], batch * 3 + n)).collect();
        records.push(samples::login(1, epochs[1], batch));
        journal.append(records).await.expect("durable");
    }
    drop(journal);
    dir
}

async fn ten_batches() -> TempDir {
    ten_batches_with(Layout::default()).await
}

async fn replay(journal: &LogJournal, from: &[(Partition, u64)]) -> Result<Vec<Record>, JournalError> {
    journal.replay(from.to_vec(), Wanted::Everything).try_collect().await
}

fn segments(dir: &Path) -> Vec<Arc<Segment>> {
    segment::list(&folder_in(dir)).expect("lists")
}

/// The first segment's file.
fn file_in(dir: &Path) -> PathBuf {
    Segment::path_in(&folder_in(dir), 1)
}

/// Offset and size of every batch of a segment, believing its heads.
fn batches(segment: &Segment) -> Vec<(usize, usize)> {
    let mut window = Window::open(&segment.path, Steps::of(SCAN_BYTES)).expect("opens");
    let (mut offset, mut found) = (segment.start(), Vec::new());
    for seq in segment.header.first.. {
        let head: Result<Head, String> = window.head(offset, seq, segment.header.counts.len()).expect("reads");
        let Ok(head) = head else { break };
        found.push((offset as usize, head.size()));
        offset += head.size() as u64;
    }
    found
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("reads");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writes");
}

/// A copy of a journal, to be harmed.
fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(folder_in(copy.path())).expect("a folder");
    for entry in std::fs::read_dir(folder_in(dir)).expect("lists") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder_in(copy.path()).join(entry.file_name())).expect("copies");
    }
    copy
}

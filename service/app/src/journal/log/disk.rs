//! What the log asks of the file system, in one place, so that tests can make it fail; and errors that say what to do.
//!
//! It decides nothing: whether a failed write may have landed is the writer's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// What Linux says of a device that fails; the standard library has no name for it.
const EIO: i32 = 5;

/// The calls that can fail on a disk that is full, read-only or broken.
pub(in crate::journal) trait Disk: std::fmt::Debug + Send + Sync {
    /// Makes an empty file, in place of one that is there.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Writes all of it; after an error nobody knows how much.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Contents, and as much of the rest as it takes to find them, on the device. After an error it must not be asked
    /// again about the same bytes: the system may have dropped them and say yes.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Shortens a file.
    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }

    /// Gives a file its final name, durably.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        to.parent().map_or(Ok(()), sync_dir)
    }
}

/// The disk itself.
#[derive(Debug)]
pub(in crate::journal) struct RealDisk;

impl Disk for RealDisk {}

/// Makes the names in a directory durable.
pub(in crate::journal) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes zeros over a range.
pub(super) fn write_zeros(disk: &dyn Disk, file: &File, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let length = (to - from).min(ZEROS.len() as u64);
        disk.write(file, &ZEROS[..length as usize], from)?;
        from += length;
    }
    Ok(())
}

/// An error of the file system with the file and the remedy.
pub(in crate::journal) fn explain(path: &Path, error: &io::Error) -> Arc<str> {
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some disk space",
        ErrorKind::FileTooLarge => "free some disk space, or raise this user's limit on the size of a file",
        ErrorKind::ReadOnlyFilesystem => "make the disk writable again",
        ErrorKind::PermissionDenied => "give this user write permission on the file and its directory",
        ErrorKind::NotFound => "restore it from a copy, or check that data.dir names the right directory",
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "move what is in the way, or use another data directory"
        }
        _ if error.raw_os_error() == Some(EIO) => "check the disk and its free space",
        _ => "this is unexpected; check the disk, and please report it",
    };
    format!("{}: {error}; {remedy}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_file_and_what_to_do() {
        let table = [
            (28, "No space left on device (os error 28); free some disk space"),
            (27, "raise this user's limit on the size of a file"),
            (30, "make the disk writable again"),
            (13, "give this user write permission"),
            (2, "restore it from a copy, or check that data.dir"),
            (21, "move what is in the way"),
            (5, "check the disk and its free space"),
            (9, "please report it"),
        ];
        for (code, expected) in table {
            let said = explain(Path::new("/data/journal/1.log"), &io::Error::from_raw_os_error(code));
            assert!(said.starts_with("/data/journal/1.log: ") && said.contains(expected), "{said}");
        }
    }
}

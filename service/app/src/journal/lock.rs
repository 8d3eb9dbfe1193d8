//! The lock on the data directory: one process at a time, whatever becomes of the last one.
//!
//! The operating system drops the lock with the process, so a file that a crash left behind locks nobody out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Longest content of the lock file that is read: a process id.
const MAX_PID_BYTES: u64 = 20;

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{} is used by {}; stop it, or use another data directory",
        path.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The other process, if it has written its id already.
        holder: Option<u32>,
    },
    /// The lock file cannot be made.
    #[error("expected a directory that this user may write to at {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Holds the directory until it and all of its clones are dropped.
#[derive(Clone, Debug)]
pub struct DirLock {
    dir: PathBuf,
    _file: Arc<File>,
}

impl DirLock {
    /// Takes the directory, which is made if it is missing; never waits.
    ///
    /// # Errors
    /// When another process has it, or the lock file cannot be written.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        create_durably(dir).map_err(failed)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: read_pid(&file), path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), _file: Arc::new(file) })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Makes a directory and whatever it lies in, with names that a power cut leaves: the journal in it is no safer than
/// they are.
fn create_durably(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    std::fs::create_dir_all(dir)?;
    for made in missing.into_iter().rev() {
        // The parent of a name by itself is where the process runs.
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let first = DirLock::acquire(&data).expect("free");
        let error = DirLock::acquire(&data).expect_err("held").to_string();
        let expected = format!("{}/lock is used by process {}; stop it", data.display(), std::process::id());
        assert!(error.starts_with(&expected), "{error}");
        drop(first);
        DirLock::acquire(&data).expect("free again");
    }

    #[test]
    fn a_file_left_behind_locks_nobody_out() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("lock"), "4294967295 and more than a process id").expect("writes");
        DirLock::acquire(dir.path()).expect("free");
        let left = std::fs::read_to_string(dir.path().join("lock")).expect("reads");
        assert_eq!(left, std::process::id().to_string());
    }

    #[test]
    fn what_cannot_be_a_directory_is_named() {
        let error = DirLock::acquire(Path::new("/proc/verdict-test")).expect_err("refused").to_string();
        assert!(error.starts_with("expected a directory that this user may write to at /proc/verdict-test/lock"));
    }
}

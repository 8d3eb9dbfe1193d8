//! Models by hash beside the journal, so that every recorded decision can be computed again. It never deletes one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The copy could not be made.
#[derive(Debug, Error)]
#[error("the model cannot be archived in {}; expected a writable directory", place.display())]
pub struct ArchiveError {
    /// Where it was to go.
    pub place: PathBuf,
    /// What went wrong.
    #[source]
    pub error: io::Error,
}

/// The directory of an archived model.
pub(super) fn place(data_dir: &Path, sha256: &str) -> PathBuf {
    data_dir.join("archive").join("models").join(sha256)
}

/// Writes a model's files; a crash at any point leaves the whole model or none under its name.
pub(super) fn store(files: &[(&str, &[u8])], sha256: &str, data_dir: &Path) -> Result<PathBuf, ArchiveError> {
    let place = place(data_dir, sha256);
    if place.is_dir() {
        return Ok(place);
    }
    match write(files, &place) {
        Ok(()) => Ok(place),
        // Another process was faster; what it wrote has the same hash.
        Err(_) if place.is_dir() => Ok(place),
        Err(error) => Err(ArchiveError { place, error }),
    }
}

fn write(files: &[(&str, &[u8])], place: &Path) -> io::Result<()> {
    let parent = place.parent().unwrap_or(place);
    fs::create_dir_all(parent)?;
    let draft = parent.join(format!(".draft-{}", std::process::id()));
    if draft.is_dir() {
        // Left by a process of the same id that was killed.
        fs::remove_dir_all(&draft)?;
    }
    fs::create_dir(&draft)?;
    for (name, content) in files {
        let mut file = File::create(draft.join(name))?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    File::open(&draft)?.sync_all()?;
    let renamed = fs::rename(&draft, place);
    if renamed.is_err() {
        fs::remove_dir_all(&draft)?;
    }
    renamed?;
    File::open(parent)?.sync_all()
}

//! Rule sets by hash, beside the journal: `archive/rulesets/HASH/{ruleset.yaml, fx.yaml, NAME}` in the data folder, and the
//! same files for whoever keeps them elsewhere too.
//!
//! A set must be here before a record names it. A folder appears whole or not at all: it is written under another name,
//! synced and renamed. Nothing is ever deleted but what a crash left half-written.

use super::{FX_FILE, RULESET_FILE, Rulebook, RulebookError, read};
use crate::wire::hex;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file with the set's name.
const NAME_FILE: &str = "NAME";

impl Rulebook {
    /// Writes the sources to the archive in the data folder. Does nothing when they are there.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn archive(&self, data_dir: &Path) -> Result<(), RulebookError> {
        let hash = self.rules.hash();
        if Self::load_archived(data_dir, &hash).is_ok() {
            return Ok(());
        }
        let folder = folder_of(data_dir, &hash);
        self.write_to(&folder).map_err(|source| RulebookError::Write { path: folder, source })
    }

    /// Loads a set from the archive in the data folder by its hash.
    ///
    /// # Errors
    /// It is not there, it is not what its hash says, or it does not compile.
    pub fn load_archived(data_dir: &Path, hash: &[u8; 32]) -> Result<Self, RulebookError> {
        let path = folder_of(data_dir, hash);
        let name = read(&path.join(NAME_FILE))?;
        Self::from_files(&name, &path.join(RULESET_FILE), &path.join(FX_FILE))?.verified(&path, hash)
    }

    /// The files that are archived, by name.
    #[must_use]
    pub fn archived_files(&self) -> [(&'static str, &[u8]); 3] {
        let (ruleset, fx) = (self.ruleset_text.as_bytes(), self.fx_text.as_bytes());
        [(RULESET_FILE, ruleset), (FX_FILE, fx), (NAME_FILE, self.rules.name().as_bytes())]
    }

    /// A set from its archived files, of whatever archive: `place` names it in errors.
    ///
    /// # Errors
    /// A file is missing or no text, they are not what the hash says, or do not compile.
    pub fn from_archived(
        place: &Path,
        hash: &[u8; 32],
        file: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, RulebookError> {
        let text = |name: &str| {
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            let bytes = file(name).ok_or_else(missing);
            let text = bytes.and_then(|bytes| {
                String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
            text.map_err(|source| RulebookError::Read { path: place.join(name), source })
        };
        let (ruleset, fx) = (place.join(RULESET_FILE), place.join(FX_FILE));
        let (ruleset_text, fx_text) = (text(RULESET_FILE)?, text(FX_FILE)?);
        Self::compile(&text(NAME_FILE)?, (&ruleset, ruleset_text), (&fx, fx_text))?.verified(place, hash)
    }

    fn verified(self, place: &Path, hash: &[u8; 32]) -> Result<Self, RulebookError> {
        let found = self.rules.hash();
        if found == *hash {
            return Ok(self);
        }
        Err(RulebookError::Damaged { path: place.to_owned(), expected: hex(hash), found: hex(&found) })
    }

    fn write_to(&self, folder: &Path) -> io::Result<()> {
        let parent = folder.parent().unwrap_or(folder);
        fs::create_dir_all(parent)?;
        // The data folder has one owner, so nobody else writes here; what is left is of a crash.
        let unfinished = folder.with_extension("tmp");
        remove(&unfinished)?;
        remove(folder)?;
        fs::create_dir(&unfinished)?;
        for (name, bytes) in self.archived_files() {
            let mut file = File::create(unfinished.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, folder)?;
        // Each folder on the way down may be new, too.
        for above in parent.ancestors().take(3).filter(|above| above.is_dir()) {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folder_of(data_dir: &Path, hash: &[u8; 32]) -> PathBuf {
    data_dir.join("archive").join("rulesets").join(hex(hash))
}

#[cfg(test)]
mod tests {
    use super::super::tests::shipped;
    use super::*;

    #[test]
    fn there_and_back() {
        let data = tempfile::tempdir().unwrap();
        let book = Rulebook::load(&shipped(), "default").unwrap();
        let hash = book.rules().hash();
        assert!(matches!(Rulebook::load_archived(data.path(), &hash), Err(RulebookError::Read { .. })));
        book.archive(data.path()).unwrap();
        let folder = folder_of(data.path(), &hash);
        let written = fs::metadata(folder.join(NAME_FILE)).unwrap().modified().unwrap();
        book.archive(data.path()).unwrap();
        assert_eq!(fs::metadata(folder.join(NAME_FILE)).unwrap().modified().unwrap(), written);
        let back = Rulebook::load_archived(data.path(), &hash).unwrap();
        assert_eq!((back.rules().hash(), back.rules().name()), (hash, "default"));
        assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn its_files_make_it_again_and_others_do_not() {
        let book = Rulebook::load(&shipped(), "default").unwrap();
        let (place, hash) = (Path::new("elsewhere"), book.rules().hash());
        let kept = |without: &'static str| {
            let files = book.archived_files().map(|(name, bytes)| (name, bytes.to_vec()));
            move |name: &str| {
                let found = files.iter().find(|(kept, _)| *kept == name && name != without);
                found.map(|(_, bytes)| bytes.clone())
            }
        };
        let back = Rulebook::from_archived(place, &hash, kept("")).unwrap();
        assert_eq!((back.rules().hash(), back.rules().name()), (hash, "default"));
        let missing = Rulebook::from_archived(place, &hash, kept(FX_FILE)).unwrap_err().to_string();
        assert!(missing.starts_with("elsewhere/fx.yaml cannot be read"), "{missing}");
        let other = Rulebook::from_archived(place, &[7; 32], kept("")).unwrap_err();
        assert!(matches!(other, RulebookError::Damaged { .. }), "{other}");
    }

    #[test]
    fn what_a_crash_or_a_bad_disk_left() {
        let data = tempfile::tempdir().unwrap();
        let book = Rulebook::load(&shipped(), "default").unwrap();
        let hash = book.rules().hash();
        let folder = folder_of(data.path(), &hash);
        fs::create_dir_all(folder.with_extension("tmp")).unwrap();
        book.archive(data.path()).unwrap();
        assert!(!folder.with_extension("tmp").exists());
        fs::write(folder.join(FX_FILE), "base: EUR\n").unwrap();
        let damaged = Rulebook::load_archived(data.path(), &hash).unwrap_err();
        assert!(matches!(damaged, RulebookError::Damaged { .. }), "{damaged}");
        book.archive(data.path()).unwrap();
        assert!(Rulebook::load_archived(data.path(), &hash).is_ok());
    }
}

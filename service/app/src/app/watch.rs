//! Tells when files have changed and come to rest, from looks that somebody else takes. It reads no content and no clock.
//!
//! Looks, not notifications: they work on every file system, and see a folder that was moved into place or a symbolic
//! link that now leads elsewhere.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What can be told of files without reading them; `None` for one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look(Vec<Option<Stamp>>);

/// Changes whenever the file's content may have: the time of the last change cannot be set, unlike that of the last
/// modification, which copying tools carry along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Look {
    /// Looks at files as they are now.
    pub(super) fn at(files: &[PathBuf]) -> Self {
        let stamp = |file: &PathBuf| {
            let found = fs::metadata(file).ok()?;
            let changed = (found.ctime(), found.ctime_nsec());
            Some(Stamp { device: found.dev(), inode: found.ino(), bytes: found.len(), changed })
        };
        Self(files.iter().map(stamp).collect())
    }
}

/// Compares looks.
#[derive(Debug)]
pub(super) struct Watch {
    /// What was acted upon.
    settled: Look,
    /// The last look.
    last: Look,
}

impl Watch {
    /// Starts from what is in force.
    pub(super) fn new(settled: Look) -> Self {
        Self { last: settled.clone(), settled }
    }

    /// Whether the files are others than those that were acted upon and have rested since the last look, so that a file
    /// is not taken half-written. `true` once for every change.
    pub(super) fn has_changed(&mut self, look: &Look) -> bool {
        let rests = self.last == *look;
        self.last = look.clone();
        if !rests || self.settled == *look {
            return false;
        }
        self.settled = look.clone();
        true
    }

    /// Takes note that these were acted upon.
    pub(super) fn settle(&mut self, look: Look) {
        self.last = look.clone();
        self.settled = look;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn look(bytes: &[u64]) -> Look {
        let stamp = |bytes: &u64| (*bytes > 0).then_some(Stamp { device: 1, inode: 2, bytes: *bytes, changed: (3, 4) });
        Look(bytes.iter().map(stamp).collect())
    }

    #[test]
    fn a_change_is_told_once_it_rests() {
        let mut watch = Watch::new(look(&[10, 20]));
        for (number, (seen, expected)) in [
            ([10, 20], false),
            // Written in pieces, one file after the other.
            ([11, 20], false),
            ([12, 20], false),
            ([12, 21], false),
            ([12, 21], true),
            ([12, 21], false),
            // Gone for a moment, and back as it was.
            ([0, 21], false),
            ([12, 21], false),
            ([12, 21], false),
            // Gone for longer: that is a change.
            ([0, 21], false),
            ([0, 21], true),
            ([0, 21], false),
            ([12, 21], false),
            ([12, 21], true),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(watch.has_changed(&look(&seen)), expected, "look {number}");
        }
        watch.settle(look(&[13, 21]));
        assert!(!watch.has_changed(&look(&[13, 21])) && !watch.has_changed(&look(&[13, 21])));
    }

    /// Rewrites until the clock of the file system has moved on.
    fn until_it_shows(files: &[PathBuf], before: &Look, change: impl Fn()) -> Look {
        for _ in 0..1_000_000 {
            change();
            let now = Look::at(files);
            if now != *before {
                return now;
            }
        }
        panic!("a change that never shows");
    }

    #[test]
    fn everything_that_may_change_content_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = [path("a"), path("b/c")];
        let write = |file: &Path, text: &str| fs::write(file, text).unwrap();
        let missing = Look::at(&files);
        assert_eq!(missing, Look(vec![None, None]));
        write(&files[0], "1");
        let there = Look::at(&files);
        assert_ne!(there, missing);
        assert_eq!(Look::at(&files), there);
        let same_length = until_it_shows(&files, &there, || write(&files[0], "2"));
        // An older file of the same length, moved over it.
        let old = path("old");
        write(&old, "3");
        fs::File::open(&old).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::rename(&old, &files[0]).unwrap();
        assert_ne!(Look::at(&files), same_length);
        // A link that now leads elsewhere.
        for name in ["v1", "v2"] {
            fs::create_dir(path(name)).unwrap();
            write(&path(name).join("c"), "4");
        }
        std::os::unix::fs::symlink("v1", path("b")).unwrap();
        let first = Look::at(&files);
        std::os::unix::fs::symlink("v2", path("b.new")).unwrap();
        fs::rename(path("b.new"), path("b")).unwrap();
        assert_ne!(Look::at(&files), first);
    }
}

//! Finds the binary under test beside the test that runs, and refuses one that is older than its sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package stands in the workspace")
}

/// The `verdict` binary of the profile and target folder that this test was built into.
#[must_use]
#[track_caller]
pub fn verdict() -> PathBuf {
    // TARGET/PROFILE/deps/test-hash
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.ancestors().nth(2).expect("tests stand two levels down");
    let binary = profile.join("verdict");
    let Ok(built) = modified(&binary) else {
        panic!("expected the binary at {}; run `make test`, or `cargo build -p verdict` first", binary.display());
    };
    // Cargo lists beside a binary what it was built from: `BINARY: FILE FILE ...`, blanks in names escaped.
    let listed = fs::read_to_string(profile.join("verdict.d")).unwrap_or_default();
    let sources = listed.split_once(": ").map_or("", |(_, sources)| sources.trim_end()).replace("\\ ", "\0");
    for source in sources.split(' ').filter(|source| !source.is_empty()) {
        let source = source.replace('\0', " ");
        if modified(Path::new(&source)).is_ok_and(|changed| changed > built) {
            panic!("{} is older than {source}; run `make test`, or `cargo build -p verdict` first", binary.display());
        }
    }
    binary
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

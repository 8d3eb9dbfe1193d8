//! Runs a subcommand of the binary to its end and keeps everything that it said.

use super::binary::{verdict, workspace};
use super::clock::{Stopwatch, within};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Longest run of a subcommand: the longest backtest on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Ended {
    /// Fails the test unless the command succeeded.
    ///
    /// # Panics
    /// It failed; the message holds its stderr.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "it ended with {}:\n{}", self.status, self.stderr);
        self
    }

    /// Standard output as lines of JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &[u8]| serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}"));
        self.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
    }
}

/// Subcommands that read a configuration file.
const CONFIGURED: [&str; 6] = ["serve", "backtest", "replay", "migrate", "rebuild", "dead-letters"];

/// `verdict` with these arguments, in the workspace's root, with nothing on stdin.
#[must_use]
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let args: Vec<S> = args.into_iter().collect();
    let mut command = Command::new(verdict());
    without_settings(&mut command);
    command.current_dir(workspace()).stdin(Stdio::null());
    // Right after the subcommand: whoever asked for the command may go on with its last argument.
    let (subcommand, rest) = args.split_at(args.len().min(1));
    command.args(subcommand);
    if subcommand.iter().any(|name| CONFIGURED.iter().any(|known| *known == name.as_ref())) {
        command.args(no_config(rest));
    }
    command.args(rest);
    command
}

/// Keeps settings away that somebody exported for a service of their own.
pub(super) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"VERDICT__")) {
        command.env_remove(name);
    }
}

/// What keeps a `verdict.toml` in the checkout away, unless the arguments name a file.
pub(super) fn no_config<S: AsRef<OsStr>>(args: &[S]) -> &'static [&'static str] {
    if args.iter().any(|arg| arg.as_ref() == "--config") { &[] } else { &["--config", "/dev/null"] }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be run, or does not end in time.
#[must_use]
#[track_caller]
pub fn finish(command: &mut Command) -> Ended {
    let folder = TempDir::new().expect("a temporary folder");
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let watch = Stopwatch::start();
    command.stdout(fs::File::create(&stdout).expect("a file")).stderr(fs::File::create(&stderr).expect("a file"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let status = within(PATIENCE, || child.try_wait().expect("a child can be waited for"));
    let seconds = watch.seconds();
    let stderr = String::from_utf8_lossy(&fs::read(&stderr).expect("its stderr")).into_owned();
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end in {PATIENCE:?}:\n{stderr}");
    };
    Ended { status, stdout: fs::read(&stdout).expect("its stdout"), stderr, seconds }
}

/// Runs `verdict` with these arguments to its end.
#[must_use]
#[track_caller]
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    finish(&mut command(args))
}

/// Runs `verdict replay --verify` over the data of a service's folder.
///
/// # Panics
/// It finds a difference, or cannot run; the message holds its stderr.
#[track_caller]
pub fn verify(folder: &Path) {
    let ended = replay(folder);
    assert!(ended.status.success(), "replay --verify ended with {}:\n{}", ended.status, ended.stderr);
}

/// Runs `verdict replay --verify` over the data of a service's folder, whatever comes of it.
#[must_use]
#[track_caller]
pub fn replay(folder: &Path) -> Ended {
    run([OsStr::new("replay"), OsStr::new("--verify"), OsStr::new("--data-dir"), folder.join("data").as_os_str()])
}

/// Runs statements on a SQLite file, as a person would who repairs or harms it; afterwards its log is merged into it.
///
/// # Panics
/// A statement fails.
#[track_caller]
pub fn sqlite(file: &Path, sql: &str) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); \
                  c.executescript(sys.argv[2]); c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()";
    let ended = finish(Command::new("python3").args(["-c", script]).arg(file).arg(sql).stdin(Stdio::null()));
    assert!(ended.status.success(), "{sql}: {}", ended.stderr);
}

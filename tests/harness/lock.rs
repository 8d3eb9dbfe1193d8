//! Another program that holds a SQLite file, as a backup or a curious person does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program that holds the write lock of a SQLite file until it is dropped.
#[derive(Debug)]
pub struct Lock(Child);

impl Lock {
    /// Takes the lock, waiting for its turn.
    ///
    /// # Panics
    /// The program cannot be run.
    #[must_use]
    #[track_caller]
    pub fn hold(file: &Path) -> Self {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30); \
                      c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 runs");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut said)
            .expect("it says when it has the lock");
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock goes with the process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! The process beside the test that runs one server: `tests/scripts/servers.py attend`. Orders go to its stdin, a line of
//! JSON each; it answers each with a line, and takes the server with it when stdin closes.

use crate::workspace;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A server and the process that runs it; gone when dropped, with its folder.
#[derive(Debug)]
pub(super) struct Attendant {
    kind: &'static str,
    talk: Mutex<Talk>,
    folder: PathBuf,
    /// What a client must know; the same after a restart.
    details: Value,
}

#[derive(Debug)]
struct Talk {
    child: Child,
    /// `None` only while it ends.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Attendant {
    /// Starts a server and waits until it is ready.
    ///
    /// # Panics
    /// It does not start; the message holds the end of its log.
    #[track_caller]
    pub(super) fn start(kind: &'static str, options: &Value) -> Self {
        let mut command = Command::new("python3");
        command.arg(workspace().join("tests/scripts/servers.py")).args(["attend", kind]).arg(options.to_string());
        // Out of the terminal's reach: it ends after the test, not with it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut talk = Talk { child, orders, answers };
        let details = talk.answer().unwrap_or_else(|error| panic!("{error}"));
        let folder = PathBuf::from(details["folder"].as_str().expect("the folder it runs in"));
        Self { kind, talk: Mutex::new(talk), folder, details }
    }

    /// What it answers to an order.
    ///
    /// # Panics
    /// It cannot do it.
    #[track_caller]
    pub(super) fn order(&self, order: &Value) -> Value {
        // A test that failed at an order has read its answer, so that the next may be asked.
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let done = talk.send(order).and_then(|()| talk.answer());
        done.unwrap_or_else(|error| panic!("{}: {order}: {error}", self.kind))
    }

    /// An order without arguments.
    #[track_caller]
    pub(super) fn act(&self, what: &str) {
        self.order(&json!({ "do": what }));
    }

    /// A text that a client must know.
    #[track_caller]
    pub(super) fn text(&self, name: &str) -> &str {
        self.value(name).as_str().unwrap_or_else(|| panic!("{} has no {name}: {}", self.kind, self.details))
    }

    /// Anything that a client must know; null if there is no such thing.
    pub(super) fn value(&self, name: &str) -> &Value {
        &self.details[name]
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it wrote since its last start.
    pub(super) fn log(&self) -> String {
        let log = fs::read(self.folder.join(format!("{}.log", self.kind))).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Talk {
    fn send(&mut self, order: &Value) -> Result<(), String> {
        let orders = self.orders.as_mut().expect("it is taken only at the end");
        writeln!(orders, "{order}").map_err(|error| format!("the attendant is gone: {error}"))
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| format!("the attendant cannot be heard: {error}"))?;
        let mut answer: Value =
            serde_json::from_str(&line).map_err(|error| format!("the attendant said {line:?}: {error}"))?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Its stdin ends; it kills the server, removes the folder and ends.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// What every server can suffer, for the type that holds the attendant.
macro_rules! faults {
    ($server:ty) => {
        impl $server {
            /// Kills it without warning (SIGKILL), all its processes at once.
            #[track_caller]
            pub fn kill(&self) {
                self.attendant.act("kill");
            }

            /// Holds it: it keeps its connections and answers nothing (SIGSTOP).
            #[track_caller]
            pub fn pause(&self) {
                self.attendant.act("pause");
            }

            /// Lets it go on after [`Self::pause`].
            #[track_caller]
            pub fn resume(&self) {
                self.attendant.act("resume");
            }

            /// Starts it again on the same port with its data, and waits until it is ready. It is killed before if it
            /// still runs.
            #[track_caller]
            pub fn restart(&self) {
                self.attendant.act("kill");
                self.attendant.act("start");
            }

            /// Where its data and its log are.
            #[must_use]
            pub fn folder(&self) -> &std::path::Path {
                self.attendant.folder()
            }

            /// What it wrote since its last start.
            #[must_use]
            pub fn log(&self) -> String {
                self.attendant.log()
            }
        }
    };
}
pub(super) use faults;

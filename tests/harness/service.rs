//! A running `verdict serve`: started on a free port in a temporary folder, waited for, and never left behind.

use super::answer::{Answer, Client};
use super::binary::verdict;
use super::command::{no_config, without_settings};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// Time between two looks at whether something has happened.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait until the service is ready, in polls: a busy machine is slow, a replay takes its time.
const READY_POLLS: u32 = 3_000;
/// Longest wait until the process has ended after a signal, in polls.
const STOP_POLLS: u32 = 3_000;
/// Of what a service wrote, the last lines that are shown when its test fails.
const LINES_SHOWN: usize = 60;
/// Attempts to find a port: another process may take a free one before the service does.
const PORT_ATTEMPTS: u32 = 5;

/// How to start a service.
#[derive(Debug)]
pub struct Builder {
    folder: Option<TempDir>,
    binary: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    addr: SocketAddr,
    /// `None` only once it was handed over to [`Stopped`].
    folder: Option<TempDir>,
}

/// A service that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything that it wrote to stderr since its start.
    pub stderr: String,
    /// Its folder, with the data; give it to [`Builder::folder`] to start again.
    pub folder: TempDir,
}

impl Builder {
    /// Starts in this folder instead of an empty one.
    #[must_use]
    pub fn folder(mut self, folder: TempDir) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Runs this program instead of the `verdict` beside the test.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Adds an argument after `serve`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts the service and waits until `/readyz` answers 200. Arguments are `serve --listen ADDR --data-dir
    /// FOLDER/data` and the added ones; the working directory is the workspace's root, where rules and models are.
    ///
    /// # Panics
    /// The service ends, or is not ready in time; the message holds its stderr.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Service {
        match self.try_start() {
            Ok(service) => service,
            Err(stopped) => panic!("the service ended with {} instead of serving:\n{}", stopped.status, stopped.stderr),
        }
    }

    /// Like [`Builder::start`], for a service that is expected to refuse.
    ///
    /// # Errors
    /// The service ended before it was ready.
    ///
    /// # Panics
    /// It cannot be run, or is neither ready nor ended in time.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Service, Stopped> {
        let mut folder = self.folder.take().unwrap_or_else(|| TempDir::new().expect("a temporary folder"));
        let mut attempt = 1;
        loop {
            match self.spawn(folder).wait_until_ready() {
                Err(stopped) if stopped.stderr.contains("in use") && attempt < PORT_ATTEMPTS => {
                    folder = stopped.folder;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Starts the service and waits for nothing.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    #[track_caller]
    pub fn spawn_only(mut self) -> Service {
        let folder = self.folder.take().unwrap_or_else(|| TempDir::new().expect("a temporary folder"));
        self.spawn(folder)
    }

    #[track_caller]
    fn spawn(&self, folder: TempDir) -> Service {
        let addr = free_address();
        let output = |name: &str| File::create(folder.path().join(name)).expect("a file in the temporary folder");
        let binary = self.binary.clone().unwrap_or_else(verdict);
        let mut command = Command::new(&binary);
        without_settings(&mut command);
        let config = no_config(&self.args);
        let child = command
            .arg("serve")
            .args(["--listen", &addr.to_string()])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(&self.args)
            .args(config)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(super::workspace())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot run {}: {error}", binary.display()));
        Service { child, addr, folder: Some(folder) }
    }
}

impl Service {
    /// Starts with the defaults.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// To start with more than the defaults.
    #[must_use]
    pub const fn builder() -> Builder {
        Builder { folder: None, binary: None, args: Vec::new(), env: Vec::new() }
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder: `data`, `stdout` and `stderr` are in it.
    ///
    /// # Panics
    /// Never: a service that can be asked has its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("only a stopped service gave its folder away").path()
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder().join("stderr")).unwrap_or_default()
    }

    /// `GET`.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "")
    }

    /// `POST` of a JSON body.
    #[must_use]
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body)
    }

    /// Any request.
    ///
    /// # Panics
    /// There is no answer; the message holds the service's stderr.
    #[must_use]
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_request(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\nstderr of the service:\n{}", self.stderr()))
    }

    /// Any request, to a service that may be gone.
    ///
    /// # Errors
    /// There is no whole answer.
    ///
    /// # Panics
    /// The method, the path or a header is not HTTP.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, Box<ureq::Error>> {
        Client::new(self.addr).request(method, path, headers, body.as_bytes())
    }

    /// A client that keeps its connection.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Lets the process make no file longer than this; `None` lifts the limit. What it writes beyond it fails, if it
    /// was started with the signal for that ignored.
    ///
    /// # Panics
    /// The limit cannot be set.
    #[track_caller]
    pub fn limit_file_bytes(&self, limit: Option<u64>) {
        let limit = Rlimit { current: limit, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("a limit on a child");
    }

    /// A bare connection, for requests that no client would send.
    ///
    /// # Panics
    /// The service does not accept it.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).unwrap_or_else(|error| panic!("{}: {error}", self.addr))
    }

    /// Sends it SIGHUP.
    ///
    /// # Panics
    /// It has ended.
    #[track_caller]
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("a running process");
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// It does not stop in time.
    #[must_use]
    #[track_caller]
    pub fn terminate(self) -> Stopped {
        self.ask_to_stop();
        self.wait()
    }

    /// Asks it to stop (SIGTERM) and waits for nothing.
    pub fn ask_to_stop(&self) {
        // A process that has ended already says how when it is waited for.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Kills it without warning (SIGKILL).
    ///
    /// # Panics
    /// The process does not end in time.
    #[must_use]
    #[track_caller]
    pub fn kill(mut self) -> Stopped {
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// It does not end in time.
    #[must_use]
    #[track_caller]
    pub fn wait(mut self) -> Stopped {
        for _ in 0..STOP_POLLS {
            if let Some(status) = self.ended() {
                return self.into_stopped(status);
            }
            sleep(POLL);
        }
        panic!("the service did not stop in time:\n{}", self.stderr());
    }

    #[track_caller]
    fn wait_until_ready(mut self) -> Result<Self, Stopped> {
        for _ in 0..READY_POLLS {
            if let Some(status) = self.ended() {
                return Err(self.into_stopped(status));
            }
            if self.try_request("GET", "/readyz", &[], "").is_ok_and(|answer| answer.status == 200) {
                return Ok(self);
            }
            sleep(POLL);
        }
        panic!("the service was not ready in time:\n{}", self.stderr());
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    fn into_stopped(mut self, status: ExitStatus) -> Stopped {
        let stderr = self.stderr();
        let folder = self.folder.take().expect("a service is stopped once");
        Stopped { status, stderr, folder }
    }
}

impl Drop for Service {
    #[expect(clippy::print_stderr, reason = "whoever reads why a test failed wants to know what the service said")]
    fn drop(&mut self) {
        if std::thread::panicking() && self.folder.is_some() {
            let text = self.stderr();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!("the service of the test that failed wrote last:\n{}", last.join("\n"));
        }
        // Both fail only when the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on which nobody listened a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

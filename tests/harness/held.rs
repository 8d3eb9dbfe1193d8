//! A thread of a service that is held: what a disk or a library looks like that does not come back.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Attaches to the thread and says so; then waits with it, so that its end is seen, until stdin closes.
const TRACER: &str = "
import ctypes, os, sys, threading
libc, tid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
libc.ptrace.argtypes = [ctypes.c_long] * 4
ATTACH, WALL = 16, 0x40000000
assert libc.ptrace(ATTACH, tid, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.waitpid(tid, WALL)
print('held', flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
os.waitpid(tid, WALL)
";

/// A thread that is held until this is dropped; its process can be ended meanwhile.
#[derive(Debug)]
pub struct HeldThread(Child);

impl HeldThread {
    /// Holds the first thread of this name. Needs the right to trace a process of the same user: root, or
    /// `kernel.yama.ptrace_scope = 0`.
    ///
    /// # Panics
    /// There is no such thread, or no such right.
    #[must_use]
    #[track_caller]
    pub fn hold(pid: u32, name: &str) -> Self {
        // Linux keeps 15 bytes of a name.
        let shown = format!("{}\n", name.get(..15).unwrap_or(name));
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
        let mut tasks: Vec<PathBuf> = tasks.filter_map(|task| Some(task.ok()?.path())).collect();
        tasks.sort();
        let named = |task: &&PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm == shown);
        let task = tasks.iter().find(named).unwrap_or_else(|| panic!("process {pid} has no thread {name:?}"));
        let mut python = Command::new("python3");
        python.args(["-c", TRACER]).arg(task.file_name().expect("a number"));
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut said).expect("it says when it holds the thread");
        assert_eq!(said, "held\n", "this test needs the right to trace: root, or kernel.yama.ptrace_scope = 0");
        Self(child)
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        // The thread goes on with the end of what holds it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

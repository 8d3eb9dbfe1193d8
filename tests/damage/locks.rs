//! A file that cannot be written for a while, or a disk that stands still: slow is not lost.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use verdict_tests::{Lock, Payment, Service, until, verify};

/// The journal's thread of a service, held until it is dropped: what a disk looks like that stands still.
struct Stopped(Child);

impl Stopped {
    /// Needs the right to trace a process of the same user: root, or `kernel.yama.ptrace_scope = 0`.
    fn hold(pid: u32) -> Self {
        let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
        let journal = |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap() == "journal\n";
        let task = tasks.find(journal).unwrap_or_else(|| panic!("process {pid} has no such thread"));
        // 16 is PTRACE_ATTACH, 0x40000000 is __WALL; the thread goes on when the tracer ends.
        let script = "import ctypes, os, sys; c = ctypes.CDLL(None, use_errno=True); tid = int(sys.argv[1]); \
                      c.ptrace.argtypes = [ctypes.c_long] * 4; \
                      assert c.ptrace(16, tid, 0, 0) == 0, os.strerror(ctypes.get_errno()); \
                      os.waitpid(tid, 0x40000000); print('held', flush=True); sys.stdin.read()";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(task.file_name().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "this test needs the right to trace: root, or kernel.yama.ptrace_scope = 0");
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The thread goes on with the end of what holds it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_late_journal_is_answered_with_503_and_a_retry_gets_the_decision() {
    let service = Service::start();
    let payment = Payment::new("u", "t-1", "10.00").with("deadline_ms", 100);
    let stopped = Stopped::hold(service.pid());
    let late = service.post("/v1/decide", &payment.text());
    assert_eq!((late.status, &late.json()["code"]), (503, &"JOURNAL_LATE".into()), "{}", late.body);
    let again = service.post("/v1/decide", &payment.text());
    assert_eq!(again.status, 503, "a duplicate of what is not durable waits as well: {}", again.body);
    drop(stopped);
    let answer = until("the decision", || {
        let answer = service.post("/v1/decide", &payment.text());
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!((&answer["durable"], &answer["duplicate"]), (&true.into(), &true.into()), "{answer}");
    let profile = service.get("/v1/users/u/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 1, "{profile}");
    verify(service.terminate().folder.path());
}

#[test]
fn alerts_that_cannot_be_written_hold_nothing_up_and_catch_up() {
    let service = Service::builder().arg("--model").arg("").start();
    let lock = Lock::hold(&service.folder().join("data/review.db"));
    for number in 0..20 {
        let decision = service.post("/v1/decide", &Payment::new(&format!("u-{number}"), "t", "5000.01").text());
        assert_eq!((decision.status, &decision.json()["durable"]), (200, &true.into()), "{}", decision.body);
    }
    let lag = |service: &Service| {
        let ready = service.get("/readyz");
        assert_eq!(ready.status, 200, "a projection behind holds nothing up: {}", ready.body);
        ready.json()["components"]["projections"]["alerts"]["lag_records"].as_u64()
    };
    until("the lag to show", || (lag(&service) == Some(20)).then_some(()));
    assert_eq!(service.get("/v1/alerts").json()["alerts"].as_array().map(Vec::len), Some(0));
    drop(lock);
    until("all alerts", || {
        let alerts = service.get("/v1/alerts?limit=500").json()["alerts"].as_array().unwrap().len();
        assert!(alerts <= 20);
        (alerts == 20).then_some(())
    });
    until("no more lag", || (lag(&service) == Some(0)).then_some(()));
}

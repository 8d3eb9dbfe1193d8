//! Alert rules, dashboard and runbooks: runs the tests in Python that hold them against the source and against promtool.

use std::process::{Command, Stdio};
use verdict_tests::{finish, workspace};

#[test]
fn alerts_pages_and_metrics_belong_together() {
    let mut python = Command::new("python3");
    python.args(["-m", "unittest", "-v", "test_signals"]).current_dir(workspace().join("tests/scripts/tests"));
    let ended = finish(python.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null())).success();
    let ran: u32 = ended.stderr.split("\nRan ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(ran > 10 && !ended.stderr.contains("skipped"), "{}", ended.stderr);
}

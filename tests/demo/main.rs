//! `make demo` as a person sees it: runs the Python tests of the demo against the binary under test. Holds no test of its own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::process::{Command, Stdio};
use verdict_tests::{finish, verdict, workspace};

fn unittest(module: &str) {
    let mut command = Command::new("python3");
    command.args(["-m", "unittest", "-v", module]).current_dir(workspace().join("tests/scripts/tests"));
    command.env("VERDICT_BINARY", verdict()).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let ended = finish(&mut command).success();
    let ran: u32 = ended.stderr.split("\nRan ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(ran > 4 && !ended.stderr.contains("skipped"), "{}", ended.stderr);
}

#[test]
fn what_is_drawn() {
    unittest("test_rendering");
}

#[test]
fn what_a_terminal_and_a_pipe_show() {
    unittest("test_demo");
}

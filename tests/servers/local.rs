//! `make up` and `make down`, and the set-up before them: tests in Python, as the scripts are.

use std::process::{Command, Stdio};
use verdict_tests::{finish, workspace};

#[test]
fn the_scripts_hold_what_they_say() {
    let mut python = Command::new("python3");
    python.args(["-m", "unittest", "-v", "test_servers"]).current_dir(workspace().join("tests/scripts/tests"));
    let ended = finish(python.stdin(Stdio::null()));
    assert!(ended.status.success(), "{}", ended.stderr);
}

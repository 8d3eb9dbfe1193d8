//! The servers that other tests lean on: they start, serve, suffer what a test does to them, and leave nothing behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod attended;
mod kafka;
mod local;
mod postgres;
mod redis;

use std::path::Path;
use std::process::{Command, Stdio};
use verdict_tests::{finish, until};

/// Processes that were started with this word in their command line or in this folder.
fn processes(of: &Path) -> Vec<u32> {
    let numbered =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // A process that ends meanwhile is none; one that waits to be collected has no folder any more.
    let within = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(of));
    numbered.filter(within).collect()
}

/// Fails unless neither process nor folder is left, now or soon.
#[track_caller]
fn assert_gone(folder: &Path) {
    until("the end of all processes", || processes(folder).is_empty().then_some(()));
    until("the end of the folder", || (!folder.exists()).then_some(()));
}

/// What a program writes to stdout, when it succeeds.
fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let ended = finish(Command::new(program).args(args).stdin(Stdio::null()));
    let said = String::from_utf8(ended.stdout).unwrap();
    if ended.status.success() { Ok(said) } else { Err(format!("{program} {args:?}: {}\n{said}", ended.stderr)) }
}

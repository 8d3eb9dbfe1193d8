//! `verdict backtest` and `verdict simulate` from outside: every row is accounted for, and the same input gives the same
//! output (I6, I9).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod handbook;
mod histories;
mod simulated;

use serde_json::Value;
use std::path::Path;
use verdict_tests::{Ended, run};

/// Runs a backtest over a file; gives the decisions in `output`, or on stdout, and the summary.
#[track_caller]
fn backtest(input: &Path, args: &[&str]) -> (Ended, Value) {
    let input = input.display().to_string();
    let ended = run([&["backtest", "--input", &input], args].concat()).success();
    let last = ended.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    let summary = serde_json::from_slice(last).unwrap();
    (ended, summary)
}

/// Every row of a summary is something: `rows` = decided + duplicates + dead letters + logins + labels.
#[track_caller]
fn assert_accounted(summary: &Value) {
    let count = |field: &str| summary[field].as_u64().unwrap();
    let dead: u64 = summary["dead_letters"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let parts = count("decided") + count("duplicates") + dead + count("logins") + count("labels");
    assert_eq!(count("rows"), parts, "{summary}");
    let outcomes: u64 = summary["decisions"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(count("decided"), outcomes, "{summary}");
}

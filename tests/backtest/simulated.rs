//! Simulated traffic through a backtest: one seed, one output.

use super::{assert_accounted, backtest};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use tempfile::TempDir;
use verdict_tests::{command, finish, run};

fn simulate(seed: &str, more: &[&str]) -> Vec<u8> {
    run([&["simulate", "--count", "8000", "--users", "300", "--seed", seed], more].concat()).success().stdout
}

/// What a run says, without what depends on the machine.
fn lasting(mut line: Value) -> Value {
    for field in ["latency_us", "seconds"] {
        line.as_object_mut().unwrap().remove(field);
    }
    line
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_the_same_decisions() {
    let (one, again, other) = (simulate("7", &[]), simulate("7", &[]), simulate("8", &[]));
    assert!(one == again, "the same seed, other bytes");
    assert!(one != other, "another seed, the same bytes");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("history.ndjson");
    fs::write(&path, &one).unwrap();
    let mut runs = Vec::new();
    for shards in ["1", "2", "3"] {
        // Through a pipe, as the examples show, and whatever the number of shards.
        let mut piped = command(["backtest", "--input", "-", "--features"]);
        piped.env("VERDICT__ACTORS__SHARDS", shards).stdin(Stdio::from(fs::File::open(&path).unwrap()));
        let lines: Vec<Value> = finish(&mut piped).success().lines().into_iter().map(lasting).collect();
        assert_eq!(lines.last().unwrap()["rows"], 8_000);
        runs.push(lines);
    }
    for run in &runs[1..] {
        for (found, expected) in run.iter().zip(&runs[0]) {
            assert_eq!(found, expected);
        }
        assert_eq!(run.len(), runs[0].len());
    }
    let fraud = one.split(|byte| *byte == b'\n').filter(|line| line.windows(8).any(|part| part == b"is_fraud")).count();
    assert!(fraud > 0, "a history has labels");
}

#[test]
fn noise_is_accounted_for() {
    let noisy = simulate("9", &["--duplicates", "5", "--late", "5", "--malformed", "3"]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("noisy.ndjson");
    fs::write(&path, &noisy).unwrap();
    let (_, summary) = backtest(&path, &["--model", ""]);
    assert_accounted(&summary);
    assert_eq!(summary["rows"], 8_000);
    let dead: u64 = summary["dead_letters"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert!((100..500).contains(&dead), "3 % of 8,000 are broken: {summary}");
    assert!((200..700).contains(&summary["duplicates"].as_u64().unwrap()), "5 % come twice: {summary}");
}

#[test]
fn a_reader_that_goes_away_ends_the_simulation_quietly() {
    let mut head = std::process::Command::new("sh");
    let text = format!("'{}' simulate --count 1000000 | head -n 3", verdict_tests::verdict().display());
    let ended = finish(head.args(["-c", &text])).success();
    assert_eq!((ended.lines().len(), ended.stderr.as_str()), (3, ""));
}

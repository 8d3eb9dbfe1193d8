//! `verdict dead-letters`: what was refused is shown, and sent again becomes a decision or is refused once more.

use super::{PARTITIONS, assert_consumed, committed, consuming, produce, replayed, settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Topics};
use verdict_tests::{DAY_MS, Ended, Payment, command, finish, now_ms, run, until};

/// The partition of u-1 among four.
const HOME: u32 = 3;
/// How far ahead of the clock the early payment is: more than the day that passes, and little enough to wait for.
const AHEAD_MS: i64 = DAY_MS + 10_000;

fn letters(kafka: &Kafka, topics: &Topics, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["dead-letters"].iter().chain(args).copied().collect();
    finish(command(args).envs(settings(kafka, topics.prefix()))).success()
}

fn until_there(kafka: &Kafka, topics: &Topics, count: usize) {
    let name = topics.name("dead-letters");
    until("dead letters", || (committed(kafka, &name, "%p/%o\n").len() >= count).then_some(()));
}

#[test]
fn they_are_shown_and_sent_again() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("letters", PARTITIONS);
    let service = consuming(kafka, topics.prefix(), TempDir::new().unwrap()).start();
    let early_ms = now_ms() + AHEAD_MS;
    let early = Payment::new("u-1", "t-early", "12.00").at(early_ms).text();
    let name = topics.name("transactions");
    produce(kafka, &name, HOME, "u-1", &early);
    produce(kafka, &name, HOME, "u-1", "not json");
    produce(kafka, &name, HOME, "u-1", &"x".repeat(1_200_000));
    produce(kafka, &topics.name("logins"), HOME, "u-1", "no login");
    until_there(kafka, &topics, 4);

    let shown = |args: &[&str]| letters(kafka, &topics, &[&["list"], args].concat()).lines();
    assert_eq!(shown(&[]).len(), 4);
    assert_eq!(shown(&["--limit", "3"]).len(), 3);
    assert_eq!(shown(&["--since", "2100-01-01T00:00:00Z"]), Vec::<Value>::new());
    assert_eq!(shown(&["--since", "2020-01-01T00:00:00Z", "--topic", "logins"])[0]["value"], "no login");
    let found = shown(&["--reason", "TOO_EARLY"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["value"], &found[0]["reason"]), (&json!(early), &json!("TOO_EARLY")));
    assert_eq!(found[0]["origin"], json!({"topic": name, "partition": HOME, "offset": 0}));

    let sent = |args: &[&str]| letters(kafka, &topics, &[&["redrive"], args].concat()).lines().remove(0);
    let summary = |matched: u64, redriven: u64, cut: u64, dry_run: bool| json!({"matched": matched, "redriven": redriven, "cut": cut, "no_origin": 0, "dry_run": dry_run});
    assert_eq!(sent(&["--dry-run"]), summary(4, 0, 1, true));
    assert_eq!(sent(&["--topic", "logins"]), summary(1, 1, 0, false));
    // Still no login: another dead letter, in its place.
    until_there(kafka, &topics, 5);
    let again = shown(&["--topic", "logins"]);
    let mut offsets: Vec<u64> = again.iter().map(|line| line["origin"]["offset"].as_u64().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1], "{again:?}");
    // Once its time has come, it is a payment.
    until("the time of the payment", || (now_ms() + DAY_MS > early_ms).then_some(()));
    assert_eq!(sent(&["--reason", "TOO_EARLY"]), summary(1, 1, 0, false));
    assert_eq!(sent(&["--reason", "TOO_EARLY"]), summary(1, 1, 0, false));
    super::until_journaled(&service, 7.0);
    super::until_no_lag(&service);

    let verified = replayed(kafka, topics.prefix(), service.terminate().folder.path());
    let books = ["decisions", "duplicates", "dead_letters"].map(|kind| verified["books"][kind].as_u64().unwrap());
    assert_eq!(books, [1, 1, 5], "{verified}");
    assert_eq!(assert_consumed(kafka, &topics, &verified), 7);
}

#[test]
fn without_brokers_there_are_none() {
    let ended = run(["dead-letters", "list"]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("expected [kafka] with bootstrap_servers"), "{}", ended.stderr);
}

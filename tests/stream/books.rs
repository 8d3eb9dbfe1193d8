//! The books balance: what was produced is what was decided, remembered, seen before, refused and skipped.

use super::{
    PARTITIONS, assert_consumed, committed, consuming, listed_alerts, metric, produce, replayed, settings,
    until_journaled, until_no_lag,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions};
use verdict_tests::{Payment, command, finish, until};

fn simulate(kafka: &Kafka, prefix: &str, args: &[&str]) -> Value {
    let mut simulate = command(["simulate", "--target", "kafka", "--config", "/dev/null"]);
    simulate.args(args).envs(settings(kafka, prefix));
    finish(&mut simulate).success().lines().remove(0)
}

fn book(verified: &Value, name: &str) -> u64 {
    verified["books"][name].as_u64().unwrap()
}

#[test]
fn they_balance_over_noise_and_two_kills() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("books", PARTITIONS);
    let noise = ["--duplicates", "2", "--late", "2", "--malformed", "1", "--users", "2000", "--count", "20000"];
    let sent = simulate(kafka, topics.prefix(), &noise);
    let mut folder = TempDir::new().unwrap();
    for part in [4_000.0, 5_000.0] {
        let service = consuming(kafka, topics.prefix(), folder).start();
        until_journaled(&service, part);
        folder = service.kill().folder;
    }
    let service = consuming(kafka, topics.prefix(), folder).start();
    until_no_lag(&service);
    let rest = metric(&service, "verdict_journal_records_total");
    assert!(rest <= 11_000.0, "the first two left 9,000 records, and this one {rest}");
    let text = service.get("/metrics").body;
    assert!(text.contains("verdict_dead_letters_total{reason=\"NOT_JSON\"}"), "{text}");
    // What went out, went out once, whatever was killed on the way.
    let alerts = until("every alert on its topic", || {
        let mut listed = listed_alerts(&service);
        let published = committed(kafka, &topics.name("fraud-alerts"), "%s\n");
        let id =
            |alert: &String| serde_json::from_str::<Value>(alert).unwrap()["alert_id"].as_str().unwrap().to_owned();
        let mut published: Vec<String> = published.iter().map(id).collect();
        listed.sort_unstable();
        published.sort_unstable();
        (metric(&service, "verdict_projection_lag_records") == 0.0 && listed == published).then_some(listed)
    });
    assert!(alerts.len() > 50 && alerts.windows(2).all(|two| two[0] != two[1]), "{alerts:?}");
    let letters = committed(kafka, &topics.name("dead-letters"), "%p/%o\n").len() as u64;
    let verified = replayed(kafka, topics.prefix(), service.terminate().folder.path());
    assert_eq!(letters, book(&verified, "dead_letters"), "{verified}");
    assert_eq!(assert_consumed(kafka, &topics, &verified), 20_000);
    let all: u64 = sent["sent"].as_object().unwrap().values().map(|sent| sent.as_u64().unwrap()).sum();
    let kinds = ["decisions", "logins", "labels", "duplicates", "dead_letters", "skipped"];
    assert_eq!((all, kinds.map(|kind| book(&verified, kind)).iter().sum::<u64>()), (20_000, 20_000), "{verified}");
    for kind in ["decisions", "logins", "duplicates", "dead_letters"] {
        assert!(book(&verified, kind) > 100, "{kind}: {verified}");
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_costs_nothing() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let service = consuming(&kafka, "", TempDir::new().unwrap()).start();
    let pay = |number: u32| {
        let payment = Payment::new(&format!("u-{number}"), "t-1", "12.00").text();
        // Wherever it goes: three of four are moved.
        produce(&kafka, "transactions", number % PARTITIONS, "", &payment);
    };
    (0..4).for_each(pay);
    let decided = |count: f64| {
        until("decisions", || (metric(&service, "verdict_decisions_total") >= count).then_some(()));
    };
    decided(4.0);
    kafka.kill();
    // Nothing becomes durable now, and nobody is told that it did.
    let payment = Payment::new("u-1", "t-2", "1.00").text();
    let answer = service.post("/v1/decide", &payment);
    assert_eq!((answer.status, &answer.json()["durable"]), (200, &json!(false)), "{}", answer.body);
    kafka.restart();
    (4..8).for_each(pay);
    decided(9.0);
    let answer = service.post("/v1/decide", &payment);
    let told = answer.json();
    assert_eq!((&told["durable"], &told["duplicate"]), (&json!(true), &json!(true)), "{}", answer.body);
    until_no_lag(&service);
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    assert_eq!((book(&verified, "decisions"), book(&verified, "dead_letters")), (9, 0), "{verified}");
    let skipped = book(&verified, "skipped");
    assert_eq!(skipped + 8, verified["records"].as_u64().unwrap() - 1, "{verified}");
}

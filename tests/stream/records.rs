//! What becomes of single records: duplicates, strays, what is no event, and a login before the payment that followed it.

use super::{PARTITIONS, assert_consumed, consuming, metric, produce, replayed, until_journaled, until_no_lag};
use serde_json::{Value, json};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Topics};
use verdict_tests::{Payment, Service, label, login, now_ms, until};

/// The partitions of two users among four: murmur2, as Kafka's Java client has it. A test of strays fails were it not so.
fn home(user: &str) -> u32 {
    match user {
        "u-1" => 3,
        "u-2" => 2,
        _ => panic!("whose home is not known here: {user}"),
    }
}

fn started(name: &str) -> (&'static Kafka, Topics, Service) {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics(name, PARTITIONS);
    let service = consuming(kafka, topics.prefix(), TempDir::new().unwrap()).start();
    (kafka, topics, service)
}

fn books(verified: &Value) -> [u64; 6] {
    ["decisions", "logins", "labels", "duplicates", "dead_letters", "skipped"]
        .map(|kind| verified["books"][kind].as_u64().unwrap())
}

#[test]
fn decided_over_http_it_is_a_duplicate_on_the_topic() {
    let (kafka, topics, service) = started("duplicate");
    let payment = Payment::new("u-1", "t-1", "12.00");
    let answer = service.post("/v1/decide", &payment.text());
    assert_eq!((answer.status, &answer.json()["duplicate"]), (200, &json!(false)), "{}", answer.body);
    let name = topics.name("transactions");
    produce(kafka, &name, home("u-1"), "u-1", &payment.text());
    produce(kafka, &name, home("u-1"), "u-1", &payment.with("amount", "13.00").text());
    until_journaled(&service, 3.0);
    assert_eq!(metric(&service, "verdict_duplicates_total"), 1.0);
    let text = service.get("/metrics").body;
    assert!(text.contains("verdict_dead_letters_total{reason=\"ID_REUSED\"} 1"), "{text}");
    let verified = replayed(kafka, topics.prefix(), service.terminate().folder.path());
    assert_eq!(books(&verified), [1, 0, 0, 1, 1, 0], "{verified}");
    assert_eq!(assert_consumed(kafka, &topics, &verified), 2);
}

#[test]
fn a_stray_is_moved_and_what_is_no_event_is_kept() {
    let (kafka, topics, service) = started("stray");
    let name = topics.name("transactions");
    produce(kafka, &name, home("u-2"), "u-1", &Payment::new("u-1", "t-1", "12.00").text());
    for value in ["not json", "[]", r#"{"transaction_id":"t"}"#, &"x".repeat(1_200_000)] {
        produce(kafka, &name, home("u-2"), "u-2", value);
    }
    let old = Payment::new("u-2", "t-old", "12.00").at(now_ms() - 8 * verdict_tests::DAY_MS);
    produce(kafka, &name, home("u-2"), "u-2", &old.text());
    produce(kafka, &topics.name("logins"), home("u-1"), "u-1", &login("u-1", "l-1", now_ms(), (48.9, 2.3)).to_string());
    let word = label("u-1", "t-1", now_ms(), true).to_string();
    produce(kafka, &topics.name("fraud-labels"), home("u-1"), "u-1", &word);
    // Six of one partition, and in the other the payment that was moved, the login and the label.
    until_journaled(&service, 9.0);
    assert_eq!(metric(&service, "verdict_skipped_total"), 1.0);
    until_no_lag(&service);
    let profile = service.get("/v1/users/u-1/profile").json();
    assert_eq!(profile["recent"].as_array().map_or(0, Vec::len), 1, "{profile}");
    let verified = replayed(kafka, topics.prefix(), service.terminate().folder.path());
    assert_eq!(books(&verified), [1, 1, 1, 0, 5, 1], "{verified}");
    assert_eq!(assert_consumed(kafka, &topics, &verified), 9, "the one that was moved is there twice");
}

#[test]
fn a_login_counts_before_the_payment_that_followed_it() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("order", PARTITIONS);
    let (start, far, near) = (now_ms() - 3_600_000, (48.9, 2.3), (40.7, -74.0));
    // Payments and logins take turns, minutes apart, and are all there before the service is.
    for round in 0..6 {
        let at = start + i64::from(round) * 300_000;
        let place = if round % 2 == 0 { near } else { far };
        let login = login("u-1", &format!("l-{round}"), at, place).to_string();
        produce(kafka, &topics.name("logins"), home("u-1"), "u-1", &login);
        let payment = Payment::new("u-1", &format!("t-{round}"), "1.00").at(at + 120_000).place(near.0, near.1);
        produce(kafka, &topics.name("transactions"), home("u-1"), "u-1", &payment.text());
    }
    let service = consuming(kafka, topics.prefix(), TempDir::new().unwrap()).arg("--model").arg("").start();
    until_journaled(&service, 12.0);
    // Each answer comes back as it was given: with the login two minutes before the payment.
    let reviewed = until("alerts", || {
        let alerts = service.get("/v1/alerts").json()["alerts"].as_array().unwrap().clone();
        (alerts.len() == 3).then_some(alerts)
    });
    let mut ids: Vec<&str> = reviewed.iter().map(|alert| alert["transaction_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["t-1", "t-3", "t-5"], "those after a login from far away");
}

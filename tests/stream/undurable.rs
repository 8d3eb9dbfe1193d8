//! Answers while the brokers do not take records: the decision that was made, in time, and said not to be durable. Whatever
//! becomes of the service meanwhile, each of them is in the journal once when the brokers are back.

use super::{PARTITIONS, consuming, decision, metric, replayed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions};
use verdict_tests::{Payment, Service, Stopwatch, lasting, until};

/// Answers by payment.
type Answers = BTreeMap<String, Value>;

/// A time in which a decision is certainly made, and longer than which nobody waits.
const DEADLINE_MS: u64 = 500;

fn payment(user: u32, id: &str) -> Payment {
    // Every fifth is reviewed for what its user spent.
    let amount = if user.is_multiple_of(5) { "5000.01" } else { "12.00" };
    Payment::new(&format!("u-{user}"), id, amount).with("deadline_ms", DEADLINE_MS)
}

/// Has a payment decided, whose record cannot become durable.
#[track_caller]
fn undurable(service: &Service, payment: &str) -> Value {
    let watch = Stopwatch::start();
    let answer = service.post("/v1/decide", payment);
    let (seconds, told) = (watch.seconds(), answer.json());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let says = [&told["durable"], &told["mode"], &told["degraded"]];
    assert_eq!(says, [&json!(false), &json!("degraded"), &json!([{"code": "JOURNAL_LATE"}])], "{told}");
    assert!(seconds < DEADLINE_MS as f64 / 1e3, "answered after {seconds} s");
    told
}

#[track_caller]
fn spilled(service: &Service) -> u64 {
    service.get("/readyz").json()["components"]["spill"]["entries"].as_u64().unwrap()
}

#[track_caller]
fn assert_durable(service: &Service, answers: &Answers) {
    for (payment, answer) in answers {
        let again = service.post("/v1/decide", payment).json();
        assert_eq!((&again["duplicate"], &again["durable"]), (&json!(true), &json!(true)), "{again}");
        assert_eq!(&decision(again), answer, "{payment}");
    }
}

#[test]
fn a_broker_that_is_held_is_not_waited_for() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let service = consuming(&kafka, "", TempDir::new().unwrap()).start();
    let mut answers = Answers::new();
    for user in 0..4 {
        let payment = payment(user, "before").text();
        let told = service.post("/v1/decide", &payment).json();
        assert_eq!((&told["durable"], &told["mode"]), (&json!(true), &json!("normal")), "{told}");
        answers.insert(payment, decision(told));
    }
    kafka.pause();
    let late = payment(0, "held").text();
    let first = undurable(&service, &late);
    // What was durable before is still, and what is not is answered again without a wait.
    assert_durable(&service, &answers);
    let again = undurable(&service, &late);
    assert_eq!((&again["duplicate"], lasting(again.clone())), (&json!(true), lasting(first.clone())));
    answers.insert(late, decision(first));
    for user in 1..12 {
        let payment = payment(user, "held").text();
        let told = undurable(&service, &payment);
        assert_eq!(told["duplicate"], false);
        answers.insert(payment, decision(told));
    }
    // Whoever wants all or nothing gets nothing, as it would be without a spill.
    let strict = payment(1, "strict").with("fallback", "reject").text();
    let refused = service.post("/v1/decide", &strict);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("JOURNAL_LATE")), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), "1");
    until("the level of the spill", || (spilled(&service) == 12).then_some(()));
    assert_eq!(metric(&service, "verdict_spill_entries"), 12.0);
    assert!(metric(&service, "verdict_spill_bytes") > 1_000.0);
    assert_eq!(metric(&service, "verdict_answers_spilled_total"), 13.0);
    kafka.resume();
    until("an empty spill", || (spilled(&service) == 0).then_some(()));
    assert_durable(&service, &answers);
    let text = service.get("/metrics").body;
    assert!(text.contains("verdict_degraded_total{reason=\"JOURNAL_LATE\"} 12"), "{text}");
    assert_eq!(metric(&service, "verdict_shard_recoveries_total"), 2.0, "no epoch ended");
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    let books = ["decisions", "duplicates", "answered"].map(|kind| verified["books"][kind].as_u64().unwrap());
    assert_eq!((books, &verified["as_answered"]), ([17, 0, 0], &json!(0)), "{verified}");
}

#[test]
fn what_was_answered_is_journaled_once_whoever_was_killed() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let (mut folder, mut answers) = (TempDir::new().unwrap(), Answers::new());
    for round in 0..2 {
        let service = consuming(&kafka, "", folder).start();
        assert_durable(&service, &answers);
        for user in 0..3 {
            let payment = payment(user, &format!("before-{round}")).text();
            answers.insert(payment.clone(), decision(service.post("/v1/decide", &payment).json()));
        }
        kafka.kill();
        for number in 0..12 {
            let payment = payment(number % 7, &format!("away-{round}-{number}")).text();
            answers.insert(payment.clone(), decision(undurable(&service, &payment)));
        }
        folder = service.kill().folder;
        kafka.restart();
    }
    let service = consuming(&kafka, "", folder).start();
    assert_eq!(spilled(&service), 0, "before it is ready");
    assert_durable(&service, &answers);
    let payment = payment(1, "after").text();
    assert_eq!(service.post("/v1/decide", &payment).json()["durable"], true);
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    let books = ["decisions", "duplicates", "answered"].map(|kind| verified["books"][kind].as_u64().unwrap());
    assert_eq!((books, &verified["as_answered"]), ([31, 0, 0], &json!(24)), "{verified}");
}

#[test]
fn a_stop_leaves_to_the_next_start_what_it_cannot_hand_over() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let builder = consuming(&kafka, "", TempDir::new().unwrap());
    let service = builder.env("VERDICT__HTTP__SHUTDOWN_SECS", "3").start();
    kafka.kill();
    let late = payment(5, "late").text();
    let answers = Answers::from([(late.clone(), decision(undurable(&service, &late)))]);
    let folder = service.terminate().folder;
    kafka.restart();
    let service = consuming(&kafka, "", folder).start();
    assert_durable(&service, &answers);
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    assert_eq!((&verified["decisions"], &verified["as_answered"]), (&json!(1), &json!(1)), "{verified}");
}

#[test]
fn what_is_answered_while_partitions_change_hands_is_journaled_as_it_was() {
    let kafka = Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let service = consuming(&kafka, "", TempDir::new().unwrap()).start();
    let other = consuming(&kafka, "", TempDir::new().unwrap()).start();
    let (mut answers, mut fallbacks, mut number) = (Answers::new(), 0, 0);
    until("answers by the declared policy", || {
        number += 1;
        let payment = payment(number % 9, &format!("t-{number}")).text();
        let answer = service.post("/v1/decide", &payment);
        let told = answer.json();
        // What had begun when the partition was lost, and was not decided, is the caller's to send again.
        if answer.status == 503 {
            assert!(["RECOVERING", "DEADLINE_EXCEEDED"].contains(&told["code"].as_str().unwrap()), "{told}");
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        if told["mode"] == "fallback" {
            assert_eq!(
                (&told["durable"], &told["degraded"]),
                (&json!(false), &json!([{"code": "RECOVERING"}])),
                "{told}"
            );
            let outcome = if number % 9 % 5 == 0 { "review" } else { "approve" };
            assert_eq!(told["decision"], outcome, "{told}");
            fallbacks += 1;
        }
        answers.insert(payment, decision(told));
        (fallbacks == 20).then_some(())
    });
    drop(other.kill());
    let after = payment(3, "after").text();
    until("a durable answer", || {
        let told = service.post("/v1/decide", &after).json();
        (told["durable"] == true).then_some(())
    });
    until("readiness", || (service.get("/readyz").status == 200).then_some(()));
    until("an empty spill", || (spilled(&service) == 0).then_some(()));
    assert_durable(&service, &answers);
    assert_eq!(metric(&service, "verdict_answer_conflicts_total"), 0.0);
    let verified = replayed(&kafka, "", service.terminate().folder.path());
    let counted = verified["as_answered"].as_u64().unwrap();
    assert!(counted >= fallbacks, "{verified}");
}

//! What a start refuses, and what stops a source.

use super::{PARTITIONS, consuming, produce, until_journaled, until_no_lag};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions};
use verdict_tests::{Payment, until};

#[test]
fn topics_that_are_missing_or_too_small_are_refused() {
    let kafka = Kafka::shared();
    let refused = |prefix: &str| {
        let stopped = consuming(kafka, prefix, TempDir::new().unwrap()).try_start().expect_err("it must not start");
        stopped.stderr
    };
    let told = refused("nowhere.");
    assert!(told.contains("expected topic `nowhere.transactions`, found none"), "{told}");
    let topics = kafka.fresh_topics("small", PARTITIONS - 1);
    let told = refused(topics.prefix());
    assert!(told.contains("at least 4 partitions, as many as the journal has, found 3"), "{told}");
}

#[test]
fn an_offset_that_is_gone_stops_its_source_and_says_so() {
    let fresh = || Kafka::start(KafkaOptions { partitions: PARTITIONS, ..KafkaOptions::default() });
    let kafka = fresh();
    let service = consuming(&kafka, "", TempDir::new().unwrap()).start();
    for id in 0..3 {
        produce(&kafka, "transactions", 0, "", &Payment::new("u-1", &format!("t-{id}"), "1.00").text());
    }
    // Whether or not it is moved: three records of partition 0.
    until_journaled(&service, 3.0);
    until_no_lag(&service);
    let folder = service.terminate().folder;
    drop(kafka);
    let empty = fresh();
    let service = consuming(&empty, "", folder).spawn_only();
    let report = until("a source that stands still", || {
        let answer = service.try_request("GET", "/readyz", &[], "").ok()?;
        (answer.status == 503 && answer.body.contains("not in the topic any more")).then_some(answer.body)
    });
    assert!(report.contains("transactions/0"), "{report}");
    // What comes over HTTP is decided all the same.
    let answer = service.post("/v1/decide", &Payment::new("u-1", "t-9", "1.00").text());
    assert_eq!(answer.status, 200, "{}", answer.body);
}

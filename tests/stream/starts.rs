//! What a start refuses, and what stops a source.

use super::{PARTITIONS, committed, consuming, metric, produce, replayed, tool, until_journaled, until_no_lag};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::servers::Kafka;
use verdict_tests::{Payment, Service, finish, login, now_ms, until, within};

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
fn a_service_that_trims_notes_how_old_the_journal_is_and_deletes_nothing_of_today() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("trims", PARTITIONS);
    let trimming =
        |folder| consuming(kafka, topics.prefix(), folder).env("VERDICT__KAFKA__JOURNAL_RETENTION_DAYS", "1").start();
    let service = trimming(TempDir::new().unwrap());
    let answer = service.post("/v1/decide", &Payment::new("u-1", "t-1", "1.00").text());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let begins = |service: &Service| {
        let text = service.get("/metrics").body;
        let firsts: Vec<&str> = text.lines().filter(|line| line.starts_with("verdict_journal_first_record{")).collect();
        let begun = firsts.len() == PARTITIONS as usize;
        begun.then(|| assert!(firsts.iter().all(|line| line.ends_with(" 0")), "{firsts:?}"))
    };
    until("where the journal begins", || begins(&service));
    // The next start has something to note, at once.
    let service = trimming(service.terminate().folder);
    let profiles = topics.name("verdict.profiles");
    // A round that finds the brokers busy is tried again, and one that went well comes every minute.
    let noted = within(Duration::from_secs(180), || {
        let keys = committed(kafka, &profiles, "%k\n");
        keys.iter().any(|key| key.starts_with("trimmed/")).then_some(())
    });
    assert!(noted.is_some(), "no place and its time was noted");
    until("where the journal begins", || begins(&service));
    assert_eq!(metric(&service, "verdict_journal_trimmed_records_total"), 0.0);
    let verified = replayed(kafka, topics.prefix(), service.terminate().folder.path());
    assert_eq!(verified["decisions"], 1, "{verified}");
}

/// Removes a topic, and waits until nobody knows it any more.
pub(super) fn remove(kafka: &Kafka, topic: &str) {
    let mut java = tool("org.apache.kafka.tools.TopicCommand");
    java.args(["--bootstrap-server", kafka.bootstrap_servers(), "--delete", "--topic", topic]);
    let _ = finish(&mut java).success();
    until("the topic to be gone", || {
        let mut listing = Command::new("kcat");
        listing.args(["-L", "-b", kafka.bootstrap_servers()]).stdin(Stdio::null());
        let said = String::from_utf8(finish(&mut listing).success().stdout).unwrap();
        (!said.contains(&format!("\"{topic}\""))).then_some(())
    });
}

#[test]
fn an_offset_that_is_gone_stops_its_source_and_says_so() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("gone", PARTITIONS);
    let name = topics.name("transactions");
    let service = consuming(kafka, topics.prefix(), TempDir::new().unwrap()).start();
    for id in 0..3 {
        produce(kafka, &name, 0, "", &Payment::new("u-1", &format!("t-{id}"), "1.00").text());
    }
    // Whether or not it is moved: three records of partition 0.
    until_journaled(&service, 3.0);
    until_no_lag(&service);
    let folder = service.terminate().folder;
    remove(kafka, &name);
    kafka.create_topic(&name, PARTITIONS, &[]);
    let service = consuming(kafka, topics.prefix(), folder).spawn_only();
    let report = until("a source that stands still", || {
        let answer = service.try_request("GET", "/readyz", &[], "").ok()?;
        (answer.status == 503 && answer.body.contains("not in the topic any more")).then_some(answer.body)
    });
    assert!(report.contains(&format!("{name}/")), "{report}");
    // What comes over HTTP is decided all the same.
    let answer = service.post("/v1/decide", &Payment::new("u-1", "t-9", "1.00").text());
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_topic_that_is_deleted_holds_readiness_up_until_it_is_back() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("deleted", PARTITIONS);
    let name = topics.name("logins");
    // How long the client takes a topic that is missing for one that is not known everywhere yet; 30 s otherwise.
    let soon = "{topic.metadata.propagation.max.ms = 500, topic.metadata.refresh.interval.ms = 1000}";
    let builder = consuming(kafka, topics.prefix(), TempDir::new().unwrap());
    let service = builder.env("VERDICT__KAFKA__PROPERTIES", soon).start();
    until_no_lag(&service);
    remove(kafka, &name);
    let told = until("a source that cannot be read", || {
        let answer = service.get("/readyz");
        (answer.status == 503).then_some(answer.body)
    });
    assert!(told.contains(&format!("{name}/")), "{told}");
    // Payments go on.
    produce(kafka, &topics.name("transactions"), 0, "", &Payment::new("u-1", "t-1", "1.00").text());
    until_journaled(&service, 1.0);
    kafka.create_topic(&name, PARTITIONS, &[]);
    until("all of it to be read again", || (service.get("/readyz").status == 200).then_some(()));
    produce(kafka, &name, 0, "", &login("u-1", "l-1", now_ms(), (48.9, 2.3)).to_string());
    until("the login", || (service.get("/v1/users/u-1/profile").json()["last_login"].is_object()).then_some(()));
}

//! What tells how the service does: heartbeats that go the whole way and leave no trace in anybody's books, lag that counts
//! what can be consumed and nothing else, and the offsets that other tools see.

use super::{PARTITIONS, assert_consumed, committed, consuming, metric, produce, replayed, tool, until_journaled};
use super::{listed_alerts, until_no_lag};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Postgres, Topics};
use verdict_tests::{Builder, Payment, Service, finish, now_ms, until, within};

/// A service of a group of its own.
fn watched(kafka: &Kafka, topics: &Topics, folder: TempDir, heartbeat_secs: &str) -> Builder {
    let group = topics.prefix().trim_end_matches('.');
    let builder = consuming(kafka, topics.prefix(), folder).env("VERDICT__KAFKA__GROUP_ID", group);
    builder.env("VERDICT__KAFKA__HEARTBEAT_SECS", heartbeat_secs)
}

/// Offsets that the group has committed and where the partitions end, by topic and partition.
type Offsets = BTreeMap<(String, u32), (u64, u64)>;

/// How long the group may not know them: what it did not hear the first time it is told within a minute.
const TOLD_AGAIN: Duration = Duration::from_secs(150);

/// What Kafka's own tool says of the group, once it has been told.
#[track_caller]
fn told_to_group(kafka: &Kafka, topics: &Topics, is_told: impl Fn(&Offsets) -> bool) -> Offsets {
    let found = within(TOLD_AGAIN, || Some(group(kafka, topics)).filter(&is_told));
    found.unwrap_or_else(|| panic!("the group was not told in {TOLD_AGAIN:?}: {:?}", group(kafka, topics)))
}

fn group(kafka: &Kafka, topics: &Topics) -> Offsets {
    let mut java = tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
    let group = topics.prefix().trim_end_matches('.');
    java.args(["--bootstrap-server", kafka.bootstrap_servers(), "--describe", "--group", group]);
    let said = String::from_utf8(finish(&mut java).success().stdout).unwrap();
    let rows = said.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse().ok();
        let partition = u32::try_from(number(2)?).ok()?;
        Some((((*words.get(1)?).to_owned(), partition), (number(3)?, number(4)?)))
    });
    rows.collect()
}

/// Whether a heartbeat of every partition has come to every stage so many times, in all.
fn heartbeats(service: &Service, count: f64) -> Option<()> {
    let text = service.get("/metrics").body;
    let seen = |stage: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("verdict_heartbeat_seconds_count{{stage=\"{stage}\"}} ")));
        line.and_then(|count| count.parse::<f64>().ok()).is_some_and(|seen| seen >= count)
    };
    (seen("decided") && seen("published")).then_some(())
}

fn query(postgres: &Postgres, sql: &str) -> String {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set", "ON_ERROR_STOP=1"]);
    let ended = finish(psql.arg(postgres.url()).args(["--command", sql]).stdin(Stdio::null())).success();
    String::from_utf8(ended.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn heartbeats_come_back_and_leave_no_trace() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::start());
    let topics = kafka.fresh_topics("signals", PARTITIONS);
    let name = topics.name("transactions");
    let with_tables = |builder: Builder| {
        builder.env("VERDICT__POSTGRES__URL", postgres.url()).env("VERDICT__POSTGRES__MIGRATE", "true")
    };
    let service = with_tables(watched(kafka, &topics, TempDir::new().unwrap(), "1")).start();
    for user in 0..3 {
        let payment = Payment::new(&format!("mine-{user}"), "t-1", "5000.01").with("deadline_ms", 5_000);
        assert_eq!(service.post("/v1/decide", &payment.text()).status, 200);
        // Wherever it goes.
        produce(kafka, &name, user, "", &Payment::new(&format!("yours-{user}"), "t-1", "1.00").text());
    }
    until("heartbeats of all partitions, some times", || heartbeats(&service, f64::from(3 * PARTITIONS)));
    until("everything in the tables", || {
        let behind = metric(&service, "verdict_projection_lag_records");
        (behind == 0.0 && metric(&service, "verdict_decisions_total") == 6.0).then_some(())
    });
    let text = service.get("/metrics").body;
    for stage in ["decided", "published"] {
        for partition in 0..PARTITIONS {
            let series = format!("verdict_heartbeat_age_seconds{{partition=\"{partition}\",stage=\"{stage}\"}} ");
            let age = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{text}"));
            assert!(age.parse::<f64>().unwrap() < 30.0, "{series}{age}");
        }
    }
    for line in ["verdict_ready 1", "verdict_component_ready{component=\"sources\"} 1", "verdict_alerts_total 3"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    // Every stage says how much goes through it.
    until("what was read", || {
        let all = f64::from(3 * PARTITIONS + 3);
        (metric(&service, "verdict_source_records_total") >= all).then_some(())
    });
    assert!(metric(&service, "verdict_journal_records_total") >= f64::from(3 * PARTITIONS + 6));
    for projection in ["review", "outbox"] {
        let series = format!("verdict_projection_records_total{{projection=\"{projection}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{text}"));
        assert!(count.parse::<f64>().unwrap() >= f64::from(3 * PARTITIONS), "{series}{count}");
    }
    let alerts = committed(kafka, &topics.name("fraud-alerts"), "%k\n");
    assert!(alerts.len() == 3 && alerts.iter().all(|user| user.starts_with("mine-")), "{alerts:?}");
    assert_eq!(listed_alerts(&service).len(), 3);
    assert_eq!(committed(kafka, &topics.name("dead-letters"), "%s\n"), [""; 0]);
    let in_tables = "SELECT (SELECT count(*) FROM decisions) || ' ' || (SELECT count(*) FROM fraud_alerts)";
    until("rows", || (query(&postgres, in_tables) == "6 3").then_some(()));
    let beats = committed(kafka, &name, "%h %p %k\n");
    let beat: Vec<&str> =
        beats.iter().find(|beat| beat.starts_with("verdict-heartbeat=")).unwrap().split(' ').collect();
    let (partition, user) = (beat[1].parse().unwrap(), beat[2].to_owned());
    assert_eq!(service.get(&format!("/v1/users/{user}/profile")).status, 404, "nobody knows {user}");

    // One that is an hour old, left by somebody who is gone.
    let folder = service.kill().folder;
    let stale = Payment::new(&user, "left-behind-1", "0.01").at(now_ms() - 3_600_000).text();
    let file = folder.path().join("stale");
    std::fs::write(&file, &stale).unwrap();
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-b", kafka.bootstrap_servers(), "-t", &name, "-p", beat[1], "-k", &user, "-X", "acks=all"]);
    let _ = finish(kcat.args(["-H", "verdict-heartbeat=left-behind-1"]).arg(&file).stdin(Stdio::null())).success();
    // The same user without the header is one like any other.
    produce(kafka, &name, partition, &user, &Payment::new(&user, "t-1", "1.00").text());
    let service = with_tables(watched(kafka, &topics, folder, "0")).start();
    until_no_lag(&service);
    assert_eq!(metric(&service, "verdict_decisions_total"), 1.0);
    let text = service.get("/metrics").body;
    assert!(
        !text.contains("verdict_heartbeat_seconds_count") && !text.contains("verdict_heartbeat_age_seconds{"),
        "{text}"
    );
    let committed_offsets = told_to_group(kafka, &topics, |found| {
        (0..PARTITIONS).all(|at| found.get(&(name.clone(), at)).is_some_and(|(at, end)| at == end))
    });
    let folder = service.terminate().folder;
    let verified = replayed(kafka, topics.prefix(), folder.path());
    let consumed = assert_consumed(kafka, &topics, &verified);
    let book = |kind: &str| verified["books"][kind].as_u64().unwrap();
    assert_eq!((book("decisions"), book("duplicates"), book("dead_letters")), (7, 0, 0), "{verified}");
    // Three payments came over HTTP; what else was no decision was a heartbeat, or moved.
    assert_eq!(book("decisions") + book("skipped"), consumed + 3, "{verified}");
    for (partition, (told, _)) in (0..PARTITIONS).map(|at| (at, committed_offsets[&(name.clone(), at)])) {
        assert_eq!(Value::from(told), verified["sources"][format!("{name}/{partition}")]["next_offset"], "{verified}");
    }
}

#[test]
fn control_records_at_an_end_are_no_lag() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("control", PARTITIONS);
    let name = topics.name("transactions");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("payments");
    std::fs::write(&file, Payment::new("u-1", "t-1", "1.00").text()).unwrap();
    // A producer whose transactions leave a control record behind each.
    let mut java = tool("org.apache.kafka.tools.ProducerPerformance");
    java.args(["--topic", &name, "--num-records", "6", "--throughput", "-1", "--transactional-id", "upstream"]);
    java.args(["--transaction-duration-ms", "1", "--payload-file"]).arg(&file);
    let servers = format!("bootstrap.servers={}", kafka.bootstrap_servers());
    let _ = finish(java.args(["--producer-props", &servers])).success();
    let ended = until("control records", || {
        let records = committed(kafka, &name, "%o\n").len() as u64;
        let ends: u64 = super::ends(kafka, &name).iter().sum();
        (records == 6 && ends > records).then_some(ends)
    });
    let service = watched(kafka, &topics, TempDir::new().unwrap(), "0").start();
    until_journaled(&service, 6.0);
    // However many were moved: each of these is one more record, and none of them a control record.
    until_no_lag(&service);
    assert!(super::ends(kafka, &name).iter().sum::<u64>() >= ended);
    let _ = told_to_group(kafka, &topics, |found| {
        let behind = found.iter().filter(|((topic, _), (at, end))| *topic == name && at != end).count();
        behind == 0 && found.keys().any(|(topic, _)| *topic == name)
    });
    assert_eq!(service.get("/readyz").json()["ready"], json!(true));
}

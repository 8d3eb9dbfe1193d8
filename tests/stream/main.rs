//! Events from the topics of a real broker: every record leaves exactly one journal record, in the order of offsets,
//! whatever happens to the service or to the broker on the way (I6).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod archived;
mod books;
mod faults;
mod letters;
mod records;
mod secure;
mod signals;
mod starts;
mod undurable;

use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Topics};
use verdict_tests::{Builder, Service, command, finish, lasting, until};

/// Partitions of the journal and of the topics: few, so that each has something to do.
const PARTITIONS: u32 = 4;

/// Settings of whatever speaks to these topics.
fn settings(kafka: &Kafka, prefix: &str) -> Vec<(OsString, OsString)> {
    [
        ("VERDICT__KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers().to_owned()),
        ("VERDICT__KAFKA__TOPIC_PREFIX", prefix.to_owned()),
        ("VERDICT__DATA__PARTITIONS", PARTITIONS.to_string()),
        ("VERDICT__DATA__CHECKPOINT_SECS", "1".to_owned()),
        // Most tests count records; `signals` has them.
        ("VERDICT__KAFKA__HEARTBEAT_SECS", "0".to_owned()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

/// A service that consumes these topics.
fn consuming(kafka: &Kafka, prefix: &str, folder: TempDir) -> Builder {
    let builder = Service::builder().folder(folder);
    settings(kafka, prefix).into_iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

/// Sends a record to a partition of a topic, acknowledged.
fn produce(kafka: &Kafka, topic: &str, partition: u32, key: &str, value: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, value).unwrap();
    let partition = partition.to_string();
    let args = ["-P", "-b", kafka.bootstrap_servers(), "-t", topic, "-p", &partition, "-k", key, "-X", "acks=all"];
    let mut command = Command::new("kcat");
    command.args(args).args(["-X", "message.max.bytes=16000000"]).arg(&file).stdin(Stdio::null());
    let _ = finish(&mut command).success();
}

/// A command-line tool of Kafka's own.
fn tool(class: &str) -> Command {
    let libs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kafka-4.3.1/libs/*");
    let mut java = Command::new("java");
    java.args(["-Xmx128m", "-cp"]).arg(libs).arg(class).stdin(Stdio::null());
    java
}

/// Records of each partition of a topic, as the broker counts them.
fn ends(kafka: &Kafka, topic: &str) -> Vec<u64> {
    let wanted = |partition: u32| {
        let query = format!("{topic}:{partition}:-1");
        let mut command = Command::new("kcat");
        command.args(["-Q", "-b", kafka.bootstrap_servers(), "-t", &query]).stdin(Stdio::null());
        let said = String::from_utf8(finish(&mut command).success().stdout).unwrap();
        said.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("an offset in {said:?}"))
    };
    (0..PARTITIONS).map(wanted).collect()
}

/// Everything that is committed in a topic, printed as kcat's format says.
fn committed(kafka: &Kafka, topic: &str, format: &str) -> Vec<String> {
    let mut command = Command::new("kcat");
    command.args(["-C", "-e", "-q", "-b", kafka.bootstrap_servers(), "-t", topic, "-f", format]);
    command.args(["-X", "isolation.level=read_committed"]).stdin(Stdio::null());
    let said = String::from_utf8(finish(&mut command).success().stdout).unwrap();
    said.lines().map(str::to_owned).collect()
}

/// Every alert id that the service lists.
fn listed_alerts(service: &Service) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("/v1/alerts?limit=200{cursor}")).json();
        ids.extend(
            page["alerts"].as_array().unwrap().iter().map(|alert| alert["alert_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { return ids };
        cursor = format!("&cursor={next}");
    }
}

/// The sum of a metric over its labels.
fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get("/metrics").body;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if rest.starts_with('{') || rest.starts_with(' ') { line.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
    });
    values.sum()
}

/// Waits until so many records are in the journal since this start.
#[track_caller]
fn until_journaled(service: &Service, records: f64) {
    until("records in the journal", || (metric(service, "verdict_journal_records_total") >= records).then_some(()));
}

/// Waits until all partitions of the three topics are known to be consumed to their ends.
#[track_caller]
fn until_no_lag(service: &Service) {
    until("no lag", || {
        let text = service.get("/metrics").body;
        let lags = text.lines().filter(|line| line.starts_with("verdict_source_lag_records{"));
        let lags: Vec<bool> = lags.map(|line| line.ends_with(" 0")).collect();
        (lags.len() == 3 * PARTITIONS as usize && lags.into_iter().all(|none| none)).then_some(())
    });
}

/// Waits until everything that is in the three topics now is in the journal, whoever has come back only just.
#[track_caller]
fn until_consumed(kafka: &Kafka, prefix: &str, service: &Service) {
    for topic in ["transactions", "logins", "fraud-labels"].map(|name| format!("{prefix}{name}")) {
        for (partition, end) in ends(kafka, &topic).into_iter().enumerate() {
            let name = format!("verdict_source_offset{{topic=\"{topic}\",partition=\"{partition}\"}} ");
            until(&format!("{topic}/{partition} to be consumed to {end}"), || {
                let text = service.get("/metrics").body;
                let next = text.lines().find_map(|line| line.strip_prefix(&*name)?.parse::<u64>().ok())?;
                (next >= end).then_some(())
            });
        }
    }
}

/// What `replay --verify` says of the journal in these topics, once the service has ended.
#[track_caller]
fn replayed(kafka: &Kafka, prefix: &str, ended: &Path) -> Value {
    let mut replay = command(["replay", "--verify", "--config", "/dev/null", "--data-dir"]);
    replay.arg(ended.join("data")).envs(settings(kafka, prefix));
    finish(&mut replay).success().lines().remove(0)
}

/// What stays of an answer, whether or not it was durable when it was given.
fn decision(answer: Value) -> Value {
    let mut decision = lasting(answer);
    if let Some(causes) = decision["degraded"].as_array_mut() {
        causes.retain(|cause| cause["code"] != "JOURNAL_LATE");
    }
    decision.as_object_mut().unwrap().remove("mode");
    decision
}

/// Fails unless every record of these topics has left exactly one journal record; how many there are.
#[track_caller]
fn assert_consumed(kafka: &Kafka, topics: &Topics, verified: &Value) -> u64 {
    assert_consumed_but(kafka, topics, verified, 0)
}

/// The same where a service that sent heartbeats has ended: so many of each partition may be left. How many were consumed.
#[track_caller]
fn assert_consumed_but(kafka: &Kafka, topics: &Topics, verified: &Value, heartbeats: u64) -> u64 {
    let mut all = 0;
    for name in ["transactions", "logins", "fraud-labels"] {
        for (partition, end) in ends(kafka, &topics.name(name)).into_iter().enumerate() {
            let consumed = &verified["sources"][format!("{}/{partition}", topics.name(name))];
            let found = (consumed["records"].as_u64().unwrap_or(0), consumed["next_offset"].as_u64().unwrap_or(0));
            let left = if name == "transactions" { heartbeats } else { 0 };
            assert_eq!(found.0, found.1, "{name}/{partition}: {verified}");
            assert!((end.saturating_sub(left)..=end).contains(&found.1), "{name}/{partition} of {end}: {verified}");
            all += found.1;
        }
    }
    all
}

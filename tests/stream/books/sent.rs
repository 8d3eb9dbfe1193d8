//! What was sent: the topics as they are, read once into memory, and callers who have some of the same payments decided over
//! HTTP meanwhile, each until it has an answer.

use super::super::ends;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Topics};
use verdict_tests::{Client, finish, within};

/// Topics that the service consumes.
pub(super) const TOPICS: [&str; 3] = ["transactions", "logins", "fraud-labels"];
/// Longest that a payment is not taken: a service that was killed is back by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a caller whose payment was not taken asks again.
const PAUSE: Duration = Duration::from_millis(50);

/// Values of a topic by partition and offset.
pub(super) type Lines = Vec<Vec<Box<str>>>;

/// Every value of the three topics, by the full name of the topic.
#[track_caller]
pub(super) fn read_topics(kafka: &Kafka, topics: &Topics) -> HashMap<String, Lines> {
    let read = |name: &str| {
        let name = topics.name(name);
        let lines = read_topic(kafka, &name);
        let found: Vec<u64> = lines.iter().map(|lines| lines.len() as u64).collect();
        assert_eq!(found, ends(kafka, &name), "{name}");
        (name, lines)
    };
    TOPICS.map(read).into()
}

#[track_caller]
fn read_topic(kafka: &Kafka, topic: &str) -> Lines {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values");
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-e", "-q", "-b", kafka.bootstrap_servers(), "-t", topic, "-f", "%p %o %s\\n"]);
    let status = kcat.stdin(Stdio::null()).stdout(File::create(&file).unwrap()).status().unwrap();
    assert!(status.success(), "kcat ended with {status}");
    let mut lines = vec![Vec::new(); super::super::PARTITIONS as usize];
    for line in BufReader::new(File::open(&file).unwrap()).lines() {
        let line = line.unwrap();
        let mut parts = line.splitn(3, ' ');
        let [partition, offset] = [(); 2].map(|()| parts.next().unwrap().parse::<usize>().unwrap());
        assert_eq!(offset, lines[partition].len(), "{topic}/{partition}: nothing but these values is in it");
        lines[partition].push(parts.next().unwrap().into());
    }
    lines
}

/// Payments of a topic that are whole, one in so many.
pub(super) fn some_payments(lines: &Lines, one_in: usize) -> Vec<Value> {
    let whole = lines.iter().flatten().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let whole = whole.filter(|value| {
        let at = value["timestamp"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        at.is_some() && value["user_id"].as_str().is_some_and(|user| !user.is_empty())
    });
    whole.step_by(one_in).collect()
}

/// Who and which.
pub(super) type Payment = (Box<str>, Box<str>);

pub(super) fn identity(payment: &Value) -> Payment {
    ["user_id", "transaction_id"].map(|field| payment[field].as_str().unwrap().into()).into()
}

/// Has each of these decided, one after the other: what was answered last.
pub(super) fn call(client: &Mutex<Client>, payments: Vec<Value>) -> HashMap<Payment, Value> {
    let mut answers = HashMap::with_capacity(payments.len());
    for mut payment in payments {
        let who = identity(&payment);
        payment["deadline_ms"] = json!(10_000);
        let body = payment.to_string();
        let mut last = String::new();
        let answer = within(PATIENCE, || {
            let client = client.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match client.post("/v1/decide", &body) {
                Ok(answer) if answer.status == 200 => return Some(answer.json()),
                Ok(answer) if matches!(answer.status, 429 | 503) => last = answer.body,
                Ok(answer) => panic!("{body}: {} {}", answer.status, answer.body),
                Err(error) => last = error.to_string(),
            }
            let _ = within(PAUSE, || None::<()>);
            None
        });
        let answer = answer.unwrap_or_else(|| panic!("{body} was not taken in {PATIENCE:?}: {last}"));
        assert_eq!(answer["durable"], true, "{answer}");
        answers.insert(who, answer);
    }
    answers
}

/// Runs statements, and gives the rows, columns apart by `|`.
#[track_caller]
pub(super) fn rows(url: &str, sql: &str) -> Vec<String> {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set", "ON_ERROR_STOP=1"]);
    let ended = finish(psql.arg(url).args(["--command", sql]).stdin(Stdio::null())).success();
    String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect()
}

//! The review projection in PostgreSQL, from outside: what analysts find there, and what becomes of it when the server or
//! the service is killed, held or wiped.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod faults;
mod rebuilds;
mod refusals;
mod shown;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use verdict_tests::{Builder, Payment, Service, finish, replay, until};

/// A service that decides by rules alone and keeps alerts in this database, whose tables it brings up.
fn with_database(url: &str) -> Builder {
    let builder = Service::builder().arg("--model").arg("").env("VERDICT__POSTGRES__URL", url);
    builder.env("VERDICT__POSTGRES__MIGRATE", "true")
}

fn start(url: &str, folder: TempDir) -> Service {
    with_database(url).folder(folder).start()
}

/// What a person at the prompt is shown: fields separated by `|`.
#[track_caller]
fn query(url: &str, sql: &str) -> String {
    let psql =
        ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set", "ON_ERROR_STOP=1", url, "--command", sql];
    let ended = finish(Command::new("psql").args(psql).stdin(Stdio::null())).success();
    String::from_utf8(ended.stdout).unwrap().trim_end().to_owned()
}

#[track_caller]
fn count(url: &str, sql: &str) -> u64 {
    query(url, &format!("SELECT count(*) FROM {sql}")).parse().unwrap()
}

/// Has a payment decided; one above 5,000 raises an alert.
#[track_caller]
fn decide(service: &Service, user: &str, id: &str, amount: &str) -> Value {
    let answer = service.post("/v1/decide", &Payment::new(user, id, amount).text());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn lag(service: &Service) -> u64 {
    let ready = service.get("/readyz");
    assert_eq!(ready.status, 200, "a projection behind holds nothing up: {}", ready.body);
    ready.json()["components"]["projections"]["review"]["lag_records"].as_u64().unwrap_or(u64::MAX)
}

#[track_caller]
fn caught_up(service: &Service) {
    until("the end of the lag", || (lag(service) == 0).then_some(()));
}

/// The database says what the journal says, each once: as many decisions, and an alert for each that raised one.
#[track_caller]
fn assert_books(url: &str, folder: &Path) -> u64 {
    let verified = replay(folder).success().lines();
    let decided = verified[0]["decisions"].as_u64().unwrap();
    assert_eq!(count(url, "decisions"), decided);
    assert_eq!(count(url, "(SELECT DISTINCT decision_id FROM decisions) AS one"), decided);
    assert_eq!(count(url, "(SELECT DISTINCT journal_partition, journal_n FROM decisions) AS one"), decided);
    let raised = count(url, "decisions WHERE decision <> 'approve'");
    assert_eq!(
        (count(url, "fraud_alerts"), count(url, "decisions JOIN fraud_alerts USING (alert_id)")),
        (raised, raised)
    );
    decided
}

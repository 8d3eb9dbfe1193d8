//! What operators and machines ask of the service itself.

use super::decide;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use verdict_tests::{Payment, Service, login, now_ms, until};

/// The samples of `/metrics`, by name with labels.
pub(crate) fn metrics(service: &Service) -> BTreeMap<String, f64> {
    let answer = service.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("text/plain"), "{}", answer.header("content-type"));
    let samples = answer.body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

#[test]
fn health_and_readiness() {
    let service = Service::start();
    assert_eq!(service.get("/healthz").json(), json!({"status": "ok"}));
    let ready = service.get("/readyz").json();
    assert_eq!((&ready["ready"], &ready["components"]["journal"]["ready"]), (&json!(true), &json!(true)));
    assert_eq!(ready["components"]["shards"], json!({"ready": true, "recovered": 2, "of": 2}));
    assert_eq!(ready["components"]["stopping"], false);
    decide(&service, &Payment::new("u", "t", "5000.01"));
    until("the alerts' lag in /readyz", || {
        (service.get("/readyz").json()["components"]["projections"]["review"]["lag_records"] == 0).then_some(())
    });
    for path in ["/healthz", "/readyz", "/metrics"] {
        let head = service.request("HEAD", path, &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn metrics_have_their_fixed_names_and_move() {
    let service = Service::start();
    let before = metrics(&service);
    for name in [
        "verdict_decisions_total{decision=\"approve\",mode=\"normal\"}",
        "verdict_decisions_total{decision=\"block\",mode=\"fallback\"}",
        "verdict_duplicates_total",
        "verdict_alerts_total",
        "verdict_decide_seconds_count",
        "verdict_end_to_end_seconds_count",
    ] {
        assert_eq!(before.get(name), Some(&0.0), "{name} from the start");
    }
    let fine = Payment::new("u-1", "t-1", "1.00").with("deadline_ms", 30_000);
    decide(&service, &fine);
    decide(&service, &fine);
    decide(&service, &Payment::new("u-2", "t-1", "5000.01").with("deadline_ms", 30_000));
    assert_eq!(service.post("/v1/decide", &fine.clone().with("amount", "0.00").text()).status, 422);
    assert_eq!(service.post("/v1/decide", "{").status, 400);
    let seen = login("u-1", "l-1", now_ms(), (1.0, 2.0)).to_string();
    assert_eq!(service.post("/v1/logins", &seen).status, 200);
    let after = metrics(&service);
    let decided = |mode: &str, decision: &str| {
        after[&format!("verdict_decisions_total{{decision=\"{decision}\",mode=\"{mode}\"}}")]
    };
    assert_eq!(decided("normal", "approve"), 1.0);
    assert_eq!(decided("normal", "review") + decided("normal", "block"), 1.0);
    assert_eq!(after["verdict_duplicates_total"], 1.0);
    assert_eq!(after["verdict_alerts_total"], 1.0);
    assert_eq!(after["verdict_rejected_total{reason=\"AMOUNT_TOO_SMALL\"}"], 1.0);
    assert_eq!(after["verdict_rejected_total{reason=\"NOT_JSON\"}"], 1.0);
    assert_eq!(after["verdict_decide_seconds_count"], 2.0);
    assert_eq!(after["verdict_end_to_end_seconds_count"], 4.0, "two decisions, one of them twice, and a login");
    assert_eq!(after["verdict_journal_records_total"], 3.0);
    assert!(after["verdict_decide_seconds_sum"] > 0.0);
}

#[test]
fn the_description_names_every_route() {
    let service = Service::start();
    let answer = service.get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let description = answer.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    for (path, operations) in description["paths"].as_object().unwrap() {
        let methods = ["get", "post", "put", "delete"];
        for method in operations.as_object().unwrap().keys().filter(|name| methods.contains(&&***name)) {
            let names = [("{id}", "u"), ("{list}", "block"), ("{kind}", "merchant"), ("{value}", "m-3")];
            let uri = names.into_iter().fold(path.clone(), |uri, (name, value)| uri.replace(name, value));
            // A stream has no end: with a header that is wrong it is refused like any request.
            let asked = service.request(&method.to_uppercase(), &uri, &[("last-event-id", "none")], "");
            let unknown = ["USER_NOT_FOUND", "ENTRY_NOT_FOUND"].iter().any(|code| asked.body.contains(code));
            assert!(![404, 405].contains(&asked.status) || unknown, "{method} {path}: {}", asked.body);
        }
    }
    let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/v1/decide",
        "/v1/events",
        "/v1/logins",
        "/v1/labels",
        "/v1/users/{id}/profile",
        "/v1/alerts",
        "/v1/alerts/stream",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} in {paths:?}");
    }
}

#[test]
fn simulated_traffic_is_taken() {
    let service = Service::builder().env("VERDICT__DECIDE__DEADLINE_MS", "30000").start();
    let ended =
        verdict_tests::run(["simulate", "--target", &service.url(""), "--count", "600", "--seed", "3"]).success();
    let answers = ended.lines();
    let decided = answers.iter().filter(|answer| answer["decision"].is_string()).count();
    let accepted = answers.iter().filter(|answer| answer["accepted"] == true).count();
    assert_eq!(decided + accepted, answers.len(), "{:?}", answers.iter().find(|answer| answer["status"].is_u64()));
    assert!(decided > 100 && accepted > 20, "{decided} decisions, {accepted} logins");
    let counted: f64 = metrics(&service)
        .iter()
        .filter(|(name, _)| name.starts_with("verdict_decisions_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(counted, decided as f64);
    assert_eq!(Value::from(service.get("/readyz").status), json!(200));
}

/// Local addresses, in the system's hexadecimal form, of the sockets of a process.
fn sockets(pid: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap_or_default().display().to_string();
    let own: Vec<String> = descriptors
        .map(|entry| link(entry.unwrap()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let rows = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let cells = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    cells.filter(|cells| own.iter().any(|inode| inode == cells[9])).map(|cells| cells[1].to_owned()).collect()
}

#[test]
fn no_connection_is_opened_that_nobody_asked_for() {
    let service = Service::start();
    decide(&service, &Payment::new("u", "t", "5000.01"));
    let port = format!(":{:04X}", service.addr().port());
    // The listener, and what clients opened to it: nothing else, with rules, model and alerts at work.
    let found = sockets(service.pid());
    assert!(!found.is_empty() && found.iter().all(|local| local.ends_with(&port)), "{found:?}, expected only {port}");
}

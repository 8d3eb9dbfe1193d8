//! Reviews: over the API or by hand, shown with their alert, followed by a label, and never lost.

use super::{by_rules, raise};
use serde_json::{Value, json};
use std::path::Path;
use verdict_tests::{Answer, Lock, Service, Stopped, now_ms, rfc3339, sqlite, until, verify};

fn id(alert: &Value) -> &str {
    alert["alert_id"].as_str().unwrap()
}

fn say(service: &Service, alert: &Value, review: &Value) -> Answer {
    service.post(&format!("/v1/alerts/{}/reviews", id(alert)), &review.to_string())
}

fn status(service: &Service, user: &str) -> Value {
    service.get(&format!("/v1/alerts?user_id={user}")).json()["alerts"][0]["status"].clone()
}

/// Waits until the profile counts so many transactions as fraud.
fn labelled(service: &Service, user: &str, frauds: u64) {
    until("the label that follows", || {
        let profile = service.get(&format!("/v1/users/{user}/profile"));
        (profile.status == 200 && profile.json()["fraud_labels"] == frauds).then_some(())
    });
}

fn by_hand(folder: &Path, sql: &str) {
    sqlite(&folder.join("data/review.db"), sql);
}

fn again(stopped: Stopped) -> Service {
    Service::builder().folder(stopped.folder).arg("--model").arg("").start()
}

#[test]
fn a_review_shows_with_its_alert_and_becomes_a_label() {
    let service = by_rules();
    let alert = raise(&service, "u-7");
    assert_eq!((&alert["status"], status(&service, "u-7")), (&json!("open"), json!("open")));
    let before = rfc3339(now_ms());
    let answer = say(&service, &alert, &json!({"status": "in_review", "assignee": "ana"}));
    assert_eq!((answer.status, answer.header("content-type")), (201, "application/json"), "{}", answer.body);
    let first = answer.json();
    assert_eq!(
        (&first["alert_id"], &first["assignee"], &first["note"]),
        (&alert["alert_id"], &json!("ana"), &Value::Null)
    );
    assert!(first["at"].as_str().unwrap() >= &*before, "{first}");
    assert_eq!(status(&service, "u-7"), "in_review");

    let fraud = say(&service, &alert, &json!({"status": "confirmed_fraud", "note": "called:\nnot hers"}));
    assert_eq!((fraud.status, &fraud.json()["note"]), (201, &json!("called:\nnot hers")), "{}", fraud.body);
    labelled(&service, "u-7", 1);
    assert_eq!(status(&service, "u-7"), "confirmed_fraud");
    let count = |query: &str| service.get(&format!("/v1/alerts?{query}")).json()["alerts"].as_array().unwrap().len();
    assert_eq!((count("status=confirmed_fraud"), count("status=open"), count("status=in_review")), (1, 0, 0));
    // Said later, it supersedes; what was said in between makes no label.
    assert_eq!(say(&service, &alert, &json!({"status": "false_positive"})).status, 201);
    labelled(&service, "u-7", 0);
    assert_eq!(status(&service, "u-7"), "false_positive");
    let metrics = until("the labels to be counted", || {
        let metrics = service.get("/metrics").body;
        metrics.lines().any(|line| line == "verdict_review_labels_total 2").then_some(metrics)
    });
    assert!(!metrics.contains("verdict_review_labels_total 3"));
    verify(service.terminate().folder.path());
}

#[test]
fn what_is_no_review_is_refused_in_words() {
    let service = by_rules();
    let alert = raise(&service, "u-7");
    let stranger = json!({"alert_id": "7c9e2f60-54a1-5c0b-9d3e-2a7f4b8d1e55"});
    for (alert, review, expected, code) in [
        (&stranger, json!({"status": "in_review"}), 404, "ALERT_NOT_FOUND"),
        (&json!({"alert_id": "u-7"}), json!({"status": "in_review"}), 404, "ALERT_NOT_FOUND"),
        (&alert, json!({"status": "open"}), 422, "UNKNOWN_VALUE"),
        (&alert, json!({"note": "x"}), 422, "MISSING_FIELD"),
        (&alert, json!({"status": "in_review", "note": "x".repeat(8_193)}), 422, "TEXT_TOO_LONG"),
        (&alert, json!(["in_review"]), 422, "WRONG_TYPE"),
    ] {
        let answer = say(&service, alert, &review);
        assert_eq!((answer.status, &answer.json()["code"]), (expected, &json!(code)), "{}", answer.body);
    }
    // The store is held by another program: a clear answer, and nothing that was half done.
    let lock = Lock::hold(&service.folder().join("data/review.db"));
    let answer = say(&service, &alert, &json!({"status": "confirmed_fraud"}));
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    drop(lock);
    until("the store to be back", || {
        (say(&service, &alert, &json!({"status": "in_review"})).status == 201).then_some(())
    });
    assert_eq!(status(&service, "u-7"), "in_review");
}

#[test]
fn a_row_inserted_by_hand_is_a_review() {
    let service = by_rules();
    let (alert, other) = (raise(&service, "u-7"), raise(&service, "u-8"));
    let insert = |alert: &Value, status: &str| {
        by_hand(
            service.folder(),
            &format!("INSERT INTO alert_reviews (alert_id, status) VALUES ('{}', '{status}')", id(alert)),
        );
    };
    insert(&alert, "confirmed_fraud");
    insert(&other, "in_review");
    labelled(&service, "u-7", 1);
    assert_eq!((status(&service, "u-7"), status(&service, "u-8")), (json!("confirmed_fraud"), json!("in_review")));
    // The API supersedes it, and is superseded.
    assert_eq!(say(&service, &alert, &json!({"status": "false_positive"})).status, 201);
    labelled(&service, "u-7", 0);
    insert(&alert, "confirmed_fraud");
    labelled(&service, "u-7", 1);
}

#[test]
fn a_label_follows_though_the_service_is_killed_in_between() {
    let mut service = by_rules();
    let users: Vec<String> = (0..8).map(|number| format!("u-{number}")).collect();
    let alerts: Vec<Value> = users.iter().map(|user| raise(&service, user)).collect();
    for (user, alert) in users.iter().zip(&alerts) {
        assert_eq!(say(&service, alert, &json!({"status": "confirmed_fraud"})).status, 201);
        service = again(service.kill());
        labelled(&service, user, 1);
        assert_eq!(status(&service, user), "confirmed_fraud", "what was answered stays");
    }
    // And though it was not there at all.
    let stopped = service.terminate();
    let insert = "INSERT INTO alert_reviews (alert_id, status) SELECT alert_id, 'false_positive' FROM alerts";
    by_hand(stopped.folder.path(), insert);
    service = again(stopped);
    for user in &users {
        labelled(&service, user, 0);
    }
    verify(service.terminate().folder.path());
}

#[test]
fn reviews_stay_when_the_alerts_are_made_again() {
    let service = by_rules();
    let alerts: Vec<Value> = (0..6).map(|number| raise(&service, &format!("u-{number}"))).collect();
    for (alert, said) in alerts.iter().zip(["confirmed_fraud", "false_positive", "in_review"]) {
        assert_eq!(say(&service, alert, &json!({"status": said})).status, 201);
    }
    let page = service.get("/v1/alerts?limit=4").json();
    let rest = format!("/v1/alerts?cursor={}", page["next_cursor"].as_str().unwrap());
    let (whole, rest_before) = (service.get("/v1/alerts").json(), service.get(&rest).json());
    assert_eq!(rest_before["alerts"].as_array().unwrap().len(), 2);
    let stopped = service.terminate();
    by_hand(stopped.folder.path(), "DELETE FROM alerts; DELETE FROM positions");
    let service = again(stopped);
    until("the alerts, made again", || (service.get("/v1/alerts").json() == whole).then_some(()));
    assert_eq!(service.get(&rest).json(), rest_before, "a cursor of before goes on where it stopped");
    labelled(&service, "u-0", 1);
    labelled(&service, "u-1", 0);
}

//! What is found in the database and over the API, and how reviews become labels.

use super::{assert_books, caught_up, count, decide, query, with_database};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use verdict_tests::servers::Postgres;
use verdict_tests::{Follower, Service, label, now_ms, until};

fn alerts(service: &Service, query: &str) -> Vec<Value> {
    let page = service.get(&format!("/v1/alerts{query}"));
    assert_eq!(page.status, 200, "{}", page.body);
    page.json()["alerts"].as_array().unwrap().clone()
}

/// Waits until the profile counts so many transactions as fraud.
fn labelled(service: &Service, user: &str, frauds: u64) {
    until("the label that follows", || {
        let profile = service.get(&format!("/v1/users/{user}/profile"));
        (profile.status == 200 && profile.json()["fraud_labels"] == frauds).then_some(())
    });
}

#[test]
fn alerts_reviews_and_labels_go_through_the_database() {
    let url = Postgres::shared().fresh_database();
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("url");
    fs::write(&secret, format!("{url}\n")).unwrap();
    let builder = Service::builder().arg("--model").arg("").env("VERDICT__POSTGRES__URL_FILE", &secret);
    let service = builder.env("VERDICT__POSTGRES__MIGRATE", "true").folder(folder).start();
    let mut follower = Follower::open(service.addr(), "/v1/alerts/stream", None);
    let decision = decide(&service, "u-1", "t-1", "5000.01");
    decide(&service, "u-2", "t-1", "1.00");
    decide(&service, "u-3", "t-1", "6000.00");
    let (id, told) = follower.alert();
    assert_eq!(
        (&told["transaction_id"], &told["user_id"], &told["amount"]),
        (&json!("t-1"), &json!("u-1"), &json!("5000.01"))
    );
    for field in ["decision", "score", "risk_level", "reasons", "ruleset", "model"] {
        assert_eq!(told[field], decision[field], "{field}");
    }
    assert_eq!(follower.alert().1["user_id"], "u-3");
    assert_eq!(alerts(&service, "?user_id=u-1"), [told]);
    assert_eq!(alerts(&service, "?decision=review&status=open").len(), 2);
    caught_up(&service);
    let decided =
        query(&url, "SELECT user_id, decision, amount, mode, alert_id IS NULL FROM decisions ORDER BY user_id");
    assert_eq!(decided, "u-1|review|5000.01|normal|f\nu-2|approve|1.00|normal|t\nu-3|review|6000.00|normal|f");

    // A review over the API, and one by hand: both become labels, and both labels are found in their table.
    let said = service.post(&format!("/v1/alerts/{id}/reviews"), &json!({"status": "confirmed_fraud"}).to_string());
    assert_eq!((said.status, &said.json()["alert_id"]), (201, &json!(id)), "{}", said.body);
    let by_hand = "INSERT INTO alert_reviews (alert_id, status, assignee) \
        SELECT alert_id, 'false_positive', 'ana' FROM fraud_alerts WHERE user_id = 'u-3'";
    query(&url, by_hand);
    labelled(&service, "u-1", 1);
    let chargeback = service.post("/v1/labels", &label("u-2", "t-1", now_ms(), true).to_string());
    assert_eq!(chargeback.status, 200, "{}", chargeback.body);
    until("all labels", || (count(&url, "labels") == 3).then_some(()));
    let labels = query(&url, "SELECT user_id, source, is_fraud FROM labels ORDER BY user_id");
    assert_eq!(labels, "u-1|analyst|t\nu-2|chargeback|t\nu-3|analyst|f");
    let queue = query(&url, "SELECT user_id, status, assignee FROM alert_queue ORDER BY user_id");
    assert_eq!(queue, "u-1|confirmed_fraud|\nu-3|false_positive|ana");
    assert_eq!(alerts(&service, "?status=confirmed_fraud")[0]["user_id"], "u-1");
    until("the flags", || (count(&url, "alert_reviews WHERE unlabelled") == 0).then_some(()));
    let missing = service.post(
        &format!("/v1/alerts/{}/reviews", "0".repeat(8) + "-0000-5000-8000-000000000000"),
        r#"{"status":"in_review"}"#,
    );
    assert_eq!(missing.status, 404, "{}", missing.body);

    let metrics = service.get("/metrics").body;
    assert!(metrics.contains("verdict_projection_lag_records{projection=\"review\"} "), "{metrics}");
    let stopped = service.terminate();
    assert!(!stopped.folder.path().join("data/review.db").exists(), "there is one review store");
    let password = url.split(['@', ':']).nth(2).unwrap();
    assert!(stopped.stderr.contains("are in the database") && !stopped.stderr.contains(password), "{}", stopped.stderr);
    assert_eq!(assert_books(&url, stopped.folder.path()), 3);
    // A start goes on from where it was.
    let again = with_database(&url).folder(stopped.folder).start();
    decide(&again, "u-4", "t-1", "5000.01");
    until("the alert of the second life", || (count(&url, "fraud_alerts") == 3).then_some(()));
}

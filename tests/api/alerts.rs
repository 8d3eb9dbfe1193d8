//! Alerts: one for every decision that is no approve, to be found by filters and in pages that hold still.

use super::{by_rules, decide};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use verdict_tests::{Payment, Service, now_ms, rfc3339, until};

/// So many alerts of different users, and some payments that raise none.
fn raise(service: &Service, prefix: &str, count: usize) {
    for number in 0..count {
        decide(service, &Payment::new(&format!("{prefix}-{number}"), "t-1", "5000.01"));
        decide(service, &Payment::new(&format!("{prefix}-{number}-fine"), "t-1", "1.00"));
    }
}

fn id(alert: &Value) -> String {
    alert["alert_id"].as_str().unwrap().to_owned()
}

fn page(service: &Service, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = service.get(&format!("/v1/alerts{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    let page = answer.json();
    (page["alerts"].as_array().unwrap().clone(), page["next_cursor"].as_str().map(str::to_owned))
}

fn all(service: &Service, count: usize) -> Vec<Value> {
    until("all alerts", || {
        let (alerts, _) = page(service, "?limit=500");
        assert!(alerts.len() <= count, "{} alerts of {count}", alerts.len());
        (alerts.len() == count).then_some(alerts)
    })
}

#[test]
fn an_alert_says_what_the_decision_said() {
    let service = Service::start();
    let payment = Payment::new("u-7", "t-81", "5130.00");
    let decision = decide(&service, &payment);
    decide(&service, &payment);
    let alert = all(&service, 1).remove(0);
    for field in ["transaction_id", "user_id", "decision", "score", "risk_level", "reasons", "ruleset", "model"] {
        assert_eq!(alert[field], decision[field], "{field}");
    }
    assert_eq!(alert["detected_at"], decision["evaluated_at"]);
    for field in ["amount", "currency", "merchant_id", "timestamp"] {
        assert_eq!(alert[field], payment.body[field], "{field}");
    }
    assert_eq!((&alert["schema_version"], &alert["status"]), (&json!(1), &json!("open")));
    assert_eq!(alert["alert_id"].as_str().unwrap().len(), 36);
    assert_ne!(alert["alert_id"], decision["decision_id"]);
    assert_eq!(alert.as_object().unwrap().len(), 16, "{alert}");
}

#[test]
fn filters_narrow() {
    let service = by_rules();
    let before = now_ms();
    raise(&service, "u", 5);
    let alerts = all(&service, 5);
    let count = |query: &str| page(&service, query).0.len();
    assert_eq!(count("?user_id=u-3"), 1);
    assert_eq!(count("?user_id=u-3-fine"), 0);
    assert_eq!(count("?user_id=nobody"), 0);
    assert_eq!((count("?decision=review"), count("?decision=block"), count("?decision=approve")), (5, 0, 0));
    assert_eq!((count("?status=open"), count("?status=in_review"), count("?status=confirmed_fraud")), (5, 0, 0));
    assert_eq!(count(&format!("?since={}", rfc3339(before - 1))), 5);
    assert_eq!(count(&format!("?since={}", rfc3339(now_ms() + 60_000))), 0);
    let third = alerts[2]["detected_at"].as_str().unwrap();
    let expected = alerts.iter().filter(|alert| alert["detected_at"].as_str().unwrap() >= third).count();
    assert_eq!(count(&format!("?since={third}")), expected, "since includes its instant");
    assert_eq!(count("?decision=review&user_id=u-1&status=open&limit=500"), 1);
    for query in [
        "?limit=0",
        "?limit=501",
        "?status=new",
        "?decision=maybe",
        "?since=yesterday",
        "?users=u",
        "?cursor=x",
        "?user_id=",
    ] {
        let answer = service.get(&format!("/v1/alerts{query}"));
        assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("INVALID_QUERY")), "{query}: {}", answer.body);
        assert!(!answer.json()["errors"].as_array().unwrap().is_empty(), "{}", answer.body);
    }
}

#[test]
fn pages_hold_still_while_alerts_arrive() {
    let service = by_rules();
    raise(&service, "old", 23);
    let known: Vec<Value> = all(&service, 23);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let query = cursor.map_or("?limit=5".to_owned(), |cursor| format!("?limit=5&cursor={cursor}"));
        let (alerts, next) = page(&service, &query);
        assert!(!alerts.is_empty() && alerts.len() <= 5);
        seen.extend(alerts);
        // New ones arrive between two pages and must move nothing.
        raise(&service, &format!("new-{}", seen.len()), 2);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, known, "the same alerts in the same order, each once");
    let ids: BTreeSet<&str> = seen.iter().map(|alert| alert["alert_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 23);
    // Alerts follow their decisions by a moment; once all are there, the newest are the last that were raised.
    let newest = all(&service, 23 + 2 * seen.len().div_ceil(5));
    assert!(newest[0]["user_id"].as_str().unwrap().starts_with("new-"), "newest first: {newest:?}");
}

#[test]
fn a_cursor_belongs_to_its_filters() {
    let service = by_rules();
    raise(&service, "u", 3);
    all(&service, 3);
    let cursor = page(&service, "?decision=review&limit=1").1.unwrap();
    assert_eq!(page(&service, &format!("?decision=review&limit=2&cursor={cursor}")).0.len(), 2);
    for query in ["", "decision=block&", "decision=review&status=open&", "user_id=u-1&"] {
        let answer = service.get(&format!("/v1/alerts?{query}cursor={cursor}"));
        let problem = answer.json();
        assert_eq!((answer.status, &problem["errors"][0]["pointer"]), (422, &json!("/cursor")), "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("the filters that this cursor came with"), "{problem}");
    }
}

#[test]
fn every_alert_is_paged_exactly_once_while_others_write() {
    let service = by_rules();
    raise(&service, "old", 60);
    let known: BTreeSet<String> = all(&service, 60).iter().map(id).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (service, done) = (&service, &done);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    decide(service, &Payment::new(&format!("new-{writer}-{number}"), "t-1", "5000.01"));
                    // People review what others page through.
                    let review = json!({"status": "in_review"}).to_string();
                    let alerts = page(service, "?limit=1").0;
                    let said = service.post(&format!("/v1/alerts/{}/reviews", id(&alerts[0])), &review);
                    assert_eq!(said.status, 201, "{}", said.body);
                }
            });
        }
        for (round, filter) in
            ["", "decision=review&", "since=2020-01-01T00:00:00Z&"].iter().cycle().take(12).enumerate()
        {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let (alerts, next) = page(&service, &format!("?{filter}limit=7{cursor}"));
                seen.extend(alerts);
                let Some(next) = next else { break };
                cursor = format!("&cursor={next}");
            }
            let ids: Vec<String> = seen.iter().map(id).collect();
            let distinct: BTreeSet<String> = ids.iter().cloned().collect();
            assert_eq!(distinct.len(), ids.len(), "round {round}: an alert came twice");
            assert!(distinct.is_superset(&known), "round {round}: an alert was left out");
            let times: Vec<&str> = seen.iter().map(|alert| alert["detected_at"].as_str().unwrap()).collect();
            assert!(times.is_sorted_by(|a, b| a >= b), "round {round}: newest first");
        }
        done.store(true, Ordering::Relaxed);
    });
}

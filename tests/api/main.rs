//! The HTTP contract (DESIGN 4), from outside: a real service on a real port, asked as its clients ask.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod access;
mod alerts;
mod answers;
mod deadlines;
mod described;
mod events;
mod hostile;
mod limits;
mod lists;
mod operate;
mod reload;
mod restart;
mod reviews;
mod rules;
mod schema;
mod statuses;
mod streams;

use serde_json::Value;
use verdict_tests::{Payment, Service, until};

/// A service that decides by rules alone, so that outcomes are those of the rule set's boundaries.
fn by_rules() -> Service {
    Service::builder().arg("--model").arg("").start()
}

/// Has a payment decided.
#[track_caller]
fn decide(service: &Service, payment: &Payment) -> Value {
    let answer = service.post("/v1/decide", &payment.text());
    assert_eq!(answer.status, 200, "{payment:?}: {}", answer.body);
    answer.json()
}

/// Has a login or a label remembered.
#[track_caller]
fn remember(service: &Service, path: &str, event: &Value) -> Value {
    let answer = service.post(path, &event.to_string());
    assert_eq!(answer.status, 200, "{event}: {}", answer.body);
    answer.json()
}

/// Has a payment decided that raises an alert, and gives the alert once it is there.
#[track_caller]
fn raise(service: &Service, user: &str) -> Value {
    decide(service, &Payment::new(user, "t-1", "5000.01"));
    until("the alert", || {
        let page = service.get(&format!("/v1/alerts?user_id={user}")).json();
        page["alerts"].get(0).cloned()
    })
}

/// The reason codes of a decision, in order.
fn codes(decision: &Value) -> Vec<&str> {
    decision["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

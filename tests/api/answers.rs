//! What an answer says, and what makes two requests the same transaction.

use super::{by_rules, codes, decide};
use serde_json::{Value, json};
use verdict_tests::{Payment, Service, lasting, now_ms, rfc3339};

#[test]
fn a_decision_says_everything() {
    let service = Service::start();
    let payment = Payment::new("u-7", "t-81", "5130.00");
    let payment = payment.with("device_id", "d-1").with("merchant_category", "5411").with("ip_address", "203.0.113.7");
    let decision = decide(&service, &payment);
    let fields: Vec<&String> = decision.as_object().unwrap().keys().collect();
    let mut expected = vec![
        "decision_id",
        "transaction_id",
        "user_id",
        "decision",
        "score",
        "risk_level",
        "reasons",
        "ruleset",
        "model",
        "feature_schema",
        "mode",
        "degraded",
        "durable",
        "duplicate",
        "evaluated_at",
        "latency_us",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!((&decision["transaction_id"], &decision["user_id"]), (&json!("t-81"), &json!("u-7")));
    assert_eq!((&decision["durable"], &decision["duplicate"]), (&json!(true), &json!(false)));
    assert_eq!((&decision["mode"], &decision["degraded"]), (&json!("normal"), &json!([])));
    let score = decision["score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&score), "{score}");
    let reason = decision["reasons"].as_array().unwrap().iter().find(|reason| reason["code"] == "DAILY_SPEND").unwrap();
    let expected = json!({
        "code": "DAILY_SPEND", "message": "Daily spend threshold exceeded: 5,130.00 USD today",
        "rule_id": "daily_spend", "rule_version": 1,
    });
    assert_eq!(reason, &expected);
    assert_eq!(decision["ruleset"]["name"], "default");
    assert_eq!(decision["model"]["name"], "default");
    for hash in [&decision["ruleset"]["version"], &decision["model"]["sha256"], &decision["feature_schema"]] {
        let hash = hash.as_str().unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    }
    let id = decision["decision_id"].as_str().unwrap();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'5', "a UUID of version 5: {id}");
    let evaluated = decision["evaluated_at"].as_str().unwrap();
    assert!(*evaluated > *rfc3339(now_ms() - 60_000) && *evaluated <= *rfc3339(now_ms()), "{evaluated}");
    assert!(decision["latency_us"].as_u64().unwrap() < 60_000_000);
}

#[test]
fn without_a_model_there_is_no_score_and_nothing_is_degraded() {
    let service = by_rules();
    let decision = decide(&service, &Payment::new("u", "t", "1.00"));
    assert_eq!((&decision["score"], &decision["model"]), (&Value::Null, &Value::Null));
    assert_eq!((&decision["decision"], &decision["mode"]), (&json!("approve"), &json!("normal")));
    assert_eq!(decision["risk_level"], "normal");
    assert!(codes(&decision).is_empty());
}

#[test]
fn the_same_transaction_however_it_is_written_is_answered_once() {
    let service = Service::start();
    let at = (now_ms() / 1_000) * 1_000;
    let payment = Payment::new("u-7", "t-1", "12.50").at(at).place(40.5, -74.0);
    let first = decide(&service, &payment);
    let plain = rfc3339(at);
    let spelled = |text: String| text.replace(&plain, &plain.replace(".000Z", "+00:00"));
    let unordered: String = {
        let mut pairs: Vec<String> =
            payment.body.as_object().unwrap().iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
        pairs.reverse();
        format!(" {{ {} }} ", pairs.join(" ,\n"))
    };
    let again = [
        payment.text(),
        unordered,
        spelled(payment.text()),
        payment.clone().with("amount", "12.5").text(),
        payment.clone().with("amount", 12.5).text(),
        payment.clone().with("amount", "012.50").text(),
        payment.clone().with("latitude", 40.50).text(),
        payment.clone().with("unknown", json!({"a": [1, 2]})).text(),
        payment.clone().with("deadline_ms", 20_000).with("fallback", "reject").text(),
        payment.clone().with("device_id", Value::Null).text(),
        payment.text().replace("u-7", "\\u0075-7"),
    ];
    for body in again {
        for path in ["/v1/decide", "/decide"] {
            let answer = service.post(path, &body);
            assert_eq!(answer.status, 200, "{body}: {}", answer.body);
            let answer = answer.json();
            assert_eq!((&answer["duplicate"], &answer["durable"]), (&json!(true), &json!(true)), "{body}");
            assert_eq!(lasting(answer), lasting(first.clone()), "{body}");
        }
    }
    let profile = service.get("/v1/users/u-7/profile").json();
    assert_eq!(
        (&profile["features"]["user_count_24h"], &profile["features"]["user_sum_24h"]),
        (&json!(1), &json!(12.5))
    );
}

#[test]
fn other_content_under_the_same_id_is_a_conflict() {
    let service = by_rules();
    let payment = Payment::new("u-7", "t-1", "12.50").place(1.0, 2.0);
    decide(&service, &payment);
    let others = [
        payment.clone().with("amount", "12.51"),
        payment.clone().with("currency", "EUR"),
        payment.clone().with("merchant_id", "m-2"),
        payment.clone().at(now_ms() - 5_000),
        payment.clone().with("device_id", "d-1"),
        payment.clone().with("ip_address", "203.0.113.7"),
        payment.clone().with("user_agent", "x"),
        payment.clone().with("merchant_category", "5411"),
        payment.clone().place(1.0, 2.000_001),
    ];
    for other in others {
        let answer = service.post("/v1/decide", &other.text());
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("ID_REUSED")), "{other:?}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    // The same id of another user is another transaction, and the first one stands.
    let elsewhere = decide(&service, &payment.clone().with("user_id", "u-8"));
    assert_eq!(elsewhere["duplicate"], false);
    assert_eq!(decide(&service, &payment)["duplicate"], true);
    let profile = service.get("/v1/users/u-7/profile").json();
    assert_eq!(profile["features"]["user_sum_24h"], 12.5, "what was refused counts nowhere");
}

#[test]
fn ids_of_decisions_follow_from_the_transaction_alone() {
    let (one, other) = (Service::start(), by_rules());
    let payment = Payment::new("u-7", "t-1", "12.50");
    let id = decide(&one, &payment)["decision_id"].clone();
    assert_eq!(decide(&other, &payment)["decision_id"], id, "the same on every installation");
    let near = [Payment::new("u-7t", "-1", "12.50"), Payment::new("u-7", "t-2", "12.50")];
    for payment in near {
        assert_ne!(decide(&other, &payment)["decision_id"], id, "{payment:?}");
    }
}

#[test]
fn concurrent_copies_of_a_request_are_decided_once() {
    let service = Service::start();
    for round in 0..5 {
        let body = Payment::new("u-7", &format!("t-{round}"), "10.00").with("deadline_ms", 30_000).text();
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| service.post("/v1/decide", &body))).collect();
            calls
                .into_iter()
                .map(|call| call.join().unwrap())
                .map(|answer| (answer.status, answer.json()))
                .map(|(status, answer)| {
                    assert_eq!(status, 200, "{answer}");
                    answer
                })
                .collect()
        });
        assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1, "{answers:?}");
        for answer in &answers {
            assert_eq!(answer["durable"], true);
            assert_eq!(lasting(answer.clone()), lasting(answers[0].clone()));
        }
    }
    let profile = service.get("/v1/users/u-7/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 5);
}

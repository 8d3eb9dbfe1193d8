//! Every status code of the contract, reached from outside.

use super::{by_rules, decide};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use verdict_tests::{Answer, DAY_MS, Payment, Service, Stopwatch, now_ms, until};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A problem as the contract describes it.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "expected {status} {code}: {}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
    for field in ["type", "title", "detail", "instance"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    assert!(problem["errors"].is_array(), "{problem}");
    // What is decided without the model is so for good.
    if matches!(status, 429 | 503) && code != "NOT_NORMAL" {
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{problem}");
    }
    problem
}

#[test]
fn bodies_that_are_refused() {
    let service = by_rules();
    let good = Payment::new("u", "t", "1.00");
    let post = |body: &str| service.post("/v1/decide", body);
    let text = good.text();
    for body in ["", "{", "nul", "[1,]", &text[1..], &format!("{text}{text}"), "\u{feff}{}"] {
        problem(&post(body), 400, "NOT_JSON");
    }
    for body in ["null", "[]", "\"x\"", "5"] {
        problem(&post(body), 422, "WRONG_TYPE");
    }
    let twice = format!("{},\"amount\":\"2.00\"}}", &text[..text.len() - 1]);
    problem(&post(&twice), 400, "NOT_JSON");
    let many = problem(
        &post(r#"{"amount": "1.234", "currency": "USD", "timestamp": "today", "latitude": 91}"#),
        422,
        "MISSING_FIELD",
    );
    let pointers: Vec<&str> =
        many["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    for pointer in ["/transaction_id", "/user_id", "/merchant_id", "/amount", "/timestamp"] {
        assert!(pointers.contains(&pointer), "every fault is listed: {many}");
    }
    assert!(pointers.iter().any(|pointer| pointer.contains("itude")), "{many}");
    let faults: [(&str, Value, &str); 18] = [
        ("amount", json!("0.00"), "AMOUNT_TOO_SMALL"),
        ("amount", json!("-1.00"), "AMOUNT_NOT_DECIMAL"),
        ("amount", json!("1e3"), "AMOUNT_NOT_DECIMAL"),
        ("amount", json!("1,000.00"), "AMOUNT_NOT_DECIMAL"),
        ("amount", json!("1.001"), "AMOUNT_TOO_PRECISE"),
        ("amount", json!(true), "WRONG_TYPE"),
        ("currency", json!("XYZ"), "UNKNOWN_CURRENCY"),
        ("user_id", json!(""), "ID_EMPTY"),
        ("user_id", json!("x".repeat(129)), "ID_TOO_LONG"),
        ("user_id", json!(7), "WRONG_TYPE"),
        ("timestamp", json!("2026-11-23T12:00:00"), "TIMESTAMP_INVALID"),
        ("timestamp", json!(verdict_tests::rfc3339(now_ms() - 7 * DAY_MS - 60_000)), "TOO_OLD"),
        ("timestamp", json!(verdict_tests::rfc3339(now_ms() + DAY_MS + 60_000)), "TOO_EARLY"),
        ("latitude", json!(1.0), "COORDINATES"),
        ("ip_address", json!("1.2.3"), "IP_INVALID"),
        ("deadline_ms", json!(0), "DEADLINE_INVALID"),
        ("fallback", json!("perhaps"), "UNKNOWN_VALUE"),
        ("merchant_id", Value::Null, "MISSING_FIELD"),
    ];
    for (field, value, code) in faults {
        let refused = problem(&post(&good.clone().with(field, value).text()), 422, code);
        assert_eq!(refused["errors"].as_array().unwrap().len(), 1, "{refused}");
    }
    for at in [now_ms() - 7 * DAY_MS + 60_000, now_ms() + DAY_MS - 60_000] {
        decide(&service, &Payment::new(&format!("u-{at}"), "t", "1.00").at(at));
    }
    let metrics = service.get("/metrics").body;
    assert!(metrics.contains("verdict_rejected_total{reason=\"AMOUNT_TOO_SMALL\"} 1"), "{metrics}");
    assert_eq!(service.get("/v1/users/u/profile").status, 404, "what was refused left nothing");
}

#[test]
fn a_timestamp_below_the_floor_of_a_user_is_too_old() {
    let service = Service::builder().arg("--model").arg("").env("VERDICT__DATA__DEDUPE_DAYS", "8").start();
    decide(&service, &Payment::new("u", "ahead", "1.00").at(now_ms() + DAY_MS - 60_000));
    // 8 days before the newest event are 7 days before now: the oldest that may be sent is still above the floor.
    decide(&service, &Payment::new("u", "old", "1.00").at(now_ms() - 7 * DAY_MS + 60_000));
}

#[test]
fn sizes_types_paths_and_methods() {
    let service = by_rules();
    let padded = |length: usize| {
        let text = Payment::new("u", "t", "1.00").text();
        " ".repeat(length - text.len()) + &text
    };
    assert_eq!(service.post("/v1/decide", &padded(64 * 1024)).status, 200);
    problem(&service.post("/v1/decide", &padded(64 * 1024 + 1)), 413, "TOO_LARGE");
    let ndjson = ("content-type", "application/x-ndjson");
    problem(&service.request("POST", "/v1/events", &[ndjson], &" ".repeat(16 * 1024 * 1024 + 1)), 413, "TOO_LARGE");
    let text = Payment::new("u", "t-2", "1.00").text();
    problem(
        &service.request("POST", "/v1/decide", &[("content-type", "text/plain")], &text),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    problem(
        &service.request("POST", "/v1/decide", &[JSON, ("content-encoding", "gzip")], &text),
        415,
        "UNSUPPORTED_ENCODING",
    );
    problem(&service.request("POST", "/v1/events", &[JSON], &text), 415, "UNSUPPORTED_MEDIA_TYPE");
    problem(&service.get("/v1/nothing"), 404, "NOT_FOUND");
    problem(&service.get("/"), 404, "NOT_FOUND");
    problem(&service.get(&format!("/v1/users/{}/profile", "x".repeat(129))), 404, "USER_NOT_FOUND");
    problem(&service.get(&format!("/v1/alerts?cursor={}", "x".repeat(9_000))), 414, "URI_TOO_LONG");
    for (method, path, allow) in
        [("GET", "/v1/decide", "POST"), ("DELETE", "/v1/alerts", "GET, HEAD"), ("PATCH", "/v1/events", "POST")]
    {
        let answer = service.request(method, path, &[], "");
        problem(&answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), allow);
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let service = by_rules();
    let mut connection = service.connect();
    let watch = Stopwatch::start();
    let head =
        "POST /v1/decide HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{";
    connection.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 1_024];
    let length = connection.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!((9.0..20.0).contains(&watch.seconds()), "10 s, found {}", watch.seconds());
}

#[test]
fn a_deadline_that_cannot_be_met_is_answered_as_asked() {
    let service = Service::start();
    // With a millisecond there is no time for the model: an answer that is not normal, which this caller does not take.
    let body = Payment::new("u", "t-1", "1.00").with("deadline_ms", 1).with("fallback", "reject").text();
    let answer = service.post("/v1/decide", &body);
    assert_eq!(answer.status, 503, "{}", answer.body);
    let code = answer.json()["code"].as_str().unwrap().to_owned();
    assert!(["NOT_NORMAL", "DEADLINE_EXCEEDED", "JOURNAL_LATE"].contains(&&*code), "{code}");
    problem(&answer, 503, &code);

    // Who takes it gets rules alone, and the cause.
    let degraded = until("a degraded answer", || {
        let id = format!("t-{}", now_ms());
        let answer = service.post("/v1/decide", &Payment::new("u", &id, "5000.01").with("deadline_ms", 2).text());
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        (answer.json()["mode"] == "degraded").then(|| answer.json())
    });
    assert_eq!(degraded["degraded"], json!([{"code": "MODEL_TIMEOUT"}]), "{degraded}");
    assert_eq!((&degraded["score"], &degraded["durable"]), (&Value::Null, &json!(true)));
    assert_eq!(degraded["decision"], "review", "rules still decide");
    assert!(service.get("/metrics").body.lines().any(|line| {
        line.starts_with("verdict_decisions_total{decision=\"review\",mode=\"degraded\"}") && !line.ends_with(" 0")
    }));
}

#[test]
fn more_than_may_be_in_flight_is_turned_away() {
    let service = Service::builder().env("VERDICT__DECIDE__MAX_IN_FLIGHT", "1").start();
    let turned_away = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (service, turned_away) = (&service, &turned_away);
            scope.spawn(move || {
                let client = service.client();
                for number in 0..5_000 {
                    if turned_away.load(Ordering::Relaxed) {
                        return;
                    }
                    let payment = Payment::new(&format!("u-{thread}"), &format!("t-{number}"), "1.00");
                    let answer = client.post("/v1/decide", &payment.text()).unwrap();
                    if answer.status == 429 {
                        problem(&answer, 429, "OVERLOADED");
                        turned_away.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(turned_away.into_inner(), "nobody was turned away");
    until("an answer once it is quiet", || {
        let payment = Payment::new("u-quiet", "t", "1.00");
        (service.post("/v1/decide", &payment.text()).status == 200).then_some(())
    });
}

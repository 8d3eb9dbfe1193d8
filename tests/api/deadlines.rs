//! What a caller hears who has no time.

use super::operate::metrics;
use serde_json::{Value, json};
use verdict_tests::{Payment, Service, lasting, until, verify};

/// Too short for the model, which needs 2 ms left after its score, and long enough for the rest most times.
const SHORT_MS: u64 = 2;

/// Sends payments with little time until one is answered with this code; gives it. Every other answer tells the truth
/// as well: what is said to be dropped is new when it is sent again, and what is said to be late has been decided.
fn provoke(service: &Service, fallback: &str, wanted: &str) -> (Payment, Value) {
    let mut number = 0;
    until(wanted, || {
        number += 1;
        let patient =
            Payment::new(&format!("{fallback}-{wanted}-{number}"), "t", "5000.01").with("deadline_ms", 30_000);
        let hasty = patient.clone().with("deadline_ms", SHORT_MS).with("fallback", fallback);
        let answer = service.post("/v1/decide", &hasty.text()).json();
        let code = answer["code"].as_str().or(answer["degraded"][0]["code"].as_str()).unwrap_or("NORMAL").to_owned();
        if code == wanted {
            return Some((patient, answer));
        }
        let again = service.post("/v1/decide", &patient.text()).json();
        match &*code {
            "DEADLINE_EXCEEDED" => assert_eq!(again["duplicate"], false, "{again}"),
            "JOURNAL_LATE" | "NOT_NORMAL" | "MODEL_TIMEOUT" => assert_eq!(again["duplicate"], true, "{again}"),
            other => panic!("{other}: {answer}"),
        }
        None
    })
}

#[test]
fn without_time_for_the_model_rules_alone_decide_and_say_so() {
    let service = Service::start();
    let (payment, answer) = provoke(&service, "policy", "MODEL_TIMEOUT");
    assert_eq!(
        (&answer["mode"], &answer["score"], &answer["durable"]),
        (&json!("degraded"), &Value::Null, &json!(true))
    );
    assert_eq!(answer["decision"], "review", "the rules' word: {answer}");
    let again = service.post("/v1/decide", &payment.text()).json();
    assert_eq!(again["duplicate"], true);
    assert_eq!(lasting(again), lasting(answer), "more time does not make it another decision");
    assert!(metrics(&service)["verdict_degraded_total{reason=\"MODEL_TIMEOUT\"}"] >= 1.0);
    verify(service.terminate().folder.path());
}

#[test]
fn a_caller_who_takes_nothing_less_gets_503_and_the_decision_is_in_the_books() {
    let service = Service::start();
    let (payment, refused) = provoke(&service, "reject", "NOT_NORMAL");
    assert_eq!(refused["status"], 503, "{refused}");
    assert!(metrics(&service)["verdict_rejected_total{reason=\"NOT_NORMAL\"}"] >= 1.0);
    let again = service.post("/v1/decide", &payment.text()).json();
    assert_eq!((&again["duplicate"], &again["mode"]), (&json!(true), &json!("degraded")), "{again}");
    // It is what was decided, so a caller who insists is refused for good.
    let insisting = service.post("/v1/decide", &payment.clone().with("fallback", "reject").text());
    assert_eq!((insisting.status, insisting.json()["code"].as_str()), (503, Some("NOT_NORMAL")), "{}", insisting.body);
    assert_eq!(insisting.header("retry-after"), "", "no retry makes it another decision");
    verify(service.terminate().folder.path());
}

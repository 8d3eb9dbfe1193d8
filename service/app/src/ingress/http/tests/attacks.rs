//! Bodies that mean harm: always a problem of the 400s, never a panic, never a 5xx.

use super::{Bench, Mood, TRANSACTION, collect, post};
use crate::ingress::http::configure;
use actix_web::App;
use actix_web::test::init_service;
use actix_web::web::Data;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Replaces the value of a field of the right body.
fn with(field: &str, value: &str) -> Vec<u8> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(TRANSACTION).expect("JSON");
    let fields: Vec<String> = object
        .iter()
        .map(|(key, known)| if key == field { format!("\"{key}\":{value}") } else { format!("\"{key}\":{known}") })
        .collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

fn corpus() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\0".to_vec(),
        b"null".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\xc0\xaf\xed\xa0\x80".to_vec(),
        b"{\"a\":\"\xf4\x90\x80\x80\"}".to_vec(),
        b"{\"\":{}}".to_vec(),
        b"{\"__proto__\":{\"user_id\":\"u\"}}".to_vec(),
        b"{\"$serde_json::private::RawValue\":\"{}\"}".to_vec(),
        b"{\"$serde_json::private::Number\":\"1\"}".to_vec(),
        b"{\"user_id\":\"u\",\"user\\u005fid\":\"v\"}".to_vec(),
        b"[".repeat(60_000),
        b"{\"a\":".repeat(10_000),
        [b"{\"a\":".as_slice(), &b"[".repeat(30_000), &b"]".repeat(30_000), b"}"].concat(),
        [b"{\"a\":\"", "x".repeat(1 << 20).as_bytes(), b"\"}"].concat(),
        format!("{{{}}}", (0..6_000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",")).into_bytes(),
    ];
    for field in ["transaction_id", "user_id", "merchant_id", "currency", "timestamp", "amount"] {
        for value in [
            "\"\\ud800\"",
            "\"\\udfff\\ud800\"",
            "\"\\u0000\"",
            "\"\\u202e\\n\"",
            "\"\"",
            "{}",
            "[[]]",
            "-0",
            "1e308",
            "-1e-999",
            "true",
        ] {
            bodies.push(with(field, value));
        }
        bodies.push(with(field, &"9".repeat(50_000)));
        bodies.push(with(field, &format!("\"{}\"", "\u{10ffff}".repeat(10_000))));
    }
    bodies
}

#[actix_web::test]
async fn the_corpus_is_refused() {
    let state = Data::new(Bench::new(Mood::Fine).state);
    let app = init_service(App::new().configure(move |config| configure(config, state))).await;
    for body in corpus() {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for uri in ["/v1/decide", "/v1/logins", "/v1/labels"] {
            let reply = collect(&app, post(uri, body.clone()).to_request()).await;
            assert!(matches!(reply.status, 400 | 413 | 422), "{uri} {shown}: {}", reply.status);
            assert!(!reply.code().is_empty());
        }
        let reply = collect(&app, post("/v1/events", body).to_request()).await;
        assert_eq!(reply.status, 200, "{shown}");
        for line in reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let problem: serde_json::Value = serde_json::from_slice(line).expect("a line of JSON");
            assert!(matches!(problem["status"].as_u64(), Some(400 | 413 | 422)), "{shown}: {problem}");
        }
    }
}

#[actix_web::test]
async fn any_bytes_are_answered() {
    let state = Data::new(Bench::new(Mood::Fine).state);
    let app = init_service(App::new().configure(move |config| configure(config, state))).await;
    let mut runner = TestRunner::deterministic();
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let damaged = (0..TRANSACTION.len(), any::<u8>());
    for _ in 0..200 {
        let body = bytes.new_tree(&mut runner).expect("a value").current();
        let reply = collect(&app, post("/v1/decide", body).to_request()).await;
        assert!(matches!(reply.status, 400 | 422), "{}", reply.status);
        let (place, byte) = damaged.new_tree(&mut runner).expect("a value").current();
        let mut body = TRANSACTION.as_bytes().to_vec();
        body[place] = byte;
        let reply = collect(&app, post("/v1/decide", body).to_request()).await;
        assert!(matches!(reply.status, 200 | 400 | 422), "{}", reply.status);
    }
}

//! `openapi.json` and the routes say the same.

use super::{Bench, Mood, send};
use crate::ingress::http::{endpoints, operate::OPENAPI};
use crate::telemetry::health::Audience;
use crate::wire::testing::{context, rates};
use crate::wire::{decision, label, line, list, login, review, transaction};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::web::Data;
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("openapi.json is JSON")
}

#[actix_web::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let document = document();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("an item").keys().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<(String, String)> = endpoints()
        .into_iter()
        .flat_map(|endpoint| {
            let methods = endpoint.allow.split(", ").filter(|method| *method != "HEAD");
            methods.map(move |method| (endpoint.path.to_owned(), method.to_owned()))
        })
        .collect();
    assert_eq!(described, routed);

    let state = Data::new(Bench::new(Mood::Fine).state);
    // Otherwise a stream, which is read to its end here, has none.
    state.streams.stop();
    for (path, method) in described {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let names = [("{id}", "u-7"), ("{list}", "block"), ("{kind}", "merchant"), ("{value}", "m-3")];
        let uri = names.into_iter().fold(path.clone(), |uri, (name, value)| uri.replace(name, value));
        let status = send(&state, TestRequest::default().method(method).uri(&uri)).await.status;
        assert!(!matches!(status, 404 | 405), "{path}: {status}");
    }
}

#[test]
fn references_lead_somewhere() {
    fn walk(value: &Value, document: &Value) -> usize {
        match value {
            Value::Object(object) => {
                let own = object.get("$ref").and_then(Value::as_str).map_or(0, |reference| {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                    1
                });
                own + object.values().map(|value| walk(value, document)).sum::<usize>()
            }
            Value::Array(array) => array.iter().map(|value| walk(value, document)).sum(),
            _ => 0,
        }
    }
    let document = document();
    assert!(walk(&document, &document) > 20);
}

fn request_example(path: &str) -> String {
    let document = document();
    let item = &document["paths"][path];
    let content = &item.get("post").unwrap_or(&item["put"])["requestBody"]["content"];
    match content["application/x-ndjson"]["example"].as_str() {
        Some(lines) => lines.to_owned(),
        None => content["application/json"]["example"].to_string(),
    }
}

#[test]
fn examples_parse() {
    let rates = rates();
    let context = context(&rates);
    for path in ["/v1/decide", "/decide"] {
        transaction::parse(request_example(path).as_bytes(), &context).expect("a transaction");
    }
    login::parse(request_example("/v1/logins").as_bytes(), &context).expect("a login");
    label::parse(request_example("/v1/labels").as_bytes(), &context).expect("a label");
    list::parse(request_example("/v1/lists/{list}/{kind}/{value}").as_bytes(), &context).expect("an entry");
    review::parse(request_example("/v1/alerts/{id}/reviews").as_bytes(), &context).expect("a review");
    let lines = request_example("/v1/events");
    let parsed: Vec<_> =
        lines.lines().map(|text| line::parse_request(text.as_bytes(), &context).expect("a line")).collect();
    assert!(matches!(parsed[..], [line::RequestLine::Login(_), line::RequestLine::Transaction(_)]));
}

#[test]
fn described_answers_are_printed_answers() {
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
    let schema = |name: &str| document()["components"]["schemas"][name].clone();
    let check = |name: &str, printed: &[u8]| {
        let printed: Value = serde_json::from_slice(printed).expect("JSON");
        assert_eq!(keys(&schema(name)["properties"]), keys(&printed), "{name}");
        assert_eq!(keys(&schema(name)["examples"][0]), keys(&printed), "{name}");
    };
    let mut out = Vec::new();
    decision::to_json(&decision::testing::answer(), &mut out);
    check("Decision", &out);
    out.clear();
    login::accepted_to_json("l", false, &mut out);
    check("AcceptedLogin", &out);
    out.clear();
    label::accepted_to_json(("t", "u", verdict_core::event::LabelSource::Analyst), false, &mut out);
    check("AcceptedLabel", &out);
    let said = review::NewReview { status: review::ReviewStatus::InReview, note: None, assignee: None };
    out.clear();
    review::testing::stored("7c9e", said).to_json(&mut out);
    check("Review", &out);
    let (key, entry) = list::testing::listed();
    out.clear();
    list::entry_to_json(&key, &entry, &mut out);
    check("ListEntry", &out);
    let ready: Value = serde_json::from_str(&super::readiness().report(Audience::Anyone).detail).expect("JSON");
    assert_eq!(schema("Ready")["examples"][0], ready);
    out.clear();
    crate::wire::problem::Problem::new(404, "NOT_FOUND", "").to_json("/", &mut out);
    check("Problem", &out);
    let alert = crate::wire::alert::testing::alert();
    check("Alert", &serde_json::to_vec(&alert).expect("printable"));
}

//! What is open to whom: pages of elsewhere at a server without keys, and `/readyz`, which is open to all, at any.

use super::statuses::check;
use super::{Bench, LABEL, Mood, TRANSACTION, a_key_a_scope, get, post};
use crate::config::{ApiKeyConfig, Scope};
use crate::ingress::http::KeyRing;
use crate::telemetry::health::Readiness;
use actix_web::test::TestRequest;
use actix_web::web::Data;
use sha2::{Digest, Sha256};

/// A page that some browser on this machine shows must not reach a server that asks for no key.
#[actix_web::test]
async fn pages_of_elsewhere() {
    let foreign = [("host", "evil.example:8080"), ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
    let mut bench = Bench::new(Mood::Fine);
    let key = ApiKeyConfig {
        name: "checkout".into(),
        sha256: Sha256::digest("alpha").into(),
        scopes: vec![Scope::Decide],
        rate: None,
    };
    let seen = bench.actors.seen.clone();
    let state = Data::new(std::mem::replace(&mut bench, Bench::new(Mood::Fine)).state);
    for header in foreign {
        for request in [post("/v1/decide", TRANSACTION), post("/v1/labels", LABEL), get("/v1/alerts")] {
            check(&state, request.insert_header(header), 403, "NOT_LOCAL").await;
        }
    }
    assert!(seen.lock().expect("no panic").is_empty(), "nothing came through");
    let own = [("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
    let from_own_page = own.into_iter().fold(post("/v1/decide", TRANSACTION), TestRequest::insert_header);
    check(&state, from_own_page, 200, "").await;
    // What is open to all stays so: it tells nothing, and a proxy may ask under any name.
    for uri in ["/healthz", "/metrics", "/docs", "/openapi.json"] {
        check(&state, get(uri).insert_header(foreign[0]), 200, "").await;
    }
    // With keys a page cannot know one, and names and proxies are the operator's.
    bench.state.keys = KeyRing::new(vec![key]);
    let state = Data::new(bench.state);
    let with_key = post("/v1/decide", TRANSACTION).insert_header(("authorization", "Bearer alpha"));
    check(&state, foreign.into_iter().fold(with_key, TestRequest::insert_header), 200, "").await;
}

#[actix_web::test]
async fn not_ready() {
    let mut bench = Bench::new(Mood::Fine);
    let readiness = Readiness::new(2);
    readiness.set_shard(1, true);
    readiness.set_journal(Some("the disk is full".into()));
    bench.state.readiness = Box::new(move |audience| readiness.report(audience));
    let rejected = bench.rejected.clone();
    let state = Data::new(bench.state);
    let reply = check(&state, get("/readyz"), 503, "NOT_READY").await;
    assert_eq!(reply.json()["detail"], "1 of 2 shards have recovered their profiles; the disk is full");
    // Readiness is open to all; causes are for operators.
    let foreign = get("/readyz").insert_header(("host", "evil.example"));
    let reply = check(&state, foreign, 503, "NOT_READY").await;
    let outline = "1 of 2 shards have recovered their profiles; the journal cannot be written; the log says why";
    assert_eq!(reply.json()["detail"], outline);

    let mut bench = Bench::new(Mood::Fine);
    let readiness = Readiness::new(2);
    readiness.set_reload_failure(Some(("ruleset.yaml:1:9: expected ...".into(), "noon".into())));
    readiness.set_shard(0, true);
    readiness.set_shard(1, true);
    bench.state.readiness = Box::new(move |audience| readiness.report(audience));
    bench.state.keys = a_key_a_scope();
    let state = Data::new(bench.state);
    for (key, full) in [("admin", true), ("decide", false), ("unknown", false)] {
        let request = get("/readyz").insert_header(("authorization", format!("Bearer {key}")));
        let reply = check(&state, request, 200, "").await;
        let said = reply.json()["components"]["deciding"]["reload_failure"].to_string();
        assert_eq!(said.contains("ruleset.yaml"), full, "{key}: {said}");
        assert_eq!(said.contains("refused at noon"), !full, "{key}: {said}");
    }
    assert!(rejected.lock().expect("no panic").is_empty());
}

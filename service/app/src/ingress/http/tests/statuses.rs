//! One row for every status code.

use super::{Bench, LABEL, LOGIN, Mood, NOON, Reply, TRANSACTION, a_key_a_scope, get, post, send, send_with};
use crate::actors::messages::Refusal;
use crate::config::{ApiKeyConfig, RateConfig, Scope};
use crate::ingress::http::{HttpState, KeyRing};
use crate::telemetry::clock::{self, Clock, TimeSource};
use crate::wire::alert_query::AlertFilter;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::web::{Bytes, Data};
use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;
use verdict_core::decision::Degradation;
use verdict_core::money::{ConversionError, Currency};
use verdict_core::time::Timestamp;

const REVIEW: &str = r#"{"status":"in_review","assignee":"ana"}"#;

fn reviews(number: u128) -> String {
    format!("/v1/alerts/{}/reviews", Uuid::from_u128(number))
}

pub(super) async fn check(state: &Data<HttpState>, request: TestRequest, status: u16, code: &str) -> Reply {
    let reply = send(state, request).await;
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{:?}", reply.body);
    reply
}

#[actix_web::test]
async fn answers() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    for uri in ["/v1/decide", "/decide"] {
        let reply = check(&state, post(uri, TRANSACTION), 200, "").await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(
            (reply.json()["decision"].as_str(), reply.json()["durable"].as_bool()),
            (Some("review"), Some(true))
        );
    }
    let login = check(&state, post("/v1/logins", LOGIN), 200, "").await;
    assert_eq!(login.json(), serde_json::json!({"login_id": "l-9", "accepted": true, "duplicate": false}));
    let label = check(&state, post("/v1/labels", LABEL), 200, "").await;
    assert_eq!((label.json()["accepted"].as_bool(), label.json()["duplicate"].as_bool()), (Some(true), Some(true)));
    let profile = check(&state, get("/v1/users/u-7/profile"), 200, "").await;
    assert_eq!(profile.json()["user_id"], "u-7");
    let page = check(&state, get("/v1/alerts?status=open&limit=1"), 200, "").await;
    assert_eq!(page.json()["alerts"][0]["transaction_id"], "t-81");
    let cursor = page.json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let last = check(&state, get(&format!("/v1/alerts?status=open&cursor={cursor}")), 200, "").await;
    assert_eq!(last.json(), serde_json::json!({"alerts": [], "next_cursor": null}));
    let review = check(&state, post(&reviews(7), REVIEW), 201, "").await;
    assert_eq!(review.header("content-type"), Some("application/json"));
    assert_eq!((review.json()["status"].as_str(), review.json()["review_id"].as_i64()), (Some("in_review"), Some(12)));
    assert_eq!(check(&state, get("/healthz"), 200, "").await.json()["status"], "ok");
    assert_eq!(check(&state, get("/readyz"), 200, "").await.json()["ready"], true);
    let metrics = check(&state, get("/metrics"), 200, "").await;
    assert_eq!(&metrics.body[..], b"verdict_alerts_total 0\n");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(bench.rejected.lock().expect("no panic").len(), 0);
    assert_eq!(bench.actors.seen(), ["decide t-81", "decide t-81", "login l-9", "label t-81", "profile u-7"]);
}

#[actix_web::test]
async fn refusals_of_bodies() {
    let bench = Bench::new(Mood::Fine);
    let rejected = bench.rejected.clone();
    let state = Data::new(bench.state);
    check(&state, post("/v1/decide", "{"), 400, "NOT_JSON").await;
    check(&state, post("/v1/decide", TRANSACTION.replace('}', ",\"amount\":1}")), 400, "NOT_JSON").await;
    let reply =
        check(&state, post("/v1/decide", "{\"amount\":\"1.999\",\"currency\":\"USD\"}"), 422, "MISSING_FIELD").await;
    assert_eq!(
        (reply.json()["errors"][0]["pointer"].as_str(), reply.json()["instance"].as_str()),
        (Some("/transaction_id"), Some("/v1/decide"))
    );
    assert_eq!(reply.json()["errors"].as_array().map(Vec::len), Some(5));
    check(&state, post("/v1/decide", TRANSACTION.replace("2026", "2025")), 422, "TOO_OLD").await;
    check(&state, post("/v1/decide", " ".repeat(64 * 1024) + "{}"), 413, "TOO_LARGE").await;
    check(&state, post("/v1/decide", " ".repeat(64 * 1024 - TRANSACTION.len()) + TRANSACTION), 200, "").await;
    check(&state, post("/v1/events", vec![b' '; 16 * 1024 * 1024 + 1]), 413, "TOO_LARGE").await;
    let announced = post("/v1/logins", LOGIN).insert_header(("content-length", "65537"));
    check(&state, announced, 413, "TOO_LARGE").await;
    for (kind, status) in [
        ("application/json", 200),
        ("Application/JSON ; charset=utf-8", 200),
        ("application/vnd.acme+json", 200),
        ("APPLICATION/vnd.acme+JSON", 200),
        ("text/vnd.acme+json", 415),
        ("+json", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ] {
        let code = if status == 200 { "" } else { "UNSUPPORTED_MEDIA_TYPE" };
        check(&state, post("/v1/decide", TRANSACTION).insert_header(("content-type", kind)), status, code).await;
    }
    let events = post("/v1/events", "").insert_header(("content-type", "application/json"));
    check(&state, events, 415, "UNSUPPORTED_MEDIA_TYPE").await;
    let gzip = post("/v1/decide", TRANSACTION).insert_header(("content-encoding", "gzip"));
    check(&state, gzip, 415, "UNSUPPORTED_ENCODING").await;
    let identity = post("/v1/decide", TRANSACTION).insert_header(("content-encoding", "identity"));
    check(&state, identity, 200, "").await;
    let counted = rejected.lock().expect("no panic").clone();
    assert_eq!(counted.len(), 14, "{counted:?}");
    assert_eq!(&counted[..4], ["NOT_JSON", "NOT_JSON", "MISSING_FIELD", "TOO_OLD"]);
}

#[actix_web::test]
async fn list_entries() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    let put = |uri: &str, body: &'static str| TestRequest::put().uri(uri).set_payload(body);
    let delete = |uri: &str| TestRequest::delete().uri(uri);
    let reason = r#"{"reason":"partner","expires_at":"2026-11-24T12:00:00Z"}"#;
    let created = check(&state, put("/v1/lists/allow/ip/::FFFF:203.0.113.7", reason), 201, "").await;
    assert_eq!(
        created.json(),
        serde_json::json!({
            "list": "allow", "kind": "ip", "value": "203.0.113.7", "reason": "partner", "source": "api",
            "alert_id": null, "expires_at": "2026-11-24T12:00:00.000Z",
        })
    );
    assert_eq!(created.header("content-type"), Some("application/json"));
    check(&state, put("/v1/lists/block/merchant/m-3", r#"{"reason":"x"}"#), 200, "").await;
    check(&state, put("/v1/lists/block/user/a%2Fb%20%C3%A9%25", r#"{"reason":"x"}"#), 201, "").await;
    let gone = check(&state, delete("/v1/lists/block/merchant/m-3"), 204, "").await;
    assert!(gone.body.is_empty());
    check(&state, delete("/v1/lists/block/merchant/m-4"), 404, "ENTRY_NOT_FOUND").await;
    assert_eq!(check(&state, get("/v1/lists/block/merchant/m-3"), 200, "").await.json()["source"], "decision");
    check(&state, get("/v1/lists/allow/merchant/m-3"), 404, "ENTRY_NOT_FOUND").await;
    let page = check(&state, get("/v1/lists/block?kind=merchant&limit=1&cursor=m6d2d32"), 200, "").await.json();
    assert_eq!((&page["entries"][0]["value"], &page["next_cursor"]), (&"m-3".into(), &"m6d2d32".into()));
    check(&state, get("/v1/lists/block?kind=merchants"), 422, "INVALID_QUERY").await;

    check(&state, put("/v1/lists/grey/merchant/m-3", "{}"), 404, "NOT_FOUND").await;
    check(&state, put("/v1/lists/block/card/m-3", "{}"), 404, "NOT_FOUND").await;
    check(&state, get("/v1/lists/grey"), 404, "NOT_FOUND").await;
    check(&state, put("/v1/lists/block/merchant/", reason), 404, "NOT_FOUND").await;
    check(&state, put("/v1/lists/block/ip/203.0.113", reason), 422, "IP_INVALID").await;
    check(&state, put("/v1/lists/block/user/a%00", reason), 422, "TEXT_INVALID").await;
    check(&state, put("/v1/lists/block/user/%FF", reason), 422, "INVALID_PATH").await;
    check(&state, put(&format!("/v1/lists/block/user/{}", "x".repeat(129)), reason), 422, "ID_TOO_LONG").await;
    check(&state, delete("/v1/lists/block/ip/localhost"), 422, "IP_INVALID").await;
    check(&state, put("/v1/lists/block/user/u", "{}"), 422, "MISSING_FIELD").await;
    check(&state, put("/v1/lists/block/user/u", "reason"), 400, "NOT_JSON").await;
    let past = r#"{"reason":"x","expires_at":"2026-11-23T12:00:00Z"}"#;
    check(&state, put("/v1/lists/block/user/u", past), 422, "TIMESTAMP_INVALID").await;
    let refused = check(&state, post("/v1/lists/block/user/u", reason), 405, "METHOD_NOT_ALLOWED").await;
    assert_eq!(refused.header("allow"), Some("GET, HEAD, PUT, DELETE"));
    check(&state, put("/v1/lists/block", reason), 405, "METHOD_NOT_ALLOWED").await;
    let seen = bench.actors.seen();
    let ends: Vec<&str> = seen.iter().filter_map(|change| Some(change.split_once(' ')?.1)).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(ends[2].ends_with("block user a/b é%"), "{seen:?}");
    assert_eq!(seen[3], "Delete block merchant m-3");

    let full = Data::new(Bench::new(Mood::Refusing(Refusal::ListsFull { limit: 5 })).state);
    check(&full, put("/v1/lists/block/user/u", reason), 422, "LISTS_FULL").await;
    let starting = Data::new(Bench::new(Mood::Refusing(Refusal::Recovering)).state);
    check(&starting, get("/v1/lists/block"), 503, "RECOVERING").await;
    check(&starting, get("/v1/lists/block/user/u"), 503, "RECOVERING").await;
}

#[actix_web::test]
async fn slow_and_broken_bodies() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.limits.body_timeout = Duration::from_millis(20);
    let state = Data::new(bench.state);
    let begin = || stream::iter([Ok::<_, PayloadError>(Bytes::from_static(b"{\"user_id\":"))]);
    let stalled = Payload::Stream { payload: begin().chain(stream::pending()).boxed_local() };
    let reply = send_with(&state, post("/v1/decide", ""), Some(stalled)).await;
    assert_eq!((reply.status, reply.code().as_str()), (408, "BODY_TIMEOUT"));
    let broken = stream::iter([Err(PayloadError::Incomplete(None))]);
    let broken = Payload::Stream { payload: begin().chain(broken).boxed_local() };
    let reply = send_with(&state, post("/v1/decide", ""), Some(broken)).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "BODY_INVALID"));
    let pieces: Vec<_> = TRANSACTION.as_bytes().chunks(7).map(|piece| Ok(Bytes::from_static(piece))).collect();
    let whole = Payload::Stream { payload: stream::iter(pieces).boxed_local() };
    assert_eq!(send_with(&state, post("/v1/decide", ""), Some(whole)).await.status, 200);
}

#[actix_web::test]
async fn refusals_of_the_actors() {
    let usd = Currency::from_code("USD").expect("a currency");
    for (refusal, status, code, retry_after) in [
        (Refusal::TooOld { floor: NOON }, 422, "TOO_OLD", None),
        (Refusal::IdReused, 409, "ID_REUSED", None),
        (Refusal::Unpriced(ConversionError::NoRate(usd)), 422, "UNKNOWN_CURRENCY", None),
        (Refusal::Unpriced(ConversionError::TooLarge(usd)), 422, "AMOUNT_TOO_LARGE", None),
        (Refusal::Overloaded { limit: 4_096 }, 429, "OVERLOADED", Some("1")),
        (Refusal::DeadlineExceeded, 503, "DEADLINE_EXCEEDED", Some("1")),
        (Refusal::JournalLate, 503, "JOURNAL_LATE", Some("1")),
        (Refusal::SpillFull, 503, "SPILL_FULL", Some("1")),
        (Refusal::SpillFailed, 503, "SPILL_FAILED", Some("1")),
        (Refusal::JournalUnavailable("disk full".into()), 503, "JOURNAL_UNAVAILABLE", Some("5")),
        (Refusal::Recovering, 503, "RECOVERING", Some("1")),
        (Refusal::OriginalUnavailable, 503, "ORIGINAL_UNAVAILABLE", Some("1")),
        (Refusal::ProfileUnreadable("disk full".into()), 503, "PROFILE_UNREADABLE", Some("60")),
        (Refusal::Stopping, 503, "STOPPING", Some("5")),
    ] {
        let bench = Bench::new(Mood::Refusing(refusal));
        let rejected = bench.rejected.clone();
        let state = Data::new(bench.state);
        for request in [post("/v1/decide", TRANSACTION), post("/v1/logins", LOGIN), post("/v1/labels", LABEL)] {
            let reply = check(&state, request, status, code).await;
            let detail = reply.json()["detail"].to_string();
            assert!(!detail.contains("disk full") && !detail.contains(" ms"), "{detail}");
            assert_eq!(reply.header("retry-after"), retry_after);
        }
        assert_eq!(*rejected.lock().expect("no panic"), [code; 3]);
    }
}

#[actix_web::test]
async fn deadlines() {
    let bench = Bench::new(Mood::Fine);
    let (actors, state) = (bench.actors, Data::new(bench.state));
    let with = |field: &str| post("/v1/decide", TRANSACTION.replace('}', &format!(",{field}}}")));
    check(&state, with("\"deadline_ms\":3"), 200, "").await;
    check(&state, with("\"deadline_ms\":0"), 422, "DEADLINE_INVALID").await;
    check(&state, post("/v1/decide", TRANSACTION), 200, "").await;
    check(&state, post("/v1/logins", LOGIN), 200, "").await;
    check(&state, post("/v1/labels", LABEL), 200, "").await;
    let deadlines: Vec<u128> = actors.deadlines().iter().map(Duration::as_millis).collect();
    assert_eq!(deadlines, [3, 200, 5_000, 5_000], "events carry their deadline; whoever takes them keeps to it");

    let mut bench = Bench::new(Mood::Silent);
    bench.state.limits.read_deadline = Duration::from_millis(5);
    check(&Data::new(bench.state), get("/v1/users/u-7/profile"), 503, "DEADLINE_EXCEEDED").await;
}

#[actix_web::test]
async fn the_reject_fallback() {
    let rejecting = TRANSACTION.replace('}', ",\"fallback\":\"reject\"}");
    for (mood, status, code, mode, retry_after) in [
        (Mood::Fine, 200, "", "normal", None),
        (Mood::Degraded(Degradation::WindowApproximate), 200, "", "normal", None),
        // It is decided: no retry makes it another answer.
        (Mood::Degraded(Degradation::ModelTimeout), 503, "NOT_NORMAL", "degraded", None),
        (Mood::NotDurable, 503, "NOT_NORMAL", "degraded", Some("1")),
    ] {
        let state = Data::new(Bench::new(mood).state);
        let refused = check(&state, post("/v1/decide", rejecting.clone()), status, code).await;
        assert_eq!(refused.header("retry-after"), retry_after);
        let detail = refused.json()["detail"].to_string();
        assert_eq!(
            (detail.contains("retry"), detail.contains("for good")),
            (retry_after.is_some(), mode == "degraded" && retry_after.is_none())
        );
        let reply = check(&state, post("/v1/decide", TRANSACTION), 200, "").await;
        assert_eq!(reply.json()["mode"], mode);
    }
}

#[actix_web::test]
async fn paths_and_methods() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    for uri in ["/", "/v1", "/v1/decide/", "/v2/decide", "/v1/users//profile", "/%ff", "/v1/users/u-7"] {
        check(&state, get(uri), 404, "NOT_FOUND").await;
    }
    for (method, uri, allow) in [
        (Method::GET, "/v1/decide", "POST"),
        (Method::PUT, "/v1/events", "POST"),
        (Method::POST, "/v1/alerts", "GET, HEAD"),
        (Method::DELETE, "/healthz", "GET, HEAD"),
        (Method::from_bytes(b"BREW").expect("a method"), "/v1/users/u/profile", "GET, HEAD"),
    ] {
        let reply = check(&state, TestRequest::default().method(method).uri(uri), 405, "METHOD_NOT_ALLOWED").await;
        assert_eq!(reply.header("allow"), Some(allow));
    }
    check(&state, TestRequest::default().method(Method::HEAD).uri("/healthz"), 200, "").await;
    check(&state, get(&format!("/v1/alerts?user_id={}", "x".repeat(9_000))), 414, "URI_TOO_LONG").await;
    check(&state, get(&format!("/{}", "x".repeat(9_000))), 414, "URI_TOO_LONG").await;
    check(&state, get("/v1/users/stranger/profile"), 404, "USER_NOT_FOUND").await;
    check(&state, get(&format!("/v1/users/u-{}/profile", "x".repeat(127))), 404, "USER_NOT_FOUND").await;
    check(&state, get("/v1/users/%FF/profile"), 404, "USER_NOT_FOUND").await;
    let slash = check(&state, get("/v1/users/a%2Fb%20c/profile"), 200, "").await;
    assert_eq!(slash.json()["user_id"], "a/b c");
    check(&state, get("/v1/alerts?limit=0"), 422, "INVALID_QUERY").await;
    check(&state, get("/v1/alerts?cursor=other"), 422, "INVALID_QUERY").await;
    for (number, status, code) in [(13, 503, "ALERTS_UNAVAILABLE"), (99, 422, "INVALID_QUERY")] {
        let cursor = AlertFilter::default().cursor_after(Uuid::from_u128(number));
        check(&state, get(&format!("/v1/alerts?cursor={cursor}")), status, code).await;
    }
    let cursor = AlertFilter::default().cursor_after(Uuid::from_u128(1));
    check(&state, get(&format!("/v1/alerts?status=in_review&cursor={cursor}")), 422, "INVALID_QUERY").await;
    check(&state, post(&reviews(13), REVIEW), 503, "ALERTS_UNAVAILABLE").await;
    check(&state, post(&reviews(99), REVIEW), 404, "ALERT_NOT_FOUND").await;
    check(&state, post("/v1/alerts/7/reviews", REVIEW), 404, "ALERT_NOT_FOUND").await;
    check(&state, post("/v1/alerts/%FF/reviews", REVIEW), 404, "ALERT_NOT_FOUND").await;
    check(&state, post(&reviews(99), "{\"status\":\"open\"}"), 422, "UNKNOWN_VALUE").await;
    check(&state, post(&reviews(7), "{"), 400, "NOT_JSON").await;
}

#[actix_web::test]
async fn keys() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.keys = a_key_a_scope();
    let state = Data::new(bench.state);
    let decide = || post("/v1/decide", TRANSACTION);
    let bearer = |request: TestRequest, key: &str| request.insert_header(("authorization", format!("Bearer {key}")));
    let reply = check(&state, decide(), 401, "UNAUTHORIZED").await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"verdict\""));
    check(&state, bearer(decide(), "other"), 401, "UNAUTHORIZED").await;
    type Request = fn() -> TestRequest;
    let table: [(Request, &[&str]); 9] = [
        (|| post("/v1/decide", TRANSACTION), &["decide"]),
        (|| post("/decide", TRANSACTION), &["decide"]),
        (|| post("/v1/events", ""), &["ingest"]),
        (|| post("/v1/logins", LOGIN), &["ingest"]),
        (|| post("/v1/labels", LABEL), &["ingest"]),
        (|| get("/v1/alerts"), &["review"]),
        (|| TestRequest::default().method(Method::HEAD).uri("/v1/alerts/stream"), &["review"]),
        (|| post(&reviews(7), REVIEW), &["review"]),
        (|| get("/v1/users/u-7/profile"), &["review", "admin"]),
    ];
    for (request, allowed) in table {
        for (_, key) in Scope::ALL {
            let reply = send(&state, bearer(request(), key)).await;
            let expected = if allowed.contains(&key) { "" } else { "FORBIDDEN" };
            assert_eq!((reply.status < 300, reply.code().as_str()), (expected.is_empty(), expected), "{key}");
        }
    }
    for uri in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        check(&state, get(uri), 200, "").await;
    }
    // A caller without a key learns nothing of what is behind it.
    check(&state, post("/v1/decide", "{"), 401, "UNAUTHORIZED").await;
}

/// A clock that stands still, so that no bucket fills up.
struct Stopped(Instant);

impl TimeSource for Stopped {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn instant(&self) -> Instant {
        self.0
    }
}

#[actix_web::test]
async fn a_rate_counts_requests_and_lines() {
    let mut bench = Bench::new(Mood::Fine);
    let key = |name: &str, rate| ApiKeyConfig {
        name: name.into(),
        sha256: Sha256::digest(name).into(),
        scopes: vec![Scope::Decide, Scope::Ingest],
        rate,
    };
    let rate = Some(RateConfig { per_sec: 1, burst: 3 });
    bench.state.keys = KeyRing::new(vec![key("slow", rate), key("other", rate), key("free", None)]);
    bench.state.clock = Clock::Given(Arc::new(Stopped(clock::instant())));
    let rejected = bench.rejected.clone();
    let state = Data::new(bench.state);
    let bearer = |request: TestRequest, key: &str| request.insert_header(("authorization", format!("Bearer {key}")));
    let lines = [TRANSACTION; 4].join("\n");
    let reply = check(&state, bearer(post("/v1/events", lines.clone()), "slow"), 200, "").await;
    let answers = String::from_utf8(reply.body.to_vec()).expect("UTF-8");
    let limited: Vec<bool> = answers.lines().map(|line| line.contains("\"code\":\"RATE_LIMITED\"")).collect();
    assert_eq!(limited, [false, false, false, true], "the first line is paid for with the request: {answers}");
    let reply = check(&state, bearer(post("/v1/decide", TRANSACTION), "slow"), 429, "RATE_LIMITED").await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    check(&state, bearer(post("/v1/events", ""), "slow"), 429, "RATE_LIMITED").await;
    for key in ["other", "free"] {
        check(&state, bearer(post("/v1/decide", TRANSACTION), key), 200, "").await;
    }
    let reply = check(&state, bearer(post("/v1/events", lines), "free"), 200, "").await;
    assert!(!String::from_utf8_lossy(&reply.body).contains("RATE_LIMITED"));
    assert_eq!(*rejected.lock().expect("no panic"), ["RATE_LIMITED"; 3]);
}

#[actix_web::test]
async fn headers_that_are_too_large() {
    let state = Data::new(Bench::new(Mood::Fine).state);
    let with = |bytes: usize| post("/v1/decide", TRANSACTION).insert_header(("x-padding", "x".repeat(bytes)));
    check(&state, with(30_000), 200, "").await;
    check(&state, with(33_000), 431, "HEADERS_TOO_LARGE").await;
    let many =
        (0..400).fold(get("/v1/alerts"), |request, at| request.append_header((format!("x-{at}"), "x".repeat(90))));
    check(&state, many, 431, "HEADERS_TOO_LARGE").await;
}

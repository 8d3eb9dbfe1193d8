//! `POST /v1/events`: order, bounds, and one answer a line.

use super::{Bench, LOGIN, Mood, Reply, TRANSACTION, post, send};
use crate::actors::messages::Refusal;
use crate::ingress::http::{Limits, configure};
use actix_web::App;
use actix_web::body::to_bytes;
use actix_web::test::{call_service, init_service};
use actix_web::web::Data;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

fn transaction(id: usize) -> String {
    TRANSACTION.replace("t-81", &format!("t-{id}"))
}

fn lines(reply: &Reply) -> Vec<serde_json::Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    assert!(reply.body.is_empty() || reply.body.ends_with(b"\n"));
    reply
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .collect()
}

#[actix_web::test]
async fn order_is_kept_both_ways() {
    let mut bench = Bench::new(Mood::Backwards);
    bench.state.limits.batch_window = 16;
    let (actors, state) = (bench.actors, Data::new(bench.state));
    let body: Vec<String> = (0..100)
        .map(|id| if id % 10 == 3 { LOGIN.replace("l-9", &format!("l-{id}")) } else { transaction(id) })
        .collect();
    let reply = send(&state, post("/v1/events", body.join("\n"))).await;
    let expected: Vec<String> =
        (0..100).map(|id| if id % 10 == 3 { format!("login l-{id}") } else { format!("decide t-{id}") }).collect();
    assert_eq!(actors.seen(), expected, "events reach the actors in the order of their lines");
    let answered: Vec<String> = lines(&reply)
        .iter()
        .map(|line| match line["login_id"].as_str() {
            Some(id) => format!("login {id}"),
            None => format!("decide {}", line["transaction_id"].as_str().unwrap_or_default()),
        })
        .collect();
    assert_eq!(answered, expected, "answers come in the order of the lines");
}

#[actix_web::test]
async fn every_line_has_its_answer() {
    let bench = Bench::new(Mood::Fine);
    let rejected = bench.rejected.clone();
    let state = Data::new(bench.state);
    let long = format!("{{\"user_agent\":\"{}\"}}", "x".repeat(64 * 1024));
    let body = [TRANSACTION, "", "nonsense", " \t\r", LOGIN, "{}", &long, TRANSACTION].join("\r\n");
    let reply = send(&state, post("/v1/events", body).insert_header(("content-type", "application/x-ndjson"))).await;
    let lines = lines(&reply);
    let found: Vec<&str> = lines
        .iter()
        .map(|line| {
            line["code"]
                .as_str()
                .or(line["decision"].as_str())
                .unwrap_or_else(|| line["login_id"].as_str().unwrap_or(""))
        })
        .collect();
    assert_eq!(found, ["review", "NOT_JSON", "l-9", "MISSING_FIELD", "TOO_LARGE", "review"]);
    assert_eq!(lines[1]["instance"], "/v1/events#line-3");
    assert_eq!(
        (lines[1]["status"].as_u64(), lines[3]["status"].as_u64(), lines[4]["status"].as_u64()),
        (Some(400), Some(422), Some(413))
    );
    assert_eq!(*rejected.lock().expect("no panic"), ["NOT_JSON", "MISSING_FIELD", "TOO_LARGE"]);
}

#[actix_web::test]
async fn refused_lines_are_problems() {
    let state = Data::new(Bench::new(Mood::Refusing(Refusal::Overloaded { limit: 1 })).state);
    let reply = send(&state, post("/v1/events", [TRANSACTION, LOGIN].join("\n"))).await;
    let codes: Vec<_> = lines(&reply).iter().map(|line| line["code"].as_str().map(str::to_owned)).collect();
    assert_eq!(codes, [Some("OVERLOADED".to_owned()), Some("OVERLOADED".to_owned())]);
}

#[actix_web::test]
async fn empty_and_long_batches() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    for empty in ["", "\n", "\r\n \n\t"] {
        assert!(lines(&send(&state, post("/v1/events", empty)).await).is_empty());
    }
    let body: Vec<String> = (0..5_000).map(transaction).collect();
    let reply = send(&state, post("/v1/events", body.join("\n") + "\n")).await;
    let lines = lines(&reply);
    assert_eq!(lines.len(), 5_000);
    assert!(lines.iter().enumerate().all(|(id, line)| line["transaction_id"] == format!("t-{id}")));
}

#[test]
fn batches_leave_room_for_single_requests() {
    for (max_in_flight, window) in [(4_096, 256), (1_000_000, 256), (1_024, 64), (16, 1), (1, 1)] {
        assert_eq!(Limits::within(max_in_flight).batch_window, window, "{max_in_flight}");
    }
}

#[actix_web::test]
async fn batches_in_memory_are_bounded() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.batches = Arc::new(Semaphore::new(0));
    let reply = send(&Data::new(bench.state), post("/v1/events", TRANSACTION)).await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "OVERLOADED"));

    let mut bench = Bench::new(Mood::Fine);
    bench.state.batches = Arc::new(Semaphore::new(1));
    let state = Data::new(bench.state);
    for _ in 0..3 {
        assert_eq!(lines(&send(&state, post("/v1/events", TRANSACTION)).await).len(), 1);
    }
    assert_eq!(state.batches.available_permits(), 1);
}

#[actix_web::test]
async fn a_batch_is_given_up_when_its_answers_are_not_read_or_do_not_come() {
    for (mood, stall_ms, timeout_ms) in [(Mood::Fine, 5, 60_000), (Mood::Silent, 60_000, 5)] {
        let mut bench = Bench::new(mood);
        bench.state.batches = Arc::new(Semaphore::new(1));
        bench.state.limits.batch_stall = Duration::from_millis(stall_ms);
        bench.state.limits.batch_timeout = Duration::from_millis(timeout_ms);
        let (rejected, state) = (bench.rejected, Data::new(bench.state));
        let (batches, served) = (Arc::clone(&state.batches), state.clone());
        let app = init_service(App::new().configure(move |config| configure(config, served))).await;
        let body: Vec<String> = (0..500).map(transaction).collect();
        let unread = call_service(&app, post("/v1/events", body.join("\n")).to_request()).await;
        assert_eq!(unread.status(), 200);
        drop(batches.acquire().await.expect("the batch lets its permit go, read or not"));
        assert_eq!(*rejected.lock().expect("no panic"), ["BATCH_GIVEN_UP"]);
        // A client that comes back to it finds that it broke off.
        assert!(to_bytes(unread.into_body()).await.is_err());
    }
}

#[actix_web::test]
async fn a_batch_of_a_client_that_left_is_dropped() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.batches = Arc::new(Semaphore::new(1));
    let (rejected, state) = (bench.rejected, Data::new(bench.state));
    let (batches, served) = (Arc::clone(&state.batches), state.clone());
    let app = init_service(App::new().configure(move |config| configure(config, served))).await;
    let body: Vec<String> = (0..500).map(transaction).collect();
    drop(call_service(&app, post("/v1/events", body.join("\n")).to_request()).await);
    drop(batches.acquire().await.expect("a permit"));
    assert!(bench.actors.seen().len() < 500, "the rest is not begun");
    assert!(rejected.lock().expect("no panic").is_empty());
}

//! Streams of alerts: from where the reader stopped, each alert once, and what becomes of readers that do not read.

use super::{Bench, Mood, get, send};
use crate::ingress::http::{HttpState, configure};
use actix_web::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::test::{self, TestRequest};
use actix_web::web::{Bytes, Data};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// One client: what it reads, and when.
struct Client {
    body: Pin<Box<BoxBody>>,
}

async fn connect(state: &Data<HttpState>, uri: &str, last_event_id: &str) -> Client {
    let state = state.clone();
    let app = test::init_service(App::new().configure(move |config| configure(config, state))).await;
    let request = get(uri).insert_header(("last-event-id", last_event_id)).to_request();
    let response: ServiceResponse = test::call_service(&app, request).await.map_into_boxed_body();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!((response.status().as_u16(), header("content-type")), (200, "text/event-stream"));
    assert_eq!((header("cache-control"), header("x-accel-buffering")), ("no-store", "no"));
    let mut client = Client { body: Box::pin(response.into_body()) };
    assert_eq!(client.next().await.expect("words"), "retry: 1000\n: alerts follow\n\n");
    client
}

impl Client {
    /// The next piece, `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let piece = poll_fn(|context| self.body.as_mut().poll_next(context));
        let piece = tokio::time::timeout(Duration::from_secs(20), piece).await.expect("something in time")?;
        let piece: Bytes = piece.unwrap_or_else(|error| panic!("{error}"));
        Some(String::from_utf8(piece.to_vec()).expect("UTF-8"))
    }

    /// The number of the next alert.
    async fn alert(&mut self) -> u128 {
        let piece = self.next().await.expect("an alert");
        let (id, data) =
            piece.strip_prefix("event: alert\nid: ").and_then(|rest| rest.split_once("\ndata: ")).expect(&piece);
        let data: serde_json::Value = serde_json::from_str(data.strip_suffix("\n\n").expect("an end")).expect("JSON");
        assert_eq!(data["alert_id"], id);
        Uuid::try_parse(id).expect("an id").as_u128()
    }

    async fn alerts(&mut self, count: usize) -> Vec<u128> {
        let mut found = Vec::new();
        for _ in 0..count {
            found.push(self.alert().await);
        }
        found
    }
}

#[actix_web::test]
async fn a_stream_starts_now_or_after_the_last_alert_seen() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    let mut new = connect(&state, "/v1/alerts/stream", "").await;
    let mut back = connect(&state, "/v1/alerts/stream", &id(38)).await;
    assert_eq!(back.alerts(3).await, [39, 40, 41]);
    bench.alerts.arrive(3);
    assert_eq!(new.alerts(3).await, [42, 43, 44]);
    assert_eq!(back.alerts(3).await, [42, 43, 44]);
    let mut odd = connect(&state, "/v1/alerts/stream?user_id=u-1&decision=review", &id(38)).await;
    assert_eq!(odd.alerts(3).await, [39, 41, 43]);
    bench.alerts.arrive(4);
    assert_eq!(odd.alerts(2).await, [45, 47]);
    assert_eq!(back.alerts(4).await, [45, 46, 47, 48]);
}

#[actix_web::test]
async fn what_was_missed_comes_whole_while_more_arrives() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    bench.alerts.arrive(2_000);
    let mut client = connect(&state, "/v1/alerts/stream", &id(20)).await;
    for expected in 21..=2_641 {
        // More than the channel keeps arrives while the store is read.
        if expected % 4 == 0 && bench.alerts.newest() < 2_641 {
            bench.alerts.arrive(1);
        }
        assert_eq!(client.alert().await, expected);
    }
}

#[actix_web::test]
async fn silence_is_broken() {
    let mut bench = Bench::new(Mood::Fine);
    bench.state.limits.stream_heartbeat = Duration::from_millis(30);
    let state = Data::new(bench.state);
    let mut client = connect(&state, "/v1/alerts/stream?user_id=nobody", "").await;
    for _ in 0..3 {
        // Alerts of others are no sign of life.
        bench.alerts.arrive(1);
        assert_eq!(client.next().await.as_deref(), Some(": still here\n\n"));
    }
}

#[actix_web::test]
async fn who_does_not_keep_up_is_cut_off() {
    // Nothing is read for too long.
    let mut bench = Bench::new(Mood::Fine);
    bench.state.limits.stream_stall = Duration::from_millis(20);
    let counter = Arc::clone(&bench.cut_off);
    let state = Data::new(bench.state);
    let mut client = connect(&state, "/v1/alerts/stream", "").await;
    bench.alerts.arrive(60);
    tokio::time::timeout(Duration::from_secs(20), async {
        while counter.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("cut off in time, though nobody polls its stream");
    let mut read: Vec<u128> = Vec::new();
    let last_words = loop {
        match client.next().await.expect("last words") {
            words if words.starts_with(':') => break words,
            event => read
                .push(event.split(['\n', ' ']).nth(3).and_then(|id| Uuid::try_parse(id).ok()).expect(&event).as_u128()),
        }
    };
    assert!(last_words.starts_with(": cut off, too far behind"), "{last_words}");
    assert_eq!(client.next().await, None);
    assert!((16..60).contains(&read.len()), "{} events were held", read.len());
    assert_eq!((read[0], counter.load(Ordering::Relaxed)), (42, 1));
    // It comes again for the rest.
    let mut again = connect(&state, "/v1/alerts/stream", &id(*read.last().expect("some"))).await;
    let rest = again.alerts(60 - read.len()).await;
    assert_eq!(read.into_iter().chain(rest).collect::<Vec<_>>(), (42..=101).collect::<Vec<_>>());

    // More arrives at once than is kept for those who are slow.
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    let mut client = connect(&state, "/v1/alerts/stream", "").await;
    bench.alerts.arrive(100);
    while let Some(piece) = client.next().await {
        assert!(piece.starts_with(": cut off"), "{piece}");
    }
    assert_eq!(bench.cut_off.load(Ordering::Relaxed), 1);
}

#[actix_web::test]
async fn streams_are_bounded_and_end_with_the_service() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(connect(&state, "/v1/alerts/stream", "").await);
    }
    assert_eq!(state.streams.open(), 3);
    let refused = send(&state, get("/v1/alerts/stream")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "OVERLOADED"));
    drop(clients.pop());
    // A place is free as soon as the task behind it has seen that its client is gone.
    let mut free = send(&state, TestRequest::default().method(Method::HEAD).uri("/v1/alerts/stream")).await;
    while free.status == 429 {
        tokio::task::yield_now().await;
        free = send(&state, TestRequest::default().method(Method::HEAD).uri("/v1/alerts/stream")).await;
    }
    assert_eq!((free.status, free.body.len(), state.streams.open()), (200, 0, 2));
    state.streams.stop();
    for client in &mut clients {
        let words = client.next().await.expect("last words");
        assert!(words.starts_with(": the service stops; connect again"), "{words}");
        assert_eq!(client.next().await, None);
    }
    drop(clients);
    assert_eq!(state.streams.open(), 0);
    let refused = send(&state, get("/v1/alerts/stream")).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "STOPPING"));
}

#[actix_web::test]
async fn refusals() {
    let bench = Bench::new(Mood::Fine);
    let state = Data::new(bench.state);
    for (uri, last, status, code) in [
        ("/v1/alerts/stream", &*id(42), 404, "ALERT_NOT_FOUND"),
        ("/v1/alerts/stream", "42", 422, "INVALID_HEADER"),
        ("/v1/alerts/stream?status=open", "", 422, "INVALID_QUERY"),
        ("/v1/alerts/stream?decision=maybe", "", 422, "INVALID_QUERY"),
    ] {
        let reply = send(&state, get(uri).insert_header(("last-event-id", last))).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{:?}", reply.body);
    }
    assert_eq!(bench.rejected.lock().expect("no panic").len(), 4);
    // The store fails on the way: the stream says so and ends, to be resumed.
    let mut client = connect(&state, "/v1/alerts/stream", &id(13)).await;
    assert!(client.next().await.expect("last words").starts_with(": alerts cannot be read now"));
    assert_eq!(client.next().await, None);
}

//! The server killed, held and started again, and the service killed, all under traffic: decisions go on, and in the end
//! the database says what the journal says.

use super::{assert_books, caught_up, count, lag, start};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;
use verdict_tests::servers::Postgres;
use verdict_tests::{Client, Payment, Service, Stopwatch, until};

/// Longest wait for one decision in any of this, in seconds; a debug build on a busy machine takes some hundredths.
const DECIDED_WITHIN: f64 = 2.0;

/// Decides payments of its own users until it is told to stop; every fourth raises an alert.
struct Traffic<'a> {
    decided: &'a AtomicU64,
    /// The service may go at any time: an error is the end, not a failure.
    may_vanish: bool,
}

impl Traffic<'_> {
    fn run(&self, client: &Client, life: &str, stop: &AtomicBool) {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let amount = if number % 4 == 0 { "5000.01" } else { "1.00" };
            let payment = Payment::new(&format!("{life}-{number}"), "t-1", amount).with("deadline_ms", 2_000);
            let watch = Stopwatch::start();
            match client.post("/v1/decide", &payment.text()) {
                Ok(answer) => {
                    assert_eq!((answer.status, &answer.json()["durable"]), (200, &true.into()), "{}", answer.body);
                    assert!(watch.seconds() < DECIDED_WITHIN, "a decision took {} s", watch.seconds());
                    self.decided.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert!(self.may_vanish, "{error}");
                    return;
                }
            }
        }
    }
}

/// Has traffic go on while `act` does its worst.
fn under_traffic(service: &Service, life: &str, act: impl FnOnce(&AtomicU64)) {
    let (stop, decided) = (AtomicBool::new(false), AtomicU64::new(0));
    let traffic = Traffic { decided: &decided, may_vanish: false };
    let client = service.client();
    thread::scope(|scope| {
        let running = scope.spawn(|| traffic.run(&client, life, &stop));
        // A failure of `act` must not leave the traffic running.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&decided)));
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap();
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Waits until so many more were decided.
fn more(decided: &AtomicU64, count: u64) {
    let target = decided.load(Ordering::Relaxed) + count;
    until("decisions", || (decided.load(Ordering::Relaxed) >= target).then_some(()));
}

#[test]
fn decisions_go_on_whatever_becomes_of_the_server() {
    let server = Postgres::start();
    let url = server.url();
    let service = start(url, TempDir::new().unwrap());
    under_traffic(&service, "killed", |decided| {
        for _ in 0..2 {
            more(decided, 30);
            server.kill();
            until("the lag to show", || (lag(&service) > 20).then_some(()));
            let page = service.get("/v1/alerts");
            assert_eq!((page.status, &page.json()["code"]), (503, &"ALERTS_UNAVAILABLE".into()), "{}", page.body);
            server.restart();
            until("the projection to be at it again", || (lag(&service) < 20).then_some(()));
        }
    });
    caught_up(&service);
    under_traffic(&service, "held", |decided| {
        more(decided, 30);
        server.pause();
        // It keeps its connections and says nothing: what waits for it is given up, and decisions never do.
        until("the connection to be given up", || service.stderr().contains(" s, given up").then_some(()));
        more(decided, 30);
        assert!(lag(&service) > 30);
        let id = "00000000-0000-5000-8000-000000000000";
        let review = service.post(&format!("/v1/alerts/{id}/reviews"), r#"{"status": "in_review"}"#);
        assert_eq!(review.status, 503, "{}", review.body);
        server.resume();
        until("the projection to be at it again", || (lag(&service) < 20).then_some(()));
    });
    caught_up(&service);
    let stopped = service.terminate();
    assert!(assert_books(url, stopped.folder.path()) > 150);
    // A start without the server is a start all the same.
    server.kill();
    let service = start(url, stopped.folder);
    assert!(service.stderr().contains("it catches up once it is there"), "{}", service.stderr());
    under_traffic(&service, "absent", |decided| more(decided, 20));
    server.restart();
    caught_up(&service);
    assert_books(url, service.terminate().folder.path());
}

#[test]
fn a_service_that_is_killed_leaves_nothing_out_and_nothing_twice() {
    let url = Postgres::shared().fresh_database();
    let mut folder = TempDir::new().unwrap();
    for life in 0..4_u64 {
        let service = start(&url, folder);
        let (stop, decided) = (AtomicBool::new(false), AtomicU64::new(0));
        let traffic = Traffic { decided: &decided, may_vanish: true };
        let clients = [service.client(), service.client()];
        folder = thread::scope(|scope| {
            for (number, client) in clients.iter().enumerate() {
                let (traffic, stop, life) = (&traffic, &stop, format!("life-{life}-{number}"));
                scope.spawn(move || traffic.run(client, &life, stop));
            }
            // At different places of a round of the projection, which takes some 50 ms.
            more(&decided, 80 + 7 * life);
            service.kill().folder
        });
    }
    let service = start(&url, folder);
    caught_up(&service);
    assert!(count(&url, "fraud_alerts") >= 4 * 20);
    let stopped = service.terminate();
    assert!(assert_books(&url, stopped.folder.path()) >= 4 * 80);
}

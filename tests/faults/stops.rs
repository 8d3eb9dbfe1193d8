//! SIGTERM: the polite end.

use super::caller::Caller;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;
use verdict_tests::{Client, HeldThread, Payment, Service, Stopwatch, now_ms, setting, until, verify};

#[test]
fn a_stop_under_load_exits_with_0_and_keeps_every_answer() {
    let seed = setting("VERDICT_SEED", now_ms().unsigned_abs());
    println!("VERDICT_SEED={seed}");
    let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
    let start_ms = now_ms() - 1_000;
    let mut callers: Vec<Caller> = (0..4).map(|number| Caller::new(seed, number, 4, start_ms)).collect();
    let service = Service::start();
    let answered = AtomicU64::new(0);
    let clients: Vec<Client> = callers.iter().map(|_| service.client()).collect();
    let stopped = thread::scope(|scope| {
        for (caller, client) in callers.iter_mut().zip(&clients) {
            scope.spawn(|| caller.call(client, &users, &answered));
        }
        until("answers under load", || (answered.load(Ordering::Relaxed) >= 400).then_some(()));
        let watch = Stopwatch::start();
        let stopped = service.terminate();
        println!("stopped under load in {:.2} s", watch.seconds());
        stopped
    });
    assert!(stopped.status.success(), "{}\n{}", stopped.status, stopped.stderr);
    assert!(stopped.stderr.contains("everything answered is in the journal"), "{}", stopped.stderr);
    verify(stopped.folder.path());

    let service = Service::builder().folder(stopped.folder).start();
    // A clean stop saved every profile: nothing is left to replay.
    let metrics = service.get("/metrics").body;
    assert!(metrics.lines().any(|line| line == "verdict_replayed_records_total 0"), "{metrics}");
    for caller in &mut callers {
        assert!(caller.settle_and_check(&service.client(), true) > 0);
    }
    let mut expected = std::collections::BTreeMap::new();
    callers.iter().for_each(|caller| caller.expect(&mut expected));
    for (user, expected) in expected {
        expected.check(&service.get(&format!("/v1/users/{user}/profile")).json());
    }
}

#[test]
fn an_idle_service_stops_at_once() {
    for used in [false, true] {
        let service = Service::start();
        // A client that keeps its connection open must not hold the stop up.
        let client = service.client();
        if used {
            assert_eq!(client.post("/v1/decide", &Payment::new("u", "t", "1.00").text()).unwrap().status, 200);
        }
        let open = service.connect();
        let watch = Stopwatch::start();
        let stopped = service.terminate();
        assert!(stopped.status.success(), "{}", stopped.stderr);
        assert!(watch.seconds() < 5.0, "it took {} s to stop with nothing to do", watch.seconds());
        drop(open);
    }
}

#[test]
fn a_stopping_service_says_so_and_takes_nothing_new() {
    let service = Service::start();
    let addr = service.addr();
    assert!(service.terminate().status.success());
    assert!(Client::new(addr).get("/healthz").is_err(), "somebody still answers");
}

/// Seconds of grace in the tests in which something hangs.
const GRACE_SECS: f64 = 2.0;
/// Far beyond what an end takes that waits for nothing, on a busy machine.
const SLACK_SECS: f64 = 10.0;

fn with_grace(secs: f64) -> Service {
    Service::builder().env("VERDICT__HTTP__SHUTDOWN_SECS", secs.to_string()).start()
}

/// Payments that were answered as durable.
fn pay(service: &Service, count: u32) -> Vec<Payment> {
    let payments: Vec<Payment> =
        (0..count).map(|n| Payment::new(&format!("u-{}", n % 7), &format!("t-{n}"), "1.00")).collect();
    for payment in &payments {
        let answer = service.post("/v1/decide", &payment.text());
        assert_eq!((answer.status, &answer.json()["durable"]), (200, &true.into()), "{}", answer.body);
    }
    payments
}

/// The journal is whole, and the service starts and knows every one of them.
fn still_there(folder: TempDir, payments: &[Payment]) -> Service {
    verify(folder.path());
    let service = Service::builder().folder(folder).start();
    for payment in payments {
        let answer = service.post("/v1/decide", &payment.text()).json();
        assert_eq!((&answer["duplicate"], &answer["durable"]), (&true.into(), &true.into()), "{answer}");
    }
    service
}

#[test]
fn a_stop_ends_in_time_with_a_disk_that_never_answers() {
    let service = with_grace(GRACE_SECS);
    let payments = pay(&service, 20);
    let held = HeldThread::hold(service.pid(), "journal");
    let late = Payment::new("u-0", "late", "1.00").with("deadline_ms", 100);
    let answer = service.post("/v1/decide", &late.text());
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"JOURNAL_LATE".into()), "{}", answer.body);

    let watch = Stopwatch::start();
    let stopped = service.terminate();
    let seconds = watch.seconds();
    assert_eq!(stopped.status.code(), Some(0), "{}\n{}", stopped.status, stopped.stderr);
    assert!((GRACE_SECS..GRACE_SECS + SLACK_SECS).contains(&seconds), "it took {seconds} s");
    let said = stopped.stderr.lines().filter(|line| line.contains("the grace time is over")).collect::<Vec<_>>();
    assert_eq!(said.len(), 1, "{}", stopped.stderr);
    for part in ["drain: requests in flight", "the journal's disk has not answered", "the next start replays it"] {
        assert!(said[0].contains(part), "{part:?} is not in {}", said[0]);
    }
    drop(held);

    let service = still_there(stopped.folder, &payments);
    // It was never answered as durable: a retry gets a decision either way, and it counts once.
    let again = service.post("/v1/decide", &late.text());
    assert_eq!((again.status, &again.json()["durable"]), (200, &true.into()), "{}", again.body);
    let profile = service.get("/v1/users/u-0/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 4, "{profile}");
}

#[test]
fn a_stop_ends_in_time_with_a_shard_that_never_comes_back() {
    let service = with_grace(GRACE_SECS);
    let payments = pay(&service, 20);
    // A model whose run does not end holds the thread of its shard like this.
    let _held = HeldThread::hold(service.pid(), "actix-rt|system:0|arbiter");
    let watch = Stopwatch::start();
    let stopped = service.terminate();
    let seconds = watch.seconds();
    assert_eq!(stopped.status.code(), Some(0), "{}\n{}", stopped.status, stopped.stderr);
    assert!((GRACE_SECS..GRACE_SECS + SLACK_SECS).contains(&seconds), "it took {seconds} s");
    for part in ["the grace time is over", "checkpoint: profiles to be saved", "look at the model"] {
        assert!(stopped.stderr.contains(part), "{part:?} is not in {}", stopped.stderr);
    }
    still_there(stopped.folder, &payments);
}

#[test]
fn a_second_signal_ends_a_stop_that_hangs() {
    let service = with_grace(600.0);
    let payments = pay(&service, 20);
    let _held = HeldThread::hold(service.pid(), "journal");
    service.ask_to_stop();
    until("the stop to begin", || service.stderr().contains("stopping: no new requests").then_some(()));
    let watch = Stopwatch::start();
    let stopped = service.terminate();
    assert_eq!(stopped.status.code(), Some(0), "{}\n{}", stopped.status, stopped.stderr);
    assert!(watch.seconds() < SLACK_SECS, "it took {} s", watch.seconds());
    assert!(stopped.stderr.contains("stopping at once"), "{}", stopped.stderr);
    still_there(stopped.folder, &payments);
}

//! SIGTERM: the polite end.

use super::caller::Caller;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use verdict_tests::{Client, Payment, Service, Stopwatch, now_ms, setting, until, verify};

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

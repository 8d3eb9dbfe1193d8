//! A file that cannot be written for a while, or a disk that stands still: slow is not lost.

use verdict_tests::{HeldThread, Lock, Payment, Service, until, verify};

#[test]
fn a_late_journal_is_answered_with_503_and_a_retry_gets_the_decision() {
    let service = Service::start();
    let payment = Payment::new("u", "t-1", "10.00").with("deadline_ms", 100);
    let held = HeldThread::hold(service.pid(), "journal");
    let late = service.post("/v1/decide", &payment.text());
    assert_eq!((late.status, &late.json()["code"]), (503, &"JOURNAL_LATE".into()), "{}", late.body);
    let again = service.post("/v1/decide", &payment.text());
    assert_eq!(again.status, 503, "a duplicate of what is not durable waits as well: {}", again.body);
    drop(held);
    let answer = until("the decision", || {
        let answer = service.post("/v1/decide", &payment.text());
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!((&answer["durable"], &answer["duplicate"]), (&true.into(), &true.into()), "{answer}");
    let profile = service.get("/v1/users/u/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 1, "{profile}");
    verify(service.terminate().folder.path());
}

#[test]
fn alerts_that_cannot_be_written_hold_nothing_up_and_catch_up() {
    let service = Service::builder().arg("--model").arg("").start();
    let lock = Lock::hold(&service.folder().join("data/review.db"));
    for number in 0..20 {
        let decision = service.post("/v1/decide", &Payment::new(&format!("u-{number}"), "t", "5000.01").text());
        assert_eq!((decision.status, &decision.json()["durable"]), (200, &true.into()), "{}", decision.body);
    }
    let lag = |service: &Service| {
        let ready = service.get("/readyz");
        assert_eq!(ready.status, 200, "a projection behind holds nothing up: {}", ready.body);
        ready.json()["components"]["projections"]["review"]["lag_records"].as_u64()
    };
    until("the lag to show", || (lag(&service) == Some(20)).then_some(()));
    assert_eq!(service.get("/v1/alerts").json()["alerts"].as_array().map(Vec::len), Some(0));
    drop(lock);
    until("all alerts", || {
        let alerts = service.get("/v1/alerts?limit=500").json()["alerts"].as_array().unwrap().len();
        assert!(alerts <= 20);
        (alerts == 20).then_some(())
    });
    until("no more lag", || (lag(&service) == Some(0)).then_some(()));
}

//! The stream of alerts, from outside: resumed after a reconnect, a restart and a crash; slow readers; a quick stop.

use super::{by_rules, decide, raise};
use serde_json::Value;
use verdict_tests::{Builder, Follower, Payment, Service, Stopwatch, Told, sqlite, until};

const STREAM: &str = "/v1/alerts/stream";

fn user(alert: &Value) -> &str {
    alert["user_id"].as_str().unwrap()
}

/// Reads alerts and gives their users, and the id of the last.
fn users(follower: &mut Follower, count: usize) -> (Vec<String>, String) {
    let mut last = String::new();
    let users = (0..count).map(|_| {
        let (id, alert) = follower.alert();
        last = id;
        user(&alert).to_owned()
    });
    (users.collect(), last)
}

fn again(service: Builder) -> Service {
    service.arg("--model").arg("").start()
}

#[test]
fn a_stream_goes_on_where_its_reader_stopped() {
    let mut service = by_rules();
    raise(&service, "before");
    let mut follower = Follower::open(service.addr(), STREAM, None);
    assert_eq!(follower.told(), Some(Told::Comment("retry: 1000\n: alerts follow".to_owned())));
    for name in ["a", "b", "c"] {
        let alert = raise(&service, name);
        let (_, told) = follower.alert();
        assert_eq!(told, alert, "the same as GET /v1/alerts shows");
    }
    drop(follower);
    // While nobody reads, more arrives; of some users only; then the service is killed and started again.
    let (seen, _) = (raise(&service, "d"), raise(&service, "e"));
    let mut last = seen["alert_id"].as_str().unwrap().to_owned();
    let (found, _) = users(&mut Follower::open(service.addr(), STREAM, Some(&last)), 1);
    assert_eq!(found, ["e"]);
    let mut only = Follower::open(service.addr(), &format!("{STREAM}?user_id=f&decision=review"), Some(&last));
    for (round, killed) in [false, true].into_iter().enumerate() {
        let names = [format!("x-{round}"), format!("y-{round}")];
        names.iter().for_each(|name| drop(raise(&service, name)));
        let stopped = if killed { service.kill() } else { service.terminate() };
        service = again(Service::builder().folder(stopped.folder));
        decide(&service, &Payment::new(&format!("z-{round}"), "t-1", "5000.01"));
        let mut follower = Follower::open(service.addr(), STREAM, Some(&last));
        let expected: Vec<String> = match round {
            0 => ["e", "x-0", "y-0", "z-0"].map(str::to_owned).to_vec(),
            _ => ["x-1", "y-1", "z-1"].map(str::to_owned).to_vec(),
        };
        let (found, newest) = users(&mut follower, expected.len());
        assert_eq!(found, expected);
        last = newest;
    }
    // The stream that ended with the first service said why, and had nothing of others.
    let mut end = Vec::new();
    while let Some(told) = only.told() {
        end.push(told);
    }
    assert!(matches!(end.last(), Some(Told::Comment(words)) if words.starts_with(": the service stops")), "{end:?}");
    assert!(end.iter().all(|told| matches!(told, Told::Comment(_))), "{end:?}");
    let mut only = Follower::open(
        service.addr(),
        &format!("{STREAM}?user_id=z-1&decision=review"),
        Some(seen["alert_id"].as_str().unwrap()),
    );
    assert_eq!(users(&mut only, 1).0, ["z-1"]);

    for (last, status, code) in
        [("7c9e2f60-54a1-5c0b-9d3e-2a7f4b8d1e55", 404, "ALERT_NOT_FOUND"), ("7", 422, "INVALID_HEADER")]
    {
        let answer = service.request("GET", STREAM, &[("last-event-id", last)], "");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{}", answer.body);
    }
}

#[test]
fn every_follower_gets_every_alert_once_under_load() {
    let service = by_rules();
    let mut followers: Vec<Follower> = (0..4).map(|_| Follower::open(service.addr(), STREAM, None)).collect();
    let total = 120;
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let service = &service;
            scope.spawn(move || {
                for number in 0..total / 2 {
                    decide(service, &Payment::new(&format!("u-{writer}-{number}"), "t-1", "5000.01"));
                }
            });
        }
        let told: Vec<Vec<String>> = followers.iter_mut().map(|follower| users(follower, total).0).collect();
        let mut sorted = told[0].clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), total, "each once");
        assert!(told.iter().all(|other| *other == told[0]), "in the same order to everybody");
    });
    until("the streams to show", || {
        service.get("/metrics").body.lines().any(|line| line == "verdict_alert_streams 4").then_some(())
    });
    drop(followers);
}

/// Alerts of 100 kB each, as many as no socket takes unread.
const LARGE: usize = 300;

#[test]
fn a_slow_reader_is_cut_off_and_comes_again_for_the_rest() {
    let service = by_rules();
    let first = raise(&service, "first");
    let copy = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LARGE}) \
         INSERT INTO alerts (alert_id, schema_version, transaction_id, user_id, decision, risk_level, reasons, amount, \
         currency, merchant_id, timestamp_ms, detected_at_ms, ruleset_name, ruleset_version) \
         SELECT printf('%08x-0000-5000-8000-000000000000', i), schema_version, transaction_id, 'large-' || i, decision, \
         risk_level, '[{{\"code\":\"X\",\"message\":\"' || hex(zeroblob(50000)) || '\",\"rule_id\":null,\"rule_version\":null}}]', \
         amount, currency, merchant_id, timestamp_ms, detected_at_ms, ruleset_name, ruleset_version FROM alerts, n"
    );
    sqlite(&service.folder().join("data/review.db"), &copy);
    let first = first["alert_id"].as_str().unwrap();
    let mut slow = Follower::open(service.addr(), STREAM, Some(first));
    until("the slow reader to be cut off", || {
        service.get("/metrics").body.lines().any(|line| line == "verdict_alert_streams_cut_off_total 1").then_some(())
    });
    // Others are served meanwhile.
    assert_eq!(user(&raise(&service, "last")), "last");
    let (mut seen, mut last, mut words) = (Vec::new(), first.to_owned(), String::new());
    while let Some(told) = slow.told() {
        match told {
            Told::Alert(id, alert) => {
                seen.push(user(&alert).to_owned());
                last = id;
            }
            Told::Comment(comment) => words = comment,
        }
    }
    assert!(words.starts_with(": cut off, too far behind"), "{words}");
    assert!(!seen.is_empty() && seen.len() < LARGE, "{} alerts fitted into the buffers", seen.len());
    let rest = LARGE + 1 - seen.len();
    seen.extend(users(&mut Follower::open(service.addr(), STREAM, Some(&last)), rest).0);
    let expected = (1..=LARGE).map(|number| format!("large-{number}")).chain(["last".to_owned()]);
    assert_eq!(seen, expected.collect::<Vec<_>>(), "each once, in order");

    // Neither readers that read nor one that does not hold a stop up.
    let mut reading = Follower::open(service.addr(), STREAM, None);
    let stuck = Follower::open(service.addr(), STREAM, Some(first));
    assert!(matches!(reading.told(), Some(Told::Comment(_))));
    let watch = Stopwatch::start();
    let stopped = service.terminate();
    assert!(stopped.status.success(), "{}", stopped.stderr);
    assert!(watch.seconds() < 10.0, "it took {} s to stop", watch.seconds());
    assert!(matches!(reading.told(), Some(Told::Comment(words)) if words.starts_with(": the service stops")));
    assert_eq!(reading.told(), None);
    drop(stuck);
}

//! Block and allow entries over HTTP: they bind the very next decision, allow goes before block, and a restart keeps them.

use super::{by_rules, codes, decide};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use verdict_tests::{Answer, Payment, Service, now_ms, rfc3339, until, verify};

/// A payment that names something of every kind.
fn payment(id: &str) -> Payment {
    Payment::new("u-1", id, "5.00").with("device_id", "d/1").with("ip_address", "2001:DB8:0::7")
}

/// What the payment names, by kind, each as a path may spell it.
const NAMED: [(&str, &str, &str); 4] = [
    ("user", "u-1", "u-1"),
    ("merchant", "m-1", "m%2D1"),
    ("device", "d/1", "d%2f1"),
    ("ip", "2001:db8::7", "2001:0DB8::0007"),
];

#[track_caller]
fn ask(service: &Service, method: &str, path: &str, body: &Value, status: u16) -> Answer {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = service.request(method, path, &[("content-type", "application/json")], &text);
    assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
    answer
}

#[track_caller]
fn put(service: &Service, path: &str, reason: &str, status: u16) -> Value {
    ask(service, "PUT", &format!("/v1/lists/{path}"), &json!({"reason": reason}), status).json()
}

#[track_caller]
fn delete(service: &Service, path: &str, status: u16) {
    let answer = ask(service, "DELETE", &format!("/v1/lists/{path}"), &Value::Null, status);
    assert!(status == 404 || answer.body.is_empty(), "{}", answer.body);
}

/// Every entry of a list, page by page.
#[track_caller]
fn all(service: &Service, list: &str, query: &str) -> Vec<Value> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(service, "GET", &format!("/v1/lists/{list}?{query}{cursor}"), &Value::Null, 200).json();
        entries.extend(page["entries"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}

#[test]
fn an_entry_binds_the_very_next_decision_whatever_it_names() {
    let service = by_rules();
    for (number, (kind, value, spelled)) in NAMED.into_iter().enumerate() {
        let path = format!("block/{kind}/{spelled}");
        let entry = put(&service, &path, "chargebacks", 201);
        let expected = json!({
            "list": "block", "kind": kind, "value": value, "reason": "chargebacks", "source": "api",
            "alert_id": null, "expires_at": null,
        });
        assert_eq!(entry, expected);
        let decision = decide(&service, &payment(&format!("t-{number}-1")));
        assert_eq!((&decision["decision"], codes(&decision)), (&json!("block"), vec!["BLOCK_LIST"]), "{kind}");
        assert_eq!(ask(&service, "GET", &format!("/v1/lists/{path}"), &Value::Null, 200).json(), expected);
        assert_eq!(put(&service, &path, "chargebacks", 200), expected, "the same again changes nothing");
        assert_eq!(put(&service, &path, "more of them", 200)["reason"], "more of them");
        assert_eq!(all(&service, "block", "").len(), 1);
        delete(&service, &path, 204);
        let decision = decide(&service, &payment(&format!("t-{number}-2")));
        assert_eq!(decision["decision"], "approve", "{kind}: {decision}");
        delete(&service, &path, 404);
        let gone = ask(&service, "GET", &format!("/v1/lists/{path}"), &Value::Null, 404).json();
        assert_eq!(gone["code"], "ENTRY_NOT_FOUND", "{gone}");
    }
    // Another user, device and address pay at the same merchant as they like.
    put(&service, "block/device/d%2F1", "stolen", 201);
    let other = decide(&service, &Payment::new("u-2", "t", "5.00").with("device_id", "d-2"));
    assert_eq!(other["decision"], "approve", "{other}");
    // What one user's blocks did not count as for another is all in the journal, and is what it says.
    verify(service.terminate().folder.path());
}

#[test]
fn allow_goes_before_block_and_counts_in_features() {
    let service = by_rules();
    for (number, (kind, _, spelled)) in NAMED.into_iter().enumerate() {
        put(&service, "block/user/u-1", "suspicious", if number == 0 { 201 } else { 200 });
        put(&service, "block/merchant/m-1", "chargebacks", if number == 0 { 201 } else { 200 });
        let blocked = decide(&service, &payment(&format!("t-{number}-1")));
        assert_eq!(blocked["decision"], "block", "{blocked}");
        put(&service, &format!("allow/{kind}/{spelled}"), "known", 201);
        let allowed = decide(&service, &payment(&format!("t-{number}-2")));
        assert_eq!((&allowed["decision"], codes(&allowed)), (&json!("approve"), vec![]), "{kind}");
        delete(&service, &format!("allow/{kind}/{spelled}"), 204);
    }
    // Only the list gives way: a rule of its own still counts.
    put(&service, "allow/user/u-1", "known", 201);
    let reviewed = decide(&service, &payment("t-large").with("amount", "6000.00"));
    assert_eq!(codes(&reviewed), ["DAILY_SPEND"], "{reviewed}");
    let profile = service.get("/v1/users/u-1/profile").json();
    let lists: BTreeSet<&str> =
        profile["list_entries"].as_array().unwrap().iter().map(|entry| entry["list"].as_str().unwrap()).collect();
    assert_eq!(lists, BTreeSet::from(["allow", "block"]), "{profile}");
    verify(service.terminate().folder.path());
}

#[test]
fn an_entry_ends_at_its_time() {
    let service = by_rules();
    let end = now_ms() + 1_500;
    for path in ["block/merchant/m-1", "allow/user/u-9", "block/user/u-1"] {
        let body = json!({"reason": "for a moment", "expires_at": rfc3339(end)});
        let entry = ask(&service, "PUT", &format!("/v1/lists/{path}"), &body, 201).json();
        assert_eq!(entry["expires_at"], rfc3339(end));
    }
    let mut number = 0;
    let mut pay = || {
        number += 1;
        let before = now_ms();
        let decision = decide(&service, &payment(&format!("t-{number}")));
        (before, now_ms(), decision["decision"] == "block")
    };
    let (_, after, blocked) = pay();
    assert!(blocked || after >= end, "it binds until it ends");
    until("the entries to end", || {
        let (before, after, blocked) = pay();
        // On either side of the end there is no doubt.
        assert!(before < end || !blocked, "bound at {before}, which is not before {end}");
        assert!(after >= end || blocked, "did not bind at {after}, which is before {end}");
        (!blocked).then_some(())
    });
    assert_eq!((all(&service, "block", ""), all(&service, "allow", "")), (vec![], vec![]));
    delete(&service, "block/merchant/m-1", 404);
    delete(&service, "block/user/u-1", 404);
    until("expired entries to be gone from memory", || {
        let metrics = service.get("/metrics").body;
        metrics.lines().any(|line| line == "verdict_list_entries 0").then_some(())
    });
    let past = json!({"reason": "too late", "expires_at": rfc3339(now_ms() - 1)});
    let refused = ask(&service, "PUT", "/v1/lists/block/user/u-1", &past, 422).json();
    assert_eq!(refused["errors"][0]["pointer"], "/expires_at", "{refused}");
    // An entry that has expired is no entry: it is made, not replaced.
    put(&service, "block/merchant/m-1", "again", 201);
}

#[test]
fn pages_show_each_entry_once_while_others_come_and_go() {
    let service = by_rules();
    let value = |n: usize| format!("m-{n:03}");
    for n in (0..40).step_by(2) {
        put(&service, &format!("block/merchant/{}", value(n)), "old", 201);
    }
    put(&service, "block/user/u-1", "old", 201);
    put(&service, "block/ip/203.0.113.7", "old", 201);
    put(&service, "allow/merchant/m-000", "old", 201);
    let (mut seen, mut cursor, mut turn) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/lists/block?kind=merchant&limit=6{cursor}");
        let page = ask(&service, "GET", &path, &Value::Null, 200).json();
        let entries = page["entries"].as_array().unwrap();
        assert!(!entries.is_empty() && entries.len() <= 6, "{page}");
        let old = entries.iter().filter(|entry| entry["reason"] == "old");
        seen.extend(old.map(|entry| entry["value"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // The one that the cursor names goes, one comes before it and one behind.
        delete(&service, &format!("block/merchant/{}", seen.last().unwrap()), 204);
        put(&service, &format!("block/merchant/{}", value(2 * turn + 1)), "new", 201);
        put(&service, &format!("block/merchant/{}", value(39 - 2 * turn)), "new", 201);
        turn += 1;
    }
    assert_eq!(seen, (0..40).step_by(2).map(value).collect::<Vec<_>>());
    let kinds = |entries: &[Value]| entries.iter().map(|entry| entry["kind"].clone()).collect::<Vec<_>>();
    let everything = all(&service, "block", "limit=7");
    let mut kinds_in_order = kinds(&everything);
    kinds_in_order.dedup();
    assert_eq!(kinds_in_order, ["user", "merchant", "ip"]);
    assert_eq!(kinds(&all(&service, "block", "kind=ip")), ["ip"]);
    assert_eq!(all(&service, "allow", "").len(), 1);
    for query in ["?limit=501", "?kind=card", "?cursor=41", "?list=allow"] {
        let answer = ask(&service, "GET", &format!("/v1/lists/block{query}"), &Value::Null, 422);
        assert_eq!(answer.json()["code"], "INVALID_QUERY", "{query}");
    }
}

#[test]
fn a_restart_keeps_every_entry_polite_or_not_and_with_any_number_of_shards() {
    let shards = |count: &str| Service::builder().arg("--model").arg("").env("VERDICT__ACTORS__SHARDS", count);
    let mut service = shards("2").start();
    for (kind, _, spelled) in NAMED {
        put(&service, &format!("block/{kind}/{spelled}"), "chargebacks", 201);
    }
    put(&service, "allow/merchant/m-other", "partner", 201);
    put(&service, "block/user/u-9", "by mistake", 201);
    put(&service, "block/merchant/m-9", "by mistake", 201);
    delete(&service, "block/user/u-9", 204);
    delete(&service, "block/merchant/m-9", 204);
    let listed = |service: &Service| (all(service, "block", "limit=3"), all(service, "allow", ""));
    let expected = listed(&service);
    assert_eq!((expected.0.len(), expected.1.len()), (4, 1));
    for (turn, (polite, count)) in [(false, "1"), (true, "3"), (false, "2"), (true, "2")].into_iter().enumerate() {
        let stopped = if polite { service.terminate() } else { service.kill() };
        verify(stopped.folder.path());
        service = shards(count).folder(stopped.folder).start();
        assert_eq!(listed(&service), expected);
        let decision = decide(&service, &payment(&format!("t-{turn}")));
        assert_eq!(codes(&decision), ["BLOCK_LIST"]);
        for (user, merchant) in [("u-9", "m-10"), ("u-10", "m-9")] {
            let payment = Payment::new(user, &format!("t-{turn}"), "5.00").with("merchant_id", merchant);
            assert_eq!(decide(&service, &payment)["decision"], "approve");
        }
    }
    // Put on with one process, taken off with the next.
    delete(&service, "block/user/u-1", 204);
    let service = shards("2").folder(service.kill().folder).start();
    delete(&service, "block/user/u-1", 404);
}

#[test]
fn no_more_entries_than_are_allowed() {
    let service = Service::builder().arg("--model").arg("").env("VERDICT__DATA__MAX_LIST_ENTRIES", "2").start();
    put(&service, "block/merchant/m-1", "x", 201);
    put(&service, "allow/user/u-1", "x", 201);
    for path in ["block/merchant/m-2", "block/user/u-2", "allow/ip/::1"] {
        assert_eq!(put(&service, path, "x", 422)["code"], "LISTS_FULL", "{path}");
    }
    put(&service, "block/merchant/m-1", "y", 200);
    delete(&service, "allow/user/u-1", 204);
    put(&service, "block/merchant/m-2", "x", 201);
}

//! The boundaries of the shipped rule set over HTTP, and the block list.

use super::{by_rules, codes, decide, remember};
use serde_json::{Value, json};
use verdict_tests::{DAY_MS, Payment, Service, login, now_ms};

const MINUTE_MS: i64 = 60_000;

#[test]
fn a_payment_far_from_a_recent_login_is_reviewed() {
    let service = by_rules();
    let at = now_ms() - 2 * 60 * MINUTE_MS;
    // Along the equator 7.2365792189948 degrees are 500 miles, less what a double cannot tell.
    let cases: [(i64, f64, &[&str]); 7] = [
        (60 * MINUTE_MS, 7.236_579_218_994_8, &[]),
        (60 * MINUTE_MS, 7.236_579_218_995, &["GEO_ANOMALY"]),
        (60 * MINUTE_MS, 8.0, &["GEO_ANOMALY"]),
        (60 * MINUTE_MS + 1, 8.0, &[]),
        (0, 90.0, &["GEO_ANOMALY"]),
        (-1, 90.0, &[]),
        (30 * MINUTE_MS, 0.0, &[]),
    ];
    for (number, (later_ms, longitude, expected)) in cases.into_iter().enumerate() {
        let user = format!("u-{number}");
        let seen = remember(&service, "/v1/logins", &login(&user, "l-1", at, (0.0, 0.0)));
        assert_eq!(seen, json!({"login_id": "l-1", "accepted": true, "duplicate": false}));
        let decision = decide(&service, &Payment::new(&user, "t", "1.00").at(at + later_ms).place(0.0, longitude));
        assert_eq!(codes(&decision), expected, "{later_ms} ms later at {longitude}");
        assert_eq!(decision["decision"], if expected.is_empty() { "approve" } else { "review" });
    }
    remember(&service, "/v1/logins", &login("ny", "l", at, (40.7128, -74.0060)));
    let decision = decide(&service, &Payment::new("ny", "t", "1.00").at(at + MINUTE_MS).place(34.0522, -118.2437));
    let said = decision["reasons"][0]["message"].as_str().unwrap();
    assert_eq!(said, "Geographic anomaly: 2,445.6 miles from the last login");
}

#[test]
fn logins_that_must_not_count() {
    let service = by_rules();
    let at = now_ms() - MINUTE_MS;
    let mut failed = login("failed", "l", at, (0.0, 0.0));
    failed["success"] = json!(false);
    remember(&service, "/v1/logins", &failed);
    remember(&service, "/v1/logins", &login("somebody-else", "l", at, (0.0, 0.0)));
    let mut nowhere = login("nowhere", "l", at, (0.0, 0.0));
    nowhere.as_object_mut().unwrap().retain(|name, _| name != "latitude" && name != "longitude");
    remember(&service, "/v1/logins", &nowhere);
    for user in ["failed", "somebody", "nowhere"] {
        let decision = decide(&service, &Payment::new(user, "t", "1.00").place(0.0, 90.0));
        assert_eq!(decision["decision"], "approve", "{user}: {decision}");
    }
}

#[test]
fn a_day_of_spending_is_summed_to_the_cent() {
    let service = by_rules();
    // The last midnight in UTC: any time of the day is less than two days after the day before it began.
    let midnight = now_ms().div_euclid(DAY_MS) * DAY_MS;
    let spend = |user: &str, id: &str, amount: &str, at: i64| {
        let decision = decide(&service, &Payment::new(user, id, amount).at(at));
        (decision["decision"].as_str().unwrap().to_owned(), decision)
    };
    let noon = midnight - DAY_MS / 2;
    assert_eq!(spend("cent", "1", "4999.99", noon).0, "approve");
    assert_eq!(spend("cent", "2", "0.01", noon + 1).0, "approve", "5,000.00 is not more than 5,000.00");
    let (outcome, decision) = spend("cent", "3", "0.01", noon + 2);
    assert_eq!(outcome, "review");
    assert_eq!(decision["reasons"][0]["message"], "Daily spend threshold exceeded: 5,000.01 USD today");
    for (id, amount) in [("1", "0.10"), ("2", "0.20"), ("3", "4999.70")] {
        assert_eq!(spend("float", id, amount, noon).0, "approve", "0.1 + 0.2 is 0.3 here");
    }
    assert_eq!(spend("float", "4", "0.01", noon).0, "review");

    assert_eq!(spend("midnight", "1", "5000.00", midnight - 1).0, "approve");
    assert_eq!(spend("midnight", "2", "0.01", midnight - 1).0, "review");
    assert_eq!(spend("midnight", "3", "5000.00", midnight).0, "approve", "a new day");
    assert_eq!(spend("midnight", "4", "0.01", midnight).0, "review");
    assert_eq!(spend("midnight", "5", "0.01", midnight - 1).0, "review", "late, and of the day before");
}

/// Sends small payments at one merchant, a few seconds apart, as somebody does who tries stolen cards: the shipped model
/// knows the pattern. Gives the first block.
fn provoke_a_block(service: &Service, user: &str) -> (Value, i64) {
    let start = now_ms() - 15 * MINUTE_MS;
    for number in 0..60 {
        let amount = format!("{}.{:02}", number % 3, 40 + number % 50);
        let at = start + i64::from(number) * 14_000;
        let payment = Payment::new(user, &format!("probe-{number}"), &amount).with("merchant_id", "m-probed").at(at);
        let decision = decide(service, &payment.with("deadline_ms", 30_000));
        if codes(&decision).contains(&"MODEL_HIGH_RISK") {
            return (decision, at);
        }
    }
    panic!("the shipped model sees nothing in sixty small payments at one merchant");
}

#[test]
fn a_block_binds_the_very_next_decision() {
    let service = Service::start();
    let (block, at) = provoke_a_block(&service, "u-probed");
    assert_eq!((&block["decision"], &block["risk_level"]), (&json!("block"), &json!("highest")), "{block}");
    assert!(block["score"].as_f64().unwrap() > 0.8);
    // A payment like any other, at another merchant.
    let next =
        decide(&service, &Payment::new("u-probed", "next", "25.00").with("merchant_id", "m-other").at(at + 1_000));
    assert_eq!(next["decision"], "block", "{next}");
    assert!(codes(&next).contains(&"BLOCK_LIST"), "{next}");
    // A late one as well: a block binds from detection on, whatever the event's own time.
    let late = decide(&service, &Payment::new("u-probed", "late", "25.00").at(at - DAY_MS));
    assert!(codes(&late).contains(&"BLOCK_LIST"), "{late}");
    let other = decide(&service, &Payment::new("u-other", "next", "25.00").at(at));
    assert_eq!(other["decision"], "approve", "{other}");

    let profile = service.get("/v1/users/u-probed/profile").json();
    let entry = &profile["list_entries"][0];
    assert_eq!((&entry["list"], &profile["features"]["block_list_hits"]), (&json!("block"), &json!(1)), "{profile}");
    let expires: jiff::Timestamp = entry["expires_at"].as_str().unwrap().parse().unwrap();
    let left_ms = expires.as_millisecond() - now_ms();
    assert!((DAY_MS - 5 * MINUTE_MS..=DAY_MS).contains(&left_ms), "24 h from detection: {left_ms} ms left");
    let alert = verdict_tests::until("the alerts of all three blocks", || {
        let page = service.get("/v1/alerts?user_id=u-probed&decision=block").json();
        let alerts = page["alerts"].as_array().unwrap();
        let found = alerts.iter().find(|alert| alert["alert_id"] == entry["alert_id"])?;
        (alerts.len() == 3).then(|| found.clone())
    });
    assert_eq!((&alert["transaction_id"], &alert["reasons"]), (&block["transaction_id"], &block["reasons"]));

    // It is part of the profile: a restart does not lift it.
    let service = Service::builder().folder(service.kill().folder).start();
    let after = decide(&service, &Payment::new("u-probed", "after", "25.00"));
    assert!(codes(&after).contains(&"BLOCK_LIST"), "{after}");
}

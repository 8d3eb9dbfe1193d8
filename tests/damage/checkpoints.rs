//! Harm to `profiles.db`: it only saves time, so that it may be missing, and must never be believed when it is wrong.

use super::files::{History, copy, decides_nothing, flip_after, merge_log, not_ready, remove, remove_journal};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use verdict_tests::{Service, login, now_ms, timeless, verify};

fn profiles(service: &Service, history: &History) -> Vec<Value> {
    let users: BTreeSet<&str> = history.payments.iter().map(|sent| sent.body["user_id"].as_str().unwrap()).collect();
    users.iter().map(|user| timeless(service.get(&format!("/v1/users/{user}/profile")).json())).collect()
}

#[test]
fn missing_profiles_are_made_again_from_the_journal() {
    let service = Service::start();
    let history = History::send(&service, "made", 40);
    let seen = login("user-made-3", "l-1", now_ms() - 60_000, (40.7, -74.0)).to_string();
    assert_eq!(service.post("/v1/logins", &seen).status, 200);
    let before = profiles(&service, &history);
    let folder = service.terminate().folder;
    remove(folder.path(), "profiles.db");
    let service = Service::builder().folder(folder).start();
    assert_eq!(profiles(&service, &history), before);
    assert_eq!(history.known_prefix(&service), 40);
    verify(service.kill().folder.path());
}

#[test]
fn a_flipped_bit_in_a_profile_is_refused_with_the_user() {
    let service = Service::start();
    let history = History::send(&service, "bit", 14);
    let before = profiles(&service, &history);
    let folder = service.terminate().folder;
    merge_log(folder.path(), "profiles.db");
    // After the user come the number of the record and the checksum.
    flip_after(&folder.path().join("data/profiles.db"), b"user-bit-2");
    let service = Service::builder().folder(folder).spawn_only();
    let said = not_ready(&service, "profiles.db is damaged: the profile of user");
    assert!(said.contains("user-bit-2") && said.contains("move it away"), "{said}");
    let payment = history.payments.iter().find(|sent| sent.body["user_id"] == "user-bit-2").unwrap();
    assert_eq!(service.post("/v1/decide", &payment.text()).status, 503);

    // What it says helps.
    let folder = service.terminate().folder;
    remove(folder.path(), "profiles.db");
    let service = Service::builder().folder(folder).start();
    assert_eq!(profiles(&service, &history), before);
}

#[test]
fn profiles_ahead_of_the_journal_are_refused() {
    let service = Service::start();
    History::send(&service, "old", 14);
    let folder = service.terminate().folder;
    let old = copy(folder.path());
    let service = Service::builder().folder(folder).start();
    let history = History::send(&service, "new", 14);
    let folder = service.terminate().folder;
    remove_journal(folder.path());
    fs::rename(old.path().join("data/journal"), folder.path().join("data/journal")).unwrap();
    let service = Service::builder().folder(folder).spawn_only();
    let said = not_ready(&service, "the folder journal is older than profiles.db");
    assert!(said.contains("move profiles.db away"), "{said}");
    decides_nothing(&service, &history.payments[0]);
}

#[test]
fn wiped_alerts_are_made_again_once_each() {
    let service = Service::builder().arg("--model").arg("").start();
    for number in 0..12 {
        let payment = verdict_tests::Payment::new(&format!("u-{number}"), "t", "5000.01");
        assert_eq!(service.post("/v1/decide", &payment.text()).json()["decision"], "review");
    }
    let alerts = |service: &Service| -> Vec<Value> {
        verdict_tests::until("all alerts", || {
            let page = service.get("/v1/alerts?limit=500").json();
            let alerts = page["alerts"].as_array().unwrap();
            assert!(alerts.len() <= 12, "{page}");
            let mut alerts = (alerts.len() == 12).then(|| alerts.clone())?;
            // Partitions are read side by side: their alerts may come in another order.
            alerts.sort_by_key(|alert| alert["alert_id"].to_string());
            Some(alerts)
        })
    };
    let before = alerts(&service);
    let folder = service.kill().folder;
    remove(folder.path(), "review.db");
    let service = Service::builder().folder(folder).arg("--model").arg("").start();
    assert_eq!(alerts(&service), before, "the same alerts, with the same ids and the time of detection");
}

//! A restart, polite or not, keeps everything that was answered.

use super::{decide, remember};
use serde_json::json;
use verdict_tests::{Payment, Service, label, lasting, login, now_ms, timeless, until, verify};

#[test]
fn a_restart_keeps_everything() {
    let at = now_ms() - 60_000;
    let mut service = Service::start();
    remember(&service, "/v1/logins", &login("u-7", "l-1", at, (40.5, -74.25)));
    let payments: Vec<Payment> =
        (0..30).map(|number| Payment::new("u-7", &format!("t-{number}"), "300.00").at(at + number)).collect();
    let answers: Vec<_> = payments.iter().map(|payment| decide(&service, payment)).collect();
    remember(&service, "/v1/labels", &label("u-7", "t-3", at, true));
    let alerts = |service: &Service| {
        until("the alerts", || {
            let page = service.get("/v1/alerts?limit=500").json();
            let reviewed = answers.iter().filter(|answer| answer["decision"] != "approve").count();
            (page["alerts"].as_array().unwrap().len() == reviewed).then_some(page)
        })
    };
    let (page, profile) = (alerts(&service), timeless(service.get("/v1/users/u-7/profile").json()));
    assert_eq!((&profile["retained"], &profile["fraud_labels"]), (&json!(30), &json!(1)));

    for polite in [true, false, false, true] {
        let stopped = if polite { service.terminate() } else { service.kill() };
        verify(stopped.folder.path());
        service = Service::builder().folder(stopped.folder).start();
        assert_eq!(timeless(service.get("/v1/users/u-7/profile").json()), profile);
        for (payment, first) in payments.iter().zip(&answers) {
            // From the journal: nothing recent is in memory.
            let again = until("a duplicate's answer", || {
                let answer = service.post("/v1/decide", &payment.text());
                (answer.status == 200).then(|| answer.json())
            });
            assert_eq!((&again["duplicate"], &again["durable"]), (&json!(true), &json!(true)), "{again}");
            assert_eq!(lasting(again), lasting(first.clone()));
        }
        assert_eq!(remember(&service, "/v1/logins", &login("u-7", "l-1", at, (40.5, -74.25)))["duplicate"], true);
        assert_eq!(remember(&service, "/v1/labels", &label("u-7", "t-3", at, true))["duplicate"], true);
        assert_eq!(alerts(&service), page, "the same alerts, each once, with the same ids");
    }
}

#[test]
fn another_number_of_shards_serves_the_same_data() {
    let payments: Vec<Payment> = (0..40).map(|number| Payment::new(&format!("u-{number}"), "t", "10.00")).collect();
    let mut service = Service::builder().env("VERDICT__ACTORS__SHARDS", "1").start();
    let answers: Vec<_> = payments.iter().map(|payment| decide(&service, payment)).collect();
    for shards in ["3", "12", "2"] {
        let folder = service.terminate().folder;
        service = Service::builder().folder(folder).env("VERDICT__ACTORS__SHARDS", shards).start();
        for (payment, first) in payments.iter().zip(&answers) {
            let again = decide(&service, &payment.clone().with("deadline_ms", 30_000));
            assert_eq!(lasting(again), lasting(first.clone()), "{shards} shards");
        }
    }
}

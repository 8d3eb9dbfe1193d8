//! Logins, labels, batches and profiles: what is accepted is visible to the next decision.

use super::{by_rules, codes, decide, remember};
use serde_json::{Value, json};
use verdict_tests::{Answer, Payment, Service, label, login, now_ms, rfc3339};

fn batch(service: &Service, lines: &[String]) -> Answer {
    let answer = service.request("POST", "/v1/events", &[("content-type", "application/x-ndjson")], &lines.join("\n"));
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{}", answer.body);
    answer
}

#[test]
fn logins_and_labels_show_in_the_profile() {
    let service = by_rules();
    let unknown = service.get("/v1/users/u-7/profile");
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("USER_NOT_FOUND")));
    let at = now_ms() - 60_000;
    let seen = login("u-7", "l-1", at, (40.5, -74.25));
    assert_eq!(remember(&service, "/v1/logins", &seen)["duplicate"], false);
    assert_eq!(remember(&service, "/v1/logins", &seen)["duplicate"], true);
    let mut other = seen.clone();
    other["latitude"] = json!(41.5);
    let conflict = service.post("/v1/logins", &other.to_string());
    assert_eq!((conflict.status, &conflict.json()["code"]), (409, &json!("ID_REUSED")), "{}", conflict.body);

    decide(&service, &Payment::new("u-7", "t-1", "12.50").at(at + 1));
    decide(&service, &Payment::new("u-7", "t-2", "0.50").at(at + 2));
    let word = label("u-7", "t-1", at + 3, true);
    let expected = json!({"transaction_id": "t-1", "user_id": "u-7", "source": "chargeback", "accepted": true, "duplicate": false});
    assert_eq!(remember(&service, "/v1/labels", &word), expected);
    assert_eq!(remember(&service, "/v1/labels", &word)["duplicate"], true);

    let profile = service.get("/v1/users/u-7/profile").json();
    assert_eq!(profile["user_id"], "u-7");
    assert_eq!(profile["last_login"], json!({"timestamp": rfc3339(at), "latitude": 40.5, "longitude": -74.25}));
    let recent = json!([
        {"timestamp": rfc3339(at + 2), "base_amount": "0.50"}, {"timestamp": rfc3339(at + 1), "base_amount": "12.50"},
    ]);
    assert_eq!(profile["recent"], recent);
    assert_eq!((&profile["retained"], &profile["fraud_labels"]), (&json!(2), &json!(1)));
    assert_eq!(profile["list_entries"], json!([]));
    let features = &profile["features"];
    let found = ["user_count_24h", "user_sum_24h", "user_mean_24h", "user_max_24h"].map(|name| features[name].as_f64());
    assert_eq!(found, [Some(2.0), Some(13.0), Some(6.5), Some(12.5)]);
    assert_eq!(features["has_last_login"], true);

    // The latest word on a payment wins, the older one is known already.
    assert_eq!(remember(&service, "/v1/labels", &label("u-7", "t-1", at + 5, false))["duplicate"], false);
    assert_eq!(remember(&service, "/v1/labels", &label("u-7", "t-1", at + 4, true))["duplicate"], true);
    assert_eq!(service.get("/v1/users/u-7/profile").json()["fraud_labels"], 0);
}

#[test]
fn a_user_is_found_whatever_the_id_looks_like() {
    let service = by_rules();
    for (user, path) in
        [("a b", "a%20b"), ("Zoë", "Zo%C3%AB"), ("50%", "50%25"), ("a/b", "a%2Fb"), ("?x=1&y", "%3Fx=1&y")]
    {
        decide(&service, &Payment::new(user, "t", "1.00"));
        let answer = service.get(&format!("/v1/users/{path}/profile"));
        assert_eq!((answer.status, &answer.json()["user_id"]), (200, &json!(user)), "{path}: {}", answer.body);
    }
}

#[test]
fn a_batch_is_answered_line_by_line_in_order() {
    let service = by_rules();
    let at = now_ms() - 60_000;
    let far = |id: &str, at| Payment::new("u-1", id, "1.00").at(at).place(0.0, 90.0).text();
    let lines = [
        far("t-1", at),
        login("u-1", "l-1", at + 1, (0.0, 0.0)).to_string(),
        far("t-2", at + 2),
        String::new(),
        "{\"transaction_id\": 5".to_owned(),
        far("t-2", at + 2),
        far("t-2", at + 3),
        Payment::new("u-2", "t-1", "-1.00").text(),
        login("u-1", "l-1", at + 1, (0.0, 0.0)).to_string(),
        Payment::new("u-3", "t-1", "5000.01").text(),
        "   ".to_owned(),
    ];
    let answers = batch(&service, &lines).lines();
    assert_eq!(answers.len(), 9, "one for every line that is not blank");
    let outcome = |index: usize| (answers[index]["decision"].as_str(), codes(&answers[index]));
    assert_eq!(outcome(0), (Some("approve"), vec![]), "before the login");
    assert_eq!(answers[1], json!({"login_id": "l-1", "accepted": true, "duplicate": false}));
    assert_eq!(outcome(2), (Some("review"), vec!["GEO_ANOMALY"]), "the login before it counts");
    let problem = |index: usize| {
        (answers[index]["status"].as_u64(), answers[index]["code"].as_str(), answers[index]["instance"].as_str())
    };
    assert_eq!(problem(3), (Some(400), Some("NOT_JSON"), Some("/v1/events#line-5")));
    assert_eq!((&answers[4]["duplicate"], &answers[4]["decision_id"]), (&json!(true), &answers[2]["decision_id"]));
    assert_eq!(problem(5), (Some(409), Some("ID_REUSED"), Some("/v1/events#line-7")));
    assert_eq!(problem(6), (Some(422), Some("AMOUNT_NOT_DECIMAL"), Some("/v1/events#line-8")));
    assert_eq!(answers[7]["duplicate"], true);
    assert_eq!(outcome(8), (Some("review"), vec!["DAILY_SPEND"]));
}

#[test]
fn a_long_batch_keeps_the_order_of_every_user() {
    let service = Service::builder().arg("--model").arg("").env("VERDICT__DECIDE__DEADLINE_MS", "60000").start();
    let at = now_ms() - 600_000;
    let lines: Vec<String> = (0..3_000)
        .map(|number| {
            Payment::new(&format!("u-{}", number % 5), &format!("t-{number}"), "10.00").at(at + number).text()
        })
        .collect();
    let answers = batch(&service, &lines).lines();
    assert_eq!(answers.len(), lines.len());
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["transaction_id"], format!("t-{number}"), "{answer}");
        // 500 payments of 10.00 are allowed; each is counted in the order of the batch.
        let expected = if number / 5 < 500 { "approve" } else { "review" };
        assert_eq!(answer["decision"], expected, "payment {number}: {answer}");
    }
    let empty = batch(&service, &[]);
    assert_eq!(empty.body, "");
}

#[test]
fn late_events_go_where_they_belong() {
    let service = by_rules();
    let now = now_ms();
    decide(&service, &Payment::new("u", "now", "100.00").at(now));
    let late = decide(&service, &Payment::new("u", "late", "40.00").at(now - 2 * 3_600_000));
    assert_eq!(late["decision"], "approve");
    let features = service.get("/v1/users/u/profile").json()["features"].clone();
    let found = ["user_count_1h", "user_count_24h"].map(|name| features[name].as_u64());
    assert_eq!(found, [Some(1), Some(2)], "{features}");
    let recent: Vec<Value> = service.get("/v1/users/u/profile").json()["recent"].as_array().unwrap().clone();
    assert_eq!(recent[0]["base_amount"], "100.00");
}

//! Brokers that speak TLS and want a password (SCRAM): all that the service has of Kafka works, set up by the
//! configuration alone, and nothing that it says holds the password.

use super::{PARTITIONS, committed, listed_alerts, until_consumed};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, KafkaOptions};
use verdict_tests::{Builder, Payment, Service, command, finish, until};

/// What nobody may ever read; found nowhere by chance.
const WRONG_PASSWORD: &str = "not-the-password-5f1c";

fn started() -> Kafka {
    Kafka::start(KafkaOptions { partitions: PARTITIONS, secured: true, ..KafkaOptions::default() })
}

/// The password that the broker takes.
fn password(kafka: &Kafka) -> String {
    kafka.secured().into_iter().find_map(|(name, value)| (name == "sasl.password").then_some(value)).unwrap()
}

/// A `verdict.toml` for the secured listener in this folder; the password is in a file beside it.
fn config(kafka: &Kafka, folder: &Path, password: &str) -> PathBuf {
    let secret = folder.join("kafka-password");
    fs::write(&secret, format!("{password}\n")).unwrap();
    let (mut servers, mut properties) = (String::new(), format!("sasl.password_file = {secret:?}\n"));
    for (name, value) in kafka.secured() {
        match &*name {
            "bootstrap.servers" => servers = value,
            "sasl.password" => {}
            _ => properties += &format!("{name} = {value:?}\n"),
        }
    }
    let text = format!(
        "[data]\npartitions = {PARTITIONS}\n[kafka]\nbootstrap_servers = {servers:?}\nheartbeat_secs = 0\n[kafka.properties]\n{properties}"
    );
    let file = folder.join("verdict.toml");
    fs::write(&file, text).unwrap();
    file
}

fn serving(config: &Path) -> Builder {
    Service::builder().arg("--config").arg(config)
}

/// Alert ids in their topic. Read over the listener without TLS: Kafka 4 refuses the SCRAM of Debian's kcat.
fn published(kafka: &Kafka) -> Vec<String> {
    let id = |alert: &String| serde_json::from_str::<Value>(alert).unwrap()["alert_id"].as_str().unwrap().to_owned();
    committed(kafka, "fraud-alerts", "%s\n").iter().map(id).collect()
}

#[test]
fn all_of_it_works_over_tls_with_a_password() {
    let kafka = started();
    let (folder, password) = (TempDir::new().unwrap(), password(&kafka));
    let config = config(&kafka, folder.path(), &password);
    let service = serving(&config).start();
    for number in 0..3 {
        let payment = Payment::new(&format!("mine-{number}"), "t-1", "5000.01").with("deadline_ms", 5_000);
        let answer = service.post("/v1/decide", &payment.text());
        assert_eq!((answer.status, &answer.json()["durable"]), (200, &json!(true)), "{}", answer.body);
    }
    let mut simulate = command(["simulate", "--target", "kafka", "--count", "500", "--config"]);
    let sent = finish(simulate.arg(&config)).success();
    until_consumed(&kafka, "", &service);
    until("every alert on its topic", || {
        let (mut listed, mut published) = (listed_alerts(&service), published(&kafka));
        listed.sort_unstable();
        published.sort_unstable();
        (listed.len() >= 3 && listed == published).then_some(())
    });
    let ready = service.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.body);
    let metrics = service.get("/metrics").body;
    let stopped = service.terminate();
    let mut replay = command(["replay", "--verify", "--config"]);
    replay.arg(&config).arg("--data-dir").arg(stopped.folder.path().join("data"));
    let replayed = finish(&mut replay).success();
    let verified = replayed.lines().remove(0);
    let kinds = ["decisions", "logins", "labels", "duplicates", "dead_letters", "skipped"];
    let books: u64 = kinds.iter().map(|kind| verified["books"][kind].as_u64().unwrap()).sum();
    assert_eq!(books, 503, "{verified}");
    let stdout = fs::read_to_string(stopped.folder.path().join("stdout")).unwrap();
    for said in [&ready.body, &metrics, &stopped.stderr, &stdout, &sent.stderr, &replayed.stderr] {
        assert!(!said.contains(&password), "{said}");
    }
}

#[test]
fn a_wrong_password_is_refused_and_not_shown() {
    let kafka = started();
    let folder = TempDir::new().unwrap();
    let config = config(&kafka, folder.path(), WRONG_PASSWORD);
    let stopped = serving(&config).try_start().expect_err("it must not start");
    assert!(!stopped.status.success());
    // The last line is the error, and names the brokers.
    let error = stopped.stderr.trim_end().lines().last().unwrap();
    let servers = kafka.secured().into_iter().find_map(|(name, value)| (name == "bootstrap.servers").then_some(value));
    assert!(error.starts_with("error: the brokers did not say ") && error.contains(&servers.unwrap()), "{error}");
    assert!(error.to_lowercase().contains("authentication"), "brokers that can be reached, and refuse: {error}");
    let stdout = fs::read_to_string(stopped.folder.path().join("stdout")).unwrap();
    for said in [&stopped.stderr, &stdout] {
        assert!(!said.contains(WRONG_PASSWORD) && !said.contains(&password(&kafka)), "{said}");
    }
}

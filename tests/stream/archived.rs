//! Rule sets and models in `verdict.archive`: there before anything decides by them, and enough to verify every decision
//! once the machine is gone.

use super::starts::remove;
use super::{PARTITIONS, consuming, metric, replayed};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Topics};
use verdict_tests::{Builder, Payment, Service, until, workspace};

/// As the shipped set has it, and what a test makes of it.
const DAILY_SPEND: &str = "when: user_spend_today > 5000.0";
const LOWER: &str = "when: user_spend_today > 100.0";

/// A copy of the shipped rules.
fn rules() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("default")).unwrap();
    for name in ["fx.yaml", "default/ruleset.yaml"] {
        fs::copy(workspace().join("rules").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn change(rules: &TempDir, from: &str, to: &str) {
    let file = rules.path().join("default/ruleset.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

fn with_rules(kafka: &Kafka, topics: &Topics, folder: TempDir, rules: &Path) -> Builder {
    consuming(kafka, topics.prefix(), folder).arg("--rules").arg(rules)
}

/// The version of the rule set that an answer names.
#[track_caller]
fn decide(service: &Service, id: &str) -> String {
    let answer = service.post("/v1/decide", &Payment::new("u-1", id, "12.00").text());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["ruleset"]["version"].as_str().unwrap().to_owned()
}

fn deciding(service: &Service) -> serde_json::Value {
    service.get("/readyz").json()["components"]["deciding"].clone()
}

#[test]
fn every_decision_can_be_verified_without_the_machine_that_made_it() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("machine", PARTITIONS);
    let rules = rules();
    let service = with_rules(kafka, &topics, TempDir::new().unwrap(), rules.path()).start();
    let first = decide(&service, "t-1");
    change(&rules, DAILY_SPEND, LOWER);
    until("other rules in force", || (deciding(&service)["ruleset"]["version"] != *first).then_some(()));
    assert_ne!(decide(&service, "t-2"), first);
    drop(service.kill());

    // Neither journal nor rules nor model are anywhere but in the topics.
    let lost = TempDir::new().unwrap();
    let verified = replayed(kafka, topics.prefix(), lost.path());
    for (what, expected) in [("decisions", 2), ("rulesets", 2), ("models", 1), ("differences", 0)] {
        assert_eq!(verified[what], expected, "{what}: {verified}");
    }
    assert!(!lost.path().join("data/archive").exists(), "a replay changes nothing");

    // So a start on another machine knows what the payments were summed in.
    fs::write(rules.path().join("fx.yaml"), "base: EUR\n").unwrap();
    let refused = with_rules(kafka, &topics, lost, rules.path()).try_start().expect_err("it must not start");
    assert!(refused.stderr.contains("expected the base currency USD of the payments in"), "{}", refused.stderr);
}

#[test]
fn what_cannot_be_archived_does_not_decide() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("unarchived", PARTITIONS);
    let rules = rules();
    let service = with_rules(kafka, &topics, TempDir::new().unwrap(), rules.path()).start();
    let first = decide(&service, "t-1");
    let name = topics.name("verdict.archive");
    remove(kafka, &name);
    change(&rules, DAILY_SPEND, LOWER);
    let why = until("a refused reload", || deciding(&service)["reload_failure"].as_str().map(str::to_owned));
    assert!(why.contains("SIGHUP tries again") && why.contains(&name), "{why}");
    assert!(service.stderr().contains("rules and model are not reloaded"), "{}", service.stderr());
    assert_eq!(metric(&service, "verdict_reload_failed"), 1.0);
    assert_eq!(decide(&service, "t-2"), first);

    kafka.create_topic(&name, PARTITIONS, &[("cleanup.policy", "compact"), ("max.message.bytes", "16777216")]);
    service.hang_up();
    until("other rules in force", || (deciding(&service)["ruleset"]["version"] != *first).then_some(()));
    assert_eq!(metric(&service, "verdict_reload_failed"), 0.0);
    assert_ne!(decide(&service, "t-3"), first);
    // The first rule set went with the topic: the next start of a service that has it puts it back.
    let folder = service.terminate().folder;
    let verified = replayed(kafka, topics.prefix(), folder.path());
    assert_eq!((&verified["decisions"], &verified["rulesets"]), (&3.into(), &2.into()), "{verified}");
}

#[test]
fn a_start_refuses_a_topic_that_would_forget() {
    let kafka = Kafka::shared();
    let topics = kafka.fresh_topics("forgets", PARTITIONS);
    let name = topics.name("verdict.archive");
    remove(kafka, &name);
    let refused = || {
        let builder = consuming(kafka, topics.prefix(), TempDir::new().unwrap());
        builder.try_start().expect_err("it must not start").stderr
    };
    assert!(refused().contains(&format!("expected topic `{name}`, found none")), "there is none");
    kafka.create_topic(&name, 1, &[("cleanup.policy", "delete"), ("max.message.bytes", "1048588")]);
    let told = refused();
    assert!(told.contains(&format!("{name}: expected cleanup.policy=compact, found delete")), "{told}");
    assert!(told.contains(&format!("{name}: expected max.message.bytes of at least 16777216")), "{told}");
}

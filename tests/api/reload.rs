//! Rules and model changed under a running service.

use super::{codes, decide, operate::metrics};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;
use verdict_tests::{Builder, Client, Payment, Service, lasting, replay, until, verify, workspace};

/// Copies of the shipped rules and model that a test may change.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for (from, to) in [
            ("rules/fx.yaml", "rules/fx.yaml"),
            ("rules/default/ruleset.yaml", "rules/default/ruleset.yaml"),
            ("models/default/model.onnx", "model/model.onnx"),
            ("models/default/manifest.json", "model/manifest.json"),
            ("models/default/golden.csv", "model/golden.csv"),
        ] {
            let to = folder.path().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(workspace().join(from), to).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a part of a file that is there once.
    fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    fn by_rules(&self) -> Builder {
        Service::builder().arg("--rules").arg(self.path("rules")).arg("--model").arg("")
    }
}

const RULESET: &str = "rules/default/ruleset.yaml";
const FX: &str = "rules/fx.yaml";
/// As the shipped set has it, and with a lower threshold under another version.
const DAILY_SPEND: &str = "id: daily_spend\n    version: 1\n    when: user_spend_today > 5000.0";
const LOWER: &str = "id: daily_spend\n    version: 2\n    when: user_spend_today > 100.0";

fn deciding(service: &Service) -> Value {
    let answer = service.get("/readyz");
    assert_eq!(answer.status, 200, "a reload never makes it unready: {}", answer.body);
    answer.json()["components"]["deciding"].clone()
}

fn version(service: &Service) -> String {
    deciding(service)["ruleset"]["version"].as_str().unwrap().to_owned()
}

fn wait_for_another_version(service: &Service, old: &str) -> String {
    until("another rule set in /readyz", || Some(version(service)).filter(|version| version != old))
}

/// Waits until what is in the files is refused, and gives the reason, which the log must hold as well.
fn wait_for_refusal(service: &Service) -> String {
    let failure =
        until("a refused reload in /readyz", || deciding(service)["reload_failure"].as_str().map(str::to_owned));
    let first = failure.lines().next().unwrap();
    assert!(service.stderr().contains(first), "the log says why: {first}");
    assert_eq!(metrics(service)["verdict_reload_failed"], 1.0);
    failure
}

fn wait_until_nothing_failed(service: &Service) {
    until("the failure to be cleared", || deciding(service)["reload_failure"].is_null().then_some(()));
    assert_eq!(metrics(service)["verdict_reload_failed"], 0.0);
}

fn reloads(service: &Service, outcome: &str) -> f64 {
    metrics(service)[&format!("verdict_reloads_total{{outcome=\"{outcome}\"}}")]
}

/// Sends payments of 150 USD, each of a user of its own, until told to stop.
fn call(client: &Client, number: usize, stop: &AtomicBool, answers: &Mutex<Vec<(Payment, Value)>>) {
    for serial in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let payment = Payment::new(&format!("u-{number}-{serial}"), "t", "150.00").with("deadline_ms", 30_000);
        let answer = client.post("/v1/decide", &payment.text()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answers.lock().unwrap().push((payment, answer.json()));
    }
}

#[test]
fn new_rules_take_over_under_load_and_survive_a_kill() {
    let files = Files::new();
    let service = files.by_rules().start();
    let old = version(&service);
    let (stop, answers) = (AtomicBool::new(false), Mutex::new(Vec::<(Payment, Value)>::new()));
    let clients: Vec<Client> = (0..4).map(|_| service.client()).collect();
    let count_of = |version: &str| {
        answers.lock().unwrap().iter().filter(|(_, answer)| answer["ruleset"]["version"] == *version).count()
    };
    let new = thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            let (stop, answers) = (&stop, &answers);
            scope.spawn(move || call(client, number, stop, answers));
        }
        until("answers by the old rules", || (count_of(&old) > 100).then_some(()));
        files.change(RULESET, DAILY_SPEND, LOWER);
        let new = wait_for_another_version(&service, &old);
        until("answers by the new rules", || (count_of(&new) > 100).then_some(()));
        stop.store(true, Ordering::Relaxed);
        new
    });
    let answers = answers.into_inner().unwrap();
    for (_, answer) in &answers {
        // Every part of an answer is of one generation.
        if answer["ruleset"]["version"] == *old {
            assert_eq!((codes(answer), &answer["decision"]), (vec![], &Value::from("approve")), "{answer}");
        } else {
            assert_eq!(answer["ruleset"]["version"], *new, "{answer}");
            assert_eq!((codes(answer), &answer["decision"]), (vec!["DAILY_SPEND"], &Value::from("review")), "{answer}");
            assert_eq!(answer["reasons"][0]["rule_version"], 2, "{answer}");
        }
    }
    assert_eq!((reloads(&service, "adopted"), reloads(&service, "refused")), (1.0, 0.0));

    let folder = service.kill().folder;
    let replayed = replay(folder.path()).success();
    assert_eq!(replayed.lines()[0]["rulesets"], 2, "both generations are verified: {:?}", replayed.lines());
    let service = files.by_rules().folder(folder).start();
    assert_eq!(version(&service), new);
    for (payment, first) in answers.iter().step_by(answers.len() / 100) {
        let again = until("a duplicate's answer", || {
            let answer = service.post("/v1/decide", &payment.text());
            (answer.status == 200).then(|| answer.json())
        });
        assert_eq!(again["duplicate"], true);
        assert_eq!(lasting(again), lasting(first.clone()), "whatever decides now, the first answer stands");
    }
}

#[test]
fn broken_rules_are_refused_with_their_place_until_good_ones_follow() {
    let files = Files::new();
    let service = files.by_rules().start();
    let old = version(&service);
    files.change(RULESET, "user_spend_today > 5000.0", "user_spent_today > 5000.0");
    let why = wait_for_refusal(&service);
    let line = fs::read_to_string(files.path(RULESET)).unwrap().lines().position(|l| l.contains("user_spent")).unwrap();
    assert!(why.contains(&format!("ruleset.yaml:{}:", line + 1)) && why.contains("user_spent_today"), "{why}");
    assert_eq!((reloads(&service, "refused"), version(&service)), (1.0, old.clone()));
    let decided = decide(&service, &Payment::new("u", "t-1", "5000.01"));
    assert_eq!((codes(&decided), &decided["ruleset"]["version"]), (vec!["DAILY_SPEND"], &Value::from(&*old)));

    files.change(RULESET, "user_spent_today > 5000.0", "user_spend_today > 4000.0");
    let new = wait_for_another_version(&service, &old);
    wait_until_nothing_failed(&service);
    assert_eq!(decide(&service, &Payment::new("v", "t-1", "4000.01"))["ruleset"]["version"], *new);

    // Gone, and back as it was.
    let text = fs::read(files.path(RULESET)).unwrap();
    fs::remove_file(files.path(RULESET)).unwrap();
    assert!(wait_for_refusal(&service).contains("ruleset.yaml cannot be read"));
    fs::write(files.path(RULESET), text).unwrap();
    wait_until_nothing_failed(&service);
    assert_eq!((reloads(&service, "adopted"), reloads(&service, "unchanged"), version(&service)), (1.0, 1.0, new));
}

#[test]
fn a_new_rate_prices_what_is_decided_from_then_on_and_a_new_base_currency_is_refused() {
    let files = Files::new();
    fs::write(files.path(FX), "base: USD\nrates: {EUR: \"1.00\"}\n").unwrap();
    let service = files.by_rules().start();
    let old = version(&service);
    let euros = |user: &str, id: &str| Payment::new(user, id, "600.00").with("currency", "EUR");
    let first = euros("u", "t-1");
    assert_eq!(decide(&service, &first)["decision"], "approve");
    fs::write(files.path(FX), "base: USD\nrates: {EUR: \"10.00\", CHF: \"1.00\"}\n").unwrap();
    let new = wait_for_another_version(&service, &old);
    assert_eq!(codes(&decide(&service, &euros("v", "t-1"))), ["DAILY_SPEND"], "6,000 USD");
    let again = decide(&service, &first);
    assert_eq!((&again["duplicate"], &again["decision"]), (&Value::from(true), &Value::from("approve")), "{again}");
    until("the new currency to be let in", || {
        let francs = Payment::new("w", "t-1", "1.00").with("currency", "CHF");
        (service.post("/v1/decide", &francs.text()).status == 200).then_some(())
    });

    fs::write(files.path(FX), "base: EUR\nrates: {USD: \"0.90\"}\n").unwrap();
    let why = wait_for_refusal(&service);
    assert!(why.contains("expected the base currency USD that is in force, found EUR"), "{why}");
    assert_eq!(version(&service), new);
    fs::write(files.path(FX), "base: USD\nrates: {EUR: \"10.00\", CHF: \"1.00\"}\n").unwrap();
    wait_until_nothing_failed(&service);
    verify(service.terminate().folder.path());
}

#[test]
fn sighup_reloads_at_once_without_watching() {
    let files = Files::new();
    let builder = || files.by_rules().env("VERDICT__RULES__WATCH", "false");
    let service = builder().spawn_only();
    let lock = service.folder().join("data/lock");
    // During the start: it does not end the process, and is heard afterwards.
    until("the data folder's lock", || lock.exists().then_some(()));
    service.hang_up();
    until("the service to be ready", || {
        service.try_request("GET", "/readyz", &[], "").is_ok_and(|answer| answer.status == 200).then_some(())
    });
    let unchanged = until("the first SIGHUP to be heard", || Some(reloads(&service, "unchanged")).filter(|n| *n > 0.0));
    let old = version(&service);
    files.change(RULESET, DAILY_SPEND, LOWER);
    service.hang_up();
    let new = wait_for_another_version(&service, &old);
    assert_eq!(decide(&service, &Payment::new("u", "t", "100.01"))["ruleset"]["version"], *new);
    service.hang_up();
    until("another SIGHUP to be heard", || (reloads(&service, "unchanged") > unchanged).then_some(()));
    assert_eq!(reloads(&service, "adopted"), 1.0);
    let stopped = service.terminate();
    assert!(stopped.status.success(), "{}", stopped.stderr);
}

#[test]
fn a_model_that_is_not_what_it_says_is_refused_and_the_old_one_scores_on() {
    let files = Files::new();
    let service =
        Service::builder().arg("--rules").arg(files.path("rules")).arg("--model").arg(files.path("model")).start();
    let patient = |user: &str| Payment::new(user, "t", "1.00").with("deadline_ms", 30_000);
    let first = decide(&service, &patient("u-1"));
    let model = files.path("model/model.onnx");
    let whole = fs::read(&model).unwrap();
    let mut harmed = whole.clone();
    *harmed.last_mut().unwrap() ^= 1;
    fs::write(&model, harmed).unwrap();
    let why = wait_for_refusal(&service);
    assert!(why.contains("model.onnx: expected sha256") && why.contains("manifest.json"), "{why}");
    let scored = decide(&service, &patient("u-2"));
    assert_eq!((&scored["model"], &scored["mode"]), (&first["model"], &Value::from("normal")), "{scored}");
    assert!(scored["score"].is_f64(), "{scored}");

    fs::write(&model, whole).unwrap();
    wait_until_nothing_failed(&service);
    let version = first["model"]["version"].as_str().unwrap();
    files.change("model/manifest.json", &format!("\"version\": \"{version}\""), "\"version\": \"another\"");
    until("the other model in /readyz", || (deciding(&service)["model"]["version"] == "another").then_some(()));
    let scored = decide(&service, &patient("u-3"));
    assert_eq!(scored["model"]["version"], "another", "{scored}");
    assert_eq!(scored["model"]["sha256"], deciding(&service)["model"]["sha256"]);
    verify(service.kill().folder.path());
}

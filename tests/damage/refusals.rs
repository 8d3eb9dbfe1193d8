//! Starts that are refused: each with a message that says what to do, a code other than 0, and at once.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use verdict_tests::{Ended, Payment, Service, run, workspace};

/// Runs `verdict serve` in a data directory of its own; it is expected to end.
fn serve(args: &[&str]) -> Ended {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    run([&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data], args].concat())
}

#[track_caller]
fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "expected {word:?} in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("stack backtrace"), "{}", ended.stderr);
}

/// Within a second, at the best of a few attempts: other tests keep the machine busy.
#[track_caller]
fn refused_at_once(attempt: impl Fn() -> Ended, code: i32, words: &[&str]) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let ended = attempt();
        refused(&ended, code, words);
        best = best.min(ended.seconds);
        if best < 1.0 {
            return;
        }
    }
    panic!("expected a refusal within a second, the fastest took {best} s");
}

/// A copy of the shipped model, to be changed.
fn model() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("model");
    fs::create_dir(&dir).unwrap();
    for file in ["model.onnx", "manifest.json", "golden.csv"] {
        fs::copy(workspace().join("models/default").join(file), dir.join(file)).unwrap();
    }
    (folder, dir)
}

fn change(file: &Path, change: impl FnOnce(String) -> String) {
    fs::write(file, change(fs::read_to_string(file).unwrap())).unwrap();
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let service = Service::start();
    let data = service.folder().join("data").display().to_string();
    let attempt = || run(["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    refused_at_once(attempt, 1, &[&format!("is used by process {}; stop it", service.pid())]);
    assert_eq!(service.get("/readyz").status, 200, "the first one goes on");
}

#[test]
fn an_address_in_use_is_refused() {
    let service = Service::start();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    let ended = run(["serve", "--listen", &service.addr().to_string(), "--data-dir", &data]);
    refused(&ended, 1, &["cannot listen on", "choose another with --listen"]);
}

#[test]
fn a_missing_model_is_refused() {
    refused_at_once(|| serve(&["--model", "/nowhere/model"]), 1, &["/nowhere/model"]);
    for file in ["model.onnx", "manifest.json", "golden.csv"] {
        let (_keep, dir) = model();
        fs::remove_file(dir.join(file)).unwrap();
        refused(&serve(&["--model", dir.to_str().unwrap()]), 1, &["is refused", file]);
    }
}

#[test]
fn a_model_that_is_not_the_one_of_its_manifest_is_refused() {
    let (_keep, dir) = model();
    let mut bytes = fs::read(dir.join("model.onnx")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(dir.join("model.onnx"), bytes).unwrap();
    refused(&serve(&["--model", dir.to_str().unwrap()]), 1, &["is refused", "model.onnx: expected sha256"]);
}

#[test]
fn golden_rows_that_come_out_differently_are_refused() {
    let (_keep, dir) = model();
    change(&dir.join("golden.csv"), |text| {
        let row = text.lines().nth(5).unwrap().to_owned();
        let cells: Vec<&str> = row.split(',').collect();
        let (score, score_at) = (cells[cells.len() - 2], cells.len() - 2);
        let wrong = format!("{}", score.parse::<f64>().unwrap() + 0.01);
        let mut changed = cells.clone();
        changed[score_at] = &wrong;
        text.replace(&row, &changed.join(","))
    });
    let words = ["is refused", "golden.csv: 1 of 2000 rows differ, the first in line 6"];
    refused(&serve(&["--model", dir.to_str().unwrap()]), 1, &words);
}

#[test]
fn a_model_of_another_feature_schema_is_refused() {
    let (_keep, dir) = model();
    change(&dir.join("manifest.json"), |text| {
        let at = text.find("\"feature_schema\": \"").unwrap() + "\"feature_schema\": \"".len();
        format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])
    });
    refused(&serve(&["--model", dir.to_str().unwrap()]), 1, &["is refused", "expected feature_schema"]);
}

#[test]
fn a_missing_or_wrong_runtime_library_is_refused() {
    let with = |library: &str| {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut command = verdict_tests::command(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data).env("VERDICT__MODEL__RUNTIME_LIBRARY", library);
        verdict_tests::finish(&mut command)
    };
    refused_at_once(|| with("/nowhere/libonnxruntime.so"), 1, &["/nowhere/libonnxruntime.so", "make setup"]);
    let text = workspace().join("Cargo.toml").display().to_string();
    refused_at_once(|| with(&text), 1, &["expected ONNX Runtime", "found no such library"]);
    let mut command = verdict_tests::command(["serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/none"]);
    command.env("ORT_DYLIB_PATH", "/nowhere/by-variable.so");
    refused(&verdict_tests::finish(&mut command), 1, &["/nowhere/by-variable.so"]);
}

/// Five faults, one of each kind, on lines of their own.
const FAULTY: &str = r#"rules:
  - id: unknown_feature
    version: 1
    when: user_spent_today > 5000.0
    outcome: review
    reason: {code: A, message: "a"}
  - id: wrong_type
    version: 1
    when: user_count_1h > "ten"
    outcome: review
    reason: {code: B, message: "b"}
  - id: bad_outcome
    version: 1
    when: amount > 1.0
    outcome: refuse
    reason: {code: C, message: "c"}
  - id: unfinished
    version: 1
    when: amount >
    outcome: review
    reason: {code: D, message: "d"}
  - id: unknown_in_message
    version: 1
    when: amount > 1.0
    outcome: review
    reason: {code: E, message: "{nothing} to see"}
policy:
  model_bands: [{above: 0.8, outcome: block, code: MODEL_HIGH_RISK}]
  on_block: {list: user, ttl: 24h}
  fallback: {above_amount: "500.00", outcome: review, otherwise: approve}
"#;

#[test]
fn every_error_of_a_rule_set_is_listed_with_its_place() {
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir_all(rules.join("default")).unwrap();
    fs::copy(workspace().join("rules/fx.yaml"), rules.join("fx.yaml")).unwrap();
    let features = workspace().join("rules/features.yaml");
    if features.exists() {
        fs::copy(features, rules.join("features.yaml")).unwrap();
    }
    fs::write(rules.join("default/ruleset.yaml"), FAULTY).unwrap();
    let rules = rules.display().to_string();
    for ended in [serve(&["--rules", &rules]), run(["rules", "check", &rules])] {
        assert!(!ended.status.success());
        let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.stderr;
        // Line and column of each fault in the text above.
        for place in ["4:11", "9:27", "15:14", "19:19", "26:34"] {
            let place = format!("ruleset.yaml:{place}");
            assert!(said.contains(&place), "expected a fault at {place} in\n{said}");
        }
        assert!(said.contains("user_spend_today"), "a suggestion for the misspelt feature: {said}");
    }
}

#[test]
fn an_open_service_beyond_loopback_is_refused() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let ended = run(["serve", "--listen", listen, "--data-dir", &data]);
        refused(&ended, 2, &["http.api_keys", "or listen on 127.0.0.1"]);
    }
    assert!(!Path::new(&data).exists(), "it is refused before anything is made");
}

#[test]
fn another_base_currency_than_the_profiles_have_is_refused() {
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir_all(rules.join("default")).unwrap();
    for file in ["fx.yaml", "default/ruleset.yaml"] {
        fs::copy(workspace().join("rules").join(file), rules.join(file)).unwrap();
    }
    let base = |code: &str, other: &str| {
        fs::write(rules.join("fx.yaml"), format!("base: {code}\nrates: {{{other}: \"1.08\"}}\n")).unwrap();
    };
    let builder = || Service::builder().arg("--rules").arg(&rules).arg("--model").arg("");
    base("EUR", "USD");
    // Nothing was decided yet: there is no sum in any currency.
    let folder = builder().start().terminate().folder;
    base("USD", "EUR");
    let service = builder().folder(folder).start();
    assert_eq!(service.post("/v1/decide", &Payment::new("u", "t-1", "4000.00").text()).status, 200);
    // Killed, so that only the journal knows.
    let folder = service.kill().folder;
    base("EUR", "USD");
    let stopped = builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1), "{}", stopped.stderr);
    for part in
        ["expected the base currency USD of the payments in", "found EUR", "put USD back, or start with an empty"]
    {
        assert!(stopped.stderr.contains(part), "expected {part:?} in {}", stopped.stderr);
    }
    base("USD", "EUR");
    let service = builder().folder(stopped.folder).start();
    let profile = service.get("/v1/users/u/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 1, "{profile}");
}

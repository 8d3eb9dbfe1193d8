//! Small histories whose every line is known.

use super::{assert_accounted, backtest};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use tempfile::TempDir;
use verdict_tests::{DAY_MS, Ended, Payment, label, login, run};

/// Noon of a Wednesday years ago: a backtest does not care what time it is now.
const NOON: i64 = 1_583_323_200_000 / DAY_MS * DAY_MS + DAY_MS / 2;

fn history(lines: &[String]) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("history.ndjson");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    (folder, path)
}

/// The decisions on stdout, without the summary.
fn decisions(ended: &Ended) -> Vec<Value> {
    let mut lines = ended.lines();
    lines.pop();
    lines
}

fn pay(id: &str, amount: &str, at: i64) -> String {
    Payment::new("u-1", id, amount).at(at).place(0.0, 8.0).text()
}

#[test]
fn every_kind_of_line_is_accounted_for() {
    let far_too_long = format!("{{\"transaction_id\": \"{}\"}}", "x".repeat(70_000));
    let lines = [
        pay("t-1", "10.00", NOON),
        login("u-1", "l-1", NOON + 1_000, (0.0, 0.0)).to_string(),
        pay("t-2", "20.00", NOON + 2_000),
        String::new(),
        pay("t-2", "20.00", NOON + 2_000),
        pay("t-2", "20.01", NOON + 2_000),
        login("u-1", "l-1", NOON + 1_000, (0.0, 0.0)).to_string(),
        label("u-1", "t-1", NOON + 3_000, true).to_string(),
        label("u-1", "t-1", NOON + 3_000, true).to_string(),
        "{\"transaction_id\": ".to_owned(),
        far_too_long,
        pay("t-3", "0.00", NOON + 3_000),
        pay("t-4", "4980.01", NOON + 4_000),
        // An hour late, in the place where it belongs: before the login.
        pay("t-5", "1.00", NOON - 3_600_000),
        pay("t-6", "1.00", NOON + 8 * DAY_MS),
        pay("t-7", "1.00", NOON + 4_000 + 5),
        Payment::new("u-2", "t-1", "5000.01").at(NOON + 8 * DAY_MS).text(),
    ];
    let (_keep, path) = history(&lines);
    let (ended, mut summary) = backtest(&path, &["--model", ""]);
    assert_accounted(&summary);
    assert!(summary["seconds"].take().as_f64().unwrap() >= 0.0);
    let expected = json!({
        "rows": 16, "decided": 6, "duplicates": 3, "logins": 1, "labels": 1, "alerts": 3,
        "dead_letters": {"ID_REUSED": 1, "NOT_JSON": 1, "TOO_LARGE": 1, "AMOUNT_TOO_SMALL": 1, "TOO_OLD": 1},
        "decisions": {"approve": 3, "challenge": 0, "review": 3, "block": 0}, "seconds": null,
    });
    assert_eq!(summary, expected);
    let found: Vec<(String, String)> = decisions(&ended)
        .iter()
        .map(|line| {
            (line["transaction_id"].as_str().unwrap().to_owned(), line["decision"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("t-1", "approve"),
        ("t-2", "review"),
        ("t-4", "review"),
        ("t-5", "approve"),
        ("t-6", "approve"),
        ("t-1", "review"),
    ];
    assert_eq!(found, expected.map(|(id, outcome)| (id.to_owned(), outcome.to_owned())));
    for word in ["line=10 reason=\"NOT_JSON\"", "line=12 reason=\"AMOUNT_TOO_SMALL\""] {
        assert!(ended.stderr.contains(word), "expected {word} in\n{}", ended.stderr);
    }
}

#[test]
fn thousands_of_events_of_one_user_come_in_order() {
    let lines: Vec<String> = (0..5_000).map(|number| pay(&format!("t-{number}"), "0.50", NOON + number)).collect();
    let (_keep, path) = history(&lines);
    for model in [&["--features"][..], &["--features", "--model", ""]] {
        let (ended, summary) = backtest(&path, model);
        assert_eq!(summary["decided"], 5_000, "{summary}");
        for (number, decision) in decisions(&ended).iter().enumerate() {
            assert_eq!(decision["transaction_id"], format!("t-{number}"));
            assert_eq!(decision["features"]["user_count_24h"], number + 1, "{decision}");
        }
    }
}

#[test]
fn an_output_file_takes_the_decisions_and_stdout_the_summary() {
    let lines: Vec<String> = (0..50).map(|number| pay(&format!("t-{number}"), "1.00", NOON + number)).collect();
    let (keep, path) = history(&lines);
    let output = keep.path().join("decisions.ndjson");
    let (ended, summary) = backtest(&path, &["--model", "", "--output", output.to_str().unwrap()]);
    assert_eq!(ended.lines().len(), 1, "the summary alone");
    assert_eq!(summary["decided"], 50);
    let decided = fs::read_to_string(&output).unwrap();
    assert_eq!(decided.lines().count(), 50);
    for line in decided.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["duplicate"], &line["features"]), (&json!(false), &Value::Null), "{line}");
    }
    assert!(!keep.path().join("data").exists());
}

#[test]
fn csv_and_gzip_are_read() {
    let folder = TempDir::new().unwrap();
    let text = "is_fraud,amount,merchant_id,user_id,timestamp,transaction_id\n\
                0,10.50,m-1,u-1,2020-03-04T12:00:00Z,t-1\n\
                1,0.00,m-1,u-1,2020-03-04T12:00:01Z,t-2\n\
                1,20.00,\"m, 2\",u-1,2020-03-04T12:00:02Z,t-3\n\
                0,5.00,m-1,u-1,2020-03-12T12:00:02Z,t-4\n";
    let plain = folder.path().join("history.csv");
    fs::write(&plain, text).unwrap();
    let packed = folder.path().join("packed.gz");
    let mut encoder = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let runs = [
        backtest(&plain, &["--model", "", "--features"]),
        backtest(&packed, &["--format", "csv", "--model", "", "--features"]),
    ];
    for (ended, summary) in &runs {
        assert_eq!((&summary["rows"], &summary["decided"]), (&json!(4), &json!(3)), "{summary}");
        assert_eq!(summary["dead_letters"], json!({"AMOUNT_TOO_SMALL": 1}));
        assert_eq!(summary["labels"], 2, "two of the rows' labels are known by the last row: {summary}");
        let sums: Vec<f64> =
            decisions(ended).iter().map(|line| line["features"]["user_sum_30d"].as_f64().unwrap()).collect();
        assert_eq!(sums, [10.5, 30.5, 35.5]);
    }
    fs::write(&plain, "transaction_id,when,user_id,merchant_id,amount\n").unwrap();
    let ended = run(["backtest", "--input", plain.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("found none named timestamp"), "{}", ended.stderr);
    let ended = run(["backtest", "--input", "/nowhere.csv"]);
    assert!(!ended.status.success() && ended.stderr.contains("/nowhere.csv"), "{}", ended.stderr);
    let truncated = fs::read(&packed).unwrap();
    fs::write(&packed, &truncated[..truncated.len() / 2]).unwrap();
    let ended = run(["backtest", "--input", packed.to_str().unwrap(), "--format", "csv", "--model", ""]);
    assert!(
        !ended.status.success() && ended.stderr.contains("packed.gz"),
        "a cut file is no whole history: {}",
        ended.stderr
    );
}

/// A quote that does not close must not swallow the lines after it, least of all in a column that nobody reads.
#[test]
fn a_stray_quote_costs_its_own_line() {
    let folder = TempDir::new().unwrap();
    let plain = folder.path().join("history.csv");
    let rows = (0..2_000).map(|number| {
        let note = if number == 10 { "5\" and \"" } else { "plain" };
        let note = if number == 20 { "\"never closed" } else { note };
        format!("t-{number},2020-03-04T12:{:02}:{:02}Z,u-1,m-1,0.50,{note}\n", number / 60, number % 60)
    });
    let header = "transaction_id,timestamp,user_id,merchant_id,amount,note\n".to_owned();
    fs::write(&plain, [header].into_iter().chain(rows).collect::<String>()).unwrap();
    let (ended, summary) = backtest(&plain, &["--model", ""]);
    assert_accounted(&summary);
    assert_eq!((&summary["rows"], &summary["decided"]), (&json!(2_000), &json!(1_999)), "{summary}");
    assert_eq!(summary["dead_letters"], json!({"NOT_CSV": 1}));
    assert!(ended.stderr.contains("line=22 reason=\"NOT_CSV\""), "{}", ended.stderr);
    assert!(ended.stderr.contains("found a quote that does not close"), "{}", ended.stderr);

    let long = format!("t-1,2020-03-04T12:00:00Z,u-1,m-1,0.50,{}\n", "x".repeat(70_000));
    let broken = "t-2,2020-03-04T12:00:01Z,u-1,m-1,0.50,\"two\nlines\"\n";
    let last = "t-3,2020-03-04T12:00:02Z,u-1,m-1,0.50,\"a, b\"";
    let header = "\n\u{feff}transaction_id,timestamp,user_id,merchant_id,amount,note\r\n";
    fs::write(&plain, [header, &long, broken, last].concat()).unwrap();
    let (_, summary) = backtest(&plain, &["--model", ""]);
    assert_eq!((&summary["rows"], &summary["decided"]), (&json!(4), &json!(1)), "{summary}");
    assert_eq!(summary["dead_letters"], json!({"NOT_CSV": 1, "TOO_LARGE": 1, "MISSING_FIELD": 1}));

    fs::write(&plain, "transaction_id,timestamp,user_id,merchant_id,amount,\"note\n").unwrap();
    let ended = run(["backtest", "--input", plain.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("the header: expected every quoted cell"), "{}", ended.stderr);
}

/// Nothing says that a later date is wrong; what it does to the rest must not come as a riddle.
#[test]
fn a_wrong_year_is_warned_of() {
    let lines = [
        pay("t-1", "1.00", NOON),
        pay("t-2", "1.00", NOON + DAY_MS),
        pay("t-3", "1.00", NOON + 367 * DAY_MS),
        pay("t-4", "1.00", NOON + DAY_MS + 1),
        pay("t-5", "1.00", NOON + 400 * DAY_MS),
    ];
    let (_keep, path) = history(&lines);
    let (ended, summary) = backtest(&path, &["--model", ""]);
    assert_eq!((&summary["decided"], &summary["dead_letters"]), (&json!(4), &json!({"TOO_OLD": 1})), "{summary}");
    let warned = ended.stderr.matches("event time leaps").count();
    assert!(warned == 1 && ended.stderr.contains("line=3 days=366"), "the first of many: {}", ended.stderr);
}

#[test]
fn blocks_run_from_the_time_of_the_event() {
    // Small payments at one merchant in quick succession, until the shipped model blocks; then a day of silence.
    let probes = (0..60).map(|number| {
        let amount = format!("{}.{:02}", number % 3, 40 + number % 50);
        pay(&format!("probe-{number}"), &amount, NOON + number * 14_000)
    });
    let mut lines: Vec<String> = probes.collect();
    let (_keep, path) = history(&lines);
    let (ended, _) = backtest(&path, &[]);
    let all = decisions(&ended);
    let high =
        |line: &Value| line["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == "MODEL_HIGH_RISK");
    let first = all.iter().position(high).expect("the shipped model sees sixty small payments at one merchant");
    lines.truncate(first + 1);
    let blocked_at = NOON + first as i64 * 14_000;
    let later = |id: &str, at: i64| Payment::new("u-1", id, "25.00").with("merchant_id", "m-2").at(at).text();
    lines.push(later("within", blocked_at + DAY_MS - 1));
    lines.push(later("after", blocked_at + DAY_MS));
    let (_keep, path) = history(&lines);
    let (ended, _) = backtest(&path, &[]);
    let listed = |line: &Value| line["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == "BLOCK_LIST");
    let found: Vec<bool> = decisions(&ended)[first..].iter().map(listed).collect();
    assert_eq!(found, [false, true, false], "{}", lines.join("\n"));
}

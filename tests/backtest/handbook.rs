//! The transactions of the Fraud Detection Handbook: three months, of which every row is accounted for, and whose window
//! features its authors computed with other code.
//!
//! The data are not part of the project. They are looked for at `../shared/data/handbook` beside it, or where
//! `VERDICT_HANDBOOK` says; without them the test says so and proves nothing.

use super::{assert_accounted, backtest};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use verdict_tests::{DAY_MS, text_setting, workspace};

const ROWS: u64 = 872_795;
/// Rows with an amount under 0.01.
const REFUSED: u64 = 19;

/// Columns of the handbook's sample, and the features that must be equal to them.
const COLUMNS: [(&str, &str); 6] = [
    ("user_nb_tx_1day", "user_count_24h"),
    ("user_avg_amount_1day", "user_mean_24h"),
    ("user_nb_tx_7day", "user_count_7d"),
    ("user_avg_amount_7day", "user_mean_7d"),
    ("user_nb_tx_30day", "user_count_30d"),
    ("user_avg_amount_30day", "user_mean_30d"),
];

#[derive(Default)]
struct Known {
    /// By transaction: user and second.
    rows: HashMap<u32, (u32, i64)>,
    /// By user: seconds of rows that the service refuses.
    refused: HashMap<u32, Vec<i64>>,
    /// Users and seconds that more than one row shares.
    ties: HashSet<(u32, i64)>,
}

fn cells(path: &Path) -> (Vec<String>, impl Iterator<Item = Vec<String>>) {
    let split = |line: String| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines().map(Result::unwrap);
    let header = split(lines.next().unwrap());
    (header, lines.map(split))
}

fn known(path: &Path) -> Known {
    let (header, rows) = cells(path);
    let column = |name: &str| header.iter().position(|found| found == name).unwrap();
    let (id, at, user, amount) = (column("transaction_id"), column("timestamp"), column("user_id"), column("amount"));
    let mut known = Known::default();
    let mut seen = HashSet::new();
    for row in rows {
        let second = row[at].parse::<jiff::Timestamp>().unwrap().as_second();
        let user: u32 = row[user].parse().unwrap();
        if !seen.insert((user, second)) {
            known.ties.insert((user, second));
        }
        if row[amount].parse::<f64>().unwrap() < 0.01 {
            known.refused.entry(user).or_default().push(second);
        }
        known.rows.insert(row[id].parse().unwrap(), (user, second));
    }
    known
}

/// Compares the sample with what the service computed; gives the rows that are met, that are not and may not be, and
/// the number of all.
fn compare(sample: &Path, decisions: &Path, known: &Known) -> (usize, Vec<String>, usize) {
    let (header, rows) = cells(sample);
    let column = |name: &str| header.iter().position(|found| found == name).unwrap();
    let columns = COLUMNS.map(|(theirs, _)| column(theirs));
    let mut expected: HashMap<u32, [f64; 6]> = rows
        .map(|row| (row[column("transaction_id")].parse().unwrap(), columns.map(|column| row[column].parse().unwrap())))
        .collect();
    let all = expected.len();
    let (mut met, mut wrong) = (0, Vec::new());
    for line in BufReader::new(File::open(decisions).unwrap()).lines().map(Result::unwrap) {
        let id: u32 = line.split("\"transaction_id\":\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        let Some(theirs) = expected.remove(&id) else { continue };
        let decision: Value = serde_json::from_str(&line).unwrap();
        let ours = COLUMNS.map(|(_, name)| decision["features"][name].as_f64().unwrap());
        let (user, second) = known.rows[&id];
        let near = |refused: &i64| *refused <= second && *refused > second - 30 * DAY_MS / 1_000;
        let misses_a_row = known.refused.get(&user).is_some_and(|refused| refused.iter().any(near));
        if ours.iter().zip(theirs).all(|(ours, theirs)| (ours - theirs).abs() <= 1e-6) {
            met += 1;
        } else if !misses_a_row && !known.ties.contains(&(user, second)) {
            wrong.push(format!("transaction {id}: expected {theirs:?}, found {ours:?}"));
        }
    }
    // What is left was not decided: only what is refused may be.
    for id in expected.keys() {
        let (user, second) = known.rows[id];
        if !known.refused.get(&user).is_some_and(|refused| refused.contains(&second)) {
            wrong.push(format!("transaction {id} was not decided"));
        }
    }
    (met, wrong, all)
}

/// Says what was not tested past the test runner, which keeps what a test that passes prints to itself.
fn skipped(why: &str) {
    let _ = std::io::stderr()
        .write_all(format!("SKIPPED the_handbook_is_decided_and_its_features_are_met: {why}\n").as_bytes());
}

#[test]
fn the_handbook_is_decided_and_its_features_are_met() {
    let beside = || workspace().join("../shared/data/handbook");
    let folder = text_setting("VERDICT_HANDBOOK").map_or_else(beside, PathBuf::from);
    let transactions = folder.join("transactions-2018-04_06.csv.gz");
    let sample = folder.join("features-2018-05_06-sample.csv.gz");
    if !transactions.exists() || !sample.exists() {
        skipped(&format!("the handbook's data are not at {}; VERDICT_HANDBOOK says where they are", folder.display()));
        return;
    }
    let keep = TempDir::new().unwrap();
    let output = keep.path().join("decisions.ndjson");
    // Features do not depend on the model, which would take most of the time.
    let args = ["--format", "csv", "--model", "", "--features", "--output", output.to_str().unwrap()];
    let (ended, summary) = backtest(&transactions, &args);
    println!("{summary} in {:.0} s", ended.seconds);
    assert_eq!((&summary["rows"], &summary["decided"]), (&json!(ROWS), &json!(ROWS - REFUSED)), "{summary}");
    assert_eq!(summary["dead_letters"], json!({"AMOUNT_TOO_SMALL": REFUSED}), "{summary}");
    assert_eq!((&summary["duplicates"], &summary["logins"]), (&json!(0), &json!(0)), "{summary}");
    // Labels come with the rows and are no rows of their own.
    let mut rows_alone = summary.clone();
    rows_alone["labels"] = json!(0);
    assert_accounted(&rows_alone);

    let known = known(&transactions);
    assert_eq!(known.rows.len() as u64, ROWS);
    assert_eq!(known.refused.values().map(Vec::len).sum::<usize>() as u64, REFUSED);
    let (met, wrong, all) = compare(&sample, &output, &known);
    println!("{met} of {all} sampled rows met to 1e-6");
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
    assert!(met as f64 >= 0.997 * all as f64, "{met} of {all}");
}

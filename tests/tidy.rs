//! House rules that matter, as tests: the shape of files, the walls between rooms, what the README promises first.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use verdict_tests::workspace;

/// Longest source file, in lines.
const MAX_LINES: usize = 450;
/// Tables of figures, which may be longer.
const DATA_TABLES: [&str; 0] = [];

/// A source file: its path from the workspace's root, and its text.
struct Source {
    path: String,
    text: String,
}

fn sources(under: &str, extension: &str) -> Vec<Source> {
    let mut folders = vec![workspace().join(under)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path: relative(&path) });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned()
}

fn rust() -> Vec<Source> {
    let all: Vec<Source> = ["service", "tests", "load-tests"].iter().flat_map(|root| sources(root, "rs")).collect();
    assert!(all.len() > 40, "found only {} files: is the workspace where it should be?", all.len());
    all
}

#[track_caller]
fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// Lines that hold any of the words, as `path:line: word`.
fn lines_with(source: &Source, words: &[&str]) -> Vec<String> {
    let numbered = source.text.lines().enumerate();
    let hit = |line: &str| words.iter().find(|word| line.contains(**word)).copied();
    numbered.filter_map(|(at, line)| Some(format!("{}:{}: {}", source.path, at + 1, hit(line)?))).collect()
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut faults = Vec::new();
    for Source { path, text } in rust() {
        if !text.starts_with("//! ") {
            faults.push(format!("{path} does not open with `//! `"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES && !DATA_TABLES.contains(&path.as_str()) {
            faults.push(format!("{path} has {lines} lines, more than {MAX_LINES}"));
        }
    }
    assert_none(&faults, "files open with a module doc and stay short");
    let main = fs::read_to_string(workspace().join("service/app/src/main.rs")).unwrap();
    assert!(main.lines().count() <= 60, "main.rs only starts the command line");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [concat!("#[ig", "nore"), concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut all = rust();
    all.extend(["tests", "models", "load-tests"].iter().flat_map(|root| sources(root, "py")));
    let faults: Vec<String> = all.iter().flat_map(|source| lines_with(source, &words)).collect();
    assert_none(&faults, "tests run, and work is done or in the issue tracker");
}

/// Paths that a source names under `crate::`, use trees spread out: `crate::a::{b, c::d}` gives `a::b` and `a::c::d`.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        spread("", &code[at + "crate::".len()..], &mut paths);
    }
    paths
}

/// Reads one use tree; gives what follows it.
fn spread<'t>(prefix: &str, text: &'t str, paths: &mut BTreeSet<String>) -> &'t str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (head, mut rest) = text.split_at(end);
    let path = format!("{prefix}{head}");
    if !(path.ends_with("::") && rest.starts_with('{')) {
        paths.insert(path.trim_end_matches(':').to_owned());
        return rest;
    }
    while let Some(inner) = rest.strip_prefix(['{', ',']) {
        let inner = inner.trim_start();
        rest = if inner.starts_with('}') { inner } else { spread(&path, inner, paths).trim_start() };
        if let Some(renamed) = rest.strip_prefix("as ") {
            rest = renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
        }
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

#[test]
fn use_trees_are_spread_out() {
    let text =
        "use crate::journal::{Journal, record::{Record as R, Body}, };\n// crate::model::X\nlet x: crate::wire::Y<Z>;";
    let found: Vec<String> = crate_paths(text).into_iter().collect();
    assert_eq!(found, ["journal::Journal", "journal::record::Body", "journal::record::Record", "wire::Y"]);
}

#[test]
fn rooms_do_not_know_one_another() {
    const ROOMS: [&str; 4] = ["ingress", "journal", "model", "projections"];
    // The journal's port is where rooms meet: its record, and the names that its `mod.rs` defines itself.
    let port = |path: &str| {
        path.strip_prefix("journal::")
            .is_some_and(|name| name.starts_with("record::") || name.starts_with(char::is_uppercase))
    };
    let mut faults = Vec::new();
    for room in ROOMS {
        for source in sources(&format!("service/app/src/{room}"), "rs") {
            for path in crate_paths(&source.text) {
                let other = path.split("::").next().unwrap_or_default();
                if ROOMS.contains(&other) && other != room && !port(&path) {
                    faults.push(format!("{}: {room} names crate::{path}", source.path));
                }
            }
        }
    }
    assert_none(&faults, "ingress, journal, model and projections meet in app.rs and in actors only");
    let upwards: Vec<String> = ["config", "telemetry"]
        .iter()
        .flat_map(|room| sources(&format!("service/app/src/{room}"), "rs"))
        .flat_map(|source| {
            let paths = crate_paths(&source.text).into_iter();
            paths.filter(|path| !path.starts_with("config") && !path.starts_with("telemetry")).collect::<Vec<_>>()
        })
        .collect();
    assert_none(&upwards, "config and telemetry know no other room");
    let plumbing: Vec<String> = sources("service/app/src/kafka", "rs")
        .iter()
        .flat_map(|source| crate_paths(&source.text))
        .filter(|path| !["config", "kafka", "telemetry"].iter().any(|room| path.split("::").next() == Some(room)))
        .collect();
    assert_none(&plumbing, "kafka is plumbing: it knows config and telemetry, and no room that uses it");
}

#[test]
fn the_core_is_pure() {
    const DEPENDENCIES: [&str; 8] =
        ["cel", "saphyr-parser", "sha1", "sha2", "strsim", "thiserror", "uuid", "xxhash-rust"];
    let manifest = fs::read_to_string(workspace().join("service/core/Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let named = section.lines().filter_map(|line| line.split(['.', '=', ' ']).next()).filter(|name| !name.is_empty());
    let strangers: Vec<String> = named.filter(|name| !DEPENDENCIES.contains(name)).map(str::to_owned).collect();
    assert_none(&strangers, "the core depends on no runtime, no serde_json, no native library (I5)");
    let impure = [
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "std::thread",
        "std::process",
        "SystemTime",
        "std::time",
        "Mutex",
        "RwLock",
        "async fn",
        "println!",
    ];
    let core = sources("service/core/src", "rs");
    assert!(core.len() > 10);
    let faults: Vec<String> = core.iter().flat_map(|source| lines_with(source, &impure)).collect();
    assert_none(&faults, "the core does no I/O, reads no clock, spawns nothing, holds no lock (I5)");
}

#[test]
fn metrics_clock_and_environment_have_their_rooms() {
    let app = sources("service/app/src", "rs");
    let outside = |room: &'static str, words: &'static [&'static str]| -> Vec<String> {
        let tests = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
        let strangers = app.iter().filter(move |source| !source.path.starts_with(room) && !tests(&source.path));
        strangers.flat_map(|source| lines_with(source, words)).collect()
    };
    let telemetry = "service/app/src/telemetry/";
    const METRICS: [&str; 6] =
        ["use metrics", "counter!(", "gauge!(", "histogram!(", "describe_counter", "metrics_exporter"];
    assert_none(&outside(telemetry, &METRICS), "metrics are recorded by telemetry::events");
    assert_none(&outside(telemetry, &["SystemTime::now", "Instant::now()"]), "only telemetry::clock reads a clock");
    assert_none(&outside("service/app/src/config/", &["env::var"]), "only config reads the environment");
}

#[test]
fn the_readme_shows_the_way_in_first() {
    let readme = fs::read_to_string(workspace().join("README.md")).expect("README.md at the root");
    let start: Vec<&str> = readme.lines().take(60).collect();
    for command in ["make demo", "make test"] {
        assert!(start.iter().any(|line| line.contains(command)), "the first 60 lines do not show `{command}`");
    }
}

#[test]
fn what_people_need_stands_at_the_root() {
    let missing: Vec<String> = ["README.md", "LICENSE", "CHANGELOG.md", "Makefile", "deny.toml", ".ci/run"]
        .iter()
        .map(PathBuf::from)
        .filter(|path| !workspace().join(path).is_file())
        .map(|path| path.display().to_string())
        .collect();
    assert_none(&missing, "files of the root");
}

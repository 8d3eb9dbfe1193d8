//! Tables over `Config::from_layers`: what a text and an environment give, and every message with its place.

use super::*;

fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

#[track_caller]
fn accepts(text: &str, pairs: &[(&str, &str)]) -> Config {
    Config::from_sources(Some(("verdict.toml", text)), env(pairs)).unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn refuses(text: &str, pairs: &[(&str, &str)], expected: &[&str]) {
    let errors = Config::from_sources(Some(("verdict.toml", text)), env(pairs)).expect_err("should be refused");
    let found: Vec<String> = errors.all().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn nothing_given_is_the_default() {
    let config = Config::from_sources(None, env(&[("PATH", "/bin"), ("VERDICT_OTHER", "x")])).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.log_filter(), "info,actix_server=warn");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((config.data.dedupe_days, config.data.partitions, config.data.checkpoint_secs), (8, 12, 30));
    assert_eq!((config.decide.deadline_ms, config.decide.max_in_flight), (200, 4096));
    assert_eq!(config.model.dir.as_deref(), Some(Path::new("models/default")));
    assert_eq!(config.model.max_batch, 64);
    assert_eq!(accepts("", &[]), config);
}

#[test]
fn a_full_file_is_read() {
    let text = format!(
        r#"
[http]
listen = "0.0.0.0:9090"
workers = 4
max_connections = 500
shutdown_secs = 90
[[http.api_keys]]
name = "checkout"
sha256 = "{HASH}"
scopes = ["ingest", "decide", "decide"]
rate_per_sec = 50
burst = 200
[data]
dir = "/var/lib/verdict"
dedupe_days = 40
partitions = 64
max_age_days = 30
max_ahead_hours = 1
checkpoint_secs = 60
[actors]
shards = 0x10
hot_users = 5_000
idle_secs = 60
[decide]
deadline_ms = 150
max_in_flight = 10
[rules]
dir = "my-rules"
set = "eu_2026"
[model]
dir = ""
runtime_library = "/opt/libonnxruntime.so"
max_batch = 1
"#
    );
    let config = accepts(&text, &[]);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:9090");
    let key = &config.http.api_keys[0];
    assert_eq!((&*key.name, key.sha256[0], key.sha256[31]), ("checkout", 0x9f, 0x08));
    assert_eq!(key.scopes, [Scope::Decide, Scope::Ingest]);
    assert_eq!((key.rate, config.http.max_connections), (Some(RateConfig { per_sec: 50, burst: 200 }), 500));
    assert_eq!(config.http.shutdown_secs, 90);
    assert_eq!(config.data.dir, Path::new("/var/lib/verdict"));
    assert_eq!((config.data.dedupe_days, config.data.max_age_days, config.data.max_ahead_hours), (40, 30, 1));
    assert_eq!(config.actors, ActorsConfig { shards: 16, hot_users: 5_000, idle_secs: 60 });
    assert_eq!(config.rules.set, "eu_2026");
    assert_eq!(config.model.dir, None);
    assert_eq!(config.model.runtime_library.as_deref(), Some(Path::new("/opt/libonnxruntime.so")));
    assert_eq!(config.model.max_batch, 1);
}

#[test]
fn layers_go_over_one_another() {
    let text = "[data]\ndir = \"file\"\npartitions = 3\n";
    let variables = [("VERDICT__DATA__DIR", "variable"), ("VERDICT__ACTORS__SHARDS", "3")];
    let flag = Flag { name: "--data-dir", setting: ("data", "dir"), value: "flag".to_owned() };
    let config = Config::from_layers(Some(("verdict.toml", text)), env(&variables), vec![flag]).unwrap();
    assert_eq!(config.data.dir, Path::new("flag"));
    assert_eq!((config.data.partitions, config.actors.shards), (3, 3));
    assert_eq!(accepts(text, &variables).data.dir, Path::new("variable"));
    assert_eq!(accepts(text, &[]).data.dir, Path::new("file"));
}

#[test]
fn the_library_variable_of_onnx_runtime_stands_below_the_file() {
    let variable = [("ORT_DYLIB_PATH", "/a.so")];
    assert_eq!(accepts("", &variable).model.runtime_library.as_deref(), Some(Path::new("/a.so")));
    let text = "[model]\nruntime_library = \"/b.so\"";
    assert_eq!(accepts(text, &variable).model.runtime_library.as_deref(), Some(Path::new("/b.so")));
}

#[test]
fn keys_come_from_the_environment_as_toml_and_are_not_shown() {
    let value = format!("[{{name = \"a\", sha256 = \"{HASH}\", scopes = [\"admin\"]}}]");
    let config = accepts("", &[("VERDICT__HTTP__API_KEYS", &value), ("VERDICT__HTTP__LISTEN", "[::]:80")]);
    assert_eq!(config.http.api_keys[0].scopes, [Scope::Admin]);
    let debug = format!("{config:?}");
    assert!(debug.contains("\"a\"") && !debug.contains("9f86") && !debug.contains("159, 134"), "{debug}");
}

#[test]
fn every_error_of_a_file_is_reported_at_once() {
    refuses(
        r#"[http]
listn = "127.0.0.1:80"
workers = 0

[data]
dir = 7
[htpp]
[rules]
set = "../other"
"#,
        &[],
        &[
            "verdict.toml:2:1: http.listn: unknown key; did you mean `listen`?",
            "verdict.toml:3:11: http.workers: expected an integer from 1 to 256, found 0",
            "verdict.toml:6:7: data.dir: expected a string, found 7",
            "verdict.toml:7:2: htpp: unknown section; did you mean `[http]`?",
            "verdict.toml:9:7: rules.set: expected the name of a rule set: letters, digits, `-` and `_`, \
             found \"../other\"",
        ],
    );
}

#[test]
fn errors_of_all_layers_come_together() {
    refuses(
        "[decide]\ndeadline_ms = \"fast\"",
        &[
            ("VERDICT__DECIDE__DEADLINE", "1"),
            ("VERDICT__DECIDE__MAX_IN_FLIGHT", "many"),
            ("VERDICT__DECID__MAX_IN_FLIGHT", "1"),
            ("VERDICT__data__DIR", "d"),
            ("VERDICT__DATA", "d"),
            ("RUST_LOG", "a=b=c"),
        ],
        &[
            "verdict.toml:2:15: decide.deadline_ms: expected an integer from 1 to 60000, found \"fast\"",
            "RUST_LOG: expected log directives, found \"a=b=c\": error parsing level filter: \
             expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
            "VERDICT__DATA: unknown variable; overrides are named VERDICT__SECTION__KEY",
            "VERDICT__DECIDE__DEADLINE: unknown variable; did you mean `VERDICT__DECIDE__DEADLINE_MS`?",
            "VERDICT__DECIDE__MAX_IN_FLIGHT: decide.max_in_flight: expected an integer from 1 to 1000000, found \"many\"",
            "VERDICT__DECID__MAX_IN_FLIGHT: unknown section `decid`; did you mean `VERDICT__DECIDE__MAX_IN_FLIGHT`?",
            "VERDICT__data__DIR: unknown variable; names are in capitals: `VERDICT__DATA__DIR`",
        ],
    );
}

#[test]
fn a_section_is_a_table() {
    refuses(
        "http = 3",
        &[],
        &["verdict.toml:1:8: http: expected a section, written [http], found a value of type integer"],
    );
}

#[test]
fn a_database_is_named_and_never_shown() {
    assert_eq!(accepts("", &[]).postgres, None);
    let url = "postgres://verdict:hunter2@db.example:5433/fraud?sslmode=verify-full";
    let config = accepts(&format!("[postgres]\nurl = \"{url}\"\n"), &[("VERDICT__POSTGRES__MIGRATE", "true")]);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    let postgres = config.postgres.unwrap();
    assert_eq!(postgres, PostgresConfig { migrate: true, ..PostgresConfig::at(Secret::new(url)) });
    assert_eq!((postgres.decision_days, postgres.max_connections), (30, 8));
    let shape = "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=verify-full where the network is not trusted";
    for (text, expected) in [
        ("url = \"mysql://u:hunter2@db\"", format!("verdict.toml:2:7: postgres.url: {shape}")),
        (
            "url = \"postgres://u:hunter2@db:99999/x\"",
            format!("verdict.toml:2:7: postgres.url: {shape}; found one that cannot be read"),
        ),
        (
            "url = \"postgres://db/x?sslmod=require&pasword=hunter2\"",
            "verdict.toml:2:7: postgres.url: unknown parameter; did you mean `sslmode`?; in a password, `?`, `&` and `@` are \
             written %3F, %26 and %40"
                .to_owned(),
        ),
        (
            "url = \"postgres://u:pa?hunter2@db/x\"",
            "verdict.toml:2:7: postgres.url: unknown parameter; in a password, `?`, `&` and `@` are written %3F, %26 and %40"
                .to_owned(),
        ),
        (
            "decision_days = 0\nmax_connections = 1\nurl = \"postgres://db/x\"",
            "verdict.toml:2:17: postgres.decision_days: expected an integer from 1 to 3650, found 0\n\
             verdict.toml:3:19: postgres.max_connections: expected an integer from 2 to 100, found 1"
                .to_owned(),
        ),
        (
            "decision_days = 7",
            "verdict.toml:1:2: postgres.url: expected `url` such as \"postgres://verdict@localhost/verdict\", or \
             `url_file`: without it nothing of [postgres] is used"
                .to_owned(),
        ),
        ("url = \"\"", "verdict.toml:2:7: postgres.url: expected a string that is not empty".to_owned()),
    ] {
        refuses(&format!("[postgres]\n{text}\n"), &[], &expected.lines().collect::<Vec<_>>());
    }
}

#[test]
fn broken_lines_do_not_hide_the_others() {
    refuses(
        "[http]\nworkers = \n[data]\npartitions = 0\n# é\n\"é\" = 1 1\n",
        &[],
        &[
            "verdict.toml:2:11: string values must be quoted, expected literal string",
            "verdict.toml:4:14: data.partitions: expected an integer from 1 to 1024, found 0",
            "verdict.toml:6:7: string values must be quoted, expected literal string",
        ],
    );
}

#[test]
fn settings_are_checked_against_one_another() {
    refuses(
        "[data]\nmax_age_days = 8\npartitions = 2\n[actors]\nshards = 3\n[http]\nlisten = \"0.0.0.0:80\"",
        &[],
        &[
            "verdict.toml:2:16: data.max_age_days: ids are remembered for 192 h (dedupe_days), but events may be 216 h \
             apart (max_age_days and max_ahead_hours): a duplicate could pass as new; set dedupe_days to at least 9",
            "verdict.toml:5:10: actors.shards: expected at most one shard a partition, found 3 shards and 2 partitions",
            "verdict.toml:7:10: http.listen: 0.0.0.0:80 can be reached from other machines, but there are no API keys; \
             add an entry to http.api_keys, or listen on 127.0.0.1",
        ],
    );
    // One that is wrong by itself is not judged against another.
    refuses(
        "[data]\npartitions = 0\n[actors]\nshards = 20",
        &[],
        &["verdict.toml:2:14: data.partitions: expected an integer from 1 to 1024, found 0"],
    );
    refuses(
        "[actors]\nhot_users = 0\nidle_secs = 0",
        &[],
        &[
            "verdict.toml:2:13: actors.hot_users: expected an integer from 1 to 100000000, found 0",
            "verdict.toml:3:13: actors.idle_secs: expected an integer from 1 to 604800, found 0",
        ],
    );
    refuses(
        "[model]\nmax_batch = 0",
        &[("VERDICT__MODEL__MAX_BATCH", "257")],
        &["VERDICT__MODEL__MAX_BATCH: model.max_batch: expected an integer from 1 to 256, found \"257\""],
    );
    refuses(
        "[model]\nmax_batch = 0",
        &[],
        &["verdict.toml:2:13: model.max_batch: expected an integer from 1 to 256, found 0"],
    );
}

#[test]
fn an_open_address_from_a_flag_names_the_flag() {
    let flag = Flag { name: "--listen", setting: ("http", "listen"), value: "0.0.0.0:80".to_owned() };
    let errors = Config::from_layers(None, env(&[]), vec![flag]).unwrap_err();
    assert!(errors.to_string().starts_with(
        "the configuration has 1 error\n  --listen: http.listen: 0.0.0.0:80 can be reached from other machines"
    ));
}

#[test]
fn api_keys_are_checked_without_being_quoted() {
    let text = format!(
        r#"[http]
api_keys = [
  {{name = "a", sha256 = "{HASH}", scopes = ["decide"]}},
  {{name = "b", sha256 = "{HASH}", scopes = ["decide"]}},
  {{name = "a", sha256 = "{}", scopes = ["review"]}},
  {{name = "", sha256 = "hunter2", scopes = []}},
  {{nam = "c", scopes = ["decode", 4]}},
  "d",
]
"#,
        HASH.replace('9', "0")
    );
    refuses(
        &text,
        &[],
        &[
            "verdict.toml:4:3: http.api_keys: `a` and `b` have the same sha256; give every caller a key of its own",
            "verdict.toml:5:3: http.api_keys: the name `a` is used twice; names are unique",
            "verdict.toml:6:11: http.api_keys: expected `name` to be a string that is not empty",
            "verdict.toml:6:24: http.api_keys: expected `sha256` to be 64 hexadecimal digits: `printf %s KEY | sha256sum`",
            "verdict.toml:6:44: http.api_keys: expected `scopes` to be an array of decide, ingest, review, admin",
            "verdict.toml:7:3: http.api_keys: `name` is missing",
            "verdict.toml:7:3: http.api_keys: `sha256` is missing",
            "verdict.toml:7:4: http.api_keys: unknown key `nam`; did you mean `name`?",
            "verdict.toml:7:25: http.api_keys: expected a scope (decide, ingest, review, admin), found \"decode\"; \
             did you mean `decide`?",
            "verdict.toml:7:35: http.api_keys: expected a scope (decide, ingest, review, admin), found \"\"",
            "verdict.toml:8:3: http.api_keys: expected a table {name, sha256, scopes}, found a value of type string",
        ],
    );
}

#[test]
fn rates_of_keys() {
    let with =
        |rest: &str| format!("[[http.api_keys]]\nname = \"a\"\nsha256 = \"{HASH}\"\nscopes = [\"decide\"]\n{rest}");
    let rate = |rest: &str| accepts(&with(rest), &[]).http.api_keys[0].rate;
    assert_eq!(rate(""), None);
    assert_eq!(rate("rate_per_sec = 7"), Some(RateConfig { per_sec: 7, burst: 7 }));
    assert_eq!(rate("rate_per_sec = 1_000_000\nburst = 1"), Some(RateConfig { per_sec: 1_000_000, burst: 1 }));
    let at = |rest: &str, expected: &[&str]| refuses(&with(rest), &[], expected);
    at(
        "rate_per_sec = 0\nburst = \"many\"",
        &[
            "verdict.toml:5:16: http.api_keys: expected `rate_per_sec` to be an integer from 1 to 1000000",
            "verdict.toml:6:9: http.api_keys: expected `burst` to be an integer from 1 to 1000000",
        ],
    );
    at(
        "rate_per_sec = 1.5",
        &["verdict.toml:5:16: http.api_keys: expected `rate_per_sec` to be an integer from 1 to 1000000"],
    );
    at(
        "rate_per_sec = 4294967297",
        &["verdict.toml:5:16: http.api_keys: expected `rate_per_sec` to be an integer from 1 to 1000000"],
    );
    at(
        "burst = 5",
        &["verdict.toml:5:9: http.api_keys: expected `rate_per_sec` beside `burst`; without it the key has no rate"],
    );
    at(
        "rate_per_second = 5",
        &["verdict.toml:5:1: http.api_keys: unknown key `rate_per_second`; did you mean `rate_per_sec`?"],
    );
}

#[test]
fn a_named_file_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let errors = Config::load(Some(&path), Vec::new()).unwrap_err();
    assert_eq!(errors.all().len(), 1);
    assert!(errors.to_string().contains("none.toml: cannot read the configuration: "), "{errors}");
    std::fs::write(&path, "[data]\npartitions = 5\n").unwrap();
    assert_eq!(Config::load(Some(&path), Vec::new()).unwrap().data.partitions, 5);
}

#[test]
fn the_example_in_the_docs_shows_every_default() {
    let example = include_str!("../../../../docs/verdict.example.toml");
    assert_eq!(accepts(example, &[]), Config::default());
    let uncommented = example.replace("# [[", "[[").replace("# name", "name").replace("# sha256", "sha256");
    let uncommented = uncommented.replace("# scopes", "scopes").replace("# rate", "rate").replace("# burst", "burst");
    let config = accepts(&uncommented.replace("# runtime_", "runtime_"), &[]);
    assert_eq!((config.http.api_keys.len(), config.model.runtime_library.is_some()), (1, true));
    assert_eq!(config.http.api_keys[0].rate, Some(RateConfig { per_sec: 100, burst: 500 }));
    let kafka = example.replace("# [kafka", "[kafka").replace("# bootstrap", "bootstrap").replace("# topic_", "topic_");
    let kafka = [
        "group_id",
        "instance_id",
        "transactions_out",
        "logins_out",
        "heartbeat",
        "journal_ret",
        "security.p",
        "sasl.u",
    ]
    .iter()
    .fold(kafka, |text, key| text.replace(&format!("# {key}"), key));
    let config = accepts(&kafka, &[]).kafka.expect("[kafka] is in it");
    assert_eq!(
        KafkaConfig { properties: Default::default(), ..config },
        KafkaConfig::at("broker-1:9092,broker-2:9092")
    );
    let (_, postgres) = example.split_once("# [postgres]").unwrap();
    let settings = postgres.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = "));
    let text = format!("[postgres]\n{}", settings.collect::<Vec<_>>().join("\n"));
    let shown = accepts(&text, &[]).postgres.unwrap();
    assert_eq!(shown, PostgresConfig::at(shown.url.clone()));
    // Every key of the defaults is in it, under its own name.
    for key in [
        "listen",
        "workers",
        "max_connections",
        "shutdown_secs",
        "dedupe_days",
        "checkpoint_secs",
        "shards",
        "hot_users",
        "idle_secs",
        "max_in_flight",
        "set",
        "max_batch",
    ] {
        assert!(example.contains(&format!("\n{key} = ")), "{key} is not shown");
    }
}

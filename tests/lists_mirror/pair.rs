//! A service and the Redis that it mirrors its lists in.

use redis::{Commands, Connection};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use verdict_tests::servers::Redis;
use verdict_tests::{Builder, Payment, Service, until, workspace};

/// Partitions of the journal: some share entries, some have none.
pub(crate) const PARTITIONS: &str = "5";

/// See the module.
pub(crate) struct Pair {
    pub(crate) redis: Redis,
    pub(crate) service: Service,
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder with the shipped rules, but that a large payment blocks its user.
pub(crate) fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("rules");
    copy(&workspace().join("rules"), &rules);
    let path = rules.join("default/ruleset.yaml");
    let shipped = fs::read_to_string(&path).unwrap();
    let when = "when: user_spend_today > 5000.0\n    outcome: ";
    let blocking = shipped.replace(&format!("{when}review"), &format!("{when}block"));
    assert_ne!(blocking, shipped);
    fs::write(path, blocking).unwrap();
    folder
}

/// A service in this folder that mirrors its lists.
pub(crate) fn mirroring(redis: &Redis, folder: TempDir) -> Builder {
    let rules = folder.path().join("rules");
    let builder = Service::builder().folder(folder).arg("--model").arg("").arg("--rules").arg(rules);
    let builder = builder.env("VERDICT__DATA__CHECKPOINT_SECS", "1").env("VERDICT__DATA__PARTITIONS", PARTITIONS);
    builder.env("VERDICT__REDIS__URL", redis.url())
}

/// Every entry that a service shows, under the name that it has in the mirror.
fn listed(service: &Service) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for list in ["block", "allow"] {
        let page = service.get(&format!("/v1/lists/{list}?limit=500")).json();
        assert_eq!(page["next_cursor"], Value::Null, "more than a page: {page}");
        for mut entry in page["entries"].as_array().unwrap().clone() {
            let take = |entry: &mut Value, field| entry.as_object_mut().unwrap().remove(field).unwrap();
            let [_, kind, value] = ["list", "kind", "value"].map(|field| take(&mut entry, field));
            all.insert(format!("verdict:{list}:{}:{}", kind.as_str().unwrap(), value.as_str().unwrap()), entry);
        }
    }
    all
}

/// Every entry that other systems read.
pub(crate) fn mirrored(redis: &Redis) -> BTreeMap<String, Value> {
    let mut connection = connect(redis);
    let names: Vec<String> =
        ["verdict:block:*", "verdict:allow:*"].map(|all| connection.keys::<_, Vec<String>>(all).unwrap()).concat();
    let mut all = BTreeMap::new();
    for name in names {
        let read = redis::pipe().get(&name).cmd("PEXPIRETIME").arg(&name).query(&mut connection).unwrap();
        // One that has just ended is none.
        let (Some(value), ends_ms): (Option<String>, i64) = read else { continue };
        let entry: Value = serde_json::from_str(&value).unwrap();
        let told =
            entry["expires_at"].as_str().map_or(-1, |at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        assert_eq!(ends_ms, told, "{name} goes when it ends: {entry}");
        all.insert(name, entry);
    }
    all
}

pub(crate) fn connect(redis: &Redis) -> Connection {
    redis::Client::open(redis.url()).unwrap().get_connection().unwrap()
}

impl Pair {
    pub(crate) fn start() -> Self {
        let redis = Redis::start();
        let service = mirroring(&redis, folder()).start();
        Self { redis, service }
    }

    /// Ends the service by SIGTERM or SIGKILL; the Redis and the service's folder stay.
    pub(crate) fn stop(self, politely: bool) -> (Redis, TempDir) {
        let stopped = if politely { self.service.terminate() } else { self.service.kill() };
        (self.redis, stopped.folder)
    }

    pub(crate) fn start_again((redis, folder): (Redis, TempDir)) -> Self {
        let service = mirroring(&redis, folder).start();
        Self { redis, service }
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let headers = [("content-type", "application/json")];
        let answer = self.service.request("PUT", &format!("/v1/lists/{path}"), &headers, &body.to_string());
        assert!([200, 201].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) {
        let answer = self.service.request("DELETE", &format!("/v1/lists/{path}"), &[], "");
        assert_eq!(answer.status, 204, "{path}: {}", answer.body);
    }

    /// Some entries of each kind, of which some are replaced and deleted again.
    #[track_caller]
    pub(crate) fn change(&self, turn: &str) {
        for kind in ["user", "merchant", "device"] {
            self.put(&format!("block/{kind}/v-{turn}"), &json!({"reason": turn}));
            self.put(&format!("allow/{kind}/always"), &json!({"reason": turn, "expires_at": "2099-01-01T00:00:00Z"}));
            self.put(&format!("block/{kind}/once"), &json!({"reason": turn}));
            self.delete(&format!("block/{kind}/once"));
        }
        self.put("block/ip/2001:db8::7", &json!({"reason": turn}));
    }

    /// Has a decision block this user.
    #[track_caller]
    pub(crate) fn block(&self, user: &str) -> Value {
        let payment = Payment::new(user, &format!("t-{user}"), "5000.01").with("deadline_ms", 30_000);
        let answer = self.service.post("/v1/decide", &payment.text());
        assert_eq!(answer.status, 200, "{}", answer.body);
        let decision = answer.json();
        assert_eq!((&decision["decision"], &decision["durable"]), (&json!("block"), &json!(true)), "{decision}");
        decision
    }

    /// Waits until other systems read what the service shows.
    #[track_caller]
    pub(crate) fn assert_mirrored(&self) -> BTreeMap<String, Value> {
        let mut last = (BTreeMap::new(), BTreeMap::new());
        let same = verdict_tests::within(std::time::Duration::from_secs(30), || {
            last = (listed(&self.service), mirrored(&self.redis));
            (last.0 == last.1).then_some(())
        });
        if same.is_none() {
            let (listed, mirrored) = last;
            panic!("listed {listed:#?}\nmirrored {mirrored:#?}\n{}", self.service.stderr());
        }
        last.1
    }

    /// How many records `/readyz` says that the mirror is behind.
    pub(crate) fn lag(&self) -> Option<u64> {
        let answer = self.service.get("/readyz");
        assert_eq!(answer.status, 200, "a mirror behind holds nothing up: {}", answer.body);
        answer.json()["components"]["projections"]["lists"]["lag_records"].as_u64()
    }

    #[track_caller]
    pub(crate) fn until_caught_up(&self) {
        until("the mirror not to be behind", || (self.lag() == Some(0)).then_some(()));
    }
}

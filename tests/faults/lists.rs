//! `kill -9` while list entries are put, deleted and asked for: what was answered stands, and nothing else is there.
//!
//! `VERDICT_KILLS` sets how often, `VERDICT_SEED` repeats a run's choices (the moments themselves are up to the machine).

use fastrand::Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::{Client, Payment, Service, now_ms, setting, until, verify, within};

const CALLERS: usize = 4;
const KINDS: [&str; 4] = ["user", "merchant", "device", "ip"];

/// One who changes entries of their own, one request after the other, and remembers what was answered.
struct Caller {
    number: usize,
    rng: Rng,
    /// By path: the reason that the service last said is there, `None` for one that is gone.
    known: BTreeMap<String, Option<String>>,
    /// What was asked and not answered: it may have happened or not.
    open: Option<(String, Option<String>)>,
    serial: u64,
}

impl Caller {
    /// Changes entries until the service is gone.
    fn call(&mut self, client: &Client, answered: &AtomicU64) {
        loop {
            let kind = self.rng.usize(..KINDS.len());
            let (number, which) = (self.number, self.rng.u8(..3));
            let value =
                if KINDS[kind] == "ip" { format!("198.51.{number}.{which}") } else { format!("v-{number}-{which}") };
            let path = format!("/v1/lists/block/{}/{value}", KINDS[kind]);
            self.serial += 1;
            let reason = (self.rng.u8(..3) > 0).then(|| format!("{number}-{}", self.serial));
            self.open = Some((path.clone(), reason.clone()));
            let body = reason.as_ref().map_or(String::new(), |reason| json!({"reason": reason}).to_string());
            let method = if reason.is_some() { "PUT" } else { "DELETE" };
            let headers = [("content-type", "application/json")];
            let Ok(answer) = client.request(method, &path, &headers, body.as_bytes()) else { return };
            let there = self.known.get(&path).cloned().flatten().is_some();
            let expected = match (&reason, there) {
                (Some(_), false) => 201,
                (Some(_), true) => 200,
                (None, true) => 204,
                (None, false) => 404,
            };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
            self.known.insert(path.clone(), reason.clone());
            self.open = None;
            answered.fetch_add(1, Ordering::Relaxed);
            if reason.is_some() && self.rng.u8(..4) == 0 {
                self.pay(client, &path);
            }
        }
    }

    /// What was answered a moment ago binds a payment now.
    fn pay(&mut self, client: &Client, path: &str) {
        self.serial += 1;
        let id = format!("t-{}-{}", self.number, self.serial);
        let Ok(answer) = client.post("/v1/decide", &naming(path, &id).text()) else { return };
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["decision"], "block", "{path}: {}", answer.body);
    }

    /// After a restart: every answer stands, and what was open has happened or not.
    fn check(&mut self, client: &Client) {
        let open = self.open.take();
        if let Some((path, _)) = &open {
            self.known.entry(path.clone()).or_default();
        }
        for (path, known) in &mut self.known {
            let answer = client.get(path).unwrap();
            let found = match answer.status {
                200 => Some(answer.json()["reason"].as_str().unwrap().to_owned()),
                404 => None,
                status => panic!("{path}: {status} {}", answer.body),
            };
            let happened = open.as_ref().filter(|(asked, _)| asked == path).map(|(_, reason)| reason);
            assert!(found == *known || happened == Some(&found), "{path}: {found:?}, not {known:?} nor {happened:?}");
            *known = found;
        }
        for (path, known) in &self.known {
            self.serial += 1;
            let payment = naming(path, &format!("c-{}-{}", self.number, self.serial));
            let answer = client.post("/v1/decide", &payment.text()).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            let expected = if known.is_some() { "block" } else { "approve" };
            assert_eq!(answer.json()["decision"], expected, "{path}: {}", answer.body);
        }
    }
}

/// A payment that names what the entry at this path names, and else nothing that anybody lists.
fn naming(path: &str, id: &str) -> Payment {
    let (kind, value) = path.trim_start_matches("/v1/lists/block/").split_once('/').unwrap();
    let payment = Payment::new(&format!("payer-of-{id}"), id, "1.00");
    match kind {
        "user" => Payment::new(value, id, "0.01"),
        "merchant" => payment.with("merchant_id", value),
        "device" => payment.with("device_id", value),
        _ => payment.with("ip_address", value),
    }
}

#[test]
fn entries_that_were_answered_stand_after_every_kill() {
    let seed = setting("VERDICT_SEED", now_ms().unsigned_abs());
    let kills = setting("VERDICT_KILLS", 6);
    println!("{kills} kills with VERDICT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let caller = |number| Caller {
        number,
        rng: Rng::with_seed(seed ^ number as u64),
        known: BTreeMap::new(),
        open: None,
        serial: 0,
    };
    let mut callers: Vec<Caller> = (0..CALLERS).map(caller).collect();
    let mut folder = TempDir::new().unwrap();
    for kill in 0..kills {
        // Checkpoints every second; no model, so that nothing but lists blocks.
        let start = |folder| {
            let builder = Service::builder().folder(folder).env("VERDICT__DATA__CHECKPOINT_SECS", "1");
            builder.arg("--model").arg("").start()
        };
        let service = start(folder);
        let target = rng.u64(20..1_000);
        let answered = AtomicU64::new(0);
        let clients: Vec<Client> = callers.iter().map(|_| service.client()).collect();
        folder = thread::scope(|scope| {
            for (caller, client) in callers.iter_mut().zip(&clients) {
                scope.spawn(|| caller.call(client, &answered));
            }
            until("answers under load", || (answered.load(Ordering::Relaxed) >= target).then_some(()));
            let _ = within(Duration::from_micros(rng.u64(..3_000)), || None::<()>);
            service.kill().folder
        });
        verify(folder.path());
        let service = start(folder);
        let client = service.client();
        callers.iter_mut().for_each(|caller| caller.check(&client));
        let known = callers.iter().flat_map(|caller| caller.known.values()).filter(|known| known.is_some()).count();
        let page = service.get("/v1/lists/block?limit=500").json();
        assert_eq!(page["entries"].as_array().unwrap().len(), known, "kill {kill}: these and no others");
        folder = if rng.bool() { service.terminate().folder } else { service.kill().folder };
    }
    verify(folder.path());
}

//! A client that never gives up: it sends payments, logins and labels, repeats what stayed without an answer with the
//! same content, and remembers every answer, so that the service can be held to it.

use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use verdict_tests::{Client, Payment, label, lasting, login, until};

/// Span over which events spread before the start of the run. A prime above the number of events that a caller sends,
/// so that stepping through it by another prime visits every millisecond once: no two events of a user share one.
const SPAN_MS: i64 = 1_200_007;
const STEP_MS: i64 = 7_919;

/// One event, and the answer once there is one.
pub(crate) struct Sent {
    path: &'static str,
    body: String,
    user: String,
    what: What,
    answer: Option<Value>,
}

enum What {
    Payment { minor: i64 },
    Login { at_ms: i64 },
    Label { transaction: String },
}

/// See the module.
pub(crate) struct Caller {
    rng: Rng,
    number: usize,
    callers: usize,
    start_ms: i64,
    sent: Vec<Sent>,
    /// Index of the first event that this round sent.
    round: usize,
    /// Indexes of events without an answer.
    pending: Vec<usize>,
}

/// What a user's profile must show: the events that were accepted, each once.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expected {
    count: u64,
    sum_minor: i64,
    last_login_ms: Option<i64>,
    labelled: BTreeSet<String>,
}

impl Caller {
    pub(crate) fn new(seed: u64, number: usize, callers: usize, start_ms: i64) -> Self {
        let rng = Rng::with_seed(seed ^ (number as u64) << 32);
        Self { rng, number, callers, start_ms, sent: Vec::new(), round: 0, pending: Vec::new() }
    }

    /// Sends events of these users until the service is gone. `answered` counts answers of all callers.
    pub(crate) fn call(&mut self, client: &Client, users: &[String], answered: &AtomicU64) {
        self.round = self.sent.len();
        loop {
            let index = match self.pending.is_empty() || self.rng.u8(..4) > 0 {
                true => self.invent(users),
                false => self.pending.swap_remove(self.rng.usize(..self.pending.len())),
            };
            if self.deliver(client, index).is_err() {
                return;
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A new event.
    fn invent(&mut self, users: &[String]) -> usize {
        let user = users[self.rng.usize(..users.len())].clone();
        let serial = self.sent.len();
        let id = format!("{}-{serial}", self.number);
        let unique = (serial * self.callers + self.number) as i64;
        let at_ms = self.start_ms - (unique * STEP_MS).rem_euclid(SPAN_MS);
        let sent = match self.rng.u8(..10) {
            0 => {
                let place = (self.rng.f64() * 80.0, self.rng.f64() * 80.0);
                let body = login(&user, &id, at_ms, place).to_string();
                Sent { path: "/v1/logins", body, user, what: What::Login { at_ms }, answer: None }
            }
            1 if self.payment().is_some() => {
                let (user, transaction) = self.payment().unwrap();
                let body = label(&user, &transaction, at_ms, true).to_string();
                Sent { path: "/v1/labels", body, user, what: What::Label { transaction }, answer: None }
            }
            _ => {
                let minor = self.rng.i64(1..40_000);
                let amount = format!("{}.{:02}", minor / 100, minor % 100);
                let body = Payment::new(&user, &id, &amount).at(at_ms).place(40.7, -74.0).text();
                Sent { path: "/v1/decide", body, user, what: What::Payment { minor }, answer: None }
            }
        };
        self.sent.push(sent);
        serial
    }

    /// One of the last events, if it is a payment: its user and its id.
    fn payment(&self) -> Option<(String, String)> {
        let sent = self.sent.iter().rev().take(8).find(|sent| matches!(sent.what, What::Payment { .. }))?;
        let body: Value = serde_json::from_str(&sent.body).unwrap();
        Some((sent.user.clone(), body["transaction_id"].as_str().unwrap().to_owned()))
    }

    /// Sends one event; what the service does not take now is pending. An error means that it is gone.
    fn deliver(&mut self, client: &Client, index: usize) -> Result<(), ()> {
        let sent = &mut self.sent[index];
        let Ok(answer) = client.post(sent.path, &sent.body) else {
            self.pending.push(index);
            return Err(());
        };
        match answer.status {
            200 => sent.take(answer.json()),
            429 | 503 => self.pending.push(index),
            status => panic!("{} {}: {status} {}", sent.path, sent.body, answer.body),
        }
        Ok(())
    }

    /// Delivers everything that is pending, then asks again for what was answered: all of the last round, and some of
    /// what came before. Every answer must be the one that was given. Returns how many were compared.
    pub(crate) fn settle_and_check(&mut self, client: &Client, all: bool) -> u64 {
        until("every pending event to be taken", || {
            for index in std::mem::take(&mut self.pending) {
                self.deliver(client, index).expect("the service runs");
            }
            self.pending.is_empty().then_some(())
        });
        let earlier = if all { 0..self.round } else { 0..0 };
        let some = (0..if all { 0 } else { self.round.min(50) }).map(|_| self.rng.usize(..self.round));
        let indexes: Vec<usize> = earlier.chain(some).chain(self.round..self.sent.len()).collect();
        for index in &indexes {
            self.sent[*index].check(client);
        }
        indexes.len() as u64
    }

    /// Adds what this caller's events must have done to each user.
    pub(crate) fn expect(&self, users: &mut BTreeMap<String, Expected>) {
        for sent in &self.sent {
            let user = users.entry(sent.user.clone()).or_default();
            match &sent.what {
                What::Payment { minor } => {
                    user.count += 1;
                    user.sum_minor += minor;
                }
                What::Login { at_ms } => user.last_login_ms = user.last_login_ms.max(Some(*at_ms)),
                What::Label { transaction } => _ = user.labelled.insert(transaction.clone()),
            }
        }
    }

    /// Every accepted event, for a service that was never killed.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.sent.iter().map(|sent| (sent.path, sent.body.as_str()))
    }
}

impl Sent {
    fn take(&mut self, answer: Value) {
        if matches!(self.what, What::Payment { .. }) {
            assert_eq!(answer["durable"], true, "the embedded journal answers only what is durable: {answer}");
            self.answer = Some(answer);
        } else {
            assert_eq!(answer["accepted"], true, "{answer}");
            self.answer = Some(json!({}));
        }
    }

    /// Asks again: the same answer, said to be a duplicate, and durable.
    fn check(&self, client: &Client) {
        let first = self.answer.as_ref().expect("a settled event has an answer");
        let again = until("a duplicate's answer", || {
            let answer = client.post(self.path, &self.body).expect("the service runs");
            match answer.status {
                200 => Some(answer.json()),
                503 => None,
                status => panic!("{}: {status} {}", self.body, answer.body),
            }
        });
        assert_eq!(again["duplicate"], true, "answered before, and taken as new: {again}");
        if matches!(self.what, What::Payment { .. }) {
            assert_eq!(again["durable"], true, "{again}");
            assert_eq!(lasting(again), lasting(first.clone()), "not the answer that was given");
        }
    }
}

impl Expected {
    /// Compares with what the service knows.
    pub(crate) fn check(&self, profile: &Value) {
        let features = &profile["features"];
        let sum_minor = (features["user_sum_30d"].as_f64().unwrap() * 100.0).round() as i64;
        let labels = profile["fraud_labels"].as_u64().unwrap();
        let found = (features["user_count_30d"].as_u64().unwrap(), sum_minor, labels);
        assert_eq!(found, (self.count, self.sum_minor, self.labelled.len() as u64), "{self:?} {profile}");
        assert_eq!(profile["retained"], self.count, "{profile}");
        let last_login = self.last_login_ms.map_or(Value::Null, |ms| verdict_tests::rfc3339(ms).into());
        assert_eq!(profile["last_login"]["timestamp"], last_login, "{profile}");
    }
}

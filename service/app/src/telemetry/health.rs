//! Whether the service can take traffic, and why not. Components report here; `/readyz` shows it. Decides nothing:
//! a shard refuses what it cannot do whether or not anybody asked for readiness.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The shared state; cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
    /// A shard that is gone for good.
    lost: watch::Sender<Option<u16>>,
}

#[derive(Debug)]
struct State {
    /// For every shard, whether it has recovered.
    shards: Vec<bool>,
    /// The last failure of the journal that no recovery has followed.
    journal_failure: Option<Arc<str>>,
    /// Sources that stand still and why, if any are consumed.
    sources: Option<BTreeMap<Box<str>, Arc<str>>>,
    /// Answers that wait for their records, where any may.
    spill: Option<Spilled>,
    /// Records behind, by projection.
    lag: BTreeMap<&'static str, u64>,
    stopping: bool,
    /// Rules and model in force, once they are known.
    deciding: Option<DecidingWith>,
    /// Those in the files are refused.
    reload_failure: Option<ReloadFailure>,
}

/// Answers that were given and are not known to be durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spilled {
    /// How many.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Why no more can be kept, if so.
    pub failure: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct ReloadFailure {
    why: Arc<str>,
    at: Arc<str>,
}

/// Who reads a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever reaches the service: hears that something failed, and when.
    Anyone,
    /// Whoever runs it: hears why as well, files and lines included.
    Operator,
}

/// Rules and model in force, as answers name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingWith {
    /// `{"name", "version"}`.
    pub ruleset: Value,
    /// `{"name", "version", "sha256"}`, if there is one.
    pub model: Option<Value>,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessReport {
    /// 200 if true, else 503.
    pub ready: bool,
    /// JSON: `{"ready", "components": {"shards": {"ready", "recovered", "of"}, "journal": {"ready", "failure"?},
    /// "sources"?: {"ready", "failures"}, "spill"?: {"entries", "bytes", "failure"?}, "projections": {NAME: {"lag_records"}}, "deciding": {"ruleset", "model", "reload_failure"?}, "stopping"}}`. A
    /// projection behind holds nothing up (I4), nor does a reload that was refused. Both failures are sentences.
    pub detail: String,
    /// What is missing, for people; empty when ready.
    pub waiting_for: String,
}

impl Readiness {
    /// Nothing has recovered yet.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let state = State {
            shards: vec![false; shards],
            journal_failure: None,
            sources: None,
            spill: None,
            lag: BTreeMap::new(),
            stopping: false,
            deciding: None,
            reload_failure: None,
        };
        Self { state: Arc::new(Mutex::new(state)), lost: watch::Sender::new(None) }
    }

    /// A shard serves, or recovers again. Unknown shards are ignored.
    pub fn set_shard(&self, shard: u16, recovered: bool) {
        if let Some(slot) = self.lock().shards.get_mut(usize::from(shard)) {
            *slot = recovered;
        }
    }

    /// A shard has ended and will not come back: nothing is ready from now on, and the process should end.
    pub fn lose_shard(&self, shard: u16) {
        self.lost.send_replace(Some(shard));
    }

    /// Waits until a shard has ended that should not have, and says which.
    pub async fn lost_shard(&self) -> u16 {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(shard) = *lost.borrow_and_update() {
                return shard;
            }
            // This holds the sender.
            let _ = lost.changed().await;
        }
    }

    /// The journal works; `Some` says how it failed.
    pub fn set_journal(&self, failure: Option<Arc<str>>) {
        self.lock().journal_failure = failure;
    }

    /// A source is consumed, or stands still for good, or until it is told otherwise; sources hold readiness up then.
    pub fn set_source(&self, source: &str, failure: Option<Arc<str>>) {
        let mut state = self.lock();
        let failures = state.sources.get_or_insert_default();
        match failure {
            Some(why) => _ = failures.insert(source.into(), why),
            None => _ = failures.remove(source),
        }
    }

    /// How many answers wait for their records; they hold nothing up.
    pub fn set_spill(&self, spilled: Spilled) {
        self.lock().spill = Some(spilled);
    }

    /// Rules and model are in force.
    pub fn set_deciding(&self, deciding: DecidingWith) {
        self.lock().deciding = Some(deciding);
    }

    /// Why the rules or the model in the files are refused, and since when, as people read it; `None` once they are in
    /// force.
    pub fn set_reload_failure(&self, failure: Option<(Arc<str>, Arc<str>)>) {
        self.lock().reload_failure = failure.map(|(why, at)| ReloadFailure { why, at });
    }

    /// How far a projection is behind.
    pub fn set_projection_lag(&self, projection: &'static str, records: u64) {
        self.lock().lag.insert(projection, records);
    }

    /// The service drains: load balancers send no more. There is no way back.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Whether everything that must be is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_ready() && self.lost.borrow().is_none()
    }

    /// Whether each component is ready, by its name in the report.
    #[must_use]
    pub fn components(&self) -> Vec<(&'static str, bool)> {
        let state = self.lock();
        let shards = state.shards.iter().all(|recovered| *recovered) && self.lost.borrow().is_none();
        let mut components = vec![("shards", shards), ("journal", state.journal_failure.is_none())];
        components.extend(state.sources.as_ref().map(|failures| ("sources", failures.is_empty())));
        components
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn report(&self, audience: Audience) -> ReadinessReport {
        let state = self.lock();
        let lost = *self.lost.borrow();
        let ready = state.is_ready() && lost.is_none();
        let recovered = state.shards.iter().filter(|recovered| **recovered).count();
        let mut journal = json!({"ready": state.journal_failure.is_none()});
        if let Some(failure) = state.journal_failure(audience) {
            journal["failure"] = Value::from(failure);
        }
        let mut deciding = match &state.deciding {
            Some(DecidingWith { ruleset, model }) => json!({"ruleset": ruleset, "model": model}),
            None => json!({"ruleset": null, "model": null}),
        };
        if let Some(failure) = &state.reload_failure {
            deciding["reload_failure"] = Value::from(failure.told(audience));
        }
        let projections: Map<String, Value> =
            state.lag.iter().map(|(name, records)| ((*name).to_owned(), json!({"lag_records": records}))).collect();
        let detail = json!({
            "ready": ready,
            "components": {
                "shards": {"ready": recovered == state.shards.len() && lost.is_none(), "recovered": recovered, "of": state.shards.len()},
                "journal": journal,
                "projections": projections,
                "deciding": deciding,
                "stopping": state.stopping,
            }
        });
        let detail = state.with_spill(state.with_sources(detail, audience), audience);
        let waiting_for = match lost {
            Some(shard) => format!("shard {shard} panicked, restart the service"),
            None => state.waiting_for(audience),
        };
        ReadinessReport { ready, detail: detail.to_string(), waiting_for }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so that a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReloadFailure {
    fn told(&self, audience: Audience) -> String {
        match audience {
            Audience::Operator => self.why.to_string(),
            Audience::Anyone => {
                format!("the rules or the model in the files were refused at {}; the log says why", self.at)
            }
        }
    }
}

impl State {
    fn journal_failure(&self, audience: Audience) -> Option<&str> {
        self.journal_failure.as_deref().map(|why| match audience {
            Audience::Operator => why,
            Audience::Anyone => "the journal cannot be written; the log says why",
        })
    }

    fn waiting_for(&self, audience: Audience) -> String {
        let recovered = self.shards.iter().filter(|recovered| **recovered).count();
        let mut missing = Vec::new();
        if self.stopping {
            missing.push("the service is stopping".to_owned());
        }
        if recovered < self.shards.len() {
            missing.push(format!("{recovered} of {} shards have recovered their profiles", self.shards.len()));
        }
        missing.extend(self.journal_failure(audience).map(str::to_owned));
        missing.extend(self.source_failures(audience));
        missing.join("; ")
    }

    /// What stands still, in sentences.
    fn source_failures(&self, audience: Audience) -> Vec<String> {
        let mut told = Vec::new();
        for (source, why) in self.sources.iter().flatten() {
            told.push(match audience {
                Audience::Operator => format!("{source}: {why}"),
                Audience::Anyone => format!("{source} is not consumed; the log says why"),
            });
        }
        told
    }

    /// The report with answers that are not durable, if any may be.
    fn with_spill(&self, mut report: Value, audience: Audience) -> Value {
        if let Some(Spilled { entries, bytes, failure }) = &self.spill {
            let mut spill = json!({"entries": entries, "bytes": bytes});
            if let Some(why) = failure {
                spill["failure"] = Value::from(match audience {
                    Audience::Operator => why,
                    Audience::Anyone => "the spill cannot be written; the log says why",
                });
            }
            report["components"]["spill"] = spill;
        }
        report
    }

    /// The report with sources, if any are consumed.
    fn with_sources(&self, mut report: Value, audience: Audience) -> Value {
        if self.sources.is_some() {
            let failures = self.source_failures(audience);
            report["components"]["sources"] = json!({"ready": failures.is_empty(), "failures": failures});
        }
        report
    }

    fn is_ready(&self) -> bool {
        let consumed = self.sources.as_ref().is_none_or(BTreeMap::is_empty);
        !self.stopping && consumed && self.journal_failure.is_none() && self.shards.iter().all(|recovered| *recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_stands_still_holds_readiness_up() {
        let readiness = Readiness::new(0);
        assert!(!readiness.report(Audience::Anyone).detail.contains("sources"), "nothing is consumed");
        readiness.set_source("kafka", None);
        assert!(readiness.is_ready());
        assert!(readiness.report(Audience::Anyone).detail.contains(r#""sources":{"failures":[],"ready":true}"#));
        assert_eq!(readiness.components(), [("shards", true), ("journal", true), ("sources", true)]);
        readiness.set_source("transactions/3", Some("the offset is gone".into()));
        let report = readiness.report(Audience::Operator);
        assert!(!report.ready && report.waiting_for == "transactions/3: the offset is gone", "{}", report.waiting_for);
        assert_eq!(readiness.components()[2], ("sources", false));
        let told = readiness.report(Audience::Anyone).waiting_for;
        assert_eq!(told, "transactions/3 is not consumed; the log says why");
        readiness.set_source("transactions/3", None);
        assert!(readiness.is_ready());
    }

    #[test]
    fn answers_that_are_not_durable_are_shown_and_hold_nothing_up() {
        let readiness = Readiness::new(0);
        assert!(!readiness.report(Audience::Anyone).detail.contains("spill"), "there is none");
        let failure = Some("/data/spill.log: disk full".into());
        readiness.set_spill(Spilled { entries: 3, bytes: 2_000, failure });
        let shown = |audience| {
            let report = readiness.report(audience);
            assert!(report.ready);
            serde_json::from_str::<Value>(&report.detail).unwrap()["components"]["spill"].clone()
        };
        let why = "/data/spill.log: disk full";
        assert_eq!(shown(Audience::Operator), json!({"entries": 3, "bytes": 2_000, "failure": why}));
        let why = "the spill cannot be written; the log says why";
        assert_eq!(shown(Audience::Anyone), json!({"entries": 3, "bytes": 2_000, "failure": why}));
    }

    #[test]
    fn ready_once_every_shard_has_recovered() {
        let readiness = Readiness::new(2);
        assert!(!readiness.is_ready());
        readiness.clone().set_shard(0, true);
        let report = readiness.report(Audience::Operator);
        assert!(!report.ready);
        let detail: Value = serde_json::from_str(&report.detail).unwrap();
        assert_eq!(detail["components"]["shards"], json!({"ready": false, "recovered": 1, "of": 2}));
        assert_eq!(readiness.components(), [("shards", false), ("journal", true)]);
        readiness.set_shard(1, true);
        readiness.set_shard(9, false);
        assert!(readiness.is_ready() && readiness.report(Audience::Operator).ready);
        readiness.set_shard(0, false);
        assert!(!readiness.is_ready());
        readiness.set_shard(0, true);
        readiness.clone().lose_shard(1);
        let report = readiness.report(Audience::Operator);
        assert!(!readiness.is_ready() && !report.ready);
        assert_eq!(report.waiting_for, "shard 1 panicked, restart the service");
    }

    #[test]
    fn a_failed_journal_is_named_and_a_projection_behind_does_not_matter() {
        let readiness = Readiness::new(0);
        readiness.set_projection_lag("review", 1_000_000);
        assert!(readiness.is_ready());
        readiness.set_journal(Some("disk full".into()));
        let detail: Value = serde_json::from_str(&readiness.report(Audience::Operator).detail).unwrap();
        assert_eq!(detail["ready"], false);
        assert_eq!(detail["components"]["journal"], json!({"ready": false, "failure": "disk full"}));
        assert_eq!(detail["components"]["projections"]["review"]["lag_records"], 1_000_000);
        readiness.set_journal(None);
        assert!(readiness.is_ready());
        readiness.stop();
        assert!(!readiness.is_ready());
    }

    #[test]
    fn causes_are_for_operators() {
        let readiness = Readiness::new(0);
        readiness.set_journal(Some("/data/journal/7.log: disk full".into()));
        readiness.set_reload_failure(Some(("/rules/ruleset.yaml:1:9: secret".into(), "1970-01-01T00:00:00Z".into())));
        let told = |audience| {
            let ReadinessReport { ready, detail, waiting_for } = readiness.report(audience);
            assert!(!ready);
            detail + &waiting_for
        };
        let (operator, anyone) = (told(Audience::Operator), told(Audience::Anyone));
        assert!(operator.matches("7.log").count() == 2 && operator.contains("secret"), "{operator}");
        for word in ["7.log", "/data", "/rules", "secret"] {
            assert!(!anyone.contains(word), "{anyone}");
        }
        assert_eq!(anyone.matches("the journal cannot be written").count(), 2, "{anyone}");
        assert!(anyone.contains("were refused at 1970-01-01T00:00:00"), "{anyone}");
    }

    #[test]
    fn what_decides_is_shown_and_a_refused_reload_does_not_matter() {
        let deciding = |readiness: &Readiness| {
            let detail: Value = serde_json::from_str(&readiness.report(Audience::Operator).detail).unwrap();
            detail["components"]["deciding"].clone()
        };
        let readiness = Readiness::new(0);
        assert_eq!(deciding(&readiness), json!({"ruleset": null, "model": null}));
        let ruleset = json!({"name": "default", "version": "0a"});
        readiness.set_deciding(DecidingWith { ruleset: ruleset.clone(), model: None });
        assert_eq!(deciding(&readiness), json!({"ruleset": ruleset, "model": null}));
        readiness.set_reload_failure(Some(("ruleset.yaml:1:9: expected ...".into(), "noon".into())));
        assert_eq!(deciding(&readiness)["reload_failure"], "ruleset.yaml:1:9: expected ...");
        assert!(readiness.is_ready() && readiness.report(Audience::Operator).waiting_for.is_empty());
        readiness.set_reload_failure(None);
        assert_eq!(deciding(&readiness), json!({"ruleset": ruleset, "model": null}));
    }
}

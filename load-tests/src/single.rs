//! The service's decisions without the service: one thread, profiles in a hash map, one row a run of the model. What parses,
//! computes, judges and prints is the service's own; there is no actor, no journal and nothing that survives.

use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thiserror::Error;
use verdict::app::{Deciding, retention};
use verdict::config::Config;
use verdict::journal::record::{Decided, Generation};
use verdict::model::{ScoreError, Scorer};
use verdict::wire::{AgeBounds, ParseContext, transaction};
use verdict_core::decision::{ModelVerdict, Outcome};
use verdict_core::event::Transaction;
use verdict_core::features::compute;
use verdict_core::profile::{Admission, Change, Profile, Retention};
use verdict_core::rules::RuleSet;
use verdict_core::time::Timestamp;

/// Rules or model that cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A rule set or a model with faults.
    #[error("rules and model: {0}")]
    Deciding(String),
    /// No session of the model.
    #[error(transparent)]
    Session(#[from] ScoreError),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records that were taken.
    pub events: u64,
    /// First decisions by outcome.
    pub decisions: BTreeMap<&'static str, u64>,
    /// Transactions that came again.
    pub duplicates: u64,
    /// What was no transaction, or none that may be decided.
    pub dead_letters: u64,
    /// Decisions that people hear of.
    pub alerts: u64,
}

/// See the module.
pub struct Single {
    rules: Arc<RuleSet>,
    scorer: Option<Scorer>,
    generation: Arc<Generation>,
    retention: Retention,
    users: HashMap<Box<str>, Profile>,
    counts: Counts,
}

impl Single {
    /// Nobody known yet; rules and model as the service takes them from the same configuration.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(config: &Config) -> Result<Self, LoadError> {
        let deciding = Deciding::load(config).map_err(|error| LoadError::Deciding(format!("{error:#}")))?;
        Ok(Self {
            rules: Arc::clone(deciding.rules()),
            scorer: deciding.model.as_ref().map(verdict::model::ModelHost::scorer).transpose()?,
            generation: deciding.generation,
            retention: retention(&config.data),
            users: HashMap::new(),
            counts: Counts::default(),
        })
    }

    /// Decides what a record holds; gives the decision, if it is a first one.
    ///
    /// # Errors
    /// The model fails.
    pub fn take(
        &mut self,
        value: &[u8],
        produced_at: Timestamp,
        received_at: Timestamp,
    ) -> Result<Option<Decided>, ScoreError> {
        self.counts.events += 1;
        let context = ParseContext { rates: self.rules.rates(), now: produced_at, bounds: AgeBounds::default() };
        let Ok(parsed) = transaction::parse(value, &context) else {
            self.counts.dead_letters += 1;
            return Ok(None);
        };
        let transaction = parsed.transaction;
        let known = self.users.get(&transaction.user_id);
        match known.map_or(Admission::New, |profile| profile.admit_transaction(&transaction, &self.retention)) {
            Admission::New => self.decide(*transaction, received_at),
            Admission::Duplicate { .. } => {
                self.counts.duplicates += 1;
                Ok(None)
            }
            Admission::IdReused | Admission::TooOld { .. } => {
                self.counts.dead_letters += 1;
                Ok(None)
            }
        }
    }

    fn decide(&mut self, transaction: Transaction, received_at: Timestamp) -> Result<Option<Decided>, ScoreError> {
        let profile = self.users.entry(transaction.user_id.clone()).or_default();
        let list_hits = profile.list_hits(&transaction.user_id, received_at);
        let computed = compute(profile, &transaction, &list_hits, self.rules.rates().base());
        let model = match &mut self.scorer {
            None => ModelVerdict::Absent,
            Some(scorer) => {
                let scores = scorer.score(&[&computed.features])?;
                scores.first().map_or(ModelVerdict::Absent, |score| ModelVerdict::Score(*score))
            }
        };
        let decision = self.rules.evaluate_and_decide(&transaction, &computed, list_hits, model, received_at);
        profile.apply(Change::Decided(&transaction, &decision), self.counts.events, &self.retention);
        *self.counts.decisions.entry(decision.outcome.name()).or_default() += 1;
        self.counts.alerts += u64::from(decision.alert);
        Ok(Some(Decided {
            transaction,
            features: computed.features,
            decision,
            generation: Arc::clone(&self.generation),
            evaluated_at: received_at,
            latency_us: 0,
            as_answered: false,
        }))
    }

    /// What was done so far; every outcome is in it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        for (_, name) in Outcome::ALL {
            counts.decisions.entry(name).or_default();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn single() -> Single {
        let mut config = Config::default();
        config.rules.dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
        config.model.dir = None;
        Single::load(&config).expect("the rules that ship")
    }

    fn transaction(id: &str, amount: &str) -> String {
        format!(
            r#"{{"transaction_id":"{id}","user_id":"u","amount":"{amount}","currency":"USD","merchant_id":"m","timestamp":"2026-11-23T12:00:00Z"}}"#
        )
    }

    #[test]
    fn every_record_is_decided_once_or_counted_otherwise() {
        let (mut single, noon) = (single(), Timestamp::from_millis(1_795_435_200_000));
        let mut take = |value: &str| single.take(value.as_bytes(), noon, noon).expect("no model");
        assert!(take(&transaction("t-1", "12.00")).is_some_and(|decided| !decided.decision.alert));
        assert_eq!(take(&transaction("t-1", "12.0")), None, "the same again");
        assert_eq!(take(&transaction("t-1", "13.00")), None, "an id of something else");
        assert_eq!(take("not json"), None);
        let review = take(&transaction("t-2", "5000.00")).expect("more than a day may cost");
        assert!(review.decision.alert && review.decision.outcome == Outcome::Review, "{review:?}");
        let decisions = BTreeMap::from([("approve", 1), ("block", 0), ("challenge", 0), ("review", 1)]);
        assert_eq!(single.counts(), Counts { events: 5, decisions, duplicates: 1, dead_letters: 2, alerts: 1 });
    }
}

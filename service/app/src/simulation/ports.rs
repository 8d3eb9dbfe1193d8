//! The clock, the model and the rules of a simulated service.

use super::plan::ModelFaults;
use crate::actors::context::Judge;
use crate::journal::record::{Generation, ModelRef};
use crate::model::{Score, ScoreError};
use crate::telemetry::clock::{TimeSource, virtual_now};
use crate::traffic::dice::{Dice, mix};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use verdict_core::features::{FeatureVector, schema_version};
use verdict_core::rules::{RuleSet, RuleSources, SourceFile};
use verdict_core::time::Timestamp;

const RULES: &str = "
rules:
  - {id: spend, version: 1, when: user_spend_today > 1000.0, outcome: review, reason: {code: SPEND, message: 'Spent {user_spend_today} USD'}}
  - {id: often, version: 2, when: user_count_1h > 9, outcome: challenge, reason: {code: OFTEN, message: '{user_count_1h} in an hour'}}
  - {id: far, version: 1, when: has_last_login && miles_from_login > 500.0, outcome: block, reason: {code: FAR, message: Far}}
  - {id: first, version: 1, when: is_first_purchase, outcome: approve, mode: shadow, reason: {code: FIRST, message: First}}
  - {id: listed, version: 1, when: block_list_hits > 0, outcome: block, reason: {code: LISTED, message: Listed}}
policy:
  model_bands: [{above: 0.8, outcome: block, code: MODEL_HIGH_RISK}, {above: 0.5, outcome: review, code: MODEL_ELEVATED}]
  on_block: {list: user, ttl: 2h}
";

/// Two rule sets, each with a model of its own, one to be reloaded after the other; compiled once for all seeds.
pub(super) struct Rules([Arc<RuleSet>; 2]);

impl Rules {
    pub(super) fn compile() -> Self {
        let fx = SourceFile { path: "fx.yaml", text: "base: USD\nrates: {}\n" };
        let stricter = RULES.replace("> 1000.0", "> 300.0").replace("> 9,", "> 4,");
        let stricter = stricter.replace("above: 0.5", "above: 0.2").replace("ttl: 2h", "ttl: 1h");
        let compile = |text| {
            let ruleset = SourceFile { path: "ruleset.yaml", text };
            Arc::new(RuleSet::compile(&RuleSources { name: "simulated", ruleset, fx }).expect("rules"))
        };
        Self([compile(RULES), compile(&stricter)])
    }

    pub(super) fn set(&self, which: usize) -> &Arc<RuleSet> {
        &self.0[which]
    }

    /// Which rules and model a record names, if the whole generation is as it must be.
    pub(super) fn named(&self, generation: &Generation, with_model: bool) -> Option<usize> {
        let which = self.0.iter().position(|set| set.hash() == generation.ruleset_hash)?;
        (*generation == *self.generation(which, with_model)).then_some(which)
    }

    fn generation(&self, which: usize, with_model: bool) -> Arc<Generation> {
        let model = ModelRef { name: "simulated".into(), version: "1".into(), sha256: [7 + which as u8; 32] };
        Arc::new(Generation {
            ruleset_name: "simulated".into(),
            ruleset_hash: self.0[which].hash(),
            model: with_model.then_some(model),
            feature_schema: schema_version(),
        })
    }

    pub(super) fn judge(&self, which: usize, model: Option<SimModel>) -> Judge {
        let generation = self.generation(which, model.is_some());
        let scorer = model.map(|model| Box::new(Session { which, model }) as Box<dyn Score>);
        Judge::new(Arc::clone(&self.0[which]), generation, scorer)
    }
}

/// The clock of one life: monotonic time is the runtime's, which stands still until nothing is left to do, and the wall
/// clock follows it, until somebody sets it.
pub(super) struct SimTime {
    started: Instant,
    wall_ms: AtomicI64,
}

impl SimTime {
    pub(super) fn starting_at(wall: Timestamp) -> Self {
        Self { started: virtual_now(), wall_ms: AtomicI64::new(wall.as_millis()) }
    }

    /// Sets the wall clock forward, or back.
    pub(super) fn jump(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Time since the life began.
    pub(super) fn elapsed(&self) -> Duration {
        virtual_now() - self.started
    }
}

impl TimeSource for SimTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::Relaxed) + self.elapsed().as_millis() as i64)
    }

    fn instant(&self) -> Instant {
        virtual_now()
    }
}

/// A model: a function of the features that now and then fails, or takes its time.
#[derive(Clone)]
pub(super) struct SimModel(Arc<Mutex<Mood>>);

struct Mood {
    dice: Dice,
    faults: ModelFaults,
}

impl SimModel {
    pub(super) fn new(dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(Mood { dice, faults: ModelFaults::default() })))
    }

    pub(super) fn set_faults(&self, faults: ModelFaults) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).faults = faults;
    }
}

/// One of two models in force: each comes with its rules, and scores in its own way.
struct Session {
    which: usize,
    model: SimModel,
}

/// The score of a row by a model: most are low.
pub(super) fn score_of(which: usize, features: &FeatureVector) -> f32 {
    let hash = features.0.iter().fold(which as u64, |hash, value| mix(hash ^ u64::from((*value as f32).to_bits())));
    ((hash >> 40) as f32 / (1_u32 << 24) as f32).powi(4)
}

impl Score for Session {
    fn score(&mut self, rows: &[&FeatureVector], allowed: Option<Duration>) -> Result<Vec<f32>, ScoreError> {
        let until = allowed.map(|allowed| virtual_now() + allowed);
        let mut mood = self.model.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ModelFaults { fails, slow } = mood.faults;
        if mood.dice.chance(slow) {
            let taken = Duration::from_millis(mood.dice.count(1, 300).into());
            // It blocks its thread, so time passes with nothing else done: polled once, this moves the clock.
            let _ = pin!(tokio::time::advance(taken)).poll(&mut Context::from_waker(Waker::noop()));
        }
        if until.is_some_and(|until| virtual_now() > until) {
            return Err(ScoreError::TimedOut);
        }
        if mood.dice.chance(fails) {
            return Err(ScoreError::Run("as the dice had it".to_owned()));
        }
        Ok(rows.iter().map(|row| score_of(self.which, row)).collect())
    }
}

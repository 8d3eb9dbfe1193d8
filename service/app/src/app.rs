//! The only composition root: what is built from what, downstream first.
//!
//! `Deciding` is what decides (rules and model, one generation), `Service` is everything that `verdict serve` runs,
//! and `scratch` is the same actors over a journal that keeps nothing, for a backtest.

use crate::actors::context::{Clock, Judge};
use crate::actors::gateway::Gateway;
use crate::actors::shard::{ShardActor, ShardSettings};
use crate::config::{Config, DataConfig};
use crate::journal::Journal;
use crate::journal::MemoryJournal;
use crate::journal::checkpoint::CheckpointStore;
use crate::journal::record::{Generation, ModelRef};
use crate::model::{ModelHost, Search};
use crate::rulebook::Rulebook;
use crate::telemetry::Metrics;
use crate::telemetry::health::Readiness;
use actix::{Actor, Arbiter};
use anyhow::{Context as _, bail};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};
use verdict_core::features::schema_version;
use verdict_core::profile::Retention;
use verdict_core::rules::RuleSet;
use verdict_core::time::DAY_MS;

/// Messages that a shard's mailbox takes beyond what permits let in: its own wake-ups and timers.
const MAILBOX_RESERVE: usize = 1_024;

/// How long a stop waits for requests that are being read or answered.
const GRACE: Duration = Duration::from_secs(10);

/// How often recorded samples are folded into histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Lines of a history in flight: enough for batches of the model, few enough to stay in the cache.
pub const BACKTEST_WINDOW: usize = 1_024;

/// What decides: one generation of rules and model (I8).
pub struct Deciding {
    /// The rule set, compiled.
    pub rulebook: Rulebook,
    /// The model, if one is configured.
    pub model: Option<ModelHost>,
    generation: Arc<Generation>,
}

impl Deciding {
    /// Loads and checks rules and model.
    ///
    /// # Errors
    /// Every fault of the rule set, or why the model is refused.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let rulebook = Rulebook::load(&config.rules.dir, &config.rules.set)?;
        let model = match &config.model.dir {
            Some(dir) => {
                let search = Search::new(config.model.runtime_library.clone(), None);
                Some(ModelHost::load(dir, &search)?)
            }
            None => None,
        };
        let reference = model.as_ref().map(ModelHost::reference);
        let generation = Arc::new(Generation {
            ruleset_name: rulebook.rules().name().into(),
            ruleset_hash: rulebook.rules().hash(),
            model: reference.map(|model| ModelRef { name: model.name, version: model.version, sha256: model.sha256 }),
            feature_schema: schema_version(),
        });
        Ok(Self { rulebook, model, generation })
    }

    /// The compiled rule set.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.rulebook.rules()
    }

    /// What one shard decides with; a model session belongs to one thread.
    fn judge(&self) -> anyhow::Result<Judge> {
        let scorer = self.model.as_ref().map(ModelHost::scorer).transpose()?;
        Ok(Judge { rules: Arc::clone(self.rules()), generation: Arc::clone(&self.generation), scorer })
    }
}

/// How much profiles keep under a configuration.
#[must_use]
pub fn retention(data: &DataConfig) -> Retention {
    Retention { dedupe_ms: i64::from(data.dedupe_days) * DAY_MS, ..Retention::default() }
}

/// What the shards of a service share.
struct Shards {
    journal: Arc<dyn Journal>,
    checkpoints: Option<Arc<CheckpointStore>>,
    clock: Clock,
    readiness: Readiness,
    metrics: Metrics,
}

impl Shards {
    /// Starts an arbiter and a shard for each share of the partitions.
    fn start(self, config: &Config, deciding: &Deciding) -> anyhow::Result<Gateway> {
        let partitions = self.journal.partitions();
        let count = config.actors.shards;
        let mut addresses = Vec::with_capacity(usize::from(count));
        for shard in 0..count {
            let settings = ShardSettings {
                shard,
                partitions: (0..partitions).filter(|partition| partition % count == shard).collect(),
                retention: retention(&config.data),
                clock: self.clock,
                journal: Arc::clone(&self.journal),
                checkpoints: self.checkpoints.clone(),
                checkpoint_every: Duration::from_secs(config.data.checkpoint_secs.into()),
                readiness: self.readiness.clone(),
                metrics: self.metrics.clone(),
                mailbox: config.decide.max_in_flight + MAILBOX_RESERVE,
            };
            let judge = deciding.judge()?;
            let arbiter = Arbiter::new();
            addresses.push(ShardActor::start_in_arbiter(&arbiter.handle(), |_| ShardActor::new(settings, judge)));
        }
        Ok(Gateway::new(addresses, partitions, config.decide.max_in_flight))
    }
}

/// A gateway over a journal that keeps nothing: a backtest.
///
/// # Errors
/// When the model's session cannot be made.
pub fn scratch(config: &Config, deciding: &Deciding, metrics: &Metrics) -> anyhow::Result<Gateway> {
    let shards = Shards {
        journal: Arc::new(MemoryJournal::new(config.data.partitions, false)),
        checkpoints: None,
        clock: Clock::EventTime,
        readiness: Readiness::new(config.actors.shards.into()),
        metrics: metrics.clone(),
    };
    shards.start(config, deciding)
}

//! Puts changed rules and models in force while the service runs: on SIGHUP, and when their files have changed and rest.
//!
//! A generation is loaded and checked whole, on a thread of its own, archived, and only then given to the shards. One
//! fault anywhere and the one in force stays; the log, `/readyz` and a metric say why until a good one follows. It
//! judges no rule and no model: whatever would stop a start is refused here.

use super::Deciding;
use super::archive::Archive;
use super::watch::{Look, Watch};
use crate::actors::context::Judge;
use crate::actors::gateway::Gateway;
use crate::config::Config;
use crate::journal::record::Generation;
use crate::model::ModelHost;
use crate::rulebook::Rulebook;
use crate::telemetry::Metrics;
use crate::telemetry::clock;
use crate::telemetry::events::{ReloadOutcome, Reloaded};
use crate::telemetry::health::{DecidingWith, Readiness};
use crate::wire::{hex, time};
use anyhow::{Context as _, anyhow, bail};
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};
use verdict_core::money::Rates;

/// Time between two looks at the files; a change is in force after two of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The rates that requests are parsed with. A decision prices its payment again, by the rates of its own generation.
#[derive(Clone)]
pub(super) struct RatesInForce(Arc<RwLock<Arc<Rates>>>);

impl RatesInForce {
    pub(super) fn of(deciding: &Deciding) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(deciding.rules().rates().clone()))))
    }

    pub(super) fn get(&self) -> Arc<Rates> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, rates: &Rates) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rates.clone());
    }
}

/// Every file that a generation is made of.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let rules = Rulebook::files(&config.rules.dir, &config.rules.set);
    let model = config.model.dir.iter().flat_map(|dir| ModelHost::files(dir));
    rules.into_iter().chain(model).collect()
}

/// See the module.
pub(super) struct Reloader {
    pub(super) config: Config,
    pub(super) in_force: Deciding,
    pub(super) gateway: Gateway,
    pub(super) rates: RatesInForce,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
    /// SIGHUP, listened for since the start of the process.
    pub(super) hangups: Signal,
    /// The files as they were before the generation in force was read.
    pub(super) loaded: Look,
}

impl Reloader {
    /// Waits for signals and changes, for as long as the service runs.
    pub(super) async fn run(mut self) {
        let files = Arc::new(files(&self.config));
        let mut watch = Watch::new(std::mem::take(&mut self.loaded));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = false;
        loop {
            tokio::select! {
                _ = self.hangups.recv() => {
                    info!("SIGHUP: loading rules and model again");
                    asked = true;
                }
                _ = looks.tick(), if asked || self.config.rules.watch => {}
            }
            let look = look_at(&files).await;
            if watch.has_changed(&look) || asked {
                watch.settle(look.clone());
                let loaded = self.load().await;
                if look_at(&files).await == look {
                    asked = false;
                    self.conclude(loaded).await;
                } else {
                    info!("rules or model changed while they were read; reading them again");
                }
            }
        }
    }

    /// Loads and checks what is in the files now, off every thread that decides.
    async fn load(&self) -> anyhow::Result<Option<Next>> {
        let (config, in_force) = (self.config.clone(), self.in_force.clone());
        let loading = tokio::task::spawn_blocking(move || load(&config, &in_force));
        loading.await.unwrap_or_else(|ended| Err(anyhow!("loading them failed: {ended}")))
    }

    /// Puts a good generation in force, and says what came of it.
    async fn conclude(&mut self, loaded: anyhow::Result<Option<Next>>) {
        let outcome = match loaded {
            Ok(Some(Next { deciding, judges })) => {
                self.gateway.adopt(judges).await;
                // After the shards, so that a currency that is new is not let in before it has a price there.
                self.rates.set(deciding.rules().rates());
                self.in_force = deciding;
                self.show();
                let Generation { ruleset_hash, model, .. } = &*self.in_force.generation;
                let model = model.as_ref().map(|model| hex(&model.sha256));
                info!(
                    ruleset = hex(ruleset_hash),
                    model, "reloaded: every decision that begins from now on is made by these"
                );
                ReloadOutcome::Adopted
            }
            Ok(None) => {
                info!("rules and model are those in force already");
                ReloadOutcome::Unchanged
            }
            Err(why) => {
                error!("rules and model are not reloaded, those in force stay: {why:#}");
                let at = time::to_text(clock::now());
                self.readiness.set_reload_failure(Some((format!("{why:#}").into(), at.into())));
                Reloaded { outcome: ReloadOutcome::Refused }.emit(&self.metrics);
                return;
            }
        };
        self.readiness.set_reload_failure(None);
        Reloaded { outcome }.emit(&self.metrics);
    }

    /// Tells `/readyz` what is in force.
    pub(super) fn show(&self) {
        let Generation { ruleset_name, ruleset_hash, model, .. } = &*self.in_force.generation;
        let model = model
            .as_ref()
            .map(|model| json!({"name": &*model.name, "version": &*model.version, "sha256": hex(&model.sha256)}));
        let ruleset = json!({"name": &**ruleset_name, "version": hex(ruleset_hash)});
        self.readiness.set_deciding(DecidingWith { ruleset, model });
    }
}

/// A generation that passed every check, with what each shard needs of it.
struct Next {
    deciding: Deciding,
    judges: Vec<Judge>,
}

/// Loads a generation and archives it; `None` when it is the one in force.
fn load(config: &Config, in_force: &Deciding) -> anyhow::Result<Option<Next>> {
    let deciding = Deciding::load(config)?;
    if deciding.generation == in_force.generation {
        return Ok(None);
    }
    let (base, found) = (in_force.rules().rates().base(), deciding.rules().rates().base());
    if base != found {
        bail!(
            "fx.yaml: expected the base currency {base} that is in force, found {found}: every profile holds its sums \
             in it; put {base} back, or start with an empty data folder"
        );
    }
    let judges = (0..config.actors.shards).map(|_| deciding.judge()).collect::<anyhow::Result<_>>()?;
    // Brokers that did not take it may do so later; the files need not change for that.
    Archive::of(config).keep(&deciding).context("not archived; SIGHUP tries again")?;
    Ok(Some(Next { deciding, judges }))
}

/// Looks at the files, which may lie on a slow disk, off this thread. A look that failed sees nothing.
async fn look_at(files: &Arc<Vec<PathBuf>>) -> Look {
    let files = Arc::clone(files);
    tokio::task::spawn_blocking(move || Look::at(&files)).await.unwrap_or_default()
}

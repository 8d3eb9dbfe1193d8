//! The shards of a service: built with what they share, and dealt out to the threads that they run on.

use super::{Deciding, retention};
use crate::actors::gateway::Gateway;
use crate::actors::permits::Permits;
use crate::actors::replica::ListReplica;
use crate::actors::shard::{Begun, ShardActor, ShardSettings, Start};
use crate::actors::users::HotBounds;
use crate::config::Config;
use crate::journal::Journal;
use crate::journal::checkpoint::Checkpoints;
use crate::journal::spill::Spill;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::health::Readiness;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the shards of a service share.
pub(super) struct Shards {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) checkpoints: Option<Arc<dyn Checkpoints>>,
    pub(super) spill: Option<Arc<Spill>>,
    pub(super) clock: Clock,
    pub(super) lists: Arc<ListReplica>,
    pub(super) readiness: Readiness,
    pub(super) begun: Begun,
    pub(super) metrics: Metrics,
}

impl Shards {
    /// A shard for each share of the partitions, and what starts each of them.
    pub(super) fn prepare(self, config: &Config, deciding: &Deciding) -> anyhow::Result<(Gateway, Vec<Start>)> {
        let partitions = self.journal.partitions();
        let count = config.actors.shards;
        // Users spread evenly over partitions, and so over shards.
        let hot = HotBounds {
            users: config.actors.hot_users.div_ceil(count.into()) as usize,
            idle_ticks: config.actors.idle_secs,
        };
        let permits = Permits::new(config.decide.max_in_flight, count);
        let mut shards = Vec::with_capacity(usize::from(count));
        for shard in 0..count {
            let settings = ShardSettings {
                shard,
                partitions: (0..partitions).filter(|partition| partition % count == shard).collect(),
                retention: retention(&config.data),
                hot,
                max_batch: config.model.max_batch.into(),
                clock: self.clock.clone(),
                journal: Arc::clone(&self.journal),
                checkpoints: self.checkpoints.clone(),
                spill: self.spill.clone(),
                checkpoint_every: Duration::from_secs(config.data.checkpoint_secs.into()),
                lists: Arc::clone(&self.lists),
                readiness: self.readiness.clone(),
                begun: Arc::clone(&self.begun),
                metrics: self.metrics.clone(),
                permits: permits.clone(),
            };
            shards.push(ShardActor::prepare(settings, deciding.judge()?));
        }
        let (addresses, starts) = shards.into_iter().unzip();
        Ok((Gateway::new(addresses, partitions, permits, self.lists), starts))
    }
}

/// Deals shards out to so many HTTP workers, each of which calls what this returns once, on its own thread: a request for
/// a user of the worker's own shard then crosses no thread (ADR 0005).
pub(super) fn seat(starts: Vec<Start>, workers: usize) -> impl Fn() + Clone + Send + 'static {
    let mut seats: Vec<Vec<Start>> = (0..workers).map(|_| Vec::new()).collect();
    for (shard, start) in starts.into_iter().enumerate() {
        seats[shard % workers].push(start);
    }
    let seats = Arc::new(Mutex::new(seats));
    move || {
        let taken = seats.lock().unwrap_or_else(PoisonError::into_inner).pop();
        taken.into_iter().flatten().for_each(|start| start());
    }
}

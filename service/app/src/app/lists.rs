//! The mirror of the lists, if `[redis]` asks for one: from the journal and the checkpoints to Redis; and how it is written
//! again from the command line.

use super::seed;
use super::storage::{Observed, Storage};
use crate::actors::gateway::Gateway;
use crate::config::Config;
use crate::journal::checkpoint::{Checkpoints, check_against};
use crate::journal::{DirLock, Journal, JournalError, LockError, Partition};
use crate::projections::lists::{Lag, ListMirror, ListProjection, SavedEntries, SavedLists};
use anyhow::{Context as _, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::error;

/// How long a running service has to write the mirror again: some seconds of an unhurried one with all entries it may have.
const REBUILT_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Entries as they were at the last checkpoint.
struct AtCheckpoint {
    checkpoints: Arc<dyn Checkpoints>,
    journal: Arc<dyn Journal>,
}

impl SavedLists for AtCheckpoint {
    fn saved(&self) -> BoxFuture<'_, Result<BTreeMap<Partition, SavedEntries>, JournalError>> {
        async move {
            // The marker first: what is saved meanwhile is reflected by the entries, and not by the position.
            let Some(marker) = self.checkpoints.marker().await? else { return Ok(BTreeMap::new()) };
            check_against(&marker, &self.journal.durable().borrow())?;
            let snapshots = self.checkpoints.lists().await?.into_iter().filter_map(|snapshot| {
                let next_n = marker.mark(snapshot.partition)?.next_n;
                Some((snapshot.partition, SavedEntries { next_n, entries: snapshot.entries }))
            });
            Ok(snapshots.collect())
        }
        .boxed()
    }
}

/// The mirror of a service.
pub(super) struct Mirror {
    pub(super) lag: Lag,
    /// Lets go of the journal when it is aborted.
    pub(super) task: JoinHandle<()>,
}

impl Mirror {
    /// Starts it; `None` without `[redis]`.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub(super) fn start(config: &Config, storage: &Storage, gateway: Gateway) -> anyhow::Result<Option<Self>> {
        let Some(projection) = projection(config, &storage.journal, &storage.checkpoints)? else { return Ok(None) };
        let lag = projection.lag();
        let task = actix::spawn(async move {
            // Until its partitions are taken over, nobody knows where a journal on Kafka ends, nor what was saved of it.
            if gateway.serving().await.is_ok() {
                let error = projection.run().await;
                error!(%error, "the mirror is not written until the service is started again; decisions go on");
            }
        });
        Ok(Some(Self { lag, task }))
    }
}

fn projection(
    config: &Config,
    journal: &Arc<dyn Journal>,
    checkpoints: &Arc<dyn Checkpoints>,
) -> anyhow::Result<Option<ListProjection>> {
    let Some(redis) = &config.redis else { return Ok(None) };
    let mirror = ListMirror::new(&redis.url)?;
    let saved = AtCheckpoint { checkpoints: Arc::clone(checkpoints), journal: Arc::clone(journal) };
    Ok(Some(ListProjection::new(Arc::clone(journal), Arc::new(saved), mirror, seed())))
}

/// How a rebuild ended.
pub(crate) enum Rebuilt {
    /// A running service wrote the mirror again.
    ByTheService,
    /// None runs on the journal, so that it was done here.
    Here,
}

/// Has the mirror written again, whatever is in it.
///
/// # Errors
/// There is no journal or no `[redis]`, one of them fails, or the running service does not write the mirror.
pub(crate) async fn rebuild(config: &Config) -> anyhow::Result<Rebuilt> {
    let Some(redis) = &config.redis else {
        bail!("the configuration has no [redis]: there is no mirror; set redis.url")
    };
    // Of a journal that is not there nothing can be made, and none is begun by looking.
    Observed::open(config).await?;
    let lock = match DirLock::acquire(&config.data.dir) {
        // Whoever reads a partition on Kafka to its end takes it from the service that has it, here or elsewhere.
        Ok(_) if config.kafka.is_some() => None,
        Ok(lock) => Some(lock),
        Err(LockError::Held { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut mirror = ListMirror::new(&redis.url)?;
    mirror.forget(config.data.partitions).await?;
    let Some(lock) = lock else {
        let written = tokio::time::timeout(REBUILT_WITHIN, written(mirror, config.data.partitions)).await;
        written.context("no running service has written the mirror again; does its [redis] name this server?")??;
        return Ok(Rebuilt::ByTheService);
    };
    let storage = Storage::open(config, lock).await?;
    if let Some(mut projection) = projection(config, &storage.journal, &storage.checkpoints)? {
        projection.catch_up().await.context("the mirror is not whole; the next start goes on from there")?;
    }
    Ok(Rebuilt::Here)
}

/// Waits until every partition has a position again.
async fn written(mut mirror: ListMirror, partitions: Partition) -> anyhow::Result<()> {
    while !mirror.is_whole(partitions).await? {
        actix::clock::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

//! Alerts and dead letters to their topics: an outbox for each partition, as long as this node's term in it lasts.

use super::storage::OnKafka;
use crate::actors::shard::Begun;
use crate::journal::Partition;
use crate::projections::outbox::{self, OutboxLag};
use crate::projections::{Follower, Reflections};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, warn};

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// How far the outboxes are; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Outboxes {
    lags: Arc<Mutex<BTreeMap<Partition, OutboxLag>>>,
    counted: Reflections,
}

impl Outboxes {
    fn insert(&self, partition: Partition, lag: OutboxLag) {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, lag);
    }

    fn of(&self, partition: Partition) -> Option<OutboxLag> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// Waits until everything of a partition that is durable now has been published, whatever outboxes that takes.
    pub(super) async fn published(self, partition: Partition, durable: u64) {
        loop {
            if let Some(outbox) = self.of(partition)
                && outbox.published(durable).await
            {
                return;
            }
            // That one has ended, and another takes its place.
            tokio::time::sleep(FIRST_BACK_OFF).await;
        }
    }
}

impl Follower for Outboxes {
    fn records(&self) -> u64 {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).values().map(OutboxLag::records).sum()
    }

    fn has_reflected(&self, ends: &[u64]) -> bool {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        // Where there is no outbox yet, a shard recovers, and readiness says so.
        lags.iter().all(|(partition, lag)| ends.get(usize::from(*partition)).is_none_or(|end| lag.has_reflected(*end)))
    }

    fn reflected(&self) -> u64 {
        self.counted.total()
    }
}

/// See the module. Dropped, it publishes nothing more.
pub(super) struct Publishing {
    begun: mpsc::UnboundedSender<Vec<Partition>>,
    outboxes: Outboxes,
    _terms: Term,
}

/// A task that ends with this.
struct Term(JoinHandle<()>);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Publishing {
    /// Waits for the first term.
    pub(super) fn start(kafka: OnKafka) -> Self {
        // As many messages as recoveries.
        let (begun, terms) = mpsc::unbounded_channel();
        let outboxes = Outboxes::default();
        let all = follow(kafka, terms, outboxes.clone());
        Self { begun, outboxes, _terms: Term(actix::spawn(all)) }
    }

    /// What shards call when a term begins.
    pub(super) fn begun(&self) -> Begun {
        let begun = self.begun.clone();
        // Nobody listens any more once the service stops.
        Arc::new(move |partitions| drop(begun.send(partitions.to_vec())))
    }

    /// How far they are.
    pub(super) fn outboxes(&self) -> Outboxes {
        self.outboxes.clone()
    }
}

/// Gives every term an outbox, which takes the place of the one before.
async fn follow(kafka: OnKafka, mut terms: mpsc::UnboundedReceiver<Vec<Partition>>, outboxes: Outboxes) {
    let mut running: BTreeMap<Partition, Term> = BTreeMap::new();
    while let Some(partitions) = terms.recv().await {
        for partition in partitions {
            running.remove(&partition);
            let term = publish(kafka.clone(), partition, outboxes.clone());
            running.insert(partition, Term(actix::spawn(term)));
        }
    }
}

/// Publishes what a partition of the journal holds, as long as the term lasts.
async fn publish(kafka: OnKafka, partition: Partition, outboxes: Outboxes) {
    let OnKafka { settings, journal, scribes, profiles, .. } = &kafka;
    let mut back_off = FIRST_BACK_OFF;
    loop {
        match outbox::kafka::open(settings, journal.clone(), scribes, Arc::clone(profiles), partition) {
            Ok(outbox) => {
                let outbox = outbox.counted_by(outboxes.counted.clone());
                let lag = outbox.lag();
                let reflected = lag.reflected();
                outboxes.insert(partition, lag);
                let began = *reflected.borrow();
                let ended = outbox.run().await;
                if *reflected.borrow() > began {
                    back_off = FIRST_BACK_OFF;
                }
                if ended.is_fenced() {
                    // Another owner's epoch has the shard recover, which ends this task. With none it was the brokers that
                    // ended a transaction which they had not heard of for a minute.
                    back_off = LAST_BACK_OFF;
                } else if !ended.is_over() {
                    return error!(error = %ended, "start the service again once that is mended; decisions go on");
                }
                warn!(error = %ended, "beginning again");
            }
            Err(error) => warn!(%error, partition, "alerts and dead letters stand still; trying again"),
        }
        tokio::time::sleep(back_off).await;
        back_off = (2 * back_off).min(LAST_BACK_OFF);
        // What the last one left undone is ended then, and what was published is certain. A shard that recovers may have done
        // it, and a new outbox is about to take this one's place.
        if let Err(error) = scribes.mend(partition).await {
            warn!(%error, partition, "alerts and dead letters stand still; trying again");
        }
    }
}

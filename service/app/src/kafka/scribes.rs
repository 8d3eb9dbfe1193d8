//! The scribes of this node: one a partition that it owns.

use super::KafkaSettings;
use super::scribe::{END_LIMIT, Scribe, ScribeError};
use crate::telemetry::clock::Clock;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the brokers may take to hand a partition's transactions over: one of a dead owner's that is under way is ended
/// first.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);

/// See the module. Whoever writes for a partition takes its scribe once, when its own term begins, and keeps it: a scribe of
/// an earlier term writes nothing more.
pub struct Scribes {
    settings: KafkaSettings,
    clock: Clock,
    open: Mutex<BTreeMap<u16, Arc<Scribe>>>,
    /// One take-over at a time, so that the scribe that is kept is the one that fenced all others.
    taking: tokio::sync::Mutex<()>,
}

impl Scribes {
    /// No scribes yet.
    #[must_use]
    pub fn new(settings: KafkaSettings, clock: Clock) -> Self {
        Self { settings, clock, open: Mutex::default(), taking: tokio::sync::Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u16, Arc<Scribe>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the transactions of these partitions, from other nodes and from earlier terms of this one. Those that were
    /// open here stay open meanwhile: this node goes on owning them, though their former scribes write nothing more.
    ///
    /// # Errors
    /// When one of them cannot be taken over; whatever scribe of them is still here writes nothing.
    pub async fn take_over(&self, partitions: &[u16]) -> Result<(), ScribeError> {
        let _one_at_a_time = self.taking.lock().await;
        self.take(partitions).await
    }

    /// Takes a partition over again whose scribe has ended; nothing is to be done where another one is there already.
    ///
    /// # Errors
    /// Like [`Self::take_over`].
    pub async fn mend(&self, partition: u16) -> Result<(), ScribeError> {
        let _one_at_a_time = self.taking.lock().await;
        if self.of(partition).is_ok_and(|scribe| scribe.ended().is_none()) {
            return Ok(());
        }
        self.take(&[partition]).await
    }

    async fn take(&self, partitions: &[u16]) -> Result<(), ScribeError> {
        let former: Vec<Arc<Scribe>> = partitions.iter().filter_map(|partition| self.of(*partition).ok()).collect();
        former.iter().for_each(|scribe| scribe.retire(Duration::ZERO));
        let take_over =
            |partition: &u16| Scribe::take_over(self.settings.clone(), *partition, self.clock.clone(), TAKE_OVER_LIMIT);
        // All of them are waited for: one that was left behind would fence whoever comes after it.
        let mut failed = None;
        for taken in join_all(partitions.iter().map(take_over)).await {
            match taken {
                Ok(scribe) => drop(self.open().insert(scribe.partition(), Arc::new(scribe))),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The scribe of a partition's present term.
    ///
    /// # Errors
    /// When the partition was not taken over here.
    pub fn of(&self, partition: u16) -> Result<Arc<Scribe>, ScribeError> {
        self.open().get(&partition).cloned().ok_or(ScribeError::Closed { partition })
    }

    /// Partitions that are open here.
    #[must_use]
    pub fn partitions(&self) -> Vec<u16> {
        self.open().keys().copied().collect()
    }

    /// Ends the terms of these partitions, without waiting: what is queued has this time.
    pub fn release(&self, partitions: &[u16], within: Duration) {
        let mut open = self.open();
        let released: Vec<Arc<Scribe>> = partitions.iter().filter_map(|partition| open.remove(partition)).collect();
        drop(open);
        released.iter().for_each(|scribe| scribe.retire(within));
    }

    /// Ends all terms and waits for their end, a little longer than `within` at most. Blocks.
    pub fn close(&self, within: Duration) {
        let until = self.clock.instant() + within + END_LIMIT;
        let all: Vec<Arc<Scribe>> = std::mem::take(&mut *self.open()).into_values().collect();
        all.iter().for_each(|scribe| scribe.retire(within));
        all.iter().for_each(|scribe| scribe.wait(until.saturating_duration_since(self.clock.instant())));
    }
}

//! The alert projection: tails the journal and writes a row for every decision that people should hear of.
//!
//! At most once per alert id, whatever happens: the position is stored with the rows, and an id that is there stays as
//! it is. Records without an alert cost no write, and the journal may leave them out; they are looked at again after a
//! restart, a bounded number of them and those that a catch-up under way has not come to an alert behind. Dropping
//! [`AlertProjection::run`] at any point is safe.

#[cfg(test)]
mod tests;

use super::alert_store::AlertStore;
use super::review_store::ReviewError;
use crate::journal::record::{Body, Record};
use crate::journal::{Cursor, Journal, JournalError, Wanted};
use crate::wire::alert::Alert;
use futures_util::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Alerts in one transaction.
const MAX_ALERTS: usize = 512;
/// Records without an alert after which the position is stored all the same.
const MAX_UNSAVED: u64 = 8_192;
/// Pause after each catch-up: an alert shows this much later at most under load, and many records share a read and a
/// write.
const PAUSE: Duration = Duration::from_millis(50);
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// Why the projection does not advance.
#[derive(Clone, Debug, Error)]
pub enum ProjectionError {
    /// The journal cannot be read.
    #[error("alerts stand still: {0}")]
    Journal(#[from] JournalError),
    /// The store cannot be written.
    #[error("alerts stand still: {0}")]
    Store(#[from] ReviewError),
    /// The store reflects records that the journal does not have.
    #[error(
        "alerts stand still: review.db reflects partition {partition} up to record {found}, but the journal ends at \
         {expected}; with the service stopped, have SQLite execute \"DELETE FROM alerts; DELETE FROM positions\" on it \
         to make its alerts again from this journal, reviews stay"
    )]
    Ahead {
        /// The partition.
        partition: u64,
        /// Records that the journal has.
        expected: u64,
        /// Records that the store reflects.
        found: u64,
    },
}

impl ProjectionError {
    /// Whether trying again may help without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Journal(JournalError::Store(_)) | Self::Store(ReviewError::Store(_)))
    }
}

/// How far the projection is behind; cheap to clone.
#[derive(Clone, Debug)]
pub struct Lag {
    durable: watch::Receiver<Vec<u64>>,
    reflected: watch::Receiver<Vec<u64>>,
}

impl Lag {
    /// Durable records that are not reflected yet.
    #[must_use]
    pub fn records(&self) -> u64 {
        let (durable, reflected) = (self.durable.borrow(), self.reflected.borrow());
        durable.iter().zip(reflected.iter()).map(|(end, next)| end.saturating_sub(*next)).sum()
    }

    /// For every partition the first record that is not reflected; changes as the projection advances.
    #[must_use]
    pub fn reflected(&self) -> watch::Receiver<Vec<u64>> {
        self.reflected.clone()
    }
}

/// See the module.
pub struct AlertProjection {
    journal: Arc<dyn Journal>,
    store: Arc<dyn AlertStore>,
    /// Whether `next` was read from the store since the last failure.
    positioned: bool,
    /// The first record of each partition that was not looked at.
    next: Vec<u64>,
    /// Alerts that were read and not written.
    unwritten: Vec<Alert>,
    /// Records looked at since the position was stored.
    unsaved: u64,
    reflected: watch::Sender<Vec<u64>>,
}

impl AlertProjection {
    /// A projection that goes on from the store's position.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, store: Arc<impl AlertStore + 'static>) -> Self {
        let next = vec![0; usize::from(journal.partitions())];
        let reflected = watch::Sender::new(next.clone());
        Self { journal, store, positioned: false, next, unwritten: Vec::new(), unsaved: 0, reflected }
    }

    /// How far it is behind.
    #[must_use]
    pub fn lag(&self) -> Lag {
        Lag { durable: self.journal.durable(), reflected: self.reflected.subscribe() }
    }

    /// Follows the journal until it is dropped. Failures that may pass are tried again with back-off; what it returns
    /// is one that somebody must see to. Decisions go on either way.
    pub async fn run(mut self) -> ProjectionError {
        let mut durable = self.journal.durable();
        let mut back_off = FIRST_BACK_OFF;
        loop {
            durable.mark_unchanged();
            match self.catch_up().await {
                Ok(()) => {
                    back_off = FIRST_BACK_OFF;
                    // The sender lives in the journal, which this holds.
                    let _ = durable.changed().await;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, retry_ms = back_off.as_millis() as u64, "alerts are late");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
                Err(error) => return error,
            }
        }
    }

    /// Reflects everything that is durable now.
    ///
    /// # Errors
    /// The journal or the store failed; calling again goes on from what was stored.
    pub async fn catch_up(&mut self) -> Result<(), ProjectionError> {
        let caught_up = self.try_catch_up().await;
        if caught_up.is_err() {
            self.positioned = false;
        }
        caught_up
    }

    async fn try_catch_up(&mut self) -> Result<(), ProjectionError> {
        if !self.positioned {
            self.position().await?;
        }
        let journal = Arc::clone(&self.journal);
        let cursor: Cursor = (0..).zip(self.next.iter().copied()).collect();
        // Everything that is durable here is looked at by the replay, so that its end stands for what it left out.
        let durable = journal.durable().borrow().clone();
        let mut records = journal.replay(cursor, Wanted::Alerts);
        while let Some(record) = records.try_next().await? {
            self.take(&record);
            if self.unwritten.len() >= MAX_ALERTS || self.unsaved >= MAX_UNSAVED {
                self.write().await?;
            }
        }
        for (partition, end) in durable.into_iter().enumerate() {
            self.advance(partition, end);
        }
        if !self.unwritten.is_empty() || self.unsaved >= MAX_UNSAVED {
            self.write().await?;
        }
        self.publish();
        Ok(())
    }

    /// Takes up the store's position; refuses one that the journal has not reached.
    async fn position(&mut self) -> Result<(), ProjectionError> {
        self.unwritten.clear();
        self.unsaved = 0;
        self.next.fill(0);
        let durable = self.journal.durable().borrow().clone();
        for (partition, found) in self.store.positions().await? {
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            let expected = durable.get(index).copied().unwrap_or(0);
            if found > expected {
                return Err(ProjectionError::Ahead { partition, expected, found });
            }
            if let Some(next) = self.next.get_mut(index) {
                *next = found;
            }
        }
        self.positioned = true;
        self.publish();
        Ok(())
    }

    fn take(&mut self, record: &Record) {
        if let Body::Decision(decided) = &record.body
            && decided.decision.alert
        {
            self.unwritten.push(Alert::of(decided));
        }
        self.advance(usize::from(record.partition), record.n + 1);
    }

    /// Takes a partition's records below this one for looked at.
    fn advance(&mut self, partition: usize, end: u64) {
        // invariant: a journal gives no record of a partition that it does not have
        if let Some(next) = self.next.get_mut(partition) {
            self.unsaved += end.saturating_sub(*next);
            *next = end.max(*next);
        }
    }

    async fn write(&mut self) -> Result<(), ProjectionError> {
        self.store.apply(&self.unwritten, &self.next).await?;
        self.unwritten.clear();
        self.unsaved = 0;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.reflected.send_if_modified(|reflected| {
            let advanced = *reflected != self.next;
            reflected.clone_from(&self.next);
            advanced
        });
    }
}

//! The review projection: tails the journal and writes a row for every decision that people should hear of, and where the
//! store wants everything, one for every decision and label.
//!
//! Each row once, whatever happens: the position is stored with the rows, and a row that is there stays as it is. Records
//! that make no row cost no write, and the journal may leave them out; they are looked at again after a restart, a bounded
//! number of them and those that a catch-up under way has not come to a row behind. A position that somebody else has
//! moved, as a rebuild does, is noticed within some seconds and read on from. With a position its place in the journal is
//! stored, where there is one, and told to the journal before anything is read from there. Dropping
//! [`ReviewProjection::run`] at any point is safe.

#[cfg(test)]
mod tests;

pub use super::lag::Lag;

use super::lag::Reflecting;

use super::back_off::BackOff;
use super::review_store::{DecidedAt, Move, ProjectionStore, Reached, ReviewError, Stretch};
use crate::journal::record::{Body, Record};
use crate::journal::{Cursor, Journal, JournalError, Partition, Wanted};
use crate::wire::alert::Alert;
use futures_util::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::MissedTickBehavior;

/// Rows in one transaction: enough that its round trips do not matter, and some tens of milliseconds of processor time.
const MAX_ROWS: usize = 1_024;
/// Records without a row after which the position is stored all the same.
const MAX_UNSAVED: u64 = 8_192;
/// How often the store's positions are compared with the ones that were left there, whether or not anything is written.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pause after each catch-up, so that many records share a read and a write. A row shows this much later where the store
/// keeps up.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the projection does not advance.
#[derive(Clone, Debug, Error)]
pub enum ProjectionError {
    /// The journal cannot be read.
    #[error("the review projection stands still: {0}")]
    Journal(#[from] JournalError),
    /// The store cannot be written.
    #[error("the review projection stands still: {0}")]
    Store(#[from] ReviewError),
    /// The store reflects records that the journal does not have.
    #[error(
        "the review projection stands still: {store} reflects partition {partition} up to record {found}, but the journal \
         ends at {expected}; {remedy}"
    )]
    Ahead {
        /// The partition.
        partition: Partition,
        /// Records that the journal has.
        expected: u64,
        /// Records that the store reflects.
        found: u64,
        /// The store.
        store: Arc<str>,
        /// What to do.
        remedy: &'static str,
    },
}

impl ProjectionError {
    /// Whether trying again may help without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Ahead { .. } => false,
        }
    }
}

/// See the module.
pub struct ReviewProjection {
    journal: Arc<dyn Journal>,
    store: Arc<dyn ProjectionStore>,
    wanted: Wanted,
    back_off: BackOff,
    /// Whether `stored` was read from the store since the last failure.
    positioned: bool,
    /// Where the store's positions were left.
    stored: Vec<u64>,
    /// The first record of each partition that was not looked at.
    next: Vec<u64>,
    /// Rows that were read and not written.
    unwritten: Stretch,
    /// Records looked at since the position was stored.
    unsaved: u64,
    reflecting: Reflecting,
}

impl ReviewProjection {
    /// A projection that goes on from the store's position; the seed spreads the waits between attempts.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, store: Arc<dyn ProjectionStore>, seed: u64) -> Self {
        let next = vec![0; usize::from(journal.partitions())];
        let reflecting = Reflecting::new(next.len());
        Self {
            journal,
            wanted: store.wanted(),
            store,
            back_off: BackOff::new(seed),
            positioned: false,
            stored: next.clone(),
            next,
            unwritten: Stretch::default(),
            unsaved: 0,
            reflecting,
        }
    }

    /// How far it is behind.
    #[must_use]
    pub fn lag(&self) -> Lag {
        self.reflecting.lag(self.journal.durable())
    }

    /// Follows the journal until it is dropped. Failures that may pass are tried again with back-off; what it returns
    /// is one that somebody must see to. Decisions go on either way.
    pub async fn run(mut self) -> ProjectionError {
        let mut durable = self.journal.durable();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is there at once, and the positions are read anyway.
        look.tick().await;
        loop {
            durable.mark_unchanged();
            match self.catch_up().await {
                Ok(()) => {
                    self.back_off.reset();
                    tokio::select! {
                        // The sender lives in the journal, which this holds.
                        _ = durable.changed() => tokio::time::sleep(PAUSE).await,
                        _ = look.tick() => self.look().await,
                    }
                }
                Err(error @ ProjectionError::Store(ReviewError::Moved { .. })) => {
                    tracing::info!(%error, "somebody else wrote the review store; going on from where it stands");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_transient() => {
                    let wait = self.back_off.wait();
                    tracing::warn!(%error, retry_ms = wait.as_millis() as u64, "alerts are late");
                    tokio::time::sleep(wait).await;
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
        let mut records = journal.replay(cursor, self.wanted);
        while let Some(record) = records.try_next().await? {
            self.take(&record);
            if self.unwritten.rows() >= MAX_ROWS || self.unsaved >= MAX_UNSAVED {
                self.write().await?;
            }
        }
        for (partition, end) in durable.into_iter().enumerate() {
            self.advance(partition, end);
        }
        if self.unwritten.rows() > 0 || self.unsaved >= MAX_UNSAVED {
            self.write().await?;
        }
        self.reflecting.come_to(&self.next);
        Ok(())
    }

    /// Has the next catch-up go on from the store's positions if they are not where they were left. A store that cannot be
    /// asked is found out by the next write.
    async fn look(&mut self) {
        let Ok(positions) = self.store.positions().await else { return };
        if self.stored != self.by_partition(&positions) {
            tracing::info!("the positions of the review store were moved; going on from where they stand");
            self.positioned = false;
        }
    }

    /// Takes up the store's position; refuses one that the journal has not reached.
    async fn position(&mut self) -> Result<(), ProjectionError> {
        self.unwritten = Stretch::default();
        self.unsaved = 0;
        let positions = self.store.positions().await?;
        let durable = self.journal.durable().borrow().clone();
        for &Reached { partition, n: found, .. } in &positions {
            let expected = durable.get(usize::from(partition)).copied().unwrap_or(0);
            if found > expected {
                let (store, remedy) = (self.store.name(), self.store.remedy());
                return Err(ProjectionError::Ahead { partition, expected, found, store, remedy });
            }
        }
        // What is far behind need not be looked for from the start of its partition. A store out of an old copy, or of a topic
        // that was made anew, may hold any place: the journal looks at each before it takes it up.
        let place = |reached: &Reached| Some((reached.partition, reached.place?));
        self.journal.locate_proven(positions.iter().filter_map(place).collect()).await?;
        self.stored = self.by_partition(&positions);
        let journal = &self.journal;
        // What was never filled, or is to be filled again, begins where the journal does.
        let next = |(partition, &n): (Partition, &u64)| if n == 0 { journal.first(partition) } else { n };
        self.next = (0..).zip(&self.stored).map(next).collect();
        self.positioned = true;
        self.reflecting.stand_at(&self.next);
        Ok(())
    }

    fn by_partition(&self, positions: &[Reached]) -> Vec<u64> {
        let mut all = vec![0; self.next.len()];
        for reached in positions {
            if let Some(next) = all.get_mut(usize::from(reached.partition)) {
                *next = reached.n;
            }
        }
        all
    }

    fn take(&mut self, record: &Record) {
        let everything = self.wanted == Wanted::Everything;
        match &record.body {
            Body::Decision(decided) => {
                if decided.decision.alert {
                    self.unwritten.alerts.push(Alert::of(decided));
                }
                if everything {
                    let (partition, n) = (record.partition, record.n);
                    self.unwritten.decided.push(DecidedAt { partition, n, decided: Arc::clone(decided) });
                }
            }
            Body::Label(label) if everything => self.unwritten.labels.push(label.clone()),
            Body::Label(_)
            | Body::Login(_)
            | Body::List(_)
            | Body::Answered(_)
            | Body::Duplicate { .. }
            | Body::DeadLetter { .. }
            | Body::Skipped { .. } => {}
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
        let moves = (0..).zip(self.stored.iter().zip(&self.next)).filter(|(_, (from, to))| from != to);
        let moved = |(partition, (&from, &to)): (Partition, (&u64, &u64))| Move {
            partition,
            from,
            to,
            place: self.journal.position(partition, to),
        };
        self.unwritten.moves = moves.map(moved).collect();
        self.store.apply(&self.unwritten).await?;
        self.unwritten = Stretch::default();
        self.stored.clone_from(&self.next);
        self.unsaved = 0;
        self.reflecting.come_to(&self.next);
        Ok(())
    }
}

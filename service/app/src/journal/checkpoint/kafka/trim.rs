//! Trims the journal's partitions that this node owns, as far as nobody needs them any more (PROTOCOL, "Retention").
//!
//! It deletes what is older than it is told to keep, lies before the last mark of a checkpoint, and is not held by whoever
//! else reads the journal, as the caller says. What it is about to delete is committed first, through the scribe of the
//! partition: a former owner deletes nothing. A node that dies in between has deleted less than it said, which the next
//! one to trim the partition makes good.

use super::load;
use super::shape;
use super::trimmed::Trimmed;
use crate::journal::{Journal, JournalError, Partition, Position};
use crate::kafka::{Compacted, Inspector, KafkaSettings, Scribe, Scribes, Topic};
use crate::telemetry::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use verdict_core::time::Timestamp;

/// How long the brokers have to delete.
const PATIENCE: Duration = Duration::from_secs(15);
/// Places noted within the time that is kept: what is trimmed lags behind by one of them at most.
const PLACES: i64 = 64;
const LONGEST_SPACING_MS: i64 = 3_600_000;

/// What a round did to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimmedTo {
    /// The partition.
    pub partition: Partition,
    /// The first record that is still there.
    pub first_n: u64,
    /// Records that this round deleted.
    pub records: u64,
}

/// See the module.
pub struct Trimmer {
    settings: KafkaSettings,
    scribes: Arc<Scribes>,
    profiles: Arc<Compacted>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    keep_ms: i64,
    /// As they were committed, each in the term of its scribe.
    known: BTreeMap<Partition, (Arc<Scribe>, Trimmed)>,
}

impl Trimmer {
    /// A trimmer that keeps all records of this time.
    #[must_use]
    pub fn new(
        settings: KafkaSettings,
        (scribes, profiles): (Arc<Scribes>, Arc<Compacted>),
        journal: Arc<dyn Journal>,
        clock: Clock,
        keep_ms: i64,
    ) -> Self {
        Self { settings, scribes, profiles, journal, clock, keep_ms, known: BTreeMap::new() }
    }

    /// Partitions of which something is old enough to go, so that it is worth asking who needs it.
    ///
    /// # Errors
    /// What is known of a partition cannot be read or written.
    pub async fn due(&mut self) -> Result<Vec<Partition>, JournalError> {
        let spacing_ms = (self.keep_ms / PLACES).min(LONGEST_SPACING_MS);
        let (mut due, ends) = (Vec::new(), self.journal.durable().borrow().clone());
        for partition in self.scribes.partitions() {
            let Some((scribe, mut trimmed)) = self.known(partition).await? else { continue };
            // First the end, then the time: what lies before it was received by then.
            let end = ends.get(usize::from(partition)).and_then(|end| self.journal.position(partition, *end));
            let now = self.clock.now();
            if end.is_some_and(|end| trimmed.note(now, end, spacing_ms)) {
                self.write(partition, &scribe, trimmed.clone()).await?;
            }
            if trimmed.due(self.oldest_kept(now), u64::MAX).is_some() {
                due.push(partition);
            }
        }
        Ok(due)
    }

    /// Deletes what is old enough in this partition, and that the records from `held_n` on do not need; `None` if there is
    /// nothing.
    ///
    /// # Errors
    /// The brokers do not say what they hold, or do not delete; what was not deleted goes with the next that is.
    pub async fn trim(&mut self, partition: Partition, held_n: u64) -> Result<Option<TrimmedTo>, JournalError> {
        let Some((scribe, mut trimmed)) = self.known(partition).await? else { return Ok(None) };
        let Some(marked_n) = self.marked(partition).await? else { return Ok(None) };
        // A record before the mark stays: the mirror of the lists tells by it whether it is of this journal.
        let kept_n = held_n.min(marked_n.saturating_sub(1));
        let before = trimmed.first_n();
        let Some(first) = trimmed.due(self.oldest_kept(self.clock.now()), kept_n) else { return Ok(None) };
        trimmed.begin_at(first);
        self.write(partition, &scribe, trimmed).await?;
        self.journal.begin_at(&[(partition, first)]);
        self.delete(partition, first).await?;
        Ok(Some(TrimmedTo { partition, first_n: first.n, records: first.n - before }))
    }

    fn oldest_kept(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_sub(self.keep_ms))
    }

    /// What is committed of a partition, as long as it is owned here.
    async fn known(&mut self, partition: Partition) -> Result<Option<(Arc<Scribe>, Trimmed)>, JournalError> {
        let Ok(scribe) = self.scribes.of(partition) else { return Ok(None) };
        if let Some((known, trimmed)) = self.known.get(&partition).filter(|(known, _)| Arc::ptr_eq(known, &scribe)) {
            return Ok(Some((Arc::clone(known), trimmed.clone())));
        }
        let trimmed = Trimmed::read(partition, &load::one(&self.profiles, partition).await?)
            .map_err(|what| self.damaged(&what))?;
        self.known.insert(partition, (Arc::clone(&scribe), trimmed.clone()));
        Ok(Some((scribe, trimmed)))
    }

    /// The first record that the last checkpoint does not reflect.
    async fn marked(&self, partition: Partition) -> Result<Option<u64>, JournalError> {
        let records = load::one(&self.profiles, partition).await?;
        let Some(value) = records.get(shape::mark_key(partition).as_bytes()) else { return Ok(None) };
        let marked = shape::read_mark(partition, value).map_err(|what| self.damaged(&what))?;
        Ok(Some(marked.mark.next_n))
    }

    async fn write(
        &mut self,
        partition: Partition,
        scribe: &Arc<Scribe>,
        trimmed: Trimmed,
    ) -> Result<(), JournalError> {
        let message = trimmed.message(self.profiles.topic(), partition).map_err(JournalError::Store)?;
        // Until it is known to be committed, nothing is known.
        self.known.remove(&partition);
        scribe.write(vec![message]).await.map_err(|error| super::failed(&error))?;
        self.known.insert(partition, (Arc::clone(scribe), trimmed));
        Ok(())
    }

    async fn delete(&self, partition: Partition, first: Position) -> Result<(), JournalError> {
        let failed = |why: String| JournalError::Store(format!("it cannot be trimmed: {why}").into());
        let (settings, topic) = (self.settings.clone(), self.settings.topic(Topic::Journal));
        let made = tokio::task::spawn_blocking(move || Inspector::new(settings, PATIENCE)).await;
        let inspector = made.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        // invariant: an offset that a broker gave
        let offset = i64::try_from(first.offset).unwrap_or(i64::MAX);
        let deleted = inspector.delete_before(&topic, partition.into(), offset).await;
        // It waits for its own threads.
        drop(tokio::task::spawn_blocking(move || drop(inspector)));
        deleted.map_err(|error| failed(error.to_string()))
    }

    fn damaged(&self, what: &str) -> JournalError {
        JournalError::DamagedSnapshot { topic: Arc::clone(self.profiles.topic()), what: what.into() }
    }
}

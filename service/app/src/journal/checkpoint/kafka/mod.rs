//! Checkpoints on Kafka: a record a profile in the compacted topic `verdict.profiles`, in the user's partition, and beside
//! them the list entries and the mark of that partition (PROTOCOL, "Checkpoints").
//!
//! Everything goes through the scribe of the partition, so that a former owner can write nothing more. A checkpoint is saved
//! in slices of at most 1 MiB, each committed by itself: what was written of one that was given up, or failed, stands. That
//! loses nothing, since a profile names the position that it reflects and a replay passes over what is in it; but it is why
//! each part must be durable before it is handed over (`stands_in_parts`). The mark is last, and only what it says is where
//! a replay begins.
//!
//! A load reads each partition twice: first for marks, lists and the places of the newest profiles (24 bytes a user, kept
//! until they were loaded), then for the profiles themselves, of which some 256 KiB a partition wait for the reader.

mod load;
mod shape;
#[cfg(test)]
mod tests;
mod trim;
mod trimmed;

pub use trim::{TrimmedTo, Trimmer};

use super::marker::SourceOffset;
use super::{Checkpoints, ListSnapshot, Marker, ProfileSnapshot};
use crate::journal::{Journal, JournalError, Partition, Position};
use crate::kafka::{Committed, Compacted, KafkaSettings, Message, Scribe, ScribeError, Scribes, Small, Topic};
use crate::telemetry::clock::Clock;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, LocalBoxFuture, try_join_all};
use futures_util::stream::{BoxStream, LocalBoxStream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trimmed::Trimmed;

/// Bytes of profiles in one job (PROTOCOL).
const SLICE_BYTES: usize = 1 << 20;

/// Offsets by topic and partition of the topic.
type Sources = BTreeMap<(Box<str>, i32), i64>;

/// See the module.
pub struct KafkaCheckpoints {
    scribes: Arc<Scribes>,
    profiles: Arc<Compacted>,
    /// Knows the positions of what is saved, and is told of those that were.
    journal: Arc<dyn Journal>,
    partitions: Partition,
    /// What every mark says of its sources: one that is not named again stays as it is.
    sources: Mutex<BTreeMap<Partition, Sources>>,
}

/// What the scribes' topic `verdict.profiles` holds, for checkpoints and for whoever keeps a position there.
#[must_use]
pub fn profiles(settings: &KafkaSettings, partitions: Partition, clock: Clock) -> Arc<Compacted> {
    Arc::new(Compacted::new(settings.clone(), settings.topic(Topic::Profiles), partitions, shape::USER, clock))
}

impl KafkaCheckpoints {
    /// The checkpoints of a journal; `profiles` is what [`profiles`] gives.
    #[must_use]
    pub fn new(scribes: Arc<Scribes>, profiles: Arc<Compacted>, journal: Arc<dyn Journal>) -> Self {
        let partitions = journal.partitions();
        Self { scribes, profiles, journal, partitions, sources: Mutex::default() }
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<Partition, Sources>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(
        &self,
        mut parts: LocalBoxStream<'_, Option<Vec<ProfileSnapshot>>>,
        lists: &[ListSnapshot],
        marker: &Marker,
    ) -> Result<bool, JournalError> {
        // Once, so that nothing of this term is written in a later one.
        let scribes = self.scribes_of(lists, marker)?;
        let scribe = |partition: Partition| scribes.get(&partition).ok_or_else(|| unowned(partition));
        let mut slice = Slice::default();
        let mut written: Vec<Committed> = Vec::new();
        while let Some(part) = parts.next().await {
            let Some(part) = part else { return Ok(false) };
            for profile in part {
                if !slice.takes(&profile) {
                    written.extend(slice.queue(scribe(slice.partition)?).await?);
                    slice.partition = profile.partition;
                }
                slice.push(shape::profile(self.profiles.topic(), &profile));
            }
        }
        if !slice.messages.is_empty() {
            written.extend(slice.queue(scribe(slice.partition)?).await?);
        }
        for snapshot in lists {
            let message = shape::lists(self.profiles.topic(), snapshot).map_err(JournalError::Store)?;
            let queued = scribe(snapshot.partition)?.queue(vec![message]).await;
            written.push(queued.map_err(|error| failed(&error))?);
        }
        try_join_all(written).await.map_err(|error| failed(&error))?;
        self.mark(&scribes, marker).await.map(|()| true)
    }

    /// The scribes of this term, of every partition that the checkpoint is about.
    fn scribes_of(
        &self,
        lists: &[ListSnapshot],
        marker: &Marker,
    ) -> Result<BTreeMap<Partition, Arc<Scribe>>, JournalError> {
        let (all, partitions) = (self.scribes.partitions(), self.partitions);
        let marked = marker.marks.iter().map(|mark| mark.partition);
        let listed = lists.iter().map(|snapshot| snapshot.partition);
        if let Some(lost) = marked.chain(listed).find(|partition| !all.contains(partition)) {
            return Err(unowned(lost));
        }
        let unmarked = |source: &&SourceOffset| {
            let partition = owner(source.partition, partitions);
            !marker.marks.iter().any(|mark| mark.partition == partition)
        };
        if let Some(source) = marker.sources.iter().find(unmarked) {
            let (topic, partition) = (&source.topic, source.partition);
            let what =
                format!("the offset of {topic}/{partition} goes with the mark of its journal partition, found none");
            return Err(JournalError::Store(what.into()));
        }
        let open = all.iter().filter_map(|partition| Some((*partition, self.scribes.of(*partition).ok()?)));
        Ok(open.collect())
    }

    /// Writes the marks, all of whose profiles and lists are committed.
    async fn mark(&self, scribes: &BTreeMap<Partition, Arc<Scribe>>, marker: &Marker) -> Result<(), JournalError> {
        let mut written = Vec::with_capacity(marker.marks.len());
        for mark in &marker.marks {
            let of_mark = |source: &&SourceOffset| owner(source.partition, self.partitions) == mark.partition;
            let mut sources = self.sources().get(&mark.partition).cloned().unwrap_or_default();
            for source in marker.sources.iter().filter(of_mark) {
                sources.insert((source.topic.clone(), source.partition), source.next_offset);
            }
            let position = self.journal.position(mark.partition, mark.next_n);
            let message = shape::mark(self.profiles.topic(), mark, position, &sources).map_err(JournalError::Store)?;
            let scribe = scribes.get(&mark.partition).ok_or_else(|| unowned(mark.partition))?;
            written.push(scribe.queue(vec![message]).await.map_err(|error| failed(&error))?);
            self.sources().insert(mark.partition, sources);
        }
        try_join_all(written).await.map(|_| ()).map_err(|error| failed(&error))
    }

    /// The marker over these partitions; the journal is told of its positions.
    async fn marker_of(&self, partitions: Vec<Partition>) -> Result<Option<Marker>, JournalError> {
        let small = load::small(Arc::clone(&self.profiles), partitions).await?;
        let mut marker = Marker::default();
        let mut positions: Vec<(Partition, Position)> = Vec::new();
        let mut starts: Vec<(Partition, Position)> = Vec::new();
        for (partition, records) in small {
            let trimmed = Trimmed::read(partition, &records).map_err(|what| self.damaged(what))?;
            starts.extend(trimmed.first.map(|first| (partition, first)));
            let Some(value) = records.get(shape::mark_key(partition).as_bytes()) else { continue };
            let shape::Marked { mark, position, sources } =
                shape::read_mark(partition, value).map_err(|what| self.damaged(what))?;
            marker.marks.push(mark);
            positions.extend(position.map(|position| (partition, position)));
            let named = sources.iter().map(|((topic, partition), next_offset)| SourceOffset {
                topic: topic.clone(),
                partition: *partition,
                next_offset: *next_offset,
            });
            marker.sources.extend(named);
            self.sources().insert(partition, sources);
        }
        self.journal.begin_at(&starts);
        self.journal.locate(&positions);
        marker.sources.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok((!marker.marks.is_empty()).then_some(marker))
    }

    async fn lists_of(&self, partitions: Vec<Partition>) -> Result<Vec<ListSnapshot>, JournalError> {
        let small = load::small(Arc::clone(&self.profiles), partitions).await?;
        let of = |(partition, records): &(Partition, Small)| {
            let value = records.get(shape::lists_key(*partition).as_bytes())?;
            Some(shape::read_lists(*partition, value).map_err(|what| self.damaged(what)))
        };
        small.iter().filter_map(of).collect()
    }
}

impl Checkpoints for KafkaCheckpoints {
    /// Takes over the transactions of these partitions, reads their marks, and tells the journal where they are.
    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            self.scribes.take_over(&partitions).await.map_err(|error| failed(&error))?;
            self.marker_of(partitions).await.map(|_| ())
        })
    }

    fn save_parts<'a>(
        &'a self,
        parts: LocalBoxStream<'a, Option<Vec<ProfileSnapshot>>>,
        lists: &'a [ListSnapshot],
        marker: &'a Marker,
    ) -> LocalBoxFuture<'a, Result<bool, JournalError>> {
        Box::pin(self.save(parts, lists, marker))
    }

    fn stands_in_parts(&self) -> bool {
        true
    }

    /// Over the partitions that were taken over here: of others, somebody else knows better.
    fn marker(&self) -> BoxFuture<'_, Result<Option<Marker>, JournalError>> {
        Box::pin(self.marker_of(self.scribes.partitions()))
    }

    /// Of the partitions that were taken over here.
    fn lists(&self) -> BoxFuture<'_, Result<Vec<ListSnapshot>, JournalError>> {
        Box::pin(self.lists_of(self.scribes.partitions()))
    }

    fn load(&self, partitions: &[Partition]) -> BoxStream<'_, Result<ProfileSnapshot, JournalError>> {
        load::profiles(Arc::clone(&self.profiles), partitions.to_vec())
    }

    fn damaged(&self, what: String) -> JournalError {
        JournalError::DamagedSnapshot { topic: Arc::clone(self.profiles.topic()), what: what.into() }
    }
}

/// Profiles of one partition that go out together.
#[derive(Default)]
struct Slice {
    partition: Partition,
    messages: Vec<Message>,
    bytes: usize,
}

impl Slice {
    /// Whether it may grow by a profile.
    fn takes(&self, profile: &ProfileSnapshot) -> bool {
        let bytes = self.bytes + profile.bytes.len() + profile.user_id.len();
        self.partition == profile.partition && (self.messages.is_empty() || bytes <= SLICE_BYTES)
    }

    fn push(&mut self, message: Message) {
        self.bytes += message.size();
        self.messages.push(message);
    }

    /// Queues what it has, and is empty.
    async fn queue(&mut self, scribe: &Scribe) -> Result<Option<Committed>, JournalError> {
        self.bytes = 0;
        let messages = std::mem::take(&mut self.messages);
        if messages.is_empty() {
            return Ok(None);
        }
        scribe.queue(messages).await.map(Some).map_err(|error| failed(&error))
    }
}

/// Where these partitions begin, which were trimmed, as far as it is committed. Asks nobody to end what is under way.
///
/// # Errors
/// The brokers do not answer, or a record is damaged.
pub async fn starts(
    profiles: &Arc<Compacted>,
    partitions: Vec<Partition>,
) -> Result<Vec<(Partition, Position)>, JournalError> {
    let mut starts = Vec::new();
    for (partition, records) in load::so_far(Arc::clone(profiles), partitions).await? {
        let trimmed = Trimmed::read(partition, &records)
            .map_err(|what| JournalError::DamagedSnapshot { topic: Arc::clone(profiles.topic()), what: what.into() })?;
        starts.extend(trimmed.first.map(|first| (partition, first)));
    }
    Ok(starts)
}

/// The journal partition whose owner reads a partition of a source (PROTOCOL, "Sources").
fn owner(partition: i32, partitions: Partition) -> Partition {
    // invariant: less than a Partition
    partition.rem_euclid(i32::from(partitions.max(1))) as Partition
}

fn failed(error: &ScribeError) -> JournalError {
    JournalError::Store(error.to_string().into())
}

fn unowned(partition: Partition) -> JournalError {
    failed(&ScribeError::Closed { partition })
}

//! The list projection: tails the journal and keeps a mirror of the block and allow entries in Redis, for other systems.
//!
//! A partition's entries change together with its position, and only from the position that was left there. A position
//! that does not belong to this journal's history (none, one ahead of it, another journal's) has that partition written
//! again: as it was saved with the last checkpoint, which holds nothing that is not durable, and from the journal since.
//! So the mirror may be emptied, restored from a copy or shared by mistake at any time: it is looked at twice a second, and
//! made good. Nothing waits for it, and nothing here reads it to decide (I4). Dropping [`ListProjection::run`] at any point
//! is safe.

mod mirror;
mod names;
#[cfg(test)]
mod tests;

pub use super::lag::Lag;

use super::lag::Reflecting;
pub use mirror::{ListMirror, MirrorError};

use super::back_off::BackOff;
use crate::journal::record::{Body, Record};
use crate::journal::{Journal, JournalError, Partition, Wanted};
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use mirror::{Change, Move};
use names::{Left, Named, Position};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use verdict_core::lists::{List, ListEntry, ListKey, ListKind};

/// Changes in one script: well under a millisecond in which the server does nothing else.
const MAX_CHANGES: usize = 512;
/// Records without a change after which a position is moved all the same, so that a start looks at no more than these.
const MAX_UNSAVED: u64 = 65_536;
/// How often the positions are compared with those that were left there, whether or not anything is written.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause after each catch-up: a change shows this much later at most under load, and many of them share a read and a
/// write.
const PAUSE: Duration = Duration::from_millis(50);

/// Why the projection does not advance.
#[derive(Clone, Debug, Error)]
pub enum ProjectionError {
    /// The journal or the checkpoint cannot be read.
    #[error("the mirror of the lists stands still: {0}")]
    Journal(#[from] JournalError),
    /// The mirror cannot be written.
    #[error("the mirror of the lists stands still: {0}")]
    Mirror(#[from] MirrorError),
}

impl ProjectionError {
    /// Whether trying again may help without anybody's doing.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            // Its positions are looked at again then, and what they need is found to be gone.
            Self::Journal(JournalError::Trimmed { .. }) | Self::Mirror(_) => true,
            Self::Journal(error) => error.is_transient(),
        }
    }
}

/// All entries of a partition, as they were once.
#[derive(Clone, Debug, Default)]
pub struct SavedEntries {
    /// The first record that may not be reflected; everything that is reflected is durable.
    pub next_n: u64,
    /// The entries. Later records may be reflected too: what they do to them again changes nothing.
    pub entries: Vec<(ListKey, ListEntry)>,
}

/// The port to where entries are saved from time to time, which spares reading the whole journal for them.
pub trait SavedLists: Send + Sync {
    /// What was saved last of each partition; one that is left out starts empty at the journal's start.
    fn saved(&self) -> BoxFuture<'_, Result<BTreeMap<Partition, SavedEntries>, JournalError>>;
}

/// A partition in the mirror.
#[derive(Clone, Debug, Default)]
struct Place {
    /// What was left there as its position, and the first record that it says is not reflected.
    left: Box<str>,
    left_n: u64,
    /// The first record that was not looked at.
    next: u64,
    /// Entries that are to change, the last change of each.
    changes: BTreeMap<ListKey, Option<ListEntry>>,
    /// The position behind the last of them.
    changed: Option<Position>,
}

/// See the module.
pub struct ListProjection {
    journal: Arc<dyn Journal>,
    saved: Arc<dyn SavedLists>,
    mirror: ListMirror,
    back_off: BackOff,
    /// Tells what this one leaves while it writes a partition again from what others do.
    seed: u64,
    rewrites: u64,
    /// Whether `places` hold what was found in the mirror, and nothing has failed since.
    positioned: bool,
    places: Vec<Place>,
    /// Changes in `places`.
    unwritten: usize,
    reflecting: Reflecting,
}

impl ListProjection {
    /// A projection that goes on from the mirror's positions; no two have the same seed.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, saved: Arc<dyn SavedLists>, mirror: ListMirror, seed: u64) -> Self {
        let places = vec![Place::default(); usize::from(journal.partitions())];
        let reflecting = Reflecting::new(places.len());
        let back_off = BackOff::new(seed);
        Self {
            journal,
            saved,
            mirror,
            back_off,
            seed,
            rewrites: 0,
            positioned: false,
            places,
            unwritten: 0,
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
        loop {
            durable.mark_unchanged();
            let mut outcome = self.catch_up().await;
            if outcome.is_ok() {
                outcome = tokio::select! {
                    // The sender lives in the journal, which this holds.
                    _ = durable.changed() => {
                        tokio::time::sleep(PAUSE).await;
                        Ok(())
                    }
                    // Only what stands still there has worked: two services that fight over a mirror get slower.
                    _ = look.tick() => self.look().await.map(|()| self.back_off.reset()),
                };
            }
            match outcome {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    let wait = self.back_off.wait();
                    tracing::warn!(%error, retry_ms = wait.as_millis() as u64, "trying again; decisions go on");
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return error,
            }
        }
    }

    /// Reflects everything that is durable now.
    ///
    /// # Errors
    /// The journal or the mirror failed; calling again goes on from what the mirror has.
    pub async fn catch_up(&mut self) -> Result<(), ProjectionError> {
        let caught_up = self.try_catch_up().await;
        self.positioned &= caught_up.is_ok();
        caught_up
    }

    async fn try_catch_up(&mut self) -> Result<(), ProjectionError> {
        if !self.positioned {
            self.position().await?;
        }
        let journal = Arc::clone(&self.journal);
        let cursor = (0..).zip(self.places.iter().map(|place| place.next)).collect();
        // Everything that is durable here is looked at by the replay, so that its end stands for what it left out.
        let durable = journal.durable().borrow().clone();
        let mut records = journal.replay(cursor, Wanted::Lists);
        while let Some(record) = records.try_next().await? {
            self.take(&record);
            if self.unwritten >= MAX_CHANGES {
                self.write().await?;
            }
        }
        for (place, end) in self.places.iter_mut().zip(durable) {
            place.next = end.max(place.next);
        }
        self.write().await?;
        self.reflecting.come_to(&self.next());
        Ok(())
    }

    /// Finds out whether the mirror is as it was left.
    ///
    /// # Errors
    /// It is not, or cannot be asked.
    async fn look(&mut self) -> Result<(), ProjectionError> {
        self.positioned = false;
        let found = self.mirror.positions(self.journal.partitions()).await?;
        for ((partition, found), place) in (0..).zip(found).zip(&self.places) {
            let found = found.unwrap_or_default();
            if found != *place.left {
                return Err(self.mirror.moved(partition, &place.left, found).into());
            }
        }
        self.positioned = true;
        Ok(())
    }

    /// Takes up the mirror's positions, and writes again what has none in this journal's history.
    async fn position(&mut self) -> Result<(), ProjectionError> {
        self.unwritten = 0;
        let found = self.mirror.positions(self.journal.partitions()).await?;
        let found: Vec<String> = found.into_iter().map(Option::unwrap_or_default).collect();
        let left: Vec<Option<Left>> = found.iter().map(|found| Left::parse(found)).collect();
        // A mirror that is far behind need not be looked for from the start of each partition; what it says is looked at first.
        let places = (0..).zip(&left).filter_map(|(partition, left)| Some((partition, left.as_ref()?.place?)));
        self.journal.locate_proven(places.collect()).await?;
        let mut strangers = BTreeMap::new();
        for ((partition, found), left) in (0..).zip(found).zip(left) {
            match left {
                Some(Left { position, .. }) if self.at(partition, position.n).await? == Some(position) => {
                    self.settle(partition, position.n, found);
                }
                _ => _ = strangers.insert(partition, found),
            }
        }
        if !strangers.is_empty() {
            self.write_again(&strangers).await?;
        }
        self.positioned = true;
        self.reflecting.stand_at(&self.next());
        Ok(())
    }

    /// The position before record `n`; `None` where the journal does not have what lies behind it.
    async fn at(&self, partition: Partition, n: u64) -> Result<Option<Position>, JournalError> {
        let partitions = self.journal.partitions();
        let Some(last) = n.checked_sub(1) else { return Ok(Some(Position::behind(None, partitions))) };
        let last = match self.journal.read(partition, last).await {
            // The mirror was behind for so long that its place is gone: it is written again from the checkpoint.
            Err(JournalError::Trimmed { .. }) => None,
            last => last?,
        };
        Ok(last.map(|last| Position::behind(Some(&last), partitions)))
    }

    /// A position as it is left in the mirror.
    fn left(&self, partition: Partition, position: Position) -> String {
        let place = position.n.checked_sub(1).and_then(|last| self.journal.position(partition, last));
        Left { position, place }.to_string()
    }

    /// Goes on with a partition from what stands in the mirror.
    fn settle(&mut self, partition: Partition, n: u64, left: String) {
        // invariant: partitions are those of the journal
        if let Some(place) = self.places.get_mut(usize::from(partition)) {
            *place = Place { left: left.into(), left_n: n, next: n, ..Place::default() };
        }
    }

    /// Writes these partitions as they were saved, in place of whatever is there, with what stands as their positions.
    async fn write_again(&mut self, strangers: &BTreeMap<Partition, String>) -> Result<(), ProjectionError> {
        tracing::info!(partitions = strangers.len(), "writing the mirror of the lists again");
        self.rewrites += 1;
        // Of this attempt alone: one before it may still be under way in the server.
        let mark = format!("writing:{:x}-{}", self.seed, self.rewrites);
        let mut saved = self.saved.saved().await?;
        saved.retain(|partition, _| strangers.contains_key(partition));
        for (&partition, found) in strangers {
            self.mirror.write(Move { partition, from: found, to: &mark }, [].into_iter()).await?;
        }
        for (&partition, SavedEntries { entries, .. }) in &saved {
            for some in entries.chunks(MAX_CHANGES) {
                let changes = some.iter().map(|(key, entry)| (key, Some(entry)));
                self.mirror.write(Move { partition, from: &mark, to: &mark }, changes).await?;
            }
        }
        self.sweep(strangers, &saved, &mark).await?;
        for &partition in strangers.keys() {
            let next_n = saved.get(&partition).map_or(0, |saved| saved.next_n);
            let Some(position) = self.at(partition, next_n).await? else {
                let what = format!("record {next_n} of partition {partition} does not follow any");
                return Err(JournalError::Store(what.into()).into());
            };
            let left = self.left(partition, position);
            self.mirror.write(Move { partition, from: &mark, to: &left }, [].into_iter()).await?;
            self.settle(partition, position.n, left);
        }
        Ok(())
    }

    /// Removes entries of these partitions that were not saved, and positions of partitions that this journal has not.
    async fn sweep(
        &mut self,
        strangers: &BTreeMap<Partition, String>,
        saved: &BTreeMap<Partition, SavedEntries>,
        mark: &str,
    ) -> Result<(), MirrorError> {
        let partitions = self.journal.partitions();
        let kept: HashSet<&ListKey> =
            saved.values().flat_map(|saved| saved.entries.iter().map(|(key, _)| key)).collect();
        let mut cursor = 0;
        loop {
            let (next, names) = self.mirror.names(cursor).await?;
            let mut stale: BTreeMap<Partition, Vec<ListKey>> = BTreeMap::new();
            for name in names {
                let Some(named) = str::from_utf8(&name).ok().and_then(Named::parse) else { continue };
                let partition = named.partition(partitions);
                match named {
                    Named::Position(_) if partition >= partitions => self.mirror.remove(&name).await?,
                    Named::Entry(key) if strangers.contains_key(&partition) && !kept.contains(&key) => {
                        stale.entry(partition).or_default().push(key);
                    }
                    Named::Position(_) | Named::Entry(_) => {}
                }
            }
            for (partition, keys) in stale {
                let changes = keys.iter().map(|key| (key, None));
                self.mirror.write(Move { partition, from: mark, to: mark }, changes).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn take(&mut self, record: &Record) {
        // invariant: a journal gives no record of a partition that it does not have
        let partitions = self.journal.partitions();
        let Some(place) = self.places.get_mut(usize::from(record.partition)) else { return };
        place.next = record.n + 1;
        let Some((key, entry)) = change(record) else { return };
        self.unwritten += usize::from(place.changes.insert(key, entry).is_none());
        place.changed = Some(Position::behind(Some(record), partitions));
    }

    /// Writes what has changed, and moves the positions that are far behind.
    async fn write(&mut self) -> Result<(), ProjectionError> {
        for partition in 0..self.journal.partitions() {
            let place = &self.places[usize::from(partition)];
            let position = match place.changed {
                Some(position) => position,
                None if place.next - place.left_n < MAX_UNSAVED => continue,
                None => match self.at(partition, place.next).await? {
                    Some(position) => position,
                    // It was looked at, so that it is there; if not, a later look finds out.
                    None => continue,
                },
            };
            let to = self.left(partition, position);
            let changes = place.changes.iter().map(|(key, entry)| -> Change<'_> { (key, entry.as_ref()) });
            self.mirror.write(Move { partition, from: &place.left, to: &to }, changes).await?;
            let place = &mut self.places[usize::from(partition)];
            (place.left, place.left_n, place.changed) = (to.into(), position.n, None);
            place.changes.clear();
        }
        self.unwritten = 0;
        Ok(())
    }

    /// The first record of each partition that was not looked at.
    fn next(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.next).collect()
    }
}

/// What a record makes of an entry.
fn change(record: &Record) -> Option<(ListKey, Option<ListEntry>)> {
    match &record.body {
        Body::List(change) => Some((change.key.clone(), change.entry())),
        Body::Decision(decided) => {
            let entry = decided.decision.block_entry.as_ref()?;
            let value = decided.transaction.user_id.clone();
            Some((ListKey { list: List::Block, kind: ListKind::User, value }, Some(entry.clone())))
        }
        _ => None,
    }
}

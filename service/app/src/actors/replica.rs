//! All list entries of all kinds in memory, shared by every shard: what decisions look up of merchants, devices and
//! addresses, and what `GET /v1/lists` shows.
//!
//! Only the shard that owns an entry's partition changes it. A decision takes no lock: where a kind has no entry it reads
//! one number, else the version of one slot of many, and only after a change of that slot fetches it anew. Entries about
//! users are here to be shown; decisions read them off the profile. Decides nothing and reads no clock.

#[cfg(test)]
mod tests;

use super::messages::{ListPage, ListQuery};
use crate::journal::Partition;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use verdict_core::event::{Transaction, id_hash};
use verdict_core::lists::{Entries, List, ListEntry, ListHit, ListKey, ListKind, ListSource};
use verdict_core::time::Timestamp;

/// Slots of a kind. A change copies one slot: with 100,000 entries some 400 of them.
const SLOTS: usize = 256;

/// Entries looked at or removed under one lock: some 100 us.
const ENTRIES_AT_ONCE: usize = 512;

/// An entry, with its partition.
pub type Placed = (Partition, ListKey, ListEntry);

/// See the module.
#[derive(Debug)]
pub struct ListReplica {
    index: Mutex<Index>,
    shelves: [Shelf; ListKind::SHARED.len()],
    /// Most entries that were asked for. Those that decisions make are bounded by the users in memory, one each.
    max_asked: usize,
    /// Partitions whose entries are not here yet.
    missing: watch::Sender<BTreeSet<Partition>>,
}

/// Every entry, in the order in which lists are shown.
#[derive(Debug, Default)]
struct Index {
    entries: BTreeMap<ListKey, Listed>,
    /// Those that end, by when.
    ends: BTreeSet<(Timestamp, ListKey)>,
    asked: usize,
}

#[derive(Debug)]
struct Listed {
    partition: Partition,
    entry: ListEntry,
}

/// The entries of one kind, for decisions.
#[derive(Debug)]
struct Shelf {
    /// Values that have an entry.
    values: AtomicUsize,
    slots: Box<[Slot]>,
}

type Values = HashMap<Box<str>, Entries>;

/// The entries of the values that share some bits of their hash.
#[derive(Debug, Default)]
struct Slot {
    /// Changes with the entries, under their lock.
    version: AtomicU64,
    entries: Mutex<Arc<Values>>,
}

/// There are as many entries as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The bound.
    pub limit: usize,
}

impl ListReplica {
    /// An empty replica that waits for the entries of so many partitions.
    #[must_use]
    pub fn new(partitions: Partition, max_asked: usize) -> Arc<Self> {
        let shelf = |_| Shelf { values: AtomicUsize::new(0), slots: (0..SLOTS).map(|_| Slot::default()).collect() };
        Arc::new(Self {
            index: Mutex::default(),
            shelves: ListKind::SHARED.map(shelf),
            max_asked,
            missing: watch::Sender::new((0..partitions).collect()),
        })
    }

    /// What one thread looks entries up with.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> ListReader {
        let seen = (0..self.shelves.len() * SLOTS).map(|_| Seen::default()).collect();
        ListReader { replica: Arc::clone(self), seen: RefCell::new(seen) }
    }

    /// Takes what these partitions have after a recovery, in place of whatever is here of them.
    pub fn load(&self, partitions: &[Partition], entries: impl IntoIterator<Item = (Partition, ListKey, ListEntry)>) {
        {
            let mut index = self.index();
            let known = index.entries.iter().filter(|(_, listed)| partitions.contains(&listed.partition));
            let mut stale: HashSet<ListKey> = known.map(|(key, _)| key.clone()).collect();
            // What is there before and after is there meanwhile: other shards go on deciding.
            for (partition, key, entry) in entries {
                stale.remove(&key);
                self.set(&mut index, partition, key, entry);
            }
            stale.iter().for_each(|key| self.take(&mut index, key));
        }
        self.missing.send_modify(|missing| missing.retain(|partition| !partitions.contains(partition)));
    }

    /// Waits until the entries of all partitions were here once: before that, a decision could miss one.
    pub async fn complete(&self) {
        // The sender lives as long as this.
        let _ = self.missing.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Whether the entries of all partitions were here once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.borrow().is_empty()
    }

    /// Puts an entry that somebody asked for, in place of another about the same.
    ///
    /// # Errors
    /// It would be one more than is allowed.
    pub fn put_asked(&self, partition: Partition, key: ListKey, entry: ListEntry) -> Result<(), Full> {
        let mut index = self.index();
        let replaces = index.entries.get(&key).is_some_and(|listed| listed.entry.source() == ListSource::Api);
        if !replaces && index.asked >= self.max_asked {
            return Err(Full { limit: self.max_asked });
        }
        self.set(&mut index, partition, key, entry);
        Ok(())
    }

    /// Puts an entry that a decision made, in place of another about the same.
    pub fn put(&self, partition: Partition, key: ListKey, entry: ListEntry) {
        self.set(&mut self.index(), partition, key, entry);
    }

    /// Removes an entry.
    pub fn remove(&self, key: &ListKey) {
        self.take(&mut self.index(), key);
    }

    /// Removes what binds no more; gives how many entries are left. Many that end together hold nobody up for long.
    pub fn sweep(&self, now: Timestamp) -> usize {
        loop {
            let mut index = self.index();
            let ended = index.ends.iter().take_while(|(end, _)| *end <= now).take(ENTRIES_AT_ONCE);
            let ended: Vec<ListKey> = ended.map(|(_, key)| key.clone()).collect();
            ended.iter().for_each(|key| self.take(&mut index, key));
            if ended.len() < ENTRIES_AT_ONCE {
                return index.entries.len();
            }
        }
    }

    /// An entry, expired or not.
    #[must_use]
    pub fn get(&self, key: &ListKey) -> Option<ListEntry> {
        self.index().entries.get(key).map(|listed| listed.entry.clone())
    }

    /// A page of the entries that bind at `now`, by kind and value. Entries that come and go between two pages are in
    /// one or not, and move no other.
    #[must_use]
    pub fn page(&self, query: &ListQuery, now: Timestamp) -> ListPage {
        let key = |kind, value: &str| ListKey { list: query.list, kind, value: value.into() };
        let first = query.kind.unwrap_or(ListKind::User);
        let start = match &query.after {
            Some((kind, value)) if *kind >= first => Bound::Excluded(key(*kind, value)),
            _ => Bound::Included(key(first, "")),
        };
        let index = self.index();
        let wanted = |key: &ListKey| key.list == query.list && query.kind.is_none_or(|kind| key.kind == kind);
        let found = index.entries.range((start, Bound::Unbounded)).take_while(|(key, _)| wanted(key));
        let mut found = found.filter(|(_, listed)| listed.entry.binds(now));
        let entries: Vec<(ListKey, ListEntry)> =
            found.by_ref().take(query.limit).map(|(key, listed)| (key.clone(), listed.entry.clone())).collect();
        let more = found.next().is_some();
        let next = entries.last().filter(|_| more).map(|(key, _)| (key.kind, key.value.clone()));
        ListPage { entries, next }
    }

    /// Some more of the entries of these partitions, behind `after`, and where to go on. What changes between two calls may
    /// be in them or not.
    #[must_use]
    pub fn listed_behind(&self, after: Option<&ListKey>, of: &HashSet<Partition>) -> (Vec<Placed>, Option<ListKey>) {
        let index = self.index();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let looked_at: Vec<_> = index.entries.range((start, Bound::Unbounded)).take(ENTRIES_AT_ONCE).collect();
        let next = looked_at.last().filter(|_| looked_at.len() == ENTRIES_AT_ONCE).map(|(key, _)| (*key).clone());
        let wanted = looked_at.iter().filter(|(_, listed)| of.contains(&listed.partition));
        let placed = wanted.map(|(key, listed)| (listed.partition, (*key).clone(), listed.entry.clone())).collect();
        (placed, next)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing under this lock leaves the index half changed, whatever happened to another holder.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, index: &mut Index, partition: Partition, key: ListKey, entry: ListEntry) {
        index.forget(&key);
        if let Some(end) = entry.expires_at {
            index.ends.insert((end, key.clone()));
        }
        index.asked += usize::from(entry.source() == ListSource::Api);
        if let Some(shelf) = self.shelf(key.kind) {
            shelf.change(&key, Some(entry.clone()));
        }
        index.entries.insert(key, Listed { partition, entry });
    }

    fn take(&self, index: &mut Index, key: &ListKey) {
        index.forget(key);
        if let Some(shelf) = self.shelf(key.kind) {
            shelf.change(key, None);
        }
    }

    fn shelf(&self, kind: ListKind) -> Option<&Shelf> {
        place(kind).map(|place| &self.shelves[place])
    }
}

impl Index {
    fn forget(&mut self, key: &ListKey) {
        let Some(Listed { entry, .. }) = self.entries.remove(key) else { return };
        if let Some(end) = entry.expires_at {
            self.ends.remove(&(end, key.clone()));
        }
        self.asked -= usize::from(entry.source() == ListSource::Api);
    }
}

/// The place of a kind among those that decisions look up here.
fn place(kind: ListKind) -> Option<usize> {
    ListKind::SHARED.iter().position(|shared| *shared == kind)
}

fn slot_of(value: &str) -> usize {
    id_hash(value) as usize % SLOTS
}

impl Shelf {
    fn change(&self, key: &ListKey, entry: Option<ListEntry>) {
        let slot = &self.slots[slot_of(&key.value)];
        let mut entries = slot.lock();
        // Readers that hold the slot as it was keep it so.
        let values = Arc::make_mut(&mut entries);
        let before = values.len();
        let of_value = values.entry(key.value.clone()).or_default();
        *of_value.of(key.list) = entry;
        if of_value.is_empty() {
            values.remove(&key.value);
        }
        let after = values.len();
        slot.version.fetch_add(1, Ordering::Release);
        // After the slot, so that whoever sees the number sees the slot's new version too.
        match after.checked_sub(before) {
            Some(added) => self.values.fetch_add(added, Ordering::Release),
            None => self.values.fetch_sub(before - after, Ordering::Release),
        };
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Arc<Values>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot as a thread saw it last. No slot has entries before version 1.
#[derive(Debug, Default)]
struct Seen {
    version: u64,
    entries: Arc<Values>,
}

/// The look-up of one thread, which remembers the slots that it has seen.
#[derive(Debug)]
pub struct ListReader {
    replica: Arc<ListReplica>,
    seen: RefCell<Box<[Seen]>>,
}

impl ListReader {
    /// Adds the entries about a payment's merchant, device and address that bind at `now` to `hits`.
    pub fn hit(&self, transaction: &Transaction, now: Timestamp, hits: &mut Vec<ListHit>) {
        for (place, kind) in ListKind::SHARED.into_iter().enumerate() {
            let shelf = &self.replica.shelves[place];
            // Whoever was told of an entry before they sent this payment finds it: the request itself came later.
            if shelf.values.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(value) = kind.named_by(transaction) else { continue };
            let number = slot_of(value);
            let slot = &shelf.slots[number];
            let mut seen = self.seen.borrow_mut();
            let seen = &mut seen[place * SLOTS + number];
            if slot.version.load(Ordering::Acquire) != seen.version {
                let entries = slot.lock();
                *seen = Seen { version: slot.version.load(Ordering::Acquire), entries: Arc::clone(&entries) };
            }
            if let Some(entries) = seen.entries.get(value) {
                entries.hit((kind, value), now, hits);
            }
        }
    }

    /// Adds the entries about a payment's user that bind at `now`, for whoever has no profile to read them off.
    pub fn hit_user(&self, user_id: &str, now: Timestamp, hits: &mut Vec<ListHit>) {
        for (list, _) in List::ALL {
            let key = ListKey { list, kind: ListKind::User, value: user_id.into() };
            let Some(entry) = self.replica.get(&key).filter(|entry| entry.binds(now)) else { continue };
            hits.push(ListHit { list, kind: ListKind::User, value: key.value, reason: entry.reason });
        }
    }

    /// The entries that this looks up.
    #[must_use]
    pub fn replica(&self) -> &ListReplica {
        &self.replica
    }
}

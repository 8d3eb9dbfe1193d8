//! Recovery: profiles and list entries as of the last checkpoint, brought up to date by the journal (I3).
//!
//! Profiles are loaded as the bytes that they are saved as; only those that the journal changes are decoded, a bounded
//! number at a time. The checkpoint store has verified a checksum over each, so that one that does not decode later is
//! no damage of the file but a fault of the version that wrote it: its user is refused, and nobody else (`users`). Records
//! of that user are passed over, and the bytes stay as they are: whoever moves the file away gets all of it again.
//!
//! What a profile says of its user's list entries is the truth, and the saved entries spare reading all profiles for them:
//! users whose entries a record changed are read again once the replay is over, also where their profile was ahead of it.

use super::dormant::Dormant;
use super::replica::ListReplica;
use super::source_offsets::SourceOffsets;
use crate::journal::checkpoint::{Checkpoints, ListSnapshot, ProfileSnapshot, Totals, check_against, check_end};
use crate::journal::profile::{self, ProfileError};
use crate::journal::record::{Body, Record};
use crate::journal::{Journal, JournalError, Partition, Tenure, Wanted};
use futures_util::TryStreamExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use tracing::error;
use verdict_core::lists::{List, ListChange, ListEntry, ListKey, ListKind};
use verdict_core::profile::{Change, Profile, Retention};

/// Profiles decoded at a time during a replay; encoding that many again takes some 20 ms of a shard that does not serve.
const DECODED_AT_ONCE: usize = 8_192;

/// Stored bytes of the profiles decoded at a time: twice as much and more once they are decoded.
const DECODED_BYTES: usize = 64 << 20;

/// About the stored bytes that a change adds to a profile.
const CHANGE_BYTES: usize = 40;

/// What a shard starts from.
pub struct Recovered {
    /// The new epoch of every partition.
    pub tenures: Vec<Tenure>,
    /// Every known user of these partitions.
    pub users: HashSet<Dormant>,
    /// The books of every partition.
    pub totals: HashMap<Partition, Totals>,
    /// Where to resume every source partition of these partitions that has left a record.
    pub sources: SourceOffsets,
    /// Users whose saved profile is behind: the replay changed them. The next checkpoint must hold them, as its position
    /// lies beyond the records that did.
    pub changed: HashSet<Rc<str>>,
    /// Every list entry of these partitions, those in profiles included.
    pub lists: ListedEntries,
    /// Partitions whose saved list entries are behind.
    pub changed_lists: HashSet<Partition>,
    /// Records replayed.
    pub replayed: u64,
}

/// List entries, each with its partition.
pub type ListedEntries = BTreeMap<ListKey, (Partition, ListEntry)>;

impl Recovered {
    /// Hands the list entries of these partitions to the replica, and waits for those of the other shards, which bind here
    /// too.
    pub async fn list(&mut self, lists: &ListReplica, own: &[Partition]) {
        let entries = std::mem::take(&mut self.lists).into_iter();
        lists.load(own, entries.map(|(key, (partition, entry))| (partition, key, entry)));
        lists.complete().await;
    }

    /// Hands over the entries that came after that.
    pub fn list_more(&mut self, lists: &ListReplica) {
        for (key, (partition, entry)) in std::mem::take(&mut self.lists) {
            lists.put(partition, key, entry);
        }
    }
}

/// Starts new epochs, loads the checkpoint and replays what follows it.
///
/// # Errors
/// When the journal or the checkpoint cannot be read, is damaged, or the checkpoint is ahead of the journal.
pub async fn recover(
    partitions: &[Partition],
    journal: &dyn Journal,
    checkpoints: Option<&dyn Checkpoints>,
    retention: &Retention,
) -> Result<Recovered, JournalError> {
    if let Some(store) = checkpoints {
        store.take_over(partitions.to_vec()).await?;
    }
    let tenures = journal.take_over(partitions.to_vec()).await?;
    let (mut replay, mut lists) = (Replay::default(), ListReplay::of(partitions));
    let mut totals: HashMap<Partition, Totals> = partitions.iter().map(|p| (*p, Totals::default())).collect();
    let mut sources = SourceOffsets::new(journal.partitions());
    let mut cursor: HashMap<Partition, u64> = partitions.iter().map(|p| (*p, 0)).collect();
    if let Some(store) = checkpoints {
        let durable = journal.durable().borrow().clone();
        if let Some(mut marker) = store.marker().await? {
            // Where others end, a journal on Kafka knows only once their own shards have taken them over.
            marker.marks.retain(|mark| partitions.contains(&mark.partition));
            check_against(&marker, &durable)?;
            sources.start_from(marker.sources, partitions);
            for mark in &marker.marks {
                cursor.insert(mark.partition, mark.next_n);
                totals.insert(mark.partition, mark.totals);
            }
        }
        store.lists().await?.into_iter().for_each(|saved| lists.start_from(saved));
        let mut snapshots = store.load(partitions);
        while let Some(snapshot) = snapshots.try_next().await? {
            // It may be ahead of its mark, and would skip records that another journal is yet to get.
            check_end(snapshot.partition, snapshot.n, &durable)?;
            replay.users.insert(dormant(&snapshot).map_err(|what| damaged(checkpoints, &snapshot.user_id, &what))?);
            lists.start_without(&snapshot);
        }
    }
    let mut replayed = 0;
    let mut records = journal.replay(cursor.into_iter().collect(), Wanted::Everything);
    while let Some(record) = records.try_next().await? {
        replayed += 1;
        totals.entry(record.partition).or_default().count(&record);
        sources.pass(&record.source);
        lists.apply(&record);
        if let Some((user_id, change)) = record.body.change()
            && let Err(what) = replay.apply(user_id, change, record.n, retention)
        {
            let error = damaged(checkpoints, user_id, &what);
            error!(%error, "a user's events are refused, and those in the journal are passed over");
        }
    }
    drop(records);
    replay.settle();
    lists.settle(&replay.users);
    Ok(Recovered {
        tenures,
        users: replay.users,
        totals,
        sources,
        changed: replay.changed,
        lists: lists.entries,
        changed_lists: lists.changed,
        replayed,
    })
}

/// A saved profile as it is, once its version is known and its number is the row's.
fn dormant(snapshot: &ProfileSnapshot) -> Result<Dormant, ProfileError> {
    if profile::next_n(&snapshot.bytes)? == snapshot.n {
        Ok(Dormant::new(&snapshot.user_id, &snapshot.bytes))
    } else {
        Err(ProfileError::Range("the number of a record"))
    }
}

/// The error of a profile that does not decode, with the file that it came from and what to do.
pub(super) fn damaged(checkpoints: Option<&dyn Checkpoints>, user_id: &str, what: &ProfileError) -> JournalError {
    let what = format!("the profile of user {user_id:?}: {what}");
    match checkpoints {
        Some(store) => store.damaged(what),
        None => JournalError::DamagedCheckpoint { file: Arc::from("memory"), what: what.into() },
    }
}

/// Profiles under replay.
#[derive(Default)]
struct Replay {
    /// All but the decoded ones.
    users: HashSet<Dormant>,
    decoded: HashMap<Rc<str>, Profile>,
    /// Their bytes as they would be stored, about.
    decoded_bytes: usize,
    changed: HashSet<Rc<str>>,
    /// Users whose profile does not decode.
    unreadable: HashSet<Box<str>>,
}

impl Replay {
    /// Applies a change to its user. The first one to a profile that does not decode is an error; such a user stays as it
    /// is, which is not what the journal makes of it, and is refused for that.
    fn apply(&mut self, user_id: &str, change: Change<'_>, n: u64, retention: &Retention) -> Result<(), ProfileError> {
        if let Some(profile) = self.decoded.get_mut(user_id) {
            profile.apply(change, n, retention);
            self.decoded_bytes += CHANGE_BYTES;
            return Ok(());
        }
        if self.unreadable.contains(user_id) {
            return Ok(());
        }
        let (woken, bytes) = match self.users.get(user_id.as_bytes()) {
            Some(dormant) if n < dormant.next_n()? => return Ok(()),
            Some(dormant) => (dormant.wake(), dormant.profile().len()),
            None => (Ok(Profile::default()), 0),
        };
        let mut profile = woken.inspect_err(|_| _ = self.unreadable.insert(user_id.into()))?;
        if self.decoded.len() >= DECODED_AT_ONCE || self.decoded_bytes + bytes > DECODED_BYTES {
            self.settle();
        }
        self.decoded_bytes += bytes + CHANGE_BYTES;
        profile.apply(change, n, retention);
        self.users.remove(user_id.as_bytes());
        let id = match self.changed.get(user_id) {
            Some(id) => Rc::clone(id),
            None => Rc::from(user_id),
        };
        self.changed.insert(Rc::clone(&id));
        self.decoded.insert(id, profile);
        Ok(())
    }

    /// Encodes what is decoded.
    fn settle(&mut self) {
        self.users.extend(self.decoded.drain().map(|(id, profile)| Dormant::of(&id, &profile)));
        self.decoded_bytes = 0;
    }
}

/// List entries under replay.
struct ListReplay {
    entries: ListedEntries,
    /// Partitions whose saved entries are behind, or that have none saved.
    changed: HashSet<Partition>,
    /// Partitions that have none saved: their users' entries are only in the profiles.
    unsaved: HashSet<Partition>,
    /// Users whose own entries were changed, each with their partition.
    relisted: HashMap<Box<str>, Partition>,
}

impl ListReplay {
    fn of(partitions: &[Partition]) -> Self {
        let unsaved: HashSet<Partition> = partitions.iter().copied().collect();
        Self { entries: ListedEntries::new(), changed: unsaved.clone(), unsaved, relisted: HashMap::new() }
    }

    /// Takes what was saved of a partition, if it is one of these.
    fn start_from(&mut self, saved: ListSnapshot) {
        if self.unsaved.remove(&saved.partition) {
            self.changed.remove(&saved.partition);
            let listed = |(key, entry)| (key, (saved.partition, entry));
            self.entries.extend(saved.entries.into_iter().map(listed));
        }
    }

    /// Reads the entries of a user off the profile where no entries were saved: in a checkpoint of an earlier release.
    fn start_without(&mut self, snapshot: &ProfileSnapshot) {
        // One that does not decode is refused when its user comes.
        if self.unsaved.contains(&snapshot.partition)
            && let Ok(profile) = profile::decode(&snapshot.bytes)
        {
            self.read(&snapshot.user_id, snapshot.partition, &profile);
        }
    }

    fn apply(&mut self, record: &Record) {
        let user_id = match &record.body {
            Body::List(ListChange { key, .. }) if key.kind == ListKind::User => &key.value,
            Body::List(change) => {
                self.changed.insert(record.partition);
                return self.set(change.key.clone(), record.partition, change.entry());
            }
            Body::Decision(decided) if decided.decision.block_entry.is_some() => &decided.transaction.user_id,
            Body::Decision(_)
            | Body::Login(_)
            | Body::Label(_)
            | Body::Answered(_)
            | Body::Duplicate { .. }
            | Body::DeadLetter { .. }
            | Body::Skipped { .. } => return,
        };
        self.changed.insert(record.partition);
        self.relisted.insert(user_id.clone(), record.partition);
    }

    /// Reads the entries of the users whose entries changed.
    fn settle(&mut self, users: &HashSet<Dormant>) {
        for (user_id, partition) in std::mem::take(&mut self.relisted) {
            if let Some(Ok(profile)) = users.get(user_id.as_bytes()).map(Dormant::wake) {
                self.read(&user_id, partition, &profile);
            }
        }
    }

    fn read(&mut self, user_id: &str, partition: Partition, profile: &Profile) {
        for (list, _) in List::ALL {
            let key = ListKey { list, kind: ListKind::User, value: user_id.into() };
            self.set(key, partition, profile.entry(list).cloned());
        }
    }

    fn set(&mut self, key: ListKey, partition: Partition, entry: Option<ListEntry>) {
        match entry {
            Some(entry) => self.entries.insert(key, (partition, entry)),
            None => self.entries.remove(&key),
        };
    }
}

/// Applies a record to the profile that it changes, if it changes one.
pub fn fold(users: &mut HashMap<Box<str>, Box<Profile>>, record: &Record, retention: &Retention) {
    let Some((user_id, change)) = record.body.change() else { return };
    if !users.contains_key(user_id) {
        users.insert(user_id.into(), Box::default());
    }
    if let Some(profile) = users.get_mut(user_id) {
        profile.apply(change, record.n, retention);
    }
}

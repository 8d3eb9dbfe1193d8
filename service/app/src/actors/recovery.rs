//! Recovery: profiles as of the last checkpoint, brought up to date by the journal (I3).
//!
//! Profiles are loaded as the bytes that they are saved as; only those that the journal changes are decoded, a bounded
//! number at a time. The checkpoint store has verified a checksum over each, so that one that does not decode later is
//! no damage of the file but a fault of the version that wrote it: its user is refused, and nobody else (`users`).

use super::dormant::Dormant;
use crate::journal::checkpoint::{Checkpoints, ProfileSnapshot, Totals, check_against};
use crate::journal::profile::{self, ProfileError};
use crate::journal::record::Record;
use crate::journal::{Journal, JournalError, Partition, Tenure, Wanted};
use futures_util::TryStreamExt;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use verdict_core::profile::{Change, Profile, Retention};

/// Profiles decoded at a time during a replay; encoding that many again takes some 20 ms of a shard that does not serve.
const DECODED_AT_ONCE: usize = 8_192;

/// What a shard starts from.
pub struct Recovered {
    /// The new epoch of every partition.
    pub tenures: Vec<Tenure>,
    /// Every known user of these partitions.
    pub users: HashSet<Dormant>,
    /// The books of every partition.
    pub totals: HashMap<Partition, Totals>,
    /// Users whose saved profile is behind: the replay changed them. The next checkpoint must hold them, as its position
    /// lies beyond the records that did.
    pub changed: HashSet<Rc<str>>,
    /// Records replayed.
    pub replayed: u64,
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
    let tenures = journal.take_over(partitions.to_vec()).await?;
    let mut replay = Replay::default();
    let mut totals: HashMap<Partition, Totals> = partitions.iter().map(|p| (*p, Totals::default())).collect();
    let mut cursor: HashMap<Partition, u64> = partitions.iter().map(|p| (*p, 0)).collect();
    if let Some(store) = checkpoints {
        if let Some(marker) = store.marker().await? {
            check_against(&marker, &journal.durable().borrow())?;
            for mark in marker.marks.iter().filter(|mark| partitions.contains(&mark.partition)) {
                cursor.insert(mark.partition, mark.next_n);
                totals.insert(mark.partition, mark.totals);
            }
        }
        let mut snapshots = store.load(partitions);
        while let Some(snapshot) = snapshots.try_next().await? {
            replay.users.insert(dormant(&snapshot).map_err(|what| damaged(checkpoints, &snapshot.user_id, &what))?);
        }
    }
    let mut replayed = 0;
    let mut records = journal.replay(cursor.into_iter().collect(), Wanted::Everything);
    while let Some(record) = records.try_next().await? {
        replayed += 1;
        totals.entry(record.partition).or_default().count(&record);
        if let Some((user_id, change)) = record.body.change() {
            replay.apply(user_id, change, record.n, retention).map_err(|what| damaged(checkpoints, user_id, &what))?;
        }
    }
    drop(records);
    replay.settle();
    Ok(Recovered { tenures, users: replay.users, totals, changed: replay.changed, replayed })
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
    changed: HashSet<Rc<str>>,
}

impl Replay {
    fn apply(&mut self, user_id: &str, change: Change<'_>, n: u64, retention: &Retention) -> Result<(), ProfileError> {
        if let Some(profile) = self.decoded.get_mut(user_id) {
            profile.apply(change, n, retention);
            return Ok(());
        }
        let mut profile = match self.users.get(user_id.as_bytes()) {
            Some(dormant) if n < dormant.next_n()? => return Ok(()),
            Some(dormant) => dormant.wake()?,
            None => Profile::default(),
        };
        if self.decoded.len() >= DECODED_AT_ONCE {
            self.settle();
        }
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

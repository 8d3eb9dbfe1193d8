//! Recovery: profiles as of the last checkpoint, brought up to date by the journal (I3).

use crate::journal::checkpoint::{Checkpoints, Totals, check_against};
use crate::journal::record::{Body, Record};
use crate::journal::{Journal, JournalError, Partition, Tenure, profile_v1};
use futures_util::TryStreamExt;
use std::collections::{HashMap, HashSet};
use verdict_core::profile::{Change, Profile, Retention};

/// What a shard starts from.
pub struct Recovered {
    /// The new epoch of every partition.
    pub tenures: Vec<Tenure>,
    /// Every known user of these partitions.
    pub users: HashMap<Box<str>, Box<Profile>>,
    /// The books of every partition.
    pub totals: HashMap<Partition, Totals>,
    /// Users whose saved profile is behind: the replay changed them. The next checkpoint must hold them, as its position
    /// lies beyond the records that did.
    pub changed: HashSet<Box<str>>,
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
    let mut users: HashMap<Box<str>, Box<Profile>> = HashMap::new();
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
            let profile = profile_v1::decode(&snapshot.bytes)
                .map_err(|what| store.damaged(format!("the profile of user {:?}: {what}", snapshot.user_id)))?;
            users.insert(snapshot.user_id, Box::new(profile));
        }
    }
    let (mut replayed, mut changed) = (0, HashSet::new());
    let mut records = journal.replay(cursor.into_iter().collect());
    while let Some(record) = records.try_next().await? {
        replayed += 1;
        totals.entry(record.partition).or_default().count(&record);
        if let Some(user_id) = fold(&mut users, &record, retention)
            && !changed.contains(user_id)
        {
            changed.insert(user_id.into());
        }
    }
    drop(records);
    Ok(Recovered { tenures, users, totals, changed, replayed })
}

/// Applies a record to the profile that it changes, if it changes one; says whose.
pub fn fold<'r>(
    users: &mut HashMap<Box<str>, Box<Profile>>,
    record: &'r Record,
    retention: &Retention,
) -> Option<&'r str> {
    let (user_id, change) = match &record.body {
        Body::Decision(decided) => {
            (&decided.transaction.user_id, Change::Decided(&decided.transaction, &decided.decision))
        }
        Body::Login(login) => (&login.user_id, Change::LoggedIn(login)),
        Body::Label(label) => (&label.user_id, Change::Labelled(label)),
        Body::Duplicate { .. } | Body::DeadLetter { .. } => return None,
    };
    if !users.contains_key(user_id) {
        users.insert(user_id.clone(), Box::default());
    }
    if let Some(profile) = users.get_mut(user_id) {
        profile.apply(change, record.n, retention);
    }
    Some(user_id)
}

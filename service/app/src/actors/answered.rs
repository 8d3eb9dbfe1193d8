//! Answers that were given from the spill and did not become durable under their own epoch: the owner of their partition
//! journals them under the next one, as they were answered, before it serves (PROTOCOL, "Answers that are not durable").
//!
//! Nothing is computed here. The first record of a transaction decides its books: an entry whose transaction is in the
//! journal with the same decision is done, and one that was answered otherwise leaves a record that says so and counts no
//! spend. No entry leaves the spill before the journal has its transaction.

use super::completion::count_answered_before;
use super::dormant::Dormant;
use super::recovery::Recovered;
use crate::journal::profile::ProfileError;
use crate::journal::record::{Body, Decided, Record};
use crate::journal::spill::{RecordId, Spill};
use crate::journal::{Journal, JournalError, Partition, Tenure, Wanted};
use crate::telemetry::{Metrics, events};
use futures_util::TryStreamExt;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use tracing::{error, info, warn};
use verdict_core::event::Source;
use verdict_core::lists::{ListKey, ListKind};
use verdict_core::profile::{Admission, Change, Profile, Retention};

/// Records of an append.
const RECORDS_AT_ONCE: usize = 256;

/// Decisions that are read one by one; more are looked for in the records from the first of them on.
const SINGLE_READS: usize = 16;

/// Journals what is left of these partitions; gives what stays there for good.
///
/// # Errors
/// When the journal cannot be read or written. What was journaled by then is found there the next time.
pub(super) async fn journal_left(
    recovered: &mut Recovered,
    spill: &Spill,
    journal: &dyn Journal,
    retention: &Retention,
    metrics: &Metrics,
) -> Result<BTreeSet<RecordId>, JournalError> {
    let own: Vec<Partition> = recovered.tenures.iter().map(|tenure| tenure.partition).collect();
    let left = spill.left(&own).map_err(|error| JournalError::Store(format!("the spill: {error}").into()))?;
    if left.is_empty() {
        return Ok(BTreeSet::new());
    }
    let firsts = firsts(&left, recovered, journal, retention).await?;
    let awake = Awake::default();
    let mut books = Books { recovered, retention, awake, firsts, done: Vec::new(), records: Vec::new() };
    let (mut journaled, mut conflicts, mut kept) = (0_usize, 0_usize, BTreeSet::new());
    for entries in left.chunks(RECORDS_AT_ONCE) {
        for entry in entries {
            if let Err(what) = books.enter(entry) {
                kept.insert(RecordId::from(entry));
                let Record { partition, n, .. } = entry;
                error!(partition, n, %what, "an answer stays in the spill: the profile of its user cannot be read");
            }
        }
        books.settle();
        let records = std::mem::take(&mut books.records);
        journal.append(records.clone()).await.map_err(|error| JournalError::Store(error.to_string().into()))?;
        for record in &records {
            match &record.body {
                Body::Decision(decided) => count_answered_before(decided, metrics),
                _ => {
                    conflicts += 1;
                    events::AnswerConflicted.emit(metrics);
                }
            }
        }
        journaled += records.len();
        spill.remove(std::mem::take(&mut books.done));
    }
    info!(
        entries = left.len(),
        journaled,
        conflicts,
        kept = kept.len(),
        "answers that were given before they were durable are journaled"
    );
    Ok(kept)
}

/// The first decisions of transactions that the journal has, by partition and number.
type Firsts = HashMap<(Partition, u64), Arc<Decided>>;

/// Reads the decisions that these entries are to be held against.
async fn firsts(
    left: &[Record],
    recovered: &Recovered,
    journal: &dyn Journal,
    retention: &Retention,
) -> Result<Firsts, JournalError> {
    let (mut wanted, mut awake) = (Vec::new(), Awake::default());
    for entry in left {
        let Body::Decision(decided) = &entry.body else { continue };
        if awake.0.len() > RECORDS_AT_ONCE {
            awake.0.clear();
        }
        let Ok(profile) = awake.get(&recovered.users, &decided.transaction.user_id) else { continue };
        match profile.admit_transaction(&decided.transaction, retention) {
            Admission::Duplicate { n } => wanted.push((entry.partition, n)),
            // Below the floor a duplicate cannot be told, but for the entry's own record.
            Admission::TooOld { .. } => wanted.push((entry.partition, entry.n)),
            Admission::New | Admission::IdReused => {}
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut firsts = Firsts::new();
    let mut take = |record: Record| {
        if let Body::Decision(decided) = record.body {
            firsts.insert((record.partition, record.n), decided);
        }
    };
    if wanted.len() <= SINGLE_READS {
        for (partition, n) in wanted {
            journal.read(partition, n).await?.into_iter().for_each(&mut take);
        }
    } else {
        let mut from = BTreeMap::new();
        wanted.iter().for_each(|(partition, n)| _ = from.entry(*partition).or_insert(*n));
        let mut records = journal.replay(from.into_iter().collect(), Wanted::Everything);
        while let Some(record) = records.try_next().await? {
            if wanted.binary_search(&(record.partition, record.n)).is_ok() {
                take(record);
            }
        }
    }
    Ok(firsts)
}

/// Profiles that are decoded: a user with many payments may have many answers left.
#[derive(Default)]
struct Awake(HashMap<Box<str>, Profile>);

impl Awake {
    fn get(&mut self, users: &HashSet<Dormant>, user_id: &str) -> Result<&mut Profile, ProfileError> {
        match self.0.entry(user_id.into()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let woken = users.get(user_id.as_bytes()).map_or_else(|| Ok(Profile::default()), Dormant::wake);
                Ok(new.insert(woken?))
            }
        }
    }
}

/// What is recovered, and what the entries make of it.
struct Books<'a> {
    recovered: &'a mut Recovered,
    retention: &'a Retention,
    /// Of the users of these records.
    awake: Awake,
    /// Those that were there, and those that are entered.
    firsts: Firsts,
    /// Entries whose transactions are in the journal, once `records` are.
    done: Vec<RecordId>,
    /// To be journaled.
    records: Vec<Record>,
}

impl Books<'_> {
    /// Enters an answer, unless its transaction is known with the same one.
    fn enter(&mut self, entry: &Record) -> Result<(), ProfileError> {
        let Body::Decision(decided) = &entry.body else {
            // Nothing else is ever put.
            self.done.push(RecordId::from(entry));
            return Ok(());
        };
        let transaction = &decided.transaction;
        let profile = self.awake.get(&self.recovered.users, &transaction.user_id)?;
        let known = match profile.admit_transaction(transaction, self.retention) {
            Admission::New => None,
            Admission::IdReused => Some(false),
            Admission::Duplicate { n } => {
                let first = self.firsts.get(&(entry.partition, n));
                // One that cannot be told from it is no other answer.
                Some(first.is_none_or(|first| first.decision == decided.decision))
            }
            // However old: the answer was given in time.
            Admission::TooOld { .. } => self.firsts.get(&(entry.partition, entry.n)).and_then(|own| {
                let same = (&own.transaction.user_id, &own.transaction.transaction_id)
                    == (&transaction.user_id, &transaction.transaction_id);
                same.then(|| own.decision == decided.decision)
            }),
        };
        let decided = Arc::new(Decided { as_answered: true, ..Decided::clone(decided) });
        match known {
            Some(true) => {}
            Some(false) => {
                warn!(
                    user_id = &*decided.transaction.user_id,
                    transaction_id = &*decided.transaction.transaction_id,
                    "another answer to this transaction was given than the one that counts"
                );
                self.number(entry, Body::Answered(decided));
            }
            None => {
                let n = self.number(entry, Body::Decision(Arc::clone(&decided)));
                self.firsts.insert((entry.partition, n), Arc::clone(&decided));
                self.apply(entry.partition, n, &decided);
            }
        }
        self.done.push(RecordId::from(entry));
        Ok(())
    }

    fn number(&mut self, entry: &Record, body: Body) -> u64 {
        // invariant I1: `left` was asked for the partitions of these tenures only.
        let Some(Tenure { epoch, next_n, .. }) =
            self.recovered.tenures.iter_mut().find(|tenure| tenure.partition == entry.partition)
        else {
            return entry.n;
        };
        let n = *next_n;
        *next_n += 1;
        let (partition, epoch) = (entry.partition, *epoch);
        let record = Record { partition, epoch, n, source: Source::Http, received_at: entry.received_at, body };
        self.recovered.totals.entry(partition).or_default().count(&record);
        self.records.push(record);
        n
    }

    /// Folds an answer into the profile of its user, and shows the list entry that it made.
    fn apply(&mut self, partition: Partition, n: u64, decided: &Decided) {
        let user_id = &decided.transaction.user_id;
        // Whoever comes here has asked for it before.
        let Some(profile) = self.awake.0.get_mut(user_id) else { return };
        profile.apply(Change::Decided(&decided.transaction, &decided.decision), n, self.retention);
        self.recovered.changed.insert(Rc::from(&**user_id));
        if let Some(entry) = &decided.decision.block_entry {
            let key = ListKey { list: entry.list, kind: ListKind::User, value: user_id.clone() };
            if let Some(entry) = profile.entry(entry.list).cloned() {
                self.recovered.lists.insert(key, (partition, entry));
            }
            self.recovered.changed_lists.insert(partition);
        }
    }

    /// Puts the profiles back.
    fn settle(&mut self) {
        for (user_id, profile) in self.awake.0.drain() {
            if self.recovered.changed.contains(&*user_id) {
                self.recovered.users.replace(Dormant::of(&user_id, &profile));
            }
        }
    }
}

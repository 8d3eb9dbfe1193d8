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
use std::collections::{BTreeMap, HashMap};
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

/// Journals what is left of these partitions.
///
/// # Errors
/// When the journal cannot be read or written. What was journaled by then is found there the next time.
pub(super) async fn journal_left(
    recovered: &mut Recovered,
    spill: &Spill,
    journal: &dyn Journal,
    retention: &Retention,
    metrics: &Metrics,
) -> Result<(), JournalError> {
    let own: Vec<Partition> = recovered.tenures.iter().map(|tenure| tenure.partition).collect();
    let left = spill.left(&own).map_err(|error| JournalError::Store(format!("the spill: {error}").into()))?;
    if left.is_empty() {
        return Ok(());
    }
    let firsts = firsts(&left, recovered, journal, retention).await?;
    let mut books = Books { recovered, retention, firsts, done: Vec::new(), records: Vec::new() };
    let (mut journaled, mut conflicts, mut kept) = (0_usize, 0_usize, 0_usize);
    for entries in left.chunks(RECORDS_AT_ONCE) {
        for entry in entries {
            if let Err(what) = books.enter(entry) {
                kept += 1;
                let Record { partition, n, .. } = entry;
                error!(partition, n, %what, "an answer stays in the spill: the profile of its user cannot be read");
            }
        }
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
        journaled, conflicts, kept, "answers that were given before they were durable are journaled"
    );
    Ok(())
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
    let mut wanted: Vec<(Partition, u64)> = Vec::new();
    for entry in left {
        let Body::Decision(decided) = &entry.body else { continue };
        let Ok(profile) = profile_of(recovered, &decided.transaction.user_id) else { continue };
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

fn profile_of(recovered: &Recovered, user_id: &str) -> Result<Profile, ProfileError> {
    recovered.users.get(user_id.as_bytes()).map_or_else(|| Ok(Profile::default()), Dormant::wake)
}

/// What is recovered, and what the entries make of it.
struct Books<'a> {
    recovered: &'a mut Recovered,
    retention: &'a Retention,
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
        let mut profile = profile_of(self.recovered, &transaction.user_id)?;
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
                profile.apply(Change::Decided(&decided.transaction, &decided.decision), n, self.retention);
                self.save(entry.partition, &decided, &profile);
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

    /// Puts the profile back, with the list entry that the decision made.
    fn save(&mut self, partition: Partition, decided: &Decided, profile: &Profile) {
        let user_id = &decided.transaction.user_id;
        self.recovered.users.replace(Dormant::of(user_id, profile));
        self.recovered.changed.insert(Rc::from(&**user_id));
        if let Some(entry) = &decided.decision.block_entry {
            let key = ListKey { list: entry.list, kind: ListKind::User, value: user_id.clone() };
            if let Some(entry) = profile.entry(entry.list).cloned() {
                self.recovered.lists.insert(key, (partition, entry));
            }
            self.recovered.changed_lists.insert(partition);
        }
    }
}

//! What a spill holds, in memory: every entry, found by its record or by its transaction.

use super::{NO_EPOCH, NotKept, RecordId, frame};
use crate::journal::record::Body;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The first number of a record that no epoch has numbered: no journal comes so far, so that none is taken for one of its own.
const FIRST_UNNUMBERED: u64 = 1 << 62;

/// A transaction: its user's id and its own.
pub(super) type EventId = (Box<str>, Box<str>);

/// The transaction of a decision.
pub(super) fn event_of(body: &Body) -> Option<EventId> {
    let Body::Decision(decided) = body else { return None };
    Some((decided.transaction.user_id.clone(), decided.transaction.transaction_id.clone()))
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<[u8]>,
    pub(super) event: Option<EventId>,
    /// Those who wait until it is on the disk; `None` once it is.
    pub(super) waiting: Option<Vec<oneshot::Sender<Result<(), NotKept>>>>,
}

impl Entry {
    pub(super) fn size(&self) -> usize {
        self.record.len() + frame::ITEM
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: BTreeMap<RecordId, Entry>,
    /// The last entry of each transaction.
    by_event: HashMap<EventId, RecordId>,
    /// One behind the last record that no epoch has numbered, if there was one.
    unnumbered: Option<u64>,
    pub(super) bytes: usize,
    pub(super) failure: Option<Arc<str>>,
}

impl Index {
    pub(super) fn insert(&mut self, id: RecordId, entry: Entry) {
        if id.epoch == NO_EPOCH {
            self.unnumbered = self.unnumbered.max(Some(id.n + 1));
        }
        self.by_event.extend(entry.event.clone().map(|event| (event, id)));
        self.bytes += entry.size();
        self.entries.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: &RecordId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.bytes -= entry.size();
        if let Some(event) = &entry.event
            && self.by_event.get(event) == Some(id)
        {
            self.by_event.remove(event);
        }
        Some(entry)
    }

    /// Drops what is not in the file, and whoever waits for that.
    pub(super) fn forget_unwritten(&mut self) {
        let unwritten = self.entries.iter().filter(|(_, entry)| entry.waiting.is_some());
        let unwritten: Vec<RecordId> = unwritten.map(|(id, _)| *id).collect();
        unwritten.iter().for_each(|id| drop(self.remove(id)));
    }

    /// A number for a record that no epoch has numbered.
    pub(super) fn number(&mut self) -> u64 {
        let n = self.unnumbered.unwrap_or(FIRST_UNNUMBERED);
        self.unnumbered = Some(n + 1);
        n
    }

    /// The record of a transaction.
    pub(super) fn known(&self, user_id: &str, transaction_id: &str) -> Option<Arc<[u8]>> {
        let id = self.by_event.get(&(Box::from(user_id), Box::from(transaction_id)))?;
        Some(Arc::clone(&self.entries.get(id)?.record))
    }
}

//! What was learned of a user's transactions: one label per transaction and source, the latest timestamp wins.
//!
//! Beyond the bound the oldest is forgotten, so the oldest of a full set is never older than any that was: a label at or
//! below it that is not known may be one that was forgotten, or an older one of the same subject. It says nothing new,
//! however often it comes. Nothing more need be remembered for that: a set that is full stays full, and its oldest never
//! gets older.

use super::{Admission, Retention};
use crate::event::{Label, LabelSource, id_hash};
use crate::time::Timestamp;

/// A label that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelEntry {
    /// Fingerprint of the transaction id.
    pub transaction: u64,
    /// Who says so.
    pub source: LabelSource,
    /// Whether it was fraud.
    pub is_fraud: bool,
    /// When they said it.
    pub at: Timestamp,
    /// What was lost, in minor units of the base currency.
    pub lost_minor: Option<i64>,
}

impl From<&Label> for LabelEntry {
    fn from(label: &Label) -> Self {
        Self {
            transaction: id_hash(&label.transaction_id),
            source: label.source,
            is_fraud: label.is_fraud,
            at: label.at,
            lost_minor: label.amount_lost.map(|lost| lost.0),
        }
    }
}

/// In order of arrival.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Labels(pub(super) Vec<LabelEntry>);

impl Labels {
    pub(super) fn iter(&self) -> impl Iterator<Item = &LabelEntry> {
        self.0.iter()
    }

    fn position(&self, label: &Label) -> Option<usize> {
        let transaction = id_hash(&label.transaction_id);
        self.0.iter().position(|known| known.transaction == transaction && known.source == label.source)
    }

    /// A label older than the one known says nothing new; of two at one instant the later arrival wins.
    pub(super) fn admit(&self, label: &Label, retention: &Retention) -> Admission {
        let says_nothing = match self.position(label).map(|index| self.0[index]) {
            Some(known) => known.at > label.at || known == LabelEntry::from(label),
            None => self.oldest_when_full(retention).is_some_and(|oldest| label.at <= oldest),
        };
        if says_nothing { Admission::Duplicate { n: 0 } } else { Admission::New }
    }

    fn oldest_when_full(&self, retention: &Retention) -> Option<Timestamp> {
        let full = self.0.len() >= retention.max_labels;
        full.then(|| self.0.iter().map(|known| known.at).min())?
    }

    pub(super) fn insert(&mut self, label: &Label, retention: &Retention) {
        let entry = LabelEntry::from(label);
        match self.position(label) {
            Some(index) if self.0[index].at <= entry.at => self.0[index] = entry,
            Some(_) => {}
            None => self.0.push(entry),
        }
        if self.0.len() > retention.max_labels
            && let Some((oldest, _)) = self.0.iter().enumerate().min_by_key(|(_, known)| known.at)
        {
            self.0.remove(oldest);
        }
    }
}

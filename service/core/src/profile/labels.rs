//! What was learned of a user's transactions: one label per transaction and source, the latest timestamp wins.

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
    pub(super) fn admit(&self, label: &Label) -> Admission {
        match self.position(label).map(|index| self.0[index]) {
            Some(known) if known.at > label.at || known == LabelEntry::from(label) => Admission::Duplicate { n: 0 },
            _ => Admission::New,
        }
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

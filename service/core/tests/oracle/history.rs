//! The naive history: what is known of a user, kept whole, asked by linear scans.

use std::cmp::Reverse;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::lists::{List, ListAction, ListChange, ListEntry};
use verdict_core::profile::Admission;
use verdict_core::time::Timestamp;

/// A transaction and the number of its journal record.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) n: u64,
    pub(crate) transaction: Transaction,
}

/// Everything that was ever accepted, in journal order.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) decided: Vec<Decided>,
    pub(crate) logins: Vec<Login>,
    pub(crate) labels: Vec<Label>,
    pub(crate) listings: Vec<Listing>,
}

/// What happened to the user's list entries, in journal order.
#[derive(Clone, Debug)]
pub(crate) enum Listing {
    /// A decision made an entry, on its own account.
    Automatic(ListEntry),
    /// Somebody asked for it.
    Asked(ListChange),
}

/// What an admission says, without the record number where nobody keeps one (logins and labels).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    New,
    Duplicate,
    IdReused,
    TooOld { floor: Timestamp },
}

impl From<Admission> for Answer {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::New => Self::New,
            Admission::Duplicate { .. } => Self::Duplicate,
            Admission::IdReused => Self::IdReused,
            Admission::TooOld { floor } => Self::TooOld { floor },
        }
    }
}

impl History {
    /// The newest timestamp of any transaction or login.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        let payments = self.decided.iter().map(|decided| decided.transaction.at);
        payments.chain(self.logins.iter().map(|login| login.at)).max()
    }

    /// The dedupe horizon of a profile that dropped nothing inside it.
    pub(crate) fn floor(&self, dedupe_ms: i64) -> Option<Timestamp> {
        self.newest().map(|newest| Timestamp::from_millis(newest.as_millis() - dedupe_ms))
    }

    /// What a transaction is to a profile that knows these of the ids, and refuses what it does not know at or below
    /// `floor`.
    pub(crate) fn admit_transaction(
        &self,
        transaction: &Transaction,
        floor: Option<Timestamp>,
        knows: impl Fn(&Decided) -> bool,
    ) -> Admission {
        let of_id = |one: &&Decided| one.transaction.transaction_id == transaction.transaction_id;
        match self.decided.iter().filter(of_id).find(|one| knows(one)) {
            None => match floor.filter(|floor| transaction.at <= *floor) {
                Some(floor) => Admission::TooOld { floor },
                None => Admission::New,
            },
            // The rates of the day are no content: the base amount is left out.
            Some(known)
                if known.transaction == (Transaction { base: known.transaction.base, ..transaction.clone() }) =>
            {
                Admission::Duplicate { n: known.n }
            }
            Some(_) => Admission::IdReused,
        }
    }

    /// The same of a login.
    pub(crate) fn admit_login(
        &self,
        login: &Login,
        floor: Option<Timestamp>,
        knows: impl Fn(&Login) -> bool,
    ) -> Answer {
        match self.logins.iter().filter(|one| one.login_id == login.login_id).find(|one| knows(one)) {
            None => match floor.filter(|floor| login.at <= *floor) {
                Some(floor) => Answer::TooOld { floor },
                None => Answer::New,
            },
            Some(known) if known == login => Answer::Duplicate,
            Some(_) => Answer::IdReused,
        }
    }

    /// A label is new unless one of its transaction and source is as new.
    pub(crate) fn admit_label(&self, label: &Label) -> Answer {
        if self.labels.iter().any(|known| same_subject(known, label) && known.at >= label.at) {
            Answer::Duplicate
        } else {
            Answer::New
        }
    }

    /// The latest label of every transaction and source.
    pub(crate) fn labels_in_force(&self) -> Vec<&Label> {
        let newer = |label: &Label| self.labels.iter().any(|other| same_subject(other, label) && other.at > label.at);
        self.labels.iter().filter(|label| !newer(label)).collect()
    }

    /// The last successful login at or before `at`, on a tie the later arrival.
    pub(crate) fn last_login(&self, at: Timestamp, located: bool) -> Option<&Login> {
        let wanted = |login: &&Login| login.success && login.at <= at && (!located || login.location.is_some());
        // Of equal ones `max_by_key` gives the last, which arrived last.
        self.logins.iter().filter(wanted).max_by_key(|login| login.at)
    }

    /// The entry of a list, whether it still binds or not: what was asked for last, unless a decision since then made one
    /// that binds longer, or made the first.
    pub(crate) fn entry(&self, list: List) -> Option<ListEntry> {
        let about = |listing: &&Listing| match listing {
            Listing::Automatic(entry) => entry.list == list,
            Listing::Asked(change) => change.key.list == list,
        };
        let told: Vec<&Listing> = self.listings.iter().filter(about).collect();
        let asked = told.iter().rposition(|listing| matches!(listing, Listing::Asked(_)));
        let candidates = told[asked.unwrap_or(0)..].iter().filter_map(|listing| match listing {
            Listing::Automatic(entry) => Some(entry.clone()),
            Listing::Asked(ListChange { action: ListAction::Put { reason, expires_at }, .. }) => {
                Some(ListEntry { list, reason: reason.clone(), alert_id: None, expires_at: *expires_at })
            }
            Listing::Asked(ListChange { action: ListAction::Delete, .. }) => None,
        });
        // Of equal ones `min_by_key` gives the first, which stays.
        candidates.min_by_key(|entry| entry.expires_at.map_or((0, Reverse(0)), |end| (1, Reverse(end.as_millis()))))
    }

    /// Whether an entry of a list binds at `now`.
    pub(crate) fn listed(&self, list: List, now: Timestamp) -> Option<ListEntry> {
        self.entry(list).filter(|entry| match entry.expires_at {
            None => true,
            Some(end) => now.as_millis() < end.as_millis(),
        })
    }
}

fn same_subject(a: &Label, b: &Label) -> bool {
    a.transaction_id == b.transaction_id && a.source == b.source
}

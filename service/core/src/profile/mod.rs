//! The profile: everything Verdict remembers of one user, as a pure fold over the journal (I3).
//!
//! `admit_*` asks whether an event is new, `features::compute` looks at the history as if the event were already in it,
//! and `apply` is the only way in, live and on replay alike. Nothing here knows where events come from.

mod index;
mod labels;
mod logins;
mod parts;
mod spending;
mod walk;

pub use labels::LabelEntry;
pub use logins::LoginEntry;
pub use parts::{PartsError, ProfileParts};
pub use spending::{Bucket, Payment, Spent, WindowTotals, Windows};

use crate::decision::Decision;
use crate::event::{Label, Login, Transaction};
use crate::lists::{List, ListChange, ListEntry, ListHit, ListKind};
use crate::time::{DAY_MS, Timestamp};
use labels::Labels;
use logins::Logins;
use spending::Spending;

/// The longest sliding window of the catalogue.
pub const LONGEST_WINDOW_MS: i64 = 30 * DAY_MS;

/// The window over which merchants are told apart; ids of merchants are kept this much longer than the dedupe horizon.
pub const MERCHANT_WINDOW_MS: i64 = DAY_MS;

/// How much a profile keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How far behind a user's newest event a duplicate can still be told; at least the oldest accepted age plus the
    /// farthest accepted time ahead, so that it is never the reason for a refusal in practice.
    pub dedupe_ms: i64,
    /// Transactions kept exactly; beyond it the oldest become hourly buckets.
    pub max_payments: usize,
    /// Logins kept; beyond it the oldest are forgotten, failed ones first.
    pub max_logins: usize,
    /// Labels kept; beyond it the oldest are forgotten.
    pub max_labels: usize,
    /// Transactions kept exactly from which on they are indexed; changes what an answer costs, never the answer.
    pub index_from: usize,
}

impl Default for Retention {
    /// 8 days, the bounds of the contract, and the count about where an index is measured to cost less than walks.
    fn default() -> Self {
        Self { dedupe_ms: 8 * DAY_MS, max_payments: 20_000, max_logins: 2_000, max_labels: 1_000, index_from: 128 }
    }
}

/// Whether an event may change the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was not seen before.
    New,
    /// It was seen before with the same content.
    Duplicate {
        /// A transaction's record in the user's partition; 0 for logins and labels, whose answers need none.
        n: u64,
    },
    /// Its id was seen before with other content.
    IdReused,
    /// It is not known, and at or below the floor, where a duplicate could no longer be told from a new event.
    TooOld {
        /// The floor.
        floor: Timestamp,
    },
}

/// What a journal record does to a profile.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A transaction was decided.
    Decided(&'a Transaction, &'a Decision),
    /// A login was seen.
    LoggedIn(&'a Login),
    /// A label was learned.
    Labelled(&'a Label),
    /// An entry about the user was put on a list or taken off.
    Listed(&'a ListChange),
}

/// Everything remembered of one user.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Profile {
    spending: Spending,
    logins: Logins,
    labels: Labels,
    block: Option<ListEntry>,
    allow: Option<ListEntry>,
    /// The newest timestamp of any transaction or login: one horizon for both, so that whatever is still accepted finds
    /// the logins and the payments that it may ask for.
    newest: Option<Timestamp>,
    /// The number after the last record that changed this profile; a replay skips everything below it.
    next_n: u64,
}

impl Profile {
    /// Applies record `n` of the user's partition. Records below [`Profile::next_n`] are already reflected and are
    /// skipped, so that a replay may start anywhere before the snapshot.
    pub fn apply(&mut self, change: Change<'_>, n: u64, retention: &Retention) {
        if n < self.next_n {
            return;
        }
        self.next_n = n + 1;
        match change {
            Change::Decided(transaction, decision) => {
                let newest = self.advance(transaction.at);
                self.spending.insert(transaction, n, newest, retention);
                if let Some(entry) = &decision.block_entry {
                    self.enter(entry.clone());
                }
            }
            Change::LoggedIn(login) => {
                let newest = self.advance(login.at);
                self.logins.insert(login, newest, retention);
            }
            Change::Labelled(label) => self.labels.insert(label, retention),
            Change::Listed(change) => *self.place(change.key.list) = change.entry(),
        }
    }

    /// Whether a transaction is new.
    #[must_use]
    pub fn admit_transaction(&self, transaction: &Transaction, retention: &Retention) -> Admission {
        self.spending.admit(transaction, self.payment_floor(retention))
    }

    /// Whether a login is new.
    #[must_use]
    pub fn admit_login(&self, login: &Login, retention: &Retention) -> Admission {
        self.logins.admit(login, self.login_floor(retention))
    }

    /// Whether a label says anything new; an older one than is known of the same source counts as a duplicate, and so
    /// does one that is not newer than the oldest of as many as are kept.
    #[must_use]
    pub fn admit_label(&self, label: &Label, retention: &Retention) -> Admission {
        self.labels.admit(label, retention)
    }

    /// The user's own list entries that bind a decision at `now`.
    #[must_use]
    pub fn list_hits(&self, user_id: &str, now: Timestamp) -> Vec<ListHit> {
        self.entries()
            .filter(|entry| entry.binds(now))
            .map(|entry| ListHit {
                list: entry.list,
                kind: ListKind::User,
                value: user_id.into(),
                reason: entry.reason.clone(),
            })
            .collect()
    }

    /// The user's own list entries, expired ones included.
    pub fn entries(&self) -> impl Iterator<Item = &ListEntry> {
        self.block.iter().chain(&self.allow)
    }

    /// The user's own entry of a list, expired or not.
    #[must_use]
    pub fn entry(&self, list: List) -> Option<&ListEntry> {
        self.entries().find(|entry| entry.list == list)
    }

    /// Sliding-window totals at `at`: with a transaction (its amount in minor units and its merchant) as if it were the
    /// last event at that instant, or of the history alone.
    #[must_use]
    pub fn windows(&self, at: Timestamp, with: Option<(i64, &str)>) -> Windows {
        self.spending.windows(at, with)
    }

    /// The last successful login at or before `at`, on a tie the later arrival.
    #[must_use]
    pub fn last_login(&self, at: Timestamp) -> Option<&LoginEntry> {
        self.logins.last(at, |_| true)
    }

    /// The last successful login with coordinates at or before `at`, on a tie the later arrival.
    #[must_use]
    pub fn last_located_login(&self, at: Timestamp) -> Option<&LoginEntry> {
        self.logins.last(at, |login| login.location.is_some())
    }

    /// Retained transactions with their ids, newest first.
    pub fn recent_payments(&self) -> impl Iterator<Item = &Payment> {
        self.spending.recent_newest_first()
    }

    /// Number of transactions kept exactly.
    #[must_use]
    pub fn payments_retained(&self) -> usize {
        self.spending.len()
    }

    /// Retained labels.
    pub fn labels(&self) -> impl Iterator<Item = &LabelEntry> {
        self.labels.iter()
    }

    /// A transaction at or below it is refused, unless its id is still known; `None` before the first event. It is the
    /// dedupe horizon, the newest transaction whose id was dropped, or the newest successful login that left: which login
    /// came before that one nobody knows any more. A failed login is never asked for, and what is forgotten of those
    /// refuses nobody's payment.
    #[must_use]
    pub fn payment_floor(&self, retention: &Retention) -> Option<Timestamp> {
        self.horizon(retention).max(self.spending.dropped).max(self.logins.last.map(|login| login.at))
    }

    /// A login at or below it is refused, unless its id is still known; `None` before the first event. It is the dedupe
    /// horizon, or the newest transaction or login whose id was dropped inside it.
    #[must_use]
    pub fn login_floor(&self, retention: &Retention) -> Option<Timestamp> {
        self.horizon(retention).max(self.spending.dropped).max(self.logins.dropped)
    }

    fn horizon(&self, retention: &Retention) -> Option<Timestamp> {
        self.newest.map(|newest| newest - retention.dedupe_ms)
    }

    /// The number after the last record that changed this profile.
    #[must_use]
    pub const fn next_n(&self) -> u64 {
        self.next_n
    }

    fn advance(&mut self, at: Timestamp) -> Timestamp {
        let newest = self.newest.map_or(at, |newest| newest.max(at));
        self.newest = Some(newest);
        newest
    }

    const fn place(&mut self, list: List) -> &mut Option<ListEntry> {
        match list {
            List::Block => &mut self.block,
            List::Allow => &mut self.allow,
        }
    }

    /// Puts an entry on a list that nobody asked for; of two, the one that binds longer stays.
    fn enter(&mut self, entry: ListEntry) {
        let place = self.place(entry.list);
        let stays = place.as_ref().is_some_and(|old| match (old.expires_at, entry.expires_at) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(old_end), Some(new_end)) => old_end >= new_end,
        });
        if !stays {
            *place = Some(entry);
        }
    }
}

//! A profile taken apart into plain values, for whoever stores it, and put together again.

use super::labels::Labels;
use super::logins::Logins;
use super::spending::Spending;
use super::{Bucket, LabelEntry, LoginEntry, Payment, Profile, Spent};
use crate::lists::ListEntry;
use crate::time::Timestamp;
use thiserror::Error;

/// Everything in a profile, in its order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProfileParts {
    /// Transactions whose ids are known.
    pub recent: Vec<Payment>,
    /// Transactions that only windows see.
    pub older: Vec<Spent>,
    /// Hourly totals.
    pub buckets: Vec<Bucket>,
    /// Newest transaction or login.
    pub newest: Option<Timestamp>,
    /// Oldest transaction ever.
    pub first: Option<Timestamp>,
    /// Newest dropped transaction id.
    pub dropped: Option<Timestamp>,
    /// Logins whose ids are known.
    pub logins: Vec<LoginEntry>,
    /// Last successful login before those.
    pub last_login: Option<LoginEntry>,
    /// Last successful login with coordinates before those.
    pub last_located_login: Option<LoginEntry>,
    /// Newest dropped login id.
    pub dropped_login: Option<Timestamp>,
    /// Labels.
    pub labels: Vec<LabelEntry>,
    /// Block and allow entries.
    pub entries: Vec<ListEntry>,
    /// Number after the last record reflected.
    pub next_n: u64,
}

/// Parts that no profile could have been taken apart into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected {0} in order of time")]
pub struct PartsError(&'static str);

impl Profile {
    /// Takes the profile apart.
    #[must_use]
    pub fn parts(&self) -> ProfileParts {
        ProfileParts {
            recent: self.spending.recent.iter().copied().collect(),
            older: self.spending.older.iter().copied().collect(),
            buckets: self.spending.buckets.iter().copied().collect(),
            newest: self.newest,
            first: self.spending.first,
            dropped: self.spending.dropped,
            logins: self.logins.recent.iter().copied().collect(),
            last_login: self.logins.last,
            last_located_login: self.logins.last_located,
            dropped_login: self.logins.dropped,
            labels: self.labels.0.clone(),
            entries: self.entries().cloned().collect(),
            next_n: self.next_n,
        }
    }

    /// Puts a profile together.
    ///
    /// # Errors
    /// When a sequence is out of order: the parts were not taken from a profile.
    pub fn from_parts(parts: ProfileParts) -> Result<Self, PartsError> {
        let ordered = |sorted: bool, what| if sorted { Ok(()) } else { Err(PartsError(what)) };
        ordered(parts.recent.is_sorted_by_key(|payment| payment.at), "recent transactions")?;
        ordered(parts.older.is_sorted_by_key(|spent| spent.at), "older transactions")?;
        ordered(parts.buckets.is_sorted_by_key(|bucket| bucket.hour), "hourly totals")?;
        ordered(parts.logins.is_sorted_by_key(|login| login.at), "logins")?;
        let mut profile = Self {
            spending: Spending {
                recent: parts.recent.into(),
                older: parts.older.into(),
                buckets: parts.buckets.into(),
                first: parts.first,
                dropped: parts.dropped,
                ..Spending::default()
            },
            logins: Logins {
                recent: parts.logins.into(),
                last: parts.last_login,
                last_located: parts.last_located_login,
                dropped: parts.dropped_login,
            },
            labels: Labels(parts.labels),
            newest: parts.newest,
            next_n: parts.next_n,
            ..Self::default()
        };
        for entry in parts.entries {
            profile.enter(entry);
        }
        Ok(profile)
    }
}

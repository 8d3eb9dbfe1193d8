//! Where a user last logged in, as of any instant that a transaction may still carry.

use super::{Admission, Retention};
use crate::event::{Login, id_hash};
use crate::geo::Coordinates;
use crate::time::Timestamp;
use std::collections::VecDeque;

/// A login that is remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoginEntry {
    /// When it happened.
    pub at: Timestamp,
    /// Fingerprint of the login id.
    pub id: u64,
    /// Fingerprint of the whole content.
    pub content: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// Where.
    pub location: Option<Coordinates>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Logins {
    /// Sorted by time, ties in order of arrival.
    pub(super) recent: VecDeque<LoginEntry>,
    /// The last successful login that left `recent`.
    pub(super) last: Option<LoginEntry>,
    /// The last successful login with coordinates that left `recent`.
    pub(super) last_located: Option<LoginEntry>,
    /// The newest timestamp whose id was dropped.
    pub(super) dropped: Option<Timestamp>,
}

impl Logins {
    /// Whether a login is new: known by its id, or else above the profile's floor.
    pub(super) fn admit(&self, login: &Login, floor: Option<Timestamp>) -> Admission {
        let id = id_hash(&login.login_id);
        let floor = floor.max(self.dropped).unwrap_or(Timestamp::MIN);
        match self.recent.iter().rev().find(|known| known.id == id) {
            // A login's answer says nothing of its record, so its number is not kept.
            Some(known) if known.content == login.content_hash() => Admission::Duplicate { n: 0 },
            Some(_) => Admission::IdReused,
            None if login.at <= floor => Admission::TooOld { floor },
            None => Admission::New,
        }
    }

    /// Puts a login where it belongs in time and lets go of what `newest`, the profile's newest timestamp, leaves behind.
    pub(super) fn insert(&mut self, login: &Login, newest: Timestamp, retention: &Retention) {
        let entry = LoginEntry {
            at: login.at,
            id: id_hash(&login.login_id),
            content: login.content_hash(),
            success: login.success,
            location: login.location,
        };
        let place = self.recent.partition_point(|known| known.at <= entry.at);
        self.recent.insert(place, entry);
        let horizon = newest - retention.dedupe_ms;
        while let Some(gone) = self.recent.pop_front_if(|known| known.at <= horizon) {
            self.dropped = self.dropped.max(Some(gone.at));
            self.remember(gone);
        }
        while self.recent.len() > retention.max_logins {
            // Whoever guesses passwords must not push out the logins that payments ask for.
            let failed = self.recent.iter().position(|known| !known.success);
            let Some(gone) = self.recent.remove(failed.unwrap_or(0)) else { break };
            self.dropped = self.dropped.max(Some(gone.at));
            self.remember(gone);
        }
    }

    /// Keeps what later transactions still ask of a login that leaves.
    fn remember(&mut self, gone: LoginEntry) {
        let newer = |known: &Option<LoginEntry>| known.is_none_or(|known| known.at <= gone.at);
        if gone.success && newer(&self.last) {
            self.last = Some(gone);
        }
        if gone.success && gone.location.is_some() && newer(&self.last_located) {
            self.last_located = Some(gone);
        }
    }

    /// The last successful login at or before `at` that is wanted.
    pub(super) fn last(&self, at: Timestamp, wanted: impl Fn(&LoginEntry) -> bool) -> Option<&LoginEntry> {
        let fits = |login: &&LoginEntry| login.at <= at && login.success && wanted(login);
        self.recent
            .iter()
            .rev()
            .find(fits)
            .or_else(|| self.last.as_ref().filter(fits))
            .or_else(|| self.last_located.as_ref().filter(fits))
    }
}

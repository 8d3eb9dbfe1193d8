//! How a profile was stored, version 1: a version byte, then postcard. It is read for ever and written no more.
//!
//! Times are differences from the event before, fingerprints are fixed-width: about 34 bytes a transaction whose id is
//! kept and 8 a transaction that only windows see.

use super::profile::ProfileError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use verdict_core::event::LabelSource;
use verdict_core::geo::Coordinates;
use verdict_core::lists::{List, ListEntry};
use verdict_core::profile::{Bucket, LabelEntry, LoginEntry, Payment, Profile, ProfileParts, Spent, WindowTotals};
use verdict_core::time::Timestamp;

/// The first byte.
pub(super) const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct StoredProfile {
    next_n: u64,
    newest: Option<i64>,
    first: Option<i64>,
    dropped: Option<i64>,
    dropped_login: Option<i64>,
    recent: Vec<StoredPayment>,
    older: Vec<(i64, i64)>,
    /// Hour, count, sum, max.
    buckets: Vec<(i64, u64, i64, i64)>,
    logins: Vec<StoredLogin>,
    last_login: Option<StoredLogin>,
    last_located_login: Option<StoredLogin>,
    labels: Vec<StoredLabel>,
    entries: Vec<StoredEntry>,
}

#[derive(Serialize, Deserialize)]
struct StoredPayment {
    since: i64,
    minor: i64,
    merchant: [u8; 8],
    id: [u8; 8],
    content: [u8; 8],
    n: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredLogin {
    since: i64,
    id: [u8; 8],
    content: [u8; 8],
    success: bool,
    location: Option<(f64, f64)>,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub(super) struct StoredLabel {
    transaction: [u8; 8],
    source: u8,
    is_fraud: bool,
    at: i64,
    lost_minor: Option<i64>,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub(super) struct StoredEntry {
    list: u8,
    reason: Box<str>,
    alert_id: Option<[u8; 16]>,
    expires_at: Option<i64>,
}

/// Turns times into differences, or back.
#[derive(Default)]
struct Previous(i64);

impl Previous {
    #[cfg(test)]
    fn since(&mut self, at: Timestamp) -> i64 {
        let since = at.as_millis().wrapping_sub(self.0);
        self.0 = at.as_millis();
        since
    }

    fn at(&mut self, since: i64) -> Timestamp {
        self.0 = self.0.wrapping_add(since);
        Timestamp::from_millis(self.0)
    }
}

/// The bytes of a profile, for tests: that they still decode must not rest on one file alone.
#[cfg(test)]
pub(super) fn encode(profile: &Profile) -> Vec<u8> {
    let parts = profile.parts();
    let (mut recent, mut older, mut buckets, mut logins) =
        (Previous::default(), Previous::default(), Previous::default(), Previous::default());
    let stored = StoredProfile {
        next_n: parts.next_n,
        newest: parts.newest.map(Timestamp::as_millis),
        first: parts.first.map(Timestamp::as_millis),
        dropped: parts.dropped.map(Timestamp::as_millis),
        dropped_login: parts.dropped_login.map(Timestamp::as_millis),
        recent: parts.recent.iter().map(|payment| store_payment(payment, &mut recent)).collect(),
        older: parts.older.iter().map(|spent| (older.since(spent.at), spent.minor)).collect(),
        buckets: parts.buckets.iter().map(|bucket| store_bucket(bucket, &mut buckets)).collect(),
        logins: parts.logins.iter().map(|login| store_login(login, &mut logins)).collect(),
        last_login: parts.last_login.map(|login| store_login(&login, &mut Previous::default())),
        last_located_login: parts.last_located_login.map(|login| store_login(&login, &mut Previous::default())),
        labels: parts.labels.iter().map(store_label).collect(),
        entries: parts.entries.iter().map(store_entry).collect(),
    };
    // invariant: postcard fails only for sequences of unknown length and for foreign errors; there are none here.
    postcard::to_extend(&stored, vec![VERSION]).expect("a profile is encodable")
}

/// The profile of what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<Profile, ProfileError> {
    let stored: StoredProfile = postcard::from_bytes(bytes)?;
    let (mut recent, mut older, mut buckets, mut logins) =
        (Previous::default(), Previous::default(), Previous::default(), Previous::default());
    let parts = ProfileParts {
        next_n: stored.next_n,
        newest: stored.newest.map(Timestamp::from_millis),
        first: stored.first.map(Timestamp::from_millis),
        dropped: stored.dropped.map(Timestamp::from_millis),
        dropped_login: stored.dropped_login.map(Timestamp::from_millis),
        recent: stored.recent.into_iter().map(|payment| load_payment(&payment, &mut recent)).collect(),
        older: stored.older.into_iter().map(|(since, minor)| Spent { at: older.at(since), minor }).collect(),
        buckets: stored.buckets.into_iter().map(|bucket| load_bucket(bucket, &mut buckets)).collect(),
        logins: load_each(stored.logins, |login| load_login(&login, &mut logins))?,
        last_login: stored.last_login.map(|login| load_login(&login, &mut Previous::default())).transpose()?,
        last_located_login: stored
            .last_located_login
            .map(|login| load_login(&login, &mut Previous::default()))
            .transpose()?,
        labels: load_each(stored.labels, |label| load_label(&label))?,
        entries: load_each(stored.entries, load_entry)?,
    };
    Ok(Profile::from_parts(parts)?)
}

pub(super) fn load_each<S, T>(
    stored: Vec<S>,
    load: impl FnMut(S) -> Result<T, ProfileError>,
) -> Result<Vec<T>, ProfileError> {
    stored.into_iter().map(load).collect()
}

#[cfg(test)]
fn store_payment(payment: &Payment, previous: &mut Previous) -> StoredPayment {
    StoredPayment {
        since: previous.since(payment.at),
        minor: payment.minor,
        merchant: payment.merchant.to_le_bytes(),
        id: payment.id.to_le_bytes(),
        content: payment.content.to_le_bytes(),
        n: payment.n,
    }
}

fn load_payment(stored: &StoredPayment, previous: &mut Previous) -> Payment {
    Payment {
        at: previous.at(stored.since),
        minor: stored.minor,
        merchant: u64::from_le_bytes(stored.merchant),
        id: u64::from_le_bytes(stored.id),
        content: u64::from_le_bytes(stored.content),
        n: stored.n,
    }
}

#[cfg(test)]
fn store_bucket(bucket: &Bucket, previous: &mut Previous) -> (i64, u64, i64, i64) {
    let WindowTotals { count, sum_minor, max_minor } = bucket.totals;
    (previous.since(bucket.hour), count, sum_minor, max_minor)
}

fn load_bucket((since, count, sum_minor, max_minor): (i64, u64, i64, i64), previous: &mut Previous) -> Bucket {
    Bucket { hour: previous.at(since), totals: WindowTotals { count, sum_minor, max_minor } }
}

#[cfg(test)]
fn store_login(login: &LoginEntry, previous: &mut Previous) -> StoredLogin {
    StoredLogin {
        since: previous.since(login.at),
        id: login.id.to_le_bytes(),
        content: login.content.to_le_bytes(),
        success: login.success,
        location: login.location.map(|place| (place.latitude(), place.longitude())),
    }
}

fn load_login(stored: &StoredLogin, previous: &mut Previous) -> Result<LoginEntry, ProfileError> {
    let place = |(latitude, longitude)| Coordinates::new(latitude, longitude);
    Ok(LoginEntry {
        at: previous.at(stored.since),
        id: u64::from_le_bytes(stored.id),
        content: u64::from_le_bytes(stored.content),
        success: stored.success,
        location: stored.location.map(place).transpose().map_err(|_| ProfileError::Range("coordinates"))?,
    })
}

pub(super) fn store_label(label: &LabelEntry) -> StoredLabel {
    StoredLabel {
        transaction: label.transaction.to_le_bytes(),
        source: match label.source {
            LabelSource::Chargeback => 0,
            LabelSource::Analyst => 1,
            LabelSource::Customer => 2,
            LabelSource::Issuer => 3,
        },
        is_fraud: label.is_fraud,
        at: label.at.as_millis(),
        lost_minor: label.lost_minor,
    }
}

pub(super) fn load_label(stored: &StoredLabel) -> Result<LabelEntry, ProfileError> {
    Ok(LabelEntry {
        transaction: u64::from_le_bytes(stored.transaction),
        source: match stored.source {
            0 => LabelSource::Chargeback,
            1 => LabelSource::Analyst,
            2 => LabelSource::Customer,
            3 => LabelSource::Issuer,
            _ => return Err(ProfileError::Range("a label source")),
        },
        is_fraud: stored.is_fraud,
        at: Timestamp::from_millis(stored.at),
        lost_minor: stored.lost_minor,
    })
}

pub(super) fn store_entry(entry: &ListEntry) -> StoredEntry {
    StoredEntry {
        list: match entry.list {
            List::Block => 0,
            List::Allow => 1,
        },
        reason: entry.reason.clone(),
        alert_id: entry.alert_id.map(Uuid::into_bytes),
        expires_at: entry.expires_at.map(Timestamp::as_millis),
    }
}

pub(super) fn load_entry(stored: StoredEntry) -> Result<ListEntry, ProfileError> {
    Ok(ListEntry {
        list: match stored.list {
            0 => List::Block,
            1 => List::Allow,
            _ => return Err(ProfileError::Range("a list")),
        },
        reason: stored.reason,
        alert_id: stored.alert_id.map(Uuid::from_bytes),
        expires_at: stored.expires_at.map(Timestamp::from_millis),
    })
}

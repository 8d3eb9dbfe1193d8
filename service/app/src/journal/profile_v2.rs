//! How a profile is stored, version 2: a version byte, then postcard. Smaller than version 1, because a user who is no
//! actor stays in memory as these bytes.
//!
//! From the newest event back, so that times and record numbers are small differences; what few users have is left out
//! as one byte. Fingerprints are fixed-width and do not compress: 24 of the about 34 bytes of a transaction whose
//! id is kept. One that only windows see takes about 8, all else of a profile about 15.

use super::profile::ProfileError;
use super::profile_v1::{StoredEntry, StoredLabel, load_each, load_entry, load_label, store_entry, store_label};
use serde::{Deserialize, Serialize};
use verdict_core::geo::Coordinates;
use verdict_core::profile::{Bucket, LoginEntry, Payment, Profile, ProfileParts, Spent, WindowTotals};
use verdict_core::time::Timestamp;

/// The first byte.
pub(super) const VERSION: u8 = 2;

/// `next_n` comes first in every version.
#[derive(Serialize, Deserialize)]
struct StoredProfile {
    next_n: u64,
    newest: Option<i64>,
    /// Time before `newest`.
    first: Option<u64>,
    /// Newest first, and so are those below.
    recent: Vec<StoredPayment>,
    /// Time before the transaction after it, amount.
    older: Vec<(u64, i64)>,
    logins: Vec<StoredLogin>,
    rest: Option<Box<Rest>>,
}

/// What few users have.
#[derive(Serialize, Deserialize, Default, PartialEq)]
struct Rest {
    dropped: Option<u64>,
    dropped_login: Option<u64>,
    /// Time before the hour after it, count, sum, max.
    buckets: Vec<(u64, u64, i64, i64)>,
    last_login: Option<StoredLogin>,
    last_located_login: Located,
    labels: Vec<StoredLabel>,
    entries: Vec<StoredEntry>,
}

/// The last successful login with coordinates that is known by itself: as a rule it is the last successful one.
#[derive(Serialize, Deserialize, Default, PartialEq)]
enum Located {
    #[default]
    None,
    TheLast,
    Another(StoredLogin),
}

#[derive(Serialize, Deserialize)]
struct StoredPayment {
    before: u64,
    minor: i64,
    merchant: [u8; 8],
    id: [u8; 8],
    content: [u8; 8],
    /// Records of the partition since this one.
    n_before: i64,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct StoredLogin {
    before: u64,
    id: [u8; 8],
    content: [u8; 8],
    success: bool,
    location: Option<(f64, f64)>,
}

/// Turns times into how long before the next one they lie, or back. Differences wrap, so that any sequence comes back;
/// one that is in order gives small numbers.
#[derive(Clone, Copy)]
struct Following(i64);

impl Following {
    fn before(&mut self, at: Timestamp) -> u64 {
        let before = self.0.wrapping_sub(at.as_millis());
        self.0 = at.as_millis();
        before.cast_unsigned()
    }

    fn at(&mut self, before: u64) -> Timestamp {
        self.0 = self.0.wrapping_sub(before.cast_signed());
        Timestamp::from_millis(self.0)
    }
}

/// The bytes of a profile.
#[must_use]
pub(super) fn encode(profile: &Profile) -> Vec<u8> {
    let parts = profile.parts();
    let newest = Following(parts.newest.map_or(0, Timestamp::as_millis));
    let since = |at: Option<Timestamp>| at.map(|at| newest.clone().before(at));
    let (mut payments, mut hours, mut logins) = (newest, newest, newest);
    let mut n = parts.next_n;
    let stored = StoredProfile {
        next_n: parts.next_n,
        newest: parts.newest.map(Timestamp::as_millis),
        first: since(parts.first),
        recent: parts.recent.iter().rev().map(|payment| store_payment(payment, &mut payments, &mut n)).collect(),
        older: parts.older.iter().rev().map(|spent| (payments.before(spent.at), spent.minor)).collect(),
        logins: parts.logins.iter().rev().map(|login| store_login(login, &mut logins)).collect(),
        rest: None,
    };
    let rest = Rest {
        dropped: since(parts.dropped),
        dropped_login: since(parts.dropped_login),
        buckets: parts.buckets.iter().rev().map(|bucket| store_bucket(bucket, &mut hours)).collect(),
        last_login: parts.last_login.map(|login| store_login(&login, &mut newest.clone())),
        last_located_login: match parts.last_located_login {
            None => Located::None,
            located if located == parts.last_login => Located::TheLast,
            Some(located) => Located::Another(store_login(&located, &mut newest.clone())),
        },
        labels: parts.labels.iter().map(store_label).collect(),
        entries: parts.entries.iter().map(store_entry).collect(),
    };
    let stored = StoredProfile { rest: (rest != Rest::default()).then(|| Box::new(rest)), ..stored };
    let mut bytes = Vec::with_capacity(64 + 40 * (stored.recent.len() + stored.logins.len()) + 16 * stored.older.len());
    bytes.push(VERSION);
    // invariant: postcard fails only for sequences of unknown length and for foreign errors; there are none here.
    #[expect(clippy::expect_used, reason = "the shape above is always encodable")]
    postcard::to_extend(&stored, bytes).expect("a profile is encodable")
}

/// The profile of what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<Profile, ProfileError> {
    let stored: StoredProfile = postcard::from_bytes(bytes)?;
    let rest = stored.rest.map(|rest| *rest).unwrap_or_default();
    let newest = Following(stored.newest.unwrap_or_default());
    let at = |since: Option<u64>| since.map(|since| newest.clone().at(since));
    let (mut payments, mut hours, mut logins) = (newest, newest, newest);
    let mut n = stored.next_n;
    let last_login = rest.last_login.map(|login| load_login(&login, &mut newest.clone())).transpose()?;
    let parts = ProfileParts {
        next_n: stored.next_n,
        newest: stored.newest.map(Timestamp::from_millis),
        first: at(stored.first),
        dropped: at(rest.dropped),
        dropped_login: at(rest.dropped_login),
        recent: oldest_first(stored.recent, |payment| load_payment(&payment, &mut payments, &mut n)),
        older: oldest_first(stored.older, |(before, minor)| Spent { at: payments.at(before), minor }),
        buckets: oldest_first(rest.buckets, |bucket| load_bucket(bucket, &mut hours)),
        logins: {
            let mut loaded = load_each(stored.logins, |login| load_login(&login, &mut logins))?;
            loaded.reverse();
            loaded
        },
        last_login,
        last_located_login: match rest.last_located_login {
            Located::None => None,
            Located::TheLast => last_login,
            Located::Another(login) => Some(load_login(&login, &mut newest.clone())?),
        },
        labels: load_each(rest.labels, |label| load_label(&label))?,
        entries: load_each(rest.entries, load_entry)?,
    };
    Ok(Profile::from_parts(parts)?)
}

fn oldest_first<S, T>(stored: Vec<S>, load: impl FnMut(S) -> T) -> Vec<T> {
    let mut loaded: Vec<T> = stored.into_iter().map(load).collect();
    loaded.reverse();
    loaded
}

fn store_payment(payment: &Payment, following: &mut Following, n: &mut u64) -> StoredPayment {
    let n_before = n.wrapping_sub(payment.n).cast_signed();
    *n = payment.n;
    StoredPayment {
        before: following.before(payment.at),
        minor: payment.minor,
        merchant: payment.merchant.to_le_bytes(),
        id: payment.id.to_le_bytes(),
        content: payment.content.to_le_bytes(),
        n_before,
    }
}

fn load_payment(stored: &StoredPayment, following: &mut Following, n: &mut u64) -> Payment {
    *n = n.wrapping_sub(stored.n_before.cast_unsigned());
    Payment {
        at: following.at(stored.before),
        minor: stored.minor,
        merchant: u64::from_le_bytes(stored.merchant),
        id: u64::from_le_bytes(stored.id),
        content: u64::from_le_bytes(stored.content),
        n: *n,
    }
}

fn store_bucket(bucket: &Bucket, following: &mut Following) -> (u64, u64, i64, i64) {
    let WindowTotals { count, sum_minor, max_minor } = bucket.totals;
    (following.before(bucket.hour), count, sum_minor, max_minor)
}

fn load_bucket((before, count, sum_minor, max_minor): (u64, u64, i64, i64), following: &mut Following) -> Bucket {
    Bucket { hour: following.at(before), totals: WindowTotals { count, sum_minor, max_minor } }
}

fn store_login(login: &LoginEntry, following: &mut Following) -> StoredLogin {
    StoredLogin {
        before: following.before(login.at),
        id: login.id.to_le_bytes(),
        content: login.content.to_le_bytes(),
        success: login.success,
        location: login.location.map(|place| (place.latitude(), place.longitude())),
    }
}

fn load_login(stored: &StoredLogin, following: &mut Following) -> Result<LoginEntry, ProfileError> {
    let place = |(latitude, longitude)| Coordinates::new(latitude, longitude);
    Ok(LoginEntry {
        at: following.at(stored.before),
        id: u64::from_le_bytes(stored.id),
        content: u64::from_le_bytes(stored.content),
        success: stored.success,
        location: stored.location.map(place).transpose().map_err(|_| ProfileError::Range("coordinates"))?,
    })
}

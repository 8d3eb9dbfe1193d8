//! From a profile and a transaction to the feature vector: the only implementation of every feature.

use super::{FeatureVector, SLOTS, lookup};
use crate::event::Transaction;
use crate::lists::{List, ListHit};
use crate::money::Currency;
use crate::profile::{Profile, WindowTotals};
use crate::time::{MINUTE_MS, Timestamp};

/// What one event's features are, and whether hourly buckets stood in for exact windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Computed {
    /// The values.
    pub features: FeatureVector,
    /// Whether any window is approximate.
    pub approximate: bool,
}

/// Computes every feature of a transaction against the history before it, the transaction itself included in windows.
///
/// `base` is the base currency, in whose major units money features are given.
#[must_use]
pub fn compute(profile: &Profile, transaction: &Transaction, list_hits: &[ListHit], base: Currency) -> Computed {
    compute_at(profile, transaction.at, Some(transaction), list_hits, base)
}

/// Computes what is known of a user at an instant without a transaction; what only a transaction has is absent.
#[must_use]
pub fn compute_idle(profile: &Profile, at: Timestamp, list_hits: &[ListHit], base: Currency) -> Computed {
    compute_at(profile, at, None, list_hits, base)
}

/// Features of a transaction that need no profile.
const OF_THE_TRANSACTION: [&str; 5] = ["amount", "hour_of_day", "is_weekend", "block_list_hits", "allow_list_hits"];

/// Computes what is known of a transaction without its user's profile; all that looks at a history is absent.
#[must_use]
pub fn compute_alone(transaction: &Transaction, list_hits: &[ListHit], base: Currency) -> FeatureVector {
    let all = compute(&Profile::default(), transaction, list_hits, base).features;
    let mut alone = FeatureVector([f64::NAN; SLOTS]);
    for (slot, _) in OF_THE_TRANSACTION.into_iter().filter_map(lookup) {
        alone.0[slot.index()] = all.get(slot);
    }
    alone
}

fn compute_at(
    profile: &Profile,
    at: Timestamp,
    transaction: Option<&Transaction>,
    list_hits: &[ListHit],
    base: Currency,
) -> Computed {
    let windows = profile.windows(at, transaction.map(|t| (t.base.0, &*t.merchant_id)));
    // Correctly rounded division: comparing with a literal of the same decimals is exact to the minor unit.
    let per_major = base.minor_per_major() as f64;
    let major = |minor: i64| minor as f64 / per_major;
    let login = profile.last_login(at);
    let here = transaction.and_then(|t| t.location);
    let geo = here.zip(profile.last_located_login(at)).and_then(|(here, login)| {
        let miles = here.miles_to(login.location?);
        // Below a second apart, speed would only measure the clock.
        let hours = (at - login.at).max(1_000) as f64 / 3_600_000.0;
        Some((miles, miles / hours))
    });
    let hits = |list: List| list_hits.iter().filter(|hit| hit.list == list).count() as f64;

    let mut slots = Slots { values: [f64::NAN; SLOTS], next: 0 };
    slots.push(transaction.map_or(f64::NAN, |t| major(t.base.0)));
    slots.push(at.hour_of_day() as f64);
    slots.push(f64::from(u8::from(at.is_weekend())));
    slots.push(f64::from(u8::from(windows.is_first)));
    let sliding = [windows.hour, windows.day, windows.week, windows.month];
    slots.push_each(&sliding, |window| window.count as f64);
    slots.push_each(&sliding, |window| major(window.sum_minor));
    // Divided once: the mean of equal amounts is that amount, and no mean exceeds its maximum by a last digit.
    slots.push_each(&sliding, |window| window.sum_minor as f64 / (per_major * window.count as f64));
    slots.push_each(&sliding, |window| major(window.max_minor));
    slots.push(windows.merchants as f64);
    slots.push(major(windows.today.sum_minor));
    slots.push(f64::from(u8::from(login.is_some())));
    slots.push(login.map_or(f64::NAN, |login| (at - login.at) as f64 / MINUTE_MS as f64));
    slots.push(geo.map_or(f64::NAN, |(miles, _)| miles));
    slots.push(geo.map_or(f64::NAN, |(_, speed)| speed));
    slots.push(hits(List::Block));
    slots.push(hits(List::Allow));
    debug_assert_eq!(slots.next, SLOTS, "one value for every feature of the catalogue");
    Computed { features: FeatureVector(slots.values), approximate: windows.approximate }
}

/// Fills slots in the catalogue's order.
struct Slots {
    values: [f64; SLOTS],
    next: usize,
}

impl Slots {
    fn push(&mut self, value: f64) {
        self.values[self.next] = value;
        self.next += 1;
    }

    fn push_each(&mut self, windows: &[WindowTotals; 4], value: impl Fn(&WindowTotals) -> f64) {
        for window in windows {
            self.push(value(window));
        }
    }
}

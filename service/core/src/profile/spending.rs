//! What a user spent: transactions in event time, exact sliding windows over them, and the ids that tell duplicates.
//!
//! Three ages of history: `recent` keeps ids (the dedupe horizon and the merchant window beyond it), `older` keeps time
//! and amount (the longest window beyond that), and `buckets` stand in by the hour for what exceeds the bound. Few
//! payments are walked, which nothing beats; many have an index beside them, which gives the same answers.

use super::index::{Index, Payments};
use super::walk::{Merchants, Walk};
use super::{Admission, LONGEST_WINDOW_MS, MERCHANT_WINDOW_MS, Retention};
use crate::event::{Transaction, id_hash};
use crate::time::{DAY_MS, HOUR_MS, Timestamp};
use std::collections::VecDeque;

/// Payments up to which builds with debug assertions compare every answer of the index with the walk's.
const CHECKED_PAYMENTS: usize = 512;

/// A transaction whose id is still known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// When it happened.
    pub at: Timestamp,
    /// Amount in minor units of the base currency.
    pub minor: i64,
    /// Fingerprint of the merchant id.
    pub merchant: u64,
    /// Fingerprint of the transaction id.
    pub id: u64,
    /// Fingerprint of the whole content.
    pub content: u64,
    /// Its journal record in the user's partition.
    pub n: u64,
}

/// A transaction that only windows still see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// When it happened.
    pub at: Timestamp,
    /// Amount in minor units of the base currency.
    pub minor: i64,
}

/// The transactions of one UTC hour, kept only as totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Start of the hour.
    pub hour: Timestamp,
    /// Their totals.
    pub totals: WindowTotals,
}

/// Count, sum and maximum of the transactions in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WindowTotals {
    /// Number of transactions.
    pub count: u64,
    /// Sum in minor units of the base currency.
    pub sum_minor: i64,
    /// Largest in minor units of the base currency; 0 in an empty window.
    pub max_minor: i64,
}

impl WindowTotals {
    pub(super) fn add(&mut self, minor: i64) {
        self.add_totals(Self { count: 1, sum_minor: minor, max_minor: minor });
    }

    fn add_totals(&mut self, other: Self) {
        self.count += other.count;
        self.sum_minor = self.sum_minor.saturating_add(other.sum_minor);
        self.max_minor = self.max_minor.max(other.max_minor);
    }
}

/// All windows of the catalogue at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Windows {
    /// (t − 1 h, t].
    pub hour: WindowTotals,
    /// (t − 24 h, t].
    pub day: WindowTotals,
    /// (t − 7 d, t].
    pub week: WindowTotals,
    /// (t − 30 d, t].
    pub month: WindowTotals,
    /// From midnight UTC to t.
    pub today: WindowTotals,
    /// Different merchants in (t − 24 h, t]; beyond the bound only of the payments still kept exactly.
    pub merchants: u64,
    /// Whether no earlier transaction is known.
    pub is_first: bool,
    /// Whether hourly buckets stood in for exact events.
    pub approximate: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Spending {
    /// Sorted by time, ties in order of arrival.
    pub(super) recent: VecDeque<Payment>,
    /// Sorted likewise; every one before every one of `recent`.
    pub(super) older: VecDeque<Spent>,
    /// Sorted by hour; every one before every one of `older`, but for the hour they may share.
    pub(super) buckets: VecDeque<Bucket>,
    /// The oldest timestamp ever, retained or not.
    pub(super) first: Option<Timestamp>,
    /// The newest timestamp whose id was dropped.
    pub(super) dropped: Option<Timestamp>,
    /// Of `older` and `recent`, while they are many.
    pub(super) index: Derived,
}

/// An index that may be there. What derives from the rest is no part of a profile's value: two with the same payments are
/// equal, indexed or not, and a copy (a snapshot, as a rule) starts without.
#[derive(Debug, Default)]
pub(super) struct Derived(Option<Box<Index>>);

#[cfg(test)]
impl Derived {
    pub(super) fn get(&self) -> Option<&Index> {
        self.0.as_deref()
    }
}

impl PartialEq for Derived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Clone for Derived {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Spending {
    /// Whether a transaction is new: known by its id, or else above the profile's floor.
    pub(super) fn admit(&self, transaction: &Transaction, floor: Option<Timestamp>) -> Admission {
        let floor = floor.max(self.dropped).unwrap_or(Timestamp::MIN);
        match self.known(id_hash(&transaction.transaction_id), self.dropped.unwrap_or(Timestamp::MIN)) {
            Some(known) if known.content == transaction.content_hash() => Admission::Duplicate { n: known.n },
            Some(_) => Admission::IdReused,
            None if transaction.at <= floor => Admission::TooOld { floor },
            None => Admission::New,
        }
    }

    /// The latest payment of an id after the newest that was dropped.
    fn known(&self, id: u64, dropped: Timestamp) -> Option<&Payment> {
        let end = match &self.index.0 {
            Some(index) => self.end_of(index.latest(id).filter(|at| *at > dropped)?),
            None => self.recent.len(),
        };
        let above = self.recent.range(..end).rev().take_while(|payment| payment.at > dropped);
        above.into_iter().find(|payment| payment.id == id)
    }

    /// Puts a transaction where it belongs in time and retires what `newest`, the profile's newest timestamp, leaves
    /// behind.
    pub(super) fn insert(&mut self, transaction: &Transaction, n: u64, newest: Timestamp, retention: &Retention) {
        let payment = Payment {
            at: transaction.at,
            minor: transaction.base.0,
            merchant: id_hash(&transaction.merchant_id),
            id: id_hash(&transaction.transaction_id),
            content: transaction.content_hash(),
            n,
        };
        let place = self.end_of(payment.at);
        if self.recent.len() == self.recent.capacity() {
            // Not twice as much, as it would grow by itself: most users in memory have few payments, and there are many.
            self.recent.reserve_exact((self.recent.len() / 4).max(4));
        }
        self.recent.insert(place, payment);
        let payments = Payments { older: &self.older, recent: &self.recent };
        if !self.index.0.as_mut().is_none_or(|index| index.inserted(self.older.len() + place, &payment, payments)) {
            self.index.0 = None;
        }
        self.first = Some(self.first.map_or(payment.at, |first| first.min(payment.at)));
        self.retire(newest, retention);
        // Not below half of the bound: a count that moves about it must not build an index every time.
        if self.len() < retention.index_from.div_ceil(2) {
            self.index.0 = None;
        } else if self.len() >= retention.index_from && self.index.0.is_none() {
            let payments = Payments { older: &self.older, recent: &self.recent };
            self.index.0 = Index::of(payments).map(Box::new);
        }
    }

    /// Index after the last recent payment at or before `at`.
    fn end_of(&self, at: Timestamp) -> usize {
        match self.recent.back() {
            Some(last) if last.at > at => self.recent.partition_point(|payment| payment.at <= at),
            _ => self.recent.len(),
        }
    }

    /// Moves history from age to age as the newest timestamp advances.
    fn retire(&mut self, newest: Timestamp, retention: &Retention) {
        // The oldest event still accepted is just above this; its windows reach back from there.
        let horizon = newest - retention.dedupe_ms;
        while let Some(payment) = self.recent.pop_front_if(|payment| payment.at <= horizon - MERCHANT_WINDOW_MS) {
            // A longer horizon, should the configuration change, must not forget that this id is gone.
            self.dropped = self.dropped.max(Some(payment.at));
            if let Some(index) = &mut self.index.0 {
                index.aged(self.older.len(), &payment);
            }
            // In front of what is newer: a decision that was answered elsewhere may arrive below the floor.
            let place = self.older.partition_point(|spent| spent.at <= payment.at);
            self.older.insert(place, Spent { at: payment.at, minor: payment.minor });
        }
        let window_end = horizon - LONGEST_WINDOW_MS;
        while self.older.pop_front_if(|spent| spent.at <= window_end).is_some() {
            if let Some(index) = &mut self.index.0 {
                index.forgot_oldest();
            }
        }
        while self.buckets.pop_front_if(|bucket| bucket.hour + HOUR_MS <= window_end).is_some() {}
        while self.len() > retention.max_payments {
            self.bucket_oldest();
        }
    }

    fn bucket_oldest(&mut self) {
        let oldest = self.older.pop_front().or_else(|| {
            let payment = self.recent.pop_front()?;
            self.dropped = self.dropped.max(Some(payment.at));
            if let Some(index) = &mut self.index.0 {
                index.aged(0, &payment);
            }
            Some(Spent { at: payment.at, minor: payment.minor })
        });
        let Some(spent) = oldest else { return };
        if let Some(index) = &mut self.index.0 {
            index.forgot_oldest();
        }
        let hour = spent.at - spent.at.as_millis().rem_euclid(HOUR_MS);
        let place = self.buckets.binary_search_by_key(&hour, |bucket| bucket.hour).unwrap_or_else(|place| {
            self.buckets.insert(place, Bucket { hour, totals: WindowTotals::default() });
            place
        });
        self.buckets[place].totals.add(spent.minor);
    }

    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    pub(super) fn recent_newest_first(&self) -> impl Iterator<Item = &Payment> {
        self.recent.iter().rev()
    }

    /// Every window at `at`: see [`super::Profile::windows`].
    pub(super) fn windows(&self, at: Timestamp, with: Option<(i64, &str)>) -> Windows {
        match &self.index.0 {
            None => self.walk(at, with),
            Some(index) => self.indexed(index, at, with),
        }
    }

    /// By the index. Kept out of line, for the sake of the many users without one.
    #[inline(never)]
    fn indexed(&self, index: &Index, at: Timestamp, with: Option<(i64, &str)>) -> Windows {
        let mut windows = index.windows(at, with, Payments { older: &self.older, recent: &self.recent });
        self.add_buckets(at, &mut windows);
        windows.is_first = self.is_first(at, self.end_of(at));
        debug_assert!(
            self.len() > CHECKED_PAYMENTS || windows == self.walk(at, with),
            "the index and the walk disagree at {at}: {windows:?}, {:?}",
            self.walk(at, with)
        );
        windows
    }

    /// The same by walking back through the longest window: cheapest while payments are few.
    #[inline]
    fn walk(&self, at: Timestamp, with: Option<(i64, &str)>) -> Windows {
        let end = self.end_of(at);
        let mut walk = Walk::new(at);
        let mut merchants = Merchants::default();
        if let Some((minor, merchant_id)) = with {
            walk.step(at, minor);
            merchants.add(id_hash(merchant_id));
        }
        let history = self.recent.range(..end).rev();
        for payment in history {
            if payment.at > at - MERCHANT_WINDOW_MS {
                merchants.add(payment.merchant);
            }
            if !walk.step(payment.at, payment.minor) {
                break;
            }
        }
        for spent in self.older.iter().rev() {
            if !walk.step(spent.at, spent.minor) {
                break;
            }
        }
        let mut windows = walk.finish();
        self.add_buckets(at, &mut windows);
        windows.merchants = merchants.count();
        windows.is_first = self.is_first(at, end);
        windows
    }

    /// Whether nothing is known up to `at`, after `end` recent payments.
    fn is_first(&self, at: Timestamp, end: usize) -> bool {
        end == 0 && self.older.is_empty() && self.buckets.is_empty() && self.first.is_none_or(|first| first > at)
    }

    /// Adds every bucket that overlaps a window: with so many events, too many is the safer error.
    #[inline]
    fn add_buckets(&self, at: Timestamp, windows: &mut Windows) {
        let day_start = at.day_start();
        for bucket in self.buckets.iter().rev() {
            let last = bucket.hour + (HOUR_MS - 1);
            if last <= at - LONGEST_WINDOW_MS {
                break;
            }
            windows.approximate = true;
            windows.month.add_totals(bucket.totals);
            for (length_ms, totals) in
                [(HOUR_MS, &mut windows.hour), (DAY_MS, &mut windows.day), (7 * DAY_MS, &mut windows.week)]
            {
                if last > at - length_ms {
                    totals.add_totals(bucket.totals);
                }
            }
            if bucket.hour >= day_start {
                windows.today.add_totals(bucket.totals);
            }
        }
    }
}

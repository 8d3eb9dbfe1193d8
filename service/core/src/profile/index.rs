//! What makes a heavy user's windows and duplicates cheap: running sums, suffix maxima, merchants counted, ids found.
//!
//! Derived from the payments and never part of them: it is not compared, not stored and not cloned, and whoever drops it
//! loses time only. Every answer equals that of the plain walk, bit for bit; it knows nothing of hourly buckets, and
//! nothing here may need the payments in another order than by time.
//!
//! A position is a place in `older` followed by `recent`. What is kept across events counts from the first payment ever
//! indexed instead (a sequence number), so that forgetting the oldest payment moves nothing.

use super::{LONGEST_WINDOW_MS, MERCHANT_WINDOW_MS, Payment, Spent, WindowTotals, Windows};
use crate::event::id_hash;
use crate::time::{DAY_MS, HOUR_MS, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// 1 h, 24 h, 7 d, 30 d, today.
const WINDOWS: usize = 5;
/// Place of the window of a day among them; merchants are told apart over the same time.
const DAY: usize = 1;
const _: () = assert!(MERCHANT_WINDOW_MS == DAY_MS);

/// The last instant before each window at `at`.
fn bounds(at: Timestamp) -> [Timestamp; WINDOWS] {
    [at - HOUR_MS, at - DAY_MS, at - 7 * DAY_MS, at - LONGEST_WINDOW_MS, at.day_start() - 1]
}

/// The payments that an index was built of.
#[derive(Clone, Copy)]
pub(super) struct Payments<'a> {
    pub(super) older: &'a VecDeque<Spent>,
    pub(super) recent: &'a VecDeque<Payment>,
}

impl Payments<'_> {
    fn len(self) -> usize {
        self.older.len() + self.recent.len()
    }

    fn at(self, position: usize) -> Timestamp {
        match position.checked_sub(self.older.len()) {
            Some(recent) => self.recent[recent].at,
            None => self.older[position].at,
        }
    }

    /// Largest amount of a range; 0 of none.
    fn max_minor(self, range: Range<usize>) -> i64 {
        let split = self.older.len();
        let older = self.older.range(range.start.min(split)..range.end.min(split)).map(|spent| spent.minor);
        let recent = range.start.max(split) - split..range.end.max(split) - split;
        older.chain(self.recent.range(recent).map(|payment| payment.minor)).fold(0, i64::max)
    }

    /// Merchants of a range, which must lie in `recent`.
    fn merchants(self, range: Range<usize>) -> impl Iterator<Item = u64> {
        let split = self.older.len();
        self.recent.range(range.start - split..range.end - split).map(|payment| payment.merchant)
    }

    /// Whether `older` and `recent` are one sequence in order of time; a longer dedupe horizon after a restart and a
    /// decision that was answered elsewhere may break it.
    fn in_order(self) -> bool {
        let (older, recent) = (self.older.back(), self.recent.front());
        older.zip(recent).is_none_or(|(older, recent)| older.at <= recent.at)
    }

    /// How many payments lie at or before `bound`, looked for around `near`: doubling steps, then halving ones.
    fn until(self, bound: Timestamp, near: usize) -> usize {
        let before = |position: usize| self.at(position) <= bound;
        let (mut low, mut high, mut step) = (near, near, 1);
        if near < self.len() && before(near) {
            low += 1;
            high = self.len();
            while low + step <= high {
                let probe = low + step - 1;
                if !before(probe) {
                    high = probe;
                    break;
                }
                low = probe + 1;
                step *= 2;
            }
        } else {
            low = 0;
            while high > 0 {
                let probe = high.saturating_sub(step);
                if before(probe) {
                    low = probe + 1;
                    break;
                }
                high = probe;
                step *= 2;
            }
        }
        while low < high {
            let probe = low.midpoint(high);
            if before(probe) {
                low = probe + 1;
            } else {
                high = probe;
            }
        }
        low
    }
}

/// See the module. Bytes per payment, beyond the 48 of the payment itself: 8 of sums and about 25 of ids; at most 16 more
/// of suffix maxima (amounts that only fall; usually there are a dozen in all) and 25 of merchants (a payment each to
/// another one, all within a day).
#[derive(Debug, PartialEq)]
pub(super) struct Index {
    /// Sequence number of the first payment.
    front: u64,
    /// Sum of all amounts before the first payment; sums wrap, their differences are exact.
    before: i64,
    /// For every payment: sum of all amounts up to and with it.
    sums: VecDeque<i64>,
    /// Sequence number and amount of every payment that is larger than all after it.
    peaks: VecDeque<(u64, i64)>,
    /// For every window at the newest payment: its first payment's sequence number.
    starts: [u64; WINDOWS],
    /// First payment whose merchant is counted: in `recent`, and within a day of the newest payment.
    merchants_from: u64,
    /// How many of those payments went to each merchant. Trees, since ids are chosen by callers: nobody can make them
    /// collide, and no key needs to be kept secret.
    merchants: BTreeMap<u64, u32>,
    /// When the latest payment of each id in `recent` happened.
    ids: BTreeMap<u64, Timestamp>,
}

impl Index {
    /// Indexes payments; `None` if they are not one sequence in order of time.
    pub(super) fn of(payments: Payments<'_>) -> Option<Self> {
        Self::starting_at(0, 0, payments)
    }

    fn starting_at(front: u64, before: i64, payments: Payments<'_>) -> Option<Self> {
        if !payments.in_order() {
            return None;
        }
        let split = payments.older.len();
        let newest = payments.at(payments.len().checked_sub(1)?);
        let starts = bounds(newest).map(|bound| payments.until(bound, payments.len()));
        let mut index = Self {
            front,
            before,
            sums: VecDeque::with_capacity(payments.len() + payments.len() / 4),
            peaks: VecDeque::new(),
            starts: starts.map(|position| front + position as u64),
            merchants_from: front + starts[DAY].max(split) as u64,
            merchants: BTreeMap::new(),
            // Built of a whole sequence, a tree is filled from a sort; of two of one id the later stays.
            ids: payments.recent.iter().map(|payment| (payment.id, payment.at)).collect(),
        };
        let minors = payments.older.iter().map(|spent| spent.minor);
        let mut sum = before;
        for (minor, seq) in minors.chain(payments.recent.iter().map(|payment| payment.minor)).zip(front..) {
            sum = sum.wrapping_add(minor);
            index.sums.push_back(sum);
            index.peak(seq, minor);
        }
        let mut counted: Vec<u64> = payments.merchants(starts[DAY].max(split)..payments.len()).collect();
        counted.sort_unstable();
        let counted = counted.chunk_by(|one, other| one == other);
        index.merchants = counted.map(|same| (same[0], same.len() as u32)).collect();
        Some(index)
    }

    fn position(&self, seq: u64) -> usize {
        (seq - self.front) as usize
    }

    /// Sum of all amounts before a position.
    fn sum_before(&self, position: usize) -> i64 {
        match position.checked_sub(1) {
            Some(last) => self.sums[last],
            None => self.before,
        }
    }

    /// Lets a payment at the end into the suffix maxima.
    fn peak(&mut self, seq: u64, minor: i64) {
        while self.peaks.pop_back_if(|(_, lower)| *lower <= minor).is_some() {}
        self.peaks.push_back((seq, minor));
    }

    /// A payment was put at a position; `false` if the sequence is no longer in order, and the index worthless.
    #[must_use]
    pub(super) fn inserted(&mut self, position: usize, payment: &Payment, payments: Payments<'_>) -> bool {
        if !payments.in_order() {
            return false;
        }
        let seq = self.front + position as u64;
        let sum = self.sum_before(position).wrapping_add(payment.minor);
        let latest = self.ids.entry(payment.id).or_insert(payment.at);
        *latest = payment.at.max(*latest);
        if position == self.sums.len() {
            self.sums.push_back(sum);
            self.peak(seq, payment.minor);
            *self.merchants.entry(payment.merchant).or_default() += 1;
            self.advance(payment.at, payments);
        } else {
            self.sums.insert(position, sum);
            for later in self.sums.range_mut(position + 1..) {
                *later = later.wrapping_add(payment.minor);
            }
            self.late_peak(seq, payment.minor);
            self.late_starts(payment, payments);
        }
        true
    }

    /// Moves every window's start to where it is at a new newest payment.
    fn advance(&mut self, newest: Timestamp, payments: Payments<'_>) {
        for (window, bound) in bounds(newest).into_iter().enumerate() {
            let start = payments.until(bound, self.position(self.starts[window]));
            self.starts[window] = self.front + start as u64;
        }
        let from = self.merchants_from.max(self.starts[DAY]);
        for merchant in payments.merchants(self.position(self.merchants_from)..self.position(from)) {
            self.uncount(merchant);
        }
        self.merchants_from = from;
    }

    /// Lets a payment before the end into the suffix maxima.
    fn late_peak(&mut self, seq: u64, minor: i64) {
        let place = self.peaks.partition_point(|(peak, _)| *peak < seq);
        for (peak, _) in self.peaks.range_mut(place..) {
            *peak += 1;
        }
        if self.peaks.get(place).is_some_and(|(_, larger)| *larger >= minor) {
            return;
        }
        let kept = self.peaks.range(..place).rposition(|(_, larger)| *larger > minor).map_or(0, |last| last + 1);
        self.peaks.drain(kept..place);
        self.peaks.insert(kept, (seq, minor));
    }

    /// Makes room for a payment before the newest one.
    fn late_starts(&mut self, payment: &Payment, payments: Payments<'_>) {
        let newest = payments.at(payments.len() - 1);
        for (start, bound) in self.starts.iter_mut().zip(bounds(newest)) {
            *start += u64::from(payment.at <= bound);
        }
        let split = self.front + payments.older.len() as u64;
        // Its place is in `recent`: it moves the first counted payment, or it is counted.
        if payment.at <= newest - MERCHANT_WINDOW_MS {
            self.merchants_from = self.starts[DAY].max(split);
        } else {
            *self.merchants.entry(payment.merchant).or_default() += 1;
        }
    }

    fn uncount(&mut self, merchant: u64) {
        if let Some(count) = self.merchants.get_mut(&merchant) {
            *count -= 1;
            if *count == 0 {
                self.merchants.remove(&merchant);
            }
        }
    }

    /// The first payment of `recent`, at this position, leaves it for `older` or altogether.
    pub(super) fn aged(&mut self, position: usize, payment: &Payment) {
        // A later payment of the same id, which the floor allows, stays known; of the same instant, too.
        if self.ids.get(&payment.id) == Some(&payment.at) {
            self.ids.remove(&payment.id);
        }
        if self.front + position as u64 == self.merchants_from {
            self.merchants_from += 1;
            self.uncount(payment.merchant);
        }
    }

    /// The oldest payment is forgotten; if it was in `recent`, it has aged before.
    pub(super) fn forgot_oldest(&mut self) {
        let Some(before) = self.sums.pop_front() else { return };
        self.before = before;
        self.peaks.pop_front_if(|(seq, _)| *seq == self.front);
        self.front += 1;
        self.starts = self.starts.map(|start| start.max(self.front));
        self.merchants_from = self.merchants_from.max(self.front);
    }

    /// When the latest payment of an id happened.
    pub(super) fn latest(&self, id: u64) -> Option<Timestamp> {
        self.ids.get(&id).copied()
    }

    /// Totals and merchants of every window at `at`, hourly buckets left out.
    pub(super) fn windows(&self, at: Timestamp, with: Option<(i64, &str)>, payments: Payments<'_>) -> Windows {
        let split = payments.older.len();
        let end = payments.until(at, payments.len()).max(split);
        let mut lows = bounds(at).map(|_| 0);
        for (window, bound) in bounds(at).into_iter().enumerate() {
            lows[window] = payments.until(bound, self.position(self.starts[window])).min(end);
        }
        let maxima = self.maxima(&lows, end, payments);
        let mut totals = [WindowTotals::default(); WINDOWS];
        for ((totals, low), max_minor) in totals.iter_mut().zip(lows).zip(maxima) {
            let sum_minor = self.sum_before(end).wrapping_sub(self.sum_before(low));
            *totals = WindowTotals { count: (end - low) as u64, sum_minor, max_minor };
            if let Some((minor, _)) = with {
                totals.add(minor);
            }
        }
        let merchants = self.count_merchants(lows[DAY].max(split)..end, with.map(|(_, id)| id_hash(id)), payments);
        let [hour, day, week, month, today] = totals;
        Windows { hour, day, week, month, today, merchants, ..Windows::default() }
    }

    /// Largest amount from each low position to `end`.
    fn maxima(&self, lows: &[usize; WINDOWS], end: usize, payments: Payments<'_>) -> [i64; WINDOWS] {
        // From the shortest to the longest; today is always within the last 24 hours.
        let order = if lows[4] >= lows[0] { [4, 0, 1, 2, 3] } else { [0, 4, 1, 2, 3] };
        let mut maxima = [0; WINDOWS];
        let (mut reached, mut largest) = (end, 0);
        for window in order {
            let low = self.front + lows[window] as u64;
            let place = self.peaks.partition_point(|(seq, _)| *seq < low);
            largest = match self.peaks.get(place) {
                Some((seq, minor)) if self.position(*seq) < end => *minor,
                // The largest since then came after `end`, which only a late payment asks about: it looks itself.
                _ => largest.max(payments.max_minor(lows[window]..reached)),
            };
            largest = largest.max(0);
            reached = lows[window];
            maxima[window] = largest;
        }
        maxima
    }

    /// Different merchants of a range of `recent`, and of one payment more: those counted at the newest payment, but for
    /// what lies between.
    fn count_merchants(&self, range: Range<usize>, with: Option<u64>, payments: Payments<'_>) -> u64 {
        let (from, len) = (self.position(self.merchants_from), payments.len());
        let differing = from.abs_diff(range.start) + (len - range.end);
        if range.is_empty() || differing > range.len() {
            let mut all: Vec<u64> = payments.merchants(range).chain(with).collect();
            all.sort_unstable();
            all.dedup();
            return all.len() as u64;
        }
        let added = payments.merchants(range.start.min(from)..from).map(|merchant| (merchant, 1));
        let gone = payments.merchants(from.min(range.start)..range.start).chain(payments.merchants(range.end..len));
        let gone = gone.map(|merchant| (merchant, -1));
        let mut changes: Vec<(u64, i64)> = with.map(|merchant| (merchant, 1)).into_iter().collect();
        changes.extend(added.chain(gone));
        changes.sort_unstable();
        let mut different = self.merchants.len() as u64;
        for changes in changes.chunk_by(|(one, _), (other, _)| one == other) {
            let counted = self.merchants.get(&changes[0].0).map_or(0, |count| i64::from(*count));
            let left = counted + changes.iter().map(|(_, change)| change).sum::<i64>();
            different = different + u64::from(left > 0) - u64::from(counted > 0);
        }
        different
    }
}

#[cfg(test)]
mod tests;

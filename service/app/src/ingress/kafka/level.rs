//! What the thread that reads, the task that sends and whoever measures know of a partition of a topic: how much waits, how
//! far its records are in the journal, how old they are. Numbers only; nobody waits for another here.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use verdict_core::time::Timestamp;

/// Records and bytes of a partition that were read and wait to be sent on, beyond which it is not read.
const MOST_WAITING: usize = 512;
const MOST_WAITING_BYTES: usize = 2 << 20;

/// What both sides know of a partition.
pub(super) struct Level {
    /// Records handed over and not sent on yet, and their bytes.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// Records handed over since the start.
    read: AtomicU64,
    /// Behind the last record that is in the journal; 0 while that is not known.
    settled: AtomicI64,
    /// Behind the last record that was handed over.
    handed: AtomicI64,
    /// Where reading stands: behind what was handed over, and behind the control records after it, which nobody is handed.
    position: AtomicI64,
    /// Behind the last record of the topic; below 0 while that is not known.
    end: AtomicI64,
    /// Timestamp of the newest event that was decided, in milliseconds; the least there is while none was.
    newest: AtomicI64,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            read: AtomicU64::new(0),
            settled: AtomicI64::new(0),
            handed: AtomicI64::new(0),
            position: AtomicI64::new(0),
            end: AtomicI64::new(-1),
            newest: AtomicI64::new(i64::MIN),
        }
    }
}

impl Level {
    /// Whether more of it may be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MOST_WAITING
            && self.waiting_bytes.load(Ordering::Relaxed) < MOST_WAITING_BYTES
    }

    /// A record of so many bytes is handed over.
    pub(super) fn hand_over(&self, offset: i64, bytes: usize) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.read.fetch_add(1, Ordering::Relaxed);
        self.handed.store(offset + 1, Ordering::Relaxed);
    }

    /// So far the topic goes.
    pub(super) fn ends_at(&self, end: i64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// So far the client has read, what it hands to nobody included.
    pub(super) fn stand_at(&self, position: i64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// It is read from here on, anew.
    pub(super) fn rewind(&self, from: Option<i64>) {
        self.handed.store(from.unwrap_or(0), Ordering::Relaxed);
        self.position.store(0, Ordering::Relaxed);
    }

    /// A record was sent on, or dropped; whether it is time that the partition is looked at again.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let held_bytes = self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let held = self.waiting.fetch_sub(1, Ordering::Relaxed);
        held_bytes >= MOST_WAITING_BYTES || held == MOST_WAITING / 2
    }

    /// Everything before this offset is in the journal.
    pub(super) fn settle(&self, next: i64) {
        self.settled.store(next, Ordering::Relaxed);
    }

    /// An event of this time was decided.
    pub(super) fn decided(&self, at: Timestamp) {
        self.newest.fetch_max(at.as_millis(), Ordering::Relaxed);
    }

    /// Time from the newest event that was decided until `now`, in milliseconds; `None` while none was.
    pub(super) fn age_ms(&self, now: Timestamp) -> Option<i64> {
        let newest = self.newest.load(Ordering::Relaxed);
        (newest > i64::MIN).then(|| now.as_millis().saturating_sub(newest).max(0))
    }

    /// Records handed over since the start.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Everything before this offset is in the journal, or is nothing that could be: with nothing under way, that is where
    /// reading stands.
    pub(super) fn reached(&self) -> i64 {
        let settled = self.settled.load(Ordering::Relaxed);
        let all = settled >= self.handed.load(Ordering::Relaxed);
        if all { settled.max(self.position.load(Ordering::Relaxed)) } else { settled }
    }

    /// Records that are there and not in the journal; `None` before the first fetch.
    pub(super) fn lag(&self) -> Option<u64> {
        let end = self.end.load(Ordering::Relaxed);
        (end >= 0).then(|| (end - self.reached()).max(0).cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_records_are_no_lag_once_all_before_them_is_settled() {
        let level = Level::default();
        assert_eq!(level.lag(), None);
        level.rewind(Some(5));
        level.settle(5);
        level.ends_at(9);
        assert_eq!(level.lag(), Some(4), "nothing was read yet");
        level.hand_over(5, 10);
        level.hand_over(6, 10);
        // Two records, and two control records behind them.
        level.stand_at(9);
        level.settle(6);
        assert_eq!((level.lag(), level.reached()), (Some(3), 6), "one is under way");
        level.settle(7);
        assert_eq!((level.lag(), level.reached(), level.read()), (Some(0), 9, 2));
        level.hand_over(9, 10);
        level.ends_at(10);
        assert_eq!(level.lag(), Some(3), "until it is settled, what is known is what is settled");
        level.settle(10);
        assert_eq!(level.lag(), Some(0));
        level.rewind(Some(7));
        level.settle(7);
        assert_eq!(level.lag(), Some(3), "read anew");
    }

    #[test]
    fn the_newest_event_says_how_old_a_source_is() {
        let (level, at) = (Level::default(), Timestamp::from_millis);
        assert_eq!(level.age_ms(at(9)), None);
        level.decided(at(5_000));
        level.decided(at(4_000));
        assert_eq!((level.age_ms(at(7_500)), level.age_ms(at(4_000))), (Some(2_500), Some(0)));
    }
}

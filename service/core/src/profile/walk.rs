//! The walk back through a user's payments, newest first: what windows cost while payments are few.

use super::{LONGEST_WINDOW_MS, WindowTotals, Windows};
use crate::time::{DAY_MS, HOUR_MS, Timestamp};

/// One walk back through history that closes each window as it leaves it: nested windows share their totals.
pub(super) struct Walk {
    /// Start of each window, excluded: 1 h, 24 h, 7 d, 30 d.
    starts: [Timestamp; 4],
    day_start: Timestamp,
    /// Windows of the same order; those before `open` are closed.
    closed: [WindowTotals; 4],
    open: usize,
    running: WindowTotals,
    today: WindowTotals,
}

impl Walk {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            starts: [at - HOUR_MS, at - DAY_MS, at - 7 * DAY_MS, at - LONGEST_WINDOW_MS],
            day_start: at.day_start(),
            closed: [WindowTotals::default(); 4],
            open: 0,
            running: WindowTotals::default(),
            today: WindowTotals::default(),
        }
    }

    /// Takes the next older event; `false` once it lies before every window.
    pub(super) fn step(&mut self, at: Timestamp, minor: i64) -> bool {
        while self.open < 4 && at <= self.starts[self.open] {
            self.closed[self.open] = self.running;
            self.open += 1;
        }
        if self.open == 4 {
            return false;
        }
        self.running.add(minor);
        if at >= self.day_start {
            self.today.add(minor);
        }
        true
    }

    pub(super) fn finish(mut self) -> Windows {
        for totals in &mut self.closed[self.open..] {
            *totals = self.running;
        }
        let [hour, day, week, month] = self.closed;
        Windows { hour, day, week, month, today: self.today, ..Windows::default() }
    }
}

/// A set of merchants: a scan while it is small, which it nearly always is, else sorted at the end.
#[derive(Default)]
pub(super) struct Merchants {
    few: [u64; 16],
    len: usize,
    many: Vec<u64>,
}

impl Merchants {
    pub(super) fn add(&mut self, merchant: u64) {
        if self.few[..self.len].contains(&merchant) {
            return;
        }
        if self.len < self.few.len() {
            self.few[self.len] = merchant;
            self.len += 1;
        } else {
            self.many.push(merchant);
        }
    }

    pub(super) fn count(mut self) -> u64 {
        self.many.sort_unstable();
        self.many.dedup();
        (self.len + self.many.len()) as u64
    }
}

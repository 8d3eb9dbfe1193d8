//! Who waits before a worker's turnstile, and who is called next; times are arguments, and nobody is woken here.
//!
//! Those who have waited too long are turned away, the longest first, so that nothing is spent on answers that come too
//! late. As long as there are none, the first in the line is called first, and everybody has a short wait. Once there
//! are, the load is beyond the machine, somebody has to go without, and the last is called first: an answer in time for
//! some instead of a late one for all.

use super::limit::{Limit, Worked};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One is turned away for so many answers. To turn one away should cost what an echo does, 0.4 of a decision, so that a
/// tenth of the time goes into it; where that is not enough, they wait, unparsed, instead of slowing those who are
/// answered.
const ANSWERS_A_REFUSAL: u32 = 4;

/// Where nothing is answered, one is turned away in a tick, then twice as many in every next, so many times at most.
const DOUBLINGS: u32 = 6;

/// Most that are turned away in a tick without an answer.
const REFUSALS_A_TICK: u32 = 1 << DOUBLINGS;

/// With so many events on their way, or fewer, the thread is looked after by nobody.
const FEW: usize = 32;

/// What a place in the line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Come in; you have waited so long.
    Enter(Duration),
    /// You have waited too long, and will be told so.
    TooLate,
}

/// See the module. `W` is how somebody who waits is told.
#[derive(Debug)]
pub(super) struct Line<W> {
    limit: Limit,
    patience: Duration,
    /// By number, which is the order in which they came.
    waiting: BTreeMap<u64, Waiting<W>>,
    next_number: u64,
    /// Numbers below this have waited too long.
    late_below: u64,
    /// Events on their way through the actors.
    inside: usize,
    /// Called, and not there yet.
    called: usize,
    /// Called to be turned away, and not there yet.
    turning_away: usize,
    /// Answers since somebody was turned away.
    owed: u32,
    /// How late the thread does now what is due: what it will see next has waited that long unseen.
    lag: Duration,
    /// Ticks since the last answer.
    quiet_ticks: u32,
}

#[derive(Debug)]
struct Waiting<W> {
    since: Instant,
    who: W,
}

impl<W> Line<W> {
    /// A line of which those who are let in wait `patience` at most.
    pub(super) const fn new(limit: Limit, patience: Duration) -> Self {
        Self {
            limit,
            patience,
            waiting: BTreeMap::new(),
            next_number: 0,
            late_below: 0,
            inside: 0,
            called: 0,
            turning_away: 0,
            owed: 0,
            lag: Duration::ZERO,
            quiet_ticks: 0,
        }
    }

    /// Whether whoever comes may go straight in.
    pub(super) const fn is_open(&self) -> bool {
        self.inside + self.called < self.limit.get()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether ticks are of use.
    pub(super) fn is_busy(&self) -> bool {
        self.inside > FEW || !self.is_empty()
    }

    /// How long whoever comes now has waited unseen.
    pub(super) const fn lag(&self) -> Duration {
        self.lag
    }

    /// Takes the last place, and gives its number.
    pub(super) fn wait(&mut self, now: Instant, who: W) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let since = now.checked_sub(self.lag).unwrap_or(now);
        self.waiting.insert(number, Waiting { since, who });
        number
    }

    /// Gives a place up: its connection has ended.
    pub(super) fn abandon(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// Whoever was called is there, or will never be.
    pub(super) const fn arrived(&mut self, turn: Turn) {
        match turn {
            Turn::Enter(_) => self.called -= 1,
            Turn::TooLate => self.turning_away -= 1,
        }
    }

    /// Takes an event in. `false`: there is no room by far. Who was called has room; events whose body came late, and
    /// those behind another on their connection, come without.
    pub(super) const fn enter(&mut self) -> bool {
        let room = self.inside < 2 * self.limit.get();
        if room {
            self.inside += 1;
        }
        room
    }

    /// An event that took so long is answered; the thread has done so much by now.
    pub(super) fn leave(&mut self, took: Duration, worked: Worked) {
        self.limit.answered(self.lag + took, !self.is_open(), worked);
        self.inside -= 1;
        // With room that nobody in time can use, a refusal costs no answer, and brings back a caller.
        let spare = self.waiting.last_key_value().is_none_or(|(number, _)| *number < self.late_below);
        self.owe(if spare { ANSWERS_A_REFUSAL } else { 1 });
        self.quiet_ticks = 0;
    }

    /// Some time has passed, and the thread came to this so much too late.
    pub(super) fn tick(&mut self, lag: Duration) {
        self.lag = lag;
        // Those of the last tick may be what holds up the answers.
        if self.turning_away > 0 {
            return;
        }
        if let Some(quiet) = self.quiet_ticks.checked_sub(1) {
            self.owe(ANSWERS_A_REFUSAL << quiet.min(DOUBLINGS));
        }
        self.quiet_ticks = self.quiet_ticks.saturating_add(1);
    }

    /// Calls the next, if it is anybody's turn.
    pub(super) fn call(&mut self, now: Instant) -> Option<(W, Turn)> {
        let late = self.see_who_is_late(now);
        if self.is_open()
            && let Some(number) = self.next_in_time(late)
            && let Some(Waiting { since, who }) = self.waiting.remove(&number)
        {
            self.called += 1;
            return Some((who, Turn::Enter(now.saturating_duration_since(since))));
        }
        if late && self.owed >= ANSWERS_A_REFUSAL {
            self.owed -= ANSWERS_A_REFUSAL;
            self.turning_away += 1;
            return self.waiting.pop_first().map(|(_, Waiting { who, .. })| (who, Turn::TooLate));
        }
        None
    }

    fn next_in_time(&self, some_are_late: bool) -> Option<u64> {
        let mut in_time = self.waiting.range(self.late_below..).map(|(number, _)| *number);
        if some_are_late { in_time.next_back() } else { in_time.next() }
    }

    /// Whether anybody has waited too long by now.
    fn see_who_is_late(&mut self, now: Instant) -> bool {
        let in_time = |waiting: &Waiting<W>| now.saturating_duration_since(waiting.since) <= self.patience;
        let first = self.waiting.range(self.late_below..).find(|(_, waiting)| in_time(waiting));
        self.late_below = first.map_or(self.next_number, |(number, _)| *number);
        self.waiting.first_key_value().is_some_and(|(number, _)| *number < self.late_below)
    }

    /// Nothing is saved up beyond a tick: a burst of refusals would hold up the answers.
    fn owe(&mut self, answers: u32) {
        self.owed = (self.owed + answers).min(REFUSALS_A_TICK * ANSWERS_A_REFUSAL);
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;

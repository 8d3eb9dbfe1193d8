//! The turnstile of a worker: a request is parsed when there is room for it, and waits as bytes of its connection until then.
//!
//! A request that is parsed costs memory and, to be refused, nearly half of what a decision costs. One that waits before the
//! turnstile costs neither, and the time that it waited is known. Who is called next is the [`Line`]'s; this wakes them.
//! Nothing here knows what a request asks: what must be answered at any load is let through by the connection.

use super::Limits;
use super::limit::{Limit, Worked};
use super::line::{Line, Turn};
use crate::telemetry::clock::Clock;
use actix_web::rt::{spawn, time::sleep};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeMetrics};

/// How often those who wait are looked at while nothing is answered.
const TICK: Duration = Duration::from_millis(10);

/// Parts of the default deadline: a third before the turnstile at most, an eighth behind it in the mean. The rest is for
/// what neither sees, and for events that wait for others of their own user.
pub(super) const PATIENCE: u32 = 3;
/// See there.
pub(super) const TARGET: u32 = 8;

/// Cheap to clone; everything that holds one lives on its worker's thread.
#[derive(Clone, Debug)]
pub(super) struct Turnstile(Rc<State>);

struct State {
    clock: Clock,
    line: RefCell<Line<Rc<Told>>>,
    ticking: Cell<bool>,
    /// Of the thread that everything here lives on.
    runtime: RuntimeMetrics,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("line", &self.line).finish_non_exhaustive()
    }
}

/// How whoever waits is told.
#[derive(Debug)]
struct Told {
    turn: Cell<Option<Turn>>,
    waker: RefCell<Waker>,
}

/// A place before the turnstile; dropped, it is given up.
#[derive(Debug)]
pub(super) struct Place {
    turnstile: Turnstile,
    number: u64,
    told: Rc<Told>,
}

/// An event behind the turnstile, until this is dropped.
#[derive(Debug)]
pub(super) struct Inside {
    turnstile: Turnstile,
    since: Instant,
}

impl Turnstile {
    pub(super) fn new(limits: &Limits, clock: Clock) -> Self {
        let (patience, target) = (limits.decide_deadline / PATIENCE, limits.decide_deadline / TARGET);
        let line = Line::new(Limit::new(target, limits.max_in_flight), patience);
        let runtime = Handle::current().metrics();
        Self(Rc::new(State { clock, line: RefCell::new(line), ticking: Cell::new(false), runtime }))
    }

    /// The turn of whoever comes, if there is room.
    pub(super) fn straight_in(&self) -> Option<Turn> {
        let line = self.0.line.borrow();
        line.is_open().then(|| Turn::Enter(line.lag()))
    }

    /// Takes a place.
    pub(super) fn wait(&self, waker: &Waker) -> Place {
        let told = Rc::new(Told { turn: Cell::new(None), waker: RefCell::new(waker.clone()) });
        let number = self.0.line.borrow_mut().wait(self.0.clock.instant(), Rc::clone(&told));
        self.keep_ticking();
        Place { turnstile: self.clone(), number, told }
    }

    /// Takes an event in, unless there is no room by far.
    pub(super) fn enter(&self, now: Instant) -> Option<Inside> {
        let mut line = self.0.line.borrow_mut();
        let (entered, busy) = (line.enter(), line.is_busy());
        drop(line);
        if busy {
            self.keep_ticking();
        }
        entered.then(|| Inside { turnstile: self.clone(), since: now })
    }

    /// What the thread has done: a worker's runtime has this one.
    fn worked(&self, now: Instant) -> Worked {
        Worked { now, busy: self.0.runtime.worker_total_busy_duration(0) }
    }

    /// Tells everybody whose turn it is.
    fn call(&self, now: Instant) {
        let mut line = self.0.line.borrow_mut();
        while let Some((told, turn)) = line.call(now) {
            told.turn.set(Some(turn));
            told.waker.borrow().wake_by_ref();
        }
    }

    /// Answers call the next; this does it where none come. It also sees how far the thread is behind: what it is about to
    /// read has waited as long in the thread's own queue as this has, before anybody could see it.
    fn keep_ticking(&self) {
        if self.0.ticking.replace(true) {
            return;
        }
        let turnstile = self.clone();
        spawn(async move {
            while turnstile.0.line.borrow().is_busy() {
                let due = turnstile.0.clock.instant() + TICK;
                sleep(TICK).await;
                let now = turnstile.0.clock.instant();
                turnstile.0.line.borrow_mut().tick(now.saturating_duration_since(due));
                turnstile.call(now);
            }
            turnstile.0.line.borrow_mut().tick(Duration::ZERO);
            turnstile.0.ticking.set(false);
        });
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Turn> {
        if let Some(turn) = self.told.turn.get() {
            return Poll::Ready(turn);
        }
        self.told.waker.borrow_mut().clone_from(waker);
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.turnstile.0.line.borrow_mut();
        match self.told.turn.get() {
            None => line.abandon(self.number),
            Some(turn) => line.arrived(turn),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let now = self.turnstile.0.clock.instant();
        let mut line = self.turnstile.0.line.borrow_mut();
        line.leave(now.saturating_duration_since(self.since), self.turnstile.worked(now));
        let somebody_waits = !line.is_empty();
        drop(line);
        if somebody_waits {
            self.turnstile.call(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock::instant;

    #[actix_web::test]
    async fn the_books_tell_work_from_rest() {
        let turnstile = Turnstile::new(&Limits::default(), Clock::System);
        let spent = Duration::from_millis(50);
        // The books are made up when the thread has nothing to do.
        sleep(Duration::from_millis(1)).await;
        let began = turnstile.worked(instant());
        sleep(spent).await;
        let rested = turnstile.worked(instant());
        while instant().saturating_duration_since(rested.now) < spent {}
        sleep(Duration::from_millis(1)).await;
        let worked = turnstile.worked(instant());
        // However long the machine holds this up: to wait is not to work, and to work is.
        assert!(rested.busy - began.busy < rested.now - began.now, "{began:?}, {rested:?}");
        assert!(worked.busy - rested.busy >= spent, "{rested:?}, {worked:?}");
    }
}

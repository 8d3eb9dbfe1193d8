//! Those who follow the alerts as server-sent events: they come, stop reading, leave, and come again with the id of the
//! last alert that they saw. Every alert that comes must be the next one in the order of arrival, once.

use super::alerts::SimAlerts;
use super::clients::Clients;
use super::service::{STALL, Service};
use super::web::Page;
use crate::telemetry::clock::virtual_now;
use crate::wire::alert::Arrival;
use actix_web::web::Bytes;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a stream asks its client to wait before it comes again.
const RETRY: Duration = Duration::from_secs(1);

/// Events that may wait for a client who does not read, and the one that was on its way.
const MOST_UNREAD: usize = 17;

/// By then at the latest the service has tried to send what is in the store, and has cut off whoever does not read.
const SURELY_SENT: Duration = Duration::from_secs(20);

/// What a follower does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Away,
    Reads,
    /// Is connected, and reads nothing.
    Sleeps,
}

/// One who follows, over all lives.
#[derive(Debug)]
pub(super) struct Follower {
    mode: watch::Sender<Mode>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whose alerts only.
    user: Option<String>,
    /// The place of the last alert that was read.
    last: Option<i64>,
    connected: bool,
    /// Where a connection without a last alert may have begun.
    began: (i64, i64),
    /// Since when nothing was read, and for how long at most in this connection.
    asleep_since: Option<Instant>,
    longest_sleep: Duration,
    /// How many more alerts may be read from a connection that must have been cut off.
    left: Option<usize>,
    broken: Option<String>,
    counts: Counts,
}

/// What became of streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) streams: usize,
    pub(super) alerts: usize,
    pub(super) cut_off: usize,
}

impl Follower {
    pub(super) fn new(user: Option<String>) -> Rc<Self> {
        let state = RefCell::new(State { user, ..State::default() });
        Rc::new(Self { mode: watch::Sender::new(Mode::Away), state })
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The life is over, and every connection.
    pub(super) fn hang_up(&self) {
        let mut state = self.state.borrow_mut();
        (state.connected, state.asleep_since) = (false, None);
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.state.borrow().broken.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.borrow().counts
    }

    /// Whether it does what it is to do, and has read all that there is.
    pub(super) fn is_settled(&self, store: &SimAlerts) -> bool {
        let state = self.state.borrow();
        match *self.mode.borrow() {
            Mode::Away => !state.connected,
            Mode::Reads => state.connected && state.last.is_none_or(|last| state.wanted(store, last).is_empty()),
            Mode::Sleeps => true,
        }
    }

    /// Follows until its life is over.
    pub(super) async fn run(self: Rc<Self>, service: Service, clients: Rc<RefCell<Clients>>, is_tight: bool) {
        let mut mode = self.mode.subscribe();
        loop {
            if mode.wait_for(|mode| *mode != Mode::Away).await.is_err() {
                return;
            }
            if let Some(page) = self.connect(&service, &clients).await {
                self.read(page, &mut mode, &service.alerts, is_tight).await;
                self.hang_up();
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn connect(&self, service: &Service, clients: &RefCell<Clients>) -> Option<Page> {
        let (path, last) = {
            let state = self.state.borrow();
            let query = state.user.as_ref().map(|user| format!("?user_id={user}")).unwrap_or_default();
            let arrivals = service.alerts.arrivals();
            let last = state.last.map(|last| arrivals[last as usize - 1].alert.alert_id.clone());
            (format!("/v1/alerts/stream{query}"), last)
        };
        let before = service.alerts.newest();
        let page = service.follow(path, last).await;
        if page.status != 200 {
            let status = page.status;
            let code = page.code().await;
            // The store fails, the service stops, or there are as many streams as it bears: an alert is never forgotten.
            if !matches!((status, &*code), (429, "OVERLOADED") | (503, "ALERTS_UNAVAILABLE" | "STOPPING")) {
                self.state.borrow_mut().broken = Some(format!("a stream was refused with {status} {code}"));
            }
            *clients.borrow_mut().refused.entry(code).or_default() += 1;
            return None;
        }
        let mut state = self.state.borrow_mut();
        state.counts.streams += 1;
        (state.connected, state.longest_sleep, state.left) = (true, Duration::ZERO, None);
        state.began = (before, service.alerts.newest());
        Some(page)
    }

    async fn read(&self, mut page: Page, mode: &mut watch::Receiver<Mode>, store: &SimAlerts, is_tight: bool) {
        loop {
            let wanted = *mode.borrow_and_update();
            match wanted {
                Mode::Away => return,
                Mode::Sleeps => self.state.borrow_mut().sleep(),
                Mode::Reads => {
                    self.state.borrow_mut().wake(store);
                    tokio::select! {
                        biased;
                        piece = page.next() => match piece {
                            Some(piece) => self.state.borrow_mut().take(&piece, store, is_tight),
                            None => return,
                        },
                        changed = mode.changed() => if changed.is_err() { return },
                    }
                    continue;
                }
            }
            if mode.changed().await.is_err() {
                return;
            }
        }
    }
}

impl State {
    /// What is to be read after a place.
    fn wanted(&self, store: &SimAlerts, after: i64) -> Vec<Arc<Arrival>> {
        let is_wanted = |arrival: &Arc<Arrival>| {
            arrival.seq > after && self.user.as_ref().is_none_or(|user| *user == arrival.alert.user_id)
        };
        store.arrivals().into_iter().filter(is_wanted).collect()
    }

    fn sleep(&mut self) {
        self.asleep_since.get_or_insert_with(virtual_now);
    }

    /// I7: what was there long before it wakes, and more than the service holds for a client, has cost the connection.
    fn wake(&mut self, store: &SimAlerts) {
        let Some(since) = self.asleep_since.take() else { return };
        let slept = virtual_now() - since;
        self.longest_sleep = self.longest_sleep.max(slept);
        let Some(last) = self.last.filter(|_| slept >= SURELY_SENT) else { return };
        let old = self.wanted(store, last).iter().filter(|arrival| store.is_older(arrival, SURELY_SENT)).count();
        if old > MOST_UNREAD {
            self.left.get_or_insert(MOST_UNREAD);
        }
    }

    fn take(&mut self, piece: &Bytes, store: &SimAlerts, is_tight: bool) {
        if let Err(what) = self.check(piece, store, is_tight) {
            let text = String::from_utf8_lossy(piece).into_owned();
            self.broken.get_or_insert(format!("{what}: {text:?}; {self:?}"));
        }
    }

    fn check(&mut self, piece: &Bytes, store: &SimAlerts, is_tight: bool) -> Result<(), String> {
        if piece.starts_with(b": cut off") {
            self.counts.cut_off += 1;
            // Only a channel that holds a few alerts can be too short for somebody who reads.
            return if is_tight || self.longest_sleep >= STALL {
                Ok(())
            } else {
                Err("cut off, and always read".to_owned())
            };
        }
        if !piece.starts_with(b"event: alert\n") {
            return Ok(());
        }
        self.counts.alerts += 1;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or("I7: more was held for a client who did not read than is bounded")?;
        }
        let next = match self.last {
            Some(last) => self.wanted(store, last).first().cloned(),
            None => self.wanted(store, self.began.0).into_iter().find(|arrival| *arrival.event == **piece),
        };
        let Some(arrival) = next.filter(|arrival| *arrival.event == **piece) else {
            return Err("I4: not the alert that comes next".to_owned());
        };
        if self.last.is_none() && self.wanted(store, self.began.1).first().is_some_and(|first| first.seq < arrival.seq)
        {
            return Err("I4: not the first alert since it came".to_owned());
        }
        self.last = Some(arrival.seq);
        Ok(())
    }
}

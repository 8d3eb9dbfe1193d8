//! The store of alerts over the dice: late, failing, and failing after it has written. What it holds survives a crash of
//! the process, as SQLite's does.

use crate::ingress::http::{AlertDesk, AlertError};
use crate::journal::record::{Body, Record};
use crate::journal::{Partition, Wanted};
use crate::projections::review_store::{Move, ProjectionStore, Reached, ReviewError, Stretch};
use crate::telemetry::clock::virtual_now;
use crate::traffic::dice::Dice;
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review};
use futures_util::future::{BoxFuture, ready};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

/// How the store misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct StoreFaults {
    /// Longest time that anything takes.
    pub(super) delay_ms: u32,
    /// Share of calls that fail.
    pub(super) fails: f64,
}

/// See the module. Clones share the rows.
#[derive(Clone)]
pub(super) struct SimAlerts(Arc<Mutex<Rows>>);

struct Rows {
    off: bool,
    dice: Dice,
    faults: StoreFaults,
    /// In order of arrival.
    arrivals: Vec<Arc<Arrival>>,
    /// When each of them did.
    written_at: Vec<Instant>,
    positions: BTreeMap<Partition, u64>,
    head: watch::Sender<Option<i64>>,
    breaches: Vec<String>,
}

fn failed() -> ReviewError {
    ReviewError::Store("the simulated store failed".into())
}

impl SimAlerts {
    pub(super) fn new(dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(Rows {
            off: false,
            dice,
            faults: StoreFaults::default(),
            arrivals: Vec::new(),
            written_at: Vec::new(),
            positions: BTreeMap::new(),
            head: watch::Sender::new(Some(0)),
            breaches: Vec::new(),
        })))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: StoreFaults) {
        self.rows().faults = faults;
    }

    /// Whether the process that writes is there: one that was dropped leaves no trace any more.
    pub(super) fn set_power(&self, on: bool) {
        self.rows().off = !on;
    }

    /// Everything that arrived, in order.
    pub(super) fn arrivals(&self) -> Vec<Arc<Arrival>> {
        self.rows().arrivals.clone()
    }

    /// Whether an arrival was there that long ago.
    pub(super) fn is_older(&self, arrival: &Arrival, than: Duration) -> bool {
        self.rows().written_at[arrival.seq as usize - 1] + than <= virtual_now()
    }

    /// The place of the newest.
    pub(super) fn newest(&self) -> i64 {
        self.rows().arrivals.len() as i64
    }

    /// I4: every decision that is no approval has its one row, in the order of its partition, and there is no other.
    pub(super) fn check(&self, log: &[Record]) -> Result<(), String> {
        let rows = self.rows();
        if let Some(breach) = rows.breaches.first() {
            return Err(breach.clone());
        }
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, arrival) in rows.arrivals.iter().enumerate() {
            if places.insert(&arrival.alert.alert_id, place).is_some() || arrival.seq != place as i64 + 1 {
                return Err(format!("I4: alert {} is there twice or out of place", arrival.alert.alert_id));
            }
        }
        let (mut last, mut expected) = (BTreeMap::new(), 0);
        for record in log {
            let Body::Decision(decided) = &record.body else { continue };
            if decided.decision.outcome == Outcome::Approve {
                continue;
            }
            expected += 1;
            let alert = Alert::of(decided);
            let place = places.get(&*alert.alert_id).copied();
            if place.is_none_or(|place| rows.arrivals[place].alert != alert) {
                return Err(format!("I4: no alert is in the store about record {}/{}", record.partition, record.n));
            }
            if last.insert(record.partition, place) > Some(place) {
                return Err(format!("I4: the alert about {}/{} came too early", record.partition, record.n));
            }
        }
        if expected == places.len() { Ok(()) } else { Err(format!("I4: {} alerts, of {expected}", places.len())) }
    }

    /// Takes its time, then fails or not.
    async fn call(&self) -> Result<(), ReviewError> {
        let (delay, fails) = {
            let mut rows = self.rows();
            let StoreFaults { delay_ms, fails } = rows.faults;
            (rows.dice.count(0, delay_ms), rows.dice.chance(fails))
        };
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
        }
        if fails || self.rows().off { Err(failed()) } else { Ok(()) }
    }
}

impl Rows {
    fn write(&mut self, alerts: &[Alert], moves: &[Move]) {
        for alert in alerts {
            if !self.arrivals.iter().any(|known| known.alert.alert_id == alert.alert_id) {
                let seq = self.arrivals.len() as i64 + 1;
                self.written_at.push(virtual_now());
                self.arrivals.push(Arc::new(Arrival::new(seq, alert.clone())));
            }
        }
        for Move { partition, from, to, .. } in moves {
            self.positions.insert(*partition, *to);
            if from > to {
                self.breaches.push(format!("I4: the position of {partition} goes back from {from} to {to}"));
            }
        }
        let head = Some(self.arrivals.len() as i64);
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
    }
}

impl ProjectionStore for SimAlerts {
    fn wanted(&self) -> Wanted {
        Wanted::Alerts
    }

    fn name(&self) -> Arc<str> {
        "the simulated store".into()
    }

    fn remedy(&self) -> &'static str {
        "a store that is ahead is a fault of the simulation"
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<Reached>, ReviewError>> {
        Box::pin(async {
            self.call().await?;
            let rows = self.rows();
            let reached = |(&partition, &n): (&Partition, &u64)| Reached { partition, n, place: None };
            Ok(rows.positions.iter().map(reached).collect())
        })
    }

    fn apply<'a>(&'a self, stretch: &'a Stretch) -> BoxFuture<'a, Result<(), ReviewError>> {
        Box::pin(async {
            let called = self.call().await;
            let mut rows = self.rows();
            let stands = |moved: &&Move| rows.positions.get(&moved.partition).copied().unwrap_or(0) != moved.from;
            if let Some(&Move { partition, from: expected, .. }) = stretch.moves.iter().find(stands) {
                let found = rows.positions.get(&partition).copied().unwrap_or(0);
                return Err(ReviewError::Moved { partition, expected, found });
            }
            // Whoever is told that it failed cannot know.
            if !rows.off && (called.is_ok() || rows.dice.chance(0.5)) {
                rows.write(&stretch.alerts, &stretch.moves);
            }
            called
        })
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>> {
        Box::pin(async move {
            self.call().await?;
            let rows = self.rows();
            let behind = rows.arrivals.iter().filter(|arrival| arrival.seq > after);
            Ok(behind.take(most as usize).map(|arrival| (**arrival).clone()).collect())
        })
    }

    fn head(&self) -> watch::Receiver<Option<i64>> {
        self.rows().head.subscribe()
    }
}

/// Lets the API read and follow the store; nobody reviews.
pub(super) struct Desk {
    pub(super) store: SimAlerts,
    pub(super) live: broadcast::Sender<Arc<Arrival>>,
}

impl AlertDesk for Desk {
    fn page(&self, _: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }

    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<i64, AlertError>> {
        Box::pin(async move {
            self.store.call().await.map_err(|_| AlertError::Unavailable)?;
            let Some(id) = alert_id.map(|id| id.to_string()) else { return Ok(self.store.newest()) };
            let arrivals = self.store.arrivals();
            arrivals.iter().find(|known| known.alert.alert_id == id).map(|known| known.seq).ok_or(AlertError::NotFound)
        })
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, AlertError>> {
        Box::pin(async move { self.store.arrived(after, most).await.map_err(|_| AlertError::Unavailable) })
    }

    fn live(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.live.subscribe()
    }

    fn review(&self, _: Uuid, _: NewReview, _: Timestamp) -> BoxFuture<'_, Result<Review, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }
}

//! Heartbeats: payments of nobody, which the service sends itself through the whole path to see that it is open and how
//! long it takes (ADR 0009).
//!
//! Each journal partition has one on its way at most, so that a path that is closed fills up with nothing; and only what
//! this run has sent is measured, so that what an earlier run left in the topic is no slow one. A record is a heartbeat by
//! its header and its user's name together: who pays cannot set the one, and who has the other for a name is a user like any
//! other. It is decided by rules and model over the profile of that name, which it never changes.

use super::Ports;
use super::decode::Decoded;
use super::home_of;
use super::reader::Raw;
use crate::actors::partition::partition_of;
use crate::journal::Partition;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::events::{HeartbeatAge, HeartbeatSeen, HeartbeatStage};
use crate::wire::transaction;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;
use tracing::warn;
use verdict_core::event::Transaction;
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::Timestamp;

/// What a record that is a heartbeat carries; other consumers of the topic know it by this as well.
const HEADER: &str = "verdict-heartbeat";
/// How the user of a heartbeat is named, before the partition.
const USER: &str = "verdict.heartbeat.";

/// Waits until everything of a partition that is durable now has been published.
pub type Published = Box<dyn Fn(Partition) -> BoxFuture<'static, ()>>;

/// What the pumps and the one who sends know of the heartbeats of this run; cheap to clone.
#[derive(Clone)]
pub(super) struct Heartbeats {
    shared: Arc<Shared>,
    decided: UnboundedSender<(Partition, Instant)>,
}

struct Shared {
    /// Tells those of this run from all others.
    run: Box<str>,
    clock: Clock,
    metrics: Metrics,
    beats: Mutex<Vec<Beat>>,
}

/// The heartbeats of a partition.
struct Beat {
    /// Whether the topics are consumed now.
    listening: bool,
    /// Sent so far.
    number: u64,
    /// When the one that is on its way was made.
    on_its_way: Option<Instant>,
    /// When the last came to each stage.
    last: [Instant; HeartbeatStage::ALL.len()],
}

/// Sends them, and waits for what has been decided to be published.
pub(super) struct Heart {
    heartbeats: Heartbeats,
    decided: UnboundedReceiver<(Partition, Instant)>,
    every: Duration,
    ports: Arc<Ports>,
    topic: Arc<str>,
    /// Partitions of the topic.
    of: u32,
    published: Published,
}

impl Heartbeats {
    /// Of so many partitions; what is decided is told to whoever has the receiver.
    fn new(partitions: Partition, clock: Clock, metrics: Metrics) -> (Self, UnboundedReceiver<(Partition, Instant)>) {
        let now = clock.instant();
        let beat = || Beat { listening: false, number: 0, on_its_way: None, last: [now; HeartbeatStage::ALL.len()] };
        let beats = Mutex::new((0..partitions).map(|_| beat()).collect());
        let run = format!("{:x}-{:x}", clock.now().as_millis(), std::process::id()).into();
        // As many messages as heartbeats that are on their way.
        let (decided, told) = unbounded_channel();
        (Self { shared: Arc::new(Shared { run, clock, metrics, beats }), decided }, told)
    }

    /// A partition is consumed, or no longer. What was on its way then may have come through unheard: it counts no more.
    pub(super) fn listen(&self, partition: Partition, listening: bool) {
        if let Some(beat) = self.beats().get_mut(usize::from(partition)) {
            (beat.listening, beat.on_its_way) = (listening, None);
        }
    }

    /// A heartbeat has been decided and read back; one that is not on its way was left by somebody else.
    pub(super) fn decided(&self, partition: Partition, transaction_id: &str) {
        let started = {
            let mut beats = self.beats();
            let Some(beat) = beats.get_mut(usize::from(partition)) else { return };
            if transaction_id != self.name(beat.number) {
                return;
            }
            let Some(started) = beat.on_its_way.take() else { return };
            started
        };
        self.seen(HeartbeatStage::Decided, partition, started);
        // Nobody waits when the service stops.
        let _ = self.decided.send((partition, started));
    }

    /// Says how long ago the last of each partition came.
    pub(super) fn show(&self) {
        let now = self.shared.clock.instant();
        for (partition, beat) in (0..).zip(&*self.beats()) {
            for stage in HeartbeatStage::ALL {
                let seconds = now.saturating_duration_since(beat.last[stage as usize]).as_secs_f64();
                HeartbeatAge { partition, stage, seconds }.emit(&self.shared.metrics);
            }
        }
    }

    /// Begins one in each partition that is consumed and has none on its way.
    fn begin(&self) -> Vec<(Partition, u64)> {
        let now = self.shared.clock.instant();
        let mut begun = Vec::new();
        for (partition, beat) in (0..).zip(&mut *self.beats()) {
            if beat.listening && beat.on_its_way.is_none() {
                beat.number += 1;
                beat.on_its_way = Some(now);
                begun.push((partition, beat.number));
            }
        }
        begun
    }

    /// One could not be sent.
    fn give_up(&self, partition: Partition, number: u64) {
        if let Some(beat) = self.beats().get_mut(usize::from(partition))
            && beat.number == number
        {
            beat.on_its_way = None;
        }
    }

    fn seen(&self, stage: HeartbeatStage, partition: Partition, started: Instant) {
        let now = self.shared.clock.instant();
        let seconds = now.saturating_duration_since(started).as_secs_f64();
        HeartbeatSeen { stage, seconds }.emit(&self.shared.metrics);
        if let Some(beat) = self.beats().get_mut(usize::from(partition)) {
            beat.last[stage as usize] = now;
        }
    }

    fn name(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.run)
    }

    fn beats(&self) -> MutexGuard<'_, Vec<Beat>> {
        // Every change is whole before anything can panic.
        self.shared.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heart {
    pub(super) fn new(
        every: Duration,
        ports: Arc<Ports>,
        (topic, of): (Arc<str>, u32),
        published: Published,
    ) -> (Heartbeats, Self) {
        let partitions = ports.gateway.partitions();
        let (heartbeats, decided) = Heartbeats::new(partitions, ports.clock.clone(), ports.metrics.clone());
        (heartbeats.clone(), Self { heartbeats, decided, every, ports, topic, of, published })
    }

    /// Goes on until it is dropped.
    pub(super) async fn beat(mut self) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut published) = (FuturesUnordered::new(), FuturesUnordered::new());
        // Those whose outbox is waited for, one heartbeat each.
        let mut awaited = BTreeSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => sent.extend(self.heartbeats.begin().into_iter().map(|beat| self.send(beat))),
                Some(failed) = sent.next() => if let Err((partition, number)) = failed {
                    self.heartbeats.give_up(partition, number);
                },
                Some((partition, started)) = self.decided.recv() => if awaited.insert(partition) {
                    let waiting = (self.published)(partition);
                    published.push(async move { (waiting.await, partition, started) });
                },
                Some(((), partition, started)) = published.next() => {
                    awaited.remove(&partition);
                    self.heartbeats.seen(HeartbeatStage::Published, partition, started);
                }
            }
        }
    }

    /// Sends one; gives back what cannot be sent.
    fn send(&self, (partition, number): (Partition, u64)) -> BoxFuture<'static, Result<(), (Partition, u64)>> {
        let (ports, topic) = (Arc::clone(&self.ports), Arc::clone(&self.topic));
        let journal = ports.gateway.partitions();
        let user = user_of(partition, journal);
        let home = home_of(&user, self.of, journal);
        let base = (ports.rates)().base();
        let raw = raw(&event(user, self.heartbeats.name(number), base, ports.clock.now()));
        Box::pin(async move {
            ports.mover.send(&topic, home, &raw).await.map_err(|error| {
                warn!(partition, %error, "a heartbeat cannot be sent");
                (partition, number)
            })
        })
    }
}

/// The user of a partition's heartbeats: the first of these names that belongs to it.
fn user_of(partition: Partition, journal: Partition) -> Box<str> {
    let mut name = format!("{USER}{partition}");
    let mut tries = 0_u32;
    while partition_of(&name, journal) != partition {
        tries += 1;
        name = format!("{USER}{partition}-{tries}");
    }
    name.into()
}

/// The least payment there is, in the base currency, which always has a rate.
fn event(user_id: Box<str>, transaction_id: String, base: Currency, at: Timestamp) -> Transaction {
    let minor = base.least_minor();
    Transaction {
        transaction_id: transaction_id.into(),
        user_id,
        amount: Money::from_minor(minor, base),
        base: BaseMinor(minor),
        merchant_id: HEADER.into(),
        at,
        ip_address: None,
        user_agent: None,
        device_id: None,
        merchant_category: None,
        location: None,
    }
}

/// The record of a heartbeat.
fn raw(event: &Transaction) -> Raw {
    let mut value = Vec::new();
    transaction::to_json(event, &mut value);
    let header = Header { key: HEADER, value: Some(event.transaction_id.as_bytes()) };
    Raw {
        offset: 0,
        produced_at_ms: Some(event.at.as_millis()),
        key: Some(event.user_id.as_bytes().into()),
        value: value.into(),
        headers: Some(OwnedHeaders::new().insert(header)),
    }
}

/// Whether a record is a heartbeat, of this run or another.
pub(super) fn is_heartbeat(raw: &Raw, decoded: &Decoded) -> bool {
    let marked = raw.headers.as_ref().is_some_and(|headers| headers.iter().any(|header| header.key == HEADER));
    marked && decoded.transaction().is_some_and(|event| event.user_id.starts_with(USER))
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Decoding, Kind};
    use super::*;
    use crate::wire::AgeBounds;
    use crate::wire::testing::{NOON, rates};

    fn decoded(kind: Kind, raw: &Raw) -> Decoded {
        let rates = rates();
        Decoding { rates: &rates, bounds: AgeBounds::default(), produced_at: NOON }.decode(kind, &raw.value)
    }

    fn beat() -> Raw {
        raw(&event(user_of(3, 12), "run-1".to_owned(), rates().base(), NOON))
    }

    #[test]
    fn each_partition_has_a_user_of_its_own() {
        for journal in [1, 4, 12, 100] {
            for partition in 0..journal {
                let user = user_of(partition, journal);
                assert!(user.starts_with(USER) && partition_of(&user, journal) == partition, "{user}");
                assert_eq!(user, user_of(partition, journal), "the same in every run");
            }
        }
    }

    #[test]
    fn one_is_a_payment_that_is_known_by_header_and_user_together() {
        let raw = beat();
        let found = decoded(Kind::Transactions, &raw);
        assert!(is_heartbeat(&raw, &found), "{found:?}");
        let bare = Raw { headers: None, ..beat() };
        assert!(!is_heartbeat(&bare, &found), "who pays may have any name");
        let mut other = event("u-1".into(), "run-1".to_owned(), rates().base(), NOON);
        other.at = NOON - 1;
        let other = super::raw(&other);
        assert!(!is_heartbeat(&other, &decoded(Kind::Transactions, &other)), "who has the header may not be anybody");
        assert!(!is_heartbeat(&raw, &decoded(Kind::Logins, &raw)), "a dead letter is none");
    }

    #[test]
    fn one_at_a_time_and_only_those_of_this_run_are_measured() {
        let metrics = Metrics::new();
        let (heartbeats, mut told) = Heartbeats::new(2, Clock::System, metrics.clone());
        assert_eq!(heartbeats.begin(), [], "nothing is consumed yet");
        heartbeats.listen(0, true);
        assert_eq!(heartbeats.begin(), [(0, 1)]);
        assert_eq!(heartbeats.begin(), [], "one is on its way");
        let name = heartbeats.name(1);
        for stranger in ["18f-1", &heartbeats.name(2), ""] {
            heartbeats.decided(0, stranger);
        }
        heartbeats.decided(1, &name);
        assert!(told.try_recv().is_err());
        heartbeats.decided(0, &name);
        assert_eq!(told.try_recv().map(|(partition, _)| partition), Ok(0));
        heartbeats.decided(0, &name);
        assert!(told.try_recv().is_err(), "once");
        assert_eq!(heartbeats.begin(), [(0, 2)]);
        heartbeats.give_up(0, 1);
        assert_eq!(heartbeats.begin(), [], "another one was given up");
        heartbeats.give_up(0, 2);
        assert_eq!(heartbeats.begin(), [(0, 3)]);
        // The session ended: it may be in the journal, and nobody heard of it.
        heartbeats.listen(0, false);
        heartbeats.listen(0, true);
        heartbeats.decided(0, &heartbeats.name(3));
        assert!(told.try_recv().is_err());
        assert_eq!(heartbeats.begin(), [(0, 4)]);
        heartbeats.show();
        let text = metrics.render();
        assert!(text.contains("verdict_heartbeat_seconds_count{stage=\"decided\"} 1"), "{text}");
        assert!(text.contains("verdict_heartbeat_age_seconds{partition=\"1\",stage=\"published\"}"), "{text}");
    }
}

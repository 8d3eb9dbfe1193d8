//! What the topics bring to one journal partition, on to its shard: merged in event time, a bounded number in flight.
//!
//! A session begins where the journal says, and ends when the shard refuses what it was sent: its epoch has ended, and what
//! was not answered may or may not be in the journal. Once all that was in flight is answered, the next session begins anew
//! where the journal says then. So every record leaves one journal record, in the order of offsets (I6).

use super::decode::{Decoded, Decoding, Kind, Meaning};
use super::heartbeats::{Heartbeats, is_heartbeat};
use super::level::Level;
use super::merge::Merge;
use super::reader::{News, Order, Orders, Place, Raw, Told};
use super::{Ports, home_of};
use crate::actors::gateway::Reply;
use crate::actors::messages::{Accepted, Event, Refusal, Settled, Submission};
use crate::actors::partition::partition_of;
use crate::actors::sources::{Left, Opening};
use crate::actors::turns::{Session, Turn};
use crate::journal::Partition;
use crate::telemetry::events::Answered;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{error, info, warn};
use verdict_core::event::Source as Origin;
use verdict_core::time::Timestamp;

/// Pause before something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A partition of a topic, as its group knows it.
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// How much later than a newer one a record comes at most.
    pub(super) out_of_order_ms: i64,
    /// Partitions of its topic.
    pub(super) of: u32,
    /// Its number for the thread that reads.
    pub(super) number: usize,
    pub(super) level: Arc<Level>,
}

/// See the module.
pub(super) struct Pump {
    pub(super) partition: Partition,
    pub(super) sources: Vec<Source>,
    pub(super) ports: Arc<Ports>,
    pub(super) orders: Orders,
    pub(super) news: UnboundedReceiver<Told>,
    pub(super) stop: watch::Receiver<bool>,
    /// Most records in flight.
    pub(super) window: usize,
    /// If any are sent.
    pub(super) heartbeats: Option<Heartbeats>,
    /// Sources that cannot be read now.
    pub(super) troubled: BTreeSet<usize>,
    /// Number of the last session: what was read under another is of no use.
    pub(super) reading: u64,
}

/// A record that was read and parsed.
struct Read {
    raw: Raw,
    decoded: Decoded,
    produced_at: Timestamp,
    bytes: usize,
    heartbeat: bool,
}

/// A record whose answer is on its way.
struct InFlight {
    source: usize,
    offset: i64,
    produced_at: Timestamp,
    /// Event time; what is no event, or of nobody, has none.
    at: Option<Timestamp>,
    /// The transaction id of a heartbeat.
    heartbeat: Option<Box<str>>,
    reply: Answer,
}

enum Answer {
    Transaction(Reply<Settled>),
    /// A heartbeat counts as nothing.
    Heartbeat(Reply<Settled>),
    Other(Reply<Accepted>),
    /// What leaves a dead letter or is skipped answers nobody.
    Left(Reply<Accepted>),
}

/// What goes on under one session.
struct Open {
    session: Session,
    merge: Merge<Read>,
    in_flight: VecDeque<InFlight>,
    /// The next number of each source's turns.
    turns: Vec<u64>,
    /// The least offset that is new, of each source.
    next: Vec<i64>,
}

/// Why a session ended.
enum Ended {
    /// The shard refused something, for this reason.
    Refused(Refusal),
    /// The service stops.
    Stopping,
}

impl Pump {
    /// Runs until the service stops.
    pub(super) async fn run(mut self) {
        loop {
            let mut stop = self.stop.clone();
            let opening = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                opening = self.ports.gateway.open_sources(self.partition) => opening,
            };
            let opening = match opening {
                Ok(opening) => opening,
                Err(Refusal::Stopping) => return,
                Err(_) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            let mut open = self.begin(&opening);
            self.listen(true);
            let ended = self.go_on(&mut open).await;
            self.listen(false);
            // All are answered once their epoch has ended; only then does the journal say where to go on.
            for mut in_flight in open.in_flight {
                drop(answer_of(Some(&mut in_flight.reply)).await);
            }
            for (source, read) in open.merge.into_rest() {
                self.sources[source].level.take(read.bytes);
            }
            match ended {
                Ended::Stopping => return,
                Ended::Refused(refusal) => {
                    warn!(partition = self.partition, %refusal, "topics are read again from where the journal ends");
                }
            }
        }
    }

    fn listen(&self, listening: bool) {
        if let Some(heartbeats) = &self.heartbeats {
            heartbeats.listen(self.partition, listening);
        }
    }

    fn begin(&mut self, opening: &Opening) -> Open {
        self.reading += 1;
        let mut next = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let Place { topic, partition } = &source.place;
            let known = opening.offsets.iter().find(|known| *known.topic == **topic && known.partition == *partition);
            let from = known.map(|known| known.next_offset);
            source.level.settle(from.unwrap_or(0));
            self.orders.give(Order::Read { source: source.number, reading: self.reading, from });
            next.push(from.unwrap_or(0));
        }
        Open {
            session: opening.session,
            merge: Merge::new(self.sources.iter().map(|source| source.out_of_order_ms)),
            in_flight: VecDeque::new(),
            turns: vec![0; self.sources.len()],
            next,
        }
    }

    async fn go_on(&mut self, open: &mut Open) -> Ended {
        let mut stop = self.stop.clone();
        loop {
            while !*stop.borrow()
                && open.in_flight.len() < self.window
                && let Some((source, read)) = open.merge.pop()
            {
                if let Err(ended) = self.send(open, source, read).await {
                    return ended;
                }
            }
            if *stop.borrow() && open.in_flight.is_empty() {
                return Ended::Stopping;
            }
            let oldest = open.in_flight.front_mut().map(|in_flight| &mut in_flight.reply);
            tokio::select! {
                biased;
                answer = answer_of(oldest) => {
                    let Some(settled) = open.in_flight.pop_front() else { continue };
                    if let Err(refusal) = self.settle(&settled, answer) {
                        return Ended::Refused(refusal);
                    }
                }
                told = self.news.recv() => match told {
                    Some(told) => self.take(open, told),
                    // The thread that reads has ended, which the watchdog reports.
                    None => return Ended::Stopping,
                },
                told = stop.changed() => if told.is_err() {
                    return Ended::Stopping;
                },
            }
            while let Ok(told) = self.news.try_recv() {
                self.take(open, told);
            }
        }
    }

    /// Takes what the thread says.
    fn take(&mut self, open: &mut Open, Told { source, reading, news }: Told) {
        let known = &self.sources[source];
        match news {
            News::Record(raw, is_last) => {
                let bytes = raw.value.len();
                if reading != self.reading || raw.offset < open.next[source] {
                    known.level.take(bytes);
                    return;
                }
                open.next[source] = raw.offset + 1;
                self.trouble(source, None);
                let known = &self.sources[source];
                let now = self.ports.clock.now();
                let produced_at = raw.produced_at_ms.map_or(now, Timestamp::from_millis);
                let rates = (self.ports.rates)();
                let decoding = Decoding { rates: &rates, bounds: self.ports.bounds, produced_at };
                let mut raw = *raw;
                let decoded = decoding.decode(known.kind, &raw.value);
                let heartbeat = is_heartbeat(&raw, &decoded);
                // What is sent on has the bytes; they are needed as they came only where they are moved.
                if self.is_own(&decoded) {
                    raw.value = Box::default();
                }
                open.merge.push(source, decoded.at(), Read { raw, decoded, produced_at, bytes, heartbeat }, is_last);
            }
            News::End if reading == self.reading => {
                self.trouble(source, None);
                open.merge.end(source);
            }
            News::Troubled(why) if reading == self.reading => {
                self.trouble(source, Some(why));
                // What it holds back would wait for as long.
                open.merge.end(source);
            }
            News::Failed(why) if reading == self.reading => {
                let Place { topic, partition } = &known.place;
                error!(topic = &**topic, partition, %why, "a source stands still; nothing of it is decided until the service is started again");
                self.ports.readiness.set_source(&format!("{topic}/{partition}"), Some(Arc::from(why)));
                open.merge.end(source);
            }
            News::End | News::Failed(_) | News::Troubled(_) => {}
        }
    }

    /// A source cannot be read now, or can be again.
    fn trouble(&mut self, source: usize, why: Option<Box<str>>) {
        let changed = if why.is_some() { self.troubled.insert(source) } else { self.troubled.remove(&source) };
        if changed {
            let Place { topic, partition } = &self.sources[source].place;
            self.ports.readiness.set_source(&format!("{topic}/{partition}, reading"), why.map(Arc::from));
        }
    }

    fn is_own(&self, decoded: &Decoded) -> bool {
        let home = decoded.user_id().map(|user_id| partition_of(user_id, self.ports.gateway.partitions()));
        home.is_none_or(|home| home == self.partition)
    }

    /// Sends a record to the shard.
    async fn send(&self, open: &mut Open, source: usize, read: Read) -> Result<(), Ended> {
        let known = &self.sources[source];
        let Read { raw, decoded, produced_at, bytes, heartbeat } = read;
        if known.level.take(bytes) {
            self.orders.wake();
        }
        let own = self.is_own(&decoded);
        let at = decoded.at().filter(|_| !heartbeat);
        let heartbeat = decoded.transaction().filter(|_| heartbeat).map(|event| event.transaction_id.clone());
        let Decoded { meaning, original, cut } = decoded;
        let moved = match &meaning {
            Meaning::Event(event) if !own => Some(self.move_home(known, &raw, event).await?),
            Meaning::Event(_) | Meaning::Refused { .. } => None,
        };
        let permit = self.ports.gateway.turn().await.map_err(|_| Ended::Stopping)?;
        let Place { topic, partition } = &known.place;
        let origin = Origin::Topic { topic: (&**topic).into(), partition: *partition, offset: raw.offset };
        let turn = Turn { session: open.session, number: open.turns[source] };
        open.turns[source] += 1;
        let reply = match (meaning, moved) {
            (_, Some(skipped)) => Answer::Left(self.leave(skipped, turn, origin, Box::default(), permit)),
            (Meaning::Refused { reason, detail }, None) => {
                let left = Left::DeadLetter { reason, detail, cut };
                Answer::Left(self.leave(left, turn, origin, original, permit))
            }
            (Meaning::Event(Event::Transaction(event)), None) if heartbeat.is_some() => {
                let sent = self.submission(event, origin, Some(original));
                Answer::Heartbeat(self.ports.gateway.feed_heartbeat(self.partition, turn, sent, permit))
            }
            (Meaning::Event(event), None) => self.feed(event, turn, origin, original, permit),
        };
        open.in_flight.push_back(InFlight { source, offset: raw.offset, produced_at, at, heartbeat, reply });
        Ok(())
    }

    fn feed(
        &self,
        event: Event,
        turn: Turn,
        origin: Origin,
        original: Box<[u8]>,
        permit: OwnedSemaphorePermit,
    ) -> Answer {
        let (gateway, partition) = (&self.ports.gateway, self.partition);
        let original = Some(original);
        match event {
            Event::Transaction(event) => {
                let sent = self.submission(event, origin, original);
                Answer::Transaction(gateway.feed_transaction(partition, turn, sent, permit))
            }
            Event::Login(event) => {
                let sent = self.submission(event, origin, original);
                Answer::Other(gateway.feed_login(partition, turn, sent, permit))
            }
            Event::Label(event) => {
                let sent = self.submission(event, origin, original);
                Answer::Other(gateway.feed_label(partition, turn, sent, permit))
            }
        }
    }

    fn leave(
        &self,
        left: Left,
        turn: Turn,
        origin: Origin,
        original: Box<[u8]>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Accepted> {
        let sent = self.submission(left, origin, Some(original));
        self.ports.gateway.feed_left(self.partition, turn, sent, permit)
    }

    fn submission<E>(&self, event: impl Into<Box<E>>, source: Origin, original: Option<Box<[u8]>>) -> Submission<E> {
        let (received_at, started) = (self.ports.clock.now(), self.ports.clock.instant());
        let event = event.into();
        Submission { event, source, received_at, started, deadline: None, undurable: false, original }
    }

    /// Sends a record to its user's partition, again and again until that is acknowledged.
    async fn move_home(&self, source: &Source, raw: &Raw, event: &Event) -> Result<Left, Ended> {
        let user_id = match event {
            Event::Transaction(transaction) => &transaction.user_id,
            Event::Login(login) => &login.user_id,
            Event::Label(label) => &label.user_id,
        };
        let moved_to = home_of(user_id, source.of, self.ports.gateway.partitions());
        let mut stop = self.stop.clone();
        let Place { topic, partition } = &source.place;
        let moving = format!("{topic}/{partition}, moving a record");
        loop {
            let sent = tokio::select! {
                sent = self.ports.mover.send(&source.place.topic, moved_to, raw) => sent,
                _ = stop.wait_for(|stop| *stop) => return Err(Ended::Stopping),
            };
            match sent {
                Ok(()) => {
                    self.ports.readiness.set_source(&moving, None);
                    return Ok(Left::Skipped { user_id: user_id.clone(), moved_to });
                }
                Err(error) => {
                    // Everything behind it waits.
                    self.ports.readiness.set_source(&moving, Some(error.to_string().into()));
                    warn!(topic = &*source.place.topic, moved_to, %error, "a record cannot be moved; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// A record is in the journal, or the session is over.
    fn settle(&self, settled: &InFlight, answer: Result<bool, Refusal>) -> Result<(), Refusal> {
        match answer {
            Ok(counts) => {
                if counts {
                    let ms = (self.ports.clock.now() - settled.produced_at).max(0);
                    // Milliseconds of any age are exact in a float.
                    Answered { seconds: ms as f64 / 1e3 }.emit(&self.ports.metrics);
                }
            }
            // Its dead letter is durable.
            Err(refusal) if refusal.concerns_one_user() => {}
            Err(refusal) => {
                info!(partition = self.partition, offset = settled.offset, %refusal, "a session with the shard is over");
                return Err(refusal);
            }
        }
        let level = &self.sources[settled.source].level;
        level.settle(settled.offset + 1);
        if let Some(at) = settled.at {
            // A clock that is ahead would hide for as long that nothing comes any more.
            level.decided(at.min(settled.produced_at));
        }
        if let (Some(heartbeats), Some(transaction_id)) = (&self.heartbeats, &settled.heartbeat) {
            heartbeats.decided(self.partition, transaction_id);
        }
        Ok(())
    }
}

/// The answer, once there is one to wait for; whether it counts as one.
async fn answer_of(reply: Option<&mut Answer>) -> Result<bool, Refusal> {
    // A reply that is dropped went down with the actors' state.
    match reply {
        None => std::future::pending().await,
        Some(Answer::Transaction(reply)) => reply.await.unwrap_or(Err(Refusal::Recovering)).map(|_| true),
        Some(Answer::Heartbeat(reply)) => reply.await.unwrap_or(Err(Refusal::Recovering)).map(|_| false),
        Some(Answer::Other(reply)) => reply.await.unwrap_or(Err(Refusal::Recovering)).map(|_| true),
        Some(Answer::Left(reply)) => reply.await.unwrap_or(Err(Refusal::Recovering)).map(|_| false),
    }
}

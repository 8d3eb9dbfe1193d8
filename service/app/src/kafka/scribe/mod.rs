//! The scribe of a partition: everything that is written in its transactions, by the one who owns it (PROTOCOL, Checkpoints
//! and Projections).
//!
//! Contract:
//! - A **job** is some messages that go out together. It is committed once its future resolves with `Ok`, and then every
//!   reader of what is committed sees each of its messages once. Several jobs may share a transaction.
//! - `take_over` initialises the transactional id, which ends whatever the former holder had not committed and fences it: a
//!   scribe that finds itself fenced fails every job with `Fenced`, now and later, and writes nothing more.
//! - What may pass by itself (a topic that is not there yet, records that are not taken) is tried again with back-off, for as
//!   long as the scribe lives: what waits is bounded by its room, and whoever asks for more waits for room. A job that fails
//!   does not hold up those behind it.
//! - What does not pass ends the scribe (`Broken`), and so does a broker that is lost. The fate of its last jobs may then be
//!   unknown: only after a new `take_over`, which its owner must ask for, is what can be read all that there is. What that
//!   owner finds not done it writes again, in the same order: the first of it is written once and aborted before.
//!
//! Its calls to librdkafka block, so that each scribe has a thread of its own.

mod jobs;
#[cfg(test)]
mod tests;
mod transaction;
mod worker;

use super::{KafkaError, KafkaSettings};
use crate::telemetry::clock::Clock;
use jobs::{Job, Order};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, oneshot};
use worker::Worker;

/// KiB of jobs that may wait or be on their way (I7); a larger job takes all of it.
const ROOM_KIB: u32 = 8 << 10;
/// Bytes of a message that are not its own: framing, and what the queues keep of it.
const OVERHEAD: usize = 128;
/// Most bytes of a message: what topics take, less its framing.
const MAX_BYTES: usize = super::MAX_MESSAGE_BYTES as usize - (64 << 10);
/// How long a scribe that is dropped without a close goes on with what waits.
const DROP_LIMIT: Duration = Duration::from_secs(2);
/// How long the thread may take to end after its time is up.
pub(super) const END_LIMIT: Duration = Duration::from_secs(2);

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic, by its full name.
    pub topic: Arc<str>,
    /// Its partition; `None` leaves that to the key.
    pub partition: Option<u16>,
    /// The key.
    pub key: Option<Box<[u8]>>,
    /// The value; `None` takes a key off a compacted topic.
    pub value: Option<Box<[u8]>>,
    /// What stands beside it.
    pub headers: Vec<(&'static str, Box<[u8]>)>,
}

impl Message {
    /// About the bytes that it takes on its way.
    #[must_use]
    pub fn size(&self) -> usize {
        let of = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |part| part.len());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        OVERHEAD + of(&self.key) + of(&self.value) + headers
    }
}

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScribeError {
    /// Somebody else has taken the partition over.
    #[error("partition {partition}: another owner has taken its transactions over")]
    Fenced {
        /// The partition.
        partition: u16,
    },
    /// The producer is of no more use; the fate of what it had not answered is unknown.
    #[error("partition {partition}: its transactions have ended until it is taken over again: {why}")]
    Broken {
        /// The partition.
        partition: u16,
        /// What happened.
        why: Arc<str>,
    },
    /// It was closed, or never taken over here.
    #[error("partition {partition}: no transactions are open for it here")]
    Closed {
        /// The partition.
        partition: u16,
    },
    /// No topic takes it.
    #[error("expected a record of at most {MAX_BYTES} bytes, found one of {found}")]
    TooLarge {
        /// Bytes of the message.
        found: usize,
    },
    /// No producer could be made or initialised.
    #[error("partition {partition}: {error}")]
    NotReady {
        /// The partition.
        partition: u16,
        /// Why.
        error: KafkaError,
    },
}

/// See the module.
pub struct Scribe {
    orders: Sender<Order>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    /// Ends when the thread has.
    ended: Mutex<Receiver<()>>,
}

/// What the thread and the callers share.
struct Shared {
    partition: u16,
    settings: KafkaSettings,
    clock: Clock,
    /// Why nothing more is taken.
    over: OnceLock<ScribeError>,
    /// Told once it is known.
    is_over: Notify,
    /// When it must have ended.
    until: Mutex<Option<Instant>>,
}

impl Shared {
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the time to end has come.
    fn is_due(&self) -> bool {
        self.until().is_some_and(|until| self.clock.instant() >= until)
    }

    fn closed(&self) -> ScribeError {
        ScribeError::Closed { partition: self.partition }
    }

    /// Nothing more is taken; the first reason stays.
    fn end(&self, why: ScribeError) {
        // A later reason is none.
        let _ = self.over.set(why);
        self.is_over.notify_waiters();
    }
}

/// Whether a queued job was committed.
#[must_use = "a job may fail"]
pub struct Committed {
    outcome: oneshot::Receiver<Result<(), ScribeError>>,
    shared: Arc<Shared>,
}

impl Future for Committed {
    type Output = Result<(), ScribeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outcome, shared } = &mut *self;
        let lost = || shared.over.get().cloned().unwrap_or_else(|| shared.closed());
        Pin::new(outcome).poll(context).map(|outcome| outcome.unwrap_or_else(|_| Err(lost())))
    }
}

impl Scribe {
    /// Takes over the transactions of a partition under this id, within this time.
    ///
    /// # Errors
    /// When librdkafka does not take the settings, the brokers do not answer in time, or somebody else takes them over at the
    /// same time.
    pub async fn take_over(
        settings: KafkaSettings,
        partition: u16,
        clock: Clock,
        within: Duration,
    ) -> Result<Self, ScribeError> {
        let (orders, received) = mpsc::channel();
        let (ends, ended) = mpsc::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let shared = Arc::new(Shared {
            partition,
            settings,
            clock,
            over: OnceLock::new(),
            is_over: Notify::new(),
            until: Mutex::new(None),
        });
        let of_thread = Arc::clone(&shared);
        let work = move || {
            match Worker::start(of_thread, received, within) {
                Ok(worker) => {
                    if ready.send(Ok(())).is_ok() {
                        worker.run();
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            }
            drop(ends);
        };
        let started = std::thread::Builder::new().name(format!("scribe-{partition}")).spawn(work);
        let broken = |why: String| ScribeError::Broken { partition, why: why.into() };
        started.map_err(|error| broken(format!("its thread cannot start: {error}")))?;
        is_ready.await.map_err(|_| broken("its thread has ended".to_owned()))??;
        Ok(Self { orders, room: Arc::new(Semaphore::new(ROOM_KIB as usize)), shared, ended: Mutex::new(ended) })
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> u16 {
        self.shared.partition
    }

    /// Queues a job behind those that were queued before, once there is room for it.
    ///
    /// # Errors
    /// When nothing more is taken, or a message is too large for any topic.
    pub async fn queue(&self, messages: Vec<Message>) -> Result<Committed, ScribeError> {
        if let Some(found) = messages.iter().map(Message::size).find(|size| *size > MAX_BYTES) {
            return Err(ScribeError::TooLarge { found });
        }
        let kib = messages.iter().map(Message::size).sum::<usize>() / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(ROOM_KIB).min(ROOM_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| self.shared.closed())?;
        if let Some(over) = self.shared.over.get() {
            return Err(over.clone());
        }
        let (done, outcome) = oneshot::channel();
        let job = Job::new(messages, done, room);
        self.orders.send(Order::Write(job)).map_err(|_| self.over())?;
        Ok(Committed { outcome, shared: Arc::clone(&self.shared) })
    }

    /// Writes a job, and waits until it is committed.
    ///
    /// # Errors
    /// When it was not, as far as is known: see the module.
    pub async fn write(&self, messages: Vec<Message>) -> Result<(), ScribeError> {
        self.queue(messages).await?.await
    }

    /// Why nothing more is taken; `None` as long as something is.
    #[must_use]
    pub fn ended(&self) -> Option<ScribeError> {
        self.shared.over.get().cloned()
    }

    /// Waits until nothing more is taken.
    pub async fn until_ended(&self) -> ScribeError {
        loop {
            let mut told = std::pin::pin!(self.shared.is_over.notified());
            told.as_mut().enable();
            if let Some(over) = self.ended() {
                return over;
            }
            told.await;
        }
    }

    fn over(&self) -> ScribeError {
        self.ended().unwrap_or_else(|| self.shared.closed())
    }

    /// Takes nothing more, goes on with what waits for this time at most, and ends, without waiting for it. What is not
    /// committed by then fails with `Closed`; the fate of the last may be unknown.
    pub fn retire(&self, within: Duration) {
        let until = self.shared.clock.instant() + within;
        self.shared.end(self.shared.closed());
        let mut known = self.shared.until();
        *known = Some(known.map_or(until, |earlier| earlier.min(until)));
        drop(known);
        // One that has ended already is not there to be told.
        let _ = self.orders.send(Order::Close);
    }

    /// Retires it and waits for its end, a little longer than `within` at most. Blocks.
    pub fn close(&self, within: Duration) {
        self.retire(within);
        self.wait(within + END_LIMIT);
    }

    /// Waits so long for the end of one that was retired. Blocks.
    pub(super) fn wait(&self, at_most: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(at_most) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                partition = self.shared.partition,
                "the thread of a partition's transactions has not ended in time"
            );
        }
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.retire(DROP_LIMIT);
    }
}

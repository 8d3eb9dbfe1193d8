//! The thread that reads the topics. It is told by hand where to begin, hands over what it reads in order, and stops
//! reading a partition of which enough waits; it knows no event and commits nothing that counts.
//!
//! Each partition has a queue of its own, so that errors and ends are known by partition, and one that is not polled
//! fetches no more once its few MiB are full. Broker outages are librdkafka's to survive. The loop takes a turn at least
//! every [`LONGEST_PAUSE`], and says when: one that falls silent is found by whoever looks (STACK).

use super::level::Level;
use crate::kafka::{ClientLog, KafkaError, KafkaSettings, fetched_watermarks};
use crate::telemetry::clock::Clock;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message, OwnedHeaders};
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, error, warn};

/// Longest sleep when there is nothing to read; whatever comes ends it before.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Records of a partition that are read before the others have their turn.
const RECORDS_A_TURN: usize = 64;
/// What librdkafka may hold of all partitions together, and at least of each, in KiB.
const HELD_KIB: usize = 64 * 1024;
const LEAST_HELD_KIB: usize = 256;
const MOST_HELD_KIB: usize = 4096;
/// How long a partition that the broker refused is left alone.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// How often offsets are committed to the group, as a hint for tools, and levels are looked up.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// Of so many commits one tells all offsets again: what was not heard, and what brokers forget of a topic on which nothing
/// comes.
const COMMITS_A_ROUND: u32 = 12;
const LEVELS_EVERY: Duration = Duration::from_millis(500);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

/// A record as it was read.
pub(super) struct Raw {
    pub(super) offset: i64,
    /// Milliseconds since the epoch, if it has a timestamp.
    pub(super) produced_at_ms: Option<i64>,
    pub(super) key: Option<Box<[u8]>>,
    pub(super) value: Box<[u8]>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// What the thread says of a partition.
pub(super) enum News {
    /// A record; whether none was behind it.
    Record(Box<Raw>, bool),
    /// It is read to its end.
    End,
    /// It cannot be read on.
    Failed(Box<str>),
    /// It cannot be read now; a record or the end says that it can.
    Troubled(Box<str>),
}

/// News of the source at this place in its group, as of this reading: older ones are of no use.
pub(super) struct Told {
    pub(super) source: usize,
    pub(super) reading: u64,
    pub(super) news: News,
}

/// What the thread is told.
pub(super) enum Order {
    /// Read the source with this number from this offset, `None` from its beginning.
    Read { source: usize, reading: u64, from: Option<i64> },
}

/// A source as the thread has it.
pub(super) struct Source {
    pub(super) place: Place,
    /// Its place in its group.
    pub(super) index: usize,
    pub(super) level: Arc<Level>,
    pub(super) news: UnboundedSender<Told>,
}

/// The thread.
pub(super) struct Reader {
    orders: mpsc::Sender<Order>,
    control: Arc<Control>,
    thread: Thread,
    ended: JoinHandle<()>,
}

/// Gives orders to the thread.
#[derive(Clone)]
pub(super) struct Orders {
    orders: mpsc::Sender<Order>,
    thread: Thread,
}

impl Orders {
    pub(super) fn give(&self, order: Order) {
        // A thread that has ended is found by the watchdog.
        let _ = self.orders.send(order);
        self.thread.unpark();
    }

    /// A partition has room again.
    pub(super) fn wake(&self) {
        self.thread.unpark();
    }
}

/// Whether the thread is alive.
pub(super) struct Pulse(Arc<Control>);

impl Pulse {
    /// How long the loop has not taken a turn.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.0.last_turn_ms.load(Ordering::Relaxed));
        self.0.clock.since(self.0.started).saturating_sub(last)
    }
}

struct Control {
    clock: Clock,
    started: Instant,
    /// Milliseconds from the start to the last turn of the loop.
    last_turn_ms: AtomicU64,
    stop: AtomicBool,
}

impl Reader {
    /// Starts the thread; it reads nothing before it is told to.
    pub(super) fn start(settings: &KafkaSettings, sources: Vec<Source>, clock: Clock) -> Result<Self, KafkaError> {
        let mut config = settings.consumer();
        let held = (HELD_KIB / sources.len().max(1)).clamp(LEAST_HELD_KIB, MOST_HELD_KIB);
        config.set("queued.max.messages.kbytes", held.to_string());
        let made = config.create_with_context::<_, BaseConsumer<ClientLog>>(settings.log("consumer"));
        let consumer = Arc::new(made.map_err(|error| settings.explain(&error))?);
        let (orders, given) = mpsc::channel();
        let started = clock.instant();
        let control =
            Arc::new(Control { clock, started, last_turn_ms: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let own = Arc::clone(&control);
        let ended = std::thread::Builder::new().name("kafka-reader".to_owned()).spawn(move || {
            let sources = sources.into_iter().map(Reading::of).collect();
            let commit_at = own.started + COMMIT_EVERY;
            Loop { consumer, sources, orders: given, levels_at: own.started, commit_at, commits: 0, control: own }
                .run();
        });
        let ended = ended.map_err(|error| KafkaError::Client(error.to_string().into()))?;
        Ok(Self { orders, control, thread: ended.thread().clone(), ended })
    }

    pub(super) fn orders(&self) -> Orders {
        Orders { orders: self.orders.clone(), thread: self.thread.clone() }
    }

    pub(super) fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.control))
    }

    /// Ends the thread, and waits for it. Blocks.
    pub(super) fn stop(self) {
        self.control.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
        if self.ended.join().is_err() {
            error!("the thread that reads topics panicked");
        }
    }
}

struct Reading {
    source: Source,
    topic: CString,
    /// Its queue, while it is read.
    queue: Option<PartitionQueue<ClientLog>>,
    reading: u64,
    /// The next offset to read, `None` for its beginning.
    next: Option<i64>,
    /// When it is begun anew, after the broker has refused it.
    again_at: Option<Instant>,
    /// The last offset that was committed as a hint.
    committed: i64,
}

impl Reading {
    fn of(source: Source) -> Self {
        // invariant: a topic's name has no zero byte.
        let topic = CString::new(&*source.place.topic).unwrap_or_default();
        Self { source, topic, queue: None, reading: 0, next: None, again_at: None, committed: 0 }
    }

    fn tell(&self, news: News) {
        // Nobody listens when the service stops.
        let _ = self.source.news.send(Told { source: self.source.index, reading: self.reading, news });
    }
}

struct Loop {
    consumer: Arc<BaseConsumer<ClientLog>>,
    sources: Vec<Reading>,
    orders: mpsc::Receiver<Order>,
    control: Arc<Control>,
    levels_at: Instant,
    commit_at: Instant,
    commits: u32,
}

impl Loop {
    fn run(mut self) {
        while !self.control.stop.load(Ordering::Relaxed) {
            let now = self.control.clock.instant();
            let turn = now.saturating_duration_since(self.control.started).as_millis();
            self.control.last_turn_ms.store(u64::try_from(turn).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.take_orders(now);
            // Callbacks, and errors of the client as a whole, which it has logged.
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                if let Err(error) = event {
                    debug!(%error, "the consumer goes on");
                }
            }
            let mut found = false;
            for at in 0..self.sources.len() {
                found |= self.read(at);
            }
            if now >= self.levels_at {
                self.look_up_levels();
                self.levels_at = now + LEVELS_EVERY;
            }
            if now >= self.commit_at {
                self.commit();
                self.commit_at = now + COMMIT_EVERY;
            }
            if !found {
                std::thread::park_timeout(LONGEST_PAUSE);
            }
        }
        self.commit();
        // Queues before their consumer.
        self.sources.clear();
    }

    /// Begins what is to be read, and what was refused, anew.
    fn take_orders(&mut self, now: Instant) {
        let mut told = Vec::new();
        while let Ok(Order::Read { source, reading, from }) = self.orders.try_recv() {
            let Some(known) = self.sources.get_mut(source) else { continue };
            (known.reading, known.next) = (reading, from);
            known.source.level.rewind(from);
            told.push(source);
        }
        for (at, known) in self.sources.iter().enumerate() {
            if known.again_at.is_some_and(|again_at| now >= again_at) && !told.contains(&at) {
                told.push(at);
            }
        }
        if !told.is_empty() {
            self.assign(&told);
        }
    }

    /// Has these read from where they stand, though they may be read already.
    fn assign(&mut self, told: &[usize]) {
        let (mut from, mut again) = (TopicPartitionList::new(), TopicPartitionList::new());
        for source in told {
            let known = &mut self.sources[*source];
            known.again_at = None;
            let Place { topic, partition } = &known.source.place;
            if known.queue.take().is_some() {
                again.add_partition(topic, *partition);
            }
            let start = known.next.map_or(Offset::Beginning, Offset::Offset);
            if let Err(error) = from.add_partition_offset(topic, *partition, start) {
                known.tell(News::Failed(error.to_string().into()));
            }
        }
        if again.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&again)
        {
            warn!(%error, "cannot stop reading partitions that are to be read anew");
        }
        // Before they are assigned, so that nothing goes to the common queue.
        for source in told {
            let known = &mut self.sources[*source];
            let (topic, partition) = (&known.source.place.topic, known.source.place.partition);
            known.queue = self.consumer.split_partition_queue(topic, partition);
            let thread = std::thread::current();
            if let Some(queue) = &mut known.queue {
                queue.set_nonempty_callback(move || thread.unpark());
            }
        }
        if let Err(error) = self.consumer.incremental_assign(&from) {
            for source in told {
                // It is not assigned: the next order must not have it taken off first.
                self.sources[*source].queue = None;
                self.sources[*source].tell(News::Failed(format!("cannot be assigned: {error}").into()));
            }
        }
    }

    /// Reads what there is of a source, as far as there is room; whether there was anything.
    fn read(&mut self, at: usize) -> bool {
        let known = &mut self.sources[at];
        let Some(queue) = &known.queue else { return false };
        let (mut records, mut end, mut failure, mut trouble) = (Vec::new(), false, None, None);
        while records.len() < RECORDS_A_TURN && known.source.level.has_room() {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let raw = raw(&message);
                    known.source.level.hand_over(raw.offset, raw.value.len());
                    known.next = Some(raw.offset + 1);
                    records.push(Box::new(raw));
                    (end, trouble) = (false, None);
                }
                Some(Err(ClientError::PartitionEOF(_))) => (end, trouble) = (true, None),
                Some(Err(error)) => {
                    if is_lost(&error) {
                        failure = Some(format!("the next offset to read is not in the topic any more: {error}"));
                        break;
                    }
                    let Place { topic, partition } = &known.source.place;
                    warn!(%error, topic = &**topic, partition, "reading goes on when the broker allows it");
                    if is_refused(&error) {
                        trouble = Some(error.to_string());
                    }
                }
            }
        }
        let found = !records.is_empty() || end || failure.is_some();
        let behind = fetched_end(&self.consumer, known).filter(|_| !records.is_empty());
        let count = records.len();
        for (number, raw) in records.into_iter().enumerate() {
            let is_last = number + 1 == count && behind.is_some_and(|end| raw.offset + 1 >= end);
            known.tell(News::Record(raw, is_last));
        }
        if end {
            known.tell(News::End);
        }
        if let Some(trouble) = trouble {
            known.tell(News::Troubled(trouble.into()));
            // The client says it once, and says nothing when it is over: whoever begins anew is told again, or reads.
            known.again_at = Some(self.control.clock.instant() + REFUSED_FOR);
        }
        if let Some(failure) = failure {
            known.tell(News::Failed(failure.into()));
            known.queue = None;
            // Or it would have the next assignment refused, that of all others included.
            let mut lost = TopicPartitionList::with_capacity(1);
            lost.add_partition(&known.source.place.topic, known.source.place.partition);
            if let Err(error) = self.consumer.incremental_unassign(&lost) {
                warn!(%error, "cannot stop reading a partition that is lost");
            }
        }
        found
    }

    fn look_up_levels(&self) {
        // What the client knows by itself: it asks nobody.
        let list = self.consumer.position().unwrap_or_default();
        let elements = list.elements();
        let positions: HashMap<(&str, i32), Offset> =
            elements.iter().map(|element| ((element.topic(), element.partition()), element.offset())).collect();
        for known in &self.sources {
            if let Some(end) = fetched_end(&self.consumer, known) {
                known.source.level.ends_at(end);
            }
            let Place { topic, partition } = &known.source.place;
            if let (Some(Offset::Offset(position)), Some(_)) = (positions.get(&(&**topic, *partition)), &known.queue) {
                known.source.level.stand_at(*position);
            }
        }
    }

    /// Tells the group how far the sources are, for tools that show lag: nobody resumes from it.
    fn commit(&mut self) {
        let mut offsets = TopicPartitionList::new();
        self.commits = (self.commits + 1) % COMMITS_A_ROUND;
        for known in &mut self.sources {
            let told = if self.commits == 0 { 0 } else { known.committed };
            let reached = known.source.level.reached();
            let Place { topic, partition } = &known.source.place;
            if reached > told && offsets.add_partition_offset(topic, *partition, Offset::Offset(reached)).is_ok() {
                known.committed = reached;
            }
        }
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, CommitMode::Async)
        {
            debug!(%error, "the group was not told how far the sources are");
        }
    }
}

fn fetched_end(consumer: &BaseConsumer<ClientLog>, known: &Reading) -> Option<i64> {
    Some(fetched_watermarks(consumer.client(), &known.topic, known.source.place.partition)?.high)
}

/// Whether what was to be read is gone: no retry brings it back.
fn is_lost(error: &ClientError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}

/// Whether the broker will not have it read until somebody changes that.
fn is_refused(error: &ClientError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

fn raw(message: &BorrowedMessage<'_>) -> Raw {
    Raw {
        offset: message.offset(),
        produced_at_ms: message.timestamp().to_millis(),
        key: message.key().map(Into::into),
        value: message.payload().unwrap_or_default().into(),
        headers: message.headers().filter(|headers| headers.count() > 0).map(rdkafka::message::BorrowedHeaders::detach),
    }
}

//! The tail: a thread that reads every followed partition back, and says what counts.
//!
//! It takes what librdkafka has, at most some hundred records at a time, applies the counting rule, and then, once for all
//! of them: remembers how far it got, publishes that as durable, and wakes whoever waits. A partition is followed from its
//! first take-over on, from the last position that is known; it is left alone once another owner's epoch was read, or when
//! it holds what is no entry.

use super::consumer::drop_aside;
use super::counting::{Counter, Verdict};
use super::entry::{Claim, Entry, Refused};
use super::flight::Outcome;
use super::{Shared, consumer};
use crate::journal::{AppendError, JournalError, Partition, Position};
use crate::kafka::{ClientLog, KafkaSettings, watermarks};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long the tail waits for a record before it looks at what else there is to do.
const WAIT: Duration = Duration::from_millis(10);
/// Records after which waiting appends are told.
const MAX_READ: usize = 512;
/// How long a broker may take to say where a partition begins and ends.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// A partition that is to be followed from now on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follow(pub(super) Partition);

/// What was read, in its order.
#[derive(Debug)]
enum Read {
    /// The records before `next_n` count.
    Counted { partition: Partition, next_n: u64 },
    /// An epoch began.
    Began { partition: Partition, epoch: u64, next_n: u64, claim: Claim },
    /// A gap ended the epoch.
    Gap { partition: Partition, expected: u64, found: u64 },
    /// The partition cannot be read on.
    Broken { partition: Partition, error: JournalError },
}

/// See the module.
pub(super) struct Tail {
    settings: KafkaSettings,
    shared: Arc<Shared>,
    follow: Receiver<Follow>,
    consumer: BaseConsumer<ClientLog>,
    counters: Vec<Counter>,
    followed: Vec<bool>,
    read: Vec<Read>,
    outcomes: Vec<Outcome>,
}

impl Tail {
    pub(super) fn new(
        settings: KafkaSettings,
        shared: Arc<Shared>,
        follow: Receiver<Follow>,
    ) -> Result<Self, JournalError> {
        let mut config = consumer::config(&settings);
        // It never comes to an end, and would hear of each.
        config.set("enable.partition.eof", "false");
        let consumer = consumer::create(&settings, &config, "journal-tail")?;
        let partitions = usize::from(shared.partitions);
        let (counters, followed) = (vec![Counter::at(None); partitions], vec![false; partitions]);
        Ok(Self { settings, shared, follow, consumer, counters, followed, read: Vec::new(), outcomes: Vec::new() })
    }

    /// Runs until the journal is closed.
    pub(super) fn run(mut self) {
        while !self.shared.is_closed() {
            self.shared.note_poll();
            while let Ok(Follow(partition)) = self.follow.try_recv() {
                self.start(partition);
            }
            self.read_some();
            self.apply();
        }
        drop_aside(self.consumer);
    }

    /// Follows a partition from the last known position.
    fn start(&mut self, partition: Partition) {
        let index = usize::from(partition);
        if self.followed[index] {
            return;
        }
        let from = self.shared.places(partition).last();
        self.start_at(partition, from);
    }

    /// Has a partition read again from behind what counted last: the client fetches nothing more of one for which it had no
    /// offset once, whether or not there is one now.
    fn start_again(&mut self, partition: Partition) {
        let from = self.counters[usize::from(partition)].safe();
        self.stop(partition);
        self.start_at(partition, from);
    }

    fn start_at(&mut self, partition: Partition, from: Option<Position>) {
        let index = usize::from(partition);
        self.counters[index] = Counter::at(from);
        let assigned = self.list(partition, Offset::Offset(offset_of(from))).and_then(|list| {
            self.consumer.incremental_assign(&list)?;
            Ok(())
        });
        match assigned {
            Ok(()) => self.followed[index] = true,
            Err(error) => {
                let error = JournalError::Store(self.settings.explain(&error).to_string().into());
                self.read.push(Read::Broken { partition, error });
            }
        }
    }

    fn list(&self, partition: Partition, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.shared.topic, partition.into(), offset)?;
        Ok(list)
    }

    /// Leaves a partition alone until it is to be followed again.
    fn stop(&mut self, partition: Partition) {
        if std::mem::take(&mut self.followed[usize::from(partition)]) {
            let stopped = self.list(partition, Offset::Invalid).and_then(|list| {
                self.consumer.incremental_unassign(&list)?;
                Ok(())
            });
            if let Err(error) = stopped {
                tracing::warn!(partition, error = %self.settings.explain(&error), "the partition is read on without need");
            }
        }
    }

    fn read_some(&mut self) {
        let mut wait = WAIT;
        for _ in 0..MAX_READ {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    take(&self.shared, &message, &mut self.counters, &self.followed, &mut self.read);
                }
                Some(Err(error)) => self.look_after(&error),
            }
            wait = Duration::ZERO;
        }
    }

    /// Finds out what is behind an error of the consumer, which does not say in which partition it was.
    fn look_after(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        if !matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) {
            // It goes on by itself, and the client has logged it.
            return;
        }
        for partition in 0..self.shared.partitions {
            let index = usize::from(partition);
            if !self.followed[index] {
                continue;
            }
            self.shared.note_poll();
            let offset = offset_of(self.counters[index].safe());
            let asked =
                watermarks(&self.settings, self.consumer.client(), &self.shared.topic, partition.into(), ASK_LIMIT);
            match asked {
                Ok(there) if offset < there.low || offset > there.high => {
                    let error = self.shared.out_of_reach(partition, offset, there.low, there.high);
                    self.read.push(Read::Broken { partition, error });
                    self.stop(partition);
                }
                Ok(_) => self.start_again(partition),
                Err(error) => {
                    tracing::warn!(partition, %error, "the journal cannot be read for now");
                    self.start_again(partition);
                }
            }
        }
    }

    /// Tells everybody what was read.
    fn apply(&mut self) {
        if self.read.is_empty() {
            return;
        }
        let now = self.shared.clock.instant();
        let read = &self.read;
        self.shared.durable.send_if_modified(|durable| {
            let mut modified = false;
            for read in read {
                if let Read::Counted { partition, next_n } | Read::Began { partition, next_n, .. } = *read {
                    let known = std::mem::replace(&mut durable[usize::from(partition)], next_n);
                    modified |= known != next_n;
                }
            }
            modified
        });
        let shared = Arc::clone(&self.shared);
        let mut flight = shared.flight();
        let mut stopped = Vec::new();
        for read in self.read.drain(..) {
            match read {
                Read::Counted { partition, next_n } => {
                    flight.came_forward(partition, now);
                    flight.counted(partition, next_n, &mut self.outcomes);
                }
                Read::Began { partition, epoch, next_n, claim } => {
                    flight.came_forward(partition, now);
                    if !flight.began((partition, epoch, next_n), claim, &mut self.outcomes) {
                        stopped.push(partition);
                    }
                }
                Read::Gap { partition, expected, found } => {
                    tracing::warn!(partition, expected, found, "an owner of the partition has lost a record");
                    let error = AppendError::Gap { partition, expected, found };
                    flight.fail(partition, None, &error, &mut self.outcomes);
                }
                Read::Broken { partition, error } => {
                    tracing::error!(partition, %error, "a partition of the journal cannot be read");
                    let refused = AppendError::Store(error.to_string().into());
                    flight.fail(partition, None, &refused, &mut self.outcomes);
                    flight.give_up(Some(partition), None, &error, &mut self.outcomes);
                    stopped.push(partition);
                }
            }
        }
        drop(flight);
        stopped.into_iter().for_each(|partition| self.stop(partition));
        self.shared.tell(&mut self.outcomes);
    }
}

/// The offset of a position; a partition without one is read from its start.
pub(super) fn offset_of(position: Option<Position>) -> i64 {
    // Offsets are those of Kafka, which counts up from 0 in 63 bits.
    position.map_or(0, |position| i64::try_from(position.offset).unwrap_or(i64::MAX))
}

/// Notes what a message says.
fn take(
    shared: &Shared,
    message: &BorrowedMessage<'_>,
    counters: &mut [Counter],
    followed: &[bool],
    read: &mut Vec<Read>,
) {
    let partition = Partition::try_from(message.partition()).unwrap_or(Partition::MAX);
    let Some(counter) = counters.get_mut(usize::from(partition)).filter(|_| followed[usize::from(partition)]) else {
        return;
    };
    // What came behind an entry that cannot be read.
    let broken = |read: &Read| matches!(read, Read::Broken { partition: broken, .. } if *broken == partition);
    if read.iter().any(broken) {
        return;
    }
    let offset = u64::try_from(message.offset()).unwrap_or(0);
    let entry = match Entry::parse(message.payload().unwrap_or_default(), partition, shared.partitions) {
        Ok(entry) => entry,
        Err(refused) => {
            return read.push(Read::Broken { partition, error: shared.refused(partition, offset, &refused) });
        }
    };
    match (counter.feed(offset, &entry), entry) {
        (Verdict::Counts(position), entry) => {
            shared.recent(partition).keep(offset, &entry);
            shared.places(partition).reach(position);
            let next_n = position.n;
            match read.last_mut() {
                Some(Read::Counted { partition: last, next_n: known }) if *last == partition => *known = next_n,
                _ => read.push(Read::Counted { partition, next_n }),
            }
        }
        (Verdict::EpochBegins(position), Entry::Epoch { claim }) => {
            shared.places(partition).reach(position);
            read.push(Read::Began { partition, epoch: position.epoch, next_n: position.n, claim });
        }
        (Verdict::EpochEnded { expected, found }, _) => read.push(Read::Gap { partition, expected, found }),
        (Verdict::Ignored(_) | Verdict::EpochBegins(_), _) => {}
    }
}

impl Shared {
    /// The error of an entry that was refused.
    pub(super) fn refused(&self, partition: Partition, offset: u64, refused: &Refused) -> JournalError {
        let topic = Arc::clone(&self.topic);
        match refused {
            Refused::Foreign(what) => JournalError::Foreign { topic, partition, offset, what: what.as_str().into() },
            Refused::Damaged(what) => {
                JournalError::DamagedEntry { topic, partition, offset, what: what.as_str().into() }
            }
        }
    }

    /// The error of a reader whose offset is not between these.
    pub(super) fn out_of_reach(&self, partition: Partition, offset: i64, low: i64, high: i64) -> JournalError {
        let unsigned = |offset: i64| u64::try_from(offset).unwrap_or(0);
        JournalError::OutOfReach {
            topic: Arc::clone(&self.topic),
            partition,
            offset: unsigned(offset),
            first: unsigned(low),
            end: unsigned(high),
        }
    }
}

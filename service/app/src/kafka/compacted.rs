//! What a compacted topic holds: of every key the newest value, as it is committed.
//!
//! A partition is read from its start to the end of what is committed, which control records are part of, so that "the last
//! record" is never computed. A read holds everything that was committed before it was asked for: it waits for transactions
//! that are under way then.
//!
//! Keys with a certain beginning are many and their values large (profiles). Of those the first pass keeps 24 bytes a key,
//! a hash and the place of the newest, and a second pass hands the newest out one by one. All others are few (marks,
//! positions), and their values are kept: they are read again from where the last pass ended.

use super::{ClientLog, KafkaError, KafkaSettings, Watermarks};
use crate::telemetry::clock::Clock;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the brokers may have nothing to say.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a look waits.
const LOOK: Duration = Duration::from_millis(100);
/// Pause between two looks for the end of transactions that are under way.
const PAUSE: Duration = Duration::from_millis(5);
/// Read in larger pieces than what is followed, and without waiting at the end.
const QUICK: [(&str, &str); 3] =
    [("fetch.wait.max.ms", "10"), ("fetch.error.backoff.ms", "50"), ("reconnect.backoff.max.ms", "1000")];

/// Takes a record: its offset, key and value.
type Each<'a> = dyn FnMut(i64, &[u8], Option<&[u8]>) -> ControlFlow<()> + 'a;
/// Of a key, what no other has.
type Hash = [u64; 2];
/// The small records of a partition.
pub type Small = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// See the module. Its calls block: never on an arbiter.
pub struct Compacted {
    settings: KafkaSettings,
    clock: Clock,
    topic: Arc<str>,
    /// What the keys of large records begin with.
    large: &'static [u8],
    hashers: [RandomState; 2],
    partitions: Vec<Mutex<Index>>,
}

/// What is known of a partition.
#[derive(Default)]
struct Index {
    /// Where reading goes on; `None` before the first pass.
    next: Option<i64>,
    small: Small,
    /// Places of the newest large records; `None` after they were handed out.
    newest: Option<HashMap<Hash, i64>>,
}

impl Compacted {
    /// A topic with so many partitions, in which the keys of large records begin with these bytes.
    #[must_use]
    pub fn new(settings: KafkaSettings, topic: Arc<str>, partitions: u16, large: &'static [u8], clock: Clock) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Self { settings, clock, topic, large, hashers, partitions }
    }

    /// Its full name.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The small records of a partition, as of now. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn small(&self, partition: u16) -> Result<Small, KafkaError> {
        let mut index = self.index(partition)?;
        self.refresh(partition, &mut index)?;
        Ok(index.small.clone())
    }

    /// Hands out the newest of every large record of a partition, key and value, until `each` breaks. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn large(
        &self,
        partition: u16,
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), KafkaError> {
        let mut index = self.index(partition)?;
        if index.newest.is_none() {
            *index = Index::default();
        }
        self.refresh(partition, &mut index)?;
        let newest = index.newest.take().unwrap_or_default();
        drop(index);
        if newest.is_empty() {
            return Ok(());
        }
        let mut left = newest.len();
        self.read(partition, None, &mut |offset, key, value| {
            let Some(value) = value.filter(|_| key.starts_with(self.large)) else { return ControlFlow::Continue(()) };
            if newest.get(&self.hash(key)) != Some(&offset) {
                return ControlFlow::Continue(());
            }
            left -= 1;
            each(key, value)?;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .map(|_| ())
    }

    fn index(&self, partition: u16) -> Result<std::sync::MutexGuard<'_, Index>, KafkaError> {
        let known = self.partitions.get(usize::from(partition));
        let unknown = || KafkaError::Brokers {
            what: format!("what is in {}/{partition}", self.topic).into(),
            why: format!("expected a partition below {}", self.partitions.len()).into(),
        };
        known.map(|index| index.lock().unwrap_or_else(PoisonError::into_inner)).ok_or_else(unknown)
    }

    fn hash(&self, key: &[u8]) -> Hash {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// Reads on from where the last pass ended.
    fn refresh(&self, partition: u16, index: &mut Index) -> Result<(), KafkaError> {
        if index.next.is_none() {
            index.newest = Some(HashMap::new());
        }
        let Index { next, small, newest } = index;
        let read = self.read(partition, *next, &mut |offset, key, value| {
            match (value, newest.as_mut()) {
                (value, _) if !key.starts_with(self.large) => match value {
                    Some(value) => _ = small.insert(key.into(), value.into()),
                    None => _ = small.remove(key),
                },
                (Some(_), Some(newest)) => _ = newest.insert(self.hash(key), offset),
                (None, Some(newest)) => _ = newest.remove(&self.hash(key)),
                (_, None) => {}
            }
            ControlFlow::Continue(())
        });
        match read {
            Ok(end) => *next = Some(end),
            // Half of a pass is none.
            Err(_) => *index = Index::default(),
        }
        read.map(|_| ())
    }

    /// Hands out every committed record of a partition from a place on; where the next pass goes on.
    fn read(&self, partition: u16, from: Option<i64>, each: &mut Each<'_>) -> Result<i64, KafkaError> {
        let not_said = |error: &ClientError| self.settings.not_said(self.what(partition), error);
        let consumer = self.consumer("read_committed")?;
        let low = self.settled(&consumer, partition)?.low;
        let mut next = from.unwrap_or(low).max(low);
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment
            .add_partition_offset(&self.topic, partition.into(), Offset::Offset(next))
            .and_then(|()| consumer.assign(&assignment))
            .map_err(|error| not_said(&error))?;
        let mut heard = self.clock.instant();
        loop {
            match consumer.poll(LOOK) {
                Some(Ok(message)) => {
                    heard = self.clock.instant();
                    next = message.offset() + 1;
                    let Some(key) = message.key() else { continue };
                    if each(message.offset(), key, message.payload()).is_break() {
                        return Ok(next);
                    }
                }
                Some(Err(ClientError::PartitionEOF(_))) => return Ok(next),
                Some(Err(error)) if !may_pass(&error) || self.clock.since(heard) > LIMIT => {
                    return Err(not_said(&error));
                }
                None if self.clock.since(heard) > LIMIT => {
                    return Err(KafkaError::Brokers {
                        what: self.what(partition).into(),
                        why: format!("nothing was heard for {} s", LIMIT.as_secs()).into(),
                    });
                }
                Some(Err(_)) | None => {}
            }
        }
    }

    fn what(&self, partition: u16) -> String {
        format!("what is in {}/{partition}", self.topic)
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<ClientLog>, KafkaError> {
        let mut config = self.settings.consumer();
        for (name, value) in QUICK {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("isolation.level", isolation);
        BaseConsumer::from_config_and_context(&config, self.settings.log("compacted"))
            .map_err(|error| self.settings.explain(&error))
    }

    /// Waits until everything that is there now is committed or aborted; the watermarks of what is committed.
    fn settled(&self, consumer: &BaseConsumer<ClientLog>, partition: u16) -> Result<Watermarks, KafkaError> {
        let asked = self.clock.instant();
        let end = self.ask(&self.consumer("read_uncommitted")?, partition)?.high;
        loop {
            let committed = self.ask(consumer, partition)?;
            if committed.high >= end {
                return Ok(committed);
            }
            if self.clock.since(asked) > LIMIT {
                return Err(KafkaError::Brokers {
                    what: self.what(partition).into(),
                    why: format!("a transaction has been under way for {} s", LIMIT.as_secs()).into(),
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The watermarks as a consumer sees them. A topic that was just made, or has just moved, has no leader for a moment.
    fn ask(&self, consumer: &BaseConsumer<ClientLog>, partition: u16) -> Result<Watermarks, KafkaError> {
        let asked = self.clock.instant();
        loop {
            match consumer.client().fetch_watermarks(&self.topic, partition.into(), LIMIT) {
                Ok((low, high)) => return Ok(Watermarks { low, high }),
                Err(error) if may_pass(&error) && self.clock.since(asked) < LIMIT => std::thread::sleep(LOOK),
                Err(error) => return Err(self.settings.not_said(self.what(partition), &error)),
            }
        }
    }
}

/// Whether the client goes on by itself after an error.
fn may_pass(error: &ClientError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::Resolve
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::RequestTimedOut
        )
    )
}

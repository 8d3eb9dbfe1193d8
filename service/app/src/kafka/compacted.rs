//! What a compacted topic holds: of every key the newest value, as it is committed.
//!
//! A partition is read from its start to the end of what is committed, which control records are part of, so that "the last
//! record" is never computed. A read holds everything that was committed before it was asked for: it waits for transactions
//! that are under way then.
//!
//! Keys with a certain beginning are many and their values large (profiles). Of those the first pass keeps 24 bytes a key,
//! a hash and the place of the newest, and a second pass hands the newest out one by one. All others are few (marks,
//! positions), and their values are kept: they are read again from where the last pass ended.

use super::scan::{LIMIT, Scan};
use super::{KafkaError, KafkaSettings, Watermarks};
use crate::telemetry::clock::Clock;
use rdkafka::message::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// In the log.
const CLIENT: &str = "compacted";
/// Pause between two looks for the end of transactions that are under way.
const PAUSE: Duration = Duration::from_millis(5);

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
        self.refresh(partition, &mut index, true)?;
        Ok(index.small.clone())
    }

    /// The same as far as it is committed for certain: a transaction that is under way is not waited for, and nothing of it or
    /// behind it is there yet. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn small_so_far(&self, partition: u16) -> Result<Small, KafkaError> {
        let mut index = self.index(partition)?;
        self.refresh(partition, &mut index, false)?;
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
        self.refresh(partition, &mut index, true)?;
        let newest = index.newest.take().unwrap_or_default();
        drop(index);
        if newest.is_empty() {
            return Ok(());
        }
        let mut left = newest.len();
        self.read(partition, None, true, &mut |offset, key, value| {
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

    /// Reads on from where the last pass ended; `settled`: once all that is there now is committed or aborted.
    fn refresh(&self, partition: u16, index: &mut Index, settled: bool) -> Result<(), KafkaError> {
        if index.next.is_none() {
            index.newest = Some(HashMap::new());
        }
        let Index { next, small, newest } = index;
        let read = self.read(partition, *next, settled, &mut |offset, key, value| {
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
    fn read(&self, partition: u16, from: Option<i64>, settled: bool, each: &mut Each<'_>) -> Result<i64, KafkaError> {
        let scan = Scan::new(self.settings.clone(), Arc::clone(&self.topic), self.clock.clone(), CLIENT)?;
        let there = if settled { self.settled(&scan, partition)? } else { scan.watermarks(partition)? };
        let low = there.low;
        scan.read(partition, from.unwrap_or(low).max(low), None, &mut |message| match message.key() {
            Some(key) => each(message.offset(), key, message.payload()),
            None => ControlFlow::Continue(()),
        })
    }

    /// Waits until everything that is there now is committed or aborted; the watermarks of what is committed.
    fn settled(&self, scan: &Scan, partition: u16) -> Result<Watermarks, KafkaError> {
        let asked = self.clock.instant();
        let all = Scan::of_all(self.settings.clone(), Arc::clone(&self.topic), self.clock.clone(), CLIENT)?;
        let end = all.watermarks(partition)?.high;
        loop {
            let committed = scan.watermarks(partition)?;
            if committed.high >= end {
                return Ok(committed);
            }
            if self.clock.since(asked) > LIMIT {
                return Err(KafkaError::Brokers {
                    what: scan.what(partition).into(),
                    why: format!("a transaction has been under way for {} s", LIMIT.as_secs()).into(),
                });
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests;

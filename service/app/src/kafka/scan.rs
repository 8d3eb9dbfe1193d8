//! Reads what is committed in a partition, from a place to an end. Its calls block: never on an arbiter.
//!
//! An end is what the brokers name: the offset behind all that is committed, which control records are part of. "The last
//! record" is never computed, as none may be there.

use super::{ClientLog, KafkaError, KafkaSettings, Watermarks};
use crate::telemetry::clock::Clock;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers may have nothing to say.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// How long a look waits.
const LOOK: Duration = Duration::from_millis(100);
/// How long a fetch at the end waits for more, in milliseconds.
const FETCH_WAIT_MS: &str = "10";

/// A reader of one topic, a partition at a time.
pub struct Scan {
    settings: KafkaSettings,
    clock: Clock,
    topic: Arc<str>,
    consumer: BaseConsumer<ClientLog>,
}

impl Scan {
    /// A reader of what is committed; `client` says in the log which it is.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn new(
        settings: KafkaSettings,
        topic: Arc<str>,
        clock: Clock,
        client: &'static str,
    ) -> Result<Self, KafkaError> {
        Self::open(settings, topic, clock, client, "read_committed")
    }

    /// A reader of whatever is there, committed or not.
    pub(super) fn of_all(
        settings: KafkaSettings,
        topic: Arc<str>,
        clock: Clock,
        client: &'static str,
    ) -> Result<Self, KafkaError> {
        Self::open(settings, topic, clock, client, "read_uncommitted")
    }

    fn open(
        settings: KafkaSettings,
        topic: Arc<str>,
        clock: Clock,
        client: &'static str,
        isolation: &str,
    ) -> Result<Self, KafkaError> {
        let mut config = settings.quick_consumer(FETCH_WAIT_MS);
        config.set("isolation.level", isolation);
        let made = BaseConsumer::from_config_and_context(&config, settings.log(client));
        let consumer = made.map_err(|error| settings.explain(&error))?;
        Ok(Self { settings, clock, topic, consumer })
    }

    /// Where a partition begins and ends for this reader. A topic that was just made, or has just moved, has no leader for
    /// a moment. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn watermarks(&self, partition: u16) -> Result<Watermarks, KafkaError> {
        let asked = self.clock.instant();
        loop {
            match self.consumer.client().fetch_watermarks(&self.topic, partition.into(), LIMIT) {
                Ok((low, high)) => return Ok(Watermarks { low, high }),
                Err(error) if may_pass(&error) && self.clock.since(asked) < LIMIT => std::thread::sleep(LOOK),
                Err(error) => return Err(self.settings.not_said(self.what(partition), &error)),
            }
        }
    }

    /// Hands out the records of a partition from a place to where it ends now, or to `end` if that comes first, until
    /// `each` breaks; where reading would go on. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn read(
        &self,
        partition: u16,
        from: i64,
        end: Option<i64>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<i64, KafkaError> {
        let mut next = from;
        let is_over = |next: i64| end.is_some_and(|end| next >= end);
        if is_over(next) {
            return Ok(next);
        }
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment
            .add_partition_offset(&self.topic, partition.into(), Offset::Offset(next))
            .and_then(|()| self.consumer.assign(&assignment))
            .map_err(|error| self.settings.not_said(self.what(partition), &error))?;
        let mut heard = self.clock.instant();
        loop {
            match self.consumer.poll(LOOK) {
                // What the former assignment left.
                Some(Ok(message)) if message.partition() != i32::from(partition) => {}
                Some(Ok(message)) if is_over(message.offset()) => return Ok(next),
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    if each(&message).is_break() || is_over(next) {
                        return Ok(next);
                    }
                    // Behind it: whoever takes a record may take its time.
                    heard = self.clock.instant();
                }
                Some(Err(ClientError::PartitionEOF(ended))) if ended == i32::from(partition) => return Ok(next),
                Some(Err(ClientError::PartitionEOF(_))) => {}
                Some(Err(error)) if !may_pass(&error) || self.clock.since(heard) > LIMIT => {
                    return Err(self.settings.not_said(self.what(partition), &error));
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

    /// What is asked of the brokers, as errors name it.
    pub(super) fn what(&self, partition: u16) -> String {
        format!("what is in {}/{partition}", self.topic)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

    #[test]
    fn reads_a_partition_after_the_other_to_the_ends_that_it_was_given() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let settings = KafkaSettings::from(&KafkaConfig::at(&cluster.bootstrap_servers()));
        let producer: ThreadedProducer<ClientLog> =
            settings.producer().create_with_context(settings.log("test")).unwrap();
        for number in 0..10_u8 {
            let value = [number];
            producer
                .send(BaseRecord::<(), [u8]>::to("t").partition(i32::from(number % 2)).payload(&value))
                .ok()
                .unwrap();
        }
        producer.flush(LIMIT).unwrap();
        let scan = Scan::new(settings, "t".into(), Clock::System, "test").unwrap();
        let read = |partition, from, end, most: usize| {
            let mut values = Vec::new();
            let next = scan.read(partition, from, end, &mut |message| {
                values.extend_from_slice(message.payload().unwrap());
                if values.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            (next.unwrap(), values)
        };
        assert_eq!(scan.watermarks(1), Ok(Watermarks { low: 0, high: 5 }));
        assert_eq!(read(1, 0, Some(3), 9), (3, vec![1, 3, 5]));
        assert_eq!(read(0, 1, None, 9), (5, vec![2, 4, 6, 8]));
        assert_eq!(read(1, 0, None, 2), (2, vec![1, 3]));
        assert_eq!(read(1, 4, Some(9), 9), (5, vec![9]));
        assert_eq!(read(0, 5, Some(5), 9), (5, vec![]));
    }
}

//! What tests on a real broker share: topics of their own, and everything that a reader finds in one.

use super::{ClientLog, KafkaSettings};
use crate::config::KafkaConfig;
use crate::telemetry::clock::instant;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message as _};
use rdkafka::topic_partition_list::Offset;
use std::time::Duration;
use verdict_tests::servers::Kafka;

/// What a test waits for comes at once, or in seconds on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A record as a reader found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// Clients with Verdict's topics under a prefix of their own, of so many partitions, and a group of that name.
pub(crate) fn fresh(kafka: &Kafka, name: &str, partitions: u16) -> KafkaSettings {
    let mut config = KafkaConfig::at(kafka.bootstrap_servers());
    config.topic_prefix = kafka.fresh_topics(name, partitions.into()).prefix().into();
    config.group_id = config.topic_prefix.clone();
    KafkaSettings::from(&config)
}

/// A reader of all partitions of a topic from their start, of what is committed or of all there is.
pub(crate) fn reader(
    settings: &KafkaSettings,
    topic: &str,
    partitions: u16,
    isolation: &str,
) -> BaseConsumer<ClientLog> {
    let mut config = settings.consumer();
    config.set("isolation.level", isolation).set("fetch.wait.max.ms", "10");
    let reader: BaseConsumer<ClientLog> = config.create_with_context(settings.log("test")).expect("a reader");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition.into(), Offset::Beginning).expect("a partition");
    }
    reader.assign(&all).expect("assigned");
    reader
}

/// Everything in a topic, by partition.
pub(crate) fn read(settings: &KafkaSettings, topic: &str, partitions: u16, isolation: &str) -> Vec<Found> {
    let reader = reader(settings, topic, partitions, isolation);
    let (mut found, mut ended, began) = (Vec::new(), 0, instant());
    while ended < partitions {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => found.push(found_in(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => assert!(began.elapsed() < LIMIT, "{error}"),
            None => assert!(began.elapsed() < LIMIT, "the end of {topic} did not come"),
        }
    }
    found.sort_by_key(|found| found.partition);
    found
}

/// What is committed in a topic, by partition.
pub(crate) fn committed(settings: &KafkaSettings, topic: &str, partitions: u16) -> Vec<Found> {
    read(settings, topic, partitions, "read_committed")
}

fn found_in(message: &rdkafka::message::BorrowedMessage<'_>) -> Found {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect()
    });
    let value = text(message.payload().unwrap_or_default());
    Found { partition: message.partition(), key: message.key().map(text), value, headers }
}

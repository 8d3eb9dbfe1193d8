//! The journal on a real broker: what it does beyond the contract of the port, and what it takes.

mod damage;
mod faults;
mod owners;
mod positions;

use super::entry;
use super::{Command, KafkaJournal};
use crate::config::KafkaConfig;
use crate::journal::record::Record;
use crate::journal::{AppendError, Journal, JournalError, Partition, Tenure, Wanted, samples};
use crate::kafka::{ClientLog, KafkaSettings, Topic};
use crate::telemetry::clock::Clock;
use futures_util::TryStreamExt;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;
use verdict_tests::servers::Kafka;

/// What a test waits for comes at once, or in seconds on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const LARGEST: &str = "16777216";

/// The settings of clients with a topic of their own on a broker.
fn settings(kafka: &Kafka, name: &str, partitions: Partition) -> KafkaSettings {
    let prefix = format!("{name}-{}.", uuid::Uuid::from_u128(super::unlike_any_other()));
    let mut config = KafkaConfig::at(kafka.bootstrap_servers());
    config.topic_prefix = prefix.into();
    let settings = KafkaSettings::from(&config);
    let kept = [("retention.ms", "-1"), ("retention.bytes", "-1"), ("max.message.bytes", LARGEST)];
    kafka.create_topic(&settings.topic(Topic::Journal), partitions.into(), &kept);
    settings
}

async fn open(settings: &KafkaSettings, partitions: Partition) -> KafkaJournal {
    KafkaJournal::open(settings.clone(), partitions, Clock::System).await.expect("opens")
}

/// A journal in a topic of its own on the shared broker.
pub(in crate::journal) async fn fresh(name: &str, partitions: Partition) -> KafkaJournal {
    open(&settings(Kafka::shared(), name, partitions), partitions).await
}

async fn take_over(journal: &KafkaJournal, partition: Partition) -> Result<Tenure, JournalError> {
    Ok(journal.take_over(vec![partition]).await?[0])
}

fn login(tenure: Tenure, n: u64) -> Record {
    samples::login(tenure.partition, tenure.epoch, n)
}

/// Appends these records one by one, without waiting for any.
fn append_all(
    journal: &KafkaJournal,
    tenure: Tenure,
    numbers: std::ops::Range<u64>,
) -> Vec<impl Future<Output = Result<(), AppendError>> + use<>> {
    numbers.map(|n| journal.append(vec![login(tenure, n)])).collect()
}

async fn replayed(journal: &KafkaJournal, partition: Partition, n: u64) -> Result<Vec<Record>, JournalError> {
    journal.replay(vec![(partition, n)], Wanted::Everything).try_collect().await
}

/// The numbers of a partition's records, which must be all from the first on.
async fn count(journal: &KafkaJournal, partition: Partition) -> u64 {
    let records = replayed(journal, partition, 0).await.expect("replays");
    let numbers: Vec<u64> = records.iter().map(|record| record.n).collect();
    assert_eq!(numbers, (0..records.len() as u64).collect::<Vec<_>>());
    numbers.len() as u64
}

/// Puts these bytes in partition 0 of the journal's topic, past every journal.
fn produce(settings: &KafkaSettings, entries: &[Vec<u8>]) {
    let producer: BaseProducer<ClientLog> =
        settings.producer().create_with_context(settings.log("test")).expect("a producer");
    for entry in entries {
        let topic = settings.topic(Topic::Journal);
        let record = BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(entry);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(LIMIT).expect("written");
}

fn entry_of(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry::push_record(record, &mut bytes).expect("encodes");
    bytes
}

/// Fails when it takes longer than anything here may.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} took over {LIMIT:?}"))
}

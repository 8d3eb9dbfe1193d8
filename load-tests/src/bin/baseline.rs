//! What draining a topic costs at the least: one thread that consumes, parses, decides and publishes its alerts, and nothing
//! else. It takes the service's configuration, stops at what was in the topic when it began, and prints one JSON line.
//!
//! librdkafka fetches and sends on threads of its own, here as in the service; their CPU time counts on both sides.

use clap::Parser;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use verdict::config::{Config, ConfigErrors};
use verdict::kafka::{ClientLog, Inspector, KafkaError, KafkaSettings, Topic};
use verdict::model::{ScoreError, disable_telemetry};
use verdict_core::time::Timestamp;
use verdict_load::clock::{WallClock, cpu_time, now};
use verdict_load::single::{Counts, LoadError, Message as Alert, Single};

/// How long a broker has for one answer, and for what is left at the end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause in a topic that holds more.
const SILENCE: Duration = Duration::from_secs(10);

/// Decides every transaction of a topic on one thread.
#[derive(Debug, Parser)]
#[command(after_help = "Example: VERDICT__KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9092 baseline --alerts baseline-alerts")]
struct Args {
    /// Topic for the alerts, which must be there; without the prefix of the others.
    #[arg(long, default_value = "baseline-alerts")]
    alerts: String,
}

#[derive(Debug, Error)]
enum BaselineError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("expected VERDICT__KAFKA__BOOTSTRAP_SERVERS")]
    NoBrokers,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("librdkafka: {0}")]
    Client(#[from] ClientError),
    #[error("expected {0} more records, found nothing for {s} s", s = SILENCE.as_secs())]
    Silent(i64),
    #[error("expected {expected} alerts in their topic, found {found}")]
    Alerts { expected: u64, found: i64 },
    #[error(transparent)]
    Score(#[from] ScoreError),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

#[derive(Debug, Serialize)]
struct Findings {
    #[serde(flatten)]
    counts: Counts,
    /// From the first poll to the last acknowledgement.
    seconds: f64,
    /// Of the process, its start included.
    cpu_s: Option<f64>,
}

#[expect(clippy::print_stdout, reason = "the findings go to stdout")]
fn main() -> Result<(), BaselineError> {
    disable_telemetry();
    let args = Args::parse();
    let config = Config::load(Some(Path::new("/dev/null")), Vec::new())?;
    let settings = KafkaSettings::from(config.kafka.as_ref().ok_or(BaselineError::NoBrokers)?);
    println!("{}", serde_json::to_string(&drain(&args, &settings, Single::load(&config)?)?)?);
    Ok(())
}

fn drain(args: &Args, settings: &KafkaSettings, mut single: Single) -> Result<Findings, BaselineError> {
    let inspector = Inspector::new(settings.clone(), PATIENCE)?;
    let published_before = records(&inspector, &args.alerts)?;
    let (consumer, mut filled) = assigned(settings, &inspector)?;
    let mut client = settings.producer();
    // As what the service publishes with.
    client.set("linger.ms", "5");
    let producer: BaseProducer<ClientLog> = client.create_with_context(settings.log("baseline"))?;
    let (started, clock) = (now(), WallClock::start());
    let mut heard = started;
    while filled.left > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = now();
                let received_at = Timestamp::from_millis(clock.millis(heard));
                let produced_at = message.timestamp().to_millis().map_or(received_at, Timestamp::from_millis);
                if !filled.counts(message.partition(), message.offset()) {
                    continue;
                }
                let value = message.payload().unwrap_or_default();
                if let Some(alert) = single.take(value, produced_at, received_at)? {
                    publish(&producer, &args.alerts, &alert)?;
                }
            }
            Some(Err(ClientError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if now().duration_since(heard) > SILENCE => return Err(BaselineError::Silent(filled.left)),
            None => {}
        }
    }
    producer.flush(PATIENCE)?;
    let (seconds, cpu_s) = (now().duration_since(started).as_secs_f64(), cpu_time().map(|cpu| cpu.as_secs_f64()));
    let (counts, found) = (single.counts(), records(&inspector, &args.alerts)? - published_before);
    if u64::try_from(found) != Ok(counts.alerts) {
        return Err(BaselineError::Alerts { expected: counts.alerts, found });
    }
    Ok(Findings { counts, seconds, cpu_s })
}

/// Records of a topic that nobody writes to in transactions.
fn records(inspector: &Inspector, topic: &str) -> Result<i64, KafkaError> {
    let partitions = i32::try_from(inspector.partitions_of(topic)?).unwrap_or(i32::MAX);
    (0..partitions).map(|partition| inspector.watermarks(topic, partition).map(|marks| marks.high - marks.low)).sum()
}

/// What was in the topic at the start.
struct Filled {
    ends: Vec<i64>,
    left: i64,
}

impl Filled {
    /// Whether a record was there; counts it.
    fn counts(&mut self, partition: i32, offset: i64) -> bool {
        let end = usize::try_from(partition).ok().and_then(|partition| self.ends.get(partition));
        let there = end.is_some_and(|end| offset < *end);
        self.left -= i64::from(there);
        there
    }
}

/// A consumer of the whole topic, with the service's settings.
fn assigned(
    settings: &KafkaSettings,
    inspector: &Inspector,
) -> Result<(BaseConsumer<ClientLog>, Filled), BaselineError> {
    let topic = settings.topic(Topic::Transactions);
    let (mut list, mut filled) = (TopicPartitionList::new(), Filled { ends: Vec::new(), left: 0 });
    for partition in 0..i32::try_from(inspector.partitions_of(&topic)?).unwrap_or(i32::MAX) {
        let marks = inspector.watermarks(&topic, partition)?;
        list.add_partition_offset(&topic, partition, Offset::Offset(marks.low))?;
        filled.left += marks.high - marks.low;
        filled.ends.push(marks.high);
    }
    let consumer: BaseConsumer<ClientLog> = settings.consumer().create_with_context(settings.log("baseline"))?;
    consumer.assign(&list)?;
    Ok((consumer, filled))
}

/// Hands an alert to the producer, once it has room.
fn publish(producer: &BaseProducer<ClientLog>, topic: &str, alert: &Alert) -> Result<(), BaselineError> {
    let mut record = BaseRecord::to(topic).key(alert.user_id.as_bytes()).payload(&alert.value);
    loop {
        match producer.send(record) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(5));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

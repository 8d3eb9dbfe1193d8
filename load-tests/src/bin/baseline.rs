//! What draining a topic costs at the least: one thread that consumes, parses, decides and publishes its alerts, and nothing
//! else. It takes the service's configuration, stops at what was in the topic when it began, and prints one JSON line.
//!
//! With `--journal` it also writes a record of each decision to a topic, and reads it back there: what durability costs at the
//! least, if every decision leaves a record of its own and counts once it was read back (PROTOCOL, Journal).
//!
//! librdkafka fetches and sends on threads of its own, here as in the service; their CPU time counts on both sides.

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use verdict::actors::partition::partition_of;
use verdict::config::{Config, ConfigErrors};
use verdict::journal::codec;
use verdict::journal::record::{Body, Decided, Record};
use verdict::kafka::{ClientLog, Inspector, KafkaError, KafkaSettings, Topic};
use verdict::model::{ScoreError, disable_telemetry};
use verdict::wire::alert::Alert;
use verdict_core::event::Source;
use verdict_core::time::Timestamp;
use verdict_load::clock::{WallClock, cpu_time, now};
use verdict_load::single::{Counts, LoadError, Single};

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
    /// Topic for records of the decisions, which must be there and empty; without the prefix of the others.
    #[arg(long)]
    journal: Option<String>,
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
    #[error("expected an empty topic for records of decisions, found {0} in it; delete it and create it anew")]
    JournalNotEmpty(i64),
    #[error("expected every record of a decision to be read back, found {0} and nothing more for {s} s", s = 2 * SILENCE.as_secs())]
    NotReadBack(i64),
    #[error("a record cannot be encoded: {0}")]
    Encode(String),
    #[error(transparent)]
    Score(#[from] ScoreError),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

#[derive(Debug, Serialize)]
struct Findings {
    #[serde(flatten)]
    counts: Counts,
    /// From the first poll to the last acknowledgement, or the last record that was read back.
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
    let (consumer, mut filled) = assigned(settings, &inspector, &settings.topic(Topic::Transactions))?;
    let producer: BaseProducer<ClientLog> = lingering(settings).create_with_context(settings.log("baseline"))?;
    let mut journal = args.journal.as_deref().map(|topic| Journal::new(topic, settings, &inspector)).transpose()?;
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
                let Some(decided) = single.take(value, produced_at, received_at)? else { continue };
                if decided.decision.alert {
                    let key = decided.transaction.user_id.as_bytes();
                    let value = Alert::of(&decided).to_json();
                    publish(&producer, BaseRecord::to(&args.alerts).key(key).payload(&value))?;
                }
                if let Some(journal) = &mut journal {
                    let source = message.topic().into();
                    let source =
                        Source::Topic { topic: source, partition: message.partition(), offset: message.offset() };
                    journal.write(decided, source, received_at)?;
                }
            }
            Some(Err(ClientError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if now().duration_since(heard) > SILENCE => return Err(BaselineError::Silent(filled.left)),
            None => {}
        }
    }
    producer.flush(PATIENCE)?;
    if let Some(journal) = journal {
        journal.finish()?;
    }
    let (seconds, cpu_s) = (now().duration_since(started).as_secs_f64(), cpu_time().map(|cpu| cpu.as_secs_f64()));
    let (counts, found) = (single.counts(), records(&inspector, &args.alerts)? - published_before);
    if u64::try_from(found) != Ok(counts.alerts) {
        return Err(BaselineError::Alerts { expected: counts.alerts, found });
    }
    Ok(Findings { counts, seconds, cpu_s })
}

/// The service's producer, which waits for more to send as the service itself does for records of topics.
fn lingering(settings: &KafkaSettings) -> ClientConfig {
    let mut client = settings.producer();
    client.set("linger.ms", "5");
    client
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

/// A consumer of a whole topic, with the service's settings.
fn assigned(
    settings: &KafkaSettings,
    inspector: &Inspector,
    topic: &str,
) -> Result<(BaseConsumer<ClientLog>, Filled), BaselineError> {
    let (mut list, mut filled) = (TopicPartitionList::new(), Filled { ends: Vec::new(), left: 0 });
    for partition in 0..i32::try_from(inspector.partitions_of(topic)?).unwrap_or(i32::MAX) {
        let marks = inspector.watermarks(topic, partition)?;
        list.add_partition_offset(topic, partition, Offset::Offset(marks.low))?;
        filled.left += marks.high - marks.low;
        filled.ends.push(marks.high);
    }
    let consumer: BaseConsumer<ClientLog> = settings.consumer().create_with_context(settings.log("baseline"))?;
    consumer.assign(&list)?;
    Ok((consumer, filled))
}

/// A record for every decision, each read back once by a thread that does nothing else.
struct Journal {
    producer: BaseProducer<ClientLog>,
    topic: String,
    /// By partition, the number of its next record.
    next_n: Vec<u64>,
    written: Arc<AtomicI64>,
    reader: JoinHandle<Result<(), BaselineError>>,
}

impl Journal {
    fn new(topic: &str, settings: &KafkaSettings, inspector: &Inspector) -> Result<Self, BaselineError> {
        let (consumer, filled) = assigned(settings, inspector, topic)?;
        if filled.left != 0 {
            return Err(BaselineError::JournalNotEmpty(filled.left));
        }
        // Known once all are written.
        let written = Arc::new(AtomicI64::new(i64::MAX));
        let reader = std::thread::spawn({
            let written = Arc::clone(&written);
            move || read_back(&consumer, &written)
        });
        let mut client = lingering(settings);
        // What is durable is read back; a report for each record would cost as much as the record.
        client.set("delivery.report.only.error", "true");
        let producer = client.create_with_context(settings.log("baseline"))?;
        Ok(Self { producer, topic: topic.to_owned(), next_n: vec![0; filled.ends.len()], written, reader })
    }

    fn write(&mut self, decided: Decided, source: Source, received_at: Timestamp) -> Result<(), BaselineError> {
        let partitions = u16::try_from(self.next_n.len()).unwrap_or(u16::MAX);
        let partition = partition_of(&decided.transaction.user_id, partitions);
        let n = self.next_n[usize::from(partition)];
        self.next_n[usize::from(partition)] += 1;
        let record = Record { partition, epoch: 1, n, source, received_at, body: Body::Decision(Arc::new(decided)) };
        let mut value = Vec::with_capacity(512);
        codec::encode(&record, &mut value).map_err(|error| BaselineError::Encode(error.to_string()))?;
        publish(&self.producer, BaseRecord::<[u8], _>::to(&self.topic).partition(partition.into()).payload(&value))
    }

    /// Waits until all is read back.
    fn finish(self) -> Result<(), BaselineError> {
        self.producer.flush(PATIENCE)?;
        let written: u64 = self.next_n.iter().sum();
        self.written.store(i64::try_from(written).unwrap_or(i64::MAX), Ordering::Release);
        self.reader.join().unwrap_or(Err(BaselineError::Silent(0)))
    }
}

/// Reads records until as many are read as were written.
fn read_back(consumer: &BaseConsumer<ClientLog>, written: &AtomicI64) -> Result<(), BaselineError> {
    let (mut read, mut heard) = (0, now());
    while read < written.load(Ordering::Acquire) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => (read, heard) = (read + 1, now()),
            Some(Err(ClientError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if now().duration_since(heard) > 2 * SILENCE => return Err(BaselineError::NotReadBack(read)),
            None => {}
        }
    }
    Ok(())
}

/// Hands a record to the producer, once it has room.
fn publish(producer: &BaseProducer<ClientLog>, mut record: BaseRecord<'_, [u8], Vec<u8>>) -> Result<(), BaselineError> {
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

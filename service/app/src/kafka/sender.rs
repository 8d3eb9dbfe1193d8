//! Sends many records, of which nobody waits for a single one: it waits for room, counts what the brokers refuse, and
//! tells at the end. Nothing is dropped: what cannot be delivered is an error.

use super::{ClientLog, KafkaError, KafkaSettings};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Pause when the producer's queue is full.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the brokers have to take what is left at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why records could not be delivered.
#[derive(Debug, Error)]
pub enum SendError {
    /// The producer cannot be made, or does not take a record.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The brokers refused records.
    #[error("the brokers refused {0} records; the log says why")]
    Refused(u64),
    /// The brokers did not take everything in time.
    #[error("the brokers did not take everything within {} s", PATIENCE.as_secs())]
    Late,
}

/// Counts what was refused.
struct Counting {
    log: ClientLog,
    refused: AtomicU64,
}

impl ClientContext for Counting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a record was refused");
        }
    }
}

/// See the module. Its calls block: never on an arbiter.
pub struct Sender {
    producer: ThreadedProducer<Counting>,
    settings: KafkaSettings,
    /// How to wait; a test does not.
    wait: fn(Duration),
}

impl Sender {
    /// A sender to these brokers; `client` says in the log which it is.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn new(settings: KafkaSettings, client: &'static str, wait: fn(Duration)) -> Result<Self, SendError> {
        let mut config = settings.producer();
        // Nobody waits for a single record here.
        config.set("linger.ms", "5");
        let context = Counting { log: settings.log(client), refused: AtomicU64::new(0) };
        let producer = config.create_with_context(context).map_err(|error| settings.explain(&error))?;
        Ok(Self { producer, settings, wait })
    }

    /// Hands a record to the producer, once it has room.
    ///
    /// # Errors
    /// When the producer does not take it.
    pub fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), SendError> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    (self.wait)(PAUSE);
                    record = back;
                }
                Err((error, _)) => return Err(self.settings.explain(&error).into()),
            }
        }
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// When it is not, in time or at all.
    pub fn finish(&self) -> Result<(), SendError> {
        self.producer.flush(PATIENCE).map_err(|_| SendError::Late)?;
        match self.producer.context().refused.load(Ordering::Relaxed) {
            0 => Ok(()),
            refused => Err(SendError::Refused(refused)),
        }
    }
}

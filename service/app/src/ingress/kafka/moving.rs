//! Sends a record on whose user belongs to another partition (PROTOCOL, Sources): to an explicit partition of the same
//! topic, as it came, and waits until that is acknowledged. Sent twice after a crash, it is a duplicate there.

use super::reader::Raw;
use crate::kafka::{ClientLog, KafkaError, KafkaSettings};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

/// See the module.
pub(super) struct Mover {
    producer: ThreadedProducer<Acknowledging>,
    settings: KafkaSettings,
}

/// Tells whoever sent a record what became of it.
struct Acknowledging(ClientLog);

impl ClientContext for Acknowledging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Acknowledging {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), ClientError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        let result = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        // One who no longer waits is no error.
        let _ = told.send(result);
    }
}

impl Mover {
    pub(super) fn new(settings: KafkaSettings) -> Result<Self, KafkaError> {
        let made = settings.producer().create_with_context(Acknowledging(settings.log("mover")));
        let producer = made.map_err(|error| settings.explain(&error))?;
        Ok(Self { producer, settings })
    }

    /// Sends a record to this partition; comes back once that is durable there.
    pub(super) async fn send(&self, topic: &str, partition: i32, raw: &Raw) -> Result<(), KafkaError> {
        let (told, acknowledged) = oneshot::channel();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(told));
        record = record.partition(partition).payload(&raw.value);
        if let Some(key) = &raw.key {
            record = record.key(key);
        }
        if let Some(ms) = raw.produced_at_ms {
            record = record.timestamp(ms);
        }
        if let Some(headers) = &raw.headers {
            record = record.headers(headers.clone());
        }
        self.producer.send(record).map_err(|(error, _)| self.settings.explain(&error))?;
        match acknowledged.await {
            Ok(result) => result.map_err(|error| self.settings.explain(&error)),
            Err(_) => Err(KafkaError::Client("the producer has ended".into())),
        }
    }
}

//! Sends traffic to the topics that the service consumes, keyed by user as the Java client would, and waits for what the
//! brokers do not take at once. Nothing is dropped: what cannot be delivered is an error.

use crate::kafka::{ClientLog, KafkaError, KafkaSettings, Topic};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Pause when the producer's queue is full.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the brokers have to take what is left at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why traffic could not be delivered.
#[derive(Debug, Error)]
pub enum TopicsError {
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

/// The topics of a service.
pub struct Topics {
    producer: ThreadedProducer<Counting>,
    settings: KafkaSettings,
    names: [(Topic, Arc<str>); 3],
    /// How to wait; a test does not.
    wait: fn(Duration),
}

impl Topics {
    /// The topics that these settings name.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn new(settings: KafkaSettings, wait: fn(Duration)) -> Result<Self, TopicsError> {
        let mut config = settings.producer();
        // Nobody waits for a single record here.
        config.set("linger.ms", "5");
        let context = Counting { log: settings.log("simulator"), refused: AtomicU64::new(0) };
        let producer = config.create_with_context(context).map_err(|error| settings.explain(&error))?;
        let names = [Topic::Transactions, Topic::Logins, Topic::Labels].map(|topic| (topic, settings.topic(topic)));
        Ok(Self { producer, settings, names, wait })
    }

    /// Sends a line to a topic, without its line feed; `user_id` is the key where the line has none.
    ///
    /// # Errors
    /// When the producer does not take it.
    pub fn send(&self, topic: Topic, line: &[u8], user_id: &str) -> Result<(), TopicsError> {
        let value = line.trim_ascii_end();
        let key = key_of(value).unwrap_or(user_id);
        let Some((_, name)) = self.names.iter().find(|(known, _)| *known == topic) else { return Ok(()) };
        let mut record = BaseRecord::to(name).key(key).payload(value);
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

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// When it is not, in time or at all.
    pub fn finish(&self) -> Result<(), TopicsError> {
        self.producer.flush(PATIENCE).map_err(|_| TopicsError::Late)?;
        match self.producer.context().refused.load(Ordering::Relaxed) {
            0 => Ok(()),
            refused => Err(TopicsError::Refused(refused)),
        }
    }
}

/// The user of a line, as far as a line that may be broken says.
fn key_of(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once("\"user_id\":\"")?;
    let (user_id, _) = rest.split_once('"')?;
    (!user_id.is_empty()).then_some(user_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use crate::kafka::Inspector;
    use rdkafka::mocking::MockCluster;

    #[test]
    fn lines_are_keyed_by_their_user() {
        assert_eq!(key_of(br#"{"login_id":"l","user_id":"u-7","timestamp":1}"#), Some("u-7"));
        for broken in ["not json", r#"{"user_id":"u"#, r#"{"user_id":"","was":"u"}"#] {
            assert_eq!(key_of(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn everything_is_delivered_to_the_users_partition() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic("transactions", 12, 1).expect("a topic");
        let settings = KafkaSettings::from(&KafkaConfig::at(&cluster.bootstrap_servers()));
        let topics = Topics::new(settings.clone(), |_| {}).expect("a producer");
        for _ in 0..5 {
            topics.send(Topic::Transactions, b"{\"user_id\":\"u-7\"}\n", "u-1").expect("taken");
        }
        topics.send(Topic::Transactions, b"not json\n", "u-7").expect("taken");
        topics.finish().expect("delivered");
        let inspector = Inspector::new(settings, PATIENCE).expect("an inspector");
        let home = i32::from(crate::actors::partition::partition_of("u-7", 12));
        for partition in 0..12 {
            let expected = if partition == home { 6 } else { 0 };
            assert_eq!(inspector.watermarks("transactions", partition).expect("told").high, expected, "{partition}");
        }
    }
}

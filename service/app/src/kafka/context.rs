//! What a client says: into the service's log, without property values and without statistics.

use crate::config::Secret;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use tracing::{debug, info, warn};

/// Shorter values, such as `1` and `true`, are no secrets, and hiding them would blot out half of a message.
const SHORTEST_HIDDEN: usize = 4;

/// Logs what librdkafka has to say. A context with callbacks of its own holds one and hands its words on.
pub struct ClientLog {
    client: &'static str,
    hidden: Vec<Secret>,
}

impl ClientLog {
    /// `client` says in the log which it is; `hidden` are texts that must not be in it.
    #[must_use]
    pub fn new(client: &'static str, hidden: Vec<Secret>) -> Self {
        Self { client, hidden: hidden.into_iter().filter(|text| text.expose().len() >= SHORTEST_HIDDEN).collect() }
    }

    /// A text without what must not be shown.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        self.hidden.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"))
    }
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let (client, message) = (self.client, self.hide(message));
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                // It goes on by itself, or the call that fails for it is logged by whoever made it.
                warn!(client, facility, "{message}");
            }
            RDKafkaLogLevel::Warning => warn!(client, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(client, facility, "{message}"),
            RDKafkaLogLevel::Debug => debug!(client, facility, "{message}"),
        }
    }

    /// A line of thousands of letters that nobody reads; the service measures by itself.
    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever asks for the ends of partitions is handed them as well.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        warn!(client = self.client, %error, "{}", self.hide(reason));
    }
}

impl ConsumerContext for ClientLog {
    /// Offsets are committed for tools alone: the next commit tells them.
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            info!(client = self.client, %error, "the group was not told how far the topics are consumed");
        }
    }
}

impl ProducerContext for ClientLog {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_secrets_and_keeps_the_rest() {
        let log = ClientLog::new("test", ["hunter2", "1", "true"].map(Secret::new).into());
        assert_eq!(log.hide("broker 1: hunter2 is not true, hunter2"), "broker 1: *** is not ***, ***");
    }
}

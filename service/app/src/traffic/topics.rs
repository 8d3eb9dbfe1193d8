//! Sends traffic to the topics that the service consumes, keyed by user as the Java client would, and waits for what the
//! brokers do not take at once. Nothing is dropped: what cannot be delivered is an error.

use crate::kafka::{Inspector, KafkaSettings, SendError, Sender, Topic};
use rdkafka::producer::BaseRecord;
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers have to say what topics there are.
const PATIENCE: Duration = Duration::from_secs(15);

/// The topics of a service.
pub struct Topics {
    sender: Sender,
    names: [(Topic, Arc<str>); 3],
}

impl Topics {
    /// The topics that these settings name, as soon as the brokers say that they are there: before anything is sent. `wait` is
    /// how to wait later, which a test does not.
    ///
    /// # Errors
    /// When the brokers do not answer or refuse, one of the topics is missing, or librdkafka does not take the settings.
    pub fn open(settings: &KafkaSettings, wait: fn(Duration)) -> Result<Self, SendError> {
        let names = [Topic::Transactions, Topic::Logins, Topic::Labels].map(|topic| (topic, settings.topic(topic)));
        Inspector::new(settings.clone(), PATIENCE)?.topics(&names.each_ref().map(|(_, name)| &**name))?;
        let sender = Sender::new(settings.clone(), "simulator", wait)?;
        Ok(Self { sender, names })
    }

    /// Sends a line to a topic, without its line feed; `user_id` is the key where the line has none.
    ///
    /// # Errors
    /// When the producer does not take it.
    pub fn send(&self, topic: Topic, line: &[u8], user_id: &str) -> Result<(), SendError> {
        let value = line.trim_ascii_end();
        let key = key_of(value).unwrap_or(user_id);
        let Some((_, name)) = self.names.iter().find(|(known, _)| *known == topic) else { return Ok(()) };
        self.sender.send(BaseRecord::to(name).key(key.as_bytes()).payload(value))
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// When it is not, in time or at all.
    pub fn finish(&self) -> Result<(), SendError> {
        self.sender.finish()
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
        let settings = KafkaSettings::from(&KafkaConfig::at(&cluster.bootstrap_servers()));
        for name in ["transactions", "logins"] {
            cluster.create_topic(name, 12, 1).expect("a topic");
        }
        let error = Topics::open(&settings, |_| {}).err().expect("one is missing").to_string();
        assert!(error.contains("fraud-labels"), "{error}");
        cluster.create_topic("fraud-labels", 12, 1).expect("a topic");
        let topics = Topics::open(&settings, |_| {}).expect("all are there");
        for _ in 0..5 {
            topics.send(Topic::Transactions, b"{\"user_id\":\"u-7\"}\n", "u-1").expect("taken");
        }
        topics.send(Topic::Transactions, b"not json\n", "u-7").expect("taken");
        topics.finish().expect("delivered");
        let inspector = Inspector::new(settings, Duration::from_secs(60)).expect("an inspector");
        let home = i32::from(crate::actors::partition::partition_of("u-7", 12));
        for partition in 0..12 {
            let expected = if partition == home { 6 } else { 0 };
            assert_eq!(inspector.watermarks("transactions", partition).expect("told").high, expected, "{partition}");
        }
    }
}

//! How clients are configured: what the protocol fixes, over what the configuration gives.

use super::{ClientLog, KafkaError, Topic};
use crate::config::{KafkaConfig, Secret};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;
use std::sync::Arc;

/// Largest record, in bytes, of the topics that hold journal, profiles, dead letters and archives (PROTOCOL, Sizes).
pub const MAX_MESSAGE_BYTES: u32 = 16 << 20;

/// Bytes that one fetch brings of all partitions at most; one record of the largest size always fits.
const FETCH_MAX_BYTES: u32 = 32 << 20;

/// What a client takes off the wire at most: a fetch and its framing, and some more, as librdkafka asks for.
const RECEIVE_MAX_BYTES: u32 = FETCH_MAX_BYTES + (1 << 20);

/// Fixed for every client.
const EVERY_CLIENT: [(&str, &str); 2] = [("statistics.interval.ms", "0"), ("message.max.bytes", "16777216")];

/// Fixed for every producer. What it holds is bounded by whoever produces; these bounds are beyond that.
const EVERY_PRODUCER: [(&str, &str); 6] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("delivery.report.only.error", "false"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

/// Fixed for every consumer. A few MiB wait for each partition, and a queue that was full is filled again at once rather
/// than after a second (STACK). That a partition is read to its end is known within a tenth of a second.
const EVERY_CONSUMER: [(&str, &str); 11] = [
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("partition.assignment.strategy", "cooperative-sticky"),
];

/// Where the brokers are and who this node is to them. Its `Debug` shows no value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: Box<str>,
    /// Properties of librdkafka; none that the protocol fixes.
    pub properties: Vec<(Box<str>, Secret)>,
    /// The consumer group.
    pub group_id: Box<str>,
    /// This node in the group.
    pub instance_id: Box<str>,
    /// Before the name of every topic.
    pub topic_prefix: Box<str>,
}

impl From<&KafkaConfig> for KafkaSettings {
    fn from(config: &KafkaConfig) -> Self {
        Self {
            bootstrap_servers: config.bootstrap_servers.clone(),
            properties: config.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            group_id: config.group_id.clone(),
            instance_id: config.instance_id.clone(),
            topic_prefix: config.topic_prefix.clone(),
        }
    }
}

impl KafkaSettings {
    /// The full name of a topic.
    #[must_use]
    pub fn topic(&self, topic: Topic) -> Arc<str> {
        format!("{}{}", self.topic_prefix, topic.name()).into()
    }

    /// What every client has in common: servers, security, limits.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Before the properties, which may say otherwise. A broker that is back is found within a second, not within ten.
        config.set("client.id", format!("{}-{}", self.group_id, self.instance_id));
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.properties {
            config.set(&**name, value.expose());
        }
        config.set("bootstrap.servers", &*self.bootstrap_servers);
        set_all(&mut config, &EVERY_CLIENT);
        // What librdkafka says goes through `ClientLog`, whose filter is that of the service's log.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// An idempotent producer that sends at once and never gives a record up: its fate is known, or the client is dead
    /// (PROTOCOL, Journal).
    #[must_use]
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        set_all(&mut config, &EVERY_PRODUCER);
        config.set("linger.ms", "0").set("message.timeout.ms", "0");
        config
    }

    /// A producer of transactions under this id, whose former holder it fences. A record that is given up ends its
    /// transaction, so that its time is the transaction's: librdkafka allows no `message.timeout.ms` of 0 here.
    #[must_use]
    pub fn transactional_producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.client();
        set_all(&mut config, &EVERY_PRODUCER);
        config.set("linger.ms", "5").set("transactional.id", transactional_id).set("transaction.timeout.ms", "60000");
        config
    }

    /// A consumer that is assigned by hand and told its offsets: a missing one is an error, never a guess.
    #[must_use]
    pub fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        set_all(&mut config, &EVERY_CONSUMER);
        config
            .set("group.id", &*self.group_id)
            .set("fetch.max.bytes", FETCH_MAX_BYTES.to_string())
            .set("receive.message.max.bytes", RECEIVE_MAX_BYTES.to_string());
        config
    }

    /// The same, set up to be quick: a fetch of nothing waits for `wait_ms` at most, which is how long a new partition may have
    /// to wait, and little is waited after an error. What the operator has set stays.
    #[must_use]
    pub fn quick_consumer(&self, wait_ms: &str) -> ClientConfig {
        let mut config = self.consumer();
        for (name, value) in [("fetch.wait.max.ms", wait_ms), ("fetch.error.backoff.ms", "50")] {
            if self.properties.iter().all(|(given, _)| **given != *name) {
                config.set(name, value);
            }
        }
        config
    }

    /// A static member of the group (PROTOCOL, Ownership): what it is assigned is what this node owns.
    #[must_use]
    pub fn member(&self) -> ClientConfig {
        let mut config = self.consumer();
        config.set("group.instance.id", &*self.instance_id).set("session.timeout.ms", "6000");
        config
    }

    /// What clients of this name log with.
    #[must_use]
    pub fn log(&self, client: &'static str) -> ClientLog {
        ClientLog::new(client, self.properties.iter().map(|(_, value)| value.clone()).collect())
    }

    /// An error of a client as text, without the value of any property.
    #[must_use]
    pub fn explain(&self, error: &ClientError) -> KafkaError {
        match error {
            ClientError::ClientConfig(why, _, name, _) => {
                let what = match why {
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "is not known to librdkafka",
                    RDKafkaConfRes::RD_KAFKA_CONF_INVALID => "has a value that librdkafka does not take",
                    RDKafkaConfRes::RD_KAFKA_CONF_OK => "is refused by librdkafka",
                };
                KafkaError::Property(format!("`{name}` {what}").into())
            }
            ClientError::ClientCreation(text) => KafkaError::Client(self.log("").hide(text).into()),
            other => KafkaError::Client(self.log("").hide(&other.to_string()).into()),
        }
    }

    /// Why the brokers did not say what they were asked.
    pub(super) fn not_said(&self, what: String, error: &ClientError) -> KafkaError {
        let why = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown) => {
                format!("none of {} can be reached", self.bootstrap_servers)
            }
            Some(code) => format!("{code}"),
            None => self.log("").hide(&error.to_string()),
        };
        KafkaError::Brokers { what: what.into(), why: why.into() }
    }
}

fn set_all(config: &mut ClientConfig, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        config.set(*name, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::refused_property;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        let mut config = KafkaConfig::at("127.0.0.1:1");
        config.topic_prefix = "t1.".into();
        config.properties = properties.iter().map(|(name, value)| (Box::from(*name), Secret::new(*value))).collect();
        KafkaSettings::from(&config)
    }

    /// What is fixed would go over a property without a word.
    #[test]
    fn everything_that_is_fixed_is_refused_in_the_configuration() {
        let (settings, may_be_set) = (settings(&[]), ["client.id", "reconnect.backoff.max.ms"]);
        for config in [settings.producer(), settings.transactional_producer("t"), settings.member()] {
            for name in config.config_map().keys().filter(|name| !may_be_set.contains(&&***name)) {
                assert!(refused_property(name).is_some(), "{name} is fixed, and may be set");
            }
        }
    }

    #[test]
    fn librdkafka_takes_every_configuration() {
        let settings = settings(&[("reconnect.backoff.max.ms", "500"), ("client.id", "mine")]);
        let producer = settings.producer();
        assert_eq!(
            ["client.id", "reconnect.backoff.max.ms"].map(|name| producer.get(name)),
            [Some("mine"), Some("500")]
        );
        assert_eq!(&*settings.topic(Topic::Journal), "t1.verdict.journal");
        let producers = [settings.producer(), settings.transactional_producer("verdict-3")];
        for config in producers {
            let made = config.create_with_context::<_, BaseProducer<ClientLog>>(settings.log("test"));
            assert!(made.is_ok(), "{}", settings.explain(&made.err().unwrap()));
        }
        for config in [settings.consumer(), settings.member()] {
            let made = config.create_with_context::<_, BaseConsumer<ClientLog>>(settings.log("test"));
            assert!(made.is_ok(), "{}", settings.explain(&made.err().unwrap()));
        }
    }

    #[test]
    fn errors_name_the_property_and_hide_its_value() {
        let refused = |name: &str, value: &str| {
            let settings = settings(&[("security.protocol", "ssl"), (name, value), ("sasl.password", "hunter2")]);
            let made = settings.consumer().create_with_context::<_, BaseConsumer<ClientLog>>(settings.log("test"));
            settings.explain(&made.err().expect("should be refused")).to_string()
        };
        assert_eq!(refused("sasl.passwort", "hunter2"), "kafka.properties: `sasl.passwort` is not known to librdkafka");
        assert_eq!(
            refused("security.protocol", "hunter2"),
            "kafka.properties: `security.protocol` has a value that librdkafka does not take"
        );
        let text = refused("ssl.ca.pem", "not a certificate hunter2");
        let text = text + &refused("ssl.key.location", "/nowhere/hunter2");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

//! A Kafka broker for tests, and topics in it.

use super::attendant::{Attendant, faults};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Partitions of each of Verdict's topics; 0 makes no topics.
    pub partitions: u32,
    /// More settings of the broker, or others than usual.
    pub properties: Vec<(String, String)>,
    /// A second listener, with TLS and SCRAM: [`Kafka::secured`].
    pub secured: bool,
}

impl Default for KafkaOptions {
    /// Verdict's topics as `tests/scripts/servers/topics.py` has them, with 12 partitions.
    fn default() -> Self {
        Self { partitions: 12, properties: Vec::new(), secured: false }
    }
}

/// A broker on 127.0.0.1 that is its own controller. It makes no topic by itself, takes records of 16 MiB, and lets a
/// group start with its first member.
#[derive(Debug)]
pub struct Kafka {
    attendant: Attendant,
}

faults!(Kafka);

/// Verdict's topics under a prefix, which is theirs alone on this broker.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
}

impl Kafka {
    /// Starts a broker and waits until it is ready, with its topics; 2 to 5 s.
    ///
    /// # Panics
    /// It does not start; the message holds the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start(options: KafkaOptions) -> Self {
        let properties: Map<String, Value> =
            options.properties.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let options = json!({ "partitions": options.partitions, "properties": properties, "secured": options.secured });
        Self { attendant: Attendant::start("kafka", &options) }
    }

    /// The broker that the tests of this binary share, without topics; started by whoever asks first. Do no harm to it.
    #[must_use]
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(KafkaOptions { partitions: 0, ..KafkaOptions::default() }))
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        self.attendant.text("bootstrap_servers")
    }

    /// What a client of the listener with TLS and SCRAM has to set, `bootstrap.servers` too, as librdkafka names it.
    ///
    /// # Panics
    /// The broker was not started with [`KafkaOptions::secured`].
    #[must_use]
    #[track_caller]
    pub fn secured(&self) -> Vec<(String, String)> {
        let known = self.attendant.value("secured").as_object().expect("a broker that was started secured");
        known.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
    }

    /// Makes Verdict's topics, with this many partitions each, under a prefix that no other test of this process has.
    ///
    /// # Panics
    /// The broker refuses.
    #[must_use]
    #[track_caller]
    pub fn fresh_topics(&self, name: &str, partitions: u32) -> Topics {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let prefix = format!("{name}-{}.", COUNT.fetch_add(1, Ordering::Relaxed));
        self.attendant.order(&json!({ "do": "topics", "partitions": partitions, "prefix": prefix }));
        Topics { prefix }
    }

    /// Makes one topic with these settings, unless it is there.
    ///
    /// # Panics
    /// The broker refuses.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: u32, settings: &[(&str, &str)]) {
        let settings: Map<String, Value> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        self.attendant.order(&json!({ "do": "topic", "name": name, "partitions": partitions, "settings": settings }));
    }
}

impl Topics {
    /// The name that one of Verdict's topics, `verdict.journal` for one, has here.
    #[must_use]
    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// What stands before every name.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

//! `[kafka]`: the brokers, who this node is to them, and how late a topic's events may come.
//!
//! Any property of librdkafka may be set but those that the protocol fixes. No value of a property is ever shown: any of
//! them may be a password.

use super::layers::Setting;
use super::secret::{Secret, read_file};
use super::section::Section;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest group id, instance id and topic prefix; a topic's name has at most 249 letters with the prefix.
const MAX_NAME_BYTES: usize = 128;

/// Longest bound on how late events come: beyond a day, sources would wait for each other rather than be merged.
const MOST_OUT_OF_ORDER_MS: i64 = 86_400_000;

/// Least that the spill takes: some hundred answers.
const LEAST_SPILL_BYTES: i64 = 64 << 10;

/// Most that it takes, and what it takes unless told otherwise: what it holds is on its way to the brokers as well, and the
/// journal takes 96 MiB of that.
const MOST_SPILL_BYTES: i64 = 64 << 20;
/// Longest time between two heartbeats: the alert that none comes back waits for a minute.
const MOST_HEARTBEAT_SECS: i64 = 30;

/// The brokers, and who this node is to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: Box<str>,
    /// The consumer group; the nodes of one service have the same.
    pub group_id: Box<str>,
    /// This node in the group; no two nodes have the same.
    pub instance_id: Box<str>,
    /// Before the name of every topic, such as `eu.`; mostly empty.
    pub topic_prefix: Box<str>,
    /// How much later than a newer one a transaction comes at most, in milliseconds.
    pub transactions_out_of_order_ms: i64,
    /// The same of a login or a label.
    pub logins_out_of_order_ms: i64,
    /// Bytes of answers that are given before they are durable, at most.
    pub spill_max_bytes: usize,
    /// Seconds between two heartbeats of a partition; 0 sends none.
    pub heartbeat_secs: u32,
    /// Properties of librdkafka, by name.
    pub properties: BTreeMap<Box<str>, Secret>,
}

impl KafkaConfig {
    /// The settings beside these brokers, all at their defaults.
    #[must_use]
    pub fn at(bootstrap_servers: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            group_id: "verdict".into(),
            instance_id: "node-1".into(),
            topic_prefix: Box::default(),
            transactions_out_of_order_ms: 5_000,
            logins_out_of_order_ms: 10_000,
            spill_max_bytes: MOST_SPILL_BYTES as usize,
            heartbeat_secs: 5,
            properties: BTreeMap::new(),
        }
    }

    /// Time between two heartbeats of a partition, if any are sent.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        (self.heartbeat_secs > 0).then(|| Duration::from_secs(self.heartbeat_secs.into()))
    }

    /// `None` when no layer has the section: everything is embedded then.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let place = section.place();
        let missing = section.given("bootstrap_servers").is_none();
        let default = Self::at("");
        let config = Self {
            bootstrap_servers: section.text("bootstrap_servers", default.bootstrap_servers, servers),
            group_id: section.text("group_id", default.group_id, name),
            instance_id: section.text("instance_id", default.instance_id, name),
            topic_prefix: section.text("topic_prefix", default.topic_prefix, |text| {
                if text.is_empty() { Ok(text.into()) } else { name(text) }
            }),
            transactions_out_of_order_ms: section.integer(
                "transactions_out_of_order_ms",
                default.transactions_out_of_order_ms,
                0..=MOST_OUT_OF_ORDER_MS,
            ),
            logins_out_of_order_ms: section.integer(
                "logins_out_of_order_ms",
                default.logins_out_of_order_ms,
                0..=MOST_OUT_OF_ORDER_MS,
            ),
            spill_max_bytes: section.integer(
                "spill_max_bytes",
                default.spill_max_bytes,
                LEAST_SPILL_BYTES..=MOST_SPILL_BYTES,
            ),
            heartbeat_secs: section.integer("heartbeat_secs", default.heartbeat_secs, 0..=MOST_HEARTBEAT_SECS),
            properties: properties(&mut section),
        };
        let place = place?;
        if missing {
            let message =
                "expected `bootstrap_servers` such as \"localhost:9092\": without it nothing of [kafka] is used";
            section.fault_at("bootstrap_servers", place, message);
        }
        section.end();
        Some(config)
    }
}

fn servers(text: &str) -> Result<Box<str>, &'static str> {
    let server = |server: &str| {
        let (host, port) = server.trim().rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())
    };
    let sound = text.split(',').all(|one| server(one).is_some());
    if sound { Ok(text.into()) } else { Err("`host:port`, several separated by commas") }
}

fn name(text: &str) -> Result<Box<str>, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let sound = !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(plain);
    if sound { Ok(text.into()) } else { Err("1 to 128 letters, digits, `.`, `_` and `-`") }
}

/// Properties that are set elsewhere or fixed by the protocol, with the reason.
const REFUSED: [(&str, &str); 42] = {
    const SERVERS: &str = "set kafka.bootstrap_servers";
    const GROUP: &str =
        "set kafka.group_id and kafka.instance_id; how partitions are shared out is fixed by the protocol";
    const DURABLE: &str = "a record counts only once every replica in sync has it, in order and once";
    const FOR_EVER: &str = "what is given up here may still land later: a record is produced until its fate is known";
    const OFFSETS: &str = "offsets come from the journal, never from the group or a default";
    const COMMITTED: &str = "what was not committed must not be read";
    const PARTITION: &str = "a user's partition is that of Kafka's Java client (murmur2)";
    const TRANSACTION: &str = "transactions are the protocol's own fence";
    const AT_ONCE: &str = "a decision waits for its record; batches form by themselves";
    const SIZES: &str = "sizes are fixed, so that every record that is written can be read";
    const BOUNDS: &str = "queues are bounded by the service itself";
    const CALLBACKS: &str = "the service measures by itself and handles events by itself";
    [
        ("bootstrap.servers", SERVERS),
        ("metadata.broker.list", SERVERS),
        ("group.id", GROUP),
        ("group.instance.id", GROUP),
        ("group.protocol", GROUP),
        ("partition.assignment.strategy", GROUP),
        ("session.timeout.ms", GROUP),
        ("acks", DURABLE),
        ("request.required.acks", DURABLE),
        ("enable.idempotence", DURABLE),
        ("enable.gapless.guarantee", DURABLE),
        ("max.in.flight", DURABLE),
        ("max.in.flight.requests.per.connection", DURABLE),
        ("message.timeout.ms", FOR_EVER),
        ("delivery.timeout.ms", FOR_EVER),
        ("retries", FOR_EVER),
        ("message.send.max.retries", FOR_EVER),
        ("auto.offset.reset", OFFSETS),
        ("enable.auto.commit", OFFSETS),
        ("auto.commit.enable", OFFSETS),
        ("auto.commit.interval.ms", OFFSETS),
        ("enable.auto.offset.store", OFFSETS),
        ("isolation.level", COMMITTED),
        ("partitioner", PARTITION),
        ("transactional.id", TRANSACTION),
        ("transaction.timeout.ms", TRANSACTION),
        ("linger.ms", AT_ONCE),
        ("queue.buffering.max.ms", AT_ONCE),
        ("message.max.bytes", SIZES),
        ("fetch.max.bytes", SIZES),
        ("receive.message.max.bytes", SIZES),
        ("queue.buffering.max.messages", BOUNDS),
        ("queue.buffering.max.kbytes", BOUNDS),
        ("queued.min.messages", BOUNDS),
        ("queued.max.messages.kbytes", BOUNDS),
        ("fetch.queue.backoff.ms", BOUNDS),
        ("delivery.report.only.error", CALLBACKS),
        ("enable.partition.eof", CALLBACKS),
        ("statistics.interval.ms", CALLBACKS),
        ("allow.auto.create.topics", CALLBACKS),
        ("enabled_events", CALLBACKS),
        ("fetch.wait.max.ms", BOUNDS),
    ]
};

/// Why a property of librdkafka may not be set; `None` for one that may.
#[must_use]
pub fn refused_property(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| *why)
}

/// The table of properties. Dots in names may be written as they are, which TOML makes tables of.
fn properties(section: &mut Section<'_>) -> BTreeMap<Box<str>, Secret> {
    let Some(setting) = section.given("properties") else { return BTreeMap::new() };
    let mut read = Properties { section, setting: setting.clone(), found: BTreeMap::new() };
    match &setting {
        Setting::Toml(value) => read.root(value),
        Setting::Text(text) => match DeValue::parse(&text.text) {
            Ok(value) => read.root(&value),
            // The parser's message may quote the text.
            Err(_) => read.section.fault_at("properties", text.place.clone(), "expected a TOML table"),
        },
    }
    read.found
}

struct Properties<'s, 'a> {
    section: &'s mut Section<'a>,
    setting: Setting<'a>,
    found: BTreeMap<Box<str>, Secret>,
}

impl Properties<'_, '_> {
    fn fault(&mut self, at: &Spanned<impl Sized>, message: &str) {
        let place = match &self.setting {
            Setting::Toml(_) => self.section.layers().place_of_span(at.span()),
            Setting::Text(text) => text.place.clone(),
        };
        self.section.fault_at("properties", place, message);
    }

    fn root(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref().as_table() {
            Some(table) => self.table("", table),
            None => self.fault(value, "expected a table of properties of librdkafka"),
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let text = match value.get_ref() {
                DeValue::Table(inner) => {
                    self.table(&format!("{name}."), inner);
                    continue;
                }
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Datetime(_) | DeValue::Array(_) => {
                    self.fault(value, &format!("expected `{name}` to be a string, a number, true or false"));
                    continue;
                }
            };
            // No property of librdkafka ends like this.
            let (name, secret) = match name.strip_suffix("_file") {
                Some(name) => (name.to_owned(), read_file(&text)),
                None => (name, Ok(Secret::new(text))),
            };
            if let Some(why) = refused_property(&name) {
                self.fault(key, &format!("`{name}` may not be set: {why}"));
                continue;
            }
            match secret {
                Err(what) => self.fault(value, &what),
                Ok(_) if self.found.contains_key(&*name) => {
                    self.fault(key, &format!("expected either `{name}` or `{name}_file`, found both"));
                }
                Ok(secret) => _ = self.found.insert(name.into(), secret),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;
    use crate::config::layers::{File, Findings, Layers, TextSetting};

    /// What `[kafka]` of a file says, with a variable over it.
    fn read(text: &str, variable: Option<(&str, &str)>) -> Result<Option<KafkaConfig>, Vec<String>> {
        let mut findings = Findings::default();
        let file = File::parse("verdict.toml", text, &mut findings);
        let texts = variable.map(|(key, text)| TextSetting {
            section: "kafka".to_owned(),
            key: key.to_owned(),
            text: text.to_owned(),
            place: Place::Variable(key.into()),
        });
        let layers = Layers { file: Some(file), texts: texts.into_iter().collect() };
        let config = KafkaConfig::read(Section::new("kafka", &layers, &mut findings));
        let errors: Vec<String> = findings.into_errors().iter().map(ToString::to_string).collect();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    #[track_caller]
    fn refuses(text: &str, expected: &[&str]) {
        assert_eq!(read(text, None).expect_err("should be refused"), expected);
    }

    #[test]
    fn without_the_section_there_is_none() {
        assert_eq!(read("", None), Ok(None));
        assert_eq!(read("", Some(("bootstrap_servers", "b:9092"))), Ok(Some(KafkaConfig::at("b:9092"))));
    }

    #[test]
    fn a_full_section_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let text = format!(
            "[kafka]\nbootstrap_servers = \"a:9092, [::1]:9093\"\ngroup_id = \"g\"\ninstance_id = \"n\"\n\
             topic_prefix = \"t1.\"\ntransactions_out_of_order_ms = 0\nlogins_out_of_order_ms = 7\nheartbeat_secs = 0\n\
             [kafka.properties]\nsecurity.protocol = \"SASL_SSL\"\n\"sasl.username\" = \"u\"\n\
             sasl.password_file = {path:?}\nsocket.keepalive.enable = true\nreconnect.backoff.ms = 50\n"
        );
        let config = read(&text, None).unwrap().unwrap();
        let names = (&*config.bootstrap_servers, &*config.group_id, &*config.instance_id, &*config.topic_prefix);
        assert_eq!(names, ("a:9092, [::1]:9093", "g", "n", "t1."));
        assert_eq!((config.transactions_out_of_order_ms, config.logins_out_of_order_ms), (0, 7));
        assert_eq!((config.heartbeat(), KafkaConfig::at("b:1").heartbeat()), (None, Some(Duration::from_secs(5))));
        let properties: Vec<(&str, &str)> = config.properties.iter().map(|(k, v)| (&**k, v.expose())).collect();
        assert_eq!(
            properties,
            [
                ("reconnect.backoff.ms", "50"),
                ("sasl.password", "hunter2"),
                ("sasl.username", "u"),
                ("security.protocol", "SASL_SSL"),
                ("socket.keepalive.enable", "true"),
            ]
        );
        assert!(!format!("{config:?}").contains("hunter2"));
        let by_variable = read(&text, Some(("properties", "{debug = \"all\"}"))).unwrap().unwrap();
        assert_eq!(by_variable.properties.keys().map(|key| &**key).collect::<Vec<_>>(), ["debug"]);
    }

    #[test]
    fn faults_say_what_was_expected() {
        refuses(
            "[kafka]\ngroup_id = \"a b\"\n",
            &[
                "verdict.toml:2:12: kafka.group_id: expected 1 to 128 letters, digits, `.`, `_` and `-`, found \"a b\"",
                "verdict.toml:1:2: kafka.bootstrap_servers: expected `bootstrap_servers` such as \"localhost:9092\": \
                 without it nothing of [kafka] is used",
            ],
        );
        for servers in ["", "localhost", "a:1,", ":9092", "a:0", "a:70000"] {
            let at = "verdict.toml:2:21: kafka.bootstrap_servers: expected `host:port`, several separated by commas";
            refuses(&format!("[kafka]\nbootstrap_servers = {servers:?}\n"), &[&format!("{at}, found {servers:?}")]);
        }
        refuses(
            "[kafka]\nbootstrap_servers = \"a:1\"\ngroupid = \"g\"\nlogins_out_of_order_ms = -1\n",
            &[
                "verdict.toml:4:26: kafka.logins_out_of_order_ms: expected an integer from 0 to 86400000, found -1",
                "verdict.toml:3:1: kafka.groupid: unknown key; did you mean `group_id`?",
            ],
        );
    }

    #[test]
    fn properties_that_would_break_the_protocol_are_refused_and_values_never_shown() {
        refuses(
            "[kafka]\nbootstrap_servers = \"a:1\"\n[kafka.properties]\nacks = 1\n\"linger.ms\" = 5\n\
             sasl.password = \"hunter2\"\nsasl.password_file = \"/nowhere\"\nssl.key = [\"hunter2\"]\n",
            &[
                "verdict.toml:4:1: kafka.properties: `acks` may not be set: a record counts only once every replica in \
                 sync has it, in order and once",
                "verdict.toml:5:1: kafka.properties: `linger.ms` may not be set: a decision waits for its record; \
                 batches form by themselves",
                "verdict.toml:7:22: kafka.properties: cannot read the secret in \"/nowhere\": No such file or \
                 directory (os error 2)",
                "verdict.toml:8:11: kafka.properties: expected `ssl.key` to be a string, a number, true or false",
            ],
        );
        let errors = read("[kafka]\nbootstrap_servers = \"a:1\"\n", Some(("properties", "hunter2 ="))).unwrap_err();
        assert_eq!(errors, ["properties: kafka.properties: expected a TOML table"]);
        let errors = read("[kafka]\nbootstrap_servers = \"a:1\"\n", Some(("properties", "\"hunter2\""))).unwrap_err();
        assert_eq!(errors, ["properties: kafka.properties: expected a table of properties of librdkafka"]);
    }
}

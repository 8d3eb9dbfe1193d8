//! Kafka: acknowledged records outlive a kill; held, it answers nothing; topics have their partitions and settings.

use super::{assert_gone, output};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use verdict_tests::servers::{Kafka, KafkaOptions};
use verdict_tests::{within, workspace};

/// Produces one record, acknowledged.
fn produce(broker: &str, topic: &str, partition: u32, value: &Path) -> Result<String, String> {
    let partition = partition.to_string();
    let acknowledged = ["-X", "acks=all", "-X", "message.timeout.ms=20000"];
    let mut args = vec!["-b", broker, "-t", topic, "-p", &partition, "-P"];
    args.extend(acknowledged);
    args.push(value.to_str().unwrap());
    output("kcat", &args)
}

/// All records of a topic, from its start to its end: partition and value.
fn consume(broker: &str, topic: &str) -> String {
    output("kcat", &["-b", broker, "-t", topic, "-C", "-e", "-q", "-f", "%p %s\n"]).unwrap()
}

/// Partitions by topic, as a client lists them.
fn listed(broker: &str) -> serde_json::Value {
    serde_json::from_str(&output("kcat", &["-b", broker, "-L", "-J"]).unwrap()).unwrap()
}

fn partitions(broker: &str, topic: &str) -> usize {
    let listed = listed(broker);
    let topics = listed["topics"].as_array().unwrap();
    let found = topics.iter().find(|listed| listed["topic"] == topic).unwrap_or_else(|| panic!("{topic}: {listed}"));
    found["partitions"].as_array().unwrap().len()
}

#[test]
fn acknowledged_records_outlive_a_kill() {
    let kafka = Kafka::start(KafkaOptions::default());
    let broker = kafka.bootstrap_servers().to_owned();
    assert_eq!(partitions(&broker, "verdict.journal"), 12);
    let value = kafka.folder().join("value");
    fs::write(&value, "first").unwrap();
    produce(&broker, "verdict.journal", 11, &value).unwrap();
    kafka.kill();
    kafka.restart();
    assert_eq!(kafka.bootstrap_servers(), broker);
    fs::write(&value, "second").unwrap();
    produce(&broker, "verdict.journal", 11, &value).unwrap();
    assert_eq!(consume(&broker, "verdict.journal"), "11 first\n11 second\n");
    let folder = kafka.folder().to_owned();
    drop(kafka);
    assert_gone(&folder);
}

#[test]
fn a_held_broker_answers_when_it_goes_on() {
    let kafka = Kafka::start(KafkaOptions { partitions: 1, ..KafkaOptions::default() });
    kafka.pause();
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", kafka.bootstrap_servers(), "-L", "-m", "60"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut client = kcat.spawn().unwrap();
    assert!(within(Duration::from_millis(500), || client.try_wait().unwrap()).is_none(), "a held broker answered");
    kafka.resume();
    assert!(client.wait().unwrap().success());
}

#[test]
fn topics_of_the_shared_broker_are_apart() {
    let kafka = Kafka::shared();
    let (ours, theirs) = (kafka.fresh_topics("apart", 3), kafka.fresh_topics("apart", 2));
    assert_ne!(ours.prefix(), theirs.prefix());
    let broker = kafka.bootstrap_servers();
    assert_eq!(partitions(broker, &ours.name("transactions")), 3);
    assert_eq!(partitions(broker, &theirs.name("transactions")), 2);
}

#[test]
fn a_topic_that_was_not_made_is_not_there() {
    let kafka = Kafka::shared();
    let told = output("kcat", &["-b", kafka.bootstrap_servers(), "-t", "unknown-topic", "-C", "-e", "-q"]).unwrap_err();
    assert!(told.contains("Unknown topic"), "{told}");
    kafka.create_topic("known-topic", 5, &[("cleanup.policy", "compact")]);
    assert_eq!(partitions(kafka.bootstrap_servers(), "known-topic"), 5);
}

#[test]
fn the_largest_records_are_taken() {
    let kafka = Kafka::shared();
    let broker = kafka.bootstrap_servers();
    let topics = kafka.fresh_topics("largest", 1);
    let folder = tempfile::TempDir::new().unwrap();
    let value = folder.path().join("value");
    // 16 MiB hold the record and what surrounds it.
    let bytes = 16 * 1024 * 1024 - 1024;
    fs::write(&value, "x".repeat(bytes)).unwrap();
    for topic in ["verdict.journal", "verdict.profiles", "verdict.archive", "dead-letters"] {
        let name = topics.name(topic);
        let key = ["-P", "-b", broker, "-t", &name, "-k", "key", "-X", "message.max.bytes=17000000"];
        output("kcat", &[&key[..], &[value.to_str().unwrap()]].concat()).unwrap();
        let read = ["-C", "-b", broker, "-t", &name, "-e", "-q", "-f", "%S", "-X", "fetch.message.max.bytes=17000000"];
        assert_eq!(output("kcat", &read).unwrap(), bytes.to_string(), "{topic}");
    }
}

/// What Kafka's own client says to a request for the topics, with these properties in librdkafka's names. (The kcat of
/// Debian 12 has a librdkafka whose SCRAM Kafka 4 refuses.)
fn topics_over_tls(folder: &Path, properties: &[(String, String)]) -> Result<String, String> {
    let value = |name: &str| &properties.iter().find(|(found, _)| found == name).unwrap().1;
    let lines = format!(
        "security.protocol={}\nsasl.mechanism={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{}\" password=\"{}\";\n",
        value("security.protocol"),
        value("sasl.mechanism"),
        value("ssl.ca.location"),
        value("sasl.username"),
        value("sasl.password"),
    );
    let config = folder.join("client.properties");
    fs::write(&config, lines).unwrap();
    let jars = workspace().join(".cache/kafka-4.3.1/libs/*");
    let command = ["-cp", jars.to_str().unwrap(), "org.apache.kafka.tools.TopicCommand", "--list"];
    let place = ["--bootstrap-server", value("bootstrap.servers"), "--command-config", config.to_str().unwrap()];
    output("java", &[&command[..], &place].concat())
}

#[test]
fn the_secured_listener_wants_tls_and_the_password() {
    let kafka = Kafka::start(KafkaOptions { partitions: 1, secured: true, ..KafkaOptions::default() });
    let right = kafka.secured();
    let listed = topics_over_tls(kafka.folder(), &right).unwrap();
    assert!(listed.lines().any(|line| line == "verdict.journal"), "{listed}");
    let mut wrong = right.clone();
    wrong.iter_mut().find(|(name, _)| name == "sasl.password").unwrap().1 = "wrong".to_owned();
    let refused = topics_over_tls(kafka.folder(), &wrong).unwrap_err();
    assert!(refused.contains("invalid credentials"), "{refused}");

    // Whoever does not know the authority goes no further than the handshake.
    let known = |(name, value): &(String, String)| (name != "ssl.ca.location").then(|| format!("{name}={value}"));
    let stranger: Vec<String> = right.iter().filter_map(known).collect();
    let set = stranger.iter().flat_map(|property| ["-X", property]);
    let args: Vec<&str> = ["-L", "-m", "5"].into_iter().chain(set).collect();
    let untrusted = output("kcat", &args).unwrap_err();
    assert!(untrusted.contains("certificate"), "{untrusted}");
}

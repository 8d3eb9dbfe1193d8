//! What the brokers know of a topic. Calls block, some for as long as their time-out: never on an arbiter.

use super::{ClientLog, KafkaError, KafkaSettings, hearing};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::bindings::{rd_kafka_get_watermark_offsets, rd_kafka_resp_err_t};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::time::Duration;

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its full name.
    pub name: Box<str>,
    /// Its partitions.
    pub partitions: u32,
    /// Replicas of the partition that has the fewest.
    pub replication: u32,
    /// Its settings, defaults included.
    pub config: BTreeMap<Box<str>, Box<str>>,
}

/// The first offset that is still there, and the one that the next record will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first that is there.
    pub low: i64,
    /// Behind the last, which may be a control record.
    pub high: i64,
}

/// Asks the brokers.
pub struct Inspector {
    settings: KafkaSettings,
    client: AdminClient<ClientLog>,
    timeout: Duration,
}

impl Inspector {
    /// A client that waits so long for each answer.
    ///
    /// # Errors
    /// When librdkafka does not take the settings; whether the brokers are there shows with the first question.
    pub fn new(settings: KafkaSettings, timeout: Duration) -> Result<Self, KafkaError> {
        let made = settings.client().create_with_context(settings.log("inspector"));
        let client = made.map_err(|error| settings.explain(&error))?;
        Ok(Self { settings, client, timeout })
    }

    /// The client, for what only administration does: creating topics, deleting records.
    #[must_use]
    pub const fn admin(&self) -> &AdminClient<ClientLog> {
        &self.client
    }

    /// Partitions and replicas of these topics, by their full names, without their settings. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time, or one of the topics is not there.
    pub fn topics(&self, names: &[&str]) -> Result<Vec<TopicFacts>, KafkaError> {
        // All of them: asking for one by name may create it.
        let metadata = self.client.inner().fetch_metadata(None, self.timeout);
        let metadata = metadata.map_err(|error| {
            let what = "which topics there are".to_owned();
            match hearing::refusal(&self.settings) {
                Some(why) => KafkaError::Brokers { what: what.into(), why },
                None => self.settings.not_said(what, &error),
            }
        })?;
        names.iter().map(|name| facts(&metadata, name).ok_or_else(|| KafkaError::NoTopic((*name).into()))).collect()
    }

    /// What tells the cluster from every other. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer in time.
    pub fn cluster(&self) -> Result<Box<str>, KafkaError> {
        let id = self.client.inner().fetch_cluster_id(self.timeout);
        let (what, why) = ("which cluster they are", format!("no answer within {} s", self.timeout.as_secs()));
        id.map(Into::into).ok_or_else(|| KafkaError::Brokers { what: what.into(), why: why.into() })
    }

    /// The number of a topic's partitions. Blocks.
    ///
    /// # Errors
    /// Like [`Self::topics`].
    pub fn partitions_of(&self, name: &str) -> Result<u32, KafkaError> {
        Ok(self.topics(&[name])?.first().map_or(0, |facts| facts.partitions))
    }

    /// The facts with the settings of each topic.
    ///
    /// # Errors
    /// When the brokers do not answer in time, or may not be asked.
    pub async fn with_settings(&self, mut topics: Vec<TopicFacts>) -> Result<Vec<TopicFacts>, KafkaError> {
        let names: Vec<Box<str>> = topics.iter().map(|facts| facts.name.clone()).collect();
        let wanted: Vec<ResourceSpecifier<'_>> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = AdminOptions::new().request_timeout(Some(self.timeout));
        let not_said = |error: &_| self.settings.not_said("how topics are set up".to_owned(), error);
        let described = self.client.describe_configs(&wanted, &options).await.map_err(|error| not_said(&error))?;
        for (facts, resource) in topics.iter_mut().zip(described) {
            let resource = resource.map_err(|code| not_said(&ClientError::AdminOp(code)))?;
            let entries =
                resource.entries.into_iter().filter_map(|entry| Some((entry.name.into(), entry.value?.into())));
            facts.config = entries.collect();
        }
        Ok(topics)
    }

    /// The watermarks of a partition. Blocks.
    ///
    /// # Errors
    /// When its leader does not answer in time.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, KafkaError> {
        watermarks(&self.settings, self.client.inner(), topic, partition, self.timeout)
    }
}

/// Looks for the leader of a partition, and the pause between two: one that was just made, or has just moved, has none for
/// a moment.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The watermarks of a partition, asked by any client. Blocks.
///
/// # Errors
/// When its leader does not answer in time.
pub fn watermarks<C: ClientContext>(
    settings: &KafkaSettings,
    client: &Client<C>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<Watermarks, KafkaError> {
    let mut looks = 1;
    loop {
        match client.fetch_watermarks(topic, partition, timeout) {
            Ok((low, high)) => return Ok(Watermarks { low, high }),
            Err(error) if has_no_leader(&error) && looks < LOOKS => {
                looks += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                return Err(settings.not_said(format!("where {topic}/{partition} begins and ends"), &error));
            }
        }
    }
}

/// The watermarks of a partition as the last fetch of this consumer found them; `None` before the first. Asks nobody.
#[must_use]
pub fn fetched_watermarks<C: ClientContext>(client: &Client<C>, topic: &CStr, partition: i32) -> Option<Watermarks> {
    let (mut low, mut high) = (-1, -1);
    #[expect(unsafe_code, reason = "rdkafka has no safe form of it; the client lives, the text ends with a zero byte")]
    let found = unsafe {
        rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    let known = found == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0;
    known.then_some(Watermarks { low, high })
}

fn has_no_leader(error: &ClientError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::LeaderNotAvailable | RDKafkaErrorCode::NotLeaderForPartition))
}

fn facts(metadata: &Metadata, name: &str) -> Option<TopicFacts> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none())?;
    let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    Some(TopicFacts {
        name: name.into(),
        partitions: u32::try_from(topic.partitions().len()).ok()?,
        replication: u32::try_from(replicas).ok()?,
        config: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn knows_partitions_replicas_and_watermarks() {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("t1.transactions", 12, 3).unwrap();
        let settings = KafkaSettings::from(&KafkaConfig::at(&cluster.bootstrap_servers()));
        let inspector = Inspector::new(settings.clone(), TIMEOUT).unwrap();
        let found = inspector.topics(&["t1.transactions"]).unwrap();
        assert_eq!((found[0].partitions, found[0].replication), (12, 3));
        assert_eq!(inspector.partitions_of("t1.transactions"), Ok(12));
        let error = inspector.partitions_of("transactions").unwrap_err().to_string();
        assert_eq!(error, "expected topic `transactions`, found none; create it, or set kafka.topic_prefix");
        assert_eq!(inspector.watermarks("t1.transactions", 3), Ok(Watermarks { low: 0, high: 0 }));
        let producer: ThreadedProducer<ClientLog> =
            settings.producer().create_with_context(settings.log("test")).unwrap();
        for _ in 0..5 {
            producer.send(BaseRecord::<(), [u8]>::to("t1.transactions").partition(3).payload(b"x")).ok().unwrap();
        }
        producer.flush(TIMEOUT).unwrap();
        assert_eq!(inspector.watermarks("t1.transactions", 3), Ok(Watermarks { low: 0, high: 5 }));
    }

    #[test]
    fn brokers_that_are_not_there_are_named() {
        let settings = KafkaSettings::from(&KafkaConfig::at("127.0.0.1:1"));
        let inspector = Inspector::new(settings, Duration::from_millis(200)).unwrap();
        let error = inspector.topics(&["transactions"]).unwrap_err().to_string();
        assert!(error.starts_with("the brokers did not say which topics there are: "), "{error}");
    }
}

//! Topics into the gateway: transactions, logins and labels (PROTOCOL, Sources).
//!
//! One thread reads (`reader`); for each journal partition a task merges what its source partitions brought in event time
//! (`merge`), has it parsed by the parsers of requests (`decode`) and sends it to the shard (`pump`). Where to begin is
//! asked of the shard, which knows it from the journal; the consumer group is told, and never asked. A record whose user
//! belongs to another partition is sent there first (`moving`). Heartbeats go the same way (`heartbeats`). This node owns
//! all partitions.

mod decode;
mod heartbeats;
mod level;
mod merge;
mod moving;
mod pump;
mod reader;

pub use decode::Kind;
pub use heartbeats::Published;

use crate::actors::gateway::Gateway;
use crate::actors::partition::partition_of;
use crate::actors::source_offsets::partition_of_source;
use crate::journal::Partition;
use crate::kafka::{KafkaError, KafkaSettings, Topic, TopicFacts};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::events::{SourceAge, SourceLag, SourceRead};
use crate::telemetry::health::Readiness;
use crate::wire::AgeBounds;
use heartbeats::{Heart, Heartbeats};
use level::Level;
use moving::Mover;
use pump::Pump;
use reader::{Place, Reader};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use verdict_core::money::Rates;

/// From then on a reader that takes no turn is broken: its loop never waits for longer than some milliseconds.
const SILENCE: Duration = Duration::from_secs(10);

/// Records in flight over all partitions, a fraction of the permits, so that a backlog leaves most of them to requests; and of
/// each partition at least, which is more in all where there are hundreds of them, or few permits.
const SHARE_OF_PERMITS: usize = 4;
const MOST_IN_FLIGHT: usize = 1_024;
const LEAST_IN_FLIGHT: usize = 4;

/// What the topics must be like.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Too few partitions: users of some journal partitions would have none.
    #[error(
        "expected topic `{topic}` to have at least {journal} partitions, as many as the journal has, found {found}; add partitions to it"
    )]
    TooFewPartitions {
        /// The topic.
        topic: Box<str>,
        /// Its partitions.
        found: u32,
        /// The journal's.
        journal: Partition,
    },
    /// A client cannot be made.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// A topic that is consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it brings.
    pub kind: Kind,
    /// Its full name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: u32,
    /// How much later than a newer one a record comes at most.
    pub out_of_order_ms: i64,
}

impl Kind {
    /// Everything that is consumed.
    pub const ALL: [Self; 3] = [Self::Transactions, Self::Logins, Self::Labels];

    /// The topic that brings it.
    #[must_use]
    pub const fn topic(self) -> Topic {
        match self {
            Self::Transactions => Topic::Transactions,
            Self::Logins => Topic::Logins,
            Self::Labels => Topic::Labels,
        }
    }
}

impl Input {
    /// A topic as the brokers have it.
    ///
    /// # Errors
    /// When it has fewer partitions than the journal.
    pub fn new(kind: Kind, facts: &TopicFacts, out_of_order_ms: i64, journal: Partition) -> Result<Self, SourceError> {
        let (topic, found) = (facts.name.clone(), facts.partitions);
        if found < u32::from(journal) {
            return Err(SourceError::TooFewPartitions { topic, found, journal });
        }
        Ok(Self { kind, topic: topic.into(), partitions: found, out_of_order_ms })
    }
}

/// What consumption needs of the service.
pub struct Ports {
    gateway: Gateway,
    rates: Box<dyn Fn() -> Arc<Rates> + Send + Sync>,
    bounds: AgeBounds,
    clock: Clock,
    metrics: Metrics,
    readiness: Readiness,
    mover: Mover,
}

impl Ports {
    /// `rates` are those in force; `bounds` are held against the timestamps of records.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn new(
        settings: &KafkaSettings,
        gateway: Gateway,
        rates: impl Fn() -> Arc<Rates> + Send + Sync + 'static,
        bounds: AgeBounds,
        (clock, metrics, readiness): (Clock, Metrics, Readiness),
    ) -> Result<Self, SourceError> {
        let mover = Mover::new(settings.clone())?;
        Ok(Self { gateway, rates: Box::new(rates), bounds, clock, metrics, readiness, mover })
    }
}

/// Topics that are being consumed.
pub struct Consumption {
    reader: Reader,
    pumps: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    watching: JoinHandle<()>,
    beating: Option<JoinHandle<()>>,
}

/// How often this service sends itself a heartbeat, and how it learns that one was published.
pub struct Beating {
    /// Time between two of a partition.
    pub every: Duration,
    /// Waits for the outboxes.
    pub published: Published,
}

/// What is looked at now and then.
struct Watched {
    pulse: reader::Pulse,
    levels: Vec<(Place, Arc<Level>)>,
    heartbeats: Option<Heartbeats>,
    clock: Clock,
    metrics: Metrics,
    readiness: Readiness,
}

impl Consumption {
    /// Starts to consume, on a thread of its own and tasks of this one; `permits` is how many events may be in flight in the
    /// whole service. Without `beating` no heartbeat is sent.
    ///
    /// # Errors
    /// When librdkafka does not take the settings.
    pub fn start(
        settings: &KafkaSettings,
        inputs: &[Input],
        ports: Ports,
        permits: usize,
        beating: Option<Beating>,
    ) -> Result<Self, SourceError> {
        let journal = ports.gateway.partitions();
        let in_flight = (permits / SHARE_OF_PERMITS).min(MOST_IN_FLIGHT);
        let window = (in_flight / usize::from(journal)).max(LEAST_IN_FLIGHT);
        let (ports, stop) = (Arc::new(ports), watch::Sender::new(false));
        let topic = inputs.iter().find(|input| input.kind == Kind::Transactions);
        let (heartbeats, heart) = beating
            .zip(topic)
            .map(|(Beating { every, published }, input)| {
                Heart::new(every, Arc::clone(&ports), (Arc::clone(&input.topic), input.partitions), published)
            })
            .unzip();
        let (mut levels, mut all, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for partition in 0..journal {
            let (told, news) = mpsc::unbounded_channel();
            let mut sources = Vec::new();
            for (input, at) in places(inputs, partition, journal) {
                let (place, level) =
                    (Place { topic: Arc::clone(&input.topic), partition: at }, Arc::<Level>::default());
                levels.push((place.clone(), Arc::clone(&level)));
                sources.push(pump::Source {
                    kind: input.kind,
                    place: place.clone(),
                    out_of_order_ms: input.out_of_order_ms,
                    of: input.partitions,
                    number: all.len(),
                    level: Arc::clone(&level),
                });
                all.push(reader::Source { place, index: sources.len() - 1, level, news: told.clone() });
            }
            groups.push((partition, sources, news));
        }
        let reader = Reader::start(settings, all, ports.clock.clone())?;
        let pumps = groups.into_iter().map(|(partition, sources, news)| {
            let (ports, orders, stop) = (Arc::clone(&ports), reader.orders(), stop.subscribe());
            let heartbeats = heartbeats.clone();
            let pump = Pump {
                partition,
                sources,
                ports,
                orders,
                news,
                stop,
                window,
                heartbeats,
                troubled: BTreeSet::new(),
                reading: 0,
            };
            actix::spawn(pump.run())
        });
        let pumps = pumps.collect();
        let beating = heart.map(|heart| actix::spawn(heart.beat()));
        let (clock, metrics, readiness) = (ports.clock.clone(), ports.metrics.clone(), ports.readiness.clone());
        let watched = Watched { pulse: reader.pulse(), levels, heartbeats, clock, metrics, readiness };
        let watching = actix::spawn(watched.watch());
        Ok(Self { reader, pumps, stop, watching, beating })
    }

    /// Sends nothing more, waits until what was sent is in the journal, and ends.
    pub async fn stop(self) {
        if let Some(beating) = &self.beating {
            beating.abort();
        }
        self.stop.send_replace(true);
        for pump in self.pumps {
            // A pump that panicked has logged it.
            let _ = pump.await;
        }
        self.watching.abort();
        let reader = self.reader;
        // It waits for the thread's last turn, and for librdkafka to close.
        let _ = tokio::task::spawn_blocking(move || reader.stop()).await;
    }
}

impl Watched {
    /// Measures how far behind the topics are, and looks whether the thread that reads them is alive, again and again.
    async fn watch(self) {
        loop {
            for (Place { topic, partition }, level) in &self.levels {
                let partition = *partition;
                if let Some(records) = level.lag() {
                    let next = level.reached().max(0).cast_unsigned();
                    SourceLag { topic, partition, records, next }.emit(&self.metrics);
                }
                if let Some(ms) = level.age_ms(self.clock.now()) {
                    // Milliseconds of any age are exact in a float.
                    SourceAge { topic, partition, seconds: ms as f64 / 1e3 }.emit(&self.metrics);
                }
                SourceRead { topic, partition, records: level.read() }.emit(&self.metrics);
            }
            if let Some(heartbeats) = &self.heartbeats {
                heartbeats.show();
            }
            let silence = self.pulse.silence();
            let secs = silence.as_secs();
            let broken = (silence > SILENCE)
                .then(|| Arc::from(format!("the thread that reads topics has been silent for {secs} s")));
            self.readiness.set_source(READER, broken);
            actix::clock::sleep(LOOK_EVERY).await;
        }
    }
}

/// How often levels are measured.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The name under which the thread that reads reports to readiness.
const READER: &str = "kafka";

/// The partitions of topics whose records go to a journal partition.
fn places(inputs: &[Input], own: Partition, journal: Partition) -> impl Iterator<Item = (&Input, i32)> {
    inputs.iter().flat_map(move |input| {
        let all = 0..i32::try_from(input.partitions).unwrap_or(i32::MAX);
        all.filter(move |at| partition_of_source(*at, journal) == Some(own)).map(move |at| (input, at))
    })
}

/// The partition of a topic where a user's events belong: where the Java client would put them, if that goes to the user's
/// journal partition, else the one with its number.
fn home_of(user_id: &str, topic_partitions: u32, journal: Partition) -> i32 {
    let own = partition_of(user_id, journal);
    let by_key = Partition::try_from(topic_partitions).map(|all| i32::from(partition_of(user_id, all)));
    by_key.ok().filter(|at| partition_of_source(*at, journal) == Some(own)).unwrap_or_else(|| i32::from(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn input(topic: &str, partitions: u32) -> Result<Input, SourceError> {
        let facts = TopicFacts { name: topic.into(), partitions, replication: 1, config: BTreeMap::new() };
        Input::new(Kind::Logins, &facts, 5, 4)
    }

    #[test]
    fn a_topic_has_at_least_as_many_partitions_as_the_journal() {
        assert!(input("t", 4).is_ok());
        assert_eq!(
            input("t", 3).unwrap_err().to_string(),
            "expected topic `t` to have at least 4 partitions, as many as the journal has, found 3; add partitions to it"
        );
    }

    #[test]
    fn surplus_partitions_go_round() {
        let inputs = [input("t", 10).unwrap(), input("l", 4).unwrap()];
        let found: Vec<(&str, i32)> = places(&inputs, 1, 4).map(|(input, at)| (&*input.topic, at)).collect();
        assert_eq!(found, [("t", 1), ("t", 5), ("t", 9), ("l", 1)]);
        let all: usize = (0..4).map(|own| places(&inputs, own, 4).count()).sum();
        assert_eq!(all, 14);
    }

    #[test]
    fn a_home_is_where_the_users_journal_partition_is_fed_from() {
        for user in 0..500 {
            let user = format!("u-{user}");
            for partitions in [4, 6, 8, 12] {
                let home = home_of(&user, partitions, 4);
                assert_eq!(partition_of_source(home, 4), Some(partition_of(&user, 4)));
                let by_key = i32::from(partition_of(&user, partitions as Partition));
                assert!(partitions % 4 != 0 || home == by_key, "{user} in {partitions}");
            }
        }
    }
}

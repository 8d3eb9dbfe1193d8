//! Where the service keeps what must survive: in its data folder, or, where `[kafka]` names brokers, in their topics.

use super::brokers;
use super::publishing::Publishing;
use crate::config::Config;
use crate::journal::checkpoint::kafka::{KafkaCheckpoints, profiles, starts};
use crate::journal::checkpoint::{CheckpointStore, Checkpoints};
use crate::journal::kafka::KafkaJournal;
use crate::journal::record::Record;
use crate::journal::spill::{self, Spill};
use crate::journal::{DirLock, Journal, JournalError, JournalObserver, LogJournal, Partition, Wanted};
use crate::kafka::{Compacted, KafkaSettings, Scribes, Topic};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::events::SpillLevel;
use crate::telemetry::health::Readiness;
use anyhow::bail;
use futures_util::stream::BoxStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// From then on a journal that reads nothing back is broken: its loop never waits for longer than some milliseconds.
const SILENCE: Duration = Duration::from_secs(10);

/// How long what is on its way to the brokers has at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Storage {
    /// The truth.
    pub(crate) journal: Arc<dyn Journal>,
    /// What saves replaying all of it.
    pub(super) checkpoints: Arc<dyn Checkpoints>,
    pub(super) kafka: Option<OnKafka>,
}

/// What there is on Kafka only; cheap to clone.
#[derive(Clone)]
pub(super) struct OnKafka {
    pub(super) settings: KafkaSettings,
    pub(super) journal: Arc<KafkaJournal>,
    pub(super) scribes: Arc<Scribes>,
    pub(super) profiles: Arc<Compacted>,
    /// Where answers are kept whose records are late.
    spill: Arc<Spill>,
}

impl Storage {
    /// Opens what the configuration means. Whoever holds the lock owns the folder, as long as the journal in it is open.
    ///
    /// # Errors
    /// What cannot be opened, or is not what it should be.
    pub(crate) async fn open(config: &Config, lock: DirLock) -> anyhow::Result<Self> {
        let Some(kafka) = &config.kafka else {
            let checkpoints = Arc::new(CheckpointStore::open(&config.data.dir).await?);
            let journal = Arc::new(LogJournal::open(lock, config.data.partitions).await?);
            spill::expect_empty(&config.data.dir, "the data folder")?;
            return Ok(Self { journal, checkpoints, kafka: None });
        };
        refuse_embedded(&config.data.dir)?;
        let (settings, data) = (KafkaSettings::from(kafka), &config.data);
        let on_kafka = OnKafka::open(settings, data.partitions, &data.dir, kafka.spill_max_bytes).await?;
        let journal: Arc<dyn Journal> = on_kafka.journal.clone();
        let (scribes, profiles) = (Arc::clone(&on_kafka.scribes), Arc::clone(&on_kafka.profiles));
        let checkpoints = Arc::new(KafkaCheckpoints::new(scribes, profiles, Arc::clone(&journal)));
        Ok(Self { journal, checkpoints, kafka: Some(on_kafka) })
    }

    /// Where answers are kept whose records are late, if any may be given.
    pub(super) fn spill(&self) -> Option<Arc<Spill>> {
        self.kafka.as_ref().map(|kafka| Arc::clone(&kafka.spill))
    }

    /// What publishes from the journal, if there is anywhere to publish to.
    pub(super) fn publishing(&self) -> Option<Publishing> {
        self.kafka.clone().map(Publishing::start)
    }

    /// Ends what has threads of its own, within a few seconds.
    pub(super) async fn close(self) {
        if let Some(OnKafka { journal, scribes, spill, .. }) = self.kafka {
            let closing = tokio::task::spawn_blocking(move || {
                scribes.close(CLOSE_LIMIT);
                journal.close(CLOSE_LIMIT);
            });
            // A panic in it was logged, and nothing is left to be done.
            let _ = closing.await;
            spill.close().await;
        }
    }
}

/// A journal that is only looked at, also while a service writes it.
pub(crate) enum Observed {
    Folder(JournalObserver),
    Kafka(KafkaJournal),
}

impl Observed {
    /// Looks at the journal that the configuration means, and changes nothing.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let Some(kafka) = &config.kafka else {
            return Ok(Self::Folder(JournalObserver::open(&config.data.dir).await?));
        };
        // It writes nothing before it takes a partition over.
        let (settings, partitions) = (KafkaSettings::from(kafka), config.data.partitions);
        let journal = KafkaJournal::open(settings.clone(), partitions, Clock::System).await?;
        begin(&journal, &settings, &profiles(&settings, partitions, Clock::System)).await?;
        Ok(Self::Kafka(journal))
    }

    /// Number of records, if it is known before they are read.
    pub(crate) fn records(&self) -> Option<u64> {
        match self {
            Self::Folder(journal) => Some(journal.records()),
            Self::Kafka(_) => None,
        }
    }

    /// Every record there is, in the order of its partition.
    pub(crate) fn replay(&self) -> BoxStream<'_, Result<Record, JournalError>> {
        match self {
            Self::Folder(journal) => journal.replay(),
            Self::Kafka(journal) => {
                let everything = (0..journal.partitions()).map(|partition| (partition, 0)).collect();
                journal.replay(everything, Wanted::Everything)
            }
        }
    }
}

impl OnKafka {
    /// The folder holds the spill, of at most so many bytes.
    pub(super) async fn open(
        settings: KafkaSettings,
        partitions: Partition,
        folder: &Path,
        spill_max_bytes: usize,
    ) -> anyhow::Result<Self> {
        let wanted = [Topic::Profiles, Topic::Alerts, Topic::DeadLetters, Topic::Archive];
        let facts = brokers::topics(&settings, &wanted).await?;
        // A checkpoint is in its user's partition.
        if let Some(facts) = facts.first().filter(|facts| facts.partitions != u32::from(partitions)) {
            bail!(
                "expected topic `{}` to have {partitions} partitions, as many as the journal has, found {}",
                facts.name,
                facts.partitions
            );
        }
        let journal = Arc::new(KafkaJournal::open(settings.clone(), partitions, Clock::System).await?);
        let spill = Spill::open(folder, &settings.topic(Topic::Journal), spill_max_bytes)?;
        let scribes = Arc::new(Scribes::new(settings.clone(), Clock::System));
        let profiles = profiles(&settings, partitions, Clock::System);
        begin(&journal, &settings, &profiles).await?;
        Ok(Self { settings, journal, scribes, profiles, spill: Arc::new(spill) })
    }

    /// Shows how many answers wait for their records, and when the journal's reader hangs: nothing becomes durable then.
    pub(super) fn look(&self, readiness: &Readiness, metrics: &Metrics) {
        let level = self.spill.level();
        SpillLevel { entries: level.entries, bytes: level.bytes }.emit(metrics);
        readiness.set_spill(level.into());
        let silence = Clock::System.since(self.journal.tail_polled());
        let secs = silence.as_secs();
        let broken = (silence > SILENCE).then(|| format!("the journal has read nothing back for {secs} s").into());
        readiness.set_source("journal", broken);
    }
}

/// Tells the journal where those of its partitions begin that were trimmed. Only then are the checkpoints asked.
async fn begin(journal: &KafkaJournal, settings: &KafkaSettings, profiles: &Arc<Compacted>) -> anyhow::Result<()> {
    let trimmed = brokers::trimmed(settings, journal.partitions()).await?;
    if !trimmed.is_empty() {
        journal.begin_at(&starts(profiles, trimmed).await?);
    }
    Ok(())
}

/// Refuses a data folder whose journal is in it: a service that begins another one beside it would have forgotten
/// everything.
fn refuse_embedded(dir: &Path) -> anyhow::Result<()> {
    if dir.join("journal").exists() {
        bail!(
            "expected the journal on Kafka, as [kafka] says, found one in {}: use another data folder to begin with an empty \
             history, or take [kafka] out",
            dir.display()
        );
    }
    Ok(())
}

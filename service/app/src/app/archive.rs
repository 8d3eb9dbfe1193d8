//! Where rule sets and models are kept by hash before a record names them (I8): the folder `archive/` of the data folder,
//! and with `[kafka]` the topic `verdict.archive` as well, so that what decided survives the machine.
//!
//! The folder is then a cache of the topic: what it lacks is read from there. Calls block: never on an arbiter.

use super::Deciding;
use crate::config::{Config, KafkaConfig};
use crate::kafka::{Files, KafkaSettings, TopicArchive};
use crate::model::{ModelHost, Search};
use crate::rulebook::Rulebook;
use crate::telemetry::clock::Clock;
use crate::wire::hex;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module; cheap to clone.
#[derive(Clone)]
pub(crate) struct Archive {
    data_dir: PathBuf,
    topic: Option<Arc<TopicArchive>>,
}

impl Archive {
    /// The archive that the configuration means; nothing is opened yet.
    pub(crate) fn of(config: &Config) -> Self {
        let topic = |kafka: &KafkaConfig| Arc::new(TopicArchive::new(KafkaSettings::from(kafka), Clock::System));
        Self { data_dir: config.data.dir.clone(), topic: config.kafka.as_ref().map(topic) }
    }

    /// Keeps rules and model wherever they are not yet; to be done before any record names them.
    ///
    /// # Errors
    /// One place does not take them.
    pub(super) fn keep(&self, deciding: &Deciding) -> anyhow::Result<()> {
        let Deciding { rulebook, model, .. } = deciding;
        rulebook.archive(&self.data_dir)?;
        if let Some(model) = model {
            model.archive(&self.data_dir)?;
        }
        let Some(topic) = &self.topic else { return Ok(()) };
        let not_kept = "rules and model decide only once they are archived";
        topic.keep(&ruleset_key(&rulebook.rules().hash()), &rulebook.archived_files()).context(not_kept)?;
        if let Some(model) = model {
            topic.keep(&model_key(&model.reference().sha256), &model.archived_files()).context(not_kept)?;
        }
        Ok(())
    }

    /// The rule set of a hash.
    ///
    /// # Errors
    /// It is nowhere, or not what its hash says.
    pub(crate) fn ruleset(&self, hash: &[u8; 32]) -> anyhow::Result<Rulebook> {
        let in_folder = Rulebook::load_archived(&self.data_dir, hash);
        self.or_of_topic(in_folder, &ruleset_key(hash), |place, files| {
            Rulebook::from_archived(place, hash, |name| file(files, name))
        })
    }

    /// The model of a hash, through the gate again.
    ///
    /// # Errors
    /// It is nowhere, or refused.
    pub(crate) fn model(&self, sha256: &[u8; 32], search: &Search) -> anyhow::Result<ModelHost> {
        let in_folder = ModelHost::load_archived(&self.data_dir, sha256, search);
        self.or_of_topic(in_folder, &model_key(sha256), |place, files| {
            ModelHost::from_archived(place, sha256, search, |name| file(files, name))
        })
    }

    /// What the folder has, else what the topic has. If neither has it, the folder's error is told, and that the topic was
    /// asked.
    fn or_of_topic<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        in_folder: Result<T, E>,
        key: &str,
        make: impl FnOnce(&Path, &Files) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        let (why, topic) = match (in_folder, &self.topic) {
            (Ok(found), _) => return Ok(found),
            (Err(why), None) => return Err(why.into()),
            (Err(why), Some(topic)) => (why, topic),
        };
        match topic.read(key)? {
            Some(files) => Ok(make(&Path::new(&**topic.topic()).join(key), &files)?),
            None => Err(why).with_context(|| format!("topic {} does not hold {key} either", topic.topic())),
        }
    }
}

fn ruleset_key(hash: &[u8; 32]) -> String {
    format!("ruleset/{}", hex(hash))
}

fn model_key(sha256: &[u8; 32]) -> String {
    format!("model/{}", hex(sha256))
}

fn file(files: &Files, name: &str) -> Option<Vec<u8>> {
    files.iter().find(|(kept, _)| **kept == *name).map(|(_, bytes)| bytes.clone())
}

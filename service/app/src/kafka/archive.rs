//! Files by key in the compacted topic `verdict.archive`, for as long as the journal names them (DESIGN, Journal).
//!
//! A file goes in chunks of at most 1 MiB, each under the hash of its bytes, to the last partition of the topic; the
//! manifest of all files of a key goes to the first partition, once every chunk is acknowledged. So whoever finds a
//! manifest finds all of it, writers that do the same at the same time change nothing, and a start reads manifests only.
//! What is read is held against its hashes, so that it is what was written or an error. Nothing is ever deleted.

use super::scan::Scan;
use super::{Compacted, Inspector, KafkaError, KafkaSettings, SendError, Sender, Topic};
use crate::telemetry::clock::Clock;
use rdkafka::message::Message as _;
use rdkafka::producer::BaseRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tracing::warn;

/// In the log.
const CLIENT: &str = "archive";
/// How long the brokers have to say how many partitions there are.
const PATIENCE: Duration = Duration::from_secs(15);
/// Far below what a record may have, so that a chunk is never refused for its size and never holds much else up.
const CHUNK_BYTES: usize = 1 << 20;
/// Where the manifests are.
const MANIFESTS: u16 = 0;
/// What the keys of chunks begin with.
const CHUNK: &str = "chunk/";
/// Of the manifest's form.
const VERSION: u32 = 1;

/// The files of a key, by name.
pub type Files = Vec<(Box<str>, Vec<u8>)>;

/// Why files cannot be archived, or read from the archive.
#[derive(Debug, Error)]
pub enum TopicArchiveError {
    /// The brokers did not answer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The brokers did not take it.
    #[error("{key} cannot be archived in topic {topic}: {error}")]
    Send {
        /// The topic.
        topic: Arc<str>,
        /// What was to be kept.
        key: Box<str>,
        /// Why it was not.
        error: SendError,
    },
    /// It is not what was written.
    #[error(
        "{key} in topic {topic} is damaged: {what}; a service that has the same rules or model writes it again at its start"
    )]
    Damaged {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        key: Box<str>,
        /// What was expected and found.
        what: Box<str>,
    },
}

/// The stored form of what a key holds.
#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// The partition of the chunks, and an offset before all of them as they were first written.
    partition: u16,
    from: i64,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: Box<str>,
    /// Of all its bytes, in hexadecimal.
    sha256: Box<str>,
    /// Hashes of its chunks, in order.
    chunks: Vec<Box<str>>,
}

/// See the module. Its calls block: never on an arbiter.
pub struct TopicArchive {
    settings: KafkaSettings,
    clock: Clock,
    topic: Arc<str>,
    manifests: Compacted,
}

impl TopicArchive {
    /// The archive of these brokers; none of them is asked yet.
    #[must_use]
    pub fn new(settings: KafkaSettings, clock: Clock) -> Self {
        let topic = settings.topic(Topic::Archive);
        let manifests =
            Compacted::new(settings.clone(), Arc::clone(&topic), MANIFESTS + 1, CHUNK.as_bytes(), clock.clone());
        Self { settings, clock, topic, manifests }
    }

    /// The full name of its topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Keeps files under a key, unless they are there; `true` if they were written. When it returns, they are acknowledged
    /// by every replica that is in sync.
    ///
    /// # Errors
    /// The brokers do not answer or do not take it; what was written of it then is of no use and no harm.
    pub fn keep(&self, key: &str, files: &[(&str, &[u8])]) -> Result<bool, TopicArchiveError> {
        match self.read(key) {
            Ok(Some(_)) => return Ok(false),
            Ok(None) => {}
            Err(error @ TopicArchiveError::Damaged { .. }) => warn!(%error, "writing it again"),
            Err(error) => return Err(error),
        }
        let partition = self.last_partition()?;
        let from = self.scan()?.watermarks(partition)?.high;
        let entry = |&(name, bytes): &(&str, &[u8])| Entry {
            name: name.into(),
            sha256: hash(bytes),
            chunks: bytes.chunks(CHUNK_BYTES).map(hash).collect(),
        };
        let manifest = Manifest { version: VERSION, partition, from, files: files.iter().map(entry).collect() };
        self.write(key, &manifest, files).map_err(|error| TopicArchiveError::Send {
            topic: Arc::clone(&self.topic),
            key: key.into(),
            error,
        })?;
        Ok(true)
    }

    /// The files of a key, as they were kept; `None` if they never were.
    ///
    /// # Errors
    /// The brokers do not answer, or what is there is not what was written.
    pub fn read(&self, key: &str) -> Result<Option<Files>, TopicArchiveError> {
        let manifests = self.manifests.small(MANIFESTS)?;
        let Some(value) = manifests.get(key.as_bytes()) else { return Ok(None) };
        let damaged = |what: String| TopicArchiveError::Damaged {
            topic: Arc::clone(&self.topic),
            key: key.into(),
            what: what.into(),
        };
        let manifest: Manifest =
            serde_json::from_slice(value).map_err(|error| damaged(format!("its manifest cannot be read: {error}")))?;
        if manifest.version != VERSION {
            return Err(damaged(format!("expected a manifest of version {VERSION}, found {}", manifest.version)));
        }
        let chunks = self.chunks(&manifest)?;
        let file = |entry: &Entry| {
            let mut bytes = Vec::new();
            for chunk in &entry.chunks {
                let found = chunks.get(chunk).ok_or_else(|| format!("a chunk of {} is not there", entry.name))?;
                bytes.extend_from_slice(found);
            }
            let found = hash(&bytes);
            if found != entry.sha256 {
                return Err(format!("expected {} with sha256 {}, found {found}", entry.name, entry.sha256));
            }
            Ok((entry.name.clone(), bytes))
        };
        manifest.files.iter().map(file).collect::<Result<Files, String>>().map(Some).map_err(damaged)
    }

    /// Sends the chunks, and once they are acknowledged the manifest.
    fn write(&self, key: &str, manifest: &Manifest, files: &[(&str, &[u8])]) -> Result<(), SendError> {
        let sender = Sender::new(self.settings.clone(), CLIENT, std::thread::sleep)?;
        for chunk in files.iter().flat_map(|(_, bytes)| bytes.chunks(CHUNK_BYTES)) {
            let key = format!("{CHUNK}{}", hash(chunk));
            let record = BaseRecord::to(&self.topic).partition(manifest.partition.into());
            sender.send(record.key(key.as_bytes()).payload(chunk))?;
        }
        sender.finish()?;
        #[expect(
            clippy::expect_used,
            reason = "invariant: it holds texts and numbers, nothing that JSON has no form for"
        )]
        let value = serde_json::to_vec(manifest).expect("a manifest");
        let record = BaseRecord::to(&self.topic).partition(MANIFESTS.into());
        sender.send(record.key(key.as_bytes()).payload(&value))?;
        sender.finish()
    }

    /// The chunks of these files that are there and are what their keys say.
    fn chunks(&self, manifest: &Manifest) -> Result<HashMap<Box<str>, Vec<u8>>, KafkaError> {
        let mut missing: HashSet<&str> =
            manifest.files.iter().flat_map(|file| file.chunks.iter().map(AsRef::as_ref)).collect();
        let mut found = HashMap::new();
        let scan = self.scan()?;
        let there = scan.watermarks(manifest.partition)?;
        // In a topic that was copied from elsewhere they are where they are.
        for from in [manifest.from.clamp(there.low, there.high), there.low] {
            if missing.is_empty() {
                break;
            }
            scan.read(manifest.partition, from, None, &mut |message| {
                let key = message.key().and_then(|key| str::from_utf8(key).ok()?.strip_prefix(CHUNK));
                if let (Some(key), Some(bytes)) = (key, message.payload())
                    && missing.contains(key)
                    && *hash(bytes) == *key
                {
                    missing.remove(key);
                    found.insert(key.into(), bytes.to_vec());
                }
                if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(found)
    }

    fn scan(&self) -> Result<Scan, KafkaError> {
        Scan::new(self.settings.clone(), Arc::clone(&self.topic), self.clock.clone(), CLIENT)
    }

    /// The last partition: the first one, which every start reads, is left to manifests where there are more.
    fn last_partition(&self) -> Result<u16, KafkaError> {
        let partitions = Inspector::new(self.settings.clone(), PATIENCE)?.partitions_of(&self.topic)?;
        Ok(u16::try_from(partitions.saturating_sub(1)).unwrap_or(u16::MAX))
    }
}

/// In hexadecimal.
fn hash(bytes: &[u8]) -> Box<str> {
    format!("{:x}", Sha256::digest(bytes)).into()
}

#[cfg(test)]
mod tests;

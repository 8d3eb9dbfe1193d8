//! What the brokers say of the topics, held against the protocol before anything starts.

use crate::journal::Partition;
use crate::kafka::{Inspector, KafkaError, KafkaSettings, Topic, TopicFacts, judge};
use anyhow::{Context as _, bail};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// How long the brokers have to say what topics there are.
const PATIENCE: Duration = Duration::from_secs(15);

/// What tells the journal in this topic from every other.
///
/// # Errors
/// When the brokers do not answer.
pub(super) async fn journal_identity(settings: &KafkaSettings) -> anyhow::Result<Arc<str>> {
    let inspector = Inspector::new(settings.clone(), PATIENCE)?;
    let cluster = tokio::task::spawn_blocking(move || inspector.cluster()).await.context("asking the brokers")??;
    Ok(format!("{cluster}/{}", settings.topic(Topic::Journal)).into())
}

/// Partitions of the journal that do not begin with their first entry.
///
/// # Errors
/// When the brokers do not answer.
pub(super) async fn trimmed(settings: &KafkaSettings, partitions: Partition) -> anyhow::Result<Vec<Partition>> {
    let inspector = Inspector::new(settings.clone(), PATIENCE)?;
    let topic = settings.topic(Topic::Journal);
    let asked = tokio::task::spawn_blocking(move || {
        let mut trimmed = Vec::new();
        for partition in 0..partitions {
            if inspector.watermarks(&topic, partition.into())?.low > 0 {
                trimmed.push(partition);
            }
        }
        Ok::<_, KafkaError>(trimmed)
    });
    Ok(asked.await.context("asking the brokers")??)
}

/// Facts of these topics, which are fit for what they are used for; what may cost records one day is a warning.
///
/// # Errors
/// One is missing or would lose records, or the brokers do not answer.
pub(super) async fn topics(settings: &KafkaSettings, topics: &[Topic]) -> anyhow::Result<Vec<TopicFacts>> {
    let inspector = Inspector::new(settings.clone(), PATIENCE)?;
    let names: Vec<Arc<str>> = topics.iter().map(|topic| settings.topic(*topic)).collect();
    let asked = tokio::task::spawn_blocking(move || {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        inspector.topics(&names).map(|facts| (inspector, facts))
    });
    let (inspector, facts) = asked.await.context("asking the brokers")??;
    let facts = inspector.with_settings(facts).await?;
    let mut faults = Vec::new();
    for (topic, facts) in topics.iter().zip(&facts) {
        let found = judge(*topic, facts);
        found.warnings.iter().for_each(|warning| warn!("{warning}"));
        faults.extend(found.faults);
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(facts)
}

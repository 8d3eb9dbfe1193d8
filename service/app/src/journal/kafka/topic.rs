//! The journal's topic, looked at before it is used: a journal that might lose or refuse a record is not opened.

use crate::journal::{JournalError, Partition};
use crate::kafka::{Inspector, KafkaError, KafkaSettings, Topic, judge};
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers may take for each answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Checks the topic against the protocol; what only a lost broker would bring to light is a warning in the log.
pub(super) async fn check(settings: KafkaSettings, partitions: Partition) -> Result<Arc<str>, JournalError> {
    let name = settings.topic(Topic::Journal);
    let failed = |error: KafkaError| JournalError::Store(error.to_string().into());
    let asked = {
        let name = Arc::clone(&name);
        tokio::task::spawn_blocking(move || {
            let inspector = Inspector::new(settings, ASK_LIMIT)?;
            let facts = inspector.topics(&[&name])?;
            Ok((inspector, facts))
        })
    };
    let asked = asked.await.map_err(|error| JournalError::Store(format!("the reader was stopped: {error}").into()))?;
    let (inspector, facts) = asked.map_err(failed)?;
    let facts = inspector.with_settings(facts).await.map_err(failed)?;
    // It waits for its own threads.
    drop(tokio::task::spawn_blocking(move || drop(inspector)));
    let mut faults = Vec::new();
    for facts in &facts {
        if facts.partitions != u32::from(partitions) {
            faults.push(format!(
                "{name} has {} partitions, the configuration says {partitions}; set data.partitions = {}, or use another \
                 topic: the number is fixed for the life of a journal",
                facts.partitions, facts.partitions
            ));
        }
        let found = judge(Topic::Journal, facts);
        found.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        faults.extend(found.faults);
    }
    if faults.is_empty() { Ok(name) } else { Err(JournalError::Store(faults.join("; ").into())) }
}

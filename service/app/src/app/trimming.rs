//! Trims a journal on Kafka, where `kafka.journal_retention_days` says so: as far as nobody needs what is deleted.
//!
//! What holds it: the last checkpoint of each partition (`Trimmer` looks itself), what was published of it, and what the
//! review store reflects. The mirror of the lists does not: one that falls that far behind is written again from the
//! checkpoint. Whoever cannot be asked holds everything. A failure deletes nothing, and decisions go on either way.

use super::storage::OnKafka;
use crate::actors::gateway::Gateway;
use crate::config::Config;
use crate::journal::checkpoint::kafka::Trimmer;
use crate::journal::{Journal as _, Partition};
use crate::projections::outbox;
use crate::projections::review_store::ReviewStore;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::events::{JournalStart, JournalTrimmed};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use verdict_core::profile::LONGEST_WINDOW_MS;
use verdict_core::time::{DAY_MS, HOUR_MS};

/// Time between two rounds: what is deleted is days old.
const ROUND_EVERY: Duration = Duration::from_secs(60);
/// Time until the next, after a failure: brokers that were away are back soon.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// How long records are kept, in milliseconds; `None` for ever. Beyond what the setting says, nothing goes that a duplicate
/// may ask for, or that lies in a window of an event that may still come, which may be as far ahead as is accepted.
fn keep_ms(config: &Config) -> Option<i64> {
    let asked = config.kafka.as_ref().map_or(0, |kafka| kafka.journal_retention_days);
    let (asked, dedupe) = (i64::from(asked) * DAY_MS, i64::from(config.data.dedupe_days) * DAY_MS);
    let ahead = i64::from(config.data.max_ahead_hours) * HOUR_MS;
    (asked > 0).then(|| asked.max(dedupe).max(LONGEST_WINDOW_MS) + ahead)
}

/// Starts to trim once all partitions are taken over; `None` where nothing is to be trimmed.
pub(super) fn start(
    config: &Config,
    kafka: Option<OnKafka>,
    reviews: Arc<dyn ReviewStore>,
    gateway: Gateway,
    metrics: Metrics,
) -> Option<JoinHandle<()>> {
    let (kafka, keep_ms) = (kafka?, keep_ms(config)?);
    Some(actix::spawn(async move {
        if gateway.serving().await.is_err() {
            return;
        }
        let journal = Arc::clone(&kafka.journal);
        let written = (Arc::clone(&kafka.scribes), Arc::clone(&kafka.profiles));
        let mut trimmer = Trimmer::new(kafka.settings.clone(), written, journal, Clock::System, keep_ms);
        loop {
            let done = round(&mut trimmer, &kafka, &*reviews, &metrics).await;
            if let Err(error) = &done {
                warn!(error = format!("{error:#}"), "the journal is not trimmed for now");
            }
            for partition in 0..kafka.journal.partitions() {
                JournalStart { partition, first: kafka.journal.first(partition) }.emit(&metrics);
            }
            actix::clock::sleep(if done.is_ok() { ROUND_EVERY } else { AGAIN_AFTER }).await;
        }
    }))
}

async fn round(
    trimmer: &mut Trimmer,
    kafka: &OnKafka,
    reviews: &dyn ReviewStore,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let due = trimmer.due().await?;
    if due.is_empty() {
        return Ok(());
    }
    let reviewed = reviews.positions().await?;
    let reviewed: BTreeMap<Partition, u64> =
        reviewed.into_iter().map(|reached| (reached.partition, reached.n)).collect();
    for partition in due {
        let profiles = Arc::clone(&kafka.profiles);
        let published = tokio::task::spawn_blocking(move || outbox::kafka::stored(&profiles, partition)).await;
        let published = published.context("reading what was published")??.first().n;
        let reviewed = reviewed.get(&partition).copied().unwrap_or(0);
        if let Some(trimmed) = trimmer.trim(partition, published.min(reviewed)).await? {
            info!(partition, first = trimmed.first_n, records = trimmed.records, "the journal was trimmed");
            JournalTrimmed { records: trimmed.records }.emit(metrics);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

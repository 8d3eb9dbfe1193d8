//! Which review store a configuration means: the file of the data directory, or the database that `[postgres]` names; and
//! what is done to it from the command line.

use super::storage::Observed;
use super::{brokers, seed};
use crate::config::{Config, PostgresConfig};
use crate::journal::{DirLock, Journal, LockError, LogJournal, Partition};
use crate::kafka::KafkaSettings;
use crate::projections::review::ReviewProjection;
use crate::projections::review_store::postgres::{PostgresStore, Settings};
use crate::projections::review_store::sqlite::SqliteStore;
use crate::projections::review_store::{ProjectionStore as _, ReviewError, ReviewStore};
use crate::telemetry::clock::Clock;
use anyhow::{Context as _, bail};
use sqlx::postgres::PgConnectOptions;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};
use uuid::Uuid;

/// Beside the journal: what tells its rows in a database from those of another journal.
const IDENTITY: &str = "journal.id";

/// Opens the store of a journal with so many partitions. A database that cannot be reached holds up no start.
///
/// # Errors
/// A file that cannot be opened, or a database that is not for this release or this journal.
pub(super) async fn open(config: &Config, partitions: Partition) -> anyhow::Result<Arc<dyn ReviewStore>> {
    let dir = &config.data.dir;
    let Some(postgres) = &config.postgres else { return Ok(Arc::new(SqliteStore::open(dir).await?)) };
    let store = database(postgres, journal_identity(config).await?, partitions)?;
    match store.positions().await {
        Ok(_) => info!(store = %store.name(), "alerts, decisions and reviews are in the database"),
        Err(error @ ReviewError::Store(_)) => warn!(%error, "decisions go on, and it catches up once it is there"),
        Err(error) => return Err(error.into()),
    }
    Ok(Arc::new(store))
}

fn database(postgres: &PostgresConfig, journal: Arc<str>, partitions: Partition) -> anyhow::Result<PostgresStore> {
    // The configuration has checked it; its own words could show a part of it.
    let options: PgConnectOptions =
        postgres.url.expose().parse().map_err(|_| anyhow::anyhow!("postgres.url is no URL"))?;
    let settings = Settings {
        journal,
        partitions,
        decision_days: postgres.decision_days,
        max_connections: postgres.max_connections,
        migrate: postgres.migrate,
        clock: Clock::System,
    };
    Ok(PostgresStore::new(&options, settings))
}

async fn journal_identity(config: &Config) -> anyhow::Result<Arc<str>> {
    match &config.kafka {
        Some(kafka) => brokers::journal_identity(&KafkaSettings::from(kafka)).await,
        None => identity(&config.data.dir),
    }
}

/// The identity of the journal of a data directory; one that has none gets one.
fn identity(dir: &Path) -> anyhow::Result<Arc<str>> {
    let path = dir.join(IDENTITY);
    let failed = || format!("expected a file that this user may read and write at {}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = Uuid::try_parse(text.trim_end());
            Ok(id
                .with_context(|| format!("expected the identity of a journal in {}", path.display()))?
                .to_string()
                .into())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = Uuid::new_v4().to_string();
            // Whole or not at all, also after a power cut.
            let new = path.with_extension("id.new");
            let mut file = fs::File::create(&new).with_context(failed)?;
            file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
            fs::rename(&new, &path).and_then(|()| fs::File::open(dir)?.sync_all()).with_context(failed)?;
            Ok(id.into())
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Brings the database up to this release; gives the number of migrations that were missing.
///
/// # Errors
/// It cannot be reached, or a migration fails.
pub(crate) async fn migrate(postgres: &PostgresConfig) -> anyhow::Result<usize> {
    Ok(database(postgres, Arc::default(), 0)?.migrate().await?)
}

/// How a rebuild ended.
pub(crate) enum Rebuilt {
    /// The service that runs on the journal, or the next that does, reads it again from its start.
    ByTheService,
    /// Nobody did, so that it was done here: so many records were read.
    Here(u64),
}

/// Puts the store's positions back to the journal's start, and has everything read again.
///
/// # Errors
/// There is no journal, or it or the store fails.
pub(crate) async fn rebuild(config: &Config) -> anyhow::Result<Rebuilt> {
    let dir = &config.data.dir;
    // Of a journal that is not there nothing can be made, and none is begun by looking.
    let records = Observed::open(config).await?.records();
    let lock = match DirLock::acquire(dir) {
        Ok(lock) => Some(lock),
        Err(LockError::Held { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let store: Arc<dyn ReviewStore> = match &config.postgres {
        None => Arc::new(SqliteStore::open(dir).await?),
        Some(postgres) => Arc::new(database(postgres, journal_identity(config).await?, config.data.partitions)?),
    };
    store.reset().await?;
    let (Some(lock), Some(records)) = (lock, records) else { return Ok(Rebuilt::ByTheService) };
    let journal: Arc<dyn Journal> = Arc::new(LogJournal::open(lock, config.data.partitions).await?);
    if let Err(error) = ReviewProjection::new(journal, store as _, seed()).catch_up().await {
        bail!("{error}; the next start goes on from there");
    }
    Ok(Rebuilt::Here(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = identity(dir.path()).unwrap();
        assert_eq!(identity(dir.path()).unwrap(), first);
        assert_ne!(identity(tempfile::tempdir().unwrap().path()).unwrap(), first);
        fs::write(dir.path().join(IDENTITY), "mine").unwrap();
        let error = identity(dir.path()).unwrap_err().to_string();
        assert!(error.contains("expected the identity of a journal in ") && error.contains(IDENTITY), "{error}");
    }
}

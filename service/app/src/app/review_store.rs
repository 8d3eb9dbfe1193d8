//! Which review store a configuration means: the file of the data directory, or the database that `[postgres]` names.

use crate::config::Config;
use crate::journal::Partition;
use crate::projections::review_store::ReviewStore;
use crate::projections::review_store::sqlite::SqliteStore;
use std::sync::Arc;

/// Opens the store.
pub(super) async fn open(config: &Config, _partitions: Partition) -> anyhow::Result<Arc<dyn ReviewStore>> {
    Ok(Arc::new(SqliteStore::open(&config.data.dir).await?))
}

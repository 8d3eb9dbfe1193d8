//! The journal file read from outside, also while a service writes it: for commands that only look.

use super::reader::Reader;
use super::{Tail, file_in};
use crate::journal::record::Record;
use crate::journal::{JournalError, Partition};
use futures_util::stream::BoxStream;
use sqlx::Sqlite;
use std::path::Path;

/// The journal as it stood when it was opened.
#[derive(Debug)]
pub struct JournalObserver {
    reader: Reader,
    tail: Tail,
}

impl JournalObserver {
    /// Looks at `journal.db` in the directory and changes nothing.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or its last batch is damaged.
    pub async fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = file_in(dir);
        let failed = |error: sqlx::Error| JournalError::Store(crate::sqlite::explain(&path, &error));
        let mut connection = crate::sqlite::open_reader(&path, 1).await.map_err(failed)?;
        let partitions: String =
            sqlx::query_scalar::<Sqlite, String>("SELECT value FROM meta WHERE key = 'partitions'")
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
        let partitions: Partition = partitions.parse().map_err(|_| {
            let what = format!("{}: expected a number of partitions, found {partitions:?}", path.display());
            JournalError::Store(what.into())
        })?;
        let tail = Tail::load(&path, &mut connection, partitions).await?;
        Ok(Self { reader: Reader::new(path, partitions), tail })
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tail.ends.iter().sum()
    }

    /// Streams every record, in journal order.
    #[must_use]
    pub fn replay(&self) -> BoxStream<'_, Result<Record, JournalError>> {
        let from = (0..).take(self.tail.ends.len()).map(|partition| (partition, 0)).collect();
        self.reader.replay(from, self.tail.seq)
    }
}

//! The log read from outside, also while a service writes it: for commands that only look.

use super::scan::Tail;
use super::{Log, folder_in, reader, refuse_older_layout};
use crate::journal::record::Record;
use crate::journal::{JournalError, Wanted};
use futures_util::stream::BoxStream;
use std::path::Path;
use std::sync::Arc;

/// The journal as it stood when it was opened.
#[derive(Debug)]
pub struct JournalObserver {
    log: Arc<Log>,
    tail: Tail,
}

impl JournalObserver {
    /// Looks at the journal of a data directory and changes nothing.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or its last segment is damaged.
    pub async fn open(dir: &Path) -> Result<Self, JournalError> {
        let dir = dir.to_owned();
        reader::blocking(move || Self::open_now(&dir)).await
    }

    fn open_now(dir: &Path) -> Result<Self, JournalError> {
        refuse_older_layout(dir)?;
        let folder = folder_in(dir);
        let log = Log::load(&folder)?.ok_or_else(|| {
            let what = "holds no journal; check that data.dir names the right directory";
            JournalError::Store(format!("{} {what}", folder.display()).into())
        })?;
        let tail = Tail::find(&log.last())?;
        Ok(Self { log: Arc::new(log), tail })
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
        reader::replay(Arc::clone(&self.log), from, Wanted::Everything, self.tail.seq)
    }
}

//! A journal whose start was trimmed.

use super::*;
use crate::journal::{AppendError, Cursor, MemoryJournal, Tenure};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

/// As another one, but for what lies before the start of each partition.
struct Trimmed {
    journal: Arc<MemoryJournal>,
    firsts: Vec<u64>,
}

impl Trimmed {
    fn refuse(&self, partition: Partition, n: u64) -> Result<(), JournalError> {
        let first = self.first(partition);
        let refused = || JournalError::Trimmed { topic: "a test".into(), partition, n, first };
        if n < first { Err(refused()) } else { Ok(()) }
    }
}

impl Journal for Trimmed {
    fn partitions(&self) -> Partition {
        self.journal.partitions()
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        self.journal.take_over(partitions)
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.journal.append(records)
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        match from.iter().try_for_each(|&(partition, n)| self.refuse(partition, n)) {
            Ok(()) => self.journal.replay(from, wanted),
            Err(error) => Box::pin(stream::iter([Err(error)])),
        }
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        match self.refuse(partition, n) {
            Ok(()) => self.journal.read(partition, n),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.journal.durable()
    }

    fn first(&self, partition: Partition) -> u64 {
        self.firsts[usize::from(partition)]
    }
}

#[tokio::test]
async fn a_mirror_from_before_the_start_is_written_again_from_what_was_saved() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.put(merchant(&format!("m-{n}")), "old").await;
    }
    let mut behind = bench.projection();
    behind.catch_up().await.unwrap();
    let old = bench.names();
    for n in 10..30 {
        bench.put(merchant(&format!("m-{n}")), "new").await;
    }
    bench.save();
    bench.put(merchant("m-30"), "since").await;
    // One record before what was saved stays, by which the mirror's place is told.
    let firsts = bench.saved.0.lock().unwrap().values().map(|saved| saved.next_n - 1).collect();
    let journal: Arc<dyn Journal> = Arc::new(Trimmed { journal: Arc::clone(&bench.journal), firsts });
    for names in [&old, &BTreeMap::new()] {
        bench.restore(names);
        let mut projection =
            ListProjection::new(Arc::clone(&journal), Arc::clone(&bench.saved) as _, bench.mirror(), 77);
        projection.catch_up().await.unwrap();
        assert_eq!(projection.rewrites, 1);
        bench.assert_mirrored();
    }
    // One that was at it all the time, and could not write for so long: it looks again.
    bench.restore(&old);
    behind.journal = journal;
    let error = behind.catch_up().await.unwrap_err();
    assert!(matches!(error, ProjectionError::Journal(JournalError::Trimmed { .. })) && error.is_transient(), "{error}");
    behind.catch_up().await.unwrap();
    bench.assert_mirrored();
}

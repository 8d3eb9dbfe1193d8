//! The journal in memory: the same contract without the disk, for tests and for backtests.
//!
//! A record is "durable" as soon as it was appended; nothing survives the process.

use super::ledger::{Key, Ledger};
use super::record::{Body, Record};
use super::{AppendError, Cursor, Journal, JournalError, Partition, Tenure, Wanted};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub struct MemoryJournal {
    retain: bool,
    state: Mutex<State>,
    durable: watch::Sender<Vec<u64>>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// All partitions in journal order.
    log: Vec<Arc<Record>>,
    /// For every partition the place of each record in the log.
    index: Vec<Vec<usize>>,
}

impl MemoryJournal {
    /// An empty journal. With `retain` false, records are counted and dropped (a backtest needs none of them back):
    /// `replay` and `read` then find nothing.
    #[must_use]
    pub fn new(partitions: Partition, retain: bool) -> Self {
        let zeros = vec![0; usize::from(partitions)];
        let index = vec![Vec::new(); usize::from(partitions)];
        let state = State { ledger: Ledger::new(zeros.clone(), zeros.clone()), log: Vec::new(), index };
        Self { retain, state: Mutex::new(state), durable: watch::Sender::new(zeros) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed, whatever happened to another holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, records: Vec<Record>) -> Result<(), AppendError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let keys: Vec<Key> = records.iter().map(Key::from).collect();
        state.ledger.admit(&keys)?;
        if self.retain {
            for record in records {
                let place = state.log.len();
                state.index[usize::from(record.partition)].push(place);
                state.log.push(Arc::new(record));
            }
        }
        self.durable.send_modify(|durable| durable.copy_from_slice(state.ledger.next()));
        Ok(())
    }
}

impl Journal for MemoryJournal {
    fn partitions(&self) -> Partition {
        // invariant: made from a Partition
        self.durable.borrow().len() as Partition
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        let mut state = self.state();
        let tenures = state.ledger.next_epochs(&partitions).map(|epochs| state.ledger.take_over(&epochs));
        ready(tenures).boxed()
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        ready(self.append_now(records)).boxed()
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        let passes = |record: &Record| match (wanted, &record.body) {
            (Wanted::Everything, _) | (Wanted::Lists, Body::List(_)) | (Wanted::Published, Body::DeadLetter { .. }) => {
                true
            }
            (Wanted::Alerts | Wanted::Published, Body::Decision(decided)) => decided.decision.alert,
            (Wanted::Lists, Body::Decision(decided)) => decided.decision.block_entry.is_some(),
            (Wanted::Alerts | Wanted::Published | Wanted::Lists, _) => false,
        };
        let wanted = |record: &Arc<Record>| {
            from.iter().any(|&(partition, n)| partition == record.partition && record.n >= n) && passes(record)
        };
        let records: Vec<Arc<Record>> = self.state().log.iter().filter(|record| wanted(record)).cloned().collect();
        Box::pin(stream::iter(records.into_iter().map(|record| Ok(Record::clone(&record)))))
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        let state = self.state();
        let place = usize::try_from(n).ok().and_then(|n| state.index.get(usize::from(partition))?.get(n));
        ready(Ok(place.map(|&place| Record::clone(&state.log[place])))).boxed()
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.durable.subscribe()
    }
}

//! Who may append what: epochs and contiguous numbers, the same for every journal that lives in one process.
//!
//! It knows nothing of storage: whoever writes asks it first, and tells it what failed.

use super::record::Record;
use super::{AppendError, JournalError, Partition, Tenure};

/// What identifies a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) partition: Partition,
    pub(super) epoch: u64,
    pub(super) n: u64,
}

impl From<&Record> for Key {
    fn from(record: &Record) -> Self {
        Self { partition: record.partition, epoch: record.epoch, n: record.n }
    }
}

/// The state of every partition.
#[derive(Debug)]
pub(super) struct Ledger {
    next: Vec<u64>,
    epochs: Vec<u64>,
    /// Whether an append of the current epoch failed, so that its owner's memory is ahead of the truth.
    failed: Vec<bool>,
}

impl Ledger {
    /// `next`: number of the next record; `epochs`: the current epoch, 0 where there never was an owner.
    pub(super) fn new(next: Vec<u64>, epochs: Vec<u64>) -> Self {
        let failed = vec![false; next.len()];
        Self { next, epochs, failed }
    }

    /// Nobody owns any of so many partitions, and what they hold is not known.
    pub(super) fn unowned(partitions: usize) -> Self {
        Self { next: vec![0; partitions], epochs: vec![0; partitions], failed: vec![true; partitions] }
    }

    /// Number of the next record of every partition.
    pub(super) fn next(&self) -> &[u64] {
        &self.next
    }

    /// The current epoch of every partition, 0 where there never was an owner.
    pub(super) fn epochs(&self) -> &[u64] {
        &self.epochs
    }

    /// Takes what the store really holds after a failure.
    pub(super) fn correct(&mut self, next: &[u64]) {
        self.next.copy_from_slice(next);
    }

    /// Refuses records of an epoch that has ended, and ends every epoch that has a part in the refused append.
    pub(super) fn check_epochs(&mut self, keys: &[Key]) -> Result<(), AppendError> {
        let refused = keys.iter().find_map(|key| {
            let index = usize::from(key.partition);
            match self.epochs.get(index) {
                None => Some(AppendError::Store(unknown(key.partition, self.epochs.len()).into())),
                Some(epoch) if *epoch != key.epoch || self.failed[index] => {
                    Some(AppendError::Fenced { partition: key.partition, epoch: key.epoch })
                }
                Some(_) => None,
            }
        });
        refused.map_or(Ok(()), |error| {
            self.fail(keys);
            Err(error)
        })
    }

    /// Takes the records of one append, all or none; they must follow their predecessors, and be of current epochs.
    pub(super) fn admit(&mut self, keys: &[Key]) -> Result<(), AppendError> {
        self.check_epochs(keys)?;
        self.follow(keys)
    }

    /// Takes the records of one append whose epochs were checked, all or none; they must follow their predecessors.
    pub(super) fn follow(&mut self, keys: &[Key]) -> Result<(), AppendError> {
        for (taken, key) in keys.iter().enumerate() {
            let expected = self.next[usize::from(key.partition)];
            if key.n != expected {
                for earlier in &keys[..taken] {
                    self.next[usize::from(earlier.partition)] -= 1;
                }
                self.fail(keys);
                return Err(AppendError::Gap { partition: key.partition, expected, found: key.n });
            }
            self.next[usize::from(key.partition)] += 1;
        }
        Ok(())
    }

    /// Ends the epochs of these records, where they are current.
    pub(super) fn fail(&mut self, keys: &[Key]) {
        for key in keys {
            let index = usize::from(key.partition);
            if self.epochs.get(index) == Some(&key.epoch) {
                self.failed[index] = true;
            }
        }
    }

    /// Refuses partitions that do not exist.
    pub(super) fn check_partitions(&self, partitions: &[Partition]) -> Result<(), JournalError> {
        let stranger = partitions.iter().find(|partition| usize::from(**partition) >= self.epochs.len());
        stranger.map_or(Ok(()), |partition| Err(JournalError::Store(unknown(*partition, self.epochs.len()).into())))
    }

    /// Ends the epoch of a partition.
    pub(super) fn end(&mut self, partition: Partition) {
        self.failed[usize::from(partition)] = true;
    }

    /// Starts an epoch that somebody else has numbered.
    pub(super) fn start(&mut self, partition: Partition, epoch: u64, next_n: u64) -> Tenure {
        let index = usize::from(partition);
        (self.epochs[index], self.next[index], self.failed[index]) = (epoch, next_n, false);
        Tenure { partition, epoch, next_n }
    }

    /// The epochs that `take_over` would start, for whoever stores them first.
    pub(super) fn next_epochs(&self, partitions: &[Partition]) -> Result<Vec<(Partition, u64)>, JournalError> {
        let next = |partition: &Partition| match self.epochs.get(usize::from(*partition)) {
            Some(epoch) => Ok((*partition, epoch + 1)),
            None => Err(JournalError::Store(unknown(*partition, self.epochs.len()).into())),
        };
        partitions.iter().map(next).collect()
    }

    /// Starts these epochs.
    pub(super) fn take_over(&mut self, epochs: &[(Partition, u64)]) -> Vec<Tenure> {
        let start = |&(partition, epoch): &(Partition, u64)| {
            let index = usize::from(partition);
            self.epochs[index] = epoch;
            self.failed[index] = false;
            Tenure { partition, epoch, next_n: self.next[index] }
        };
        epochs.iter().map(start).collect()
    }
}

fn unknown(partition: Partition, partitions: usize) -> String {
    format!("expected a partition below {partitions}, found {partition}")
}

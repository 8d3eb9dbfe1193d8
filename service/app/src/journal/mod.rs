//! The journal: the one commit point (I2), and everything that must survive.
//!
//! Contract of the port:
//! - A **record** is durable when the future of its `append` resolves with `Ok`, and not before. Records of one `append`
//!   are admitted together or not at all; in one file they share one write and one fate, on Kafka some of them may be
//!   durable although the `append` failed.
//! - The owner of a partition numbers its records: `n` is contiguous per partition from 0, across restarts. A journal
//!   refuses a record whose `n` does not follow its predecessor's.
//! - An **epoch** is a period of one owner. `take_over` starts one; an append under an older epoch is refused
//!   (`AppendError::Fenced`). When an append fails, memory is ahead of the truth: every later append of that epoch is
//!   refused too, and the owner drops its state and recovers under a new epoch (it never carries on).
//! - `replay` streams records back in the order of their partition; what was never durable never appears.
//! - A **position** is where in a partition's storage a reader can start. Whoever saves how far it has got saves one with
//!   it, where the journal needs them: see `position` and `locate`.

pub mod checkpoint;
pub mod codec;
#[cfg(test)]
mod contract;
pub mod kafka;
mod ledger;
mod lock;
mod log;
mod memory;
pub mod profile;
#[cfg(test)]
mod profile_tests;
mod profile_v1;
mod profile_v2;
pub mod record;
pub mod record_v1;
pub mod record_v2;
pub mod record_v3;
pub mod record_v4;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod simulated;
pub mod spill;

pub use lock::{DirLock, LockError};
pub use log::{JournalObserver, LogJournal};
pub use memory::MemoryJournal;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use record::Record;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;

/// Number of a journal partition; a user belongs to murmur2(`user_id`) mod the number of partitions.
pub type Partition = u16;

/// What `take_over` gives to a partition's new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The partition.
    pub partition: Partition,
    /// The new epoch.
    pub epoch: u64,
    /// The number that the next record must carry; everything below it is durable.
    pub next_n: u64,
}

/// Where in a partition's storage a reader can start: it knows there, without what lies before, which records count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first byte or entry to read, as the store counts them.
    pub offset: u64,
    /// The epoch that is in force there.
    pub epoch: u64,
    /// Number of the first record behind it.
    pub n: u64,
}

impl Position {
    /// Whether one partition can have both: epochs and numbers only grow with the offset, and every record takes an offset.
    #[must_use]
    pub const fn may_precede(self, later: Self) -> bool {
        self.offset <= later.offset
            && self.epoch <= later.epoch
            && self.n <= later.n
            && later.n - self.n <= later.offset - self.offset
    }
}

/// Why records were not made durable.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// Another owner, or this one after a failure, has started a newer epoch.
    #[error("partition {partition}: epoch {epoch} has ended; recover and take a new one")]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The epoch of the refused record.
        epoch: u64,
    },
    /// A record does not follow the last one.
    #[error("partition {partition}: expected record {expected}, found {found}")]
    Gap {
        /// The partition.
        partition: Partition,
        /// The number that would follow.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The store failed: a full or read-only disk, for example.
    #[error("the journal cannot be written: {0}")]
    Store(Arc<str>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why the journal cannot be opened or read.
#[derive(Clone, Debug, Error)]
pub enum JournalError {
    /// The store failed.
    #[error("the journal cannot be read: {0}")]
    Store(Arc<str>),
    /// What is stored is not what was written.
    #[error(
        "{file} is damaged at batch {batch}: {what}; restore the file from a copy, or move the data directory away to start empty"
    )]
    Damaged {
        /// The file.
        file: Arc<str>,
        /// Number of the batch, counted from 1.
        batch: u64,
        /// Checksum, gap or undecodable record.
        what: Arc<str>,
    },
    /// An entry of a topic is not what was written.
    #[error("partition {partition} of {topic} is damaged at offset {offset}: {what}; restore the topic from a copy")]
    DamagedEntry {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: u64,
        /// Checksum, or undecodable record.
        what: Arc<str>,
    },
    /// A topic holds something else than a journal.
    #[error(
        "partition {partition} of {topic} holds something else at offset {offset}: {what}; the journal needs a topic that \
         nobody else writes to"
    )]
    Foreign {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: u64,
        /// What was expected and found.
        what: Arc<str>,
    },
    /// A reader's position is not in its partition.
    #[error(
        "partition {partition} of {topic} cannot be read from offset {offset}: it holds {first} up to {end}; either what \
         lies before was deleted, or this is another topic than the position was saved for"
    )]
    OutOfReach {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// Where the reader would start.
        offset: u64,
        /// The first offset that is there.
        first: u64,
        /// The offset behind the last one.
        end: u64,
    },
    /// A reader needs records that were trimmed.
    #[error(
        "partition {partition} of {topic} was trimmed: expected record {n}, found none before {first}; what needs every \
         record, as a replay does, cannot be done any more"
    )]
    Trimmed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The record.
        n: u64,
        /// The first that is there.
        first: u64,
    },
    /// The checkpoint is not what was written.
    #[error("{file} is damaged: {what}; move it away: profiles are made again from the journal at the next start")]
    DamagedCheckpoint {
        /// The file.
        file: Arc<str>,
        /// The profile or mark, and what is wrong with it.
        what: Arc<str>,
    },
    /// A topic with checkpoints is not what was written.
    #[error(
        "topic {topic} is damaged: {what}; restore it from a copy. Where it is emptied instead, profiles are made again from \
         the journal, and alerts and dead letters are published again; a journal that was trimmed \
         (kafka.journal_retention_days) no longer has all of them"
    )]
    DamagedSnapshot {
        /// The topic.
        topic: Arc<str>,
        /// The profile or mark, and what is wrong with it.
        what: Arc<str>,
    },
    /// The checkpoint reflects records that the journal does not have.
    #[error(
        "the checkpoint reflects partition {partition} up to record {checkpoint}, but the journal ends at {journal}: \
         the folder journal is older than profiles.db; restore the journal that belongs to it, or move profiles.db away to \
         make profiles again from this journal"
    )]
    CheckpointAhead {
        /// The partition.
        partition: Partition,
        /// Records that the checkpoint reflects.
        checkpoint: u64,
        /// Records that the journal has.
        journal: u64,
    },
}

impl JournalError {
    /// Whether trying again may help without anybody's doing.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

/// Where to start reading: the first wanted `n` of each partition; partitions that are not named are left out.
pub type Cursor = Vec<(Partition, u64)>;

/// Which records a reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    Everything,
    /// Decisions that raise an alert; any other record may be left out.
    Alerts,
    /// Those, and dead letters: what goes out on topics; any other record may be left out.
    Published,
    /// Changes of list entries, and decisions that make one; any other record may be left out.
    Lists,
}

/// The port.
pub trait Journal: Send + Sync + 'static {
    /// Number of partitions, fixed when the journal was created.
    fn partitions(&self) -> Partition;

    /// Starts a new epoch for these partitions. On Kafka that reads each of them from the last position that is known to
    /// its end: an owner that has saved positions calls `locate` first.
    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>>;

    /// Writes records (of any partitions, each partition's in order); resolves when all of them are durable.
    /// The records are queued when this returns, before the future is first polled. An empty append resolves when
    /// everything queued before it is durable or has failed: it is of no epoch, so its `Ok` does not say which.
    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Streams the durable records from the cursor on, up to what was durable when it was called. On Kafka, of a partition
    /// that was not taken over here, up to what is there when the stream comes to it.
    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>>;

    /// Reads one record.
    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>>;

    /// For every partition the number of durable records; changes with every commit. On Kafka it is known from the
    /// take-over of the partition on, until the partition is lost to somebody else.
    fn durable(&self) -> watch::Receiver<Vec<u64>>;

    /// The nearest known position from which a reader finds the records of a partition from `n` on; its own `n` may be
    /// smaller. `None` where readers need no position, which is also the start of a partition.
    fn position(&self, _partition: Partition, _n: u64) -> Option<Position> {
        None
    }

    /// Learns positions that `position` gave in an earlier life of the journal, so that `take_over`, `replay` and `read`
    /// need not look for them from the start of the partition. One that lies before what was trimmed, or cannot be in one
    /// partition with those that are known, is ignored. Another one that is wrong makes reading from it fail (`OutOfReach`),
    /// or find other records than those of the journal.
    fn locate(&self, _positions: &[(Partition, Position)]) {}

    /// `locate`, for positions out of a store that may be older than the journal, or of another one: what the journal does
    /// not bear out is left out, and is looked for. On Kafka that reads one entry for each that would save a search.
    fn locate_proven(&self, positions: Vec<(Partition, Position)>) -> BoxFuture<'_, Result<(), JournalError>> {
        self.locate(&positions);
        Box::pin(ready(Ok(())))
    }

    /// Number of the first record of a partition that is still there; what lies before it was trimmed, and reading it is an
    /// error (`Trimmed`).
    fn first(&self, _partition: Partition) -> u64 {
        0
    }

    /// Learns where partitions begin that were trimmed.
    fn begin_at(&self, _positions: &[(Partition, Position)]) {}
}

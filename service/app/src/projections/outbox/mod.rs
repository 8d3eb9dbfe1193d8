//! The outbox of a partition: every alert to `fraud-alerts` and every dead letter to `dead-letters`, each once (PROTOCOL,
//! "Projections").
//!
//! It reads the journal by its position, which goes out in the same transaction as what it reflects: what counts is both or
//! neither. It is read only at the start, after the publisher's term began, when nothing of an earlier term can follow any
//! more. A failure of the publisher ends the outbox, as nobody then knows what was written: whoever owns the partition takes
//! it over and opens another. Decisions go on either way, and dropping [`Outbox::run`] at any point is safe.
//!
//! Alerts and dead letters have a position each, so that one of the topics can be written anew by taking its position off.
//! Records that go nowhere cost no write; they are looked at again after a restart, a bounded number of them. Who wants to
//! know that the way is open asks for a write all the same ([`OutboxLag::published`]).

pub mod kafka;
mod letter;
mod messages;
mod publisher;
#[cfg(test)]
mod tests;

pub use letter::{Letter, LetterOrigin};
pub use messages::{Channel, Outgoing};
pub use publisher::{PublishError, Publisher, Reached, Reflected};

use super::lag::Reflections;
use crate::journal::{Journal, JournalError, Partition, Wanted};
use futures_util::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Messages in one transaction, and their bytes, beyond which the last may go.
const MAX_MESSAGES: usize = 512;
const MAX_BYTES: usize = 1 << 20;
/// Records that go nowhere after which the position is stored all the same.
const MAX_UNSAVED: u64 = 8_192;
/// Pause after each catch-up, so that many records share a read and a transaction. With the transaction's own 100 ms at most
/// and the reads, what is decided is out well within 250 ms.
const PAUSE: Duration = Duration::from_millis(25);
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// Why the outbox does not advance.
#[derive(Clone, Debug, Error)]
pub enum OutboxError {
    /// The journal cannot be read.
    #[error("alerts and dead letters of partition {partition} stand still: {error}")]
    Journal {
        /// The partition.
        partition: Partition,
        /// Why.
        error: JournalError,
    },
    /// Nothing can be published, or nothing is known of what was.
    #[error("alerts and dead letters of partition {partition} stand still: {error}")]
    Publish {
        /// The partition.
        partition: Partition,
        /// Why.
        error: PublishError,
    },
    /// What was published reflects records that the journal does not have.
    #[error(
        "alerts and dead letters of partition {partition} stand still: they were published up to record {found}, but the \
         journal ends at {expected}; the topics belong to another journal, or the journal was replaced by an older one"
    )]
    Ahead {
        /// The partition.
        partition: Partition,
        /// Records that the journal has.
        expected: u64,
        /// Records that are reflected.
        found: u64,
    },
}

impl OutboxError {
    /// Whether trying again may help without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Journal { error, .. } => error.is_transient(),
            Self::Publish { error, .. } => matches!(error, PublishError::Unread(_)),
            Self::Ahead { .. } => false,
        }
    }

    /// Whether it helps to take the partition's transactions over again: nobody knows what became of the last one, and nothing
    /// else is wrong.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Publish { error: PublishError::Ended(_), .. })
    }

    /// Whether somebody else has the partition now, so that nothing is wrong.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Publish { error: PublishError::Fenced, .. })
    }
}

/// How far an outbox is behind; cheap to clone.
#[derive(Clone, Debug)]
pub struct OutboxLag {
    partition: Partition,
    durable: watch::Receiver<Vec<u64>>,
    reflected: watch::Receiver<u64>,
    saved: watch::Receiver<u64>,
    asked: Arc<watch::Sender<u64>>,
}

impl OutboxLag {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Durable records that are not reflected yet.
    #[must_use]
    pub fn records(&self) -> u64 {
        let end = self.durable.borrow().get(usize::from(self.partition)).copied().unwrap_or(0);
        end.saturating_sub(*self.reflected.borrow())
    }

    /// Whether everything before record `n` is reflected.
    #[must_use]
    pub fn has_reflected(&self, n: u64) -> bool {
        *self.reflected.borrow() >= n
    }

    /// Has a position stored that everything before record `n`, which is durable, is reflected, and waits for that; `false`
    /// if the outbox ends first.
    pub async fn published(&self, n: u64) -> bool {
        self.asked.send_if_modified(|asked| std::mem::replace(asked, n.max(*asked)) < n);
        self.saved.clone().wait_for(|saved| *saved >= n).await.is_ok()
    }

    /// The first record that is not reflected; changes as the outbox advances.
    #[must_use]
    pub fn reflected(&self) -> watch::Receiver<u64> {
        self.reflected.clone()
    }
}

/// See the module.
pub struct Outbox {
    journal: Arc<dyn Journal>,
    publisher: Arc<dyn Publisher>,
    partition: Partition,
    /// What was published, once it was read.
    published: Option<Reflected>,
    /// The first record that was not looked at.
    next: u64,
    /// What was read and not published.
    unpublished: Vec<Outgoing>,
    unpublished_bytes: usize,
    /// The first record behind the last stored position.
    saved: u64,
    reflected: watch::Sender<u64>,
    /// The same as `saved`, for those who wait for it.
    stored: watch::Sender<u64>,
    /// A position behind it is to be stored, whether or not anything is published.
    asked: Arc<watch::Sender<u64>>,
    counted: Reflections,
}

impl Outbox {
    /// An outbox that goes on from the publisher's position. Both terms must have begun: the publisher's first, then the
    /// journal's.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, publisher: Arc<dyn Publisher>, partition: Partition) -> Self {
        Self {
            journal,
            publisher,
            partition,
            published: None,
            next: 0,
            unpublished: Vec::new(),
            unpublished_bytes: 0,
            saved: 0,
            reflected: watch::Sender::new(0),
            stored: watch::Sender::new(0),
            asked: Arc::new(watch::Sender::new(0)),
            counted: Reflections::default(),
        }
    }

    /// Has what it comes to reflect counted here, with what others do.
    #[must_use]
    pub fn counted_by(self, counted: Reflections) -> Self {
        Self { counted, ..self }
    }

    /// How far it is behind.
    #[must_use]
    pub fn lag(&self) -> OutboxLag {
        let reflected = self.reflected.subscribe();
        let (saved, asked) = (self.stored.subscribe(), Arc::clone(&self.asked));
        OutboxLag { partition: self.partition, durable: self.journal.durable(), reflected, saved, asked }
    }

    /// Follows the journal until it is dropped. Failures that may pass are tried again with back-off; what it returns is the
    /// end of its term, or what somebody must see to.
    pub async fn run(mut self) -> OutboxError {
        let (mut durable, mut asked) = (self.journal.durable(), self.asked.subscribe());
        let mut back_off = FIRST_BACK_OFF;
        loop {
            durable.mark_unchanged();
            asked.mark_unchanged();
            match self.catch_up().await {
                Ok(()) => {
                    back_off = FIRST_BACK_OFF;
                    tokio::select! {
                        // Of all partitions, and the sender lives in the journal, which this holds.
                        _ = durable.changed() => {}
                        _ = asked.changed() => {}
                        error = self.publisher.ended() => return OutboxError::Publish { partition: self.partition, error },
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, retry_ms = back_off.as_millis() as u64, "alerts and dead letters are late");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
                Err(error) => return error,
            }
        }
    }

    /// Publishes everything that is durable now.
    ///
    /// # Errors
    /// The journal or the publisher failed. Where that is transient, calling again goes on; else this outbox is of no more
    /// use.
    pub async fn catch_up(&mut self) -> Result<(), OutboxError> {
        let published = match self.published {
            Some(published) => published,
            None => self.position().await?,
        };
        let partition = self.partition;
        let end = self.journal.durable().borrow().get(usize::from(partition)).copied().unwrap_or(0);
        if end > self.next {
            self.read(published, end).await?;
        }
        let asked = *self.asked.borrow();
        if !self.unpublished.is_empty() || self.next - self.saved >= MAX_UNSAVED || self.saved < asked.min(self.next) {
            self.publish().await?;
        }
        self.come_to_next();
        Ok(())
    }

    /// Looks at everything before `end`, which is durable.
    async fn read(&mut self, published: Reflected, end: u64) -> Result<(), OutboxError> {
        let journal = Arc::clone(&self.journal);
        let mut records = journal.replay(vec![(self.partition, self.next)], Wanted::Published);
        loop {
            let record = match records.try_next().await {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Err(self.start_again(error)),
            };
            if let Some(outgoing) = Outgoing::of(&record)
                && record.n >= published.next(outgoing.channel)
            {
                self.unpublished_bytes += outgoing.size();
                self.unpublished.push(outgoing);
            }
            self.next = record.n + 1;
            if self.unpublished.len() >= MAX_MESSAGES || self.unpublished_bytes >= MAX_BYTES {
                self.publish().await?;
            }
        }
        drop(records);
        // The end of a replay stands for the records that it left out.
        self.next = self.next.max(end);
        Ok(())
    }

    /// Everything before the first record that was not looked at is reflected.
    fn come_to_next(&self) {
        let before = self.reflected.send_replace(self.next);
        self.counted.add(self.next.saturating_sub(before));
    }

    /// Reads what was published; refuses what the journal has not reached.
    async fn position(&mut self) -> Result<Reflected, OutboxError> {
        let partition = self.partition;
        let published = self.publisher.reflected().await.map_err(|error| OutboxError::Publish { partition, error })?;
        let expected = self.journal.durable().borrow().get(usize::from(partition)).copied().unwrap_or(0);
        let found = published.alerts.n.max(published.dead_letters.n);
        if found > expected {
            return Err(OutboxError::Ahead { partition, expected, found });
        }
        let first = published.first();
        self.journal.locate(&first.position.map(|position| (partition, position)).into_iter().collect::<Vec<_>>());
        // Where nothing is stored it begins where the journal does.
        let next = if first.n == 0 { self.journal.first(partition) } else { first.n };
        (self.next, self.saved) = (next, next);
        self.published = Some(published);
        self.reflected.send_replace(self.next);
        self.stored.send_replace(self.saved);
        Ok(published)
    }

    /// After a failure of the journal: what was read and not published is read again.
    fn start_again(&mut self, error: JournalError) -> OutboxError {
        self.unpublished.clear();
        self.unpublished_bytes = 0;
        self.next = self.saved;
        OutboxError::Journal { partition: self.partition, error }
    }

    async fn publish(&mut self) -> Result<(), OutboxError> {
        let position = self.journal.position(self.partition, self.next);
        let reached = Reached { n: self.next, position };
        let messages = std::mem::take(&mut self.unpublished);
        self.unpublished_bytes = 0;
        if let Err(error) = self.publisher.publish(messages, self.reached(reached)).await {
            return Err(OutboxError::Publish { partition: self.partition, error });
        }
        self.saved = self.next;
        self.come_to_next();
        self.stored.send_replace(self.saved);
        Ok(())
    }

    /// What is reflected with everything before a place: one of the two may have been further before.
    fn reached(&self, reached: Reached) -> Reflected {
        let before = self.published.unwrap_or_default();
        let further = |before: Reached| if before.n > reached.n { before } else { reached };
        Reflected { alerts: further(before.alerts), dead_letters: further(before.dead_letters) }
    }
}

//! What a shard is asked, besides what is in an event.

use super::context::{Judge, Ticket};
use super::messages::{Accepted, ListChanged, ProfileView, Refusal};
use super::sources::{Left, Opening};
use super::turns::Turn;
use super::work::Work;
use crate::journal::Partition;
use actix::Message;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use verdict_core::lists::ListChange;

/// An event for one of the shard's users.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// The user's partition.
    pub partition: Partition,
    /// The event.
    pub work: Work,
    /// Its place among those of its source, if that has offsets.
    pub turn: Option<Turn>,
}

/// Opens the sources of a partition, once the shard serves.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenSources {
    /// The partition.
    pub partition: Partition,
    /// The way back.
    pub reply: oneshot::Sender<Result<Opening, Refusal>>,
}

/// What a source with offsets delivered and is no event of the partition; it leaves a record in its turn (I6).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// The partition.
    pub partition: Partition,
    /// Its place among those of its source.
    pub turn: Turn,
    /// What it leaves.
    pub left: Left,
    /// Carries the bytes as they came.
    pub ticket: Ticket<Accepted>,
}

/// A line of a file that is no event; it leaves a dead letter (I6).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refuse {
    /// The partition that the dead letter goes to.
    pub partition: Partition,
    /// Reason code.
    pub reason: &'static str,
    /// For people.
    pub detail: Box<str>,
    /// Carries the bytes as they came.
    pub ticket: Ticket<Accepted>,
}

/// A change of a list entry.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Relist {
    /// The entry's partition.
    pub partition: Partition,
    /// What is asked.
    pub change: ListChange,
    /// The way back.
    pub ticket: Ticket<ListChanged>,
}

/// Asks what is known of a user.
#[derive(Message)]
#[rtype(result = "()")]
pub struct View {
    /// The user.
    pub user_id: Box<str>,
    /// The way back.
    pub reply: oneshot::Sender<Result<Option<ProfileView>, Refusal>>,
    /// Bounds what is in flight, whether or not anybody still waits for the answer.
    pub permit: OwnedSemaphorePermit,
}

/// Saves every changed profile; answers `false` when that failed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Checkpoint {
    /// The way back.
    pub done: Option<oneshot::Sender<bool>>,
}

/// Asks to be told when the shard serves.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TellWhenServing(pub oneshot::Sender<()>);

/// Puts another generation in force: what has begun ends with the one that it began with (I8).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt(pub Judge);

/// A second has passed: who was not heard of for long passivates.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tick;

/// Ends the shard; what is in flight was drained before.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

impl View {
    /// Gives the permit back with the answer. A caller that has gone away is no error.
    pub(super) fn answer(self, found: Result<Option<ProfileView>, Refusal>) {
        let _ = self.reply.send(found);
    }
}

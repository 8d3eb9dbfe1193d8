//! What an outbox asks of whoever publishes: a seam, so that it can be run over one that fails.

use super::{Channel, Outgoing};
use crate::journal::Position;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use thiserror::Error;

/// A place in a partition of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The first record that is not reflected.
    pub n: u64,
    /// Where the journal finds it, if it needs to be told.
    pub position: Option<Position>,
}

/// How far what was published reflects a partition; the start where nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reflected {
    /// By alerts.
    pub alerts: Reached,
    /// By dead letters.
    pub dead_letters: Reached,
}

impl Reflected {
    /// The first record of a channel that is not reflected.
    #[must_use]
    pub fn next(&self, channel: Channel) -> u64 {
        match channel {
            Channel::Alerts => self.alerts.n,
            Channel::DeadLetters => self.dead_letters.n,
        }
    }

    /// The place before which both reflect everything.
    #[must_use]
    pub fn first(&self) -> Reached {
        if self.alerts.n <= self.dead_letters.n { self.alerts } else { self.dead_letters }
    }
}

/// Why nothing is known to be published.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// Somebody else has the partition; nothing of this term follows.
    #[error("another owner has taken the partition over")]
    Fenced,
    /// The publisher is of no more use; the fate of what it was last given may be unknown.
    #[error("{0}")]
    Ended(Arc<str>),
    /// What was published cannot be read now.
    #[error("what was published before cannot be read: {0}")]
    Unread(Arc<str>),
    /// What is stored about it is not what was written.
    #[error("{0}")]
    Damaged(Arc<str>),
}

/// The publisher of one partition in one term of its owner.
pub trait Publisher: Send + Sync {
    /// What was published before this term, all of it.
    fn reflected(&self) -> BoxFuture<'_, Result<Reflected, PublishError>>;

    /// Publishes these messages and what is reflected with them, all or nothing, in this order. After an error nothing more
    /// may be published in this term.
    fn publish(&self, messages: Vec<Outgoing>, reflected: Reflected) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Waits for the end of this term: what was published last may have to be published again in the next.
    fn ended(&self) -> BoxFuture<'_, PublishError>;
}

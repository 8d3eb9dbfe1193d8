//! The way in for sources that are read by offset: where to resume, and what they send, in turn.
//!
//! Everything that is sent leaves one journal record, or the session ends: then all that was not answered is sent again
//! under a new one, from where the journal says (I6).

use super::completion::Completion;
use super::context::Ticket;
use super::gateway::{Gateway, Reply, split};
use super::messages::{Accepted, Refusal, Settled, Submission};
use super::requests::{Leave, OpenSources, Submit};
use super::shard::ShardActor;
use super::turns::{Parked, Session, Turn};
use super::work::Work;
use crate::journal::Partition;
use crate::journal::checkpoint::SourceOffset;
use crate::journal::record::{Body, Cut};
use actix::{AsyncContext, Context, Handler};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use verdict_core::event::{Label, Login, Transaction};

/// The sources of a journal partition are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What is sent belongs to it.
    pub session: Session,
    /// Where to resume each source partition that has left a record; the others start at their beginning.
    pub offsets: Vec<SourceOffset>,
}

/// What leaves a record and is no event for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It cannot be read, or is not allowed.
    DeadLetter {
        /// Reason code.
        reason: &'static str,
        /// For people.
        detail: Box<str>,
        /// What was left out of the bytes as they came.
        cut: Option<Cut>,
    },
    /// Its user is of another partition, where it was sent.
    Skipped {
        /// Whose it is.
        user_id: Box<str>,
        /// Partition of the topic that has it now.
        moved_to: i32,
    },
}

impl Gateway {
    /// Opens the sources of a journal partition; waits until its shard serves.
    ///
    /// # Errors
    /// When the service stops, or something of the session before is still on its way.
    pub async fn open_sources(&self, partition: Partition) -> Result<Opening, Refusal> {
        let (reply, opening) = oneshot::channel();
        let asked = self.shard(partition).send(OpenSources { partition, reply });
        asked.await.map_err(|_| Refusal::Stopping)?;
        opening.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Sends a transaction of a topic, whose user is of this partition.
    pub fn feed_transaction(
        &self,
        partition: Partition,
        turn: Turn,
        sent: Submission<Transaction>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Settled> {
        self.feed(partition, turn, split(sent, permit, None), Work::Transaction)
    }

    /// Sends a heartbeat, a transaction that is decided like any other and changes nothing, to a user of this partition.
    pub fn feed_heartbeat(
        &self,
        partition: Partition,
        turn: Turn,
        sent: Submission<Transaction>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Settled> {
        self.feed(partition, turn, split(sent, permit, None), Work::Heartbeat)
    }

    /// Sends a login of a topic, whose user is of this partition.
    pub fn feed_login(
        &self,
        partition: Partition,
        turn: Turn,
        sent: Submission<Login>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Accepted> {
        self.feed(partition, turn, split(sent, permit, None), Work::Login)
    }

    /// Sends a label of a topic, whose user is of this partition.
    pub fn feed_label(
        &self,
        partition: Partition,
        turn: Turn,
        sent: Submission<Label>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Accepted> {
        self.feed(partition, turn, split(sent, permit, None), Work::Label)
    }

    /// Sends what is no event of this partition.
    pub fn feed_left(
        &self,
        partition: Partition,
        turn: Turn,
        sent: Submission<Left>,
        permit: OwnedSemaphorePermit,
    ) -> Reply<Accepted> {
        let (left, ticket, answer) = split(sent, permit, None);
        // A shard that is gone drops the ticket, and the receiver says so.
        let _ = self.shard(partition).try_send(Leave { partition, turn, left: *left, ticket });
        answer
    }

    fn feed<E, T>(
        &self,
        partition: Partition,
        turn: Turn,
        (event, ticket, answer): (Box<E>, Ticket<T>, Reply<T>),
        work: impl FnOnce(Box<E>, Ticket<T>) -> Work,
    ) -> Reply<T> {
        let work = work(event, ticket);
        let _ = self.shard(partition).try_send(Submit { partition, work, turn: Some(turn) });
        answer
    }
}

/// How often a shard that recovers looks whether sources can be opened.
const OPEN_EVERY: Duration = Duration::from_millis(20);

impl Handler<OpenSources> for ShardActor {
    type Result = ();

    fn handle(&mut self, open: OpenSources, ctx: &mut Context<Self>) {
        let Some(context) = self.context() else {
            ctx.notify_later(open, OPEN_EVERY);
            return;
        };
        let opening = context.open_sources(open.partition).ok_or(Refusal::Recovering);
        // One who no longer waits is no error.
        let _ = open.reply.send(opening);
    }
}

impl Handler<Leave> for ShardActor {
    type Result = ();

    fn handle(&mut self, leave: Leave, _: &mut Context<Self>) {
        let Leave { partition, turn, left, mut ticket } = leave;
        let Some(context) = self.context().filter(|context| context.turns.enter(partition, &ticket.source, turn))
        else {
            return ticket.answer(Err(Refusal::Recovering));
        };
        let (source, received_at) = (ticket.source.clone(), ticket.received_at);
        let (body, completion) = match left {
            Left::DeadLetter { reason, detail, cut } => {
                let original = ticket.original.take().unwrap_or_default();
                let body = Body::DeadLetter { reason: reason.into(), detail, original, cut };
                (body, Completion::DeadLetter(ticket, reason))
            }
            Left::Skipped { user_id, moved_to } => (Body::Skipped { user_id, moved_to }, Completion::Skipped(ticket)),
        };
        context.commit_in_turn(Parked { partition, source, received_at, body, completion });
    }
}

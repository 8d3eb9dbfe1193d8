//! What a user is given to do, and what becomes of it when the user cannot.

use super::completion::Completion;
use super::context::Ticket;
use super::messages::{Accepted, ListChanged, Refusal, Settled};
use super::turns::Parked;
use crate::journal::Partition;
use crate::journal::record::Body;
use actix::Message;
use verdict_core::event::{Label, Login, Source, Transaction};
use verdict_core::lists::ListChange;

/// An event for this user, in a box: it changes hands often on its way.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Work {
    /// To be decided.
    Transaction(Box<Transaction>, Ticket<Settled>),
    /// To be decided, and to change nothing (ADR 0009).
    Heartbeat(Box<Transaction>, Ticket<Settled>),
    /// To be remembered.
    Login(Box<Login>, Ticket<Accepted>),
    /// To be remembered.
    Label(Box<Label>, Ticket<Accepted>),
    /// To be put on a list or taken off.
    List(Box<ListChange>, Ticket<ListChanged>),
}

impl Work {
    /// Answers without doing anything.
    pub fn refuse(self, refusal: Refusal) {
        match self {
            Self::Transaction(_, ticket) | Self::Heartbeat(_, ticket) => ticket.answer(Err(refusal)),
            Self::Login(_, ticket) | Self::Label(_, ticket) => ticket.answer(Err(refusal)),
            Self::List(_, ticket) => ticket.answer(Err(refusal)),
        }
    }

    /// Whose it is.
    pub(super) fn user_id(&self) -> &str {
        match self {
            Self::Transaction(transaction, _) | Self::Heartbeat(transaction, _) => &transaction.user_id,
            Self::Login(login, _) => &login.user_id,
            Self::Label(label, _) => &label.user_id,
            Self::List(change, _) => &change.key.value,
        }
    }

    /// Where it entered.
    pub(super) const fn source(&self) -> &Source {
        match self {
            Self::Transaction(_, ticket) | Self::Heartbeat(_, ticket) => &ticket.source,
            Self::Login(_, ticket) | Self::Label(_, ticket) => &ticket.source,
            Self::List(_, ticket) => &ticket.source,
        }
    }

    /// Makes a dead letter of an event that must leave a record; any other comes back.
    pub(super) fn into_dead_letter(self, partition: Partition, refusal: &Refusal) -> Result<Parked, Box<Self>> {
        fn park<T>(
            partition: Partition,
            mut ticket: Ticket<T>,
            refusal: &Refusal,
            completion: impl FnOnce(Ticket<T>, Refusal) -> Completion,
        ) -> Parked {
            let body = dead_letter(refusal, ticket.original.take().unwrap_or_default());
            let (source, received_at) = (ticket.source.clone(), ticket.received_at);
            Parked { partition, source, received_at, body, completion: completion(ticket, refusal.clone()) }
        }
        if !matches!(self.source(), Source::Topic { .. }) {
            return Err(Box::new(self));
        }
        match self {
            Self::Transaction(_, ticket) | Self::Heartbeat(_, ticket) => {
                Ok(park(partition, ticket, refusal, Completion::TransactionRefused))
            }
            Self::Login(_, ticket) | Self::Label(_, ticket) => {
                Ok(park(partition, ticket, refusal, Completion::EventRefused))
            }
            Self::List(..) => Err(Box::new(self)),
        }
    }
}

/// The record of an event that is refused and must leave one.
pub(super) fn dead_letter(refusal: &Refusal, original: Box<[u8]>) -> Body {
    Body::DeadLetter { reason: refusal.code().into(), detail: refusal.to_string().into(), original, cut: None }
}

//! What becomes of a request to change a list entry: found or not, one more or too many, its record, and the replica.
//!
//! Runs on the thread of the shard that owns the entry's partition, so that nothing comes between looking and changing.
//! The replica shows a change as soon as it is numbered, like a profile; nobody is told before it is durable.

use super::completion::Completion;
use super::context::{ShardContext, Ticket};
use super::messages::{ListChanged, Refusal};
use super::requests::Relist;
use super::users::Users;
use super::work::Work;
use crate::journal::Partition;
use crate::journal::record::Body;
use std::cell::RefCell;
use verdict_core::lists::{List, ListAction, ListChange, ListEntry, ListKey, ListKind};

/// A change of any entry: a user's goes to the actor, as it is in the profile.
pub(super) fn relist(context: &ShardContext, users: &RefCell<Users>, relist: Relist) {
    let Relist { partition, change, ticket } = relist;
    let found = context.lists.replica().get(&change.key);
    let makes = matches!(change.action, ListAction::Put { .. });
    // No user is woken or made only to find that there is nothing to delete.
    if change.key.kind == ListKind::User && (makes || found.is_some()) {
        return users.borrow_mut().send(partition, Work::List(Box::new(change), ticket));
    }
    settle(context, partition, found.as_ref(), change, ticket);
}

/// Does what is asked, given the entry that is there; gives the record's number if there is one, with the change.
pub(super) fn settle(
    context: &ShardContext,
    partition: Partition,
    found: Option<&ListEntry>,
    change: ListChange,
    ticket: Ticket<ListChanged>,
) -> Option<(ListChange, u64)> {
    let ticket = ticket.begin(&context.clock)?;
    if context.is_closed() {
        // The replica is about to be loaded again, and must not learn anything from an epoch that has ended.
        ticket.answer(Err(Refusal::Recovering));
        return None;
    }
    let found = found.filter(|entry| entry.binds(ticket.received_at));
    let lists = context.lists.replica();
    let done = match (&change.action, change.entry(), found) {
        (ListAction::Delete, _, None) => Err(Refusal::NotListed),
        (ListAction::Delete, _, Some(_)) | (ListAction::Put { .. }, None, _) => {
            lists.remove(&change.key);
            Ok(ListChanged::Deleted)
        }
        (ListAction::Put { .. }, Some(entry), Some(found)) if entry == *found => Ok(ListChanged::Unchanged),
        (ListAction::Put { .. }, Some(entry), found) => {
            if let Err(full) = lists.put_asked(partition, change.key.clone(), entry) {
                ticket.answer(Err(Refusal::ListsFull { limit: full.limit }));
                return None;
            }
            Ok(if found.is_some() { ListChanged::Replaced } else { ListChanged::Created })
        }
    };
    if !matches!(done, Ok(ListChanged::Created | ListChanged::Replaced | ListChanged::Deleted)) {
        // What it found may itself not be durable yet.
        context.after_commits(Completion::Listed(ticket, done));
        return None;
    }
    let (source, received_at) = (ticket.source.clone(), ticket.received_at);
    let body = Body::List(change.clone());
    let n = context.commit(partition, source, received_at, body, Completion::Listed(ticket, done));
    context.mark_lists_dirty(partition);
    Some((change, n))
}

/// Shows the entry that a decision made about its user.
pub(super) fn publish(context: &ShardContext, partition: Partition, user_id: &str, entry: Option<&ListEntry>) {
    if let Some(entry) = entry
        && !context.is_closed()
    {
        let key = ListKey { list: List::Block, kind: ListKind::User, value: user_id.into() };
        context.lists.replica().put(partition, key, entry.clone());
        context.mark_lists_dirty(partition);
    }
}

//! What the handlers need of the actors: a seam, so that status codes can be tested without shards.

use crate::actors::gateway::Gateway;
use crate::actors::messages::{Accepted, Answer, ListChanged, ListPage, ListQuery, ProfileView, Refusal, Submission};
use futures_util::future::LocalBoxFuture;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::lists::{ListChange, ListEntry, ListKey};
use verdict_core::time::Timestamp;

/// Takes events and answers questions. An event goes to its shard at the latest when the future is first polled, so that futures
/// polled in order keep the order of a user's events. The future ends by the event's deadline, whatever becomes of the event.
pub trait Intake: Send + Sync {
    /// Decides a transaction and waits until the decision is durable.
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>>;

    /// Remembers a login and waits until it is durable.
    fn login(&self, submission: Submission<Login>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>>;

    /// Remembers a label and waits until it is durable.
    fn label(&self, submission: Submission<Label>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>>;

    /// What is known of a user, `None` for one never seen.
    fn profile<'a>(&'a self, user_id: &'a str) -> LocalBoxFuture<'a, Result<Option<ProfileView>, Refusal>>;

    /// Puts an entry on a list or takes it off, and waits until that is durable.
    fn change_list(&self, submission: Submission<ListChange>) -> LocalBoxFuture<'_, Result<ListChanged, Refusal>>;

    /// The entry of a list that binds at `now`.
    fn list_entry(&self, key: &ListKey, now: Timestamp) -> Result<Option<ListEntry>, Refusal>;

    /// A page of the entries of a list that bind at `now`.
    fn list_page(&self, query: &ListQuery, now: Timestamp) -> Result<ListPage, Refusal>;
}

impl Intake for Gateway {
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(Self::decide(self, submission))
    }

    fn login(&self, submission: Submission<Login>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(Self::login(self, submission))
    }

    fn label(&self, submission: Submission<Label>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(Self::label(self, submission))
    }

    fn profile<'a>(&'a self, user_id: &'a str) -> LocalBoxFuture<'a, Result<Option<ProfileView>, Refusal>> {
        Box::pin(Self::profile(self, user_id))
    }

    fn change_list(&self, submission: Submission<ListChange>) -> LocalBoxFuture<'_, Result<ListChanged, Refusal>> {
        Box::pin(Self::change_list(self, submission))
    }

    fn list_entry(&self, key: &ListKey, now: Timestamp) -> Result<Option<ListEntry>, Refusal> {
        Self::list_entry(self, key, now)
    }

    fn list_page(&self, query: &ListQuery, now: Timestamp) -> Result<ListPage, Refusal> {
        Self::list_page(self, query, now)
    }
}

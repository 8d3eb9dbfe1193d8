//! What the handlers need of the actors: a seam, so that status codes can be tested without shards.

use crate::actors::gateway::Gateway;
use crate::actors::messages::{Accepted, Answer, ProfileView, Refusal, Submission};
use futures_util::future::LocalBoxFuture;
use verdict_core::event::{Label, Login, Transaction};

/// Takes events and answers questions. An event goes to its shard when the future is first polled, so that futures
/// polled in order keep the order of a user's events. The future of an event ends by the event's deadline, whatever
/// becomes of the event.
pub trait Intake: Send + Sync {
    /// Decides a transaction and waits until the decision is durable.
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>>;

    /// Remembers a login and waits until it is durable.
    fn login(&self, submission: Submission<Login>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>>;

    /// Remembers a label and waits until it is durable.
    fn label(&self, submission: Submission<Label>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>>;

    /// What is known of a user, `None` for one never seen.
    fn profile<'a>(&'a self, user_id: &'a str) -> LocalBoxFuture<'a, Result<Option<ProfileView>, Refusal>>;
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
}

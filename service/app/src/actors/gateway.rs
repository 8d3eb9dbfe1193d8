//! The way in: routes an event to the shard of its user, with a permit, and waits for the answer.

use super::messages::{Accepted, Answer, ProfileView, Refusal, Submission};
use verdict_core::event::{Label, Login, Transaction};

/// Cheap to clone; every ingress holds one.
#[derive(Clone, Debug)]
pub struct Gateway {}

impl Gateway {
    /// Decides a transaction and waits until the decision is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub async fn decide(&self, submission: Submission<Transaction>) -> Result<Answer, Refusal> {
        let _ = submission;
        Err(Refusal::Stopping)
    }

    /// Remembers a login and waits until it is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub async fn login(&self, submission: Submission<Login>) -> Result<Accepted, Refusal> {
        let _ = submission;
        Err(Refusal::Stopping)
    }

    /// Remembers a label and waits until it is durable.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub async fn label(&self, submission: Submission<Label>) -> Result<Accepted, Refusal> {
        let _ = submission;
        Err(Refusal::Stopping)
    }

    /// What is known of a user, `None` for one never seen.
    ///
    /// # Errors
    /// [`Refusal`] says what to tell the caller.
    pub async fn profile(&self, user_id: &str) -> Result<Option<ProfileView>, Refusal> {
        let _ = user_id;
        Err(Refusal::Stopping)
    }
}

//! The label that follows a review: an alert that was confirmed or cleared is told to the service like any other label.
//!
//! What is left to do is a flag on the review's row, which is cleared only after the label counts. So nothing is lost
//! between the two, whoever wrote the row and whenever the service was killed; a label that is sent twice is a duplicate.
//! Labels go in the order of their reviews. One that is refused for the sake of its user holds up that user's until it can
//! go; one that is refused for the service's sake holds up all.

#[cfg(test)]
mod tests;

use super::review_store::{Place, ReviewError, ReviewStore};
use crate::actors::messages::{Accepted, Refusal};
use crate::telemetry::Metrics;
use crate::telemetry::events::{ReviewLabelled, ReviewLabelsWaiting};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use verdict_core::event::Label;

/// How often the store is looked at for rows that somebody inserted by hand; one lookup in an index.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Labels between two marks in the store.
const BATCH: u32 = 64;
/// Before every review.
const FIRST: Place = (i64::MIN, i64::MIN);
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// Why labels are late.
#[derive(Debug, Error)]
enum Late {
    #[error(transparent)]
    Store(#[from] ReviewError),
    #[error("the label of review {review_id} was refused: {refusal}")]
    Refused { review_id: i64, refusal: Refusal },
}

/// Labels that wait for their users after a pass over all that were due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Waiting {
    labels: u64,
    users: usize,
    /// Why the first one does.
    why: Option<String>,
}

/// See the module.
pub struct ReviewLabels {
    store: Arc<dyn ReviewStore>,
    metrics: Metrics,
}

impl ReviewLabels {
    /// The labels that follow from the reviews of a store.
    #[must_use]
    pub fn new(store: Arc<dyn ReviewStore>, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    /// Follows the reviews until it is dropped, which is safe at any point. `send` resolves once a label counts.
    pub async fn run<F: Future<Output = Result<Accepted, Refusal>>>(self, send: impl Fn(Label) -> F) {
        let mut back_off = FIRST_BACK_OFF;
        let mut waited = 0;
        loop {
            match self.catch_up(&send).await {
                Ok(Waiting { labels, users, why }) => {
                    back_off = FIRST_BACK_OFF;
                    if labels != waited {
                        let why = why.unwrap_or_default();
                        tracing::warn!(labels, users, why, "labels of reviews wait for their users, the others go on");
                        waited = labels;
                    }
                    // A timeout is a look for rows that came by hand; those that wait need no more haste.
                    let look = if labels == 0 { LOOK_EVERY } else { LAST_BACK_OFF };
                    let _ = tokio::time::timeout(look, self.store.reviewed()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, retry_ms = back_off.as_millis() as u64, "labels of reviews are late");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
            }
        }
    }

    /// Sends every label that is due, but for those of users who are refused; these are sent again by the next pass.
    async fn catch_up<F: Future<Output = Result<Accepted, Refusal>>>(
        &self,
        send: impl Fn(Label) -> F,
    ) -> Result<Waiting, Late> {
        let mut waiting = Waiting::default();
        let mut refused_users = HashSet::new();
        let mut after = FIRST;
        loop {
            let due = self.store.unlabelled(after, BATCH).await?;
            let Some(last) = due.last() else { break };
            after = last.place;
            let mut counted = Vec::with_capacity(due.len());
            let mut late = None;
            for review in due {
                let user_id = review.label.user_id.clone();
                if refused_users.contains(&user_id) {
                    waiting.labels += 1;
                    continue;
                }
                match send(review.label).await {
                    Ok(_) => counted.push(review.review_id),
                    Err(refusal) => {
                        let one = refusal.concerns_one_user();
                        let why = Late::Refused { review_id: review.review_id, refusal };
                        if !one {
                            late = Some(why);
                            break;
                        }
                        waiting.labels += 1;
                        waiting.why.get_or_insert_with(|| why.to_string());
                        refused_users.insert(user_id);
                    }
                }
            }
            if !counted.is_empty() {
                self.store.labelled(&counted).await?;
                ReviewLabelled { labels: counted.len() as u64 }.emit(&self.metrics);
            }
            if let Some(late) = late {
                return Err(late);
            }
        }
        waiting.users = refused_users.len();
        ReviewLabelsWaiting { labels: waiting.labels }.emit(&self.metrics);
        Ok(waiting)
    }
}

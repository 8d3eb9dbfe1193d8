//! The label that follows a review: an alert that was confirmed or cleared is told to the service like any other label.
//!
//! What is left to do is a flag on the review's row, which is cleared only after the label counts. So nothing is lost
//! between the two, whoever wrote the row and whenever the service was killed; a label that is sent twice is a duplicate.
//! Labels go in the order of their reviews, and one that cannot go holds up the rest until it can.

#[cfg(test)]
mod tests;

use super::review_store::{ReviewError, ReviewStore};
use crate::actors::messages::{Accepted, Refusal};
use crate::telemetry::Metrics;
use crate::telemetry::events::ReviewLabelled;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use verdict_core::event::Label;

/// How often the store is looked at for rows that somebody inserted by hand; one lookup in an index.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Labels between two marks in the store.
const BATCH: u32 = 64;
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

/// See the module.
pub struct ReviewLabels {
    store: Arc<ReviewStore>,
    metrics: Metrics,
}

impl ReviewLabels {
    /// The labels that follow from the reviews of a store.
    #[must_use]
    pub const fn new(store: Arc<ReviewStore>, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    /// Follows the reviews until it is dropped, which is safe at any point. `send` resolves once a label counts.
    pub async fn run<F: Future<Output = Result<Accepted, Refusal>>>(self, send: impl Fn(Label) -> F) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            match self.catch_up(&send).await {
                Ok(()) => {
                    back_off = FIRST_BACK_OFF;
                    // A timeout is a look for rows that came by hand.
                    let _ = tokio::time::timeout(LOOK_EVERY, self.store.reviewed()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, retry_ms = back_off.as_millis() as u64, "labels of reviews are late");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
            }
        }
    }

    /// Sends every label that is due.
    async fn catch_up<F: Future<Output = Result<Accepted, Refusal>>>(
        &self,
        send: impl Fn(Label) -> F,
    ) -> Result<(), Late> {
        loop {
            let due = self.store.unlabelled(BATCH).await?;
            if due.is_empty() {
                return Ok(());
            }
            let mut counted = Vec::with_capacity(due.len());
            let mut refused = None;
            for review in due {
                match send(review.label).await {
                    Ok(_) => counted.push(review.review_id),
                    Err(refusal) => {
                        refused = Some(Late::Refused { review_id: review.review_id, refusal });
                        break;
                    }
                }
            }
            if !counted.is_empty() {
                self.store.labelled(&counted).await?;
                ReviewLabelled { labels: counted.len() as u64 }.emit(&self.metrics);
            }
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
    }
}

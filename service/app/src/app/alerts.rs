//! Lets the API read, follow and review alerts in the review store: the two rooms do not know one another.

use crate::ingress::http::{AlertDesk, AlertError};
use crate::projections::alert_feed::MAX_BEHIND;
use crate::projections::review_store::{ReviewError, ReviewStore};
use crate::wire::alert::Arrival;
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::broadcast;
use tracing::error;
use uuid::Uuid;
use verdict_core::time::Timestamp;

/// The store, and the arrivals in it.
pub(super) struct Desk {
    store: Arc<dyn ReviewStore>,
    live: broadcast::Sender<Arc<Arrival>>,
}

impl Desk {
    pub(super) fn new(store: Arc<dyn ReviewStore>) -> Self {
        Self { store, live: broadcast::Sender::new(MAX_BEHIND) }
    }

    /// Where arrivals are told.
    pub(super) fn live(&self) -> broadcast::Sender<Arc<Arrival>> {
        self.live.clone()
    }
}

/// Logs what the API does not tell its callers.
fn refused(error: &ReviewError) -> AlertError {
    match error {
        ReviewError::UnknownCursor(_) => AlertError::NotFound,
        ReviewError::Ahead => AlertError::ReviewAhead,
        ReviewError::Store(_)
        | ReviewError::Layout(_)
        | ReviewError::OtherJournal { .. }
        | ReviewError::Moved { .. }
        | ReviewError::Damaged { .. } => {
            error!(%error, "alerts cannot be read or reviewed");
            AlertError::Unavailable
        }
    }
}

impl AlertDesk for Desk {
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertError>> {
        Box::pin(async move { self.store.alerts(&filter).await.map_err(|error| refused(&error)) })
    }

    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<i64, AlertError>> {
        Box::pin(async move {
            self.store.place(alert_id).await.map_err(|error| refused(&error))?.ok_or(AlertError::NotFound)
        })
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, AlertError>> {
        Box::pin(async move { self.store.arrived(after, most).await.map_err(|error| refused(&error)) })
    }

    fn live(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.live.subscribe()
    }

    fn review(&self, alert_id: Uuid, said: NewReview, now: Timestamp) -> BoxFuture<'_, Result<Review, AlertError>> {
        Box::pin(async move {
            let stored = self.store.review(alert_id, said, now).await;
            stored.map_err(|error| refused(&error))?.ok_or(AlertError::NotFound)
        })
    }
}

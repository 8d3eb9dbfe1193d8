//! The port over the file: one line a method, as the methods themselves are written without boxes.

use super::{REMEDY, ReviewError, SqliteStore, Stretch};
use crate::journal::Wanted;
use crate::projections::review_store::{Place, ProjectionStore, Reached, ReviewStore, Unlabelled};
use crate::wire::alert::Arrival;
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;
use verdict_core::time::Timestamp;

impl ProjectionStore for SqliteStore {
    fn wanted(&self) -> Wanted {
        Wanted::Alerts
    }

    fn name(&self) -> Arc<str> {
        "review.db".into()
    }

    fn remedy(&self) -> &'static str {
        REMEDY
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<Reached>, ReviewError>> {
        Box::pin(Self::positions(self))
    }

    fn apply<'a>(&'a self, stretch: &'a Stretch) -> BoxFuture<'a, Result<(), ReviewError>> {
        Box::pin(Self::apply(self, stretch))
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>> {
        Box::pin(Self::arrived(self, after, most))
    }

    fn head(&self) -> watch::Receiver<Option<i64>> {
        self.head.subscribe()
    }
}

impl ReviewStore for SqliteStore {
    fn reset(&self) -> BoxFuture<'_, Result<(), ReviewError>> {
        Box::pin(Self::reset(self))
    }

    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<Option<i64>, ReviewError>> {
        Box::pin(Self::place(self, alert_id))
    }

    fn alerts<'a>(&'a self, filter: &'a AlertFilter) -> BoxFuture<'a, Result<AlertPage, ReviewError>> {
        Box::pin(Self::alerts(self, filter))
    }

    fn review(
        &self,
        alert_id: Uuid,
        said: NewReview,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Review>, ReviewError>> {
        Box::pin(Self::review(self, alert_id, said, now))
    }

    fn reviewed(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::reviewed(self))
    }

    fn unlabelled(&self, after: Place, most: u32) -> BoxFuture<'_, Result<Vec<Unlabelled>, ReviewError>> {
        Box::pin(Self::unlabelled(self, after, most))
    }

    fn labelled<'a>(&'a self, review_ids: &'a [i64]) -> BoxFuture<'a, Result<(), ReviewError>> {
        Box::pin(Self::labelled(self, review_ids))
    }
}

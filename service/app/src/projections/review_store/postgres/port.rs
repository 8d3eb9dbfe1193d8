//! The port over the database: one line a method, with what went wrong put into words.

use super::{PostgresStore, REMEDY, ReviewError, Stretch};
use crate::journal::Wanted;
use crate::projections::review_store::{Place, ProjectionStore, Reached, ReviewStore, Unlabelled};
use crate::wire::alert::Arrival;
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review};
use futures_util::FutureExt;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;
use verdict_core::time::Timestamp;

impl ProjectionStore for PostgresStore {
    fn wanted(&self) -> Wanted {
        Wanted::Everything
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn remedy(&self) -> &'static str {
        REMEDY
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<Reached>, ReviewError>> {
        Self::positions(self).map_err(|fault| self.told(fault)).boxed()
    }

    fn apply<'a>(&'a self, stretch: &'a Stretch) -> BoxFuture<'a, Result<(), ReviewError>> {
        Self::apply(self, stretch).map_err(|fault| self.told(fault)).boxed()
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>> {
        Self::arrived(self, after, most).map_err(|fault| self.told(fault)).boxed()
    }

    fn head(&self) -> watch::Receiver<Option<i64>> {
        self.head.subscribe()
    }
}

impl ReviewStore for PostgresStore {
    fn reset(&self) -> BoxFuture<'_, Result<(), ReviewError>> {
        Self::reset(self).map_err(|fault| self.told(fault)).boxed()
    }

    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<Option<i64>, ReviewError>> {
        Self::place(self, alert_id).map_err(|fault| self.told(fault)).boxed()
    }

    fn alerts<'a>(&'a self, filter: &'a AlertFilter) -> BoxFuture<'a, Result<AlertPage, ReviewError>> {
        Self::alerts(self, filter).map_err(|fault| self.told(fault)).boxed()
    }

    fn review(
        &self,
        alert_id: Uuid,
        said: NewReview,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Review>, ReviewError>> {
        Self::review(self, alert_id, said, now).map_err(|fault| self.told(fault)).boxed()
    }

    fn reviewed(&self) -> BoxFuture<'_, ()> {
        self.reviewed.notified().boxed()
    }

    fn unlabelled(&self, after: Place, most: u32) -> BoxFuture<'_, Result<Vec<Unlabelled>, ReviewError>> {
        Self::unlabelled(self, after, most).map_err(|fault| self.told(fault)).boxed()
    }

    fn labelled<'a>(&'a self, review_ids: &'a [i64]) -> BoxFuture<'a, Result<(), ReviewError>> {
        Self::labelled(self, review_ids).map_err(|fault| self.told(fault)).boxed()
    }
}

//! Lets the API read alerts from the review store: the two rooms do not know one another.

use crate::ingress::http::{AlertReader, AlertsUnavailable};
use crate::projections::review_store::ReviewStore;
use crate::wire::alert::{AlertFilter, AlertPage};
use futures_util::future::BoxFuture;
use tracing::error;

impl AlertReader for ReviewStore {
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertsUnavailable>> {
        Box::pin(async move {
            self.alerts(&filter).await.map_err(|error| {
                error!(%error, "alerts cannot be read");
                AlertsUnavailable
            })
        })
    }
}

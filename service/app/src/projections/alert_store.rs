//! What the alert projection and the feed ask of a store: a seam, so that both can be run over one that fails.
//!
//! Alerts and the positions that they reflect are written together, all or nothing; an alert that is there already stays
//! as it is, in its place. Whatever became of a call that failed, calling again is safe.

use super::review_store::{ReviewError, ReviewStore};
use crate::wire::alert::{Alert, Arrival};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// See the module.
pub trait AlertStore: Send + Sync {
    /// The first record that is not reflected, of each partition that has any reflected.
    fn positions(&self) -> BoxFuture<'_, Result<Vec<(u64, u64)>, ReviewError>>;

    /// Writes alerts and the positions that reflect them.
    fn apply<'a>(&'a self, alerts: &'a [Alert], positions: &'a [u64]) -> BoxFuture<'a, Result<(), ReviewError>>;

    /// The alerts that arrived after a place, at most so many, in order of arrival.
    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>>;

    /// The place of the newest alert, whenever there is another one.
    fn head(&self) -> watch::Receiver<i64>;
}

impl AlertStore for ReviewStore {
    fn positions(&self) -> BoxFuture<'_, Result<Vec<(u64, u64)>, ReviewError>> {
        Box::pin(Self::positions(self))
    }

    fn apply<'a>(&'a self, alerts: &'a [Alert], positions: &'a [u64]) -> BoxFuture<'a, Result<(), ReviewError>> {
        Box::pin(Self::apply(self, alerts, positions))
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, ReviewError>> {
        Box::pin(Self::arrived(self, after, most))
    }

    fn head(&self) -> watch::Receiver<i64> {
        Self::head(self)
    }
}

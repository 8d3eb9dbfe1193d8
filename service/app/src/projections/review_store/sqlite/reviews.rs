//! Reviews: written once, found by the label that follows, and marked when it counts.

use super::super::{Place, SettledRow, Unlabelled};
use super::{ReviewError, SqliteStore};
use crate::wire::review::{NewReview, Review};
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::futures::Notified;
use uuid::Uuid;
use verdict_core::time::Timestamp;

impl SqliteStore {
    pub(super) async fn review(
        &self,
        alert_id: Uuid,
        said: NewReview,
        now: Timestamp,
    ) -> Result<Option<Review>, ReviewError> {
        let alert_id = alert_id.to_string();
        // Later than the latest even if that came in the same millisecond, or from a clock that was ahead.
        let statement = "INSERT INTO alert_reviews (alert_id, status, assignee, note, at_ms) \
             SELECT alert_id, ?1, ?2, ?3, max(?4, coalesce((SELECT max(at_ms) + 1 FROM alert_reviews WHERE alert_id = ?5), 0)) \
             FROM alerts WHERE alert_id = ?5 RETURNING review_id, at_ms";
        let mut reviews = self.reviews.lock().await;
        let row: Option<(i64, i64)> = sqlx::query_as(statement)
            .bind(said.status.name())
            .bind(said.assignee.as_deref())
            .bind(said.note.as_deref())
            .bind(now.as_millis())
            .bind(&alert_id)
            .fetch_optional(&mut *reviews)
            .await
            .map_err(|error| if is_ahead(&error) { ReviewError::Ahead } else { self.failed(&error) })?;
        drop(reviews);
        let Some((review_id, at_ms)) = row else { return Ok(None) };
        self.reviewed.notify_one();
        Ok(Some(Review { review_id, alert_id, at: Timestamp::from_millis(at_ms), said }))
    }

    pub(super) fn reviewed(&self) -> Notified<'_> {
        self.reviewed.notified()
    }

    pub(super) async fn unlabelled(&self, after: Place, most: u32) -> Result<Vec<Unlabelled>, ReviewError> {
        let statement = "SELECT review_id, at_ms, alert_reviews.status AS said, transaction_id, user_id \
             FROM alert_reviews JOIN alerts USING (alert_id) \
             WHERE unlabelled = 1 AND alert_reviews.status <> 'in_review' AND (at_ms, review_id) > (?, ?) \
             ORDER BY at_ms, review_id LIMIT ?";
        let mut reviews = self.reviews.lock().await;
        let rows = sqlx::query_as::<_, SettledRow>(statement).bind(after.0).bind(after.1).bind(most);
        let rows = rows.fetch_all(&mut *reviews).await.map_err(|error| self.failed(&error))?;
        rows.into_iter().map(|row| Unlabelled::of(row).map_err(|what| self.damaged(&what))).collect()
    }

    pub(super) async fn labelled(&self, review_ids: &[i64]) -> Result<(), ReviewError> {
        let mut statement = QueryBuilder::<Sqlite>::new("UPDATE alert_reviews SET unlabelled = 0 WHERE review_id IN (");
        let mut ids = statement.separated(", ");
        for id in review_ids {
            ids.push_bind(*id);
        }
        statement.push(")");
        let mut reviews = self.reviews.lock().await;
        statement.build().execute(&mut *reviews).await.map(|_| ()).map_err(|error| self.failed(&error))
    }
}

/// Whether the trigger `review_in_time` refused a row: the file is sound, the time is not.
fn is_ahead(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message().starts_with("expected at_ms"))
}

//! Reviews: written once, found by the label that follows, and marked when it counts.

use super::super::{Place, SettledRow, Unlabelled};
use super::connections::using;
use super::{Fault, PostgresStore, ReviewError, rows};
use crate::wire::review::{NewReview, Review};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, QueryBuilder};
use uuid::Uuid;
use verdict_core::time::Timestamp;

/// The trigger that refuses a review of the far future.
const IN_TIME: &str = "alert_review_in_time";

impl PostgresStore {
    pub(super) async fn review(
        &self,
        alert_id: Uuid,
        said: NewReview,
        now: Timestamp,
    ) -> Result<Option<Review>, Fault> {
        let stored = using(&self.others, async |connection| insert(connection, alert_id, &said, now).await).await?;
        let Some((review_id, at_ms)) = stored else { return Ok(None) };
        self.reviewed.notify_one();
        Ok(Some(Review { review_id, alert_id: alert_id.to_string(), at: Timestamp::from_millis(at_ms), said }))
    }

    pub(super) async fn unlabelled(&self, after: Place, most: u32) -> Result<Vec<Unlabelled>, Fault> {
        let mut statement = QueryBuilder::<Postgres>::new(
            "SELECT review_id, (extract(epoch FROM at) * 1000)::bigint AS at_ms, status, transaction_id, user_id \
             FROM alert_reviews JOIN fraud_alerts USING (alert_id) \
             WHERE unlabelled AND status <> 'in_review' AND (at, review_id) > (",
        );
        // No review is of a time before 2000.
        rows::push_instant(&mut statement, after.0.max(0));
        statement.push(", ").push_bind(after.1).push(") ORDER BY at, review_id LIMIT ").push_bind(i64::from(most));
        let statement = statement.build_query_as::<SettledRow>();
        let found = using(&self.others, async |connection| Ok(statement.fetch_all(connection).await?)).await?;
        found.into_iter().map(|row| Unlabelled::of(row).map_err(|what| self.damaged(&what).into())).collect()
    }

    pub(super) async fn labelled(&self, review_ids: &[i64]) -> Result<(), Fault> {
        let marked = "UPDATE alert_reviews SET unlabelled = false WHERE review_id = ANY($1)";
        using(&self.others, async |connection| Ok(sqlx::query(marked).bind(review_ids).execute(connection).await?))
            .await
            .map(drop)
    }
}

/// Gives number and time of the review, `None` without its alert.
async fn insert(
    connection: &mut PgConnection,
    alert_id: Uuid,
    said: &NewReview,
    now: Timestamp,
) -> Result<Option<(i64, i64)>, Fault> {
    let mut transaction = connection.begin().await?;
    // Two reviews of an alert follow one another, so that each can be later than the one before.
    let found = sqlx::query("SELECT FROM fraud_alerts WHERE alert_id = $1 FOR UPDATE").bind(alert_id);
    if found.fetch_optional(&mut *transaction).await?.is_none() {
        transaction.rollback().await?;
        return Ok(None);
    }
    let mut statement =
        QueryBuilder::<Postgres>::new("INSERT INTO alert_reviews (alert_id, status, assignee, note, at) SELECT ");
    statement.push_bind(alert_id).push(", ").push_bind(said.status.name());
    statement.push(", ").push_bind(said.assignee.as_deref()).push(", ").push_bind(said.note.as_deref());
    // Later than the latest even if that came in the same millisecond, or from a clock that was ahead.
    rows::push_instant(statement.push(", greatest("), now.as_millis());
    statement.push(", (SELECT max(at) + interval '1 millisecond' FROM alert_reviews WHERE alert_id = ");
    statement.push_bind(alert_id).push(")) RETURNING review_id, (extract(epoch FROM at) * 1000)::bigint");
    let row: Result<(i64, i64), sqlx::Error> = statement.build_query_as().fetch_one(&mut *transaction).await;
    let row = row.map_err(|error| if is_ahead(&error) { ReviewError::Ahead.into() } else { Fault::Sql(error) })?;
    transaction.commit().await?;
    Ok(Some(row))
}

fn is_ahead(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.constraint()).is_some_and(|name| name == IN_TIME)
}

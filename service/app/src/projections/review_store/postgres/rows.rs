//! Rows of `fraud_alerts`: how they are asked for and read back.

use crate::wire::alert::{Alert, AlertModel, AlertRuleset};
use crate::wire::alert_query::AlertFilter;
use crate::wire::review::ReviewStatus;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, QueryBuilder, Row};
use uuid::Uuid;
use verdict_core::time::Timestamp;

/// An alert as it is read back, with where its review stands.
const SELECT: &str = "SELECT seq, alert_id::text AS alert_id, schema_version, transaction_id, user_id, decision, score, \
    risk_level, reasons::text AS reasons, amount::text AS amount, currency, merchant_id, \
    (extract(epoch FROM \"timestamp\") * 1000)::bigint AS timestamp_ms, \
    (extract(epoch FROM detected_at) * 1000)::bigint AS detected_at_ms, \
    ruleset_name, ruleset_version, model_name, model_version, model_sha256, \
    coalesce((SELECT review.status FROM alert_reviews AS review WHERE review.alert_id = alert.alert_id \
        ORDER BY review.at DESC, review.review_id DESC LIMIT 1), 'open') AS status \
    FROM fraud_alerts AS alert";

/// Where a page goes on: time of the decision and place of the alert before.
pub(super) type Position = (i64, i64);

/// The place of the newest alert, 0 without one.
pub(super) async fn newest(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM fraud_alerts").fetch_one(connection).await
}

pub(super) async fn position(connection: &mut PgConnection, alert_id: Uuid) -> Result<Option<Position>, sqlx::Error> {
    let found = "SELECT (extract(epoch FROM detected_at) * 1000)::bigint, seq FROM fraud_alerts WHERE alert_id = $1";
    sqlx::query_as(found).bind(alert_id).fetch_optional(connection).await
}

/// A page, the last decision first.
pub(super) fn select(filter: &AlertFilter, after: Option<Position>, rows: usize) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(SELECT);
    statement.push(" WHERE true");
    if let Some(user_id) = &filter.user_id {
        statement.push(" AND user_id = ").push_bind(user_id.clone());
    }
    if let Some(decision) = filter.decision {
        statement.push(" AND decision = ").push_bind(decision.name());
    }
    if let Some(status) = filter.status {
        push_status(&mut statement, status);
    }
    if let Some(since) = filter.since {
        push_instant(statement.push(" AND detected_at >= "), since.as_millis());
    }
    if let Some((detected_at_ms, seq)) = after {
        push_instant(statement.push(" AND (detected_at, seq) < ("), detected_at_ms);
        statement.push(", ").push_bind(seq).push(")");
    }
    statement.push(" ORDER BY detected_at DESC, seq DESC LIMIT ").push_bind(rows as i64);
    statement
}

/// The status of the latest review is a column of no table, as alerts are never changed. What was reviewed is little and
/// has an index; what is open has no review.
fn push_status(statement: &mut QueryBuilder<Postgres>, status: ReviewStatus) {
    if status == ReviewStatus::Open {
        statement.push(" AND NOT EXISTS (SELECT FROM alert_reviews AS said WHERE said.alert_id = alert.alert_id)");
        return;
    }
    statement.push(" AND alert.alert_id IN (SELECT said.alert_id FROM alert_reviews AS said WHERE said.status = ");
    statement.push_bind(status.name());
    statement.push(
        " AND NOT EXISTS (SELECT FROM alert_reviews AS later WHERE later.alert_id = said.alert_id \
         AND (later.at, later.review_id) > (said.at, said.review_id)))",
    );
}

/// An instant of milliseconds since 1970.
pub(super) fn push_instant(statement: &mut QueryBuilder<Postgres>, at_ms: i64) {
    statement.push("(timestamptz 'epoch' + interval '1 millisecond' * ").push_bind(at_ms).push(")");
}

/// The alerts that arrived after a place, in order of arrival.
pub(super) fn select_arrived(after: i64, rows: u32) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(SELECT);
    statement.push(" WHERE seq > ").push_bind(after).push(" ORDER BY seq LIMIT ").push_bind(i64::from(rows));
    statement
}

/// An alert and its place in the order of arrival.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn alert_of(row: &PgRow) -> Result<(i64, Alert), String> {
    let seq: i64 = row.try_get("seq").map_err(|error| error.to_string())?;
    let alert = columns_of(row).map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons: &str = row.try_get("reasons").map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons = serde_json::from_str(reasons).map_err(|error| format!("the reasons of alert {seq}: {error}"))?;
    Ok((seq, Alert { reasons, ..alert }))
}

/// Everything but the reasons.
fn columns_of(row: &PgRow) -> Result<Alert, sqlx::Error> {
    let model = match row.try_get::<Option<String>, _>("model_name")? {
        Some(name) => {
            Some(AlertModel { name, version: row.try_get("model_version")?, sha256: row.try_get("model_sha256")? })
        }
        None => None,
    };
    let status: &str = row.try_get("status")?;
    Ok(Alert {
        alert_id: row.try_get("alert_id")?,
        schema_version: row.try_get::<i32, _>("schema_version")?.cast_unsigned(),
        transaction_id: row.try_get("transaction_id")?,
        user_id: row.try_get("user_id")?,
        decision: row.try_get("decision")?,
        score: row.try_get("score")?,
        risk_level: row.try_get("risk_level")?,
        reasons: Vec::new(),
        amount: row.try_get("amount")?,
        currency: row.try_get("currency")?,
        merchant_id: row.try_get("merchant_id")?,
        timestamp: Timestamp::from_millis(row.try_get("timestamp_ms")?),
        detected_at: Timestamp::from_millis(row.try_get("detected_at_ms")?),
        ruleset: AlertRuleset { name: row.try_get("ruleset_name")?, version: row.try_get("ruleset_version")? },
        model,
        // The table takes no other than the names of a status.
        status: ReviewStatus::from_name(status),
    })
}

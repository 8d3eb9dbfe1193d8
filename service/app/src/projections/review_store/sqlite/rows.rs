//! Rows of `alerts` and `positions`: how they are written, asked for and read back.

use super::super::{PlaceRow, place_of};
use super::{Move, Reached};
use crate::journal::Partition;
use crate::wire::alert::{Alert, AlertModel, AlertRuleset};
use crate::wire::alert_query::AlertFilter;
use crate::wire::review::ReviewStatus;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};
use verdict_core::time::Timestamp;

const COLUMNS: &str = "seq, alert_id, schema_version, transaction_id, user_id, decision, score, risk_level, reasons, \
    amount, currency, merchant_id, timestamp_ms, detected_at_ms, ruleset_name, ruleset_version, model_name, \
    model_version, model_sha256, status";

/// Writes alerts; those that are there already stay.
pub(super) async fn insert(connection: &mut SqliteConnection, alerts: &[Alert]) -> Result<(), sqlx::Error> {
    let reasons: Vec<String> = alerts
        .iter()
        .map(|alert| serde_json::to_string(&alert.reasons))
        .collect::<Result<_, _>>()
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO alerts (alert_id, schema_version, transaction_id, user_id, decision, score, risk_level, reason, \
         reasons, amount, currency, merchant_id, timestamp_ms, detected_at_ms, ruleset_name, ruleset_version, \
         model_name, model_version, model_sha256) ",
    );
    statement.push_values(alerts.iter().zip(&reasons), |mut row, (alert, reasons)| {
        let model = alert.model.as_ref();
        row.push_bind(&alert.alert_id)
            .push_bind(alert.schema_version)
            .push_bind(&alert.transaction_id)
            .push_bind(&alert.user_id)
            .push_bind(&alert.decision)
            .push_bind(alert.score.map(f64::from))
            .push_bind(&alert.risk_level)
            .push_bind(alert.reasons.first().map(|reason| &reason.message))
            .push_bind(reasons)
            .push_bind(&alert.amount)
            .push_bind(&alert.currency)
            .push_bind(&alert.merchant_id)
            .push_bind(alert.timestamp.as_millis())
            .push_bind(alert.detected_at.as_millis())
            .push_bind(&alert.ruleset.name)
            .push_bind(&alert.ruleset.version)
            .push_bind(model.map(|model| &model.name))
            .push_bind(model.map(|model| &model.version))
            .push_bind(model.map(|model| &model.sha256));
    });
    statement.push(" ON CONFLICT (alert_id) DO NOTHING");
    statement.build().persistent(alerts.len() == 1).execute(connection).await.map(|_| ())
}

/// The positions of all partitions that have one.
pub(super) async fn positions(connection: &mut SqliteConnection) -> Result<Vec<Reached>, sqlx::Error> {
    let rows = sqlx::query("SELECT partition, next_n, kafka_offset, kafka_epoch, kafka_n FROM positions");
    let reached = |row: SqliteRow| {
        let place: PlaceRow = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        Ok(Reached { partition: row.try_get(0)?, n: row.try_get::<i64, _>(1)?.cast_unsigned(), place: place_of(place) })
    };
    rows.fetch_all(connection).await?.into_iter().map(reached).collect()
}

/// The position of a partition; 0 where there is none.
pub(super) async fn position_of(connection: &mut SqliteConnection, partition: Partition) -> Result<u64, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT next_n FROM positions WHERE partition = ?")
        .bind(partition)
        .fetch_optional(connection)
        .await?;
    Ok(found.unwrap_or(0).cast_unsigned())
}

pub(super) async fn set_positions(connection: &mut SqliteConnection, moves: &[Move]) -> Result<(), sqlx::Error> {
    if moves.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT OR REPLACE INTO positions (partition, next_n, kafka_offset, kafka_epoch, kafka_n) ",
    );
    statement.push_values(moves, |mut row, moved| {
        let (offset, epoch, n) = moved.place_row();
        row.push_bind(moved.partition).push_bind(moved.to.cast_signed());
        row.push_bind(offset).push_bind(epoch).push_bind(n);
    });
    statement.build().execute(connection).await.map(drop)
}

/// Where a page goes on: time of the decision and place of the alert before.
pub(super) type Position = (i64, i64);

/// A page, the last decision first. Of several filters the narrowest has its index used: a user has few alerts, while a
/// status or an outcome may have most of them. A `+` keeps SQLite, which knows no such thing, from choosing otherwise.
pub(super) fn select(filter: &AlertFilter, after: Option<Position>, rows: usize) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("SELECT {COLUMNS} FROM alerts WHERE true"));
    let mut narrowed = false;
    // The start of a condition, on a column that is not looked up once another one is.
    let mut and = || if std::mem::replace(&mut narrowed, true) { " AND +" } else { " AND " };
    if let Some(user_id) = &filter.user_id {
        statement.push(and()).push("user_id = ").push_bind(user_id.clone());
    }
    if let Some(status) = filter.status {
        statement.push(and()).push("status = ").push_bind(status.name());
    }
    if let Some(decision) = filter.decision {
        statement.push(and()).push("decision = ").push_bind(decision.name());
    }
    if let Some(since) = filter.since {
        statement.push(" AND detected_at_ms >= ").push_bind(since.as_millis());
    }
    if let Some((detected_at_ms, seq)) = after {
        statement.push(" AND detected_at_ms <= ").push_bind(detected_at_ms);
        statement.push(" AND (detected_at_ms, seq) < (").push_bind(detected_at_ms).push(", ").push_bind(seq).push(")");
    }
    statement.push(" ORDER BY detected_at_ms DESC, seq DESC LIMIT ").push_bind(rows as i64);
    statement
}

/// The alerts that arrived after a place, in order of arrival.
pub(super) fn select_arrived(after: i64, rows: u32) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("SELECT {COLUMNS} FROM alerts WHERE seq > "));
    statement.push_bind(after).push(" ORDER BY seq LIMIT ").push_bind(i64::from(rows));
    statement
}

/// An alert and its place in the order of arrival.
///
/// # Errors
/// What is wrong with the row.
pub(super) fn alert_of(row: &SqliteRow) -> Result<(i64, Alert), String> {
    let seq: i64 = row.try_get("seq").map_err(|error| error.to_string())?;
    let alert = columns_of(row).map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons: &str = row.try_get("reasons").map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons = serde_json::from_str(reasons).map_err(|error| format!("the reasons of alert {seq}: {error}"))?;
    Ok((seq, Alert { reasons, ..alert }))
}

fn status_of(row: &SqliteRow) -> Result<ReviewStatus, sqlx::Error> {
    let name: &str = row.try_get("status")?;
    ReviewStatus::from_name(name).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "status".to_owned(),
        source: format!("expected the status of a review, found {name:?}").into(),
    })
}

/// Everything but the reasons.
fn columns_of(row: &SqliteRow) -> Result<Alert, sqlx::Error> {
    let model = match row.try_get::<Option<String>, _>("model_name")? {
        Some(name) => {
            Some(AlertModel { name, version: row.try_get("model_version")?, sha256: row.try_get("model_sha256")? })
        }
        None => None,
    };
    Ok(Alert {
        alert_id: row.try_get("alert_id")?,
        schema_version: row.try_get("schema_version")?,
        transaction_id: row.try_get("transaction_id")?,
        user_id: row.try_get("user_id")?,
        decision: row.try_get("decision")?,
        score: row.try_get::<Option<f64>, _>("score")?.map(|score| score as f32),
        risk_level: row.try_get("risk_level")?,
        reasons: Vec::new(),
        amount: row.try_get("amount")?,
        currency: row.try_get("currency")?,
        merchant_id: row.try_get("merchant_id")?,
        timestamp: Timestamp::from_millis(row.try_get("timestamp_ms")?),
        detected_at: Timestamp::from_millis(row.try_get("detected_at_ms")?),
        ruleset: AlertRuleset { name: row.try_get("ruleset_name")?, version: row.try_get("ruleset_version")? },
        model,
        status: Some(status_of(row)?),
    })
}

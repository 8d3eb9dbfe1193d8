//! `review.db`: the alerts that people look at, and how far they reflect the journal.
//!
//! A file of its own, so that no query and no projection ever holds up a commit of the journal. It writes only what
//! [`super::alerts`] hands it, and never changes a row.

use crate::sqlite::Layout;
use crate::wire::alert::{Alert, AlertFilter, AlertModel, AlertPage, AlertRuleset, MAX_PAGE, ReviewStatus};
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Mutex;
use verdict_core::time::Timestamp;

const LAYOUT: Layout = Layout {
    kind: "review",
    format: 1,
    sql: include_str!("../../../../migrations/sqlite/review.sql"),
    // A power cut may cost the last rows and their position together; they are read from the journal again.
    synchronous: SqliteSynchronous::Normal,
    cache_kib: 8_192,
};

/// Alerts in one statement of 19 parameters each; SQLite allows 32,766.
const ROWS_PER_STATEMENT: usize = 64;

/// Why the store cannot be used.
#[derive(Clone, Debug, Error)]
pub enum ReviewError {
    /// The file cannot be opened, read or written.
    #[error("the review store failed: {0}")]
    Store(Arc<str>),
    /// A row is not what was written.
    #[error("{file} is damaged: {what}; move it away: alerts are made again from the journal at the next start")]
    Damaged {
        /// The file.
        file: Arc<str>,
        /// The row, and what is wrong with it.
        what: Arc<str>,
    },
}

/// The store; shared by the projection and the API, each on its own connection.
#[derive(Debug)]
pub struct ReviewStore {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    reader: Mutex<SqliteConnection>,
}

impl ReviewStore {
    /// Opens `review.db` in the directory; creates both where missing.
    ///
    /// # Errors
    /// When the file cannot be opened; the message names the remedy.
    pub async fn open(dir: &Path) -> Result<Self, ReviewError> {
        let path = dir.join("review.db");
        let writer = crate::sqlite::open(&path, &LAYOUT).await.map_err(ReviewError::Store)?;
        let reader = crate::sqlite::open_reader(&path, MAX_PAGE as usize).await;
        let reader = reader.map_err(|error| ReviewError::Store(crate::sqlite::explain(&path, &error)))?;
        Ok(Self { path, writer: Mutex::new(writer), reader: Mutex::new(reader) })
    }

    /// The first record that is not reflected, of each partition that has any reflected.
    pub(super) async fn positions(&self) -> Result<Vec<(u64, u64)>, ReviewError> {
        let mut writer = self.writer.lock().await;
        let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT partition, next_n FROM positions")
            .fetch_all(&mut *writer)
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(rows.into_iter().map(|(partition, next_n)| (partition.cast_unsigned(), next_n.cast_unsigned())).collect())
    }

    /// Writes alerts and the positions that reflect them, all or nothing; alerts that are there already stay.
    pub(super) async fn apply(&self, alerts: &[Alert], positions: &[u64]) -> Result<(), ReviewError> {
        let mut writer = self.writer.lock().await;
        let applied = async {
            let mut transaction = writer.begin().await?;
            for rows in alerts.chunks(ROWS_PER_STATEMENT) {
                insert(&mut transaction, rows).await?;
            }
            let mut statement = QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO positions (partition, next_n) ");
            statement.push_values(positions.iter().enumerate(), |mut row, (partition, next_n)| {
                row.push_bind(partition as i64).push_bind(next_n.cast_signed());
            });
            statement.build().execute(&mut *transaction).await?;
            transaction.commit().await
        };
        applied.await.map_err(|error: sqlx::Error| self.failed(&error))
    }

    /// A page of alerts, the last to arrive first.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is damaged.
    pub async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, ReviewError> {
        if filter.status.is_some_and(|status| status != ReviewStatus::Open) {
            return Ok(AlertPage { alerts: Vec::new(), next_cursor: None });
        }
        let limit = filter.limit.clamp(1, MAX_PAGE) as usize;
        let mut statement = select(filter, limit + 1);
        let mut reader = self.reader.lock().await;
        let rows = statement.build().fetch_all(&mut *reader).await.map_err(|error| self.failed(&error))?;
        drop(reader);
        let mut page = Vec::with_capacity(limit);
        let mut last = 0;
        for row in rows.iter().take(limit) {
            let (seq, alert) = alert_of(row).map_err(|what| self.damaged(&what))?;
            last = seq;
            page.push(alert);
        }
        let next_cursor = (rows.len() > limit).then_some(last);
        Ok(AlertPage { alerts: page, next_cursor })
    }

    fn failed(&self, error: &sqlx::Error) -> ReviewError {
        ReviewError::Store(crate::sqlite::explain(&self.path, error))
    }

    fn damaged(&self, what: &str) -> ReviewError {
        ReviewError::Damaged { file: self.path.display().to_string().into(), what: what.into() }
    }
}

async fn insert(connection: &mut SqliteConnection, alerts: &[Alert]) -> Result<(), sqlx::Error> {
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

fn select(filter: &AlertFilter, rows: usize) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(
        "SELECT seq, alert_id, schema_version, transaction_id, user_id, decision, score, risk_level, reasons, amount, \
         currency, merchant_id, timestamp_ms, detected_at_ms, ruleset_name, ruleset_version, model_name, \
         model_version, model_sha256 FROM alerts WHERE seq < ",
    );
    statement.push_bind(filter.cursor.unwrap_or(i64::MAX));
    if let Some(user_id) = &filter.user_id {
        statement.push(" AND user_id = ").push_bind(user_id.clone());
    }
    if let Some(decision) = filter.decision {
        statement.push(" AND decision = ").push_bind(decision.name());
    }
    if let Some(since) = filter.since {
        statement.push(" AND detected_at_ms >= ").push_bind(since.as_millis());
    }
    statement.push(" ORDER BY seq DESC LIMIT ").push_bind(rows as i64);
    statement
}

fn alert_of(row: &SqliteRow) -> Result<(i64, Alert), String> {
    let seq: i64 = row.try_get("seq").map_err(|error| error.to_string())?;
    let alert = columns_of(row).map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons: &str = row.try_get("reasons").map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons = serde_json::from_str(reasons).map_err(|error| format!("the reasons of alert {seq}: {error}"))?;
    Ok((seq, Alert { reasons, ..alert }))
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
        // Until reviews are stored every alert is open.
        status: Some(ReviewStatus::Open),
    })
}

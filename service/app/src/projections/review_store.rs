//! `review.db`: the alerts that people look at, and how far they reflect the journal.
//!
//! A file of its own, so that no query and no projection ever holds up a commit of the journal. It writes only what
//! [`super::alerts`] hands it, and never changes a row.

use crate::sqlite::Layout;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Mutex;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

const LAYOUT: Layout = Layout {
    kind: "review",
    format: 1,
    sql: include_str!("../../../../migrations/sqlite/review.sql"),
    // A power cut may cost the last rows and their position together; they are read from the journal again.
    synchronous: SqliteSynchronous::Normal,
    cache_kib: 8_192,
};

/// Most alerts on a page.
pub const MAX_PAGE: u32 = 500;
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

/// Where an alert stands with its reviewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertStatus {
    /// Nobody has looked at it.
    Open,
    /// Somebody does.
    InReview,
    /// It was fraud.
    ConfirmedFraud,
    /// It was none.
    FalsePositive,
}

impl AlertStatus {
    /// Every status, with its name on the wire.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Open, "open"),
        (Self::InReview, "in_review"),
        (Self::ConfirmedFraud, "confirmed_fraud"),
        (Self::FalsePositive, "false_positive"),
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InReview => "in_review",
            Self::ConfirmedFraud => "confirmed_fraud",
            Self::FalsePositive => "false_positive",
        }
    }
}

/// One alert, ready for the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAlert {
    /// UUID, derived from the transaction.
    pub alert_id: String,
    /// Version of the alert's shape.
    pub schema_version: u32,
    /// The transaction that was decided.
    pub transaction_id: String,
    /// Its user.
    pub user_id: String,
    /// The outcome's name.
    pub decision: String,
    /// The model's probability of fraud, if it answered.
    pub score: Option<f32>,
    /// The risk level's name.
    pub risk_level: String,
    /// Why, the most severe first.
    pub reasons: Vec<StoredReason>,
    /// Decimal string in the transaction's currency.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Who was to be paid.
    pub merchant_id: String,
    /// When the transaction happened, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// When it was decided, in milliseconds since the Unix epoch.
    pub detected_at_ms: i64,
    /// Name of the rule set.
    pub ruleset_name: String,
    /// Version of the rule set: SHA-256, hexadecimal.
    pub ruleset_version: String,
    /// The model, if one was configured.
    pub model: Option<StoredModel>,
}

/// A reason, as stored in JSON: the shape that a decision shows, in which a model band's has null for its rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReason {
    /// Machine-readable reason code.
    pub code: String,
    /// The sentence for people.
    pub message: String,
    /// The rule that gave it; none for a model band.
    #[serde(default)]
    pub rule_id: Option<String>,
    /// That rule's version.
    #[serde(default)]
    pub rule_version: Option<u32>,
}

/// A model, as alerts name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// Name in the manifest.
    pub name: String,
    /// Version in the manifest.
    pub version: String,
    /// SHA-256 of the model file, hexadecimal.
    pub sha256: String,
}

/// Which alerts to show; every part that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Where it stands; until reviews exist every alert is open.
    pub status: Option<AlertStatus>,
    /// Whose.
    pub user_id: Option<String>,
    /// With this outcome.
    pub decision: Option<Outcome>,
    /// Decided at or after this.
    pub since: Option<Timestamp>,
    /// `next_cursor` of the page before.
    pub cursor: Option<i64>,
    /// Alerts on the page, 1 to [`MAX_PAGE`]; other values are brought into that range.
    pub limit: u32,
}

/// A page of alerts, the last to arrive first. Alerts that arrive later do not move what the next pages show.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<StoredAlert>,
    /// For the next page; `None` on the last.
    pub next_cursor: Option<i64>,
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
    pub(super) async fn apply(&self, alerts: &[StoredAlert], positions: &[u64]) -> Result<(), ReviewError> {
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
        if filter.status.is_some_and(|status| status != AlertStatus::Open) {
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

async fn insert(connection: &mut SqliteConnection, alerts: &[StoredAlert]) -> Result<(), sqlx::Error> {
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
            .push_bind(alert.timestamp_ms)
            .push_bind(alert.detected_at_ms)
            .push_bind(&alert.ruleset_name)
            .push_bind(&alert.ruleset_version)
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

fn alert_of(row: &SqliteRow) -> Result<(i64, StoredAlert), String> {
    let seq: i64 = row.try_get("seq").map_err(|error| error.to_string())?;
    let alert = columns_of(row).map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons: &str = row.try_get("reasons").map_err(|error| format!("alert {seq}: {error}"))?;
    let reasons = serde_json::from_str(reasons).map_err(|error| format!("the reasons of alert {seq}: {error}"))?;
    Ok((seq, StoredAlert { reasons, ..alert }))
}

/// Everything but the reasons.
fn columns_of(row: &SqliteRow) -> Result<StoredAlert, sqlx::Error> {
    let model = match row.try_get::<Option<String>, _>("model_name")? {
        Some(name) => {
            Some(StoredModel { name, version: row.try_get("model_version")?, sha256: row.try_get("model_sha256")? })
        }
        None => None,
    };
    Ok(StoredAlert {
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
        timestamp_ms: row.try_get("timestamp_ms")?,
        detected_at_ms: row.try_get("detected_at_ms")?,
        ruleset_name: row.try_get("ruleset_name")?,
        ruleset_version: row.try_get("ruleset_version")?,
        model,
    })
}

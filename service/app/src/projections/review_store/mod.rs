//! `review.db`: the alerts that people look at, how far they reflect the journal, and what people say about them.
//!
//! A file of its own, so that no query and no projection ever holds up a commit of the journal. Alerts are written only
//! by [`super::alerts`] and are never changed but for the status of their latest review, which triggers keep. Reviews are
//! primary data, also those that somebody inserts by hand: nothing here deletes or changes one, and each commit of one is
//! synced.

mod reviews;
mod rows;
#[cfg(test)]
pub(super) mod tests;

pub(super) use reviews::Place;
pub use reviews::Unlabelled;

use crate::sqlite::Layout;
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage, MAX_PAGE};
use rows::{Position, alert_of};
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Sqlite};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{Mutex, Notify, watch};
use uuid::Uuid;

const LAYOUT: Layout = Layout {
    kind: "review",
    format: 2,
    sql: include_str!("../../../../../migrations/sqlite/review.sql"),
    upgrades: &[include_str!("../../../../../migrations/sqlite/review-2.sql")],
    // A power cut may cost the last rows and their position together; they are read from the journal again.
    synchronous: SqliteSynchronous::Normal,
    cache_kib: 8_192,
};

/// For reviews, which no journal has.
const REVIEWS: Layout = Layout { synchronous: SqliteSynchronous::Full, cache_kib: 1_024, ..LAYOUT };

/// Alerts in one statement of 19 parameters each; SQLite allows 32,766.
const ROWS_PER_STATEMENT: usize = 64;

/// Why the store cannot be used.
#[derive(Clone, Debug, Error)]
pub enum ReviewError {
    /// The file cannot be opened, read or written.
    #[error("the review store failed: {0}")]
    Store(Arc<str>),
    /// A row is not what was written.
    #[error(
        "{file} is damaged: {what}; with the service stopped, have SQLite execute \"DELETE FROM alerts; DELETE FROM \
         positions\" on it: alerts are made again from the journal at the next start, reviews stay"
    )]
    Damaged {
        /// The file.
        file: Arc<str>,
        /// The row, and what is wrong with it.
        what: Arc<str>,
    },
    /// A page was to go on after an alert that is not there.
    #[error("expected the cursor of an alert that is here, found one of alert {0}; start again without a cursor")]
    UnknownCursor(Uuid),
    /// The latest review of the alert is dated so far ahead that none can come after it yet.
    #[error("expected a latest review that is at most a day ahead, found one after which none can come yet")]
    Ahead,
}

/// The store. Whoever may have to wait for SQLite has a connection of its own: the projection, reviews, pages, streams.
#[derive(Debug)]
pub struct ReviewStore {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    reviews: Mutex<SqliteConnection>,
    reader: Mutex<SqliteConnection>,
    follower: Mutex<SqliteConnection>,
    /// The place of the newest alert.
    head: watch::Sender<i64>,
    reviewed: Notify,
}

impl ReviewStore {
    /// Opens `review.db` in the directory; creates both where missing.
    ///
    /// # Errors
    /// When the file cannot be opened; the message names the remedy.
    pub async fn open(dir: &Path) -> Result<Self, ReviewError> {
        let path = dir.join("review.db");
        let writer = crate::sqlite::open(&path, &LAYOUT).await.map_err(ReviewError::Store)?;
        let reviews = crate::sqlite::open(&path, &REVIEWS).await.map_err(ReviewError::Store)?;
        let failed = |error| ReviewError::Store(crate::sqlite::explain(&path, &error));
        let reader = crate::sqlite::open_reader(&path, MAX_PAGE as usize).await.map_err(failed)?;
        let mut follower = crate::sqlite::open_reader(&path, MAX_PAGE as usize).await.map_err(failed)?;
        let head = newest(&mut follower).await.map_err(failed)?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            reviews: Mutex::new(reviews),
            reader: Mutex::new(reader),
            follower: Mutex::new(follower),
            head: watch::Sender::new(head),
            reviewed: Notify::new(),
        })
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
            for chunk in alerts.chunks(ROWS_PER_STATEMENT) {
                rows::insert(&mut transaction, chunk).await?;
            }
            let mut statement = QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO positions (partition, next_n) ");
            statement.push_values(positions.iter().enumerate(), |mut row, (partition, next_n)| {
                row.push_bind(partition as i64).push_bind(next_n.cast_signed());
            });
            statement.build().execute(&mut *transaction).await?;
            let head = newest(&mut transaction).await?;
            transaction.commit().await?;
            Ok(head)
        };
        let head = applied.await.map_err(|error: sqlx::Error| self.failed(&error))?;
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        Ok(())
    }

    /// The place of the newest alert, whenever there is another one.
    pub(super) fn head(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// The alerts that arrived after a place, at most so many, in order of arrival.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is damaged.
    pub async fn arrived(&self, after: i64, most: u32) -> Result<Vec<Arrival>, ReviewError> {
        let mut statement = rows::select_arrived(after, most);
        let mut follower = self.follower.lock().await;
        let rows = statement.build().fetch_all(&mut *follower).await.map_err(|error| self.failed(&error))?;
        drop(follower);
        rows.iter().map(|row| self.read(row).map(|(seq, alert)| Arrival::new(seq, alert))).collect()
    }

    /// The place of an alert in the order of arrival, `None` for one that is not there; without an id, of the newest.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn place(&self, alert_id: Option<Uuid>) -> Result<Option<i64>, ReviewError> {
        let mut follower = self.follower.lock().await;
        let place = match alert_id {
            None => newest(&mut follower).await.map(Some),
            Some(id) => position(&mut follower, id).await.map(|found| found.map(|(_, seq)| seq)),
        };
        place.map_err(|error| self.failed(&error))
    }

    /// A page of alerts, the last to be decided first.
    ///
    /// # Errors
    /// When the file cannot be read, a row is damaged, or the alert to go on after is not there.
    pub async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, ReviewError> {
        let limit = filter.limit.clamp(1, MAX_PAGE) as usize;
        let mut reader = self.reader.lock().await;
        let after = match filter.after {
            None => None,
            Some(id) => {
                let found = position(&mut reader, id).await.map_err(|error| self.failed(&error))?;
                Some(found.ok_or(ReviewError::UnknownCursor(id))?)
            }
        };
        let mut statement = rows::select(filter, after, limit + 1);
        let rows = statement.build().fetch_all(&mut *reader).await.map_err(|error| self.failed(&error))?;
        drop(reader);
        let alerts = rows.iter().take(limit).map(|row| self.read(row).map(|(_, alert)| alert));
        let alerts = alerts.collect::<Result<Vec<Alert>, _>>()?;
        let next_cursor = match alerts.last().filter(|_| rows.len() > limit) {
            None => None,
            Some(last) => {
                let id = Uuid::try_parse(&last.alert_id).map_err(|error| self.damaged(&error.to_string()))?;
                Some(filter.cursor_after(id))
            }
        };
        Ok(AlertPage { alerts, next_cursor })
    }

    fn read(&self, row: &SqliteRow) -> Result<(i64, Alert), ReviewError> {
        alert_of(row).map_err(|what| self.damaged(&what))
    }

    fn failed(&self, error: &sqlx::Error) -> ReviewError {
        ReviewError::Store(crate::sqlite::explain(&self.path, error))
    }

    fn damaged(&self, what: &str) -> ReviewError {
        ReviewError::Damaged { file: self.path.display().to_string().into(), what: what.into() }
    }
}

/// The place of the newest alert, 0 without one.
async fn newest(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM alerts").fetch_one(connection).await
}

async fn position(connection: &mut SqliteConnection, alert_id: Uuid) -> Result<Option<Position>, sqlx::Error> {
    let found = sqlx::query_as("SELECT detected_at_ms, seq FROM alerts WHERE alert_id = ?");
    found.bind(alert_id.to_string()).fetch_optional(connection).await
}

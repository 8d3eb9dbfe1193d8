//! `review.db`: the alerts that people look at, how far they reflect the journal, and what people say about them.
//!
//! A file of its own, so that no query and no projection ever holds up a commit of the journal. Alerts are written only
//! by the projection and are never changed but for the status of their latest review, which triggers keep. Reviews are
//! primary data, also those that somebody inserts by hand: nothing here deletes or changes one, and each commit of one is
//! synced.

mod port;
mod reviews;
mod rows;
#[cfg(test)]
pub(in crate::projections) mod tests;

use super::{Move, Reached, ReviewError, Stretch, page_of};
use crate::sqlite::Layout;
use crate::telemetry::clock::instant;
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage, MAX_PAGE};
use rows::{Position, alert_of};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{Mutex, Notify, watch};
use uuid::Uuid;

const LAYOUT: Layout = Layout {
    kind: "review",
    format: 3,
    sql: include_str!("../../../../../../migrations/sqlite/review.sql"),
    upgrades: &[
        include_str!("../../../../../../migrations/sqlite/review-2.sql"),
        include_str!("../../../../../../migrations/sqlite/review-3.sql"),
    ],
    // A power cut may cost the last rows and their position together; they are read from the journal again.
    synchronous: SqliteSynchronous::Normal,
    cache_kib: 8_192,
};

/// For reviews, which no journal has.
const REVIEWS: Layout = Layout { synchronous: SqliteSynchronous::Full, cache_kib: 1_024, ..LAYOUT };

/// Alerts in one statement of 19 parameters each; SQLite allows 32,766.
const ROWS_PER_STATEMENT: usize = 64;

/// Part of the time that a write of alerts took in which the next lets others in, half a second at most. SQLite has one writer at
/// a time, and a review that somebody writes meanwhile only asks again and again whether it may.
const GAP: u32 = 4;
/// See there.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// What makes alerts again that are damaged, or ahead of the journal.
const REMEDY: &str = "with the service stopped, have SQLite execute \"DELETE FROM alerts; DELETE FROM positions\" on it: \
    alerts are made again from the journal at the next start, reviews stay";

/// The store. Whoever may have to wait for SQLite has a connection of its own: the projection, reviews, pages, streams.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    reviews: Mutex<SqliteConnection>,
    reader: Mutex<SqliteConnection>,
    follower: Mutex<SqliteConnection>,
    /// The place of the newest alert.
    head: watch::Sender<Option<i64>>,
    reviewed: Notify,
}

impl SqliteStore {
    /// Opens `review.db` in the directory; creates both where missing. What people read may be late, payments may not: all of
    /// its work stands behind the decisions.
    ///
    /// # Errors
    /// When the file cannot be opened; the message names the remedy.
    pub async fn open(dir: &Path) -> Result<Self, ReviewError> {
        let opening = Self::open_here(dir.join("review.db"));
        let opened = crate::sqlite::open_behind(opening).await;
        opened.map_err(|error| ReviewError::Store(format!("no thread for review.db: {error}").into()))?
    }

    async fn open_here(path: PathBuf) -> Result<Self, ReviewError> {
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
            head: watch::Sender::new(Some(head)),
            reviewed: Notify::new(),
        })
    }

    async fn positions(&self) -> Result<Vec<Reached>, ReviewError> {
        let mut writer = self.writer.lock().await;
        rows::positions(&mut writer).await.map_err(|error| self.failed(&error))
    }

    /// Writes the alerts of a stretch; it has nothing else.
    async fn apply(&self, stretch: &Stretch) -> Result<(), ReviewError> {
        let mut writer = self.writer.lock().await;
        let began = instant();
        let applied = async {
            // At once for writing: somebody else may do so between the look at the positions and their move.
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
            for moved in &stretch.moves {
                let found = rows::position_of(&mut transaction, moved.partition).await?;
                if found != moved.from {
                    return Ok(Err(moved.refused(found)));
                }
            }
            for chunk in stretch.alerts.chunks(ROWS_PER_STATEMENT) {
                rows::insert(&mut transaction, chunk).await?;
            }
            rows::set_positions(&mut transaction, &stretch.moves).await?;
            let head = newest(&mut transaction).await?;
            transaction.commit().await?;
            Ok(Ok(head))
        };
        let head = applied.await.map_err(|error: sqlx::Error| self.failed(&error))??;
        drop(writer);
        self.head.send_if_modified(|known| known.replace(head) != Some(head));
        tokio::time::sleep((instant().saturating_duration_since(began) / GAP).min(LONGEST_GAP)).await;
        Ok(())
    }

    async fn reset(&self) -> Result<(), ReviewError> {
        let mut writer = self.writer.lock().await;
        let reset = sqlx::query("DELETE FROM positions").execute(&mut *writer).await;
        reset.map(drop).map_err(|error| self.failed(&error))
    }

    async fn arrived(&self, after: i64, most: u32) -> Result<Vec<Arrival>, ReviewError> {
        let mut statement = rows::select_arrived(after, most);
        let mut follower = self.follower.lock().await;
        let rows = statement.build().fetch_all(&mut *follower).await.map_err(|error| self.failed(&error))?;
        drop(follower);
        rows.iter().map(|row| self.read(row).map(|(seq, alert)| Arrival::new(seq, alert))).collect()
    }

    async fn place(&self, alert_id: Option<Uuid>) -> Result<Option<i64>, ReviewError> {
        let mut follower = self.follower.lock().await;
        let place = match alert_id {
            None => newest(&mut follower).await.map(Some),
            Some(id) => position(&mut follower, id).await.map(|found| found.map(|(_, seq)| seq)),
        };
        place.map_err(|error| self.failed(&error))
    }

    async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, ReviewError> {
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
        let alerts = rows.iter().map(|row| self.read(row).map(|(_, alert)| alert)).collect::<Result<_, _>>()?;
        page_of(filter, alerts, limit).map_err(|error| self.damaged(&error.to_string()))
    }

    fn read(&self, row: &SqliteRow) -> Result<(i64, Alert), ReviewError> {
        alert_of(row).map_err(|what| self.damaged(&what))
    }

    fn failed(&self, error: &sqlx::Error) -> ReviewError {
        ReviewError::Store(crate::sqlite::explain(&self.path, error))
    }

    fn damaged(&self, what: &str) -> ReviewError {
        ReviewError::Damaged { store: self.path.display().to_string().into(), what: what.into(), remedy: REMEDY }
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

//! The review store in PostgreSQL: `fraud_alerts`, `decisions` and `labels` as analysts and their tools ask for them, and
//! `alert_reviews`, which they write (migrations/postgres).
//!
//! The projection has a connection of its own, so that no query of the API holds it up. Nothing here is needed to start or
//! to decide: the database is first asked when it is there, and is then brought up or refused. Instants cross as
//! milliseconds, which is what both sides count in.

mod connections;
mod days;
mod port;
mod reviews;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use super::{DecidedAt, Reached, ReviewError, Stretch, page_of};
use crate::journal::Partition;
use crate::telemetry::clock::Clock;
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage, MAX_PAGE};
use connections::{Connections, using, within};
use days::{Day, Days};
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, watch};
use uuid::Uuid;

/// How long a write of the projection may take: some tens of milliseconds are usual.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long a use by the API may take; as long again may pass before a place is free, and 4 s until a connection answers.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// How long migrations may take: an index over the alerts of years.
const MIGRATE_WITHIN: Duration = Duration::from_secs(3_600);

/// What makes rows again that are damaged, or ahead of the journal.
const REMEDY: &str = "have it execute \"TRUNCATE fraud_alerts, decisions, labels\" and run `verdict rebuild review`: all \
    three are made again from the journal, reviews stay";

/// Of which journal the store is filled, and what it keeps.
#[derive(Clone)]
pub struct Settings {
    /// Identity of the journal: two never share a database.
    pub journal: Arc<str>,
    /// Partitions of the journal.
    pub partitions: Partition,
    /// Days of `decisions` before today.
    pub decision_days: u32,
    /// Connections at most, 2 or more: one is the projection's.
    pub max_connections: u32,
    /// Whether tables that are behind are brought up when they are first seen, or refused.
    pub migrate: bool,
    /// Tells which day it is.
    pub clock: Clock,
}

/// See the module.
pub struct PostgresStore {
    settings: Settings,
    /// What messages call it; without the password.
    name: Arc<str>,
    writer: Connections,
    others: Connections,
    /// The partitions of `decisions`; `None` until the tables were looked at, and since the last failure.
    days: Mutex<Option<Days>>,
    head: watch::Sender<Option<i64>>,
    reviewed: Notify,
}

/// What went wrong over a connection.
#[derive(Debug)]
enum Fault {
    Sql(sqlx::Error),
    Told(ReviewError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<ReviewError> for Fault {
    fn from(error: ReviewError) -> Self {
        Self::Told(error)
    }
}

impl PostgresStore {
    /// A store in the database that `options` name; nothing is asked of it yet.
    #[must_use]
    pub fn new(options: &PgConnectOptions, settings: Settings) -> Self {
        let host = options.get_socket().map_or(options.get_host().to_owned(), |socket| socket.display().to_string());
        let (port, database) = (options.get_port(), options.get_database().unwrap_or_else(|| options.get_username()));
        let others = settings.max_connections.saturating_sub(1).max(1) as usize;
        Self {
            name: format!("database {database} at {host}:{port}").into(),
            writer: Connections::new(options, 1, WRITE_WITHIN),
            others: Connections::new(options, others, ASK_WITHIN),
            settings,
            days: Mutex::default(),
            head: watch::Sender::new(None),
            reviewed: Notify::new(),
        }
    }

    /// Brings the tables up; gives the number of migrations that were missing.
    ///
    /// # Errors
    /// When the database cannot be reached, or a migration fails.
    pub async fn migrate(&self) -> Result<usize, ReviewError> {
        let migrated = async {
            let mut lease = self.writer.lease().await?;
            within(MIGRATE_WITHIN, schema::migrate(&mut lease)).await
        };
        migrated.await.map_err(|fault| self.told(fault))
    }

    /// Sees to it that the tables are those of this release, and gives the partitions of `decisions`.
    async fn settle(&self) -> Result<Days, Fault> {
        let standing = using(&self.writer, async |connection| schema::standing(connection).await).await?;
        match standing {
            schema::Standing::Current => {}
            schema::Standing::Behind(_) if self.settings.migrate => {
                let done = self.migrate().await?;
                tracing::info!(store = %self.name, migrations = done, "the tables were brought up to this release");
            }
            schema::Standing::Behind(missing) => return Err(schema::behind(missing).into()),
        }
        using(&self.writer, async |connection| Ok(Days::find(connection).await?)).await
    }

    /// The first day of `decisions` that is kept, and today.
    fn kept(&self) -> (Day, Day) {
        let today = Day::of(self.settings.clock.now());
        (today.plus(-i64::from(self.settings.decision_days)), today)
    }

    async fn positions(&self) -> Result<Vec<Reached>, Fault> {
        let mut known = self.days.lock().await;
        // Taken out, and put back when all went well.
        let mut days = match known.take() {
            Some(days) => days,
            None => self.settle().await?,
        };
        let (first, today) = self.kept();
        let (positions, head) = using(&self.writer, async |connection| {
            days.tend(connection, today, first).await?;
            let positions = write::positions(connection, &self.settings).await?;
            Ok((positions, rows::newest(connection).await?))
        })
        .await?;
        self.head.send_if_modified(|known| known.is_none() && known.replace(head).is_none());
        *known = Some(days);
        Ok(positions)
    }

    async fn apply(&self, stretch: &Stretch) -> Result<(), Fault> {
        let mut known = self.days.lock().await;
        let mut days = match known.take() {
            Some(days) => days,
            None => self.settle().await?,
        };
        let (first, today) = self.kept();
        let decided: Vec<&DecidedAt> =
            stretch.decided.iter().filter(|at| Day::of(at.decided.evaluated_at) >= first).collect();
        let head = using(&self.writer, async |connection| {
            days.tend(connection, today, first).await?;
            days.make(connection, decided.iter().map(|at| Day::of(at.decided.evaluated_at))).await?;
            write::apply(connection, &self.settings.journal, stretch, &decided).await
        })
        .await?;
        *known = Some(days);
        self.head.send_if_modified(|known| known.replace(head) != Some(head));
        Ok(())
    }

    async fn reset(&self) -> Result<(), Fault> {
        let mut known = self.days.lock().await;
        let days = match known.take() {
            Some(days) => days,
            None => self.settle().await?,
        };
        using(&self.writer, async |connection| {
            // Refuses the store of another journal.
            write::positions(connection, &self.settings).await?;
            Ok(write::reset(connection, &self.settings.journal).await?)
        })
        .await?;
        *known = Some(days);
        Ok(())
    }

    async fn arrived(&self, after: i64, most: u32) -> Result<Vec<Arrival>, Fault> {
        let rows = using(&self.others, async |connection| {
            Ok(rows::select_arrived(after, most).build().fetch_all(connection).await?)
        })
        .await?;
        rows.iter().map(|row| Ok(self.read(row).map(|(seq, alert)| Arrival::new(seq, alert))?)).collect()
    }

    async fn place(&self, alert_id: Option<Uuid>) -> Result<Option<i64>, Fault> {
        using(&self.others, async |connection| match alert_id {
            None => Ok(Some(rows::newest(connection).await?)),
            Some(id) => Ok(rows::position(connection, id).await?.map(|(_, seq)| seq)),
        })
        .await
    }

    async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, Fault> {
        let limit = filter.limit.clamp(1, MAX_PAGE) as usize;
        let rows = using(&self.others, async |connection| {
            let after = match filter.after {
                None => None,
                Some(id) => Some(rows::position(connection, id).await?.ok_or(ReviewError::UnknownCursor(id))?),
            };
            Ok(rows::select(filter, after, limit + 1).build().fetch_all(connection).await?)
        })
        .await?;
        let alerts: Vec<Alert> =
            rows.iter().map(|row| self.read(row).map(|(_, alert)| alert)).collect::<Result<_, _>>()?;
        page_of(filter, alerts, limit).map_err(|error| self.damaged(&error.to_string()).into())
    }

    fn read(&self, row: &sqlx::postgres::PgRow) -> Result<(i64, Alert), ReviewError> {
        rows::alert_of(row).map_err(|what| self.damaged(&what))
    }

    fn damaged(&self, what: &str) -> ReviewError {
        ReviewError::Damaged { store: Arc::clone(&self.name), what: what.into(), remedy: REMEDY }
    }

    fn told(&self, fault: Fault) -> ReviewError {
        match fault {
            Fault::Told(error) => error,
            Fault::Sql(error) => ReviewError::Store(format!("{}: {error}", self.name).into()),
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("name", &self.name).finish_non_exhaustive()
    }
}

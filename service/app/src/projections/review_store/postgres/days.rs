//! The partitions of `decisions`, one a day in UTC: made ahead, and dropped when they are older than what is kept.
//!
//! What is known of them is kept between writes, as they change once a day; whoever fails forgets it and looks again.

use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;
use verdict_core::time::{DAY_MS, Timestamp};

/// Days that are made ahead of today: a day without the service, and the clocks of several nodes.
const AHEAD: i64 = 2;
const PREFIX: &str = "decisions_";

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(i64);

impl Day {
    pub(super) const fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(DAY_MS))
    }

    /// So many days later.
    pub(super) const fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    fn date(self) -> Option<jiff::civil::Date> {
        let start = jiff::Timestamp::from_millisecond(self.0.checked_mul(DAY_MS)?).ok()?;
        Some(start.to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    /// The name of its partition; `None` outside the years that have one.
    fn partition(self) -> Option<String> {
        let date = self.date().filter(|date| date.year() > 0)?;
        Some(format!("{PREFIX}{:04}{:02}{:02}", date.year(), date.month(), date.day()))
    }

    fn of_partition(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 8)?;
        let date = jiff::civil::Date::strptime("%Y%m%d", digits).ok()?;
        let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(start.timestamp().as_millisecond().div_euclid(DAY_MS)))
    }
}

/// What is known of the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    made: BTreeSet<Day>,
    /// When they were last looked after.
    tended: Option<Day>,
}

impl Days {
    /// Asks the database.
    pub(super) async fn find(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT child.relname::text FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid \
             WHERE inhparent = 'decisions'::regclass",
        )
        .fetch_all(connection)
        .await?;
        Ok(Self { made: names.iter().filter_map(|name| Day::of_partition(name)).collect(), tended: None })
    }

    /// Once a day makes the partitions of the next ones, and drops those of days before `first`.
    pub(super) async fn tend(
        &mut self,
        connection: &mut PgConnection,
        today: Day,
        first: Day,
    ) -> Result<(), sqlx::Error> {
        if self.tended == Some(today) {
            return Ok(());
        }
        self.make(connection, (0..=AHEAD).map(|days| today.plus(days))).await?;
        for old in self.made.range(..first).copied().collect::<Vec<_>>() {
            match forget(connection, old).await {
                Ok(()) => drop(self.made.remove(&old)),
                Err(error) => {
                    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
                    tracing::warn!(%error, "decisions of days that are over stay until tomorrow");
                    // Whoever reads this one holds up the others as well, each for as long.
                    break;
                }
            }
        }
        self.tended = Some(today);
        Ok(())
    }

    /// Makes the partitions of days that have none.
    pub(super) async fn make(
        &mut self,
        connection: &mut PgConnection,
        days: impl Iterator<Item = Day>,
    ) -> Result<(), sqlx::Error> {
        for day in days {
            if !self.made.contains(&day) {
                make(connection, day).await?;
                self.made.insert(day);
            }
        }
        Ok(())
    }
}

/// Makes the partition of a day. Attached rather than created in place, which would wait for everybody who reads
/// `decisions`, and have everybody else wait for that.
async fn make(connection: &mut PgConnection, day: Day) -> Result<(), sqlx::Error> {
    let bounds = day.partition().zip(day.date().zip(day.plus(1).date()));
    let Some((name, (from, to))) = bounds else {
        return Err(sqlx::Error::Protocol(format!("expected decisions of years 1 to 9999, found day {}", day.0)));
    };
    let sql = format!(
        "BEGIN; \
         CREATE TABLE IF NOT EXISTS {name} (LIKE decisions INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
         ALTER TABLE decisions ATTACH PARTITION {name} FOR VALUES FROM ('{from} 00:00:00Z') TO ('{to} 00:00:00Z'); \
         COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Drops the partition of a day, unless somebody reads it for longer than a moment: the next day will do.
async fn forget(connection: &mut PgConnection, day: Day) -> Result<(), sqlx::Error> {
    let Some(name) = day.partition() else { return Ok(()) };
    let sql = format!("BEGIN; SET LOCAL lock_timeout = '1s'; DROP TABLE {name}; COMMIT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_the_name_of_its_date() {
        for (ms, name) in [
            (0, "decisions_19700101"),
            (-1, "decisions_19691231"),
            (1_795_435_200_000, "decisions_20261123"),
            (1_795_478_399_999, "decisions_20261123"),
            (1_795_478_400_000, "decisions_20261124"),
        ] {
            let day = Day::of(Timestamp::from_millis(ms));
            assert_eq!(day.partition().as_deref(), Some(name), "{ms}");
            assert_eq!(Day::of_partition(name), Some(day));
        }
        for other in ["decisions_old", "decisions_2026112", "alerts_20261123", "decisions_20261399"] {
            assert_eq!(Day::of_partition(other), None, "{other}");
        }
    }
}

//! The tables as this release expects them: brought up by migrations, or refused in words.

use super::super::ReviewError;
use super::Fault;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;

/// Where the database says which migrations it has.
const TABLE: &str = "verdict_migrations";

/// PostgreSQL's code for a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// How the tables stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As this release expects them.
    Current,
    /// So many migrations are missing.
    Behind(usize),
}

fn migrator() -> Migrator {
    let steps = [
        (1, "review", include_str!("../../../../../../migrations/postgres/0001_review.sql")),
        (2, "places", include_str!("../../../../../../migrations/postgres/0002_places.sql")),
    ];
    let migrations = steps.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.into());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// Looks, and changes nothing.
pub(super) async fn standing(connection: &mut PgConnection) -> Result<Standing, Fault> {
    let known = migrator();
    let applied = match connection.list_applied_migrations(TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_undefined_table(&error) => Vec::new(),
        Err(MigrateError::Execute(error)) => return Err(error.into()),
        Err(error) => return Err(failed(&error).into()),
    };
    if let Some(newer) = applied.iter().find(|applied| !known.version_exists(applied.version)) {
        let what = format!(
            "its database has migration {}, which this release does not know; start the release that made it, or a later one",
            newer.version
        );
        return Err(ReviewError::Layout(what.into()).into());
    }
    let missing = known.iter().count() - applied.len();
    Ok(if missing == 0 { Standing::Current } else { Standing::Behind(missing) })
}

/// Brings the tables up; gives the number of migrations that were missing. The connection is of no more use then.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<usize, Fault> {
    let missing = match standing(connection).await? {
        Standing::Current => return Ok(0),
        Standing::Behind(missing) => missing,
    };
    // The bounds of a session are those of small writes.
    sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = '60s'").execute(&mut *connection).await?;
    migrator().run_direct(None, connection, false).await.map_err(|error| failed(&error))?;
    Ok(missing)
}

fn failed(error: &MigrateError) -> ReviewError {
    ReviewError::Layout(format!("a migration failed: {error}").into())
}

/// Why a store with these tables cannot be used.
pub(super) fn behind(missing: usize) -> ReviewError {
    let what = format!(
        "its database is {missing} migration(s) behind; run `verdict migrate`, or set postgres.migrate = true to have that \
         done at the start"
    );
    ReviewError::Layout(what.into())
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == UNDEFINED_TABLE)
}

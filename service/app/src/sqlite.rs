//! Opens the SQLite files of the data directory: settings, layout and format version, and errors that say what to do.
//!
//! What a file holds is its owner's business. An older format is brought up where its owner says how, in one transaction; a
//! file of another kind or of a newer format is refused.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How far the write-ahead log may stay on disk after a checkpoint of SQLite has emptied it, in bytes.
const WAL_KEPT_BYTES: &str = "67108864";

/// How much nicer a thread is whose work can wait: where one that decides wants the same core, that gets nine times as much of it
/// (sched(7)).
pub(crate) const NICER: i32 = 10;

/// SQLite's primary result codes (sqlite.org/rescode.html).
mod code {
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const READONLY: u32 = 8;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const NOTADB: u32 = 26;
}

/// What a file must be.
pub(crate) struct Layout {
    /// Its name in `meta`, such as `journal`.
    pub(crate) kind: &'static str,
    /// The number that changes with its layout.
    pub(crate) format: u32,
    /// Creates its tables, `meta` among them, as they were in the first format that `upgrades` go on from.
    pub(crate) sql: &'static str,
    /// What takes the layout from one format to the next, the last to `format`; none where older files are refused.
    pub(crate) upgrades: &'static [&'static str],
    /// `Full` where a commit must survive a power cut; with `Normal` the last ones may be lost, but none is torn.
    pub(crate) synchronous: SqliteSynchronous,
    /// Pages that the writer keeps in memory, in KiB; SQLite's own default is 2,000.
    pub(crate) cache_kib: u32,
}

impl Layout {
    /// The upgrades that a file of this format still needs; none where it is not one that they go on from.
    fn steps_from(&self, found: &str) -> &'static [&'static str] {
        let behind = found.parse().ok().and_then(|found: u32| self.format.checked_sub(found)).unwrap_or(0) as usize;
        self.upgrades.len().checked_sub(behind).map_or(&[], |from| &self.upgrades[from..])
    }
}

/// Opens connections whose work can wait while payments are decided. sqlx starts a thread for each, which inherits its
/// priority from the one that it is started on.
///
/// # Errors
/// No thread can be started to open them on, or opening panicked.
pub(crate) async fn open_behind<T>(opening: impl Future<Output = T> + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
{
    let (runtime, (opened, told)) = (Handle::current(), oneshot::channel());
    std::thread::Builder::new().name("sqlite-open".to_owned()).spawn(move || {
        // Elsewhere a priority is the whole process's. Without it alerts only take more from decisions.
        if cfg!(target_os = "linux")
            && let Err(error) = rustix::process::nice(NICER)
        {
            tracing::debug!(%error, "SQLite's threads keep the priority of the others");
        }
        // Nobody waits any more if that fails.
        let _ = opened.send(runtime.block_on(opening));
    })?;
    told.await.map_err(|_| io::Error::other("the thread that opens it panicked"))
}

/// Opens a file for writing; creates it, and its directory, where missing.
///
/// # Errors
/// Names the file, what was expected and found, and the remedy.
pub(crate) async fn open(path: &Path, layout: &Layout) -> Result<SqliteConnection, Arc<str>> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| -> Arc<str> {
            format!("expected a directory that this user may write to at {}: {error}", dir.display()).into()
        })?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(layout.synchronous)
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("cache_size", format!("-{}", layout.cache_kib))
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| explain(path, &error))?;
    prepare(path, &mut connection, layout).await?;
    Ok(connection)
}

/// Opens a file that exists for reading; in write-ahead mode that never holds up its writer. Up to `rows` rows wait
/// between SQLite's thread and the caller.
pub(crate) async fn open_reader(path: &Path, rows: usize) -> Result<SqliteConnection, sqlx::Error> {
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).row_buffer_size(rows).disable_statement_logging();
    options.connect().await
}

async fn prepare(path: &Path, connection: &mut SqliteConnection, layout: &Layout) -> Result<(), Arc<str>> {
    let failed = |error: sqlx::Error| explain(path, &error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await.map_err(failed)?;
    if tables == 0 {
        for step in std::iter::once(&layout.sql).chain(layout.upgrades) {
            sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(failed)?;
        }
        sqlx::query("INSERT INTO meta (key, value) VALUES ('kind', ?), ('format', ?)")
            .bind(layout.kind)
            .bind(layout.format.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        return transaction.commit().await.map_err(failed);
    }
    let found = |key: &'static str| sqlx::query_scalar::<_, String>("SELECT value FROM meta WHERE key = ?").bind(key);
    let kind = found("kind").fetch_optional(&mut *transaction).await.ok().flatten();
    let format = found("format").fetch_optional(&mut *transaction).await.ok().flatten();
    match (kind, format) {
        (Some(kind), Some(format)) if kind == layout.kind && format == layout.format.to_string() => Ok(()),
        (Some(kind), Some(format)) if kind == layout.kind && !layout.steps_from(&format).is_empty() => {
            for step in layout.steps_from(&format) {
                sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(failed)?;
            }
            sqlx::query("UPDATE meta SET value = ? WHERE key = 'format'")
                .bind(layout.format.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            tracing::info!(file = %path.display(), from = format, to = layout.format, "brought to the format of this release");
            transaction.commit().await.map_err(failed)
        }
        (Some(kind), Some(format)) if kind == layout.kind => Err(format!(
            "{} has format {format}, expected {}; start the release that wrote it",
            path.display(),
            layout.format
        )
        .into()),
        _ => Err(format!(
            "{} is not a {} file of this service; move it away, or use another data directory",
            path.display(),
            layout.kind
        )
        .into()),
    }
}

/// An error of SQLite with the file and the remedy.
pub(crate) fn explain(path: &Path, error: &sqlx::Error) -> Arc<str> {
    let remedy = match primary_code(error) {
        Some(code::PERM | code::CANTOPEN) => "check that it is a file, and that this user may write to its directory",
        Some(code::READONLY) => "give this user write permission on the file and its directory",
        Some(code::BUSY) => "stop the other program that has it open for writing",
        Some(code::FULL) => "free some disk space",
        Some(code::IOERR) => "check the disk and its free space",
        Some(code::CORRUPT) => "it is damaged: restore it from a copy, or move it away",
        Some(code::NOTADB) => "it is no SQLite database: restore it from a copy, or move it away",
        _ => "this is unexpected; please report it",
    };
    format!("{}: {error}; {remedy}", path.display()).into()
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let extended: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: Layout = Layout {
        kind: "notes",
        format: 2,
        sql: "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL); CREATE TABLE notes (text TEXT);",
        upgrades: &[],
        synchronous: SqliteSynchronous::Full,
        cache_kib: 3_000,
    };

    async fn refusal(path: &Path, layout: &Layout) -> String {
        open(path, layout).await.expect_err("must be refused").to_string()
    }

    #[tokio::test]
    async fn settings_are_in_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut connection = open(&dir.path().join("new/notes.db"), &NOTES).await.expect("opens");
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.expect("a mode");
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.expect("a level");
        let kept: i64 =
            sqlx::query_scalar("PRAGMA journal_size_limit").fetch_one(&mut connection).await.expect("a limit");
        let cache: i64 = sqlx::query_scalar("PRAGMA cache_size").fetch_one(&mut connection).await.expect("a size");
        assert_eq!((mode.as_str(), synchronous, kept.to_string().as_str()), ("wal", 2, WAL_KEPT_BYTES));
        assert_eq!(cache, -3_000);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn threads_that_are_started_behind_are_nicer_and_nobody_else_is() {
        let priority = || rustix::process::getpriority_process(None).expect("a priority");
        let before = priority();
        let started = open_behind(async move { std::thread::spawn(priority).join().expect("ends") });
        assert_eq!(started.await.expect("is opened"), (before + NICER).min(19));
        assert_eq!(priority(), before);
        let panics = open_behind(async { panic!("on purpose") }).await;
        assert!(panics.expect_err("nothing was opened").to_string().contains("panicked"));
    }

    #[tokio::test]
    async fn an_older_file_is_brought_up_with_what_it_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes.db");
        let mut old = open(&path, &NOTES).await.expect("creates it");
        sqlx::raw_sql("INSERT INTO notes VALUES ('kept')").execute(&mut old).await.expect("writes");
        drop(old);
        let layout = Layout {
            format: 4,
            upgrades: &[
                "ALTER TABLE notes ADD COLUMN author TEXT DEFAULT 'ana'",
                "CREATE VIEW signed AS SELECT text || ' ' || author AS line FROM notes",
            ],
            ..NOTES
        };
        let broken = Layout { upgrades: &["ALTER TABLE notes ADD COLUMN author TEXT", "CREATE VIEW"], ..layout };
        assert!(open(&path, &broken).await.is_err());
        for _ in 0..2 {
            let mut connection = open(&path, &layout).await.expect("all or nothing was done before");
            let line: String =
                sqlx::query_scalar("SELECT line FROM signed").fetch_one(&mut connection).await.expect("a row");
            assert_eq!(line, "kept ana");
        }
        assert!(refusal(&path, &NOTES).await.ends_with("has format 4, expected 2; start the release that wrote it"));
        let jump = Layout { format: 9, ..layout };
        assert!(refusal(&path, &jump).await.contains("has format 4, expected 9"));
        let mut new = open(&dir.path().join("new.db"), &layout).await.expect("creates it");
        sqlx::raw_sql("SELECT line FROM signed").execute(&mut new).await.expect("a new file has every step");
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_explained() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notes.db");
        drop(open(&path, &NOTES).await.expect("creates it"));
        drop(open(&path, &NOTES).await.expect("opens it again"));

        let newer = Layout { format: 1, ..NOTES };
        assert!(refusal(&path, &newer).await.ends_with("has format 2, expected 1; start the release that wrote it"));
        let other = Layout { kind: "letters", ..NOTES };
        assert!(refusal(&path, &other).await.contains("is not a letters file of this service; move it away"));

        let text = dir.path().join("text.db");
        std::fs::write(&text, "not a database, but long enough to hold a header. ".repeat(50)).expect("writes");
        assert!(refusal(&text, &NOTES).await.contains("it is no SQLite database: restore it from a copy"));

        let folder = dir.path().join("folder.db");
        std::fs::create_dir(&folder).expect("a folder");
        assert!(refusal(&folder, &NOTES).await.contains("check that it is a file, and that this user may write"));

        // A directory that not even root may write to.
        let nowhere = Path::new("/proc/verdict-test/notes.db");
        assert!(
            refusal(nowhere, &NOTES).await.starts_with("expected a directory that this user may write to at /proc")
        );
        // Files there are read-only in the same way.
        assert!(refusal(Path::new("/proc/notes.db"), &NOTES).await.contains("this user may write to its directory"));
    }
}

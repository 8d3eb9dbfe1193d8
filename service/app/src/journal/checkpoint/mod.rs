//! Checkpoints: profiles in `profiles.db`, each with the position that it reflects, the list entries, and a marker
//! for all (DESIGN 6).
//!
//! A checkpoint only saves time: everything in it can be made again from the journal (I3), so a power cut may cost the
//! last one (`synchronous=NORMAL`), but never leaves half of one. What a profile's bytes mean is its owner's business.
//! Damage is refused with the user's name, and so is a checkpoint that is ahead of its journal.

#[cfg(test)]
mod contract;
pub mod kafka;
mod lists;
mod marker;
#[cfg(test)]
mod tests;

pub use lists::ListSnapshot;
pub use marker::{Mark, Marker, SourceOffset, Totals, check_against, check_end};

use super::{JournalError, Partition};
use crate::sqlite::Layout;
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use futures_util::stream::{self, BoxStream, LocalBoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use sqlx::sqlite::{SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};
use std::path::{Path, PathBuf};
use std::pin::pin;
use tokio::sync::Mutex;

const LAYOUT: Layout = Layout {
    kind: "profiles",
    format: 1,
    sql: include_str!("../../../../../migrations/sqlite/profiles.sql"),
    upgrades: &[],
    synchronous: SqliteSynchronous::Normal,
    // Dirty profiles are all over the file; the inner pages and many leaves of a million of them fit.
    cache_kib: 65_536,
};

/// Profiles in one statement: a statement costs about as much as binding 50 rows; SQLite allows 32,766 parameters.
pub const ROWS_PER_STATEMENT: usize = 256;
/// Profiles read with one statement; all of them may wait between SQLite's thread and the caller.
const ROWS_PER_PAGE: i64 = 1_024;
/// Bytes of profiles read with one statement; the largest profile has 700 KB.
const BYTES_PER_PAGE: i64 = 16 << 20;

/// A profile at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileSnapshot {
    /// Whose.
    pub user_id: Box<str>,
    /// The user's partition.
    pub partition: Partition,
    /// Number after the last record that the profile reflects.
    pub n: u64,
    /// The profile, as its owner encodes it.
    pub bytes: Vec<u8>,
}

/// What one shard saves at a time: only what is durable in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Profiles that have changed since the last checkpoint.
    pub profiles: Vec<ProfileSnapshot>,
    /// Of partitions whose list entries have changed since the last checkpoint.
    pub lists: Vec<ListSnapshot>,
    /// The position of every partition that the shard owns, and of its sources.
    pub marker: Marker,
}

/// The port to wherever checkpoints are kept, shared by all shards. A checkpoint is saved whole or not at all, or where it
/// `stands_in_parts` the mark last; the newest of each profile and mark stands, or after a power cut an older one.
pub trait Checkpoints: Send + Sync + 'static {
    /// Takes partitions over from whoever saved for them before, who saves nothing more; to be done before the journal's are
    /// taken over. Nothing is to be done where one process has the files to itself.
    fn take_over(&self, _partitions: Vec<Partition>) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(ready(Ok(())))
    }

    /// Saves a checkpoint that is made while it is written; `None` among its parts gives it up, and the answer is then
    /// `false`. Marks of partitions that are not in it stay as they are. On an error the one before it stands.
    fn save_parts<'a>(
        &'a self,
        parts: LocalBoxStream<'a, Option<Vec<ProfileSnapshot>>>,
        lists: &'a [ListSnapshot],
        marker: &'a Marker,
    ) -> LocalBoxFuture<'a, Result<bool, JournalError>>;

    /// Whether a part stands although the rest was given up or failed. All that a part reflects must then be durable before
    /// it is handed over.
    fn stands_in_parts(&self) -> bool {
        false
    }

    /// The marker over all partitions, `None` before the first checkpoint.
    fn marker(&self) -> BoxFuture<'_, Result<Option<Marker>, JournalError>>;

    /// The list entries, of every partition whose entries were ever saved.
    fn lists(&self) -> BoxFuture<'_, Result<Vec<ListSnapshot>, JournalError>>;

    /// Streams the profiles of these partitions.
    fn load(&self, partitions: &[Partition]) -> BoxStream<'_, Result<ProfileSnapshot, JournalError>>;

    /// The error of a profile or mark that is not what was written.
    fn damaged(&self, what: String) -> JournalError;
}

impl Checkpoints for CheckpointStore {
    fn save_parts<'a>(
        &'a self,
        parts: LocalBoxStream<'a, Option<Vec<ProfileSnapshot>>>,
        lists: &'a [ListSnapshot],
        marker: &'a Marker,
    ) -> LocalBoxFuture<'a, Result<bool, JournalError>> {
        Box::pin(Self::save_parts(self, parts, lists, marker))
    }

    fn marker(&self) -> BoxFuture<'_, Result<Option<Marker>, JournalError>> {
        Box::pin(Self::marker(self))
    }

    fn lists(&self) -> BoxFuture<'_, Result<Vec<ListSnapshot>, JournalError>> {
        Box::pin(Self::lists(self))
    }

    fn load(&self, partitions: &[Partition]) -> BoxStream<'_, Result<ProfileSnapshot, JournalError>> {
        Self::load(self, partitions)
    }

    fn damaged(&self, what: String) -> JournalError {
        Self::damaged(self, what)
    }
}

/// The store: SQLite.
#[derive(Debug)]
pub struct CheckpointStore {
    path: PathBuf,
    connection: Mutex<SqliteConnection>,
}

impl CheckpointStore {
    /// Opens `profiles.db` in the directory; creates both where missing.
    ///
    /// # Errors
    /// When the file cannot be opened; the message names the remedy.
    pub async fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("profiles.db");
        let mut connection = crate::sqlite::open(&path, &LAYOUT).await.map_err(JournalError::Store)?;
        let table = sqlx::raw_sql(lists::TABLE).execute(&mut connection).await;
        table.map_err(|error| JournalError::Store(crate::sqlite::explain(&path, &error)))?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// Saves a checkpoint, all or nothing. Marks of partitions that are not in it stay as they are.
    ///
    /// # Errors
    /// When the file cannot be written; the checkpoint before it stands.
    pub async fn save(&self, checkpoint: &Checkpoint) -> Result<(), JournalError> {
        // In the order of the file, neighbours share a page while it is at hand.
        let mut profiles: Vec<&ProfileSnapshot> = checkpoint.profiles.iter().collect();
        profiles.sort_unstable_by(|a, b| (a.partition, &a.user_id).cmp(&(b.partition, &b.user_id)));
        let parts = profiles.chunks(ROWS_PER_STATEMENT).map(|part| Some(part.iter().copied().cloned().collect()));
        self.save_parts(stream::iter(parts), &checkpoint.lists, &checkpoint.marker).await.map(|_| ())
    }

    /// Saves a checkpoint that is made while it is written, so that no more than a part of it is ever in memory: best
    /// [`ROWS_PER_STATEMENT`] profiles each, in order of partition and user. `None` gives it up, and the one before
    /// stands: the answer is then `false`.
    ///
    /// # Errors
    /// When the file cannot be written; the checkpoint before it stands.
    pub async fn save_parts(
        &self,
        parts: impl Stream<Item = Option<Vec<ProfileSnapshot>>>,
        lists: &[ListSnapshot],
        marker: &Marker,
    ) -> Result<bool, JournalError> {
        let mut connection = self.connection.lock().await;
        let saved = async {
            // Dropped before it is committed, it leaves nothing.
            let mut transaction = connection.begin().await?;
            let mut parts = pin!(parts);
            while let Some(part) = parts.next().await {
                let Some(part) = part else { return Ok(false) };
                for rows in part.chunks(ROWS_PER_STATEMENT) {
                    save_profiles(&mut transaction, rows).await?;
                }
            }
            lists::save(&mut transaction, lists).await?;
            marker::save(&mut transaction, marker).await?;
            transaction.commit().await.map(|()| true)
        };
        saved.await.map_err(|error: sqlx::Error| self.failed(&error))
    }

    /// The marker over all partitions, `None` before the first checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub async fn marker(&self) -> Result<Option<Marker>, JournalError> {
        let mut connection = self.connection.lock().await;
        let loaded = marker::load(&mut connection).await.map_err(|error| self.failed(&error))?;
        loaded.map_err(|what| self.damaged(what))
    }

    /// The list entries, of every partition whose entries were ever saved.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub async fn lists(&self) -> Result<Vec<ListSnapshot>, JournalError> {
        let mut connection = self.connection.lock().await;
        let loaded = lists::load(&mut connection).await.map_err(|error| self.failed(&error))?;
        loaded.map_err(|what| self.damaged(what))
    }

    /// Streams the profiles of these partitions, on a connection of its own. Meant for recovery, before the first save.
    ///
    /// The stream's errors: the file cannot be read, or a profile is damaged.
    #[must_use]
    pub fn load(&self, partitions: &[Partition]) -> BoxStream<'_, Result<ProfileSnapshot, JournalError>> {
        let partitions = partitions.to_vec();
        let pages = async move {
            let connection = crate::sqlite::open_reader(&self.path, ROWS_PER_PAGE as usize)
                .await
                .map_err(|error| self.failed(&error))?;
            let load = Load { store: self, connection, partitions, after: None };
            Ok::<_, JournalError>(stream::try_unfold(load, Load::page))
        };
        let pages = stream::once(pages).try_flatten();
        Box::pin(pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten())
    }

    fn failed(&self, error: &sqlx::Error) -> JournalError {
        JournalError::Store(crate::sqlite::explain(&self.path, error))
    }

    /// The error of a profile or mark that is not what was written.
    #[must_use]
    pub fn damaged(&self, what: String) -> JournalError {
        JournalError::DamagedCheckpoint { file: self.path.display().to_string().into(), what: what.into() }
    }
}

async fn save_profiles(connection: &mut SqliteConnection, rows: &[ProfileSnapshot]) -> Result<(), sqlx::Error> {
    let mut statement = QueryBuilder::<Sqlite>::new("INSERT INTO profiles (partition, user_id, n, checksum, bytes) ");
    statement.push_values(rows, |mut row, profile| {
        row.push_bind(i64::from(profile.partition))
            .push_bind(profile.user_id.as_ref())
            .push_bind(profile.n.cast_signed())
            .push_bind(profile_checksum(profile))
            .push_bind(profile.bytes.as_slice());
    });
    statement.push(
        " ON CONFLICT (partition, user_id) DO UPDATE SET n = excluded.n, checksum = excluded.checksum, \
         bytes = excluded.bytes",
    );
    // Only the full-size statement comes again and again; the rests would fill the cache of prepared statements.
    let query = statement.build().persistent(rows.len() == ROWS_PER_STATEMENT);
    query.execute(connection).await.map(|_| ())
}

fn profile_checksum(profile: &ProfileSnapshot) -> i64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&profile.partition.to_le_bytes());
    hash.update(&(profile.user_id.len() as u64).to_le_bytes());
    hash.update(profile.user_id.as_bytes());
    hash.update(&profile.n.to_le_bytes());
    hash.update(&profile.bytes);
    hash.finalize().into()
}

/// A load under way.
struct Load<'a> {
    store: &'a CheckpointStore,
    connection: SqliteConnection,
    /// Still to be read; the last is under way.
    partitions: Vec<Partition>,
    /// The last user read of that partition.
    after: Option<Box<str>>,
}

impl Load<'_> {
    /// The next page of profiles, `None` at the end.
    async fn page(mut self) -> Result<Option<(Vec<ProfileSnapshot>, Self)>, JournalError> {
        while let Some(&partition) = self.partitions.last() {
            let page = self.page_of(partition).await?;
            if let Some(last) = page.last() {
                self.after = Some(last.user_id.clone());
                return Ok(Some((page, self)));
            }
            self.partitions.pop();
            self.after = None;
        }
        Ok(None)
    }

    async fn page_of(&mut self, partition: Partition) -> Result<Vec<ProfileSnapshot>, JournalError> {
        let store = self.store;
        let after = self.after.as_deref().unwrap_or_default();
        // As if all of a page were as long as its longest; lengths are found without reading what is that long.
        let sql = "SELECT max(size) FROM (SELECT length(bytes) AS size FROM profiles WHERE partition = ? AND \
                   user_id > ? ORDER BY user_id LIMIT ?)";
        let longest = sqlx::query_scalar::<_, Option<i64>>(sql)
            .bind(i64::from(partition))
            .bind(after)
            .bind(ROWS_PER_PAGE)
            .fetch_one(&mut self.connection)
            .await;
        let longest = longest.map_err(|error| store.failed(&error))?.unwrap_or(0);
        let rows = (BYTES_PER_PAGE / longest.max(1)).clamp(1, ROWS_PER_PAGE);
        // No user id is empty, so that all of them come after the empty one.
        let sql = "SELECT user_id, n, checksum, bytes FROM profiles WHERE partition = ? AND user_id > ? \
                   ORDER BY user_id LIMIT ?";
        let query = sqlx::query(sql).bind(i64::from(partition)).bind(after).bind(rows);
        let mut rows = query.fetch(&mut self.connection);
        let mut page = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|error| store.failed(&error))? {
            page.push(profile_of(partition, &row).map_err(|what| store.damaged(what))?);
        }
        Ok(page)
    }
}

fn profile_of(partition: Partition, row: &SqliteRow) -> Result<ProfileSnapshot, String> {
    let user_id: &str = row.try_get(0).map_err(|error| error.to_string())?;
    let damaged = |what: &dyn std::fmt::Display| format!("the profile of user {user_id:?}: {what}");
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(|error| damaged(&error));
    let (n, expected) = (number(1)?.cast_unsigned(), number(2)?);
    let bytes = row.try_get::<&[u8], _>(3).map_err(|error| damaged(&error))?.to_vec();
    let profile = ProfileSnapshot { user_id: user_id.into(), partition, n, bytes };
    let found = profile_checksum(&profile);
    if found != expected {
        return Err(damaged(&format_args!("expected checksum {expected:08x}, found {found:08x}")));
    }
    Ok(profile)
}

//! The list entries of a checkpoint: one row a partition, all of its entries together, and written only when one of them
//! has changed. What a replay from the mark then does to them again changes nothing. Entries about users are here too,
//! though they are in the profiles: so that a start finds them without reading every profile.

use super::Partition;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;
use verdict_core::lists::{List, ListEntry, ListKey, ListKind};
use verdict_core::time::Timestamp;

/// The first byte of a stored row.
const VERSION: u8 = 1;

/// Makes the table in files of earlier releases too.
pub(super) const TABLE: &str = include_str!("../../../../../migrations/sqlite/profiles-lists.sql");

/// The entries of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSnapshot {
    /// The partition.
    pub partition: Partition,
    /// Every entry in it.
    pub entries: Vec<(ListKey, ListEntry)>,
}

/// The stored form of an entry; its fields and their order are the format of version 1.
#[derive(Serialize, Deserialize)]
struct EntryV1<'a> {
    list: u8,
    kind: u8,
    value: &'a str,
    reason: &'a str,
    alert_id: Option<[u8; 16]>,
    expires_at_ms: Option<i64>,
}

const LISTS: [List; 2] = [List::Block, List::Allow];
const KINDS: [ListKind; 4] = [ListKind::User, ListKind::Merchant, ListKind::Device, ListKind::Ip];

pub(super) async fn save(connection: &mut SqliteConnection, snapshots: &[ListSnapshot]) -> Result<(), sqlx::Error> {
    for snapshot in snapshots {
        let body = encode(&snapshot.entries).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query("INSERT OR REPLACE INTO lists (partition, checksum, body) VALUES (?, ?, ?)")
            .bind(i64::from(snapshot.partition))
            .bind(checksum(snapshot.partition, &body))
            .bind(body)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Every stored row, or in the inner error what is damaged.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Result<Vec<ListSnapshot>, String>, sqlx::Error> {
    let rows: Vec<SqliteRow> =
        sqlx::query("SELECT partition, checksum, body FROM lists ORDER BY partition").fetch_all(connection).await?;
    Ok(rows.iter().map(snapshot_of).collect())
}

fn snapshot_of(row: &SqliteRow) -> Result<ListSnapshot, String> {
    let text = |error: sqlx::Error| format!("list entries: {error}");
    let (partition, expected): (Partition, i64) = (row.try_get(0).map_err(text)?, row.try_get(1).map_err(text)?);
    let body: &[u8] = row.try_get(2).map_err(text)?;
    let named = |what: String| format!("the list entries of partition {partition}: {what}");
    let found = checksum(partition, body);
    if found != expected {
        return Err(named(format!("expected checksum {expected:08x}, found {found:08x}")));
    }
    Ok(ListSnapshot { partition, entries: decode(body).map_err(named)? })
}

pub(super) fn encode(entries: &[(ListKey, ListEntry)]) -> Result<Vec<u8>, postcard::Error> {
    let stored: Vec<EntryV1<'_>> = entries.iter().map(|(key, entry)| store(key, entry)).collect();
    postcard::to_extend(&stored, vec![VERSION])
}

pub(super) fn decode(body: &[u8]) -> Result<Vec<(ListKey, ListEntry)>, String> {
    let stored: Vec<EntryV1<'_>> = match body.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string())?,
        other => return Err(format!("expected version {VERSION}, found {:?}", other.map(|(version, _)| version))),
    };
    stored.iter().map(restore).collect()
}

fn store<'a>(key: &'a ListKey, entry: &'a ListEntry) -> EntryV1<'a> {
    EntryV1 {
        list: match key.list {
            List::Block => 0,
            List::Allow => 1,
        },
        kind: match key.kind {
            ListKind::User => 0,
            ListKind::Merchant => 1,
            ListKind::Device => 2,
            ListKind::Ip => 3,
        },
        value: &key.value,
        reason: &entry.reason,
        alert_id: entry.alert_id.map(Uuid::into_bytes),
        expires_at_ms: entry.expires_at.map(Timestamp::as_millis),
    }
}

fn restore(stored: &EntryV1<'_>) -> Result<(ListKey, ListEntry), String> {
    let list = *LISTS.get(usize::from(stored.list)).ok_or_else(|| format!("expected a list, found {}", stored.list))?;
    let kind = *KINDS.get(usize::from(stored.kind)).ok_or_else(|| format!("expected a kind, found {}", stored.kind))?;
    let entry = ListEntry {
        list,
        reason: stored.reason.into(),
        alert_id: stored.alert_id.map(Uuid::from_bytes),
        expires_at: stored.expires_at_ms.map(Timestamp::from_millis),
    };
    Ok((ListKey { list, kind, value: stored.value.into() }, entry))
}

pub(super) fn checksum(partition: Partition, body: &[u8]) -> i64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&partition.to_le_bytes());
    hash.update(body);
    hash.finalize().into()
}

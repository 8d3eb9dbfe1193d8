//! The marker of a checkpoint: positions, books and source offsets, a row a partition.
//!
//! Each shard saves the rows of its own partitions, so that the number of shards may change between two runs.

use super::{JournalError, Partition};
use crate::journal::record::{Body, Record};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// The first byte of a stored mark that counts answers beside the first as well.
const VERSION: u8 = 4;
/// The first byte of one that counts what was skipped and has no such answers, which older releases read too.
const VERSION_WITHOUT_ANSWERED: u8 = 3;
/// The first byte of one that counts list changes and has nothing skipped, which older releases read too.
const VERSION_WITHOUT_SKIPPED: u8 = 2;
/// The first byte of one that has no list changes to count either.
const VERSION_WITHOUT_LISTS: u8 = 1;

/// How far a checkpoint reflects the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// By partition.
    pub marks: Vec<Mark>,
    /// By topic and partition of the topic.
    pub sources: Vec<SourceOffset>,
}

/// How far a checkpoint reflects one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The partition.
    pub partition: Partition,
    /// The first record that the checkpoint does not reflect.
    pub next_n: u64,
    /// The partition's records before `next_n`.
    pub totals: Totals,
}

/// Records by kind: the books (I6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions decided.
    pub decisions: u64,
    /// Logins seen.
    pub logins: u64,
    /// Labels learned.
    pub labels: u64,
    /// List entries put or deleted on request.
    pub list_changes: u64,
    /// Events of a topic or file that came again.
    pub duplicates: u64,
    /// Events of a topic or file that were refused.
    pub dead_letters: u64,
    /// Events of a topic that were moved to another partition.
    pub skipped: u64,
    /// Other answers to transactions that were decided in another record.
    pub answered: u64,
}

impl Totals {
    /// Counts one record.
    pub fn count(&mut self, record: &Record) {
        let counter = match &record.body {
            Body::Decision(_) => &mut self.decisions,
            Body::Login(_) => &mut self.logins,
            Body::Label(_) => &mut self.labels,
            Body::List(_) => &mut self.list_changes,
            Body::Duplicate { .. } => &mut self.duplicates,
            Body::DeadLetter { .. } => &mut self.dead_letters,
            Body::Skipped { .. } => &mut self.skipped,
            Body::Answered(_) => &mut self.answered,
        };
        *counter += 1;
    }

    /// All records: of one partition, the number of its records.
    #[must_use]
    pub const fn records(&self) -> u64 {
        let changes = self.decisions + self.logins + self.labels + self.list_changes;
        changes + self.duplicates + self.dead_letters + self.skipped + self.answered
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.logins += other.logins;
        self.labels += other.labels;
        self.list_changes += other.list_changes;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
        self.skipped += other.skipped;
        self.answered += other.answered;
    }
}

impl Add for Totals {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), Add::add)
    }
}

/// How far a source partition was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOffset {
    /// The topic.
    pub topic: Box<str>,
    /// The topic's partition.
    pub partition: i32,
    /// The first offset that the checkpoint does not reflect.
    pub next_offset: i64,
}

impl Marker {
    /// The books over all partitions.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.marks.iter().map(|mark| mark.totals).sum()
    }

    /// The mark of a partition, if a checkpoint ever reflected it.
    #[must_use]
    pub fn mark(&self, partition: Partition) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.partition == partition)
    }
}

/// Refuses a checkpoint that is ahead of the journal: one of the two files is not of this history.
///
/// # Errors
/// Names the first such partition; `durable` is what [`super::super::Journal::durable`] says at recovery.
pub fn check_against(marker: &Marker, durable: &[u64]) -> Result<(), JournalError> {
    marker.marks.iter().try_for_each(|mark| check_end(mark.partition, mark.next_n, durable))
}

/// Refuses what reflects records of a partition before `next_n` that the journal does not have.
///
/// # Errors
/// When it does; `durable` is what [`super::super::Journal::durable`] says at recovery.
pub fn check_end(partition: Partition, next_n: u64, durable: &[u64]) -> Result<(), JournalError> {
    let journal = durable.get(usize::from(partition)).copied().unwrap_or(0);
    if next_n > journal {
        return Err(JournalError::CheckpointAhead { partition, checkpoint: next_n, journal });
    }
    Ok(())
}

/// The stored form of a mark; its fields and their order are the format of version 1.
#[derive(Serialize, Deserialize)]
struct MarkV1 {
    next_n: u64,
    decisions: u64,
    logins: u64,
    labels: u64,
    duplicates: u64,
    dead_letters: u64,
}

/// The stored form of version 2: that of version 1, and list changes.
#[derive(Serialize, Deserialize)]
struct MarkV2 {
    v1: MarkV1,
    list_changes: u64,
}

/// The stored form of version 3: that of version 2, and what was skipped.
#[derive(Serialize, Deserialize)]
struct MarkV3 {
    v2: MarkV2,
    skipped: u64,
}

/// The stored form of version 4: that of version 3, and answers beside the first.
#[derive(Serialize, Deserialize)]
struct MarkV4 {
    v3: MarkV3,
    answered: u64,
}

pub(super) async fn save(connection: &mut SqliteConnection, marker: &Marker) -> Result<(), sqlx::Error> {
    for mark in &marker.marks {
        let body = encode(mark).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query("INSERT OR REPLACE INTO marks (partition, checksum, body) VALUES (?, ?, ?)")
            .bind(i64::from(mark.partition))
            .bind(mark_checksum(mark.partition, &body))
            .bind(body)
            .execute(&mut *connection)
            .await?;
    }
    for source in &marker.sources {
        sqlx::query("INSERT OR REPLACE INTO sources (topic, partition, next_offset, checksum) VALUES (?, ?, ?, ?)")
            .bind(source.topic.as_ref())
            .bind(source.partition)
            .bind(source.next_offset)
            .bind(source_checksum(source))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The stored marker, or in the inner error what is damaged.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Result<Option<Marker>, String>, sqlx::Error> {
    let marks = sqlx::query("SELECT partition, checksum, body FROM marks ORDER BY partition");
    let marks: Vec<SqliteRow> = marks.fetch_all(&mut *connection).await?;
    let sources = sqlx::query("SELECT topic, partition, next_offset, checksum FROM sources ORDER BY topic, partition");
    let sources: Vec<SqliteRow> = sources.fetch_all(connection).await?;
    if marks.is_empty() && sources.is_empty() {
        return Ok(Ok(None));
    }
    Ok(decode_all(&marks, &sources).map(Some))
}

fn decode_all(marks: &[SqliteRow], sources: &[SqliteRow]) -> Result<Marker, String> {
    let marks = marks.iter().map(mark_of).collect::<Result<_, _>>()?;
    let sources = sources.iter().map(source_of).collect::<Result<_, _>>()?;
    Ok(Marker { marks, sources })
}

fn mark_of(row: &SqliteRow) -> Result<Mark, String> {
    let text = |error: sqlx::Error| format!("a mark: {error}");
    let (partition, checksum) = (row.try_get(0).map_err(text)?, row.try_get(1).map_err(text)?);
    let body: &[u8] = row.try_get(2).map_err(text)?;
    decode(partition, checksum, body).map_err(|what| format!("the mark of partition {partition}: {what}"))
}

pub(super) fn decode(partition: u16, checksum: i64, body: &[u8]) -> Result<Mark, String> {
    let found = mark_checksum(partition, body);
    if found != checksum {
        return Err(format!("expected checksum {checksum:08x}, found {found:08x}"));
    }
    let without_answered = |v3| MarkV4 { v3, answered: 0 };
    let without_skipped = |v2| without_answered(MarkV3 { v2, skipped: 0 });
    let read = match body.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest),
        Some((&VERSION_WITHOUT_ANSWERED, rest)) => postcard::from_bytes(rest).map(without_answered),
        Some((&VERSION_WITHOUT_SKIPPED, rest)) => postcard::from_bytes(rest).map(without_skipped),
        Some((&VERSION_WITHOUT_LISTS, rest)) => {
            postcard::from_bytes(rest).map(|v1| without_skipped(MarkV2 { v1, list_changes: 0 }))
        }
        other => return Err(format!("expected version 1 to 4, found {:?}", other.map(|(version, _)| version))),
    };
    let MarkV4 { v3: MarkV3 { v2: MarkV2 { v1: stored, list_changes }, skipped }, answered } =
        read.map_err(|error| error.to_string())?;
    let totals = Totals {
        decisions: stored.decisions,
        logins: stored.logins,
        labels: stored.labels,
        list_changes,
        duplicates: stored.duplicates,
        dead_letters: stored.dead_letters,
        skipped,
        answered,
    };
    Ok(Mark { partition, next_n: stored.next_n, totals })
}

pub(super) fn encode(mark: &Mark) -> Result<Vec<u8>, postcard::Error> {
    let Mark { next_n, totals, .. } = *mark;
    let Totals { decisions, logins, labels, list_changes, duplicates, dead_letters, skipped, answered } = totals;
    let v1 = MarkV1 { next_n, decisions, logins, labels, duplicates, dead_letters };
    match (list_changes, skipped, answered) {
        (0, 0, 0) => postcard::to_extend(&v1, vec![VERSION_WITHOUT_LISTS]),
        (list_changes, 0, 0) => postcard::to_extend(&MarkV2 { v1, list_changes }, vec![VERSION_WITHOUT_SKIPPED]),
        (list_changes, skipped, 0) => {
            let v3 = MarkV3 { v2: MarkV2 { v1, list_changes }, skipped };
            postcard::to_extend(&v3, vec![VERSION_WITHOUT_ANSWERED])
        }
        (list_changes, skipped, answered) => {
            let v3 = MarkV3 { v2: MarkV2 { v1, list_changes }, skipped };
            postcard::to_extend(&MarkV4 { v3, answered }, vec![VERSION])
        }
    }
}

pub(super) fn mark_checksum(partition: u16, body: &[u8]) -> i64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&partition.to_le_bytes());
    hash.update(body);
    hash.finalize().into()
}

fn source_of(row: &SqliteRow) -> Result<SourceOffset, String> {
    let text = |error: sqlx::Error| format!("a source offset: {error}");
    let topic: &str = row.try_get(0).map_err(text)?;
    let (partition, next_offset) = (row.try_get(1).map_err(text)?, row.try_get(2).map_err(text)?);
    let source = SourceOffset { topic: topic.into(), partition, next_offset };
    let (expected, found) = (row.try_get::<i64, _>(3).map_err(text)?, source_checksum(&source));
    if found != expected {
        let what = format!("expected checksum {expected:08x}, found {found:08x}");
        return Err(format!("the offset of {topic}/{partition}: {what}"));
    }
    Ok(source)
}

fn source_checksum(source: &SourceOffset) -> i64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(source.topic.as_bytes());
    hash.update(&source.partition.to_le_bytes());
    hash.update(&source.next_offset.to_le_bytes());
    hash.finalize().into()
}

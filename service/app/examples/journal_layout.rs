//! Measures the embedded journal (ADR 0002): `cargo run --release --example journal_layout [DIR]`.
//!
//! It prints records a second and process time for commits of several sizes, as one row a commit (the real journal) and
//! as one row a record in a transaction (the alternative), then replays, single reads and the loading of profiles. DIR
//! should be on the disk that matters; without it a temporary directory is used.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures and prints")]

mod sample;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verdict::journal::checkpoint::{Checkpoint, CheckpointStore, ProfileSnapshot};
use verdict::journal::record::Record;
use verdict::journal::{Journal, SqliteJournal, record_v1};

const RECORDS: u64 = 32_768;
const PROFILES: usize = 1_000_000;
/// Profiles in one checkpoint.
const DIRTY: usize = 20_000;

/// User and system time of this process (`/proc/self/stat`, in ticks of 10 ms).
fn process_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().context("a name in parentheses")?;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn report(name: &str, batch: u64, records: u64, start: Instant, cpu: Duration) -> Result<()> {
    let (wall, cpu) = (start.elapsed(), process_time()?.saturating_sub(cpu));
    let rate = records as f64 / wall.as_secs_f64();
    let commit_us = wall.as_micros() as f64 * batch as f64 / records as f64;
    let cpu_us = cpu.as_micros() as f64 / records as f64;
    println!("| {name} | {batch} | {rate:.0} | {commit_us:.0} | {cpu_us:.1} |");
    Ok(())
}

async fn row_a_commit(dir: &Path, batch: u64) -> Result<()> {
    let journal = SqliteJournal::open(dir, 12).await?;
    let epoch = journal.take_over(vec![0]).await?[0].epoch;
    let generation = sample::generation();
    let records: Vec<Record> = (0..count(batch)).map(|n| sample::record(&generation, 0, epoch, n)).collect();
    let (start, cpu) = (Instant::now(), process_time()?);
    for records in records.chunks(batch as usize) {
        journal.append(records.to_vec()).await?;
    }
    report("a row a commit", batch, count(batch), start, cpu)
}

async fn row_a_record(dir: &Path, batch: u64) -> Result<()> {
    let mut connection = connect(&dir.join("rows.db")).await?;
    sqlx::raw_sql(
        "CREATE TABLE records (partition INTEGER, n INTEGER, body BLOB, PRIMARY KEY (partition, n)) WITHOUT ROWID",
    )
    .execute(&mut connection)
    .await?;
    let generation = sample::generation();
    let records: Vec<Record> = (0..count(batch)).map(|n| sample::record(&generation, 0, 1, n)).collect();
    let (start, cpu) = (Instant::now(), process_time()?);
    for records in records.chunks(batch as usize) {
        let mut transaction = connection.begin().await?;
        for record in records {
            let mut body = Vec::with_capacity(512);
            record_v1::encode(record, &mut body)?;
            sqlx::query("INSERT INTO records VALUES (?, ?, ?)")
                .bind(i64::from(record.partition))
                .bind(record.n.cast_signed())
                .bind(body)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
    }
    report("a row a record", batch, count(batch), start, cpu)
}

/// Fewer records for small batches, whose commits take the time.
fn count(batch: u64) -> u64 {
    (batch * 2_048).min(RECORDS)
}

async fn connect(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    Ok(options.disable_statement_logging().connect().await?)
}

async fn reading(dir: &Path) -> Result<()> {
    let journal = SqliteJournal::open(dir, 12).await?;
    let records = journal.durable().borrow()[0];
    let start = Instant::now();
    let found = journal.replay(vec![(0, 0)]).try_fold(0_u64, |found, _| async move { Ok(found + 1) }).await?;
    println!("replay of {found} records: {:.0} records/s", found as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let reads = 500;
    for read in 0..reads {
        let n = read * (records / reads);
        journal.read(0, n).await?.context("a record")?;
    }
    println!("single read: {:.0} us", start.elapsed().as_micros() as f64 / reads as f64);
    Ok(())
}

async fn profiles(dir: &Path) -> Result<()> {
    let store = CheckpointStore::open(dir).await?;
    let checkpoint = |first: usize| {
        let profile = |user: usize| ProfileSnapshot {
            user_id: format!("user-{:06}", user.wrapping_mul(2_654_435_761) % 1_000_003).into(),
            partition: (user % 12) as u16,
            n: user as u64,
            bytes: vec![user as u8; 300],
        };
        Checkpoint { profiles: (first..first + DIRTY).map(profile).collect(), ..Checkpoint::default() }
    };
    let start = Instant::now();
    for first in (0..PROFILES).step_by(DIRTY) {
        store.save(&checkpoint(first)).await?;
    }
    println!("{PROFILES} profiles of 300 bytes saved in {:.1} s", start.elapsed().as_secs_f64());
    let (start, cpu) = (Instant::now(), process_time()?);
    store.save(&checkpoint(PROFILES / 2)).await?;
    let cpu = process_time()?.saturating_sub(cpu).as_secs_f64();
    println!("{DIRTY} of them saved again in {:.2} s, {cpu:.2} s of CPU", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let all: Vec<u16> = (0..12).collect();
    let found = store.load(&all).try_fold(0_usize, |found, _| async move { Ok(found + 1) }).await?;
    println!("{found} profiles loaded in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("journal-layout-{}", std::process::id()));
    println!("| layout | batch | records/s | a commit, us | CPU a record, us |\n|---|---|---|---|---|");
    for batch in [1, 16, 64, 512] {
        row_a_commit(&dir.join(format!("commit-{batch}")), batch).await?;
        let rows = dir.join(format!("record-{batch}"));
        std::fs::create_dir_all(&rows)?;
        row_a_record(&rows, batch).await?;
    }
    reading(&dir.join("commit-16")).await?;
    profiles(&dir).await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

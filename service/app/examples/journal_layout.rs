//! Measures the embedded journal (ADR 0006): `cargo run --release --example journal_layout [DIR]`.
//!
//! It prints wall and process time a commit for commits of several sizes, in turns for the log (the real journal) and for
//! SQLite with one row a commit (what it replaced, without what the service had around it), then replays, single reads
//! and the loading of profiles. DIR should be on the disk that matters; without it a temporary directory is used.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures and prints")]

mod sample;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verdict::journal::checkpoint::{Checkpoint, CheckpointStore, ProfileSnapshot};
use verdict::journal::record::Record;
use verdict::journal::{DirLock, Journal, LogJournal, Wanted, codec};

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

/// Prints a line: 99 of 100 commits were at most as slow as the last number but one.
fn report(name: &str, batch: u64, mut commits: Vec<Duration>, cpu: Duration) -> Result<()> {
    let cpu = process_time()?.saturating_sub(cpu).as_micros() as f64 / commits.len() as f64;
    commits.sort_unstable();
    let (p50, p99) = (commits[commits.len() / 2].as_micros(), commits[commits.len() * 99 / 100].as_micros());
    println!("| {name} | {batch} | {p50} | {p99} | {cpu:.0} |");
    Ok(())
}

async fn log(dir: &Path, batch: u64) -> Result<()> {
    let journal = LogJournal::open(DirLock::acquire(dir)?, 12).await?;
    let epoch = journal.take_over(vec![0]).await?[0].epoch;
    let generation = sample::generation();
    let records: Vec<Record> = (0..count(batch)).map(|n| sample::record(&generation, 0, epoch, n)).collect();
    let appends: Vec<Vec<Record>> = records.chunks(batch as usize).map(<[Record]>::to_vec).collect();
    let (mut commits, cpu) = (Vec::new(), process_time()?);
    for records in appends {
        let start = Instant::now();
        journal.append(records).await?;
        commits.push(start.elapsed());
    }
    report("log", batch, commits, cpu)
}

async fn row_a_commit(dir: &Path, batch: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut connection = connect(&dir.join("rows.db")).await?;
    let sql = "CREATE TABLE batches (seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL)";
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    let generation = sample::generation();
    let records: Vec<Record> = (0..count(batch)).map(|n| sample::record(&generation, 0, 1, n)).collect();
    let (mut commits, cpu) = (Vec::new(), process_time()?);
    for records in records.chunks(batch as usize) {
        let start = Instant::now();
        let mut body = Vec::with_capacity(records.len() * 512);
        for record in records {
            codec::encode(record, &mut body)?;
        }
        sqlx::query("INSERT INTO batches (checksum, body) VALUES (?, ?)")
            .bind(i64::from(crc32fast::hash(&body)))
            .bind(body)
            .execute(&mut connection)
            .await?;
        commits.push(start.elapsed());
    }
    report("SQLite", batch, commits, cpu)
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
    let journal = LogJournal::open(DirLock::acquire(dir)?, 12).await?;
    let records = journal.durable().borrow()[0];
    let start = Instant::now();
    let found = journal
        .replay(vec![(0, 0)], Wanted::Everything)
        .try_fold(0_u64, |found, _| async move { Ok(found + 1) })
        .await?;
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
    println!("| layout | records | p50, us | p99, us | CPU, us |\n|---|---|---|---|---|");
    for batch in [1, 16, 64, 512] {
        log(&dir.join(format!("log-{batch}")), batch).await?;
        row_a_commit(&dir.join(format!("rows-{batch}")), batch).await?;
    }
    reading(&dir.join("log-16")).await?;
    profiles(&dir).await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

//! Fills a data folder with users, as a checkpoint: each with the same number of payments within the last days, whose ids
//! are all still known. The journal stays empty; a service that starts on the folder recovers the users and serves them.
//!
//! User ids are those of `generate`, so that its requests wake them. It writes through the service's own rooms and
//! prints one JSON line of what it wrote; it never changes a folder that has profiles.

use clap::Parser;
use serde::Serialize;
use std::path::PathBuf;
use thiserror::Error;
use verdict::actors::partition::partition_of;
use verdict::journal::checkpoint::{Checkpoint, CheckpointStore, ListSnapshot, Mark, Marker, ProfileSnapshot, Totals};
use verdict::journal::{JournalError, profile};
use verdict_core::profile::{PartsError, Payment, Profile, ProfileParts};
use verdict_core::time::{DAY_MS, Timestamp};
use verdict_load::clock::{WallClock, now};
use verdict_load::requests::MOST_USERS;

/// Profiles saved in one transaction.
const BATCH: u32 = 20_000;
/// Span of the payments: inside the default dedupe horizon of 8 days.
const SPAN_MS: i64 = 7 * DAY_MS;
/// A partition's number of its first payment here: as many bytes as after some months.
const FIRST_N: u64 = 100_000_000;

/// Writes a checkpoint of users.
#[derive(Debug, Parser)]
#[command(after_help = "Example: fill_users --data-dir data --users 1000000 --events 20")]
struct Args {
    /// The folder.
    #[arg(long)]
    data_dir: PathBuf,
    /// Number of users.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_USERS)))]
    users: u32,
    /// Payments of each.
    #[arg(long, default_value_t = 20)]
    events: u32,
    /// Partitions of the journal that will be created beside it.
    #[arg(long, default_value_t = 12)]
    partitions: u16,
}

#[derive(Debug, Error)]
enum FillError {
    #[error("expected a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("expected a folder without profiles, found some in {0}")]
    NotEmpty(PathBuf),
    #[error(transparent)]
    Parts(#[from] PartsError),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

#[derive(Debug, Serialize)]
struct Findings {
    users: u32,
    events: u32,
    /// Bytes of all profiles as they are stored.
    profile_bytes: u64,
    /// Bytes of all ids.
    id_bytes: u64,
}

#[expect(clippy::print_stdout, reason = "the findings go to stdout")]
fn main() -> Result<(), FillError> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", serde_json::to_string(&runtime.block_on(fill(&args))?)?);
    Ok(())
}

async fn fill(args: &Args) -> Result<Findings, FillError> {
    let newest = Timestamp::from_millis(WallClock::start().millis(now()));
    let store = CheckpointStore::open(&args.data_dir).await?;
    if store.marker().await?.is_some() {
        return Err(FillError::NotEmpty(args.data_dir.clone()));
    }
    let mut findings = Findings { users: args.users, events: args.events, profile_bytes: 0, id_bytes: 0 };
    for first in (0..args.users).step_by(BATCH as usize) {
        let batch = first..args.users.min(first + BATCH);
        let profiles = batch.map(|user| snapshot(user, newest, args)).collect::<Result<Vec<_>, _>>()?;
        findings.profile_bytes += profiles.iter().map(|profile| profile.bytes.len() as u64).sum::<u64>();
        findings.id_bytes += profiles.iter().map(|profile| profile.user_id.len() as u64).sum::<u64>();
        // Nothing of the journal is reflected: it is empty.
        let mark = |partition| Mark { partition, next_n: 0, totals: Totals::default() };
        let marker = Marker { marks: (0..args.partitions).map(mark).collect(), sources: Vec::new() };
        // Nobody is on a list, which spares the service looking for entries in every profile.
        let lists = (0..args.partitions).map(|partition| ListSnapshot { partition, entries: Vec::new() }).collect();
        store.save(&Checkpoint { profiles, lists, marker }).await?;
    }
    Ok(findings)
}

fn snapshot(user: u32, newest: Timestamp, args: &Args) -> Result<ProfileSnapshot, PartsError> {
    let user_id: Box<str> = format!("u-{user:06}").into();
    let profile = profile_of(user.into(), newest, args.events.into())?;
    let partition = partition_of(&user_id, args.partitions);
    Ok(ProfileSnapshot { user_id, partition, n: profile.next_n(), bytes: profile::encode(&profile) })
}

/// Payments at even distances, moved by what no other user's are moved by.
fn profile_of(user: u64, newest: Timestamp, events: u64) -> Result<Profile, PartsError> {
    let gap = SPAN_MS / (events.cast_signed() + 1);
    let payment = |event: u64| {
        let print = |what: u64| fingerprint(user << 24 ^ event << 2 ^ what);
        Payment {
            at: newest - gap * (events - event).cast_signed() + (print(0) % gap.cast_unsigned()).cast_signed() / 2,
            minor: (print(1) % 50_000).cast_signed(),
            merchant: fingerprint(print(2) % 10_000),
            id: print(2),
            content: print(3),
            n: FIRST_N + event * 80_000 + user % 80_000,
        }
    };
    let recent: Vec<Payment> = (0..events).map(payment).collect();
    let (first, newest) = (recent.first().map(|payment| payment.at), recent.last().map(|payment| payment.at));
    Profile::from_parts(ProfileParts { recent, first, newest, ..ProfileParts::default() })
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
fn fingerprint(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

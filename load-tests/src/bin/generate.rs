//! The load generator: transactions of Zipf-distributed users over keep-alive connections, on one thread.
//!
//! Closed loop by default: each connection sends its next request when the last is answered. With `--rate` requests are
//! due at fixed times and latency counts from then, so that a stall shows in full. It prints one JSON line and judges
//! nothing; a broken connection is counted and opened anew, but a target that takes none ends the run.

use clap::Parser;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::task::JoinSet;
use verdict_load::clock::{self, WallClock};
use verdict_load::connection::{Connection, ConnectionError};
use verdict_load::requests::{MOST_USERS, Requests, Workload};
use verdict_load::tally::{Findings, Tally};

/// Below this a timer of the runtime, which counts in milliseconds, would be too coarse; the task polls instead.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Sends decide requests and prints one JSON line of findings.
#[derive(Debug, Parser)]
#[command(after_help = "Example: generate 127.0.0.1:8080 --connections 64 --seconds 5")]
struct Args {
    /// Address of the service.
    target: SocketAddr,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: u16,
    /// Length of the measured span.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Length of the span before it, which is not measured.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Requests a second, due at fixed times; without it each connection sends when it has its answer.
    #[arg(long)]
    rate: Option<f64>,
    /// Waits for what is due by timers alone, which are up to two milliseconds late and counted as latency: for a
    /// generator whose cores others need as well.
    #[arg(long)]
    timers: bool,
    /// Number of users.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_USERS)))]
    users: u32,
    /// Exponent of Zipf's law over users.
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    /// Median amount in US dollars. The busiest users of Zipf's law spend any limit in seconds; a low one keeps most
    /// decisions approvals.
    #[arg(long, default_value_t = 20.0)]
    median: f64,
    /// Share of requests that are logins.
    #[arg(long, default_value_t = 0.0)]
    login_share: f64,
    /// Deadline to put in each transaction.
    #[arg(long)]
    deadline_ms: Option<u32>,
    /// What counts as in time, in milliseconds from sending.
    #[arg(long, default_value_t = 200)]
    in_time_ms: u64,
    /// Seed of users, amounts and places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Part of every transaction id; taken from the clock by default, so that no run repeats another's ids.
    #[arg(long)]
    run: Option<u32>,
    /// A further header line, such as "authorization: Bearer KEY".
    #[arg(long = "header")]
    headers: Vec<String>,
}

#[derive(Debug, Error)]
enum GenerateError {
    #[error("expected {0} to take a connection: {1}")]
    Connect(SocketAddr, ConnectionError),
    #[error("expected a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("a connection's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("expected spans and rates to be positive numbers, at most a day long, found {0}")]
    Span(f64),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

/// What the connections share. One thread runs them all, so the lock is never contended.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    requests: Requests,
    schedule: Schedule,
    by_timers: bool,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    next: u64,
    clock: WallClock,
    tally: Tally,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    end: Instant,
    /// Time between requests; `None` is a closed loop.
    gap_secs: Option<f64>,
}

impl Schedule {
    /// When a request is due, `None` in a closed loop.
    fn due(&self, number: u64) -> Option<Instant> {
        self.gap_secs.map(|gap| self.start + Duration::from_secs_f64(gap * number as f64))
    }
}

#[expect(clippy::print_stdout, reason = "the findings go to stdout")]
fn main() -> Result<(), GenerateError> {
    let args = Args::parse();
    let findings = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(generate(args))?;
    println!("{}", serde_json::to_string(&findings)?);
    Ok(())
}

async fn generate(args: Args) -> Result<Findings, GenerateError> {
    let warmup = span(args.warmup)?;
    let measured = span(args.seconds)?;
    let gap_secs = args.rate.map(|rate| span(1.0 / rate).map(|gap| gap.as_secs_f64())).transpose()?;
    let clock = WallClock::start();
    let requests = Requests::new(&Workload {
        host: args.target.to_string(),
        headers: args.headers,
        users: args.users,
        zipf: args.zipf,
        median: args.median,
        login_share: args.login_share,
        deadline_ms: args.deadline_ms,
        seed: args.seed,
        run: args.run.unwrap_or_else(|| clock.millis(clock::now()) as u32),
    });
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        let opened = Connection::open(args.target).await;
        connections.push(opened.map_err(|error| GenerateError::Connect(args.target, error))?);
    }
    let start = clock::now();
    let cpu_before = clock::cpu_time();
    let schedule = Schedule { start, end: start + warmup + measured, gap_secs };
    let tally = Tally::new(start + warmup, schedule.end, Duration::from_millis(args.in_time_ms));
    let progress = Mutex::new(Progress { next: 0, clock, tally });
    let shared = Arc::new(Shared { target: args.target, requests, schedule, by_timers: args.timers, progress });
    let mut drivers: JoinSet<_> = connections.into_iter().map(|open| drive(open, Arc::clone(&shared))).collect();
    while let Some(driven) = drivers.join_next().await {
        driven??;
    }
    let cpu = clock::cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let progress = shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(progress.tally.findings(cpu, start.elapsed()))
}

/// Sends one request after the other on a connection until the schedule ends.
async fn drive(mut connection: Connection, shared: Arc<Shared>) -> Result<(), GenerateError> {
    let mut buffer = Vec::with_capacity(1_024);
    let mut finished = clock::now();
    while finished < shared.schedule.end {
        let (due, prepared) = {
            let number = shared.take_number();
            let due = match shared.schedule.due(number) {
                Some(due) if due >= shared.schedule.end => return Ok(()),
                Some(due) => {
                    wait_until(due, shared.by_timers).await;
                    due
                }
                None => finished,
            };
            (due, shared.prepare(number, due, &mut buffer))
        };
        let sent = clock::now();
        let outcome = connection.exchange(&buffer).await;
        finished = clock::now();
        let reopen = match &outcome {
            Ok(answer) => {
                let id = &buffer[prepared.id.0..prepared.id.1];
                shared.progress().tally.answered(prepared.kind, id, answer, (due, sent), finished);
                answer.closing
            }
            Err(_) => {
                shared.progress().tally.broke();
                true
            }
        };
        if reopen {
            let opened = Connection::open(shared.target).await;
            connection = opened.map_err(|error| GenerateError::Connect(shared.target, error))?;
        }
    }
    Ok(())
}

impl Shared {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_number(&self) -> u64 {
        let mut progress = self.progress();
        progress.next += 1;
        progress.next - 1
    }

    fn prepare(&self, number: u64, at: Instant, buffer: &mut Vec<u8>) -> verdict_load::requests::Prepared {
        let mut progress = self.progress();
        self.requests.prepare(number, progress.clock.text(at), buffer)
    }
}

/// Waits for an instant to well under a millisecond, letting other connections run.
async fn wait_until(due: Instant, by_timers: bool) {
    loop {
        let left = due.saturating_duration_since(clock::now());
        if left.is_zero() {
            return;
        }
        if by_timers {
            tokio::time::sleep(left).await;
        } else if left > TIMER_SLACK {
            tokio::time::sleep(left - TIMER_SLACK).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

fn span(seconds: f64) -> Result<Duration, GenerateError> {
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(GenerateError::Span(seconds))
    }
}

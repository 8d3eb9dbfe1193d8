//! `verdict simulate`: simulated traffic as NDJSON on stdout, or sent to a running service. It decides nothing itself.

use super::UsageError;
use crate::config::Config;
use crate::kafka::{KafkaSettings, SendError, Topic};
use crate::telemetry::clock;
use crate::traffic::target::Target;
use crate::traffic::topics::Topics;
use crate::traffic::{Event, Generator, Kind, LineWriter, Noise, Quota, Selected, Shape};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verdict_core::time::HOUR_MS;

/// Start of a history on stdout unless `--start` says otherwise, so that a seed alone fixes every byte: a Monday.
const DEFAULT_START: &str = "2026-01-05T00:00:00Z";
/// Events of a history unless `--count` says otherwise.
const DEFAULT_COUNT: u64 = 10_000;
/// People of a history, and of live traffic that is sent as fast as it is taken.
const DEFAULT_USERS: u32 = 2_000;
const DEFAULT_LIVE_USERS: u32 = 100_000;
/// How much faster than the clock a live world lives unless `--users` says otherwise: fast enough that an account
/// takeover runs its course within a minute, slow enough that nobody spends a week's money in an hour.
const LIVE_TIME_LAPSE: f64 = 30.0;
/// Most people who are made up for a high `--rate`; beyond it each is busier instead. About 60 MB.
const MAX_DEFAULT_USERS: f64 = 300_000.0;
/// Live, three weeks until a chargeback become a quarter of an hour.
const LIVE_LABEL_DELAY_SCALE: f64 = 1.0 / 2_000.0;
/// How long the simulated world has been running when it is first seen live, so that purchases and thieves are under way:
/// a world that starts now would only log in for the first quarter of an hour.
const WARM_UP_MS: i64 = 3 * HOUR_MS;
/// Events a request; at a low rate fewer, so that none waits longer than this.
const CHUNK: usize = 256;
const CHUNK_SECS: f64 = 0.05;

/// Generate traffic with labelled fraud: logins, transactions and fraud reports, in event-time order.
///
/// Written to stdout it is a history for `verdict backtest`; the same seed gives the same bytes. Sent to a service it
/// happens now: timestamps are those of sending, and the answers go to stdout, one JSON line each. Sent to
/// topics it happens now as well, and a JSON line tells what was sent.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict simulate --count 100000 --seed 7 > history.ndjson
  verdict simulate --count 100000 --seed 7 | verdict backtest --input -
  verdict simulate --target http://127.0.0.1:8080 --rate 200
  verdict simulate --target kafka --config verdict.toml --count 100000 --late 1 --duplicates 1 --malformed 0.1")]
pub struct SimulateArgs {
    /// Number of people [default: 2000; for a service 1200 for each event a second of --rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: Option<u32>,
    /// Number of events to write [default: 10000; for a service, endless]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Number of transactions, with which the events end; noise comes on top
    #[arg(long, value_name = "N")]
    transactions: Option<u64>,
    /// Number of logins, spread over the transactions [default: as they come]
    #[arg(long, value_name = "N")]
    logins: Option<u64>,
    /// Number of labels at most [default: as they come]
    #[arg(long, value_name = "N")]
    labels: Option<u64>,
    /// Events a second, in real time [default: as fast as they are taken]
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Everything random follows from it
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Event time of the first event, RFC 3339 [default: 2026-01-05T00:00:00Z]
    #[arg(long, value_name = "TIME")]
    start: Option<jiff::Timestamp>,
    /// Days of event time that the events take [default: what is natural for so many people]
    #[arg(long, value_name = "D")]
    days: Option<f64>,
    /// Share of transactions that are fraud
    #[arg(long, value_name = "PCT", default_value_t = 1.0)]
    fraud: f64,
    /// Where events go: "-" is stdout, http://HOST:PORT a running service, "kafka" the topics of the configuration
    #[arg(long, value_name = "URL|kafka|-", default_value = "-")]
    target: String,
    /// Configuration file that names the brokers [default: verdict.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the API key of the service
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Add the field `label_is_fraud` to transactions, for training
    #[arg(long)]
    with_truth: bool,
    /// Share of lines that come a second time
    #[arg(long, value_name = "PCT", default_value_t = 0.0)]
    duplicates: f64,
    /// Share of lines that come out of order
    #[arg(long, value_name = "PCT", default_value_t = 0.0)]
    late: f64,
    /// Share of extra lines that are broken
    #[arg(long, value_name = "PCT", default_value_t = 0.0)]
    malformed: f64,
}

/// Runs the command.
///
/// # Errors
/// When an option is out of range, or the events cannot be written or delivered.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    for (name, value) in [("rate", args.rate), ("days", args.days)] {
        if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
            let found = value.unwrap_or_default();
            return Err(UsageError(format!("--{name}: expected a number above 0, found {found}")).into());
        }
    }
    if !(0.0..=50.0).contains(&args.fraud) {
        return Err(UsageError(format!("--fraud: expected a percentage from 0 to 50, found {}", args.fraud)).into());
    }
    let result = match args.target.as_str() {
        "-" => write_history(args),
        "kafka" => send_to_topics(args),
        _ => send_live(args),
    };
    result.or_else(|error| match error.downcast_ref::<io::Error>() {
        // A reader that went away (`| head`) is no failure.
        Some(io_error) if io_error.kind() == ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

fn shape(args: &SimulateArgs, users: u32, start_ms: i64) -> Shape {
    let count = args.count.or(args.transactions).unwrap_or(DEFAULT_COUNT);
    let natural = Shape::natural(users, count, args.seed, start_ms);
    let shape = Shape { fraud_share: args.fraud / 100.0, ..natural };
    args.days.map_or(shape, |days| shape.over_days(days))
}

/// The events that are wanted.
fn selected(args: &SimulateArgs, generator: Generator) -> Selected<Generator> {
    Quota { transactions: args.transactions, logins: args.logins, labels: args.labels }.of(generator)
}

fn noise(args: &SimulateArgs) -> anyhow::Result<Noise> {
    Noise::new(args.seed, args.duplicates, args.late, args.malformed)
        .map_err(|error| UsageError(error.to_string()).into())
}

fn write_history(args: &SimulateArgs) -> anyhow::Result<()> {
    let start = match args.start {
        Some(start) => start,
        None => DEFAULT_START.parse().context("the default start")?,
    };
    let count = args.count.unwrap_or(if args.transactions.is_some() { u64::MAX } else { DEFAULT_COUNT });
    let shape = shape(args, args.users.unwrap_or(DEFAULT_USERS), start.as_millisecond());
    let writer = LineWriter::new(&shape, args.with_truth);
    let mut noise = noise(args)?;
    let mut events = selected(args, Generator::new(shape));
    let mut pace = Pace::new(args.rate);
    let progress = progress((count < u64::MAX).then_some(count), !io::stdout().is_terminal());
    let out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let (mut history, mut line) = (History { out, count, written: 0, failure: None }, Vec::with_capacity(512));
    while history.wants_more() {
        let Some(event) = events.next() else { break };
        pace.wait(|| history.out.flush())?;
        line.clear();
        writer.write(&event, event.at_ms, &mut line)?;
        noise.pass(&line, |line| history.put(line));
        if history.written % 4_096 == 0 {
            progress.set_position(history.written);
        }
    }
    noise.finish(|line| history.put(line));
    progress.finish_and_clear();
    history.failure.map_or_else(|| history.out.flush(), Err).context("writing events to stdout")
}

/// Lines on their way to stdout, as many as are wanted.
struct History<W> {
    out: W,
    count: u64,
    written: u64,
    failure: Option<io::Error>,
}

impl<W: Write> History<W> {
    fn wants_more(&self) -> bool {
        self.written < self.count && self.failure.is_none()
    }

    fn put(&mut self, line: &[u8]) {
        if self.wants_more() {
            self.failure = self.out.write_all(line).err();
            self.written += 1;
        }
    }
}

/// Traffic that happens now.
struct Live {
    events: Selected<Generator>,
    writer: LineWriter,
    pace: Pace,
}

fn live(args: &SimulateArgs) -> anyhow::Result<Live> {
    if args.start.is_some() {
        let what = "--start: events for a service happen when they are sent; leave it out, or send to \"-\"";
        return Err(UsageError(what.to_owned()).into());
    }
    let for_rate = |rate| (Shape::users_for_rate(rate) / LIVE_TIME_LAPSE).min(MAX_DEFAULT_USERS) as u32;
    let users = args.users.unwrap_or_else(|| args.rate.map_or(DEFAULT_LIVE_USERS, for_rate).max(1));
    let shape = shape(args, users, clock::now().as_millis() - WARM_UP_MS);
    let shape = Shape { label_delay_scale: LIVE_LABEL_DELAY_SCALE, ..shape };
    let mut generator = Generator::new(shape);
    generator.run_until(shape.start_ms + WARM_UP_MS);
    Ok(Live {
        events: selected(args, generator),
        writer: LineWriter::new(&shape, args.with_truth),
        pace: Pace::new(args.rate),
    })
}

fn send_to_topics(args: &SimulateArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), Vec::new())?;
    let Some(kafka) = &config.kafka else {
        let what = "--target kafka: expected [kafka] with bootstrap_servers in the configuration, found none";
        return Err(UsageError(what.to_owned()).into());
    };
    let Live { events, writer, mut pace } = live(args)?;
    let topics = Topics::open(&KafkaSettings::from(kafka), std::thread::sleep)?;
    let mut sending = Sending { topics, count: args.count, sent: [0; 3], failure: None };
    let (mut transactions, mut logins) = (noise(args)?, noise(args)?);
    let mut line = Vec::with_capacity(512);
    for event in events {
        if !sending.wants_more() {
            break;
        }
        pace.wait(|| Ok(()))?;
        line.clear();
        writer.write(&event, clock::now().as_millis(), &mut line)?;
        let user_id = format!("u-{}", event.user);
        match event.kind {
            Kind::Purchase(_) => transactions.pass(&line, |line| sending.send(Topic::Transactions, line, &user_id)),
            Kind::Login(_) => logins.pass(&line, |line| sending.send(Topic::Logins, line, &user_id)),
            Kind::Label(_) => sending.send(Topic::Labels, &line, &user_id),
        }
    }
    // What is on hold is whole, and names its user.
    transactions.finish(|line| sending.send(Topic::Transactions, line, ""));
    logins.finish(|line| sending.send(Topic::Logins, line, ""));
    let Sending { topics, sent, failure, .. } = sending;
    failure.map_or(Ok(()), Err)?;
    topics.finish()?;
    let [transactions, logins, labels] = sent;
    let told = serde_json::json!({"sent": {"transactions": transactions, "logins": logins, "labels": labels}});
    writeln!(io::stdout(), "{told}").context("writing what was sent to stdout")
}

/// Lines on their way to topics, as many as are wanted.
struct Sending {
    topics: Topics,
    count: Option<u64>,
    /// Transactions, logins and labels.
    sent: [u64; 3],
    failure: Option<SendError>,
}

impl Sending {
    fn wants_more(&self) -> bool {
        self.count.is_none_or(|count| self.sent.iter().sum::<u64>() < count) && self.failure.is_none()
    }

    fn send(&mut self, topic: Topic, line: &[u8], user_id: &str) {
        if !self.wants_more() {
            return;
        }
        self.failure = self.topics.send(topic, line, user_id).err();
        self.sent[match topic {
            Topic::Transactions => 0,
            Topic::Logins => 1,
            _ => 2,
        }] += 1;
    }
}

fn send_live(args: &SimulateArgs) -> anyhow::Result<()> {
    let Live { events, writer, mut pace } = live(args)?;
    let key = args.api_key_file.as_deref().map(read_key).transpose()?;
    let target =
        Target::new(&args.target, key.as_deref(), std::thread::sleep).map_err(|error| UsageError(error.to_string()))?;
    let mut courier = Courier::new(target, args.rate, progress(args.count, !io::stdout().is_terminal()));
    let mut noise = noise(args)?;
    let mut line = Vec::with_capacity(512);
    for event in events {
        if args.count.is_some_and(|count| courier.taken + courier.pending.len() as u64 >= count) {
            break;
        }
        pace.wait(|| Ok(()))?;
        line.clear();
        writer.write(&event, clock::now().as_millis(), &mut line)?;
        courier.take(&event, &line, &mut noise)?;
    }
    courier.deliver()?;
    courier.progress.finish_and_clear();
    Ok(())
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading the API key from {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Collects events into chunks, delivers them, and prints the answers.
struct Courier {
    target: Target,
    chunk: usize,
    pending: Vec<Vec<u8>>,
    taken: u64,
    progress: ProgressBar,
}

impl Courier {
    fn new(target: Target, rate: Option<f64>, progress: ProgressBar) -> Self {
        let chunk = rate.map_or(CHUNK, |rate| ((rate * CHUNK_SECS) as usize).clamp(1, CHUNK));
        Self { target, chunk, pending: Vec::new(), taken: 0, progress }
    }

    fn take(&mut self, event: &Event, line: &[u8], noise: &mut Noise) -> anyhow::Result<()> {
        if matches!(event.kind, Kind::Label(_)) {
            // What the label speaks of has been sent before it.
            self.deliver()?;
            self.target.send_label(line)?;
            self.taken += 1;
        } else {
            noise.pass(line, |line| self.pending.push(line.to_vec()));
        }
        if self.pending.len() >= self.chunk {
            self.deliver()?;
        }
        Ok(())
    }

    fn deliver(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let answers = self.target.send_events(&self.pending)?;
        self.taken += self.pending.len() as u64;
        self.pending.clear();
        self.progress.set_position(self.taken);
        let mut out = BufWriter::new(io::stdout().lock());
        let written = answers.iter().try_for_each(|answer| writeln!(out, "{answer}"));
        written.and_then(|()| out.flush()).context("writing answers to stdout")
    }
}

/// Keeps to a rate in real time.
struct Pace {
    rate: Option<f64>,
    started: Instant,
    passed: u64,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { rate, started: clock::instant(), passed: 0 }
    }

    /// Waits until the next event is due; `before` runs first if there is time.
    fn wait(&mut self, before: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
        let Some(rate) = self.rate else { return Ok(()) };
        let due = Duration::from_secs_f64(self.passed as f64 / rate);
        self.passed += 1;
        let elapsed = clock::instant().duration_since(self.started);
        if due > elapsed + Duration::from_millis(1) {
            before()?;
            std::thread::sleep(due.saturating_sub(elapsed));
        }
        Ok(())
    }
}

/// A bar on a terminal's stderr, unless stdout scrolls over the same terminal.
fn progress(count: Option<u64>, allowed: bool) -> ProgressBar {
    let target = if allowed { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(count, target);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

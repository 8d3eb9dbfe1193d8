//! `verdict backtest`: a history through the same actors and the same core, on event time.

use super::{ConfigArgs, DecidingArgs, UsageError};
use crate::actors::messages::Answer;
use crate::app::{self, BACKTEST_WINDOW, Deciding};
use crate::config::Config;
use crate::ingress::file::{Format, History, Run, Sink, Summary};
use crate::telemetry::Metrics;
use crate::wire;
use anyhow::Context;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tracing::{info, warn};
use verdict_core::money::Currency;
use verdict_core::time::DAY_MS;

/// Refused lines that are told one by one; the summary counts them all.
const SHOWN_DEAD_LETTERS: u64 = 20;

/// Leaps of event time between two that are told; the first is.
const LEAPS_PER_WARNING: u64 = 5_000;

/// Bytes of output gathered before they are written.
const OUTPUT_BUFFER_BYTES: usize = 1 << 20;

/// How the input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// Transactions, one a row, with a header that names the fields
    Csv,
    /// One JSON object a line: a line with `login_id` is a login, one with `is_fraud` a label, any other a transaction
    Ndjson,
}

/// Decide a history of events again, in event time and in scratch state: nothing in the data folder changes.
///
/// Decisions go to --output, one JSON object a line, or else to stdout. The last line of stdout is a JSON summary: rows,
/// decided, duplicates, dead_letters by reason, logins, labels, alerts, counts by decision, seconds. Refused rows are
/// counted there; they do not fail the command.
///
/// Event time follows the newest transaction, and a line more than data.max_age_days behind it is refused as TOO_OLD. There
/// is no bound ahead: a history may pause for as long as it likes, and nothing else says what time it is. So one date far
/// in the future ends the rest; a leap of more than a day is warned of with its line.
///
/// A CSV history may have the column `is_fraud`: it becomes a label that is known 7 days after its transaction. A row is
/// one line of at most 64 KiB; a quoted cell that goes on over the end of its line is refused (NOT_CSV), and so is what
/// follows of it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict backtest --input history.csv.gz --output decisions.ndjson
  verdict backtest --input history.ndjson --features --output training.ndjson
  verdict simulate --count 100000 --seed 7 | verdict backtest --input - --rules rules")]
pub struct BacktestArgs {
    /// The history, also compressed with gzip; "-" is stdin
    #[arg(long, value_name = "FILE|-")]
    pub input: PathBuf,
    /// How it is written [default: csv if the file's name says so, else ndjson]
    #[arg(long, value_enum)]
    pub format: Option<InputFormat>,
    /// Currency of CSV rows that name none
    #[arg(long, value_name = "CODE", default_value = "USD")]
    pub currency: String,
    /// File for the decisions [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Add `features` to every decision: what rules and model saw
    #[arg(long)]
    pub features: bool,
    /// What decides.
    #[command(flatten)]
    pub deciding: DecidingArgs,
    /// Configuration file [default: verdict.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, or the input cannot be read or the output not written.
pub fn run(args: &BacktestArgs) -> anyhow::Result<()> {
    let common = ConfigArgs { config: args.config.clone(), data_dir: None };
    let config = common.load(args.deciding.flags())?;
    crate::telemetry::init_logging(config.log_filter())?;
    let deciding = Deciding::load(&config)?;
    let currency = Currency::from_code(&args.currency).ok_or_else(|| {
        UsageError(format!("--currency: expected an ISO 4217 code such as USD, found {:?}", args.currency))
    })?;
    let mut history = History::open(&args.input, format(args), currency)?;
    let output: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(io::stdout()),
    };
    let mut report = Report {
        output: BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, output),
        line: Vec::new(),
        features: args.features,
        dead_letters: 0,
        leaps: 0,
        bar: bar(history.bytes_total),
    };
    let summary = actix::System::new().block_on(decide(&config, &deciding, &mut history, &mut report))?;
    report.bar.finish_and_clear();
    report.output.flush().context("the output cannot be written")?;
    if report.dead_letters > SHOWN_DEAD_LETTERS {
        info!("{} more refused lines are counted in the summary", report.dead_letters - SHOWN_DEAD_LETTERS);
    }
    let mut last = serde_json::to_string(&summary)?;
    last.push('\n');
    // The buffer over stdout, if the decisions went there, is empty by now.
    io::stdout().write_all(last.as_bytes()).context("the summary cannot be written")
}

async fn decide(
    config: &Config,
    deciding: &Deciding,
    history: &mut History,
    report: &mut Report,
) -> anyhow::Result<Summary> {
    let gateway = app::scratch(config, deciding, &Metrics::new())?;
    let run = Run {
        gateway: &gateway,
        rates: deciding.rules().rates(),
        max_age_ms: i64::from(config.data.max_age_days) * DAY_MS,
        window: BACKTEST_WINDOW.min(config.decide.max_in_flight),
    };
    gateway.serving().await?;
    let summary = run.through(history, report).await?;
    gateway.stop().await;
    Ok(summary)
}

fn format(args: &BacktestArgs) -> Format {
    let is_csv = match args.format {
        Some(format) => matches!(format, InputFormat::Csv),
        None => is_csv(&args.input),
    };
    if is_csv { Format::Csv } else { Format::Ndjson }
}

fn is_csv(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    name.trim_end_matches(".gz").ends_with(".csv")
}

/// A bar over the bytes of a file, or a counter for a stream; hidden unless stderr is a terminal.
fn bar(bytes_total: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes_total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {percent:>3}% {msg} {elapsed}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg} {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Writes decisions and shows progress.
struct Report {
    output: BufWriter<Box<dyn Write>>,
    line: Vec<u8>,
    features: bool,
    dead_letters: u64,
    leaps: u64,
    bar: ProgressBar,
}

impl Sink for Report {
    fn decision(&mut self, answer: &Answer) -> io::Result<()> {
        self.line.clear();
        if self.features {
            wire::decision::to_json_with_features(answer, &mut self.line);
        } else {
            wire::decision::to_json(answer, &mut self.line);
        }
        self.line.push(b'\n');
        self.output.write_all(&self.line)
    }

    fn dead_letter(&mut self, line: u64, reason: &str, detail: &str) {
        self.dead_letters += 1;
        if self.dead_letters <= SHOWN_DEAD_LETTERS {
            self.bar.suspend(|| warn!(line, reason, "refused: {detail}"));
        }
    }

    fn leap(&mut self, line: u64, ahead_ms: i64) {
        if self.leaps.is_multiple_of(LEAPS_PER_WARNING) {
            let days = ahead_ms / DAY_MS;
            self.bar.suspend(|| {
                warn!(line, days, "event time leaps: if that is a wrong date, what follows it is refused as TOO_OLD");
            });
        }
        self.leaps += 1;
    }

    fn progress(&mut self, rows: u64, bytes_read: u64) {
        self.bar.set_message(format!("{rows} rows"));
        self.bar.set_position(bytes_read);
    }
}

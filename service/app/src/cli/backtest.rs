//! `verdict backtest`: a history through the same actors and the same core, on event time.

use super::{ConfigArgs, DecidingArgs};
use anyhow::bail;
use clap::ValueEnum;
use std::path::PathBuf;

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
/// decided, duplicates, dead_letters by reason, alerts, counts by decision, seconds. Refused rows are counted there; they
/// do not fail the command.
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
    common.load(args.deciding.flags())?;
    bail!("this build cannot read {}", args.input.display());
}

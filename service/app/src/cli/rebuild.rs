//! `verdict rebuild`: a projection, filled again from the journal.

use super::ConfigArgs;
use crate::app::review_store::{self, Rebuilt};
use anyhow::Context;
use clap::ValueEnum;
use std::io::{self, Write};

/// Fill a projection again from the start of the journal.
///
/// `review` is alerts, decisions and labels. Rows that are there stay as they are, and what is missing comes back: wiped
/// tables are filled, and nothing is there twice. What people wrote (alert_reviews) is never touched. A running service
/// does the reading, within seconds; decisions go on meanwhile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict rebuild review
  verdict rebuild review --config /etc/verdict/verdict.toml")]
pub struct RebuildArgs {
    /// Which one
    #[arg(value_enum)]
    pub projection: Projection,
    /// Where the configuration and the data are.
    #[command(flatten)]
    pub common: ConfigArgs,
}

/// The projections that can be filled again.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Projection {
    /// Alerts, decisions and labels.
    Review,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, there is no journal, or it or the store fails.
pub fn run(args: &RebuildArgs) -> anyhow::Result<()> {
    let RebuildArgs { projection: Projection::Review, common } = args;
    let config = common.load([])?;
    crate::telemetry::init_logging(config.log_filter())?;
    let line = match actix::System::new().block_on(review_store::rebuild(&config))? {
        Rebuilt::ByTheService => "the service reads the journal again from its start, now if it runs\n".to_owned(),
        Rebuilt::Here(records) => format!("{records} records of the journal were read again\n"),
    };
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

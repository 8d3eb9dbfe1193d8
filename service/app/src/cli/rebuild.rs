//! `verdict rebuild`: a projection, filled again from the journal.

use super::ConfigArgs;
use crate::app::review_store::{self, Rebuilt};
use anyhow::Context;
use clap::Subcommand;
use std::io::{self, Write};

/// Fill a projection again from the journal.
#[derive(Clone, Debug, clap::Args)]
pub struct RebuildArgs {
    /// Which one
    #[command(subcommand)]
    pub projection: Projection,
}

/// The projections.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "clap would show a variant's words instead of those of its arguments")]
pub enum Projection {
    Review(ReviewArgs),
}

/// Fill alerts, decisions and labels again from the start of the journal.
///
/// Rows that are there stay as they are, and what is missing comes back: wiped tables are filled, and nothing is there
/// twice. What people wrote (alert_reviews) is never touched. A running service does the reading, within seconds;
/// decisions go on meanwhile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict rebuild review
  verdict rebuild review --config /etc/verdict/verdict.toml")]
pub struct ReviewArgs {
    /// Where the configuration and the data are.
    #[command(flatten)]
    pub common: ConfigArgs,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, there is no journal, or it or the store fails.
pub fn run(args: &RebuildArgs) -> anyhow::Result<()> {
    let Projection::Review(ReviewArgs { common }) = &args.projection;
    let config = common.load([])?;
    crate::telemetry::init_logging(config.log_filter())?;
    let line = match actix::System::new().block_on(review_store::rebuild(&config))? {
        Rebuilt::ByTheService => "the running service reads the journal again from its start\n".to_owned(),
        Rebuilt::Here(records) => format!("{records} records of the journal were read again\n"),
    };
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

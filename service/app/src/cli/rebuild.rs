//! `verdict rebuild`: a projection, filled again from the journal.

use super::ConfigArgs;
use crate::app::{lists, review_store};
use anyhow::Context;
use clap::ValueEnum;
use std::io::{self, Write};

/// Fill a projection again from the journal.
///
/// `review` is alerts, decisions and labels, read from the start of the journal. Rows that are there stay as they are, and
/// what is missing comes back: wiped tables are filled, and nothing is there twice. What people wrote (alert_reviews) is
/// never touched.
///
/// `lists` is the mirror of the block and allow entries in Redis: whatever is in it, it is written again.
///
/// A running service does the reading, within seconds; decisions go on meanwhile. Where the journal is on Kafka, only a
/// service does it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict rebuild review
  verdict rebuild lists --config /etc/verdict/verdict.toml")]
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
    /// The mirror of the block and allow entries.
    Lists,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, there is no journal, or it or the projection fails.
pub fn run(args: &RebuildArgs) -> anyhow::Result<()> {
    let config = args.common.load([])?;
    crate::telemetry::init_logging(config.log_filter())?;
    let system = actix::System::new();
    let line = match args.projection {
        Projection::Review => match system.block_on(review_store::rebuild(&config))? {
            review_store::Rebuilt::ByTheService => {
                "the service reads the journal again from its start, now if it runs\n".to_owned()
            }
            review_store::Rebuilt::Here(records) => format!("{records} records of the journal were read again\n"),
        },
        Projection::Lists => match system.block_on(lists::rebuild(&config))? {
            lists::Rebuilt::ByTheService => "the running service wrote the mirror of the lists again\n".to_owned(),
            lists::Rebuilt::Here => "the mirror of the lists was written again\n".to_owned(),
        },
    };
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

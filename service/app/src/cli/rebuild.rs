//! `verdict rebuild`: a projection, filled again from the journal.

use super::ConfigArgs;
use crate::app::lists::{self, Rebuilt};
use anyhow::Context;
use clap::ValueEnum;
use std::io::{self, Write};

/// Fill a projection again from the journal.
///
/// `lists` is the mirror of the block and allow entries in Redis: whatever is in it, it is written again. If a service
/// runs, it does so, within seconds; decisions go on meanwhile.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict rebuild lists
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
        Projection::Lists => match system.block_on(lists::rebuild(&config))? {
            Rebuilt::ByTheService => "the running service wrote the mirror of the lists again\n",
            Rebuilt::Here => "the mirror of the lists was written again\n",
        },
    };
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

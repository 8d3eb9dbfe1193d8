//! `verdict migrate`: the tables of the database, brought up to this release.

use super::{ConfigArgs, UsageError};
use crate::app::review_store;
use anyhow::Context;
use std::io::{self, Write};

/// Bring the tables of the database in `[postgres]` up to this release.
///
/// Safe to run again, from several places at once, and beside a running service. Files in the data folder need none of
/// it: a start brings them up.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict migrate
  verdict migrate --config /etc/verdict/verdict.toml")]
pub struct MigrateArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub common: ConfigArgs,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong or names no database, it cannot be reached, or a migration fails.
pub fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let config = args.common.load([])?;
    crate::telemetry::init_logging(config.log_filter())?;
    let Some(postgres) = &config.postgres else {
        return Err(UsageError("the configuration names no database: set postgres.url".to_owned()).into());
    };
    let line = match actix::System::new().block_on(review_store::migrate(postgres))? {
        0 => "the database is up to date already\n".to_owned(),
        done => format!("the database is up to date: {done} migration(s) done\n"),
    };
    io::stdout().write_all(line.as_bytes()).context("the result cannot be written")
}

//! `verdict replay`: the journal against the code that reads it.

use super::ConfigArgs;
use anyhow::bail;

/// Recompute every decision in the journal from its events, with the rule sets and models archived beside it, and
/// compare. Nothing is changed.
///
/// Exit code 1 and the first difference, if there is any.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict replay --verify
  verdict replay --verify --data-dir /var/lib/verdict")]
pub struct ReplayArgs {
    /// Compare every decision with the recorded one
    #[arg(long, required = true)]
    pub verify: bool,
    /// Where the configuration and the data are.
    #[command(flatten)]
    pub common: ConfigArgs,
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, the journal cannot be read, or a decision differs.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let config = args.common.load([])?;
    bail!("this build cannot replay {}", config.data.dir.display());
}

//! `verdict rules`: check a rule set, or run its test cases.

use anyhow::bail;
use std::path::PathBuf;

/// Check a rule set, or run its test cases.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict rules check rules/default")]
pub struct RulesArgs {
    /// What to do: check or test
    #[arg(value_parser = ["check", "test"])]
    pub action: String,
    /// Folder of the rule set
    #[arg(default_value = "rules/default")]
    pub dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The rule set has errors, or a test case fails.
pub fn run(args: &RulesArgs) -> anyhow::Result<()> {
    bail!("this build cannot {} {}", args.action, args.dir.display());
}

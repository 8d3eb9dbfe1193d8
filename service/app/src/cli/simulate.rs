//! `verdict simulate`: traffic with labelled fraud.

use anyhow::bail;

/// Generate traffic with labelled fraud.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  verdict simulate --target http://127.0.0.1:8080")]
pub struct SimulateArgs {
    /// Where events go
    #[arg(long, default_value = "-")]
    pub target: String,
    /// Events to write
    #[arg(long)]
    pub count: Option<u64>,
    /// Events a second
    #[arg(long)]
    pub rate: Option<f64>,
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs the command.
///
/// # Errors
/// The events cannot be delivered.
pub fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    bail!("this build cannot send to {}", args.target);
}

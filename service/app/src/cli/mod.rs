//! The command line: one file a subcommand, each with its arguments and a `run`. Parses, dispatches, and turns an error
//! into a line on stderr and an exit code; knows nothing of what a subcommand does.
//!
//! Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong.

pub mod backtest;
pub mod dead_letters;
pub mod migrate;
pub mod rebuild;
pub mod replay;
pub mod rules;
pub mod serve;
pub mod simulate;

use crate::config::{Config, ConfigErrors, Flag};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Exit code of a command that failed.
const FAILED: u8 = 1;
/// Exit code of a command that was asked for wrongly; the one that clap uses.
const MISUSED: u8 = 2;

/// Decides in real time whether a payment goes through.
#[derive(Debug, Parser)]
#[command(name = "verdict", version, arg_required_else_help = true, max_term_width = 120)]
#[command(after_help = "Examples:
  verdict serve
  verdict simulate --target http://127.0.0.1:8080 --rate 20

`verdict COMMAND --help` explains a command.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "clap would show a variant's words instead of those of its arguments")]
pub enum Command {
    Serve(serve::ServeArgs),
    Backtest(backtest::BacktestArgs),
    Simulate(simulate::SimulateArgs),
    Rules(rules::RulesArgs),
    Replay(replay::ReplayArgs),
    Rebuild(rebuild::RebuildArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Migrate(migrate::MigrateArgs),
}

/// A command line that clap accepted and that is wrong all the same: two options that exclude each other, for example.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Where the configuration and the data are; flattened into every subcommand that needs them.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file [default: verdict.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the journal and the profiles [default: data.dir of the configuration, else data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

/// The rules and the model to decide with; flattened into the subcommands that decide.
#[derive(Clone, Debug, Default, Args)]
pub struct DecidingArgs {
    /// Folder of the rule sets [default: rules.dir of the configuration, else rules]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<String>,
    /// Folder of the model; "" decides by rules alone [default: model.dir of the configuration, else models/default]
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
}

impl ConfigArgs {
    /// Loads the configuration with `flags` over it.
    ///
    /// # Errors
    /// Every fault of the file, the environment and the flags.
    pub fn load(&self, flags: impl IntoIterator<Item = Flag>) -> Result<Config, ConfigErrors> {
        let data_dir = flag("--data-dir", ("data", "dir"), self.data_dir.as_ref());
        Config::load(self.config.as_deref(), flags.into_iter().chain(data_dir).collect())
    }
}

impl DecidingArgs {
    /// As settings over the configuration.
    pub fn flags(&self) -> impl Iterator<Item = Flag> {
        let rules = flag("--rules", ("rules", "dir"), self.rules.as_ref());
        rules.into_iter().chain(flag("--model", ("model", "dir"), self.model.as_ref()))
    }
}

/// A flag that was given, as a setting over the configuration.
fn flag(name: &'static str, setting: (&'static str, &'static str), value: Option<&String>) -> Option<Flag> {
    value.map(|value| Flag { name, setting, value: value.clone() })
}

/// Runs the command of this process's command line to its end.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and is no failure. A closed pipe leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { MISUSED } else { 0 });
        }
    };
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Backtest(args) => backtest::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::DeadLetters(args) => dead_letters::run(args),
        Command::Migrate(args) => migrate::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let misused = error.chain().any(|cause| cause.is::<UsageError>() || cause.is::<ConfigErrors>());
    if misused { MISUSED } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_and_they_parse() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let mut examples = 0;
            // `a | b > file` is two command lines.
            for line in help.lines().flat_map(|line| line.split('|')).map(str::trim) {
                if line.starts_with("verdict ") {
                    let words = line.split('>').next().unwrap_or_default().split_whitespace();
                    if let Err(error) = Cli::try_parse_from(words.map(|word| word.trim_matches('"'))) {
                        panic!("{line}: {error}");
                    }
                    examples += 1;
                }
            }
            // A command with subcommands of its own may show its examples there.
            assert!(examples > 0 || command.has_subcommands(), "`{}` shows no example", command.get_name());
        }
    }

    #[test]
    fn wrong_requests_have_their_own_exit_code() {
        let failure = anyhow::anyhow!("disk full");
        assert_eq!(exit_code(&failure), FAILED);
        let usage = Err::<(), _>(UsageError("a and b exclude each other".to_owned())).context("while starting");
        assert_eq!(exit_code(&usage.unwrap_err()), MISUSED);
        let config = Config::from_sources(Some(("f", "x")), std::iter::empty()).unwrap_err();
        assert_eq!(exit_code(&config.into()), MISUSED);
    }

    #[test]
    fn flags_go_over_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("verdict.toml");
        std::fs::write(&file, "[data]\ndir = \"a\"\n[rules]\ndir = \"b\"\n").unwrap();
        let args = ConfigArgs { config: Some(file), data_dir: Some("c".to_owned()) };
        let deciding = DecidingArgs { rules: None, model: Some(String::new()) };
        let config = args.load(deciding.flags()).unwrap();
        assert_eq!((config.data.dir, config.rules.dir, config.model.dir), ("c".into(), "b".into(), None));
    }
}

//! `verdict serve`: the service.

use super::{ConfigArgs, DecidingArgs, flag};
use crate::app::Service;
use crate::config::{Config, ConfigErrors};

/// Run the service: decide payments over HTTP, remember every event in the journal.
///
/// Everything is embedded: the journal, the profiles and the alerts are files in the data folder. SIGTERM and Ctrl-C
/// finish what is in flight and stop, within http.shutdown_secs; a second one stops at once.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  verdict serve
  verdict serve --listen 127.0.0.1:9090 --data-dir /var/lib/verdict
  verdict serve --config verdict.toml --rules rules --model models/default

Then, from another terminal:
  curl -s http://127.0.0.1:8080/v1/decide -H 'content-type: application/json' -d '{
    \"transaction_id\": \"t-1\", \"user_id\": \"u-1\", \"merchant_id\": \"m-1\",
    \"amount\": \"12.50\", \"currency\": \"USD\", \"timestamp\": \"'$(date -u +%FT%TZ)'\"}'")]
pub struct ServeArgs {
    /// Where the configuration and the data are.
    #[command(flatten)]
    pub common: ConfigArgs,
    /// Address and port [default: http.listen of the configuration, else 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// What decides.
    #[command(flatten)]
    pub deciding: DecidingArgs,
}

impl ServeArgs {
    /// The configuration with these arguments over it.
    ///
    /// # Errors
    /// Every fault of the file, the environment and the arguments.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        let listen = flag("--listen", ("http", "listen"), self.listen.as_ref());
        self.common.load(listen.into_iter().chain(self.deciding.flags()))
    }
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong, or the service cannot start.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    crate::telemetry::init_logging(config.log_filter())?;
    actix::System::new().block_on(async { Service::build(config).await?.run().await })
}

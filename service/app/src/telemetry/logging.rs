//! Log lines: people read them, on stderr; stdout belongs to results. Coloured on a terminal, plain elsewhere.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Starts logging for the whole process, with directives in the syntax of `RUST_LOG`. A second call changes nothing.
///
/// # Errors
/// The directives do not parse.
pub fn init(filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        // A line that cannot be written, to a full disk for example, is lost: the complaint about it would panic on the
        // same stderr, and end whatever thread was logging.
        .log_internal_errors(false)
        .finish();
    // The only error is that there is a subscriber already, as in a test process.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn directives_are_checked_and_a_second_start_is_harmless() {
        assert!(super::init("verdict=loud").is_err());
        assert!(super::init("error").is_ok());
        assert!(super::init("error").is_ok());
    }
}

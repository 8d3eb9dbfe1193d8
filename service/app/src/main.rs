//! The `verdict` binary: everything is in the library, so that tests and tools reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    verdict::cli::run()
}

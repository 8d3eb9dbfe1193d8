//! The `verdict` binary: everything is in the library, so that tests and tools reach it.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Events are allocated on the thread that reads them and freed on the one that decides: glibc's allocator spent a
/// quarter of a backtest's time on that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    verdict::model::disable_telemetry();
    verdict::cli::run()
}

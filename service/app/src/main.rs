//! The `verdict` binary: everything else is in the library, so that tests and tools reach it.

mod allocator;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

fn main() -> ExitCode {
    allocator::configure();
    verdict::model::disable_telemetry();
    verdict::cli::run()
}

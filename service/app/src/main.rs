//! The `verdict` binary: everything is in the library, so that tests and tools reach it.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Events are allocated on the thread that reads them and freed on the one that decides: glibc's allocator spent a
/// quarter of a backtest's time on that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long freed memory is kept before it goes back to the system: by default a page that a journal batch leaves empty
/// is given back within milliseconds and cleared again for the next one, which took a tenth of a decision's time.
const KEEP_FREED_MS: std::ffi::c_long = 10_000;

/// Number of mimalloc's option `purge_delay` in `mimalloc.h`.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "mimalloc's options have no safe form; this one is a number, set before any thread")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_FREED_MS);
    }
    verdict::model::disable_telemetry();
    verdict::cli::run()
}

//! The one room that reads a clock. Everything else takes time as an argument, so that a test or a backtest sets it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use verdict_core::time::Timestamp;

/// The wall clock, in UTC milliseconds; the epoch itself if the clock stands before 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the room of the wall clock")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock, for deadlines and for measuring.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the room of the monotonic clock")]
pub fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run_forward() {
        let (wall, mono) = (now(), instant());
        // 2026-01-01, before which this was not written.
        assert!(wall > Timestamp::from_millis(1_767_225_600_000));
        assert!(instant() >= mono && now() - wall < 60_000);
    }
}

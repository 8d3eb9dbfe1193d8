//! The one room that reads a clock; everywhere else time is an argument.
#![expect(clippy::disallowed_methods, reason = "this is the room that the ban points to")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use verdict_core::time::Timestamp;

/// The wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock, for measuring and for deadlines.
#[must_use]
pub fn instant() -> Instant {
    Instant::now()
}

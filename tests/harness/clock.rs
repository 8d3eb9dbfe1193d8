//! Time as tests need it: the wall clock in milliseconds, texts for events, and waiting for something with a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(5);
/// Longest wait for something that must happen; far beyond what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 3_600_000;

/// Now, in milliseconds since the Unix epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the service judges events by the wall clock")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    i64::try_from(since.as_millis()).expect("a clock that is set")
}

/// An instant as RFC 3339 in UTC.
///
/// # Panics
/// It is outside the years that can be written.
#[must_use]
#[track_caller]
pub fn rfc3339(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).expect("a year that can be written");
    format!("{at:.3}")
}

/// A running measurement.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test measures real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// Nothing is found in a minute; `what` says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Looks again and again until `look` finds something, or the time is over.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if watch.0.elapsed() > patience {
            return None;
        }
        sleep(POLL);
    }
}

//! The only room of this crate that reads a clock. It never sleeps.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use std::time::{Duration, Instant};

/// Prints instants with exactly three decimals, so that every timestamp is as long as the next.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// Length of a printed timestamp, such as `2026-11-23T12:00:00.000Z`.
pub const TIMESTAMP_BYTES: usize = 24;

/// The monotonic clock now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the load generator measures; this is its clock room")]
pub fn now() -> Instant {
    Instant::now()
}

/// Turns readings of the monotonic clock into timestamps, without a second clock call for each request.
#[derive(Clone, Debug)]
pub struct WallClock {
    anchor: Instant,
    anchor_ms: i64,
    printed_ms: i64,
    printed: [u8; TIMESTAMP_BYTES],
}

impl WallClock {
    /// A clock that agrees with the system's wall clock now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the load generator stamps its events; this is its clock room")]
    pub fn start() -> Self {
        Self::anchored(now(), Timestamp::now().as_millisecond())
    }

    /// A clock for which `anchor` is `anchor_ms` milliseconds after the Unix epoch.
    #[must_use]
    pub fn anchored(anchor: Instant, anchor_ms: i64) -> Self {
        Self { anchor, anchor_ms, printed_ms: i64::MIN, printed: *b"1970-01-01T00:00:00.000Z" }
    }

    /// Milliseconds since the Unix epoch at `now`.
    #[must_use]
    pub fn millis(&self, now: Instant) -> i64 {
        let elapsed = now.saturating_duration_since(self.anchor);
        self.anchor_ms + i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX - self.anchor_ms)
    }

    /// RFC 3339 with milliseconds at `now`; printed anew only once a millisecond.
    pub fn text(&mut self, now: Instant) -> &[u8; TIMESTAMP_BYTES] {
        let millis = self.millis(now);
        if millis != self.printed_ms {
            self.printed_ms = millis;
            if let Ok(at) = Timestamp::from_millisecond(millis) {
                let text = PRINTER.timestamp_to_string(&at);
                if let Ok(bytes) = <[u8; TIMESTAMP_BYTES]>::try_from(text.as_bytes()) {
                    self.printed = bytes;
                }
            }
        }
        &self.printed
    }
}

/// CPU time that this process has used, from the kernel's books; `None` where there are none.
///
/// Counted in ticks of 10 ms (`USER_HZ`, 100 on every Linux), which is fine enough over seconds.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in brackets and may hold spaces; utime and stime are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

/// Measures work of the calling thread by the CPU time that the kernel gave it, so that what else the machine does
/// counts little. Where the kernel keeps no such books it is the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start: Instant,
    cpu: Option<Duration>,
}

impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self { cpu: thread_cpu_time(), start: now() }
    }

    /// Wall time since the start: cheap, to know when to stop.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.start.elapsed()
    }

    /// CPU time since the start. The kernel's books lag by up to a tick (4 ms), so measure for half a second or more.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let used = thread_cpu_time().zip(self.cpu).map(|(after, before)| after.saturating_sub(before));
        used.unwrap_or_else(|| self.wall())
    }
}

/// Nanoseconds on a core are the first number of `schedstat`.
fn thread_cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_follow_the_monotonic_clock() {
        let anchor = now();
        let mut clock = WallClock::anchored(anchor, 1_795_437_296_000);
        assert_eq!(clock.text(anchor), b"2026-11-23T12:34:56.000Z");
        assert_eq!(clock.text(anchor + Duration::from_micros(7_999)), b"2026-11-23T12:34:56.007Z");
        assert_eq!(clock.text(anchor + Duration::from_secs(4)), b"2026-11-23T12:35:00.000Z");
    }

    #[test]
    fn cpu_time_is_counted() {
        let before = cpu_time().expect("a Linux /proc");
        let stopwatch = Stopwatch::start();
        let mut sum = 0_u64;
        let start = now();
        while start.elapsed() < Duration::from_millis(60) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_time().expect("a Linux /proc") > before);
        let (cpu, wall) = (stopwatch.cpu(), stopwatch.wall());
        assert!(Duration::from_millis(1) < cpu && cpu <= wall + Duration::from_millis(10), "{cpu:?} of {wall:?}");
    }
}

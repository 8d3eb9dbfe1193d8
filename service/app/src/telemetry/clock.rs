//! The one room that reads a clock. The service is given a [`Clock`], so that a backtest or a simulation sets the time;
//! a command that only measures itself asks [`now`] and [`instant`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use verdict_core::time::Timestamp;

/// Where a service's time comes from.
#[derive(Clone)]
pub enum Clock {
    /// The system.
    System,
    /// A backtest: the wall clock shows the time of the event that is looked at. What takes long is still measured by the system.
    EventTime,
    /// Somebody else, who moves both clocks together.
    Given(Arc<dyn TimeSource>),
}

/// The two clocks of a service, moved by somebody else.
pub trait TimeSource: Send + Sync + 'static {
    /// The wall clock, in UTC milliseconds.
    fn now(&self) -> Timestamp;
    /// The monotonic clock. It must agree with the timers of the runtime that the service runs on.
    fn instant(&self) -> Instant;
}

impl Clock {
    /// The wall clock, in UTC milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System | Self::EventTime => now(),
            Self::Given(source) => source.now(),
        }
    }

    /// When an event that was received at `received_at` is evaluated, if that is now.
    #[must_use]
    pub fn evaluated_at(&self, received_at: Timestamp) -> Timestamp {
        match self {
            Self::EventTime => received_at,
            Self::System | Self::Given(_) => self.now(),
        }
    }

    /// The monotonic clock, for deadlines and for measuring.
    #[must_use]
    pub fn instant(&self) -> Instant {
        match self {
            Self::System | Self::EventTime => instant(),
            Self::Given(source) => source.instant(),
        }
    }

    /// Time since `started`.
    #[must_use]
    pub fn since(&self, started: Instant) -> Duration {
        self.instant().saturating_duration_since(started)
    }
}

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

/// The clock of the runtime, which a simulation stops: the only one that then agrees with the runtime's timers.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "this is the room of the monotonic clock")]
pub(crate) fn virtual_now() -> Instant {
    tokio::time::Instant::now().into_std()
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

    #[test]
    fn only_a_backtest_lives_in_the_time_of_its_events() {
        struct Stopped(Instant);
        impl TimeSource for Stopped {
            fn now(&self) -> Timestamp {
                Timestamp::from_millis(7)
            }
            fn instant(&self) -> Instant {
                self.0
            }
        }
        let (received_at, started) = (Timestamp::from_millis(3), instant());
        assert_eq!(Clock::EventTime.evaluated_at(received_at), received_at);
        assert!(Clock::System.evaluated_at(received_at) > Timestamp::from_millis(1_767_225_600_000));
        let given = Clock::Given(Arc::new(Stopped(started + Duration::from_secs(2))));
        assert_eq!(given.evaluated_at(received_at), Timestamp::from_millis(7));
        assert_eq!(given.now(), Timestamp::from_millis(7));
        assert_eq!(given.since(started), Duration::from_secs(2));
        assert_eq!(given.since(started + Duration::from_secs(9)), Duration::ZERO);
    }
}

//! Event time: milliseconds since the Unix epoch, in UTC. Parsing and printing RFC 3339 belongs to the wire.

use std::fmt;
use std::ops::{Add, Sub};

/// One second in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One minute in milliseconds.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day in milliseconds; UTC has no shorter or longer ones here (leap seconds are smeared by every source we read).
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// An instant, in milliseconds since 1970-01-01T00:00:00Z. Finer digits of a source are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest representable instant; older than any event.
    pub const MIN: Self = Self(i64::MIN / 4);

    /// An instant from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Midnight UTC at or before this instant.
    #[must_use]
    pub const fn day_start(self) -> Self {
        Self(self.0 - self.0.rem_euclid(DAY_MS))
    }

    /// Hour of the UTC day, 0 to 23.
    #[must_use]
    pub const fn hour_of_day(self) -> i64 {
        self.0.rem_euclid(DAY_MS) / HOUR_MS
    }

    /// Whether this instant falls on a Saturday or Sunday in UTC.
    #[must_use]
    pub const fn is_weekend(self) -> bool {
        // 1970-01-01 was a Thursday; with Monday as 0 it is day 3.
        let weekday = (self.0.div_euclid(DAY_MS) + 3).rem_euclid(7);
        weekday >= 5
    }
}

impl Add<i64> for Timestamp {
    type Output = Self;
    /// Moves the instant by milliseconds.
    fn add(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<i64> for Timestamp {
    type Output = Self;
    /// Moves the instant back by milliseconds.
    fn sub(self, millis: i64) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}

impl Sub for Timestamp {
    type Output = i64;
    /// Milliseconds from `other` to `self`.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_parts() {
        // 2026-11-23T12:34:56Z is a Monday.
        let monday = Timestamp::from_millis(1_795_437_296_000);
        assert_eq!(monday.hour_of_day(), 12);
        assert!(!monday.is_weekend());
        assert!((monday - DAY_MS).is_weekend());
        assert!((monday - 2 * DAY_MS).is_weekend());
        assert!(!(monday - 3 * DAY_MS).is_weekend());
        assert_eq!(monday.day_start().hour_of_day(), 0);
        // Before the epoch, a day still starts at midnight.
        assert_eq!(Timestamp::from_millis(-1).day_start(), Timestamp::from_millis(-DAY_MS));
        assert_eq!(Timestamp::from_millis(-1).hour_of_day(), 23);
    }
}

//! RFC 3339 in both directions, milliseconds on the way out.
//!
//! Shape is checked here and the calendar by `jiff`, whose own parser takes more than RFC 3339 does (basic format,
//! week dates, zone annotations). Refuses anything without a zone: a guess would move windows by hours.

use super::fault::{FaultCode, Rejection, shown};
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;
use serde::{Serialize, Serializer};
use verdict_core::time::Timestamp;

/// Parses RFC 3339 with `Z` or a numeric offset; digits finer than a millisecond are cut, second 60 counts as 59.
///
/// # Errors
/// A sentence for people, when the text is anything else.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    instant(text.as_bytes()).ok_or_else(|| {
        format!(
            "expected an RFC 3339 time with Z or an offset, such as \"2026-11-23T12:00:00.000Z\", found {}",
            shown(text)
        )
    })
}

pub(super) fn timestamp(text: &str) -> Result<Timestamp, Rejection> {
    parse(text).map_err(|message| Rejection::new(FaultCode::TimestampInvalid, message))
}

/// `YYYY-MM-DDTHH:MM:SS`, then optionally `.` and digits, then `Z` or `±HH:MM`.
fn instant(text: &[u8]) -> Option<Timestamp> {
    let (head, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !matches!(head[10], b'T' | b't') || separators.iter().any(|(place, byte)| head[*place] != *byte) {
        return None;
    }
    let two = |from: usize| number(&head[from..from + 2]).map(|n| n as i8);
    let (millis, zone) = fraction(rest)?;
    // A leap second is the last instant that the smeared clocks around it know.
    let second = two(17)?;
    let second = if second == 60 { 59 } else { second };
    let year = number(&head[..4])? as i16;
    let civil = DateTime::new(year, two(5)?, two(8)?, two(11)?, two(14)?, second, millis * 1_000_000).ok()?;
    let offset = Offset::from_seconds(offset_seconds(zone)?).ok()?;
    Some(Timestamp::from_millis(offset.to_timestamp(civil).ok()?.as_millisecond()))
}

/// Milliseconds of an optional fraction, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i32, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let millis = (0..3).fold(0, |sum, place| {
        let digit = if place < count { i32::from(digits[place] - b'0') } else { 0 };
        sum * 10 + digit
    });
    Some((millis, &digits[count..]))
}

fn offset_seconds(zone: &[u8]) -> Option<i32> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 60 + minutes) * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i32::from(byte - b'0')))
}

/// Appends an instant as RFC 3339 in UTC with milliseconds, such as `2026-11-23T12:00:00.000Z`. Instants outside the
/// years that RFC 3339 can write are moved to the nearest that it can.
pub fn print(at: Timestamp, out: &mut Vec<u8>) {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    // 0000-01-01T00:00:00.000Z and 9999-12-30T22:00:00.000Z, the last instant that jiff can hold.
    let millis = at.as_millis().clamp(-62_167_219_200_000, 253_402_207_200_000);
    if let Ok(instant) = jiff::Timestamp::from_millisecond(millis) {
        // Appending to a Vec cannot fail.
        let _ = PRINTER.print_timestamp(&instant, out);
    }
}

/// The text that [`print()`] appends.
#[must_use]
pub fn to_text(at: Timestamp) -> String {
    // The printer asks for more room than the 24 bytes that it fills.
    let mut out = Vec::with_capacity(48);
    print(at, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// An instant as a JSON string.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_a_time() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse(text).ok().map(Timestamp::as_millis), expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-11-23T12:00:00.000Z", Some(1_795_435_200_000));
        check("2026-11-23t12:00:00z", Some(1_795_435_200_000));
        check("2026-11-23T13:30:00+01:30", Some(1_795_435_200_000));
        check("2026-11-23T12:00:00-00:00", Some(1_795_435_200_000));
        check("2026-11-23T12:00:00.9999999999Z", Some(1_795_435_200_999));
        check("2026-11-23T12:00:00.5Z", Some(1_795_435_200_500));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799_000));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23 12:00:00Z",
            "2026-11-23T12:00Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00Zx",
            "2026-11-23T12:00:00+0100",
            "2026-11-23T12:00:00+24:00",
            "2026-11-23T12:00:00+00:60",
            "2026-11-23T12:00:00[UTC]",
            "20261123T120000Z",
            "2026-W48-1T12:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:60:00Z",
            "2026-11-23T12:00:61Z",
            "+2026-11-23T12:00:00Z",
            "2026-11-23T12:00:00\u{2003}",
            "1795435200",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn instants_that_cannot_be_written_are_moved() {
        assert_eq!(to_text(Timestamp::from_millis(1_795_435_200_007)), "2026-11-23T12:00:00.007Z");
        assert_eq!(to_text(Timestamp::from_millis(i64::MAX)), "9999-12-30T22:00:00.000Z");
        assert_eq!(to_text(Timestamp::MIN), "0000-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(millis in -62_167_219_200_000_i64..=253_402_207_200_000) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(parse(&to_text(at)), Ok(at));
        }

        #[test]
        fn agrees_with_jiff(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])") {
            let ours = parse(&text).ok().map(Timestamp::as_millis);
            let theirs = text.parse::<jiff::Timestamp>().ok();
            // Cutting and rounding differ below the epoch, where jiff truncates towards it.
            prop_assert_eq!(ours.is_some(), theirs.is_some(), "{}", text);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                prop_assert!((ours - theirs.as_millisecond()).abs() <= 1);
            }
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}

//! Shapes on the wire: JSON and CSV in, JSON and problem+json out; parsed once into core types.
//!
//! What comes in is untrusted: every parser here reads its input in one pass, collects every fault of a body with an
//! RFC 6901 pointer, and never panics, recurses on nesting or passes an amount through a float. What goes out is built
//! straight into bytes. Nothing here reads a clock, a socket or a file, and core types stay free of serde.

pub mod alert;
pub mod alert_query;
pub mod csv;
pub mod decision;
pub mod fault;
mod field;
pub mod label;
pub mod line;
pub mod list;
pub mod login;
mod object;
pub mod problem;
pub mod profile;
mod reader;
pub mod review;
mod scalar;
pub mod time;
pub mod transaction;

pub use fault::{Fault, FaultCode, ParseError};

use serde::{Serialize, Serializer};
use std::fmt;
use verdict_core::money::Rates;
use verdict_core::time::{DAY_MS, Timestamp};

/// What a parser needs to know besides the bytes.
#[derive(Clone, Copy, Debug)]
pub struct ParseContext<'a> {
    /// Turns amounts into the base currency; a currency without a rate is refused.
    pub rates: &'a Rates,
    /// What ages are measured against: receipt over HTTP, the record's timestamp on a topic, the watermark in a
    /// backtest.
    pub now: Timestamp,
    /// How far from `now` an event may lie.
    pub bounds: AgeBounds,
}

/// How far an event may lie from "now" in event time; `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeBounds {
    /// Oldest accepted age in milliseconds, itself included; labels have none whatever this says.
    pub max_age_ms: Option<i64>,
    /// Farthest accepted lead in milliseconds, itself included.
    pub max_ahead_ms: Option<i64>,
}

impl Default for AgeBounds {
    /// Seven days back and one day ahead, as the contract says.
    fn default() -> Self {
        Self { max_age_ms: Some(7 * DAY_MS), max_ahead_ms: Some(DAY_MS) }
    }
}

impl AgeBounds {
    /// No bound on either side.
    pub const NONE: Self = Self { max_age_ms: None, max_ahead_ms: None };
}

/// Appends a shape as JSON.
fn append(shape: &impl Serialize, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and no shape here has a key that is not a string.
    let _ = serde_json::to_writer(out, shape);
}

/// A SHA-256 as lower-case hexadecimal digits.
#[must_use]
pub fn hex(hash: &[u8; 32]) -> String {
    Hex(hash).to_string()
}

/// The same, for shapes.
#[derive(Clone, Copy, Debug)]
struct Hex<'a>(&'a [u8; 32]);

impl Hex<'_> {
    /// Hands the digits to a writer, without a buffer on the heap.
    fn with_digits<T>(&self, write: impl FnOnce(&str) -> T) -> T {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0_u8; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        write(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_digits(|digits| serializer.serialize_str(digits))
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_digits(|digits| f.write_str(digits))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of this room share.

    use super::{AgeBounds, ParseContext, ParseError};
    use verdict_core::money::{Currency, Rate, Rates};
    use verdict_core::time::Timestamp;

    /// 2026-11-23T12:00:00Z.
    pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

    /// Rates around USD with a few others.
    pub(crate) fn rates() -> Rates {
        let currency = |code| Currency::from_code(code).expect("a currency");
        let rate = |text| Rate::parse(text).expect("a rate");
        Rates::new(
            currency("USD"),
            [("EUR", "1.08"), ("JPY", "0.0065"), ("KWD", "3.25")].map(|(c, r)| (currency(c), rate(r))).into(),
        )
    }

    /// Noon with the default bounds.
    pub(crate) fn context(rates: &Rates) -> ParseContext<'_> {
        ParseContext { rates, now: NOON, bounds: AgeBounds::default() }
    }

    /// `pointer CODE` of every fault, in order.
    pub(crate) fn summary(error: &ParseError) -> Vec<String> {
        match error {
            ParseError::NotJson { .. } => vec!["NOT_JSON".to_owned()],
            ParseError::Invalid { faults } => {
                faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.code.name())).collect()
            }
        }
    }
}

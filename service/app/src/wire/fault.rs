//! What can be wrong with a body: a closed set of reason codes, and faults that point at the place.
//!
//! A code is a metric label, a dead-letter header and part of a problem object, so it never carries input; the message
//! is for people and shows at most a few dozen characters of what was found.

use super::field::Field;
use thiserror::Error;

/// Why a value is refused. Names are part of the contract: dead letters and `verdict_rejected_total{reason}` carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultCode {
    /// A required field is absent or null.
    MissingField,
    /// A value of another JSON type.
    WrongType,
    /// An id without a character.
    IdEmpty,
    /// An id over 128 bytes.
    IdTooLong,
    /// Any other text over its bound.
    TextTooLong,
    /// Control characters, or a lone surrogate.
    TextInvalid,
    /// Anything but plain digits and one decimal point.
    AmountNotDecimal,
    /// More decimals than the currency has.
    AmountTooPrecise,
    /// Under the least amount.
    AmountTooSmall,
    /// Over the largest amount.
    AmountTooLarge,
    /// No ISO 4217 code, or one without a rate.
    UnknownCurrency,
    /// Not RFC 3339 with `Z` or an offset.
    TimestampInvalid,
    /// Older than the age bound.
    TooOld,
    /// Farther ahead than the age bound.
    TooEarly,
    /// Out of range, or one of the pair without the other.
    Coordinates,
    /// Neither IPv4 nor IPv6.
    IpInvalid,
    /// Not a whole number of milliseconds in range.
    DeadlineInvalid,
    /// Not one of the names that the field takes.
    UnknownValue,
}

impl FaultCode {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::MissingField,
        Self::WrongType,
        Self::IdEmpty,
        Self::IdTooLong,
        Self::TextTooLong,
        Self::TextInvalid,
        Self::AmountNotDecimal,
        Self::AmountTooPrecise,
        Self::AmountTooSmall,
        Self::AmountTooLarge,
        Self::UnknownCurrency,
        Self::TimestampInvalid,
        Self::TooOld,
        Self::TooEarly,
        Self::Coordinates,
        Self::IpInvalid,
        Self::DeadlineInvalid,
        Self::UnknownValue,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingField => "MISSING_FIELD",
            Self::WrongType => "WRONG_TYPE",
            Self::IdEmpty => "ID_EMPTY",
            Self::IdTooLong => "ID_TOO_LONG",
            Self::TextTooLong => "TEXT_TOO_LONG",
            Self::TextInvalid => "TEXT_INVALID",
            Self::AmountNotDecimal => "AMOUNT_NOT_DECIMAL",
            Self::AmountTooPrecise => "AMOUNT_TOO_PRECISE",
            Self::AmountTooSmall => "AMOUNT_TOO_SMALL",
            Self::AmountTooLarge => "AMOUNT_TOO_LARGE",
            Self::UnknownCurrency => "UNKNOWN_CURRENCY",
            Self::TimestampInvalid => "TIMESTAMP_INVALID",
            Self::TooOld => "TOO_OLD",
            Self::TooEarly => "TOO_EARLY",
            Self::Coordinates => "COORDINATES",
            Self::IpInvalid => "IP_INVALID",
            Self::DeadlineInvalid => "DEADLINE_INVALID",
            Self::UnknownValue => "UNKNOWN_VALUE",
        }
    }
}

/// One thing wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901 pointer to the value, `""` for the body itself. A CSV column is pointed at like a field of its name.
    pub pointer: String,
    /// The machine's reason.
    pub code: FaultCode,
    /// What was expected and what was found.
    pub message: String,
}

/// Why bytes are no event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not one JSON text, or one with a duplicate key (400).
    #[error("expected one JSON object: {message} at line {line} column {column}")]
    NotJson {
        /// What is wrong there.
        message: String,
        /// Line, counted from 1.
        line: usize,
        /// Column in bytes, counted from 1.
        column: usize,
    },
    /// JSON that breaks the schema or data quality (422); at least one fault.
    #[error("{}", joined(faults))]
    Invalid {
        /// Every fault, in the order of the fields in the documentation.
        faults: Vec<Fault>,
    },
}

impl From<Vec<Fault>> for ParseError {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Invalid { faults }
    }
}

impl ParseError {
    /// The reason code of a body that is not JSON.
    pub const NOT_JSON: &'static str = "NOT_JSON";

    /// The reason code of the whole: of the first fault, where there are several.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => Self::NOT_JSON,
            Self::Invalid { faults } => faults.first().map_or(FaultCode::WrongType.name(), |fault| fault.code.name()),
        }
    }
}

fn joined(faults: &[Fault]) -> String {
    let texts: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect();
    texts.join("; ")
}

/// A value that is refused, before it is known where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) code: FaultCode,
    pub(super) message: String,
}

impl Rejection {
    pub(super) fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn at(self, field: Field) -> Fault {
        // No field name holds `~` or `/`, the characters that a pointer escapes.
        Fault { pointer: format!("/{}", field.name()), code: self.code, message: self.message }
    }
}

/// The first characters of an input, for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() { format!("{start:?}...") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_fit_a_metric_label() {
        let mut names: Vec<&str> = FaultCode::ALL.iter().map(|code| code.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FaultCode::ALL.len());
    }

    #[test]
    fn long_input_is_cut() {
        assert_eq!(shown("a\n"), "\"a\\n\"");
        assert_eq!(shown(&"é".repeat(41)), format!("\"{}\"...", "é".repeat(40)));
    }
}

//! The rules of data quality for one value each: ids, texts, amounts, currencies, places, addresses.

use super::fault::{FaultCode, Rejection, shown};
use std::net::IpAddr;
use verdict_core::event::MAX_ID_BYTES;
use verdict_core::geo::Coordinates;
use verdict_core::money::{AmountError, Currency, Money, Rates};

/// Longest user agent in bytes; browsers send 100 to 300, and headers of several kilobytes carry no signal.
pub(super) const MAX_USER_AGENT_BYTES: usize = 1_024;
/// Longest merchant category in bytes: a four-digit code, with room for names of a sender's own.
pub(super) const MAX_CATEGORY_BYTES: usize = 64;

/// An id: 1 to 128 bytes without control characters, which break logs, headers and PostgreSQL (NUL).
pub(super) fn id(text: &str) -> Result<Box<str>, Rejection> {
    if text.is_empty() {
        return Err(Rejection::new(FaultCode::IdEmpty, "expected at least one character, found none"));
    }
    if text.len() > MAX_ID_BYTES {
        let message = format!("expected at most {MAX_ID_BYTES} bytes, found {}", text.len());
        return Err(Rejection::new(FaultCode::IdTooLong, message));
    }
    no_control(text)?;
    Ok(text.into())
}

/// A text of at most `max` bytes without control characters.
pub(super) fn bounded(text: &str, max: usize) -> Result<Box<str>, Rejection> {
    within(text, max)?;
    no_control(text)?;
    Ok(text.into())
}

fn within(text: &str, max: usize) -> Result<(), Rejection> {
    if text.len() <= max {
        return Ok(());
    }
    Err(Rejection::new(FaultCode::TextTooLong, format!("expected at most {max} bytes, found {}", text.len())))
}

/// A text of at most `max` bytes that people wrote, on several lines if they like.
pub(super) fn prose(text: &str, max: usize) -> Result<Box<str>, Rejection> {
    within(text, max)?;
    text.split(['\n', '\r', '\t']).try_for_each(no_control)?;
    Ok(text.into())
}

fn no_control(text: &str) -> Result<(), Rejection> {
    // Byte by byte is enough to let plain ASCII through; only other texts are looked at by character.
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if plain || !text.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("expected no control characters, found {}", shown(text));
    Err(Rejection::new(FaultCode::TextInvalid, message))
}

/// An IP address in canonical text; an IPv4 address that came mapped into IPv6 is the IPv4 address.
pub(super) fn ip(text: &str) -> Result<Box<str>, Rejection> {
    match text.parse::<IpAddr>() {
        // An IPv4 address has only one spelling that is taken.
        Ok(IpAddr::V4(_)) => Ok(text.into()),
        Ok(address @ IpAddr::V6(_)) => Ok(address.to_canonical().to_string().into()),
        Err(_) => {
            let message = format!("expected an IPv4 or IPv6 address, found {}", shown(text));
            Err(Rejection::new(FaultCode::IpInvalid, message))
        }
    }
}

/// A currency of ISO 4217; whether it has a rate shows when the amount is converted.
pub(super) fn currency(text: &str, rates: &Rates) -> Result<Currency, Rejection> {
    let base = rates.base();
    if text == base.code() {
        return Ok(base);
    }
    Currency::from_code(text).ok_or_else(|| {
        let message = format!("expected an ISO 4217 code in capitals, such as \"USD\", found {}", shown(text));
        Rejection::new(FaultCode::UnknownCurrency, message)
    })
}

/// An amount in its currency.
pub(super) fn amount(text: &str, currency: Currency) -> Result<Money, Rejection> {
    Money::parse(text, currency).map_err(|error| Rejection::new(amount_code(&error), error.to_string()))
}

/// What can be said about an amount whose currency is unknown.
pub(super) fn amount_without_currency(text: &str, rates: &Rates) -> Result<(), Rejection> {
    match Money::parse(text, rates.base()) {
        Err(error @ AmountError::NotDigits(_)) => Err(Rejection::new(FaultCode::AmountNotDecimal, error.to_string())),
        _ => Ok(()),
    }
}

fn amount_code(error: &AmountError) -> FaultCode {
    match error {
        AmountError::NotDigits(_) => FaultCode::AmountNotDecimal,
        AmountError::TooPrecise { .. } => FaultCode::AmountTooPrecise,
        AmountError::TooSmall { .. } => FaultCode::AmountTooSmall,
        AmountError::TooLarge { .. } => FaultCode::AmountTooLarge,
    }
}

/// A number of degrees; what is no number of the range is refused by [`place`].
pub(super) fn degrees(text: &str) -> Result<f64, Rejection> {
    text.parse().map_err(|_| {
        Rejection::new(FaultCode::Coordinates, format!("expected a number of degrees, found {}", shown(text)))
    })
}

/// A point from its parts.
pub(super) fn place(latitude: f64, longitude: f64) -> Result<Coordinates, Rejection> {
    // Negative zero is the same place, and prints otherwise.
    Coordinates::new(latitude + 0.0, longitude + 0.0)
        .map_err(|error| Rejection::new(FaultCode::Coordinates, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let check = |text: &str, expected: Result<(), FaultCode>| {
            assert_eq!(id(text).map(drop).map_err(|r| r.code), expected, "{text:?}");
        };
        check("t-81", Ok(()));
        check(" ü/€ ", Ok(()));
        check(&"x".repeat(128), Ok(()));
        check("", Err(FaultCode::IdEmpty));
        check(&"x".repeat(129), Err(FaultCode::IdTooLong));
        check(&"é".repeat(65), Err(FaultCode::IdTooLong));
        check("a\0", Err(FaultCode::TextInvalid));
        check("a\u{7f}", Err(FaultCode::TextInvalid));
        check("a\u{85}", Err(FaultCode::TextInvalid));
        check("a\nb", Err(FaultCode::TextInvalid));
    }

    #[test]
    fn prose_has_lines() {
        let check = |text: &str, expected: Result<(), FaultCode>| {
            assert_eq!(prose(text, 20).map(drop).map_err(|r| r.code), expected, "{text:?}");
        };
        check("", Ok(()));
        check("called:\r\n\tnot hers", Ok(()));
        check("a\0", Err(FaultCode::TextInvalid));
        check("a\n\u{1b}[2J", Err(FaultCode::TextInvalid));
        check(&"x".repeat(21), Err(FaultCode::TextTooLong));
        check(&"\n".repeat(21), Err(FaultCode::TextTooLong));
    }

    #[test]
    fn addresses_are_canonical() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(ip(text).ok().as_deref(), expected, "{text}");
        };
        check("203.0.113.7", Some("203.0.113.7"));
        check("2001:DB8:0:0::1", Some("2001:db8::1"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        for text in ["", "203.0.113", "203.0.113.07", "203.0.113.7:80", "[::1]", "fe80::1%eth0", "localhost"] {
            check(text, None);
        }
    }

    #[test]
    fn places() {
        let check = |latitude: &str, longitude: &str, fine: bool| {
            let found = degrees(latitude).and_then(|lat| place(lat, degrees(longitude)?));
            assert_eq!(found.is_ok(), fine, "{latitude} {longitude}: {found:?}");
        };
        check("90", "-180", true);
        check("-0.0", "1e2", true);
        check("90.0001", "0", false);
        check("0", "180.0001", false);
        check("1e999", "0", false);
        check("NaN", "0", false);
        check("x", "0", false);
        assert!(place(-0.0, 0.0).expect("a point").latitude().is_sign_positive());
    }
}

//! A transaction as JSON: the body of `/v1/decide`, a line of `/v1/events`, the value on topic `transactions`.

use super::ParseContext;
use super::fault::ParseError;
use super::field::Field;
use super::object::{self, Fields};
use super::reader::{Reader, Values};
use super::scalar::{MAX_CATEGORY_BYTES, MAX_USER_AGENT_BYTES};
use super::time::Rfc3339;
use serde::Serialize;
use verdict_core::event::Transaction;
use verdict_core::money::Currency;

/// Longest deadline that a caller may ask for, in milliseconds.
pub const MAX_DEADLINE_MS: u64 = 60_000;

/// A request to decide a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedTransaction {
    /// The event.
    pub transaction: Box<Transaction>,
    /// How long the caller waits in milliseconds, 1 to [`MAX_DEADLINE_MS`]; `None` takes the configured default.
    pub deadline_ms: Option<u64>,
    /// What the caller takes when no full answer can be had.
    pub fallback: Fallback,
}

/// What a caller takes when no full answer can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Whatever the policy declares; the default.
    #[default]
    Policy,
    /// 503 instead of any answer that is not normal and durable.
    Reject,
}

impl Fallback {
    /// Every choice, with its name on the wire.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Policy, "policy"), (Self::Reject, "reject")];
}

/// Parses one transaction.
///
/// # Errors
/// [`ParseError`] with every fault of the body.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<ParsedTransaction, ParseError> {
    from_fields(&object::read(bytes)?, context)
}

/// Parses a transaction whose object was read before.
pub(super) fn from_fields(fields: &Fields<'_>, context: &ParseContext<'_>) -> Result<ParsedTransaction, ParseError> {
    let mut reader = Reader::new(fields, context);
    let transaction = read_event(&mut reader, context, None);
    let deadline_ms = reader.deadline_ms(1..=MAX_DEADLINE_MS);
    let fallback = reader.optional_one_of(Field::Fallback, &Fallback::ALL).unwrap_or_default();
    let transaction = reader.finish(transaction)?;
    Ok(ParsedTransaction { transaction, deadline_ms, fallback })
}

/// Reads the event itself; `None` only where the reader remembers a fault. With a default, the currency may be absent.
pub(super) fn read_event<'a, V: Values<'a>>(
    reader: &mut Reader<'_, '_, V>,
    context: &ParseContext<'_>,
    default_currency: Option<Currency>,
) -> Option<Box<Transaction>> {
    let transaction_id = reader.id(Field::TransactionId);
    let user_id = reader.id(Field::UserId);
    let money = reader.money(default_currency);
    let merchant_id = reader.id(Field::MerchantId);
    let at = reader.at(context.bounds.max_age_ms);
    let ip_address = reader.optional_ip(Field::IpAddress);
    let user_agent = reader.optional_text(Field::UserAgent, MAX_USER_AGENT_BYTES);
    let device_id = reader.optional_id(Field::DeviceId);
    let merchant_category = reader.optional_text(Field::MerchantCategory, MAX_CATEGORY_BYTES);
    let location = reader.location();
    let (amount, base) = money?;
    Some(Box::new(Transaction {
        transaction_id: transaction_id?,
        user_id: user_id?,
        amount,
        base,
        merchant_id: merchant_id?,
        at: at?,
        ip_address,
        user_agent,
        device_id,
        merchant_category,
        location,
    }))
}

/// The shape in which a transaction is printed.
#[derive(Serialize)]
struct TransactionJson<'a> {
    transaction_id: &'a str,
    user_id: &'a str,
    amount: String,
    currency: &'a str,
    merchant_id: &'a str,
    timestamp: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f64>,
}

/// Appends a transaction as one line of JSON without the newline; parsing it gives the same transaction.
pub fn to_json(transaction: &Transaction, out: &mut Vec<u8>) {
    let currency = transaction.amount.currency();
    let shape = TransactionJson {
        transaction_id: &transaction.transaction_id,
        user_id: &transaction.user_id,
        amount: transaction.amount.decimal(),
        currency: currency.code(),
        merchant_id: &transaction.merchant_id,
        timestamp: Rfc3339(transaction.at),
        ip_address: transaction.ip_address.as_deref(),
        user_agent: transaction.user_agent.as_deref(),
        device_id: transaction.device_id.as_deref(),
        merchant_category: transaction.merchant_category.as_deref(),
        latitude: transaction.location.map(verdict_core::geo::Coordinates::latitude),
        longitude: transaction.location.map(verdict_core::geo::Coordinates::longitude),
    };
    super::append(&shape, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, context, rates, summary};
    use super::*;
    use proptest::prelude::*;
    use verdict_core::geo::Coordinates;
    use verdict_core::money::{BaseMinor, MAX_MINOR, Money};
    use verdict_core::time::Timestamp;

    const PLAIN: &str = r#"{"transaction_id":"t-81","user_id":"u-7","amount":"123.45","currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00.000Z","ip_address":"203.0.113.7","user_agent":"curl/8","device_id":"d-1","merchant_category":"5411","latitude":40.71,"longitude":-74.0}"#;

    /// The plain body with one value replaced or added; no value removes the field.
    fn with(field: &str, value: Option<&str>) -> String {
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(PLAIN).expect("JSON");
        object.remove(field);
        let body = serde_json::to_string(&object).expect("JSON");
        match value {
            None => body,
            Some(value) => format!("{},\"{field}\":{value}}}", body.trim_end_matches('}')),
        }
    }

    fn parsed(body: &str) -> Result<ParsedTransaction, Vec<String>> {
        let rates = rates();
        parse(body.as_bytes(), &context(&rates)).map_err(|error| summary(&error))
    }

    #[test]
    fn the_documented_body() {
        let found = parsed(PLAIN).expect("valid");
        assert_eq!((found.deadline_ms, found.fallback), (None, Fallback::Policy));
        let transaction = found.transaction;
        assert_eq!(&*transaction.transaction_id, "t-81");
        assert_eq!(&*transaction.user_id, "u-7");
        assert_eq!((transaction.amount.minor(), transaction.base), (12_345, BaseMinor(12_345)));
        assert_eq!(&*transaction.merchant_id, "m-3");
        assert_eq!(transaction.at, NOON);
        assert_eq!(transaction.ip_address.as_deref(), Some("203.0.113.7"));
        assert_eq!(transaction.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(transaction.device_id.as_deref(), Some("d-1"));
        assert_eq!(transaction.merchant_category.as_deref(), Some("5411"));
        assert_eq!(transaction.location, Coordinates::new(40.71, -74.0).ok());
    }

    #[test]
    fn spelling_does_not_count() {
        let expected = parsed(PLAIN).expect("valid").transaction;
        for (field, value) in [
            ("amount", "123.45"),
            ("amount", "\"0123.45\""),
            ("timestamp", "\"2026-11-23T13:00:00+01:00\""),
            ("timestamp", "\"2026-11-23T12:00:00.0004Z\""),
            ("transaction_id", "\"\\u0074-81\""),
            ("latitude", "4.071e1"),
            ("unknown", "{\"a\":[1,{}]}"),
            ("deadline_ms", "250"),
            ("login_id", "null"),
        ] {
            let found = parsed(&with(field, Some(value))).map(|parsed| parsed.transaction);
            assert_eq!(found.as_ref(), Ok(&expected), "{field} {value}");
        }
    }

    #[test]
    fn every_rule_of_data_quality() {
        let check = |field: &str, value: &str, expected: &[&str]| {
            let found = parsed(&with(field, Some(value))).err().unwrap_or_default();
            assert_eq!(found, expected, "{field} {value}");
        };
        for field in ["transaction_id", "user_id", "amount", "currency", "merchant_id", "timestamp"] {
            let expected = [format!("/{field} MISSING_FIELD")];
            assert_eq!(parsed(&with(field, None)).err().as_deref(), Some(&expected[..]));
            assert_eq!(parsed(&with(field, Some("null"))).err().as_deref(), Some(&expected[..]));
            check(field, "true", &[&format!("/{field} WRONG_TYPE")]);
            check(field, "[\"x\"]", &[&format!("/{field} WRONG_TYPE")]);
        }
        for field in ["ip_address", "user_agent", "device_id", "merchant_category", "latitude", "longitude"] {
            check(field, "{}", &[&format!("/{field} WRONG_TYPE")]);
        }
        let long_id = format!("\"{}\"", "x".repeat(129));
        for field in ["transaction_id", "user_id", "merchant_id", "device_id"] {
            check(field, "\"\"", &[&format!("/{field} ID_EMPTY")]);
            check(field, &long_id, &[&format!("/{field} ID_TOO_LONG")]);
            check(field, &long_id.replacen('x', "", 1), &[]);
            check(field, "\"a\\u0000\"", &[&format!("/{field} TEXT_INVALID")]);
            check(field, "\"\\ud83d\"", &[&format!("/{field} TEXT_INVALID")]);
            check(field, "\"\\ud83d\\ude00\"", &[]);
            check(field, "12", &[&format!("/{field} WRONG_TYPE")]);
        }
        check("user_agent", "\"\"", &[]);
        check("user_agent", &format!("\"{}\"", "x".repeat(1_024)), &[]);
        check("user_agent", &format!("\"{}\"", "x".repeat(1_025)), &["/user_agent TEXT_TOO_LONG"]);
        check("merchant_category", &format!("\"{}\"", "5".repeat(65)), &["/merchant_category TEXT_TOO_LONG"]);
        check("ip_address", "\"300.1.1.1\"", &["/ip_address IP_INVALID"]);
        check("ip_address", "\"\"", &["/ip_address IP_INVALID"]);
    }

    #[test]
    fn amounts_and_currencies() {
        let check = |amount: &str, currency: &str, expected: &[&str]| {
            let body = with("amount", Some(amount)).replace("\"USD\"", currency);
            assert_eq!(parsed(&body).err().unwrap_or_default(), expected, "{amount} {currency}");
        };
        check("\"0.01\"", "\"USD\"", &[]);
        check("0.01", "\"USD\"", &[]);
        check("5", "\"USD\"", &[]);
        check("\"0.00\"", "\"USD\"", &["/amount AMOUNT_TOO_SMALL"]);
        check("0", "\"USD\"", &["/amount AMOUNT_TOO_SMALL"]);
        check("\"1.234\"", "\"USD\"", &["/amount AMOUNT_TOO_PRECISE"]);
        check("1.10000000000000000001", "\"USD\"", &["/amount AMOUNT_TOO_PRECISE"]);
        check("\"1.5\"", "\"JPY\"", &["/amount AMOUNT_TOO_PRECISE"]);
        check("\"0.005\"", "\"KWD\"", &["/amount AMOUNT_TOO_SMALL"]);
        check("\"1000000000.01\"", "\"USD\"", &["/amount AMOUNT_TOO_LARGE"]);
        check("\"1000000000.00\"", "\"USD\"", &[]);
        check("\"1000000000.00\"", "\"EUR\"", &["/amount AMOUNT_TOO_LARGE"]);
        check("\"153000000000\"", "\"JPY\"", &[]);
        check("\"154000000000\"", "\"JPY\"", &["/amount AMOUNT_TOO_LARGE"]);
        check(&"9".repeat(5_000), "\"USD\"", &["/amount AMOUNT_TOO_LARGE"]);
        for amount in ["-1", "1e2", "1E-2", "\"+1\"", "\"1,000\"", "\"\"", "\" 1\"", "\"NaN\"", "\"1e2\"", "\"0x1\""] {
            check(amount, "\"USD\"", &["/amount AMOUNT_NOT_DECIMAL"]);
        }
        check("1", "\"usd\"", &["/currency UNKNOWN_CURRENCY"]);
        check("1", "\"ZZZ\"", &["/currency UNKNOWN_CURRENCY"]);
        check("1", "\"CHF\"", &["/currency UNKNOWN_CURRENCY"]);
        check("1e2", "\"ZZZ\"", &["/currency UNKNOWN_CURRENCY", "/amount AMOUNT_NOT_DECIMAL"]);
        check("1.234", "\"ZZZ\"", &["/currency UNKNOWN_CURRENCY"]);
    }

    #[test]
    fn times() {
        let check = |time: &str, expected: &[&str]| {
            assert_eq!(parsed(&with("timestamp", Some(time))).err().unwrap_or_default(), expected, "{time}");
        };
        check("\"2026-11-16T12:00:00.000Z\"", &[]);
        check("\"2026-11-16T11:59:59.999Z\"", &["/timestamp TOO_OLD"]);
        check("\"2026-11-24T12:00:00.000Z\"", &[]);
        check("\"2026-11-24T12:00:00.001Z\"", &["/timestamp TOO_EARLY"]);
        check("\"2026-11-23T12:00:00\"", &["/timestamp TIMESTAMP_INVALID"]);
        check("1795435200", &["/timestamp WRONG_TYPE"]);
    }

    #[test]
    fn places_and_options() {
        let check = |pairs: &[(&str, &str)], expected: &[&str]| {
            let body =
                pairs.iter().fold(with("latitude", None).replace(",\"longitude\":-74.0", ""), |body, (key, value)| {
                    format!("{},\"{key}\":{value}}}", body.strip_suffix('}').expect("an object"))
                });
            assert_eq!(parsed(&body).err().unwrap_or_default(), expected, "{pairs:?}");
        };
        check(&[], &[]);
        check(&[("latitude", "1")], &["/longitude COORDINATES"]);
        check(&[("longitude", "1"), ("latitude", "null")], &["/latitude COORDINATES"]);
        check(&[("longitude", "1"), ("latitude", "90.5")], &["/latitude COORDINATES"]);
        check(&[("longitude", "-181"), ("latitude", "0")], &["/longitude COORDINATES"]);
        check(&[("longitude", "1e999"), ("latitude", "0")], &["/longitude COORDINATES"]);
        check(&[("longitude", "\"1\""), ("latitude", "0")], &["/longitude WRONG_TYPE"]);
        check(&[("deadline_ms", "1")], &[]);
        check(&[("deadline_ms", "60000")], &[]);
        for bad in ["0", "60001", "1.5", "1e3", "-1", "99999999999999999999999"] {
            check(&[("deadline_ms", bad)], &["/deadline_ms DEADLINE_INVALID"]);
        }
        check(&[("deadline_ms", "\"200\"")], &["/deadline_ms WRONG_TYPE"]);
        check(&[("fallback", "\"reject\"")], &[]);
        check(&[("fallback", "\"maybe\"")], &["/fallback UNKNOWN_VALUE"]);
        check(&[("fallback", "false")], &["/fallback WRONG_TYPE"]);
    }

    #[test]
    fn every_fault_is_listed() {
        let found = parsed(r#"{"user_id":"","amount":"-1","currency":7,"latitude":91,"longitude":0,"timestamp":"x"}"#);
        let expected = [
            "/transaction_id MISSING_FIELD",
            "/user_id ID_EMPTY",
            "/currency WRONG_TYPE",
            "/amount AMOUNT_NOT_DECIMAL",
            "/merchant_id MISSING_FIELD",
            "/timestamp TIMESTAMP_INVALID",
            "/latitude COORDINATES",
        ];
        assert_eq!(found.expect_err("faults"), expected);
    }

    fn text(max: usize) -> impl Strategy<Value = Box<str>> {
        prop::collection::vec(any::<char>().prop_filter("control", |c| !c.is_control()), 1..=max / 4)
            .prop_map(|chars| chars.into_iter().collect::<String>().into())
    }

    prop_compose! {
        fn transactions()(
            transaction_id in text(128), user_id in text(128), merchant_id in text(128),
            minor in 1..=MAX_MINOR,
            age in -86_400_000_i64..=604_800_000,
            ip in prop::option::of(any::<std::net::IpAddr>()),
            user_agent in prop::option::of(text(1_024)), device_id in prop::option::of(text(128)),
            merchant_category in prop::option::of(text(64)),
            location in prop::option::of((-90.0..=90.0, -180.0..=180.0)),
        ) -> Transaction {
            let base = rates().base();
            Transaction {
                transaction_id, user_id, merchant_id, user_agent, device_id, merchant_category,
                amount: Money::from_minor(minor, base),
                base: BaseMinor(minor),
                at: Timestamp::from_millis(NOON.as_millis() - age),
                ip_address: ip.map(|ip| ip.to_canonical().to_string().into()),
                location: location.and_then(|(lat, lon): (f64, f64)| Coordinates::new(lat + 0.0, lon + 0.0).ok()),
            }
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(transaction in transactions()) {
            let mut body = Vec::new();
            to_json(&transaction, &mut body);
            let rates = rates();
            let found = parse(&body, &context(&rates)).map(|parsed| parsed.transaction);
            prop_assert_eq!(found, Ok(Box::new(transaction)));
        }

        #[test]
        fn never_panics_on_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let rates = rates();
            let _ = parse(&body, &context(&rates));
        }

        #[test]
        fn never_panics_on_damaged_bodies(at in 0..PLAIN.len(), byte: u8, cut in 0..PLAIN.len()) {
            let rates = rates();
            let mut body = PLAIN.as_bytes().to_vec();
            body[at] = byte;
            let _ = parse(&body, &context(&rates));
            let _ = parse(&body[..cut], &context(&rates));
        }
    }
}

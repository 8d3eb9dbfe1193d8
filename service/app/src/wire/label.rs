//! A label as JSON: the body of `/v1/labels`, a line of a history file, the value on topic `fraud-labels`.

use super::ParseContext;
use super::fault::ParseError;
use super::field::Field;
use super::object::{self, Fields};
use super::reader::Reader;
use super::time::Rfc3339;
use serde::Serialize;
use verdict_core::event::{Label, LabelSource};
use verdict_core::money::{Currency, Money};

/// Parses one label. `amount_lost` is in the base currency and may be zero; there is no oldest age.
///
/// # Errors
/// [`ParseError`] with every fault of the body.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<Label, ParseError> {
    from_fields(&object::read(bytes)?, context)
}

/// Parses a label whose object was read before.
pub(super) fn from_fields(fields: &Fields<'_>, context: &ParseContext<'_>) -> Result<Label, ParseError> {
    let mut reader = Reader::new(fields, context);
    let label = read_event(&mut reader);
    Ok(reader.finish(label)?)
}

/// Reads the event itself; `None` only where the reader remembers a fault.
fn read_event(reader: &mut Reader<'_, '_, Fields<'_>>) -> Option<Label> {
    let transaction_id = reader.id(Field::TransactionId);
    let user_id = reader.id(Field::UserId);
    let is_fraud = reader.flag(Field::IsFraud);
    let source = reader.one_of(Field::Source, &LabelSource::ALL);
    let at = reader.at(None);
    let amount_lost = reader.optional_base(Field::AmountLost);
    Some(Label {
        transaction_id: transaction_id?,
        user_id: user_id?,
        is_fraud: is_fraud?,
        source: source?,
        at: at?,
        amount_lost,
    })
}

#[derive(Serialize)]
struct LabelJson<'a> {
    transaction_id: &'a str,
    user_id: &'a str,
    is_fraud: bool,
    source: &'a str,
    timestamp: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_lost: Option<String>,
}

/// Appends a label as one line of JSON without the newline; parsing it with the same base currency gives the same
/// label.
pub fn to_json(label: &Label, base: Currency, out: &mut Vec<u8>) {
    let shape = LabelJson {
        transaction_id: &label.transaction_id,
        user_id: &label.user_id,
        is_fraud: label.is_fraud,
        source: label.source.name(),
        timestamp: Rfc3339(label.at),
        amount_lost: label.amount_lost.map(|lost| Money::from_minor(lost.0, base).decimal()),
    };
    super::append(&shape, out);
}

/// The answer to a label that is durable and visible to the next decision.
#[derive(Serialize)]
struct AcceptedLabel<'a> {
    transaction_id: &'a str,
    user_id: &'a str,
    source: &'a str,
    accepted: bool,
    duplicate: bool,
}

/// Appends the answer to an accepted label.
pub fn accepted_to_json(label: (&str, &str, LabelSource), duplicate: bool, out: &mut Vec<u8>) {
    let (transaction_id, user_id, source) = label;
    super::append(&AcceptedLabel { transaction_id, user_id, source: source.name(), accepted: true, duplicate }, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, rates, summary};
    use super::*;
    use verdict_core::money::BaseMinor;

    fn parsed(body: &str) -> Result<Label, Vec<String>> {
        let rates = rates();
        parse(body.as_bytes(), &context(&rates)).map_err(|error| summary(&error))
    }

    #[test]
    fn labels() {
        let check = |tail: &str, expected: Result<Option<i64>, &[&str]>| {
            let body = format!(
                r#"{{"transaction_id":"t","user_id":"u","is_fraud":true,"source":"chargeback","timestamp":"2020-01-01T00:00:00Z"{tail}}}"#
            );
            let found = parsed(&body);
            match (expected, found) {
                (Ok(lost), Ok(label)) => {
                    assert_eq!(label.amount_lost, lost.map(BaseMinor), "{tail}");
                    let mut printed = Vec::new();
                    to_json(&label, rates().base(), &mut printed);
                    assert_eq!(parsed(std::str::from_utf8(&printed).expect("UTF-8")), Ok(label));
                }
                (Err(codes), Err(found)) => assert_eq!(found, codes, "{tail}"),
                (_, found) => panic!("{tail}: {found:?}"),
            }
        };
        check("", Ok(None));
        check(r#","amount_lost":"12.30""#, Ok(Some(1_230)));
        check(r#","amount_lost":0"#, Ok(Some(0)));
        check(r#","amount_lost":"-1""#, Err(&["/amount_lost AMOUNT_NOT_DECIMAL"]));
        check(r#","amount_lost":"1000000000.01""#, Err(&["/amount_lost AMOUNT_TOO_LARGE"]));
        check(r#","amount_lost":"0.001""#, Err(&["/amount_lost AMOUNT_TOO_PRECISE"]));
        check(r#","amount_lost":{}"#, Err(&["/amount_lost WRONG_TYPE"]));
    }

    #[test]
    fn faults() {
        let check = |body: &str, expected: &[&str]| assert_eq!(parsed(body).expect_err(body), expected, "{body}");
        check(
            r#"{"is_fraud":1,"source":"rumour","timestamp":"2027-01-01T00:00:00Z"}"#,
            &[
                "/transaction_id MISSING_FIELD",
                "/user_id MISSING_FIELD",
                "/is_fraud WRONG_TYPE",
                "/source UNKNOWN_VALUE",
                "/timestamp TOO_EARLY",
            ],
        );
    }

    #[test]
    fn accepted() {
        let mut out = Vec::new();
        accepted_to_json(("t", "u", LabelSource::Issuer), true, &mut out);
        assert_eq!(out, br#"{"transaction_id":"t","user_id":"u","source":"issuer","accepted":true,"duplicate":true}"#);
    }
}

//! Block and allow entries: what `/v1/lists` takes in its path, query and body, and what it answers.

use super::ParseContext;
use super::fault::{Fault, ParseError, Rejection};
use super::field::Field;
use super::object;
use super::reader::Reader;
use super::scalar;
use super::time::Rfc3339;
use crate::actors::messages::ListPage;
use serde::{Serialize, Serializer};
use verdict_core::lists::{ListAction, ListEntry, ListKey, ListKind};

/// Longest reason in bytes: a few sentences; entries are in memory, and every decision that one binds records its reason.
const MAX_REASON_BYTES: usize = 512;

/// Parses the body of a PUT.
///
/// # Errors
/// [`ParseError`] with every fault of the body.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<ListAction, ParseError> {
    let fields = object::read(bytes)?;
    let mut reader = Reader::new(&fields, context);
    let reason = reader.text(Field::Reason, MAX_REASON_BYTES);
    let expires_at = reader.optional_later(Field::ExpiresAt);
    Ok(reader.finish(reason.map(|reason| ListAction::Put { reason, expires_at }))?)
}

/// The value of an entry, as transactions carry it.
///
/// # Errors
/// The fault, as if the value were a field of its name.
pub fn value(kind: ListKind, text: &str) -> Result<Box<str>, Fault> {
    let parsed = match kind {
        ListKind::User | ListKind::Merchant | ListKind::Device => scalar::id(text),
        ListKind::Ip => scalar::ip(text),
    };
    parsed.map_err(|Rejection { code, message }| Fault { pointer: "/value".to_owned(), code, message })
}

/// The text of a cursor: the kind's first letter, then the value in hexadecimal digits. What it means is ours to change.
#[must_use]
pub fn cursor_text((kind, value): &(ListKind, Box<str>)) -> String {
    let mut text = kind.name()[..1].to_owned();
    value.bytes().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text
}

/// The place that a cursor names, `None` if it is no cursor.
#[must_use]
pub fn cursor(text: &str) -> Option<(ListKind, Box<str>)> {
    let (letter, digits) = text.split_at_checked(1)?;
    let (kind, _) = ListKind::ALL.into_iter().find(|(_, name)| name[..1] == *letter)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>()?;
    let value = String::from_utf8(bytes).ok()?;
    Some((kind, scalar::id(&value).ok()?))
}

#[derive(Serialize)]
struct EntryJson<'a> {
    list: &'static str,
    kind: &'static str,
    value: &'a str,
    reason: &'a str,
    source: &'static str,
    alert_id: Option<String>,
    expires_at: Option<Rfc3339>,
}

#[derive(Serialize)]
struct MirroredJson<'a> {
    reason: &'a str,
    source: &'static str,
    alert_id: Option<String>,
    expires_at: Option<Rfc3339>,
}

#[derive(Serialize)]
struct PageJson<'a> {
    #[serde(serialize_with = "entries")]
    entries: &'a [(ListKey, ListEntry)],
    next_cursor: Option<String>,
}

fn entry_json<'a>(key: &'a ListKey, entry: &'a ListEntry) -> EntryJson<'a> {
    EntryJson {
        list: key.list.name(),
        kind: key.kind.name(),
        value: &key.value,
        reason: &entry.reason,
        source: entry.source().name(),
        alert_id: entry.alert_id.map(|id| id.to_string()),
        expires_at: entry.expires_at.map(Rfc3339),
    }
}

fn entries<S: Serializer>(entries: &&[(ListKey, ListEntry)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(|(key, entry)| entry_json(key, entry)))
}

/// Appends an entry as JSON.
pub fn entry_to_json(key: &ListKey, entry: &ListEntry, out: &mut Vec<u8>) {
    super::append(&entry_json(key, entry), out);
}

/// Appends what other systems read of an entry whose list, kind and value they know.
pub fn mirrored_to_json(entry: &ListEntry, out: &mut Vec<u8>) {
    let mirrored = MirroredJson {
        reason: &entry.reason,
        source: entry.source().name(),
        alert_id: entry.alert_id.map(|id| id.to_string()),
        expires_at: entry.expires_at.map(Rfc3339),
    };
    super::append(&mirrored, out);
}

/// Appends a page as JSON.
pub fn page_to_json(page: &ListPage, out: &mut Vec<u8>) {
    super::append(&PageJson { entries: &page.entries, next_cursor: page.next.as_ref().map(cursor_text) }, out);
}

#[cfg(test)]
pub(crate) mod testing {
    //! An entry for the tests of whoever prints one.

    use super::super::testing::NOON;
    use uuid::Uuid;
    use verdict_core::lists::{List, ListEntry, ListKey, ListKind};

    /// The block of a merchant.
    pub(crate) fn listed() -> (ListKey, ListEntry) {
        let key = ListKey { list: List::Block, kind: ListKind::Merchant, value: "m-3".into() };
        let alert_id = Some(Uuid::from_u128(7));
        (key, ListEntry { list: List::Block, reason: "chargebacks".into(), alert_id, expires_at: Some(NOON) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, context, rates, summary};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies() {
        let rates = rates();
        let check = |body: &str, expected: Result<(&str, Option<i64>), &[&str]>| {
            let found = parse(body.as_bytes(), &context(&rates)).map_err(|error| summary(&error));
            let expected = expected.map_err(|faults| faults.iter().map(ToString::to_string).collect()).map(
                |(reason, later_ms)| ListAction::Put {
                    reason: reason.into(),
                    expires_at: later_ms.map(|ms| NOON + ms),
                },
            );
            assert_eq!(found, expected, "{body}");
        };
        check(r#"{"reason":"chargebacks"}"#, Ok(("chargebacks", None)));
        check(r#"{"reason":"x","expires_at":null,"by":"me"}"#, Ok(("x", None)));
        check(r#"{"reason":"x","expires_at":"2026-11-23T12:00:00.001Z"}"#, Ok(("x", Some(1))));
        check(r#"{"reason":"x","expires_at":"2126-11-23T12:00:00Z"}"#, Ok(("x", Some(3_155_673_600_000))));
        check(r#"{"reason":"x","expires_at":"2026-11-23T12:00:00Z"}"#, Err(&["/expires_at TIMESTAMP_INVALID"]));
        check(
            r#"{"reason":" ","expires_at":"tomorrow"}"#,
            Err(&["/reason MISSING_FIELD", "/expires_at TIMESTAMP_INVALID"]),
        );
        check("{}", Err(&["/reason MISSING_FIELD"]));
        check(r#"{"reason":7,"expires_at":7}"#, Err(&["/reason WRONG_TYPE", "/expires_at WRONG_TYPE"]));
        check(&format!(r#"{{"reason":"{}"}}"#, "x".repeat(513)), Err(&["/reason TEXT_TOO_LONG"]));
        check(r#"{"reason":"a\u0000"}"#, Err(&["/reason TEXT_INVALID"]));
        check(r#"{"reason":"a","reason":"b"}"#, Err(&["NOT_JSON"]));
        check("", Err(&["NOT_JSON"]));
    }

    #[test]
    fn values_are_those_of_transactions() {
        let check = |kind: ListKind, text: &str, expected: Result<&str, &str>| {
            let found = value(kind, text);
            assert_eq!(found.as_deref().map_err(|fault| fault.code.name()), expected, "{kind:?} {text:?}");
        };
        check(ListKind::Ip, "2001:DB8:0::1", Ok("2001:db8::1"));
        check(ListKind::Ip, "::ffff:203.0.113.7", Ok("203.0.113.7"));
        check(ListKind::Ip, "203.0.113.0/24", Err("IP_INVALID"));
        check(ListKind::User, "203.0.113.0/24", Ok("203.0.113.0/24"));
        check(ListKind::Device, &"x".repeat(129), Err("ID_TOO_LONG"));
        check(ListKind::Merchant, "", Err("ID_EMPTY"));
    }

    #[test]
    fn shapes() {
        let (key, entry) = testing::listed();
        let mut out = Vec::new();
        entry_to_json(&key, &entry, &mut out);
        let first = concat!(
            r#"{"list":"block","kind":"merchant","value":"m-3","reason":"chargebacks","source":"decision","#,
            r#""alert_id":"00000000-0000-0000-0000-000000000007","expires_at":"2026-11-23T12:00:00.000Z"}"#
        );
        assert_eq!(String::from_utf8(out).expect("UTF-8"), first);
        let mut out = Vec::new();
        mirrored_to_json(&entry, &mut out);
        let mirrored = format!("{{{}", &first[first.find(r#""reason""#).expect("a reason")..]);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), mirrored);
        let asked = ListEntry { alert_id: None, expires_at: None, ..entry.clone() };
        let next = Some((ListKind::Merchant, "m-3".into()));
        let mut out = Vec::new();
        page_to_json(&ListPage { entries: vec![(key.clone(), entry), (key, asked)], next }, &mut out);
        let second = concat!(
            r#"{"list":"block","kind":"merchant","value":"m-3","reason":"chargebacks","source":"api","#,
            r#""alert_id":null,"expires_at":null}"#
        );
        let expected = format!(r#"{{"entries":[{first},{second}],"next_cursor":"m6d2d33"}}"#);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    proptest! {
        #[test]
        fn cursors_come_back(kind in prop::sample::select(ListKind::ALL.to_vec()), value in "\\PC{1,20}") {
            let place = (kind.0, value.into());
            prop_assert_eq!(cursor(&cursor_text(&place)), Some(place));
        }

        #[test]
        fn any_text_is_a_cursor_or_not(text in "\\PC{0,12}|[umdi][0-9a-f]{0,9}") {
            let _ = cursor(&text);
        }
    }
}

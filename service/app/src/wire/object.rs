//! One pass over a JSON object: the raw text of every known field, borrowed from the body.
//!
//! Values are only skipped over here (iteratively, whatever their nesting); their types are looked at later, so that
//! one wrong value does not hide the next. A key that occurs twice, known or not, makes the body no JSON for us: what a
//! sender meant by it cannot be told, and two readers would disagree.

use super::fault::{Fault, FaultCode, ParseError, Rejection, shown};
use super::field::Field;
use super::reader::Values;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// The known fields of an object, each as the JSON text of its value.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    raw: [Option<&'a str>; Field::COUNT],
}

/// Reads one object.
pub(super) fn read(bytes: &[u8]) -> Result<Fields<'_>, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    let mut json = serde_json::Deserializer::from_str(text);
    match json.deserialize_map(FieldsVisitor).and_then(|fields| json.end().map(|()| fields)) {
        Ok(fields) => Ok(fields),
        Err(error) => Err(explain(text, &error)),
    }
}

fn not_utf8(bytes: &[u8], offset: usize) -> ParseError {
    let before = &bytes[..offset];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    ParseError::NotJson {
        message: format!("expected UTF-8, found byte 0x{:02x}", bytes.get(offset).copied().unwrap_or_default()),
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: offset - line_start + 1,
    }
}

/// Tells a body that is no JSON from one that is JSON but no object.
fn explain(text: &str, error: &serde_json::Error) -> ParseError {
    let syntax = serde_json::from_str::<IgnoredAny>(text).err();
    if syntax.is_none() && !text.trim_ascii_start().starts_with('{') {
        let message = format!("expected a JSON object, found {}", kind_of(text.trim_ascii_start()));
        return ParseError::Invalid {
            faults: vec![Fault { pointer: String::new(), code: FaultCode::WrongType, message }],
        };
    }
    let error = syntax.as_ref().unwrap_or(error);
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    let message = match message.strip_prefix("EOF while parsing ") {
        Some(_) if text.trim_ascii().is_empty() => "found an empty body".to_owned(),
        Some(what) => format!("found the end of the body within {what}"),
        None => message.to_owned(),
    };
    ParseError::NotJson { message, line: error.line(), column: error.column() }
}

/// The JSON type that a text starts as, for messages.
fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

impl<'a> Fields<'a> {
    /// The raw text of a field, `None` if it is absent or null.
    fn raw(&self, field: Field) -> Option<&'a str> {
        self.raw[field.index()].filter(|raw| *raw != "null")
    }
}

impl<'a> Values<'a> for Fields<'a> {
    fn has(&self, field: Field) -> bool {
        self.raw(field).is_some()
    }

    fn text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection> {
        self.raw(field).map(|raw| string(raw).unwrap_or_else(|| Err(wrong_type("a string", raw)))).transpose()
    }

    fn decimal(&self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection> {
        self.raw(field)
            .map(|raw| match string(raw) {
                Some(text) => text,
                None if is_number(raw) => Ok(Cow::Borrowed(raw)),
                None => Err(wrong_type("a decimal string or a number", raw)),
            })
            .transpose()
    }

    fn number(&self, field: Field) -> Result<Option<&'a str>, Rejection> {
        self.raw(field).map(|raw| if is_number(raw) { Ok(raw) } else { Err(wrong_type("a number", raw)) }).transpose()
    }

    fn flag(&self, field: Field) -> Result<Option<bool>, Rejection> {
        self.raw(field)
            .map(|raw| match raw {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(wrong_type("true or false", raw)),
            })
            .transpose()
    }
}

fn wrong_type(expected: &str, raw: &str) -> Rejection {
    Rejection::new(FaultCode::WrongType, format!("expected {expected}, found {}", kind_of(raw)))
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// The content of a JSON string, `None` if the value is none.
fn string(raw: &str) -> Option<Result<Cow<'_, str>, Rejection>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.as_bytes().contains(&b'\\') {
        return Some(Ok(Cow::Borrowed(inner)));
    }
    // The syntax was checked on the way in: what can still be wrong is half of a surrogate pair.
    let unescaped = serde_json::from_str::<String>(raw).map(Cow::Owned);
    Some(unescaped.map_err(|_| Rejection::new(FaultCode::TextInvalid, "expected Unicode text, found a lone surrogate")))
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields { raw: [None; Field::COUNT] };
        let mut unknown: HashSet<Cow<'de, str>> = HashSet::new();
        let mut hint = 0;
        while let Some(key) = map.next_key_seed(KeySeed { hint })? {
            match key {
                Key::Known(field) => {
                    hint = field.index() + 1;
                    let value: &'de RawValue = map.next_value()?;
                    if fields.raw[field.index()].replace(value.get()).is_some() {
                        return Err(duplicate(field.name()));
                    }
                }
                Key::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    if let Some(name) = unknown.replace(name) {
                        return Err(duplicate(&name));
                    }
                }
            }
        }
        Ok(fields)
    }
}

fn duplicate<E: serde::de::Error>(name: &str) -> E {
    E::custom(format_args!("expected each key once, found {} again", shown(name)))
}

enum Key<'a> {
    Known(Field),
    Unknown(Cow<'a, str>),
}

struct KeySeed {
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Key<'de>, E> {
        Ok(Field::find(name, self.hint).map_or(Key::Unknown(Cow::Borrowed(name)), Key::Known))
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Key<'de>, E> {
        Ok(Field::find(name, self.hint).map_or_else(|| Key::Unknown(Cow::Owned(name.to_owned())), Key::Known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &[u8]) -> String {
        match read(body) {
            Ok(_) => "ok".to_owned(),
            Err(ParseError::NotJson { message, line, column }) => format!("{line}:{column} {message}"),
            Err(ParseError::Invalid { faults }) => format!("{:?} {}", faults[0].pointer, faults[0].message),
        }
    }

    #[test]
    fn what_is_an_object() {
        let check = |body: &[u8], expected: &str| {
            let found = reason(body);
            assert!(found.contains(expected), "{:?}: {found}", String::from_utf8_lossy(body));
        };
        check(b"{}", "ok");
        check(b" {\"a\":1,\"b\":[{\"a\":2,\"a\":3}]}\r\n", "ok");
        check(b"[1]", "\"\" expected a JSON object, found an array");
        check(b"null", "found null");
        check(b" 12", "found a number");
        check(b"\"{}\"", "found a string");
        check(b"", "1:0 found an empty body");
        check(b" \n", "2:0 found an empty body");
        check(b"{} {}", "trailing characters");
        check(b"{\"a\":1,}", "1:8 ");
        check(b"{\"a\":01}", "invalid number");
        check(b"{a:1}", "key must be a string");
        check(b"\xef\xbb\xbf{}", "1:1 expected value");
        check(b"{\n\"a\":\"\xff\"}", "2:6 expected UTF-8, found byte 0xff");
        check(b"{\"a\":\"\x00\"}", "control character");
        check(b"{\"user_id\":1,\n\"user_id\":1}", "expected each key once, found \"user_id\" again");
        check(b"{\"user_id\":1,\"user\\u005fid\":1}", "found \"user_id\" again");
        check(b"{\"x\":1,\"y\":2,\"x\":null}", "found \"x\" again");
        check(b"{\"x\":1,\"x\":1", "found the end of the body within an object");
        check(b"{\"x at line 7 column 9\":1,\"x at line 7 column 9\":1}", "1:5");
        check(b"{\"\\ud800\":1}", "hex escape");
    }

    #[test]
    fn duplicates_are_placed() {
        let body = b"{\n \"user_id\": 1,\n \"user_id\": 2}";
        assert_eq!(reason(body), "3:14 expected each key once, found \"user_id\" again");
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = |open: &str, close: &str| {
            format!(
                "{{\"x\":{}{},\"amount\":{}{}}}",
                open.repeat(50_000),
                close.repeat(50_000),
                open.repeat(5),
                close.repeat(5)
            )
        };
        let body = deep("[", "]");
        let fields = read(body.as_bytes()).expect("well-formed");
        assert_eq!(fields.decimal(Field::Amount).unwrap_err().code, FaultCode::WrongType);
        assert!(matches!(read(&body.as_bytes()[..60_000]), Err(ParseError::NotJson { .. })));
        assert!(matches!(read("[".repeat(1_000_000).as_bytes()), Err(ParseError::NotJson { .. })));
    }

    #[test]
    fn a_thousand_unknown_keys_are_fine() {
        let keys: Vec<String> = (0..10_000).map(|n| format!("\"k{n}\":0")).collect();
        assert_eq!(reason(format!("{{{}}}", keys.join(",")).as_bytes()), "ok");
    }
}

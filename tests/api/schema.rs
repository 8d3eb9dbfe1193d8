//! Checks values against the part of JSON Schema that `openapi.json` uses. A keyword that it does not know fails the test
//! instead of passing unseen.

use serde_json::Value;

/// Every way in which a value breaks a schema, each with its place.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { document, faults: Vec::new() };
    check.value("", schema, value);
    check.faults
}

/// What a `$ref` stands for, or the value itself.
#[track_caller]
pub(crate) fn resolve<'v>(document: &'v Value, value: &'v Value) -> &'v Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            resolve(document, target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
        None => value,
    }
}

struct Check<'d> {
    document: &'d Value,
    faults: Vec<String>,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, place: &str, expected: &str, value: &Value) {
        if !holds {
            self.faults.push(format!("{place}: expected {expected}, found {value}"));
        }
    }

    fn value(&mut self, place: &str, schema: &Value, value: &Value) {
        for (keyword, rule) in resolve(self.document, schema).as_object().expect("a schema is an object") {
            self.keyword(place, keyword, rule, value, schema);
        }
    }

    fn keyword(&mut self, place: &str, keyword: &str, rule: &Value, value: &Value, schema: &Value) {
        let number = |limit: &Value, holds: fn(f64, f64) -> bool| match (value.as_f64(), limit.as_f64()) {
            (Some(found), Some(limit)) => holds(found, limit),
            _ => true,
        };
        let length = value.as_str().map(|text| text.chars().count() as u64);
        let items = value.as_array().map(|items| items.len() as u64);
        match keyword {
            "description" | "default" | "example" | "examples" | "title" => {}
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                let fits = types.iter().any(|name| is_of(name.as_str().unwrap_or_default(), value));
                self.expect(fits, place, &rule.to_string(), value);
            }
            "enum" => self.expect(rule.as_array().unwrap().contains(value), place, &rule.to_string(), value),
            "const" => self.expect(rule == value, place, &rule.to_string(), value),
            "minimum" => self.expect(number(rule, |found, limit| found >= limit), place, "more", value),
            "exclusiveMinimum" => self.expect(number(rule, |found, limit| found > limit), place, "more", value),
            "maximum" => self.expect(number(rule, |found, limit| found <= limit), place, "less", value),
            "minLength" => self.expect(length.is_none_or(|found| Some(found) >= rule.as_u64()), place, "longer", value),
            "maxLength" => {
                self.expect(length.is_none_or(|found| Some(found) <= rule.as_u64()), place, "shorter", value);
            }
            "minItems" => self.expect(items.is_none_or(|found| Some(found) >= rule.as_u64()), place, "more", value),
            "maxItems" => self.expect(items.is_none_or(|found| Some(found) <= rule.as_u64()), place, "fewer", value),
            "pattern" => {
                let fits = value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text));
                self.expect(fits, place, &rule.to_string(), value);
            }
            "format" => {
                let fits = value.as_str().is_none_or(|text| has_format(rule.as_str().unwrap(), text));
                self.expect(fits, place, &rule.to_string(), value);
            }
            "required" => {
                let Some(object) = value.as_object() else { return };
                for name in rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                    self.expect(object.contains_key(name), place, &format!("the field {name}"), value);
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(found) = value.get(name) {
                        self.value(&format!("{place}/{name}"), schema, found);
                    }
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object();
                for (name, found) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        match rule {
                            Value::Bool(allowed) => self.expect(*allowed, place, "no such field", &name.clone().into()),
                            schema => self.value(&format!("{place}/{name}"), schema, found),
                        }
                    }
                }
            }
            "items" => {
                for (at, found) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(&format!("{place}/{at}"), rule, found);
                }
            }
            "allOf" => rule.as_array().unwrap().iter().for_each(|part| self.value(place, part, value)),
            "anyOf" | "oneOf" => {
                let fits = |part: &&Value| faults(self.document, part, value).is_empty();
                let fitting = rule.as_array().unwrap().iter().filter(fits).count();
                let enough = if keyword == "anyOf" { fitting > 0 } else { fitting == 1 };
                self.expect(enough, place, &format!("{keyword} {rule}"), value);
            }
            other => panic!("{place}: the keyword {other} is used in openapi.json and unknown here"),
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type of JSON Schema"),
    }
}

/// The patterns that `openapi.json` has, each in Rust.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match pattern {
        r"^[0-9]+(\.[0-9]+)?$" => match text.split_once('.') {
            Some((whole, part)) => digits(whole) && digits(part),
            None => digits(text),
        },
        "^[A-Z]{3}$" => text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()),
        other => panic!("the pattern {other} is used in openapi.json and unknown here"),
    }
}

fn has_format(name: &str, text: &str) -> bool {
    match name {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "uuid" => {
            let groups: Vec<&str> = text.split('-').collect();
            let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
            lengths == [8, 4, 4, 4, 12] && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "uri" => text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()),
        other => panic!("the format {other} is used in openapi.json and unknown here"),
    }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    use serde_json::json;
    let document = json!({"id": {"type": "string", "minLength": 1, "maxLength": 2}});
    let schema = json!({
        "type": "object", "required": ["id", "at"],
        "properties": {
            "id": {"$ref": "#/id"}, "at": {"type": ["string", "null"], "format": "date-time"},
            "share": {"type": "number", "minimum": 0, "maximum": 1}, "kind": {"enum": ["a", "b"]},
            "list": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"const": true}]}},
        },
        "additionalProperties": {"type": "boolean"},
    });
    let check = |value: Value, expected: usize| {
        let found = faults(&document, &schema, &value);
        assert_eq!(found.len(), expected, "{value}: {found:?}");
    };
    let right =
        json!({"id": "x", "at": "2026-11-23T12:00:00Z", "share": 0.5, "kind": "a", "list": [1, true], "more": false});
    check(right.clone(), 0);
    let with = |key: &str, value: Value| {
        let mut changed = right.clone();
        changed[key] = value;
        changed
    };
    check(with("at", Value::Null), 0);
    check(json!([]), 1);
    check(json!({}), 2);
    let wrong = [
        ("id", json!("")),
        ("id", json!("xyz")),
        ("id", json!(1)),
        ("at", json!("today")),
        ("share", json!(1.5)),
        ("kind", json!("c")),
    ];
    wrong.into_iter().for_each(|(key, value)| check(with(key, value), 1));
    check(with("list", json!([1, 1.5, false])), 2);
    check(with("more", json!(1)), 1);
    assert!(matches(r"^[0-9]+(\.[0-9]+)?$", "10.5") && !matches(r"^[0-9]+(\.[0-9]+)?$", "10."));
    assert!(has_format("uuid", "1f0b6c1e-3a52-5d7e-8c0e-6b1d3f8a9c42") && !has_format("uuid", "1f0b6c1e"));
}

//! Typed access to the mappings of a rule file: which keys there may be, which must be, and what their values are.

use super::diagnostic::{Faults, Place, quoted, suggestion};
use super::yaml::{Entry, Node, Scalar, Value};
use crate::decision::Outcome;
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// The entries of one mapping, checked against the keys that it may have.
#[derive(Debug)]
pub struct Fields<'t, 's> {
    /// Where the mapping begins.
    pub place: Place,
    what: &'static str,
    entries: &'t [Entry<'s>],
}

impl<'t, 's> Fields<'t, 's> {
    /// Reads a mapping that may have these keys; `what` names it in messages. Notes every unknown key.
    pub fn of(node: &'t Node<'s>, what: &'static str, known: &[&str], faults: &mut Faults<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message = format!("expected {what} as a mapping with {}, found {}", list(known), node.kind());
            faults.add(node.place, message);
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let near = suggestion(&entry.key, known.iter().copied());
            let message = format!("unknown key {} in {what}, expected {}{near}", quoted(&entry.key), list(known));
            faults.add(entry.key_place, message);
        }
        Some(Self { place: node.place, what, entries })
    }

    /// The value of a key that may be missing. A key without a value counts as missing.
    #[must_use]
    pub fn optional(&self, key: &str) -> Option<&'t Node<'s>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        match &entry.value.value {
            Value::Scalar(scalar) if scalar.is_null() => None,
            _ => Some(&entry.value),
        }
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &str, faults: &mut Faults<'_>) -> Option<&'t Node<'s>> {
        let found = self.optional(key);
        if found.is_none() {
            let place = self.entries.iter().find(|entry| entry.key == key).map_or(self.place, |entry| entry.key_place);
            faults.add(place, format!("expected a value for {key:?} in {}, found none", self.what));
        }
        found
    }
}

/// The names as a message lists them.
fn list(names: &[&str]) -> String {
    names.join(", ")
}

/// A text. Notes anything else.
pub fn text<'t, 's>(node: &'t Node<'s>, what: &str, faults: &mut Faults<'_>) -> Option<&'t Scalar<'s>> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(scalar),
        _ => {
            faults.add(node.place, format!("expected {what}, found {}", node.kind()));
            None
        }
    }
}

/// A list. Notes anything else.
pub fn items<'t, 's>(node: &'t Node<'s>, what: &str, faults: &mut Faults<'_>) -> Option<&'t [Node<'s>]> {
    match &node.value {
        Value::List(nodes) => Some(nodes),
        _ => {
            faults.add(node.place, format!("expected {what} as a list, found {}", node.kind()));
            None
        }
    }
}

/// A number or flag that `parse` understands. Notes anything else.
pub fn parsed<T>(
    node: &Node<'_>,
    what: &str,
    faults: &mut Faults<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let scalar = text(node, what, faults)?;
    let value = parse(&scalar.text);
    if value.is_none() {
        faults.add(node.place, format!("expected {what}, found {}", quoted(&scalar.text)));
    }
    value
}

/// One of some names. Notes anything else, with the name that was probably meant.
pub fn one_of<T: Copy>(node: &Node<'_>, what: &str, names: &[(T, &str)], faults: &mut Faults<'_>) -> Option<T> {
    let scalar = text(node, what, faults)?;
    if let Some((value, _)) = names.iter().find(|(_, name)| *name == scalar.text) {
        return Some(*value);
    }
    let known: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
    let near = suggestion(&scalar.text, known.iter().copied());
    faults.add(
        node.place,
        format!("expected {what} to be one of {}, found {}{near}", list(&known), quoted(&scalar.text)),
    );
    None
}

/// An outcome by its name.
pub fn outcome(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<Outcome> {
    one_of(node, "outcome", &Outcome::ALL, faults)
}

/// Longest duration that a rule file may name; ten years.
const MAX_DURATION_MS: i64 = 3_650 * DAY_MS;

/// Milliseconds of a duration such as `24h`, `90m` or `1d 12h`: whole numbers with the units d, h, m, s and ms, the
/// largest first, more than nothing and at most ten years.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 5] = [("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1)];
    let mut rest = text.trim();
    let mut total = 0_i64;
    let mut least = i64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == &after[..letters])?;
        if *unit_ms >= least {
            return None;
        }
        least = *unit_ms;
        total = total.checked_add(number.checked_mul(*unit_ms)?)?;
        rest = after[letters..].trim_start();
    }
    (1..=MAX_DURATION_MS).contains(&total).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_duration_ms(text), expected, "{text}");
        check("24h", Some(DAY_MS));
        check("90m", Some(90 * MINUTE_MS));
        check("1d 12h", Some(36 * HOUR_MS));
        check("1h30m", Some(90 * MINUTE_MS));
        check("500ms", Some(500));
        check("3650d", Some(MAX_DURATION_MS));
        for bad in ["", "24", "h", "0h", "-1h", "1.5h", "24 h", "1h 1d", "1h 1h", "24hours", "3651d", "99999999999999d"]
        {
            check(bad, None);
        }
    }
}

//! Messages: the sentence of a rule with features filled in, printed by their unit.

use super::diagnostic::{Faults, suggestion};
use super::yaml::Scalar;
use crate::features::{CATALOGUE, FeatureVector, Slot, Unit, lookup};
use crate::money::Currency;

/// Longest message template in bytes.
const MAX_TEMPLATE_BYTES: usize = 500;

/// A message with places for features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Feature(Slot, Unit),
}

impl Template {
    /// Parses a template: `{feature}` prints a feature, `{{` and `}}` print braces. Notes every fault.
    pub(super) fn parse(scalar: &Scalar<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        let text = scalar.text.trim_end();
        let before = faults.count();
        if text.is_empty() || text.len() > MAX_TEMPLATE_BYTES {
            let message = format!("expected a message of 1 to {MAX_TEMPLATE_BYTES} bytes, found {}", text.len());
            faults.add(scalar.place_of(0), message);
            return None;
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match (c, chars.peek()) {
                ('{', Some((_, '{'))) | ('}', Some((_, '}'))) => {
                    chars.next();
                    literal.push(c);
                }
                ('{', _) => {
                    let Some(length) = text[at..].find('}') else {
                        let message = "expected a closing brace after a feature; write {{ for a brace itself";
                        faults.add(scalar.place_of(at), message);
                        break;
                    };
                    let name = &text[at + 1..at + length];
                    while chars.next_if(|(inside, _)| *inside <= at + length).is_some() {}
                    match lookup(name) {
                        Some((slot, spec)) => {
                            if !literal.is_empty() {
                                parts.push(Part::Text(std::mem::take(&mut literal).into()));
                            }
                            parts.push(Part::Feature(slot, spec.unit));
                        }
                        None => {
                            let near = suggestion(name, CATALOGUE.iter().map(|spec| spec.name));
                            let message = format!("expected a feature between braces, found {name:?}{near}");
                            faults.add(scalar.place_of(at + 1), message);
                        }
                    }
                }
                ('}', _) => faults.add(scalar.place_of(at), "found a closing brace alone; write }} for a brace itself"),
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        (faults.count() == before).then_some(Self { parts })
    }

    /// The sentence for one event.
    #[must_use]
    pub fn fill(&self, features: &FeatureVector, base: Currency) -> Box<str> {
        let mut sentence = String::with_capacity(96);
        for part in &self.parts {
            match part {
                Part::Text(text) => sentence.push_str(text),
                Part::Feature(slot, unit) => sentence.push_str(&shown(features.get(*slot), *unit, base)),
            }
        }
        sentence.into()
    }
}

/// A feature's value for people: `5,130.00` of money, `612.4` miles or minutes, `yes`, `12`, `unknown`.
#[must_use]
pub fn shown(value: f64, unit: Unit, base: Currency) -> String {
    if value.is_nan() {
        return "unknown".to_owned();
    }
    match unit {
        Unit::Flag if value == 0.0 => "no".to_owned(),
        Unit::Flag => "yes".to_owned(),
        Unit::Count | Unit::Hour => grouped(value, 0),
        Unit::BaseMoney => grouped(value, base.exponent().into()),
        Unit::Minutes | Unit::Miles | Unit::MilesPerHour => grouped(value, 1),
    }
}

/// A number with so many decimals and a comma before every three digits.
fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::with_capacity(plain.len() + plain.len() / 3);
    grouped.push_str(sign);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.push_str(fraction);
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_unit() {
        let check = |value: f64, unit: Unit, code: &str, expected: &str| {
            let base = Currency::from_code(code).expect("a currency");
            assert_eq!(shown(value, unit, base), expected);
        };
        check(5130.0, Unit::BaseMoney, "USD", "5,130.00");
        check(0.1 + 0.2, Unit::BaseMoney, "USD", "0.30");
        check(999.0, Unit::BaseMoney, "USD", "999.00");
        check(1_234_567.891, Unit::BaseMoney, "KWD", "1,234,567.891");
        check(1_234_567.0, Unit::BaseMoney, "JPY", "1,234,567");
        check(612.44, Unit::Miles, "USD", "612.4");
        check(59.96, Unit::Minutes, "USD", "60.0");
        check(12_345.0, Unit::MilesPerHour, "USD", "12,345.0");
        check(11.0, Unit::Count, "USD", "11");
        check(1000.0, Unit::Count, "USD", "1,000");
        check(-1000.0, Unit::Count, "USD", "-1,000");
        check(1.0, Unit::Flag, "USD", "yes");
        check(0.0, Unit::Flag, "USD", "no");
        check(f64::NAN, Unit::Miles, "USD", "unknown");
        check(f64::INFINITY, Unit::Miles, "USD", "inf");
    }
}

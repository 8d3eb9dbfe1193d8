//! Reads `fx.yaml`: the base currency and what one unit of each other currency is worth in it.

use super::diagnostic::{Faults, Place, quoted};
use super::fields::{Fields, text};
use super::yaml::{self, Node, Value};
use crate::money::{Currency, Rate, Rates};
use std::collections::BTreeMap;

/// The rates of a file; `None` when no base currency can be told. Faults are noted.
pub(super) fn read(source: &str, faults: &mut Faults<'_>) -> Option<Rates> {
    let before = faults.count();
    let Some(root) = yaml::parse(source, faults) else {
        if faults.count() == before {
            faults.add(Place::START, "expected the keys base and rates, found an empty file");
        }
        return None;
    };
    let fields = Fields::of(&root, "the rates file", &["base", "rates"], faults)?;
    let base = fields.required("base", faults).and_then(|node| {
        let code = text(node, "a currency such as USD", faults)?;
        currency(&code.text, node.place, faults)
    });
    let mut rates = BTreeMap::new();
    match fields.optional("rates") {
        None => {}
        Some(Node { value: Value::Map(entries), .. }) => {
            for entry in entries {
                let code = currency(&entry.key, entry.key_place, faults);
                let rate = rate(&entry.value, faults);
                let (Some(code), Some(rate)) = (code, rate) else { continue };
                if Some(code) != base {
                    rates.insert(code, rate);
                } else if !is_one(rate) {
                    let message = format!("expected no rate but 1 for the base currency {code}");
                    faults.add(entry.key_place, message);
                }
            }
        }
        Some(other) => {
            faults
                .add(other.place, format!("expected rates as a mapping such as EUR: \"1.08\", found {}", other.kind()));
        }
    }
    base.map(|base| Rates::new(base, rates))
}

fn currency(code: &str, place: Place, faults: &mut Faults<'_>) -> Option<Currency> {
    let known = Currency::from_code(code);
    if known.is_none() {
        let message = format!("expected an ISO 4217 currency in capitals such as USD, found {}", quoted(code));
        faults.add(place, message);
    }
    known
}

fn rate(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<Rate> {
    let text = text(node, "a rate such as \"1.08\"", faults)?;
    Rate::parse(&text.text).map_err(|error| faults.add(node.place, error.to_string())).ok()
}

/// Whether the rate changes nothing, however many zeros it has.
fn is_one(rate: Rate) -> bool {
    (0..=9).any(|zeros| {
        let one = if zeros == 0 { "1".to_owned() } else { format!("1.{}", "0".repeat(zeros)) };
        Rate::parse(&one) == Ok(rate)
    })
}

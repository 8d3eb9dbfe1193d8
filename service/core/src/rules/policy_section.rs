//! Reads the `policy` section of a rule set: model bands, what a block leads to, the fallback.

use super::diagnostic::{Faults, Place, quoted};
use super::fields::{Fields, items, one_of, outcome, parse_duration_ms, parsed, text};
use super::read::code;
use super::yaml::Node;
use crate::decision::Outcome;
use crate::money::{Currency, Money};
use crate::policy::{Fallback, ModelBand, Policy};

/// The policy; what is left out gets its default. Faults are noted.
pub(super) fn read(node: Option<&Node<'_>>, base: Option<Currency>, faults: &mut Faults<'_>) -> Option<Policy> {
    let Some(node) = node else {
        return Some(Policy::default());
    };
    let fields = Fields::of(node, "policy", &["model_bands", "on_block", "fallback"], faults)?;
    let model_bands = match fields.optional("model_bands") {
        None => Some(Vec::new()),
        Some(node) => bands(node, faults),
    };
    let block_user_ttl_ms = match fields.optional("on_block") {
        None => Some(None),
        Some(node) => on_block(node, faults).map(Some),
    };
    let fallback = match fields.optional("fallback") {
        None => Some(Fallback::default()),
        Some(node) => fallback(node, base, faults),
    };
    Some(Policy { model_bands: model_bands?, block_user_ttl_ms: block_user_ttl_ms?, fallback: fallback? })
}

fn bands(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<Vec<ModelBand>> {
    let before = faults.count();
    let mut bands: Vec<(ModelBand, Place)> = Vec::new();
    for node in items(node, "model_bands", faults)? {
        bands.extend(band(node, faults).map(|band| (band, node.place)));
    }
    bands.sort_by(|(a, _), (b, _)| b.above.total_cmp(&a.above));
    for pair in bands.windows(2) {
        let [(higher, _), (lower, place)] = pair else { continue };
        if higher.above.to_bits() == lower.above.to_bits() {
            faults.add(*place, format!("expected each threshold once, {} is there twice", lower.above));
        } else if higher.outcome < lower.outcome {
            let message = format!(
                "expected bands that do not get milder as the score rises, found {} above {} and {} above {}",
                lower.outcome.name(),
                lower.above,
                higher.outcome.name(),
                higher.above
            );
            faults.add(*place, message);
        }
    }
    (faults.count() == before).then(|| bands.into_iter().map(|(band, _)| band).collect())
}

fn band(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<ModelBand> {
    let fields = Fields::of(node, "a model band", &["above", "outcome", "code"], faults)?;
    let above = fields.required("above", faults).and_then(|node| {
        parsed(node, "a score of at least 0 and below 1", faults, |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            text.parse().ok().filter(|above: &f64| digits && (0.0..1.0).contains(above))
        })
    });
    let outcome = fields.required("outcome", faults).and_then(|node| {
        let outcome = outcome(node, faults)?;
        if outcome == Outcome::Approve {
            faults.add(node.place, "expected challenge, review or block: a band that approves changes nothing");
            return None;
        }
        Some(outcome)
    });
    let code = fields.required("code", faults).and_then(|node| code(node, faults));
    Some(ModelBand { above: above?, outcome: outcome?, code: code? })
}

/// How long a block keeps the user on the block list, in milliseconds.
fn on_block(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<i64> {
    let fields = Fields::of(node, "on_block", &["list", "ttl"], faults)?;
    let list = fields.required("list", faults).and_then(|node| one_of(node, "list", &[((), "user")], faults));
    let ttl_ms = fields
        .required("ttl", faults)
        .and_then(|node| parsed(node, "a duration such as 24h, 90m or 7d, at most 3650d", faults, parse_duration_ms));
    list.and(ttl_ms)
}

fn fallback(node: &Node<'_>, base: Option<Currency>, faults: &mut Faults<'_>) -> Option<Fallback> {
    let fields = Fields::of(node, "fallback", &["above_amount", "outcome", "otherwise"], faults)?;
    let above_minor = fields.required("above_amount", faults).and_then(|node| {
        let scalar = text(node, "an amount such as \"500.00\"", faults)?;
        // Without a base currency there is nothing to check the amount against; its own fault is noted already.
        amount_minor(&scalar.text, base?)
            .map_err(|why| {
                faults.add(
                    node.place,
                    format!("expected an amount in the base currency, found {}: {why}", quoted(&scalar.text)),
                );
            })
            .ok()
    });
    let outcome_above = fields.required("outcome", faults).and_then(|node| outcome(node, faults));
    let otherwise = fields.required("otherwise", faults).and_then(|node| outcome(node, faults));
    Some(Fallback { above_minor: above_minor?, outcome: outcome_above?, otherwise: otherwise? })
}

/// Minor units of an amount of which, unlike a payment, nothing is too little.
fn amount_minor(text: &str, base: Currency) -> Result<i64, String> {
    if !text.is_empty() && text.bytes().all(|b| b == b'0' || b == b'.') && text.parse::<f64>() == Ok(0.0) {
        return Ok(0);
    }
    Money::parse(text, base).map(Money::minor).map_err(|error| error.to_string())
}

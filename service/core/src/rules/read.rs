//! Reads `ruleset.yaml` into rules whose conditions type-check; notes every fault of the file.

use super::condition::{self, Condition};
use super::diagnostic::{Faults, Place, quoted};
use super::fields::{Fields, items, one_of, outcome, parsed, text};
use super::message::Template;
use super::policy_section;
use super::yaml::{self, Node};
use super::{Mode, Rule};
use crate::money::Currency;
use crate::policy::Policy;
use std::collections::BTreeMap;

/// Most rules of a set.
const MAX_RULES: usize = 1_000;
/// Longest rule id and reason code in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A rule and its condition, still to be compiled.
pub(super) struct Draft {
    pub rule: Rule,
    pub condition: Condition,
}

/// What a file without faults holds.
pub(super) struct Sheet {
    pub drafts: Vec<Draft>,
    pub policy: Policy,
}

/// Reads the file; `base` is missing when `fx.yaml` has faults of its own. Faults are noted; what has some is left out.
pub(super) fn read(source: &str, base: Option<Currency>, faults: &mut Faults<'_>) -> Option<Sheet> {
    let before = faults.count();
    let Some(root) = yaml::parse(source, faults) else {
        if faults.count() == before {
            faults.add(Place::START, "expected the keys rules and policy, found an empty file");
        }
        return None;
    };
    let fields = Fields::of(&root, "a rule set", &["rules", "policy", "features"], faults)?;
    if let Some(features) = fields.optional("features") {
        let message = "expected no features section: features cannot be declared yet, the built-in ones are listed in the documentation";
        faults.add(features.place, message);
    }
    let mut drafts = Vec::new();
    let mut seen = BTreeMap::new();
    let nodes = fields.required("rules", faults).and_then(|node| {
        let nodes = items(node, "rules", faults)?;
        if nodes.len() > MAX_RULES {
            faults.add(node.place, format!("expected at most {MAX_RULES} rules, found {}", nodes.len()));
            return None;
        }
        Some(nodes)
    });
    for node in nodes.unwrap_or_default() {
        drafts.extend(rule(node, &mut seen, faults));
    }
    let policy = policy_section::read(fields.optional("policy"), base, faults);
    Some(Sheet { drafts, policy: policy? })
}

fn rule(node: &Node<'_>, seen: &mut BTreeMap<String, usize>, faults: &mut Faults<'_>) -> Option<Draft> {
    let fields = Fields::of(node, "a rule", &["id", "version", "when", "outcome", "reason", "mode"], faults)?;
    let id = fields.required("id", faults).and_then(|node| {
        let id =
            name(node, "an id of letters, digits, _ and -", faults, |c| c.is_ascii_alphanumeric() || "_-".contains(c))?;
        match seen.insert(id.to_string(), node.place.line) {
            None => Some(id),
            Some(line) => {
                faults.add(node.place, format!("expected each id once, {id:?} is on line {line}"));
                None
            }
        }
    });
    let version = fields.required("version", faults).and_then(|node| {
        parsed(node, "a version of 1 or more", faults, |text| text.parse().ok().filter(|version: &u32| *version > 0))
    });
    let when = fields.required("when", faults).and_then(|node| {
        let scalar = text(node, "a condition", faults)?;
        Some((Box::<str>::from(scalar.text.trim()), condition::read(scalar, faults)?))
    });
    let outcome = fields.required("outcome", faults).and_then(|node| outcome(node, faults));
    let reason = fields.required("reason", faults).and_then(|node| {
        let fields = Fields::of(node, "a reason", &["code", "message"], faults)?;
        let code = fields.required("code", faults).and_then(|node| code(node, faults));
        let message = fields.required("message", faults).and_then(|node| {
            let scalar = text(node, "a message", faults)?;
            Template::parse(scalar, faults)
        });
        Some((code?, message?))
    });
    let mode = match fields.optional("mode") {
        None => Some(Mode::Live),
        Some(node) => one_of(node, "mode", &[(Mode::Live, "live"), (Mode::Shadow, "shadow")], faults),
    };
    let ((when, condition), (code, message)) = (when?, reason?);
    let rule = Rule {
        id: id?,
        version: version?,
        when,
        outcome: outcome?,
        code,
        message,
        mode: mode?,
        reads: condition.reads.clone().into(),
    };
    Some(Draft { rule, condition })
}

/// A reason code.
pub(super) fn code(node: &Node<'_>, faults: &mut Faults<'_>) -> Option<Box<str>> {
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name(node, "a code of capitals, digits and _ such as DAILY_SPEND", faults, allowed)
}

fn name(node: &Node<'_>, what: &str, faults: &mut Faults<'_>, allowed: impl Fn(char) -> bool) -> Option<Box<str>> {
    let scalar = text(node, what, faults)?;
    let name = scalar.text.as_str();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
        let message = format!("expected {what}, at most {MAX_NAME_BYTES} bytes, found {}", quoted(name));
        faults.add(node.place, message);
        return None;
    }
    Some(name.into())
}

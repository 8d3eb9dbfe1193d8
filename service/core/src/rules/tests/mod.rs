//! Tests of the rules as a whole: sources in, faults or decisions out.

mod compile;
mod decide;
mod oracle;

use super::{Diagnostic, RuleSet, RuleSources, SourceFile};
use crate::features::{FeatureVector, SLOTS, lookup};

pub(super) const FX: &str = "base: USD\nrates:\n  EUR: \"1.08\"\n";

pub(super) fn compile(ruleset: &str) -> Result<RuleSet, Vec<Diagnostic>> {
    compile_with(ruleset, FX)
}

pub(super) fn compile_with(ruleset: &str, fx: &str) -> Result<RuleSet, Vec<Diagnostic>> {
    RuleSet::compile(&RuleSources {
        name: "test",
        ruleset: SourceFile { path: "r.yaml", text: ruleset },
        fx: SourceFile { path: "fx.yaml", text: fx },
    })
}

/// A set with one review rule.
pub(super) fn with_condition(when: &str) -> Result<RuleSet, Vec<Diagnostic>> {
    let when = when.replace('\'', "''");
    compile(&format!(
        "rules:\n- id: r\n  version: 1\n  when: '{when}'\n  outcome: review\n  reason: {{code: R, message: \"m\"}}\n"
    ))
}

/// Features that are 0, but for some.
pub(super) fn features(values: &[(&str, f64)]) -> FeatureVector {
    let mut vector = FeatureVector([0.0; SLOTS]);
    for (name, value) in values {
        let (slot, _) = lookup(name).unwrap_or_else(|| panic!("no feature {name}"));
        vector.0[slot.index()] = *value;
    }
    vector
}

pub(super) fn fires(set: &RuleSet, features: &FeatureVector) -> bool {
    let mut hits = Vec::new();
    set.evaluate(features, &mut hits);
    !hits.is_empty()
}

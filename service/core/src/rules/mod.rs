//! Rule sets: YAML with CEL conditions, type-checked against the catalogue, compiled to one table over slots.
//!
//! A set with one fault does not compile; every fault of every file is reported with its place. Nothing here reads a
//! file: sources are texts, and evaluation sees nothing but the feature vector.
//!
//! Reading: `yaml` and `fields` (typed access with places), `read`, `policy_section` and `rates` (the files),
//! `syntax` and `condition` (CEL to the typed tree of `expr`), `message` (templates). Running: `table` and `closure`
//! (the two compiled forms), `program` (all conditions together), `decide`.

mod closure;
mod condition;
mod decide;
pub mod diagnostic;
mod expr;
pub mod fields;
mod message;
mod place_in_scalar;
mod policy_section;
mod program;
mod rates;
mod read;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
pub mod yaml;

pub use decide::DecideInput;
pub use diagnostic::Diagnostic;
pub use message::{Template, shown};

use crate::decision::{Outcome, RuleHit};
use crate::features::{FeatureVector, Slot};
use crate::money::Rates;
use crate::policy::Policy;
use diagnostic::Faults;
use program::Program;
use sha2::{Digest, Sha256};

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    /// The name that diagnostics give it.
    pub path: &'a str,
    /// Its whole text.
    pub text: &'a str,
}

/// Everything that a rule set is made of.
#[derive(Clone, Copy, Debug)]
pub struct RuleSources<'a> {
    /// The set's name, as decisions give it.
    pub name: &'a str,
    /// `ruleset.yaml`: rules and policy.
    pub ruleset: SourceFile<'a>,
    /// `fx.yaml`: base currency and rates.
    pub fx: SourceFile<'a>,
}

/// What becomes of a rule that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It counts.
    Live,
    /// It is recorded and changes nothing.
    Shadow,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique in its set.
    pub id: Box<str>,
    /// The rule's own version.
    pub version: u32,
    /// The condition as written.
    pub when: Box<str>,
    /// What follows when it holds; `approve` only flags.
    pub outcome: Outcome,
    /// Reason code.
    pub code: Box<str>,
    /// The reason's sentence.
    pub message: Template,
    /// Live or shadow.
    pub mode: Mode,
    /// The features that the condition reads, in slot order.
    pub reads: Box<[Slot]>,
}

/// A compiled rule set. Immutable: a reload makes another one.
#[derive(Debug)]
pub struct RuleSet {
    name: Box<str>,
    hash: [u8; 32],
    rules: Vec<Rule>,
    program: Program,
    policy: Policy,
    rates: Rates,
}

impl RuleSet {
    /// Compiles a set.
    ///
    /// # Errors
    /// Every fault of every file, in the order of the files and places.
    pub fn compile(sources: &RuleSources<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut fx_faults = Faults::of(sources.fx.path);
        let mut ruleset_faults = Faults::of(sources.ruleset.path);
        let rates = rates::read(sources.fx.text, &mut fx_faults);
        let base = rates.as_ref().map(Rates::base);
        let sheet = read::read(sources.ruleset.text, base, &mut ruleset_faults);
        let mut faults = ruleset_faults.into_sorted();
        faults.extend(fx_faults.into_sorted());
        let (Some(rates), Some(sheet), true) = (rates, sheet, faults.is_empty()) else {
            return Err(faults);
        };
        let program = Program::compile(sheet.drafts.iter().map(|draft| &draft.condition.expr));
        let rules = sheet.drafts.into_iter().map(|draft| draft.rule).collect();
        Ok(Self { name: sources.name.into(), hash: hash_of(sources), rules, program, policy: sheet.policy, rates })
    }

    /// The set's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The set's version: SHA-256 over the texts of `ruleset.yaml` and `fx.yaml`, each with its length before it.
    #[must_use]
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Base currency and rates.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Model bands, what a block leads to, the fallback.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The rules, in the order of the file; a [`RuleHit`] names one by its index here.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Finds every rule whose condition holds, in rule order. `hits` is cleared first, so that callers can reuse it.
    pub fn evaluate(&self, features: &FeatureVector, hits: &mut Vec<RuleHit>) {
        hits.clear();
        self.program.run(features, |number| {
            let shadow = self.rules.get(number).is_some_and(|rule| rule.mode == Mode::Shadow);
            hits.push(RuleHit { rule: number as u16, shadow });
        });
    }
}

fn hash_of(sources: &RuleSources<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in [sources.ruleset.text, sources.fx.text] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

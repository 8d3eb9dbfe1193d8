//! Runs cases: one profile a case, the pure core, no clock.

use super::{Case, Expectation, Payment, Step};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use verdict_core::decision::{Decision, ModelVerdict};
use verdict_core::features::compute;
use verdict_core::lists::{Entries, ListKind};
use verdict_core::profile::{Admission, Change, Profile, Retention};
use verdict_core::rules::RuleSet;
use verdict_core::rules::diagnostic::Place;

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where the file states it.
    pub place: Place,
    /// The case.
    pub case: String,
    /// What was expected and what was found.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.place.line, self.place.column, self.case, self.what)
    }
}

/// What came of running cases.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Every expectation that was not met, in the order of the file.
    pub failures: Vec<Failure>,
    /// Number of expectations looked at.
    pub expectations: usize,
    /// Ids of rules that fired where a decision was expected.
    pub fired: BTreeSet<String>,
}

/// Runs every case.
#[must_use]
pub fn run(rules: &RuleSet, cases: &[Case]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for case in cases {
        run_case(rules, case, &mut outcomes);
    }
    outcomes
}

fn run_case(rules: &RuleSet, case: &Case, outcomes: &mut Outcomes) {
    let mut profile = Profile::default();
    let mut merchants: HashMap<Box<str>, Entries> = HashMap::new();
    let retention = Retention::default();
    for (n, step) in (0..).zip(&case.steps) {
        match step {
            Step::Login(login) => {
                if profile.admit_login(login, &retention) == Admission::New {
                    profile.apply(Change::LoggedIn(login), n, &retention);
                }
            }
            Step::List(change) if change.key.kind == ListKind::User => {
                profile.apply(Change::Listed(change), n, &retention);
            }
            Step::List(change) => {
                *merchants.entry(change.key.value.clone()).or_default().of(change.key.list) = change.entry();
            }
            Step::Transaction(payment) => {
                let admission = profile.admit_transaction(&payment.transaction, &retention);
                let found = (admission == Admission::New).then(|| decide(rules, &profile, &merchants, payment));
                if let Some(expected) = &payment.expected {
                    outcomes.expectations += 1;
                    outcomes.fired.extend(found.iter().flat_map(|decision| fired(rules, decision, |_| true)));
                    if let Err(what) = compare(rules, expected, found.as_ref()) {
                        outcomes.failures.push(Failure { place: expected.place, case: case.name.clone(), what });
                    }
                }
                if let Some(decision) = &found {
                    profile.apply(Change::Decided(&payment.transaction, decision), n, &retention);
                }
            }
        }
    }
}

fn decide(rules: &RuleSet, profile: &Profile, merchants: &HashMap<Box<str>, Entries>, payment: &Payment) -> Decision {
    let transaction = &payment.transaction;
    // As in a backtest, a payment is received at its own time.
    let received_at = transaction.at;
    let mut list_hits = profile.list_hits(&transaction.user_id, received_at);
    if let Some(entries) = merchants.get(&transaction.merchant_id) {
        entries.hit((ListKind::Merchant, &transaction.merchant_id), received_at, &mut list_hits);
    }
    let computed = compute(profile, transaction, &list_hits, rules.rates().base());
    rules.evaluate_and_decide(
        transaction,
        &computed,
        list_hits,
        payment.score.map_or(ModelVerdict::Absent, ModelVerdict::Score),
        received_at,
    )
}

/// Ids of the rules that fired, of those in shadow or of all.
fn fired(rules: &RuleSet, decision: &Decision, wanted: impl Fn(bool) -> bool) -> Vec<String> {
    let hits = decision.rule_hits.iter().filter(|hit| wanted(hit.shadow));
    hits.filter_map(|hit| rules.rules().get(usize::from(hit.rule))).map(|rule| rule.id.to_string()).collect()
}

fn compare(rules: &RuleSet, expected: &Expectation, found: Option<&Decision>) -> Result<(), String> {
    let shown = |outcome: &str, reasons: &[String], shadow: &[String]| {
        let mut text = format!("{outcome} [{}]", reasons.join(", "));
        if !(shadow.is_empty() && expected.shadow.is_empty()) {
            text += &format!(" shadow [{}]", shadow.join(", "));
        }
        text
    };
    let wanted = shown(expected.outcome.name(), &expected.reasons, &expected.shadow);
    let Some(found) = found else {
        return Err(format!("expected {wanted}, found a duplicate id or a time too old for the profile"));
    };
    let reasons: Vec<String> = found.reasons.iter().map(|reason| reason.code.to_string()).collect();
    let shadow = fired(rules, found, |shadow| shadow);
    let met = found.outcome == expected.outcome && reasons == expected.reasons && shadow == expected.shadow;
    if met {
        return Ok(());
    }
    Err(format!("expected {wanted}, found {}", shown(found.outcome.name(), &reasons, &shadow)))
}

#[cfg(test)]
mod tests {
    use super::super::{CASES_FILE, read};
    use super::*;
    use crate::rulebook::Rulebook;
    use std::path::Path;
    use verdict_core::rules::SourceFile;

    fn book() -> Rulebook {
        Rulebook::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules"), "default").unwrap()
    }

    fn run_text(text: &str) -> Outcomes {
        let book = book();
        run(book.rules(), &read(&SourceFile { path: "c", text }, book.rules()).unwrap())
    }

    #[test]
    fn the_shipped_cases_hold_and_reach_every_rule() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/default").join(CASES_FILE);
        let outcomes = run_text(&std::fs::read_to_string(path).unwrap());
        let failures: Vec<String> = outcomes.failures.iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        for rule in book().rules().rules() {
            assert!(outcomes.fired.contains(&*rule.id), "no case for {}", rule.id);
        }
        assert!(outcomes.expectations > 50);
    }

    #[test]
    fn failures_say_what_was_found() {
        let outcomes = run_text(
            "cases:
- name: wrong
  events:
  - transaction: {at: 0s, amount: \"5000.01\", expect: {decision: approve}}
  - transaction: {at: 1m, repeat: 10, every: 1s, expect: {decision: review, reasons: [DAILY_SPEND], shadow: []}}
  - transaction: {at: -30d, expect: {decision: approve}}
",
        );
        let found: Vec<String> = outcomes.failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "4:54: wrong: expected approve [], found review [DAILY_SPEND]",
                "5:58: wrong: expected review [DAILY_SPEND], found review [DAILY_SPEND] shadow [velocity]",
                "6:37: wrong: expected approve [], found a duplicate id or a time too old for the profile",
            ]
        );
        assert_eq!(outcomes.expectations, 3);
    }
}

//! All conditions of a set, ready to run: one table of tests for most, closures for the rest.

use super::closure::{self, Predicate};
use super::expr::BoolExpr;
use super::table::{self, Test};
use crate::features::FeatureVector;
use std::ops::Range;

/// The compiled conditions of a rule set, in rule order.
#[derive(Default)]
pub(super) struct Program {
    /// Every test of every conjunction, one after the other.
    tests: Vec<Test>,
    /// Where in `tests` the further conjunctions of a condition stand.
    conjunctions: Vec<Range<u32>>,
    steps: Vec<Step>,
}

enum Step {
    /// One conjunction: a range of `tests`.
    All(Range<u32>),
    /// A disjunction: a range of `conjunctions`.
    Any(Range<u32>),
    /// Anything else.
    Call(Predicate),
}

impl Program {
    /// Compiles one more condition.
    pub(super) fn push(&mut self, condition: &BoolExpr) {
        let Some(flat) = table::flatten(condition) else {
            self.steps.push(Step::Call(closure::compile(condition)));
            return;
        };
        let first = self.conjunctions.len() as u32;
        for conjunction in flat {
            let start = self.tests.len() as u32;
            self.tests.extend(conjunction);
            self.conjunctions.push(start..self.tests.len() as u32);
        }
        if self.conjunctions.len() as u32 == first + 1
            && let Some(only) = self.conjunctions.pop()
        {
            self.steps.push(Step::All(only));
        } else {
            self.steps.push(Step::Any(first..self.conjunctions.len() as u32));
        }
    }

    /// Calls `fired` with the number of every condition that holds, in order.
    #[inline]
    pub(super) fn run(&self, features: &FeatureVector, mut fired: impl FnMut(usize)) {
        for (number, step) in self.steps.iter().enumerate() {
            let holds = match step {
                Step::All(tests) => self.all(tests, features),
                Step::Any(conjunctions) => {
                    let range = conjunctions.start as usize..conjunctions.end as usize;
                    self.conjunctions.get(range).is_some_and(|any| any.iter().any(|tests| self.all(tests, features)))
                }
                Step::Call(predicate) => predicate(features) == Some(true),
            };
            if holds {
                fired(number);
            }
        }
    }

    #[inline]
    fn all(&self, tests: &Range<u32>, features: &FeatureVector) -> bool {
        // invariant: `push` made the range from the table's own length, so it is always there.
        self.tests
            .get(tests.start as usize..tests.end as usize)
            .is_some_and(|all| all.iter().all(|test| test.holds(features)))
    }

    /// How many conditions are in the table, for tests.
    #[cfg(test)]
    pub(super) fn in_table(&self) -> usize {
        self.steps.iter().filter(|step| !matches!(step, Step::Call(_))).count()
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({} conditions, {} tests)", self.steps.len(), self.tests.len())
    }
}

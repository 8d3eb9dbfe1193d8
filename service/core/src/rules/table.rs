//! The flat form of conditions: disjunctions of conjunctions of tests on slots.
//!
//! Any mix of `&&`, `||`, `!` and `in` over comparisons of a feature with a constant, another feature or a multiple of
//! one becomes such a form, as long as that stays small. What does not fit is left to closures (`closure`).

use super::expr::{Arithmetic, BoolExpr, Cases, DoubleExpr, IntExpr};
use crate::features::{FeatureVector, Slot};

/// Most conjunctions of one condition in the table.
const MAX_CONJUNCTIONS: usize = 16;
/// Most tests of one condition in the table.
const MAX_TESTS: usize = 64;
/// Integers up to here are exact as doubles.
const EXACT_INT: i64 = 1 << 53;

/// One comparison of a feature. It never lacks a value: an absent feature is NaN and the case for that is "unordered".
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Test {
    pub slot: Slot,
    cases: Cases,
    /// Compared with `factor` times this feature, else with `factor` itself.
    other: Option<Slot>,
    factor: f64,
}

/// Tests that must all hold.
pub(super) type Conjunction = Vec<Test>;

impl Test {
    #[inline]
    pub(super) fn holds(&self, features: &FeatureVector) -> bool {
        let right = match self.other {
            None => self.factor,
            Some(other) => self.factor * features.get(other),
        };
        self.cases.hold(&features.get(self.slot), &right)
    }

    /// Whether it compares with a constant.
    pub(super) const fn is_constant(&self) -> bool {
        self.other.is_none()
    }

    /// Whether a test against a constant holds for this value of its feature.
    pub(super) fn holds_for(&self, value: f64) -> bool {
        self.cases.hold(&value, &self.factor)
    }

    /// Of a test against a constant, the values at and above which its result may differ from just below.
    pub(super) fn steps(&self) -> [f64; 2] {
        // The sum makes one zero of the two.
        let constant = self.factor + 0.0;
        [constant, constant.next_up()]
    }
}

/// The condition as a disjunction of conjunctions, or `None` if it is of another kind or too large.
pub(super) fn flatten(expr: &BoolExpr) -> Option<Vec<Conjunction>> {
    disjunction(expr, false)
}

/// Of the expression, or of its negation.
fn disjunction(expr: &BoolExpr, negated: bool) -> Option<Vec<Conjunction>> {
    match expr {
        BoolExpr::Constant(value) => Some(if *value == negated { vec![] } else { vec![vec![]] }),
        BoolExpr::Feature(slot) => {
            let value = if negated { 0.0 } else { 1.0 };
            Some(vec![vec![Test { slot: *slot, cases: Cases::EQUAL, other: None, factor: value }]])
        }
        BoolExpr::Not(inner) => disjunction(inner, !negated),
        BoolExpr::All(sides) if negated => sum(sides, negated),
        BoolExpr::Any(sides) if !negated => sum(sides, negated),
        BoolExpr::All(sides) | BoolExpr::Any(sides) => product(sides, negated),
        BoolExpr::CompareInt(cases, a, b) => int_test(*cases, a, b).map(|test| vec![vec![test.negated_if(negated)]]),
        BoolExpr::CompareDouble(cases, a, b) => {
            double_test(*cases, a, b).map(|test| vec![vec![test.negated_if(negated)]])
        }
        BoolExpr::Same(a, b) => match (&**a, &**b) {
            (side, BoolExpr::Constant(value)) | (BoolExpr::Constant(value), side) => {
                disjunction(side, negated == *value)
            }
            _ => None,
        },
        BoolExpr::If(..) => None,
    }
}

fn sum(sides: &[BoolExpr], negated: bool) -> Option<Vec<Conjunction>> {
    let mut all = Vec::new();
    for side in sides {
        all.extend(disjunction(side, negated)?);
        within_bounds(&all)?;
    }
    Some(all)
}

fn product(sides: &[BoolExpr], negated: bool) -> Option<Vec<Conjunction>> {
    let mut all: Vec<Conjunction> = vec![vec![]];
    for side in sides {
        let right = disjunction(side, negated)?;
        all = all.iter().flat_map(|left| right.iter().map(|right| [left.as_slice(), right].concat())).collect();
        within_bounds(&all)?;
    }
    Some(all)
}

fn within_bounds(conjunctions: &[Conjunction]) -> Option<()> {
    let tests: usize = conjunctions.iter().map(Vec::len).sum();
    (conjunctions.len() <= MAX_CONJUNCTIONS && tests <= MAX_TESTS).then_some(())
}

impl Test {
    fn negated_if(self, negated: bool) -> Self {
        if negated { Self { cases: self.cases.negated(), ..self } } else { self }
    }
}

fn int_test(cases: Cases, a: &IntExpr, b: &IntExpr) -> Option<Test> {
    let constant = |expr: &IntExpr| match expr {
        IntExpr::Constant(value) => Some(*value),
        IntExpr::Negative(inner) => match **inner {
            IntExpr::Constant(value) => value.checked_neg(),
            _ => None,
        },
        _ => None,
    };
    match (a, b) {
        (IntExpr::Feature(slot), IntExpr::Feature(other)) => {
            Some(Test { slot: *slot, cases, other: Some(*other), factor: 1.0 })
        }
        (IntExpr::Feature(slot), side) | (side, IntExpr::Feature(slot)) => {
            let value = constant(side).filter(|value| (-EXACT_INT..=EXACT_INT).contains(value))?;
            let cases = if matches!(a, IntExpr::Feature(_)) { cases } else { cases.mirrored() };
            Some(Test { slot: *slot, cases, other: None, factor: value as f64 })
        }
        _ => None,
    }
}

fn double_test(cases: Cases, a: &DoubleExpr, b: &DoubleExpr) -> Option<Test> {
    let (slot, side, cases) = match (a, b) {
        (DoubleExpr::Feature(slot), side) => (*slot, side, cases),
        (side, DoubleExpr::Feature(slot)) => (*slot, side, cases.mirrored()),
        _ => return None,
    };
    let (other, factor) = match side {
        DoubleExpr::Constant(value) => (None, *value),
        DoubleExpr::Feature(other) => (Some(*other), 1.0),
        DoubleExpr::Arithmetic(Arithmetic::Multiply, left, right) => match (&**left, &**right) {
            (DoubleExpr::Constant(factor), DoubleExpr::Feature(other))
            | (DoubleExpr::Feature(other), DoubleExpr::Constant(factor)) => (Some(*other), *factor),
            _ => return None,
        },
        _ => return None,
    };
    Some(Test { slot, cases, other, factor })
}

//! All conditions of a set, compiled together: one look at each feature serves every rule.
//!
//! Each conjunction has a bit. The constants that a feature is compared with cut its range into pieces (and "absent") in
//! which every test gives one result, so that a piece has a row of bits: the conjunctions that it lets pass. Running the
//! program finds each feature's piece by counting constants, without a branch, and combines the rows with `&`. What
//! depends on more than one feature, or is no conjunction at all, is checked last, for bits that are still set.

use super::closure::{self, Predicate};
use super::expr::BoolExpr;
use super::table::{self, Conjunction, Test};
use crate::features::{FeatureVector, SLOTS, Slot};
use std::ops::Range;

/// Most conjunctions of all conditions together; what comes after them runs as closures. Bounds the rows.
const MAX_BITS: usize = 1_024;
/// Most tests of all conditions together, likewise.
const MAX_TESTS: usize = 4_096;
/// Steps that are compared at once.
const BLOCK: usize = 4;

/// The compiled conditions of a rule set, in rule order.
#[derive(Debug, Default)]
pub(super) struct Program {
    columns: Vec<Column>,
    /// Where pieces of a column begin, in ascending order; what fills the last block up is NaN and never passed.
    steps: Vec<[f64; BLOCK]>,
    /// `words` bits-words a row; of a column first the row of "absent", then the pieces' in ascending order.
    rows: Vec<u64>,
    /// For every word of a row the bits that exist.
    words: Vec<u64>,
    /// What each bit stands for, in rule order.
    bits: Vec<Bit>,
}

/// A feature that conditions compare with constants.
#[derive(Debug)]
struct Column {
    slot: Slot,
    steps: Range<u32>,
    /// Index of its first row.
    first_row: u32,
}

#[derive(Debug)]
struct Bit {
    condition: u32,
    rest: Rest,
}

/// What the rows do not decide.
enum Rest {
    Nothing,
    /// Tests of one feature against another.
    Tests(Box<[Test]>),
    /// The whole condition.
    Closure(Predicate),
}

impl Program {
    /// Compiles conditions.
    pub(super) fn compile<'e>(conditions: impl Iterator<Item = &'e BoolExpr>) -> Self {
        let mut program = Self::default();
        // For every bit its tests against constants.
        let mut constant_tests: Vec<Conjunction> = Vec::new();
        let mut tests = 0;
        for (condition, expr) in (0..).zip(conditions) {
            let fits = |flat: &Vec<Conjunction>| {
                tests += flat.iter().map(Vec::len).sum::<usize>();
                constant_tests.len() + flat.len() <= MAX_BITS && tests <= MAX_TESTS
            };
            match table::flatten(expr).filter(fits) {
                None => {
                    program.bits.push(Bit { condition, rest: Rest::Closure(closure::compile(expr)) });
                    constant_tests.push(Vec::new());
                }
                Some(flat) => {
                    for conjunction in flat {
                        let (constant, rest): (Conjunction, Conjunction) =
                            conjunction.into_iter().partition(Test::is_constant);
                        let rest = if rest.is_empty() { Rest::Nothing } else { Rest::Tests(rest.into()) };
                        program.bits.push(Bit { condition, rest });
                        constant_tests.push(constant);
                    }
                }
            }
        }
        program.lay_out(&constant_tests);
        program
    }

    fn lay_out(&mut self, constant_tests: &[Conjunction]) {
        let bits = constant_tests.len();
        self.words = (0..bits.div_ceil(64)).map(|word| u64::MAX >> (64 - (bits - 64 * word).min(64))).collect();
        let mut slots: Vec<Slot> = constant_tests.iter().flatten().map(|test| test.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let of_slot = |test: &&Test| test.slot == slot;
            let mut steps: Vec<f64> = constant_tests.iter().flatten().filter(of_slot).flat_map(Test::steps).collect();
            steps.sort_unstable_by(f64::total_cmp);
            steps.dedup();
            let first_row = self.rows.len() / self.words.len();
            // Each piece is as good as its first value.
            for value in [f64::NAN, f64::NEG_INFINITY].iter().chain(&steps) {
                let passes = |tests: &Conjunction| tests.iter().filter(of_slot).all(|test| test.holds_for(*value));
                self.rows.extend(constant_tests.chunks(64).map(|bits| {
                    bits.iter().zip(0..).fold(0, |row, (tests, bit)| row | u64::from(passes(tests)) << bit)
                }));
            }
            let first = self.steps.len() as u32;
            for chunk in steps.chunks(BLOCK) {
                let mut block = [f64::NAN; BLOCK];
                block[..chunk.len()].copy_from_slice(chunk);
                self.steps.push(block);
            }
            let steps = first..self.steps.len() as u32;
            self.columns.push(Column { slot, steps, first_row: first_row as u32 });
        }
    }

    /// Calls `fired` with the number of every condition that holds, in order.
    #[inline]
    pub(super) fn run(&self, features: &FeatureVector, mut fired: impl FnMut(usize)) {
        // Where in `rows` each column's row begins; there are no more columns than features.
        let mut rows = [0_usize; SLOTS];
        for (row, column) in rows.iter_mut().zip(&self.columns) {
            let value = features.get(column.slot);
            let mut piece = u32::from(!value.is_nan());
            let steps = self.steps.get(column.steps.start as usize..column.steps.end as usize);
            for block in steps.unwrap_or_default() {
                for step in block {
                    piece += u32::from(value >= *step);
                }
            }
            *row = (column.first_row + piece) as usize * self.words.len();
        }
        let mut last = None;
        for (word, all) in self.words.iter().enumerate() {
            let mut left = *all;
            for row in rows.iter().take(self.columns.len()) {
                // invariant: `lay_out` made every row that can be counted to.
                left &= self.rows.get(row + word).copied().unwrap_or_default();
            }
            while left != 0 {
                let bit = self.bits.get(64 * word + left.trailing_zeros() as usize);
                left &= left - 1;
                // One conjunction of a condition is enough.
                if let Some(bit) = bit
                    && last != Some(bit.condition)
                    && bit.rest.holds(features)
                {
                    last = Some(bit.condition);
                    fired(bit.condition as usize);
                }
            }
        }
    }

    /// How many conditions run without a closure, for tests.
    #[cfg(test)]
    pub(super) fn in_table(&self) -> usize {
        let mut conditions: Vec<u32> =
            self.bits.iter().filter(|bit| !matches!(bit.rest, Rest::Closure(_))).map(|bit| bit.condition).collect();
        conditions.dedup();
        conditions.len()
    }
}

impl Rest {
    #[inline]
    fn holds(&self, features: &FeatureVector) -> bool {
        match self {
            Self::Nothing => true,
            Self::Tests(tests) => tests.iter().all(|test| test.holds(features)),
            Self::Closure(predicate) => predicate(features) == Some(true),
        }
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Tests(_) => "Tests",
            Self::Closure(_) => "Closure",
        })
    }
}

//! A condition after type checking: three kinds of expression, one per type, over feature slots.
//!
//! Evaluation, wherever it is done, follows these rules. Integers are 64 bits; overflow, division by zero and `int()` of
//! what no integer holds have no value. Doubles follow IEEE 754; a feature that is absent is NaN, with which every
//! comparison is false, `!=` included. `&&`, `||` and `?:` look at a side without a value only where the other side does
//! not decide. A condition without a value does not fire.

use crate::features::Slot;

/// How two numbers may stand to each other for a comparison to hold: one bit each for unordered, less, equal, greater.
///
/// Keeping a comparison as the set of cases in which it holds makes its negation the complement, absent values included,
/// and its evaluation free of branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cases(pub u8);

impl Cases {
    pub(super) const LESS: Self = Self(0b0010);
    pub(super) const EQUAL: Self = Self(0b0100);
    pub(super) const GREATER: Self = Self(0b1000);
    pub(super) const LESS_OR_EQUAL: Self = Self(0b0110);
    pub(super) const GREATER_OR_EQUAL: Self = Self(0b1100);
    pub(super) const NOT_EQUAL: Self = Self(0b1010);

    /// The cases in which this comparison does not hold.
    pub(super) const fn negated(self) -> Self {
        Self(!self.0 & 0b1111)
    }

    /// The same comparison with its sides exchanged.
    pub(super) const fn mirrored(self) -> Self {
        Self(self.0 & 0b0101 | (self.0 & 0b0010) << 2 | (self.0 & 0b1000) >> 2)
    }

    /// Whether it holds between `a` and `b`.
    #[inline]
    pub(super) fn hold<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        let case = u8::from(a < b) + 2 * u8::from(a == b) + 3 * u8::from(a > b);
        self.0 >> case & 1 == 1
    }
}

/// Arithmetic on two numbers of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Integers only.
    Remainder,
}

/// An expression that is true or false.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum BoolExpr {
    Constant(bool),
    Feature(Slot),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    CompareInt(Cases, Box<IntExpr>, Box<IntExpr>),
    CompareDouble(Cases, Box<DoubleExpr>, Box<DoubleExpr>),
    Same(Box<Self>, Box<Self>),
    If(Box<Self>, Box<Self>, Box<Self>),
}

/// An expression that is a whole number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum IntExpr {
    Constant(i64),
    Feature(Slot),
    Negative(Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    FromDouble(Box<DoubleExpr>),
    If(Box<BoolExpr>, Box<Self>, Box<Self>),
}

/// An expression that is a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DoubleExpr {
    Constant(f64),
    /// A feature of type double, or one of type int under `double()`: slots hold both alike.
    Feature(Slot),
    Negative(Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    FromInt(Box<IntExpr>),
    If(Box<BoolExpr>, Box<Self>, Box<Self>),
}

/// An expression of any type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Bool(BoolExpr),
    Int(IntExpr),
    Double(DoubleExpr),
}

impl Typed {
    /// The CEL name of its type.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
        }
    }
}

impl Arithmetic {
    /// On integers; `None` on overflow and division by zero.
    pub(super) fn on_ints(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            Self::Remainder => a.checked_rem(b),
        }
    }

    /// On doubles, as IEEE 754 says.
    #[inline]
    pub(super) fn on_doubles(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            // The type checker lets no double get here.
            Self::Remainder => f64::NAN,
        }
    }
}

/// The whole number that a double holds after cutting off its fraction; `None` for NaN and what i64 cannot hold.
pub(super) fn int_of(value: f64) -> Option<i64> {
    // Both bounds are exact: -2^63 is in, 2^63 is out.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_and_their_complements() {
        let named = [
            (Cases::LESS, [false, true, false, false]),
            (Cases::EQUAL, [false, false, true, false]),
            (Cases::GREATER, [false, false, false, true]),
            (Cases::LESS_OR_EQUAL, [false, true, true, false]),
            (Cases::GREATER_OR_EQUAL, [false, false, true, true]),
            (Cases::NOT_EQUAL, [false, true, false, true]),
        ];
        let pairs = [(f64::NAN, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 2.0)];
        for (cases, expected) in named {
            for ((a, b), holds) in pairs.iter().zip(expected) {
                assert_eq!(cases.hold(a, b), holds, "{cases:?} {a} {b}");
                assert_eq!(cases.negated().hold(a, b), !holds, "not {cases:?} {a} {b}");
                assert_eq!(cases.mirrored().hold(b, a), holds, "mirrored {cases:?} {a} {b}");
            }
        }
    }

    #[test]
    fn ints_of_doubles() {
        for (value, expected) in [
            (1.9, Some(1)),
            (-1.9, Some(-1)),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (9_223_372_036_854_775_808.0, None),
            (-9_223_372_036_854_775_808.0, Some(i64::MIN)),
        ] {
            assert_eq!(int_of(value), expected, "{value}");
        }
    }
}

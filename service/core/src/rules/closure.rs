//! The general form of conditions: closures over typed slots, for what the flat table cannot hold.
//!
//! Each closure gives `None` where its expression has no value (see `expr`).

use super::expr::{BoolExpr, DoubleExpr, IntExpr, int_of};
use crate::features::FeatureVector;

/// A compiled expression.
type Compiled<T> = Box<dyn Fn(&FeatureVector) -> Option<T> + Send + Sync>;

/// A compiled condition.
pub(super) type Predicate = Compiled<bool>;

/// Compiles a condition.
pub(super) fn compile(expr: &BoolExpr) -> Predicate {
    match expr {
        BoolExpr::Constant(value) => constant(*value),
        BoolExpr::Feature(slot) => {
            let slot = *slot;
            Box::new(move |features| Some(features.get(slot) == 1.0))
        }
        BoolExpr::Not(inner) => {
            let inner = compile(inner);
            Box::new(move |features| inner(features).map(|value| !value))
        }
        BoolExpr::All(sides) => all_equal(sides, true),
        BoolExpr::Any(sides) => all_equal(sides, false),
        BoolExpr::CompareInt(cases, a, b) => {
            let (cases, a, b) = (*cases, compile_int(a), compile_int(b));
            Box::new(move |features| Some(cases.hold(&a(features)?, &b(features)?)))
        }
        BoolExpr::CompareDouble(cases, a, b) => {
            let (cases, a) = (*cases, compile_double(a));
            if let DoubleExpr::Constant(right) = **b {
                return Box::new(move |features| Some(cases.hold(&a(features)?, &right)));
            }
            let b = compile_double(b);
            Box::new(move |features| Some(cases.hold(&a(features)?, &b(features)?)))
        }
        BoolExpr::Same(a, b) => {
            let (a, b) = (compile(a), compile(b));
            Box::new(move |features| Some(a(features)? == b(features)?))
        }
        BoolExpr::If(test, yes, no) => choose(compile(test), compile(yes), compile(no)),
    }
}

fn constant<T: Copy + Send + Sync + 'static>(value: T) -> Compiled<T> {
    Box::new(move |_| Some(value))
}

fn choose<T: 'static>(test: Predicate, yes: Compiled<T>, no: Compiled<T>) -> Compiled<T> {
    Box::new(move |features| if test(features)? { yes(features) } else { no(features) })
}

/// `value` if every side is `value`; its opposite as soon as one side is; nothing if that hangs on a side without a
/// value.
fn all_equal(sides: &[BoolExpr], value: bool) -> Predicate {
    let sides: Vec<Predicate> = sides.iter().map(compile).collect();
    Box::new(move |features| {
        let mut result = Some(value);
        for side in &sides {
            match side(features) {
                Some(found) if found == value => {}
                Some(found) => return Some(found),
                None => result = None,
            }
        }
        result
    })
}

fn compile_int(expr: &IntExpr) -> Compiled<i64> {
    match expr {
        IntExpr::Constant(value) => constant(*value),
        IntExpr::Feature(slot) => {
            let slot = *slot;
            Box::new(move |features| int_of(features.get(slot)))
        }
        IntExpr::Negative(inner) => {
            let inner = compile_int(inner);
            Box::new(move |features| inner(features)?.checked_neg())
        }
        IntExpr::Arithmetic(operation, a, b) => {
            let (operation, a, b) = (*operation, compile_int(a), compile_int(b));
            Box::new(move |features| operation.on_ints(a(features)?, b(features)?))
        }
        IntExpr::FromDouble(inner) => {
            let inner = compile_double(inner);
            Box::new(move |features| int_of(inner(features)?))
        }
        IntExpr::If(test, yes, no) => choose(compile(test), compile_int(yes), compile_int(no)),
    }
}

fn compile_double(expr: &DoubleExpr) -> Compiled<f64> {
    match expr {
        DoubleExpr::Constant(value) => constant(*value),
        DoubleExpr::Feature(slot) => {
            let slot = *slot;
            Box::new(move |features| Some(features.get(slot)))
        }
        DoubleExpr::Negative(inner) => {
            let inner = compile_double(inner);
            Box::new(move |features| inner(features).map(|value| -value))
        }
        DoubleExpr::Arithmetic(operation, a, b) => {
            let (operation, a, b) = (*operation, compile_double(a), compile_double(b));
            Box::new(move |features| Some(operation.on_doubles(a(features)?, b(features)?)))
        }
        DoubleExpr::FromInt(inner) => {
            let inner = compile_int(inner);
            Box::new(move |features| inner(features).map(|value| value as f64))
        }
        DoubleExpr::If(test, yes, no) => choose(compile(test), compile_double(yes), compile_double(no)),
    }
}

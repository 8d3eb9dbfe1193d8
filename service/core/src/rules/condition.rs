//! Checks a condition against the feature catalogue: names, types, and what of CEL rules may use.
//!
//! Only what rules need is let in (DESIGN 8): features, literals, arithmetic, comparisons, logic, `?:`, `in [...]`,
//! `double()` and `int()`. Everything else of CEL is refused with its place.

use super::diagnostic::{Faults, nearest, quoted};
use super::expr::{Arithmetic, BoolExpr, Cases, DoubleExpr, IntExpr, Typed};
use super::syntax;
use super::yaml::Scalar;
use crate::features::{CATALOGUE, FeatureType, Slot, lookup};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};

/// A condition that type-checks.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub expr: BoolExpr,
    /// The features that it reads, each once, in order.
    pub reads: Vec<Slot>,
}

/// Reads a condition; notes every fault.
pub(super) fn read(scalar: &Scalar<'_>, faults: &mut Faults<'_>) -> Option<Condition> {
    let (tree, positions) = syntax::parse(scalar, faults)?;
    let mut checker = Checker { scalar, positions, faults, reads: Vec::new() };
    let expr = match checker.check(&tree)? {
        Typed::Bool(expr) => expr,
        other => {
            let message = format!("expected a condition that is true or false, found {}", other.type_name());
            checker.fault::<()>(&tree, message);
            return None;
        }
    };
    let mut reads = checker.reads;
    reads.sort_unstable();
    reads.dedup();
    Some(Condition { expr, reads })
}

struct Checker<'c, 's, 'f, 'p> {
    scalar: &'c Scalar<'s>,
    positions: SourceInfo,
    faults: &'f mut Faults<'p>,
    reads: Vec<Slot>,
}

impl Checker<'_, '_, '_, '_> {
    /// Notes a fault at a node. The result is always `None`, what a check that failed gives.
    fn fault<T>(&mut self, node: &IdedExpr, message: impl Into<String>) -> Option<T> {
        let mut offset = self.positions.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        // A call stands at its parenthesis for the parser; people look for its name.
        if let Expr::Call(CallExpr { func_name, target: None, .. }) = &node.expr
            && self.scalar.text.get(..offset).is_some_and(|before| before.ends_with(func_name.as_str()))
        {
            offset -= func_name.len();
        }
        self.faults.add(self.scalar.place_of(offset), message);
        None
    }

    fn check(&mut self, node: &IdedExpr) -> Option<Typed> {
        match &node.expr {
            Expr::Ident(name) => self.feature(node, name),
            Expr::Literal(literal) => self.literal(node, literal),
            Expr::Call(call) => self.call(node, call),
            Expr::List(_) => self.fault(node, "expected a list only after `in`"),
            Expr::Select(_) => {
                self.fault(node, "expected a feature, found a field with `.`; features have plain names")
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => {
                self.fault(node, "expected features, numbers and operators, found what conditions do not support")
            }
        }
    }

    fn feature(&mut self, node: &IdedExpr, name: &str) -> Option<Typed> {
        let Some((slot, spec)) = lookup(name) else {
            let near = nearest(name, CATALOGUE.iter().map(|spec| spec.name));
            let near = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            return self.fault(node, format!("unknown feature {}{near}", quoted(name)));
        };
        self.reads.push(slot);
        Some(match spec.kind {
            FeatureType::Bool => Typed::Bool(BoolExpr::Feature(slot)),
            FeatureType::Int => Typed::Int(IntExpr::Feature(slot)),
            FeatureType::Double => Typed::Double(DoubleExpr::Feature(slot)),
        })
    }

    fn literal(&mut self, node: &IdedExpr, literal: &LiteralValue) -> Option<Typed> {
        match literal {
            LiteralValue::Boolean(value) => Some(Typed::Bool(BoolExpr::Constant(*value.inner()))),
            LiteralValue::Int(value) => Some(Typed::Int(IntExpr::Constant(*value.inner()))),
            LiteralValue::Double(value) => Some(Typed::Double(DoubleExpr::Constant(*value.inner()))),
            LiteralValue::UInt(value) => {
                self.fault(node, format!("expected an int, found an unsigned one; write {}", value.inner()))
            }
            LiteralValue::String(_) | LiteralValue::Bytes(_) => {
                self.fault(node, "expected a number, true or false, found a text; no feature is a text")
            }
            LiteralValue::Null => self.fault(
                node,
                "expected a number, true or false, found null; every comparison with an absent feature is false",
            ),
        }
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Option<Typed> {
        let name = call.func_name.as_str();
        if call.target.is_some() {
            return self.fault(node, format!("unknown function {name}; conditions have double() and int() only"));
        }
        match (name, call.args.as_slice()) {
            (operators::LOGICAL_AND, args) => self.all_bool(args, "&&").map(|sides| Typed::Bool(join(sides, true))),
            (operators::LOGICAL_OR, args) => self.all_bool(args, "||").map(|sides| Typed::Bool(join(sides, false))),
            (operators::LOGICAL_NOT, [side]) => {
                let side = self.bool_side(side, "!")?;
                Some(Typed::Bool(BoolExpr::Not(Box::new(side))))
            }
            (operators::NEGATE, [side]) => self.negative(side),
            (operators::CONDITIONAL, [test, yes, no]) => self.conditional(node, test, yes, no),
            (operators::IN, [item, list]) => self.membership(item, list),
            ("double", [side]) => self.double_of(side),
            ("int", [side]) => self.int_of(side),
            ("double" | "int", args) => {
                self.fault(node, format!("expected one argument of {name}(), found {}", args.len()))
            }
            (_, [left, right]) => match (comparison(name), arithmetic(name)) {
                (Some((cases, sign)), _) => self.compare(node, cases, sign, left, right),
                (_, Some((operation, sign))) => self.calculate(node, operation, sign, left, right),
                _ => self.unknown_call(node, name),
            },
            _ => self.unknown_call(node, name),
        }
    }

    fn unknown_call(&mut self, node: &IdedExpr, name: &str) -> Option<Typed> {
        let shown = if name == operators::INDEX { "[...] after a value" } else { name };
        self.fault(node, format!("unknown function {shown}; conditions have double() and int() only"))
    }

    fn all_bool(&mut self, args: &[IdedExpr], sign: &str) -> Option<Vec<BoolExpr>> {
        let sides: Vec<_> = args.iter().map(|side| self.bool_side(side, sign)).collect();
        sides.into_iter().collect()
    }

    fn bool_side(&mut self, side: &IdedExpr, sign: &str) -> Option<BoolExpr> {
        match self.check(side)? {
            Typed::Bool(expr) => Some(expr),
            other => self.fault(side, format!("expected true or false beside {sign}, found {}", other.type_name())),
        }
    }

    fn negative(&mut self, side: &IdedExpr) -> Option<Typed> {
        match self.check(side)? {
            Typed::Int(expr) => Some(Typed::Int(IntExpr::Negative(Box::new(expr)))),
            Typed::Double(DoubleExpr::Constant(value)) => Some(Typed::Double(DoubleExpr::Constant(-value))),
            Typed::Double(expr) => Some(Typed::Double(DoubleExpr::Negative(Box::new(expr)))),
            Typed::Bool(_) => self.fault(side, "expected a number after -, found bool"),
        }
    }

    fn conditional(&mut self, node: &IdedExpr, test: &IdedExpr, yes: &IdedExpr, no: &IdedExpr) -> Option<Typed> {
        let (test, sides) = (self.bool_side(test, "?"), (self.check(yes), self.check(no)));
        let test = Box::new(test?);
        match (sides.0?, sides.1?) {
            (Typed::Bool(a), Typed::Bool(b)) => Some(Typed::Bool(BoolExpr::If(test, Box::new(a), Box::new(b)))),
            (Typed::Int(a), Typed::Int(b)) => Some(Typed::Int(IntExpr::If(test, Box::new(a), Box::new(b)))),
            (Typed::Double(a), Typed::Double(b)) => Some(Typed::Double(DoubleExpr::If(test, Box::new(a), Box::new(b)))),
            (a, b) => self.mismatch(node, "?:", &a, &b, yes, no),
        }
    }

    fn double_of(&mut self, side: &IdedExpr) -> Option<Typed> {
        match self.check(side)? {
            Typed::Int(IntExpr::Feature(slot)) => Some(Typed::Double(DoubleExpr::Feature(slot))),
            Typed::Int(expr) => Some(Typed::Double(DoubleExpr::FromInt(Box::new(expr)))),
            Typed::Double(expr) => Some(Typed::Double(expr)),
            Typed::Bool(_) => self.fault(side, "expected a number in double(), found bool"),
        }
    }

    fn int_of(&mut self, side: &IdedExpr) -> Option<Typed> {
        match self.check(side)? {
            Typed::Int(expr) => Some(Typed::Int(expr)),
            Typed::Double(expr) => Some(Typed::Int(IntExpr::FromDouble(Box::new(expr)))),
            Typed::Bool(_) => self.fault(side, "expected a number in int(), found bool"),
        }
    }

    fn compare(
        &mut self,
        node: &IdedExpr,
        cases: Cases,
        sign: &str,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Option<Typed> {
        let sides = (self.check(left), self.check(right));
        match (sides.0?, sides.1?) {
            (Typed::Bool(a), Typed::Bool(b)) => {
                let same = BoolExpr::Same(Box::new(a), Box::new(b));
                match cases {
                    Cases::EQUAL => Some(Typed::Bool(same)),
                    Cases::NOT_EQUAL => Some(Typed::Bool(BoolExpr::Not(Box::new(same)))),
                    _ => self.fault(node, format!("expected numbers beside {sign}, found bool")),
                }
            }
            (Typed::Int(a), Typed::Int(b)) => Some(Typed::Bool(BoolExpr::CompareInt(cases, Box::new(a), Box::new(b)))),
            (Typed::Double(a), Typed::Double(b)) => {
                Some(Typed::Bool(BoolExpr::CompareDouble(cases, Box::new(a), Box::new(b))))
            }
            (a, b) => self.mismatch(node, sign, &a, &b, left, right),
        }
    }

    fn calculate(
        &mut self,
        node: &IdedExpr,
        operation: Arithmetic,
        sign: &str,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Option<Typed> {
        let sides = (self.check(left), self.check(right));
        match (sides.0?, sides.1?) {
            (Typed::Int(a), Typed::Int(b)) => {
                Some(Typed::Int(IntExpr::Arithmetic(operation, Box::new(a), Box::new(b))))
            }
            (Typed::Double(_), Typed::Double(_)) if operation == Arithmetic::Remainder => {
                self.fault(node, "expected ints beside %, found double")
            }
            (Typed::Double(a), Typed::Double(b)) => {
                Some(Typed::Double(DoubleExpr::Arithmetic(operation, Box::new(a), Box::new(b))))
            }
            (Typed::Bool(_), Typed::Bool(_)) => self.fault(node, format!("expected numbers beside {sign}, found bool")),
            (a, b) => self.mismatch(node, sign, &a, &b, left, right),
        }
    }

    /// `x in [a, b]` is `x == a || x == b`.
    fn membership(&mut self, item: &IdedExpr, list: &IdedExpr) -> Option<Typed> {
        let typed = self.check(item);
        let Expr::List(list_expr) = &list.expr else {
            return self.fault(list, "expected a list such as [1, 2, 3] after `in`");
        };
        if list_expr.elements.is_empty() {
            return self.fault(list, "expected at least one value in the list");
        }
        let elements: Vec<_> = list_expr.elements.iter().map(|element| (element, self.check(element))).collect();
        let typed = typed?;
        let mut any = Vec::with_capacity(elements.len());
        let mut complete = true;
        for (element, value) in elements {
            let same = match (&typed, value) {
                (_, None) => None,
                (_, Some(value)) if !is_constant(&value) => self.fault(element, "expected a literal in the list"),
                (Typed::Bool(a), Some(Typed::Bool(b))) => Some(BoolExpr::Same(Box::new(a.clone()), Box::new(b))),
                (Typed::Int(a), Some(Typed::Int(b))) => {
                    Some(BoolExpr::CompareInt(Cases::EQUAL, Box::new(a.clone()), Box::new(b)))
                }
                (Typed::Double(a), Some(Typed::Double(b))) => {
                    Some(BoolExpr::CompareDouble(Cases::EQUAL, Box::new(a.clone()), Box::new(b)))
                }
                (a, Some(b)) => {
                    self.mismatch(element, "in", a, &b, item, element);
                    None
                }
            };
            complete &= same.is_some();
            any.extend(same);
        }
        complete.then_some(Typed::Bool(BoolExpr::Any(any)))
    }

    /// Notes that two sides have different types, at the literal if one of them is, with what to write instead.
    fn mismatch(
        &mut self,
        node: &IdedExpr,
        sign: &str,
        a: &Typed,
        b: &Typed,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Option<Typed> {
        let (expected, literal) = match (literal_number(a), literal_number(b)) {
            (_, Some(literal)) => (a, Some((right, literal))),
            (Some(literal), None) => (b, Some((left, literal))),
            (None, None) => (a, None),
        };
        let types = (a.type_name(), b.type_name());
        match (expected, literal) {
            (Typed::Double(_), Some((at, Number::Int(value)))) => {
                self.fault(at, format!("expected a double beside {sign}, found int {value}; write {value}.0"))
            }
            (Typed::Int(_), Some((at, Number::Double(value)))) if value.fract() == 0.0 && value.abs() < 1e15 => {
                self.fault(at, format!("expected an int beside {sign}, found double {value:?}; write {value:.0}"))
            }
            (Typed::Int(_), Some((at, Number::Double(value)))) => self.fault(
                at,
                format!("expected an int beside {sign}, found double {value:?}; write double(...) around the int"),
            ),
            _ if types == ("int", "double") || types == ("double", "int") => self.fault(
                node,
                format!(
                    "expected one type on both sides of {sign}, found {} and {}; write double(...) around the int",
                    types.0, types.1
                ),
            ),
            _ => self
                .fault(node, format!("expected one type on both sides of {sign}, found {} and {}", types.0, types.1)),
        }
    }
}

/// A literal number, for messages.
enum Number {
    Int(i64),
    Double(f64),
}

fn literal_number(typed: &Typed) -> Option<Number> {
    match typed {
        Typed::Int(IntExpr::Constant(value)) => Some(Number::Int(*value)),
        Typed::Double(DoubleExpr::Constant(value)) => Some(Number::Double(*value)),
        _ => None,
    }
}

fn is_constant(typed: &Typed) -> bool {
    match typed {
        Typed::Bool(expr) => matches!(expr, BoolExpr::Constant(_)),
        Typed::Int(IntExpr::Negative(inner)) => matches!(**inner, IntExpr::Constant(_)),
        Typed::Int(expr) => matches!(expr, IntExpr::Constant(_)),
        Typed::Double(expr) => matches!(expr, DoubleExpr::Constant(_)),
    }
}

/// One conjunction or disjunction of all sides, without the parser's balanced nesting.
fn join(sides: Vec<BoolExpr>, all: bool) -> BoolExpr {
    let mut flat = Vec::with_capacity(sides.len());
    for side in sides {
        match side {
            BoolExpr::All(inner) if all => flat.extend(inner),
            BoolExpr::Any(inner) if !all => flat.extend(inner),
            other => flat.push(other),
        }
    }
    if all { BoolExpr::All(flat) } else { BoolExpr::Any(flat) }
}

fn comparison(name: &str) -> Option<(Cases, &'static str)> {
    Some(match name {
        operators::EQUALS => (Cases::EQUAL, "=="),
        operators::NOT_EQUALS => (Cases::NOT_EQUAL, "!="),
        operators::LESS => (Cases::LESS, "<"),
        operators::LESS_EQUALS => (Cases::LESS_OR_EQUAL, "<="),
        operators::GREATER => (Cases::GREATER, ">"),
        operators::GREATER_EQUALS => (Cases::GREATER_OR_EQUAL, ">="),
        _ => return None,
    })
}

fn arithmetic(name: &str) -> Option<(Arithmetic, &'static str)> {
    Some(match name {
        operators::ADD => (Arithmetic::Add, "+"),
        operators::SUBSTRACT => (Arithmetic::Subtract, "-"),
        operators::MULTIPLY => (Arithmetic::Multiply, "*"),
        operators::DIVIDE => (Arithmetic::Divide, "/"),
        operators::MODULO => (Arithmetic::Remainder, "%"),
        _ => return None,
    })
}

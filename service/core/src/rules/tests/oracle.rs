//! Compiled conditions against two oracles that know nothing of them: a naive walk over the parsed tree, and the `cel`
//! crate's own interpreter.

use super::{compile, fires, with_condition};
use crate::features::{CATALOGUE, FeatureType, FeatureVector, SLOTS};
use cel::common::ast::{Expr, LiteralValue};
use cel::{Context, Env, IdedExpr, Program, Value};
use proptest::prelude::*;

/// A value of the naive walk; an error is `None` around it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Naive {
    Bool(bool),
    Int(i64),
    Double(f64),
}

fn walk(node: &IdedExpr, features: &FeatureVector) -> Option<Naive> {
    use Naive::{Bool, Double, Int};
    let sub = |node: &IdedExpr| walk(node, features);
    match &node.expr {
        Expr::Ident(name) => {
            let value = features.named(name).expect("a feature");
            let spec = CATALOGUE.iter().find(|spec| spec.name == name).expect("a feature");
            Some(match spec.kind {
                FeatureType::Bool => Bool(value != 0.0),
                FeatureType::Int => Int(value as i64),
                FeatureType::Double => Double(value),
            })
        }
        Expr::Literal(LiteralValue::Boolean(value)) => Some(Bool(*value.inner())),
        Expr::Literal(LiteralValue::Int(value)) => Some(Int(*value.inner())),
        Expr::Literal(LiteralValue::Double(value)) => Some(Double(*value.inner())),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            ("_&&_", [a, b]) => match (sub(a), sub(b)) {
                (Some(Bool(false)), _) | (_, Some(Bool(false))) => Some(Bool(false)),
                (Some(_), Some(_)) => Some(Bool(true)),
                _ => None,
            },
            ("_||_", [a, b]) => match (sub(a), sub(b)) {
                (Some(Bool(true)), _) | (_, Some(Bool(true))) => Some(Bool(true)),
                (Some(_), Some(_)) => Some(Bool(false)),
                _ => None,
            },
            ("_?_:_", [test, yes, no]) => match sub(test)? {
                Bool(true) => sub(yes),
                _ => sub(no),
            },
            ("@in", [item, list]) => {
                let item = sub(item)?;
                let Expr::List(list) = &list.expr else { panic!("a list") };
                Some(Bool(list.elements.iter().any(|element| sub(element) == Some(item))))
            }
            ("!_", [a]) => match sub(a)? {
                Bool(value) => Some(Bool(!value)),
                _ => panic!("a bool"),
            },
            ("-_", [a]) => match sub(a)? {
                Int(value) => value.checked_neg().map(Int),
                Double(value) => Some(Double(-value)),
                Bool(_) => panic!("a number"),
            },
            ("double", [a]) => match sub(a)? {
                Int(value) => Some(Double(value as f64)),
                other => Some(other),
            },
            ("int", [a]) => match sub(a)? {
                Double(value) if value.abs() < 9.2e18 => Some(Int(value.trunc() as i64)),
                Double(_) => None,
                other => Some(other),
            },
            (name, [a, b]) => binary(name, sub(a)?, sub(b)?),
            other => panic!("unknown call {other:?}"),
        },
        other => panic!("unknown expression {other:?}"),
    }
}

fn binary(name: &str, a: Naive, b: Naive) -> Option<Naive> {
    use Naive::{Bool, Double, Int};
    match (a, b) {
        (Int(a), Int(b)) => Some(match name {
            "_+_" => Int(a.checked_add(b)?),
            "_-_" => Int(a.checked_sub(b)?),
            "_*_" => Int(a.checked_mul(b)?),
            "_/_" => Int(a.checked_div(b)?),
            "_%_" => Int(a.checked_rem(b)?),
            _ => Bool(compared(name, a.cmp(&b))),
        }),
        (Double(a), Double(b)) => Some(match name {
            "_+_" => Double(a + b),
            "_-_" => Double(a - b),
            "_*_" => Double(a * b),
            "_/_" => Double(a / b),
            _ => Bool(a.partial_cmp(&b).is_some_and(|order| compared(name, order))),
        }),
        (a, b) => Some(Bool(if name == "_==_" { a == b } else { a != b })),
    }
}

fn compared(name: &str, order: std::cmp::Ordering) -> bool {
    match name {
        "_==_" => order.is_eq(),
        "_!=_" => order.is_ne(),
        "_<_" => order.is_lt(),
        "_<=_" => order.is_le(),
        "_>_" => order.is_gt(),
        "_>=_" => order.is_ge(),
        _ => panic!("unknown operator {name}"),
    }
}

/// Values that meet each other often, so that boundaries are hit.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0_i64..4, 1 => Just(500), 1 => Just(i64::MAX)]
}

fn name_of(kind: FeatureType) -> impl Strategy<Value = String> {
    let names: Vec<&str> = CATALOGUE.iter().filter(|spec| spec.kind == kind).map(|spec| spec.name).collect();
    prop::sample::select(names).prop_map(str::to_owned)
}

/// Text of an expression of each type: bool, int, double.
fn expression(depth: u32) -> (BoxedStrategy<String>, BoxedStrategy<String>, BoxedStrategy<String>) {
    let feature = |kind| name_of(kind).boxed();
    let bools =
        prop_oneof![4 => feature(FeatureType::Bool), 1 => Just("true".to_owned()), 1 => Just("false".to_owned())]
            .boxed();
    let ints = prop_oneof![3 => feature(FeatureType::Int), 2 => number().prop_map(|n| n.to_string())].boxed();
    let doubles = prop_oneof![3 => feature(FeatureType::Double), 2 => (0..8_u32).prop_map(|n| format!("{:?}", f64::from(n) / 2.0))].boxed();
    if depth == 0 {
        return (bools, ints, doubles);
    }
    let (b, i, d) = expression(depth - 1);
    let signs = || prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let arithmetic = |signs: Vec<&'static str>, side: &BoxedStrategy<String>| {
        (side.clone(), prop::sample::select(signs), side.clone()).prop_map(|(a, s, c)| format!("({a} {s} {c})")).boxed()
    };
    let ternary = |side: &BoxedStrategy<String>| {
        (b.clone(), side.clone(), side.clone()).prop_map(|(t, a, c)| format!("({t} ? {a} : {c})")).boxed()
    };
    let some_bool = prop_oneof![
        1 => bools,
        3 => (i.clone(), signs(), i.clone()).prop_map(|(a, s, c)| format!("{a} {s} {c}")),
        3 => (d.clone(), signs(), d.clone()).prop_map(|(a, s, c)| format!("{a} {s} {c}")),
        1 => (i.clone(), prop::collection::vec(-2..4_i64, 1..4)).prop_map(|(a, list)| format!("{a} in {list:?}")),
        1 => (b.clone(), prop::sample::select(vec!["==", "!="]), b.clone()).prop_map(|(a, s, c)| format!("({a}) {s} ({c})")),
        3 => prop::collection::vec(b.clone(), 2..4).prop_map(|sides| format!("({})", sides.join(" && "))),
        3 => prop::collection::vec(b.clone(), 2..4).prop_map(|sides| format!("({})", sides.join(" || "))),
        1 => b.clone().prop_map(|a| format!("!({a})")),
        1 => ternary(&b),
    ];
    let some_int = prop_oneof![
        3 => ints,
        2 => arithmetic(vec!["+", "-", "*", "/", "%"], &i),
        1 => i.clone().prop_map(|a| format!("-({a})")),
        1 => d.clone().prop_map(|a| format!("int({a})")),
        1 => ternary(&i),
    ];
    let some_double = prop_oneof![
        3 => doubles,
        2 => arithmetic(vec!["+", "-", "*", "/"], &d),
        1 => d.clone().prop_map(|a| format!("-({a})")),
        1 => i.clone().prop_map(|a| format!("double({a})")),
        1 => ternary(&d),
    ];
    (some_bool.boxed(), some_int.boxed(), some_double.boxed())
}

fn vector(absent: bool) -> impl Strategy<Value = FeatureVector> {
    prop::collection::vec((0..8_u8, 0..10_u8), SLOTS).prop_map(move |draws| {
        let mut vector = FeatureVector([0.0; SLOTS]);
        for ((slot, spec), (value, chance)) in vector.0.iter_mut().zip(&CATALOGUE).zip(draws) {
            *slot = match spec.kind {
                FeatureType::Bool => f64::from(value % 2),
                FeatureType::Int => f64::from(value / 2),
                FeatureType::Double if absent && chance == 0 => f64::NAN,
                FeatureType::Double => f64::from(value) / 2.0,
            };
        }
        vector
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn as_a_naive_walk(text in expression(3).0, vector in vector(true)) {
        prop_assume!(text.len() <= 2_000);
        let set = with_condition(&text).map_err(|faults| TestCaseError::fail(format!("{text}: {faults:?}")))?;
        let tree = Env::default().parser().parse(&text).expect("parsed before");
        prop_assert_eq!(fires(&set, &vector), walk(&tree, &vector) == Some(Naive::Bool(true)), "{}", text);
    }

    #[test]
    fn as_the_interpreter(text in expression(2).0, vector in vector(false)) {
        let set = with_condition(&text).expect("compiles");
        let program = Program::compile(&text).expect("parsed before");
        let mut context = Context::default();
        for (value, spec) in vector.0.iter().zip(&CATALOGUE) {
            let value = match spec.kind {
                FeatureType::Bool => Value::Bool(*value != 0.0),
                FeatureType::Int => Value::Int(*value as i64),
                FeatureType::Double => Value::Float(*value),
            };
            context.add_variable_from_value(spec.name, value);
        }
        // Arithmetic on ordinary values makes NaN of 0/0 only, where `!=` is true for CEL and false here.
        prop_assume!(!(text.contains('/') && text.contains("!=")));
        let expected = program.execute(&context).is_ok_and(|value| value == Value::Bool(true));
        prop_assert_eq!(fires(&set, &vector), expected, "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn many_together_as_each_alone(
        texts in prop::collection::vec(expression(2).0, 0..90),
        vectors in prop::collection::vec(vector(true), 4),
    ) {
        let rules: String = texts
            .iter()
            .enumerate()
            .map(|(n, text)| {
                format!(
                    "- id: r{n}\n  version: 1\n  when: '{text}'\n  outcome: review\n  reason: {{code: R, message: m}}\n"
                )
            })
            .collect();
        let rules = if rules.is_empty() { "rules: []".to_owned() } else { format!("rules:\n{rules}") };
        let set = compile(&rules).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        let trees: Vec<IdedExpr> =
            texts.iter().map(|text| Env::default().parser().parse(text).expect("parsed before")).collect();
        for vector in &vectors {
            let mut hits = Vec::new();
            set.evaluate(vector, &mut hits);
            let found: Vec<usize> = hits.iter().map(|hit| usize::from(hit.rule)).collect();
            let holds = |tree: &IdedExpr| walk(tree, vector) == Some(Naive::Bool(true));
            let expected: Vec<usize> =
                trees.iter().enumerate().filter(|(_, tree)| holds(tree)).map(|(n, _)| n).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

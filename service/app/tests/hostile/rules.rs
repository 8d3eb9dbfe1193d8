//! Rule sets, conditions in CEL, currencies and cases.

use crate::damage::damaged_text;
use crate::{bounded, compile, shipped, text};
use proptest::prelude::*;
use std::sync::LazyLock;
use verdict::rulebook::cases;
use verdict_core::features::{FeatureVector, SLOTS};
use verdict_core::rules::{RuleSet, SourceFile};

static RULES: LazyLock<RuleSet> = LazyLock::new(shipped);
static RULESET: LazyLock<String> = LazyLock::new(|| text("rules/default/ruleset.yaml"));
static FX: LazyLock<String> = LazyLock::new(|| text("rules/fx.yaml"));

/// Longest condition that is read.
const CONDITION_BYTES: usize = 2_000;

/// Whether a set compiles; one that does is run. Every fault has a place inside the file.
fn check(ruleset: &str, fx: &str) -> bool {
    match compile(ruleset, fx) {
        Ok(rules) => {
            let mut hits = Vec::new();
            for value in [0.0, 1e9, -1.0, f64::NAN, f64::INFINITY] {
                rules.evaluate(&FeatureVector([value; SLOTS]), &mut hits);
                assert!(hits.len() <= rules.rules().len());
            }
            true
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a set that does not compile says why");
            assert!(faults.len() < 200_000 && faults.iter().all(|fault| fault.to_string().len() < 10_000));
            false
        }
    }
}

/// A set with this condition in its first rule, whatever the text is.
fn with_condition(condition: &str) -> String {
    let quoted = serde_json::Value::from(condition).to_string();
    format!(
        "rules:\n  - id: r\n    version: 1\n    when: {quoted}\n    outcome: review\n    reason: {{code: R, message: \"m\"}}\n    mode: live\n{}",
        &RULESET[RULESET.find("policy:").expect("the shipped set has a policy")..]
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_rules_are_refused_or_run(ruleset in damaged_text(vec![RULESET.clone()])) {
        check(&ruleset, &FX);
    }

    #[test]
    fn damaged_currencies_are_refused_or_run(fx in damaged_text(vec![FX.clone()])) {
        check(&RULESET, &fx);
    }

    #[test]
    fn damaged_cases_are_refused_or_run(file in damaged_text(vec![text("rules/default/cases.yaml")])) {
        match cases::read(&SourceFile { path: "cases.yaml", text: &file }, &RULES) {
            Ok(read) => drop(cases::run(&RULES, &read)),
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn damaged_conditions_are_refused_or_run(condition in damaged_text(vec![
        "has_last_login && minutes_since_login <= 60.0 && miles_from_login > 500.0".to_owned(),
        "user_spend_today > 5000.0 || (user_count_1h >= 10 && hour_of_day in [1, 2, 3])".to_owned(),
        "double(user_count_24h) / (1.0 + user_sum_24h) > 0.5 ? is_weekend : !is_first_purchase".to_owned(),
        "int(amount) % 7 == -3 && -amount < 0.0".to_owned(),
    ])) {
        check(&with_condition(&condition), &FX);
    }
}

#[test]
fn the_deepest_conditions_fit_the_stack_and_take_no_time() {
    assert!(check(&with_condition("amount > 1.0"), &FX), "the frame around the conditions is right");
    let fill = |part: &str| part.repeat(CONDITION_BYTES / part.len());
    let around = |open: &str, middle: &str, close: &str| {
        let times = (CONDITION_BYTES - middle.len()) / (open.len() + close.len());
        open.repeat(times) + middle + &close.repeat(times)
    };
    for condition in [
        fill("!"),
        fill("-"),
        fill("("),
        fill("["),
        fill("!(-("),
        fill("a."),
        fill("a["),
        fill("a("),
        fill("1+"),
        fill("1?1:"),
        fill("\""),
        fill("{1:"),
        fill("is_weekend?"),
        format!("{}is_weekend", "!".repeat(CONDITION_BYTES - 10)),
        format!("{}amount > 0.0", "-".repeat(CONDITION_BYTES - 12)),
        format!("{}amount > 0.0", "- ".repeat(CONDITION_BYTES / 2 - 6)),
        format!("{}is_weekend", "is_weekend&&".repeat(160)),
        format!("{}is_weekend", "is_weekend||!".repeat(150)),
        format!("{}amount > 0.0", "amount+".repeat(280)),
        format!("{}amount > 0.0", "amount*-".repeat(240)),
        format!("{}true", "is_weekend?true:".repeat(124)),
        format!("{}true{}", "is_weekend?".repeat(120), ":false".repeat(100)),
        format!("{}is_weekend", "is_weekend==".repeat(165)),
        format!("hour_of_day in [{}1]", "1,".repeat(990)),
        format!("({}1) in [{}1]", "1+".repeat(300), "1,".repeat(600)),
        around("(", "is_weekend", ")"),
        around("!(", "is_weekend", ")"),
        around("double(", "amount", ")"),
        around("int(double(", "1", "))"),
        around("[", "1", "]"),
        "x".repeat(CONDITION_BYTES),
        "9".repeat(CONDITION_BYTES),
        format!("amount > 0.{}1", "0".repeat(1_900)),
        "\u{10ffff}".repeat(CONDITION_BYTES / 4),
        fill("\n"),
        "(".repeat(1 << 20),
    ] {
        let shown = condition.chars().take(40).collect::<String>();
        let set = with_condition(&condition);
        bounded(&shown, || check(&set, &FX));
    }
}

#[test]
fn the_longest_files_take_no_time() {
    const LIMIT: usize = 1 << 20;
    let fill = |part: &str| part.repeat(LIMIT / part.len());
    let numbered = |part: &dyn Fn(usize) -> String| (0..8_000).map(part).collect::<String>();
    let laughs = (1..12).fold("a0: &a0 x\n".to_owned(), |all, at| {
        let before = format!("*a{}", at - 1);
        all + &format!("a{at}: &a{at} [{}]\n", [before.as_str(); 10].join(","))
    });
    for (what, file) in [
        ("aliases of aliases", laughs),
        ("deep lists", fill("[")),
        ("deep mappings", fill("{a: ")),
        ("deep indentation", (0..1_400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
        ("deep dashes", fill("- ")),
        ("many keys", numbered(&|at| format!("k{at}: 1\n"))),
        ("many equal keys", fill("k: 1\n")),
        (
            "many rules",
            format!(
                "rules:\n{}",
                "  - {id: r, version: 1, when: x, outcome: y, mode: z, reason: {code: c, message: m}}\n".repeat(8_000)
            ),
        ),
        ("a long key", format!("? {}\n: 1", "k".repeat(LIMIT - 10))),
        ("a long text", format!("a: \"{}\"", "\\n".repeat(LIMIT / 2 - 8))),
        ("an open quote", format!("a: \"{}", fill("x "))),
        ("a block", format!("a: |\n{}", fill("  x\n"))),
        ("many documents", fill("---\n")),
        ("many tags", fill("!a ")),
        ("many anchors", fill("&a ")),
        ("comments", fill("#\n")),
        ("tabs", fill("\t")),
        ("colons", fill(": ")),
        ("question marks", fill("? ")),
        ("byte order marks", fill("\u{feff}")),
        ("too long", "x".repeat(2 * LIMIT)),
    ] {
        let file = file.chars().take(LIMIT + 1).collect::<String>();
        let read = |file: &str| {
            assert!(!check(file, &FX), "{what} is no rule set");
            check(&RULESET, file);
            let cases = cases::read(&SourceFile { path: "cases.yaml", text: file }, &RULES);
            assert!(cases.is_err() || cases.is_ok_and(|cases| cases.is_empty()), "{what} is no case");
        };
        bounded(what, || read(&file));
    }
}

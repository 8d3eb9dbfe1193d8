//! Which sources compile, and where the faults of the others are.

use super::{compile, compile_with, features, fires, with_condition};
use proptest::prelude::*;

/// The rule set of the design document, verbatim.
const DESIGN: &str = r#"rules:
  - id: geo_anomaly
    version: 1
    when: has_last_login && minutes_since_login <= 60.0 && miles_from_login > 500.0
    outcome: review
    reason: {code: GEO_ANOMALY, message: "Geographic anomaly: {miles_from_login} miles from the last login"}
    mode: live            # live | shadow
  - id: daily_spend
    version: 1
    when: user_spend_today > 5000.0
    outcome: review
    reason: {code: DAILY_SPEND, message: "Daily spend threshold exceeded: {user_spend_today} USD today"}
policy:
  model_bands: [{above: 0.8, outcome: block, code: MODEL_HIGH_RISK}, {above: 0.5, outcome: review, code: MODEL_ELEVATED}]
  on_block: {list: user, ttl: 24h}
  fallback: {above_amount: "500.00", outcome: review, otherwise: approve}
"#;

#[test]
fn the_set_of_the_design() {
    let set = compile(DESIGN).expect("compiles");
    assert_eq!(set.rules().iter().map(|rule| &*rule.id).collect::<Vec<_>>(), ["geo_anomaly", "daily_spend"]);
    assert_eq!(set.program.in_table(), 2);
    assert_eq!(set.policy().block_user_ttl_ms, Some(86_400_000));
    assert_eq!(set.policy().fallback.above_minor, 50_000);
    assert_eq!(set.policy().model_bands.len(), 2);
    let far = [("has_last_login", 1.0), ("minutes_since_login", 60.0), ("miles_from_login", 500.1)];
    assert!(fires(&set, &features(&far)));
    assert!(!fires(&set, &features(&[far[0], far[1], ("miles_from_login", 500.0)])));
    assert!(!fires(&set, &features(&[far[0], ("minutes_since_login", 60.1), far[2]])));
    assert!(!fires(&set, &features(&[far[0], far[1], ("miles_from_login", f64::NAN)])));
}

#[test]
fn the_hash_covers_both_files() {
    let hash = |ruleset: &str, fx: &str| compile_with(ruleset, fx).expect("compiles").hash();
    let first = hash(DESIGN, super::FX);
    assert_eq!(first, hash(DESIGN, super::FX));
    assert_ne!(first, hash(&format!("{DESIGN}#"), super::FX));
    assert_ne!(first, hash(DESIGN, &format!("{}#", super::FX)));
}

#[test]
fn every_fault_at_once() {
    let ruleset = r#"
rules:
  - id: one
    version: 0
    when: user_cout_1h > 5 && amount > 5
    outcome: reviev
    reson: {code: ONE, message: "m"}
  - id: one
    version: 1
    when: |
      amount > 5.0
        && is_weekend > 3
    outcome: block
    reason: {code: lower, message: "{amont} of {hour_of_day"}
    mode: dark
policy:
  model_bands: [{above: 1.5, outcome: block, code: A}, {above: 0.5, outcome: approve, code: B}]
  on_block: {list: merchant, ttl: 24}
  fallback: {above_amount: "5.001", outcome: review}
  extra: 1
features: []
"#;
    let fx = "base: USD\nrates:\n  EURO: \"1.08\"\n  GBP: \"-1\"\n  JPY: abc\n  USD: \"1.1\"\n";
    let faults = compile_with(ruleset, fx).expect_err("has faults");
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "r.yaml:4:14: expected a version of 1 or more, found \"0\"",
        "r.yaml:5:11: unknown feature \"user_cout_1h\"; did you mean user_count_1h?",
        "r.yaml:5:40: expected a double beside >, found int 5; write 5.0",
        "r.yaml:6:14: expected outcome to be one of approve, challenge, review, block, found \"reviev\"; did you mean \"review\"?",
        "r.yaml:7:5: unknown key \"reson\" in a rule, expected id, version, when, outcome, reason, mode; did you mean \"reason\"?",
        "r.yaml:3:5: expected a value for \"reason\" in a rule, found none",
        "r.yaml:8:9: expected each id once, \"one\" is on line 3",
        "r.yaml:12:23: expected one type on both sides of >, found bool and int",
        "r.yaml:14:20: expected a code of capitals, digits and _ such as DAILY_SPEND",
        "r.yaml:14:38: expected a feature between braces, found \"amont\"; did you mean \"amount\"?",
        "r.yaml:14:48: expected a closing brace after a feature",
        "r.yaml:15:11: expected mode to be one of live, shadow",
        "r.yaml:17:25: expected a score of at least 0 and below 1, found \"1.5\"",
        "r.yaml:17:78: expected challenge, review or block",
        "r.yaml:18:20: expected list to be one of user, found \"merchant\"",
        "r.yaml:18:35: expected a duration such as 24h",
        "r.yaml:19:28: expected an amount in the base currency, found \"5.001\": expected at most 2 decimals",
        "r.yaml:19:13: expected a value for \"otherwise\" in fallback",
        "r.yaml:20:3: unknown key \"extra\" in policy",
        "r.yaml:21:11: expected no features section",
        "fx.yaml:3:3: expected an ISO 4217 currency in capitals such as USD, found \"EURO\"",
        "fx.yaml:4:8: expected a positive decimal",
        "fx.yaml:5:8: expected a positive decimal",
        "fx.yaml:6:3: expected no rate but 1 for the base currency USD",
    ];
    for part in expected {
        assert!(found.iter().any(|fault| fault.starts_with(part)), "{part}\nnot in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
    assert!(faults.is_sorted_by_key(|fault| (fault.path != "r.yaml", fault.line, fault.column)));
}

#[test]
fn faults_of_conditions() {
    // The condition begins at column 10 of line 4, after a quote.
    let check = |when: &str, column: usize, expected: &str| {
        let faults = with_condition(when).expect_err(when);
        let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let start = format!("r.yaml:4:{}: ", column + 9);
        assert!(
            faults
                .iter()
                .any(|fault| fault.line == 4 && fault.column == column + 9 && fault.message.contains(expected)),
            "{when}: no {start}{expected} in {found:?}"
        );
    };
    check("amount >", 9, "the end of the condition");
    check("amount > 5.0 and is_weekend", 14, "write && for and");
    check("amount = 5.0", 8, "write == to compare");
    check("amount", 1, "true or false, found double");
    check("user_count_1h > 5.0", 17, "expected an int beside >, found double 5.0; write 5");
    check("user_count_1h > 5.5", 17, "write double(...) around the int");
    check("5 < amount", 1, "found int 5; write 5.0");
    check("amount > user_count_1h", 8, "found double and int; write double(...)");
    check("amount > 5u", 10, "write 5");
    check("amount == null", 11, "found null");
    check("amount == 'x'", 11, "found a text");
    check("is_weekend && amount", 15, "expected true or false beside &&, found double");
    check("!amount", 2, "beside !, found double");
    check("-is_weekend > 1", 2, "expected a number after -");
    check("is_weekend < is_first_purchase", 12, "expected numbers beside <");
    check("amount % 2.0 > 1.0", 8, "expected ints beside %");
    check("hour_of_day in 5", 16, "expected a list");
    check("hour_of_day in [1, 2.0, user_count_1h]", 20, "expected an int beside in, found double 2.0");
    check("hour_of_day in [1, 2.0, user_count_1h]", 25, "expected a literal");
    check("hour_of_day in []", 16, "at least one value");
    check("[1] == [1]", 1, "expected a list only after");
    check("size(amount) > 1", 1, "unknown function size");
    check("has(amount)", 1, "unknown function has");
    check("amount.x > 1.0", 7, "expected a feature, found a field");
    check("amount[0] > 1.0", 7, "unknown function [...] after a value");
    check("{1: 2} == {1: 2}", 1, "do not support");
    check("double(1, 2) > 1.0", 1, "one argument of double()");
    check("is_weekend ? 1 : 2.0", 18, "expected an int beside ?:, found double 2.0; write 2");
    check(
        "(is_weekend ? amount : is_weekend) == amount",
        13,
        "expected one type on both sides of ?:, found double and bool",
    );
    check("é > 1", 1, "not a condition");
    check(&"(".repeat(200), 34, "expected at most 32 levels of nesting");
    check(&format!("amount > 1.0{}", " ".repeat(2_000)), 1, "at most 2000 bytes");
}

#[test]
fn values_of_conditions() {
    let vector = features(&[
        ("amount", 100.0),
        ("user_count_1h", 3.0),
        ("user_count_24h", 7.0),
        ("user_mean_7d", 30.0),
        ("hour_of_day", 23.0),
        ("is_weekend", 1.0),
        ("speed_mph", f64::NAN),
    ]);
    let check = |when: &str, expected: bool| {
        let set = with_condition(when).unwrap_or_else(|faults| panic!("{when}: {faults:?}"));
        assert_eq!(fires(&set, &vector), expected, "{when}");
    };
    check("amount > 3.0 * user_mean_7d", true);
    check("amount > user_mean_7d * 4.0", false);
    check("4.0 * user_mean_7d >= amount", true);
    check("user_count_24h / user_count_1h == 2", true);
    check("user_count_24h % user_count_1h == 1", true);
    check("user_count_1h / (user_count_24h - 7) == 1", false);
    check("user_count_1h / (user_count_24h - 7) != 1", false);
    check("!(user_count_1h / (user_count_24h - 7) == 1)", false);
    check("user_count_1h / (user_count_24h - 7) == 1 || is_weekend", true);
    check("is_weekend || user_count_1h / (user_count_24h - 7) == 1", true);
    check("9223372036854775807 + user_count_1h > 0", false);
    check("hour_of_day in [22, 23, 0]", true);
    check("!(hour_of_day in [22, 23, 0])", false);
    check("hour_of_day in [-1]", false);
    check("amount in [1.0, 100.0]", true);
    check("speed_mph == speed_mph", false);
    check("speed_mph != 1.0", false);
    check("!(speed_mph > 1.0)", true);
    check("-amount < -99.0", true);
    check("int(amount / 30.0) == 3", true);
    check("int(speed_mph) == 0", false);
    check("double(user_count_1h) > 2.5", true);
    check("double(user_count_1h + 1) == 4.0", true);
    check("(is_weekend ? amount : user_mean_7d) > 50.0", true);
    check("is_weekend == true && is_first_purchase != true", true);
    check("is_weekend == is_first_purchase", false);
    check("is_weekend ? is_first_purchase : true", false);
    check("true", true);
    check("false", false);
    check("amount / 0.0 > 1.0", true);
}

#[test]
fn what_fits_the_table() {
    let check = |when: &str, expected: usize| {
        assert_eq!(with_condition(when).expect(when).program.in_table(), expected, "{when}");
    };
    check("!(is_weekend || amount > 5.0) && hour_of_day in [1, 2]", 1);
    check("amount > 3.0 * user_mean_7d", 1);
    check("is_weekend == false", 1);
    check("amount > user_mean_7d + 3.0", 0);
    check("is_weekend ? true : false", 0);
    check(&["hour_of_day in [1, 2, 3]"; 3].join(" && "), 0);
}

#[test]
fn small_sets() {
    assert!(compile_with("rules: []", "base: USD\nrates: {USD: \"1.00\", EUR: 1.08}").is_ok());
    let set = compile("rules: []\n").expect("compiles");
    assert!(set.rules().is_empty());
    assert_eq!(set.policy().block_user_ttl_ms, None);
    assert!(compile("").expect_err("empty")[0].message.contains("empty file"));
    assert!(compile("rules: {}\n").expect_err("no list")[0].message.contains("as a list"));
    let faults =
        compile_with("rules: []\npolicy: {fallback: {above_amount: \"0\", outcome: block, otherwise: block}}", "");
    assert_eq!(faults.expect_err("no rates").len(), 1);
    let milder = "rules: []\npolicy:\n  model_bands: [{above: 0.5, outcome: block, code: A}, {above: 0.8, outcome: review, code: B}]\n";
    assert!(compile(milder).expect_err("milder")[0].message.contains("do not get milder"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_condition_panics(when in "(amount|is_weekend|hour_of_day|[0-9]{1,3}|[0-9]\\.[0-9]|0x|[-+*/%<>=!&|?:()\\[\\]{},.'\" u]|in|has|double|int|true|\\\\x|`){0,14}") {
        if let Ok(set) = with_condition(&when) {
            fires(&set, &features(&[]));
        }
    }

    #[test]
    fn no_source_panics(text in "(rules|policy|model_bands|id|version|when|reason|code|message|: |\n|\n  |- |\\[|\\]|\\{|\\}|, |1|\"|'|x|é){0,40}") {
        let _ = compile_with(&text, &text);
    }
}

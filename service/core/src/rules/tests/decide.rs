//! From hits and scores to decisions.

use super::super::{DecideInput, RuleSet};
use super::{compile, features};
use crate::alert::alert_id;
use crate::decision::{Decision, DecisionMode, Degradation, ModelVerdict, Outcome, RiskLevel, RuleHit};
use crate::event::Transaction;
use crate::lists::{List, ListHit, ListKind};
use crate::money::{BaseMinor, Currency, Money};
use crate::time::Timestamp;

const SET: &str = r#"rules:
  - {id: flag, version: 3, when: amount > 1.0, outcome: approve, reason: {code: FLAG, message: "Amount {amount}"}}
  - {id: many, version: 1, when: user_count_1h > 10, outcome: challenge, reason: {code: MANY, message: "{user_count_1h} in an hour"}}
  - {id: far, version: 1, when: miles_from_login > 500.0, outcome: review, reason: {code: FAR, message: "{miles_from_login} miles"}}
  - {id: shadow, version: 1, when: amount > 1.0, outcome: block, reason: {code: SHADOW, message: "m"}, mode: shadow}
  - {id: listed, version: 1, when: block_list_hits > 0 && allow_list_hits == 0, outcome: block, reason: {code: LISTED, message: "On the block list"}}
  - {id: fast, version: 1, when: speed_mph > 600.0, outcome: block, reason: {code: FAST, message: "{speed_mph} mph"}}
policy:
  model_bands: [{above: 0.5, outcome: review, code: MODEL_ELEVATED}, {above: 0.8, outcome: block, code: MODEL_HIGH_RISK}]
  on_block: {list: user, ttl: 24h}
"#;

fn transaction() -> Transaction {
    let usd = Currency::from_code("USD").expect("USD");
    Transaction {
        transaction_id: "t".into(),
        user_id: "u".into(),
        amount: Money::from_minor(100, usd),
        base: BaseMinor(100),
        merchant_id: "m".into(),
        at: Timestamp::from_millis(1_000),
        ip_address: None,
        user_agent: None,
        device_id: None,
        merchant_category: None,
        location: None,
    }
}

fn decide_with(set: &RuleSet, values: &[(&str, f64)], model: ModelVerdict) -> Decision {
    let features = features(values);
    let mut rule_hits = Vec::new();
    set.evaluate(&features, &mut rule_hits);
    set.decide(DecideInput {
        transaction: &transaction(),
        features: &features,
        rule_hits,
        list_hits: vec![ListHit { list: List::Block, kind: ListKind::User, value: "u".into(), reason: "r".into() }],
        model,
        window_approximate: false,
        received_at: Timestamp::from_millis(5_000),
    })
}

fn decide(values: &[(&str, f64)], model: ModelVerdict) -> Decision {
    decide_with(&compile(SET).expect("compiles"), values, model)
}

fn codes(decision: &Decision) -> Vec<&str> {
    decision.reasons.iter().map(|reason| &*reason.code).collect()
}

#[test]
fn a_plain_approval() {
    let decision = decide(&[("amount", 1.0)], ModelVerdict::Score(0.1));
    assert_eq!(decision.outcome, Outcome::Approve);
    assert_eq!(decision.risk_level, RiskLevel::Normal);
    assert_eq!(decision.score, Some(0.1));
    assert!(decision.reasons.is_empty() && decision.rule_hits.is_empty() && decision.degraded.is_empty());
    assert!(!decision.alert);
    assert_eq!(decision.block_entry, None);
    assert_eq!(decision.list_hits.len(), 1);
}

#[test]
fn the_most_severe_wins_and_all_are_named() {
    let values = [("amount", 1234.5), ("user_count_1h", 11.0), ("miles_from_login", 612.44)];
    let decision = decide(&values, ModelVerdict::Score(0.6));
    assert_eq!(decision.outcome, Outcome::Review);
    assert_eq!(decision.risk_level, RiskLevel::Elevated);
    assert_eq!(codes(&decision), ["FAR", "MODEL_ELEVATED", "MANY", "FLAG"]);
    let messages: Vec<&str> = decision.reasons.iter().map(|reason| &*reason.message).collect();
    assert_eq!(messages, ["612.4 miles", "Model score 0.60 is above 0.5", "11 in an hour", "Amount 1,234.50"]);
    assert_eq!(decision.reasons[1].rule, None);
    let flag = decision.reasons[3].rule.as_ref().expect("a rule");
    assert_eq!((&*flag.id, flag.version), ("flag", 3));
    let hits: Vec<(u16, bool)> = decision.rule_hits.iter().map(|hit| (hit.rule, hit.shadow)).collect();
    assert_eq!(hits, [(0, false), (1, false), (2, false), (3, true)]);
    assert!(decision.alert);
    assert_eq!(decision.block_entry, None);
}

#[test]
fn an_approving_rule_flags() {
    let decision = decide(&[("amount", 2.0)], ModelVerdict::Absent);
    assert_eq!((decision.outcome, decision.alert, decision.score), (Outcome::Approve, true, None));
    assert_eq!(codes(&decision), ["FLAG"]);
}

#[test]
fn a_shadow_rule_changes_nothing() {
    let set = compile(
        &SET.replace("outcome: approve, reason: {code: FLAG", "mode: shadow, outcome: approve, reason: {code: FLAG"),
    )
    .expect("compiles");
    let decision = decide_with(&set, &[("amount", 2.0)], ModelVerdict::Absent);
    assert_eq!((decision.outcome, decision.alert), (Outcome::Approve, false));
    assert_eq!(decision.rule_hits, [RuleHit { rule: 0, shadow: true }, RuleHit { rule: 3, shadow: true }]);
}

#[test]
fn who_renews_the_block() {
    let check = |values: &[(&str, f64)], model: ModelVerdict, reason: Option<&str>| {
        let decision = decide(values, model);
        assert_eq!(decision.outcome, Outcome::Block);
        assert_eq!(decision.risk_level, RiskLevel::Highest);
        let entry = decision.block_entry;
        assert_eq!(entry.as_ref().map(|entry| &*entry.reason), reason);
        if let Some(entry) = entry {
            assert_eq!(entry.list, List::Block);
            assert_eq!(entry.alert_id, Some(alert_id(&transaction())));
            assert_eq!(entry.expires_at, Some(Timestamp::from_millis(5_000 + 86_400_000)));
        }
    };
    let listed = ("block_list_hits", 1.0);
    check(&[listed], ModelVerdict::Absent, None);
    check(&[listed], ModelVerdict::Score(0.7), None);
    check(&[listed, ("amount", 2.0)], ModelVerdict::Absent, None);
    check(&[("speed_mph", 601.0)], ModelVerdict::Absent, Some("601.0 mph"));
    // A renewed entry keeps telling why, instead of saying for ever that the user was on the list.
    check(&[listed, ("speed_mph", 601.0)], ModelVerdict::Absent, Some("601.0 mph"));
    check(&[listed], ModelVerdict::Score(0.93), Some("Model score 0.93 is above 0.8"));
    check(&[], ModelVerdict::Score(0.93), Some("Model score 0.93 is above 0.8"));
    let set = compile(&SET.replace("  on_block: {list: user, ttl: 24h}\n", "")).expect("compiles");
    assert_eq!(decide_with(&set, &[], ModelVerdict::Score(0.9)).block_entry, None);
}

#[test]
fn bands_are_strict() {
    let check = |score: f32, expected: &[&str]| {
        assert_eq!(codes(&decide(&[], ModelVerdict::Score(score))), expected, "{score}");
    };
    check(0.5, &[]);
    check(0.500_01, &["MODEL_ELEVATED"]);
    check(0.8, &["MODEL_ELEVATED"]);
    check(f32::from_bits(0.8_f32.to_bits() + 1), &["MODEL_HIGH_RISK"]);
    check(1.0, &["MODEL_HIGH_RISK"]);
    check(f32::NAN, &[]);
    let message = |score: f32| decide(&[], ModelVerdict::Score(score)).reasons[0].message.clone();
    assert_eq!(&*message(0.800_4), "Model score 0.8004 is above 0.8");
    assert_eq!(&*message(f32::from_bits(0.8_f32.to_bits() + 1)), "Model score 0.8000001 is above 0.8");
}

#[test]
fn what_an_answer_lacks() {
    let set = compile(SET).expect("compiles");
    let features = features(&[]);
    let decision = set.decide(DecideInput {
        transaction: &transaction(),
        features: &features,
        rule_hits: vec![],
        list_hits: vec![],
        model: ModelVerdict::Missing(Degradation::ModelTimeout),
        window_approximate: true,
        received_at: Timestamp::from_millis(0),
    });
    assert_eq!(decision.degraded, [Degradation::ModelTimeout, Degradation::WindowApproximate]);
    assert_eq!((decision.score, decision.outcome), (None, Outcome::Approve));
}

#[test]
fn without_a_profile_lists_and_the_declared_policy_decide() {
    let policy = "policy:\n  fallback: {above_amount: '5.00', outcome: review, otherwise: challenge}\n";
    let watched = "  - {id: watched, version: 2, when: allow_list_hits > 0, outcome: approve, reason: {code: KNOWN, message: m}}\npolicy:\n";
    let set = compile(&SET.replace("policy:\n", &format!("{watched}{}", &policy[8..]))).expect("compiles");
    let hit = |list| ListHit { list, kind: ListKind::User, value: "u".into(), reason: "r".into() };
    let fall_back = |minor, hits: &[List]| {
        let paid = Transaction { base: BaseMinor(minor), ..transaction() };
        set.fall_back(&paid, hits.iter().map(|list| hit(*list)).collect())
    };
    let (features, decision) = fall_back(501, &[]);
    assert_eq!(decision.outcome, Outcome::Review);
    assert_eq!(codes(&decision), ["FALLBACK_POLICY"]);
    assert_eq!(&*decision.reasons[0].message, "Decided by the fallback policy: 5.01 USD is above 5.00 USD");
    assert_eq!((decision.mode(), decision.is_normal()), (DecisionMode::Fallback, false));
    assert_eq!((decision.score, decision.alert, &decision.block_entry), (None, true, &None));
    // It saw the payment, and nothing of a history; rules that would look at one say nothing, whatever the amount.
    assert_eq!((features.named("amount"), features.named("block_list_hits")), (Some(5.01), Some(0.0)));
    for name in ["user_count_1h", "user_spend_today", "is_first_purchase", "has_last_login"] {
        assert!(features.named(name).is_some_and(f64::is_nan), "{name}");
    }
    let (_, decision) = fall_back(500, &[]);
    assert_eq!((decision.outcome, codes(&decision)), (Outcome::Challenge, vec!["FALLBACK_POLICY"]));
    assert_eq!(&*decision.reasons[0].message, "Decided by the fallback policy: 5.00 USD is at most 5.00 USD");
    let (features, decision) = fall_back(500, &[List::Block]);
    assert_eq!((decision.outcome, codes(&decision)), (Outcome::Block, vec!["LISTED", "FALLBACK_POLICY"]));
    assert_eq!((features.named("block_list_hits"), &decision.block_entry), (Some(1.0), &None));
    let (_, decision) = fall_back(501, &[List::Block, List::Allow]);
    assert_eq!((decision.outcome, codes(&decision)), (Outcome::Review, vec!["FALLBACK_POLICY", "KNOWN"]));
    assert_eq!(decision.list_hits.len(), 2);
    // Without a declared one everything is reviewed.
    let (_, decision) = compile(SET).expect("compiles").fall_back(&transaction(), vec![]);
    assert_eq!((decision.outcome, decision.alert), (Outcome::Review, true));
}

//! A decision as JSON: the answer of `/v1/decide`, a line of the answer of `/v1/events`, a line of a backtest.

use super::time::Rfc3339;
use super::{Hex, append};
use crate::actors::messages::{Answer, JOURNAL_LATE};
use crate::journal::record::{Generation, ModelRef};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;
use verdict_core::decision::{DecisionMode, Degradation, Reason};
use verdict_core::features::{CATALOGUE, FeatureType, FeatureVector};

#[derive(Serialize)]
struct DecisionJson<'a> {
    decision_id: Id,
    transaction_id: &'a str,
    user_id: &'a str,
    decision: &'static str,
    score: Option<f32>,
    risk_level: &'static str,
    reasons: Reasons<'a>,
    ruleset: &'a RawValue,
    model: &'a RawValue,
    feature_schema: &'a RawValue,
    mode: &'static str,
    degraded: Causes<'a>,
    durable: bool,
    duplicate: bool,
    evaluated_at: Rfc3339,
    latency_us: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features<'a>>,
}

/// Appends an answer as one line of JSON without the newline.
pub fn to_json(answer: &Answer, out: &mut Vec<u8>) {
    let made_by = made_by(&answer.decided.generation);
    append(&shape(answer, &made_by, false), out);
}

/// Appends an answer with `features`: what rules and model saw, by name, `null` where a feature has no value.
pub fn to_json_with_features(answer: &Answer, out: &mut Vec<u8>) {
    let made_by = made_by(&answer.decided.generation);
    append(&shape(answer, &made_by, true), out);
}

fn shape<'a>(answer: &'a Answer, made_by: &'a MadeBy, with_features: bool) -> DecisionJson<'a> {
    let decided = &*answer.decided;
    let (transaction, decision) = (&decided.transaction, &decided.decision);
    DecisionJson {
        decision_id: Id(transaction.decision_id()),
        transaction_id: &transaction.transaction_id,
        user_id: &transaction.user_id,
        decision: decision.outcome.name(),
        score: decision.score,
        risk_level: decision.risk_level.name(),
        reasons: Reasons(&decision.reasons),
        ruleset: &made_by.ruleset,
        model: &made_by.model,
        feature_schema: &made_by.feature_schema,
        mode: mode(decision.mode(), answer.durable).name(),
        degraded: Causes(&decision.degraded, answer.durable),
        durable: answer.durable,
        duplicate: answer.duplicate,
        evaluated_at: Rfc3339(decided.evaluated_at),
        latency_us: decided.latency_us,
        features: with_features.then_some(Features(&decided.features)),
    }
}

/// That an answer is not durable yet is one more thing that it lacks.
const fn mode(of_decision: DecisionMode, durable: bool) -> DecisionMode {
    match of_decision {
        DecisionMode::Normal if !durable => DecisionMode::Degraded,
        other => other,
    }
}

/// A generation as answers name it.
struct MadeBy {
    ruleset: Box<RawValue>,
    model: Box<RawValue>,
    feature_schema: Box<RawValue>,
}

impl MadeBy {
    fn of(generation: &Generation) -> Self {
        Self {
            ruleset: raw(&RulesetJson::of(generation)),
            model: raw(&generation.model.as_ref().map(ModelJson::of)),
            feature_schema: raw(&Hex(&generation.feature_schema)),
        }
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    // Strings and hashes alone: nothing in them can fail.
    to_raw_value(value).unwrap_or_default()
}

/// The last generation that this thread named is named again without spelling its hashes: a third of the work of an answer.
fn made_by(generation: &Arc<Generation>) -> Rc<MadeBy> {
    thread_local! {
        static LAST: RefCell<Option<(Arc<Generation>, Rc<MadeBy>)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((known, made_by)) if Arc::ptr_eq(known, generation) => Rc::clone(made_by),
        _ => {
            let made_by = Rc::new(MadeBy::of(generation));
            *last = Some((Arc::clone(generation), Rc::clone(&made_by)));
            made_by
        }
    })
}

/// A rule set as answers name it; its version is the hash of its files.
#[derive(Serialize)]
struct RulesetJson<'a> {
    name: &'a str,
    version: Hex<'a>,
}

impl<'a> RulesetJson<'a> {
    fn of(generation: &'a Generation) -> Self {
        Self { name: &generation.ruleset_name, version: Hex(&generation.ruleset_hash) }
    }
}

#[derive(Serialize)]
struct ModelJson<'a> {
    name: &'a str,
    version: &'a str,
    sha256: Hex<'a>,
}

impl<'a> ModelJson<'a> {
    fn of(model: &'a ModelRef) -> Self {
        Self { name: &model.name, version: &model.version, sha256: Hex(&model.sha256) }
    }
}

/// A UUID as hyphenated text.
struct Id(Uuid);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// Reasons as an array; `rule_id` and `rule_version` are null for a model band.
struct Reasons<'a>(&'a [Reason]);

/// A reason, borrowed from a decision or kept by an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonJson<S> {
    /// Machine-readable reason code.
    pub code: S,
    /// The sentence for people.
    pub message: S,
    /// The rule that gave it; none for a model band.
    pub rule_id: Option<S>,
    /// That rule's version.
    pub rule_version: Option<u32>,
}

impl<'a> ReasonJson<&'a str> {
    /// The shape of a reason.
    pub(crate) fn of(reason: &'a Reason) -> Self {
        Self {
            code: &reason.code,
            message: &reason.message,
            rule_id: reason.rule.as_ref().map(|rule| &*rule.id),
            rule_version: reason.rule.as_ref().map(|rule| rule.version),
        }
    }

    /// The same with other texts.
    pub(super) fn map<T>(self, text: impl Fn(&str) -> T) -> ReasonJson<T> {
        ReasonJson {
            code: text(self.code),
            message: text(self.message),
            rule_id: self.rule_id.map(&text),
            rule_version: self.rule_version,
        }
    }
}

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ReasonJson::of))
    }
}

/// What a decision lacks, and whether its answer is durable: that is said of the answer, and never recorded.
struct Causes<'a>(&'a [Degradation], bool);

#[derive(Serialize)]
struct CauseJson {
    code: &'static str,
}

impl Serialize for Causes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A fallback never had a record that could be late.
        let late = (!self.1 && !self.0.contains(&Degradation::Recovering)).then_some(JOURNAL_LATE);
        let codes = self.0.iter().map(|cause| cause.code()).chain(late);
        serializer.collect_seq(codes.map(|code| CauseJson { code }))
    }
}

/// A feature vector as an object in slot order, each value in its catalogue's type.
pub(super) struct Features<'a>(pub(super) &'a FeatureVector);

impl Serialize for Features<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(CATALOGUE.len()))?;
        for (spec, value) in CATALOGUE.iter().zip(self.0.0) {
            match spec.kind {
                _ if !value.is_finite() => object.serialize_entry(spec.name, &None::<f64>)?,
                FeatureType::Bool => object.serialize_entry(spec.name, &(value != 0.0))?,
                // Exact: an integer feature is a whole number below 2^53.
                FeatureType::Int => object.serialize_entry(spec.name, &(value as i64))?,
                FeatureType::Double => object.serialize_entry(spec.name, &value)?,
            }
        }
        object.end()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A decided transaction to print.

    use super::super::testing::{NOON, context, rates};
    use crate::actors::messages::Answer;
    use crate::journal::record::{Decided, Generation, ModelRef};
    use std::sync::Arc;
    use verdict_core::decision::{Decision, Outcome, Reason, RuleRef};
    use verdict_core::event::Transaction;
    use verdict_core::features::{FeatureVector, SLOTS, lookup};

    /// A review of the given transaction, by a rule and a model band.
    pub(crate) fn answer_to(transaction: Transaction) -> Answer {
        let mut features = FeatureVector([0.0; SLOTS]);
        for (name, value) in [("amount", 123.45), ("user_count_1h", 2.0), ("is_weekend", 1.0), ("speed_mph", f64::NAN)]
        {
            features.0[lookup(name).expect("a feature").0.index()] = value;
        }
        let rule = Reason {
            code: "DAILY_SPEND".into(),
            message: "Daily spend threshold exceeded: 5,130.00 USD today".into(),
            rule: Some(RuleRef { id: "daily_spend".into(), version: 1 }),
        };
        let band = Reason { code: "MODEL_ELEVATED".into(), message: "Score 0.531".into(), rule: None };
        let decision = Decision {
            outcome: Outcome::Review,
            score: Some(0.531),
            risk_level: Outcome::Review.into(),
            reasons: vec![rule, band],
            degraded: Vec::new(),
            rule_hits: Vec::new(),
            list_hits: Vec::new(),
            alert: true,
            block_entry: None,
        };
        let generation = Generation {
            ruleset_name: "default".into(),
            ruleset_hash: [0x0a; 32],
            model: Some(ModelRef { name: "gbdt".into(), version: "3".into(), sha256: [0xff; 32] }),
            feature_schema: [0x10; 32],
        };
        let decided = Decided {
            transaction,
            features,
            decision,
            generation: Arc::new(generation),
            evaluated_at: NOON,
            latency_us: 840,
            as_answered: false,
        };
        Answer { decided: Arc::new(decided), durable: true, duplicate: false }
    }

    /// The answer to transaction `t-81` of user `u-7`.
    pub(crate) fn answer() -> Answer {
        let rates = rates();
        let body = br#"{"transaction_id":"t-81","user_id":"u-7","amount":"123.45","currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00Z"}"#;
        answer_to(*super::super::transaction::parse(body, &context(&rates)).expect("valid").transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Decided;
    use std::sync::Arc;
    use verdict_core::decision::Decision;

    fn printed(answer: &Answer) -> String {
        let mut out = Vec::new();
        to_json(answer, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn shape_of_a_review() {
        let answer = testing::answer();
        let id = answer.decided.transaction.decision_id();
        let (a, f, one) = ("0a".repeat(32), "ff".repeat(32), "10".repeat(32));
        let expected = format!(
            "{}{}{}{}{}",
            format_args!(r#"{{"decision_id":"{id}","transaction_id":"t-81","user_id":"u-7","decision":"review","#),
            r#""score":0.531,"risk_level":"elevated","reasons":[{"code":"DAILY_SPEND","message":"Daily spend threshold exceeded: 5,130.00 USD today","rule_id":"daily_spend","rule_version":1},{"code":"MODEL_ELEVATED","message":"Score 0.531","rule_id":null,"rule_version":null}],"#,
            format_args!(
                r#""ruleset":{{"name":"default","version":"{a}"}},"model":{{"name":"gbdt","version":"3","sha256":"{f}"}},"#
            ),
            format_args!(r#""feature_schema":"{one}","mode":"normal","degraded":[],"durable":true,"duplicate":false,"#),
            r#""evaluated_at":"2026-11-23T12:00:00.000Z","latency_us":840}"#,
        );
        assert_eq!(printed(&answer), expected);
    }

    #[test]
    fn shape_of_a_degraded_approval() {
        let plain = testing::answer();
        let decision = Decision {
            score: None,
            reasons: Vec::new(),
            degraded: vec![Degradation::ModelTimeout, Degradation::WindowApproximate],
            ..plain.decided.decision.clone()
        };
        let generation = Generation { model: None, ..(*plain.decided.generation).clone() };
        let decided = Decided { decision, generation: Arc::new(generation), ..(*plain.decided).clone() };
        let json = printed(&Answer { decided: Arc::new(decided), durable: false, duplicate: true });
        for part in [
            r#""score":null"#,
            r#""reasons":[]"#,
            r#""model":null"#,
            r#""mode":"degraded","degraded":[{"code":"MODEL_TIMEOUT"},{"code":"WINDOW_APPROXIMATE"},{"code":"JOURNAL_LATE"}]"#,
            r#""durable":false,"duplicate":true"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn a_fallback_names_its_cause_and_nothing_else() {
        let plain = testing::answer();
        let decision = Decision { degraded: vec![Degradation::Recovering], ..plain.decided.decision.clone() };
        let decided = Arc::new(Decided { decision, ..(*plain.decided).clone() });
        for durable in [false, true] {
            let json = printed(&Answer { decided: Arc::clone(&decided), durable, duplicate: false });
            let part = format!(r#""mode":"fallback","degraded":[{{"code":"RECOVERING"}}],"durable":{durable}"#);
            assert!(json.contains(&part), "{part} in {json}");
        }
    }

    #[test]
    fn features_are_typed() {
        let mut out = Vec::new();
        to_json_with_features(&testing::answer(), &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let features = json["features"].as_object().expect("an object");
        assert_eq!(features.len(), CATALOGUE.len());
        assert_eq!(features["amount"].as_f64(), Some(123.45));
        assert_eq!(features["user_count_1h"].as_i64(), Some(2));
        assert_eq!(features["is_weekend"].as_bool(), Some(true));
        assert!(features["speed_mph"].is_null());
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains(r#""features":{"amount":123.45,"hour_of_day":0,"is_weekend":true,"#), "{text}");
    }
}

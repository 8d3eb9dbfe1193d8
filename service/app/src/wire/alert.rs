//! An alert: the value on topic `fraud-alerts`, a row of a review store, an element of `GET /v1/alerts`. One shape for
//! all three, so that what is written, stored and shown cannot differ.

use super::decision::ReasonJson;
use super::review::ReviewStatus;
use super::time::Rfc3339;
use super::{Hex, append};
use crate::journal::record::Decided;
use serde::{Serialize, Serializer};
use verdict_core::alert::alert_id;
use verdict_core::time::Timestamp;

/// Version of the shape.
pub const SCHEMA_VERSION: u32 = 1;

/// One alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// UUID, derived from the transaction.
    pub alert_id: String,
    /// Version of this shape.
    pub schema_version: u32,
    /// The transaction that was decided.
    pub transaction_id: String,
    /// Whose.
    pub user_id: String,
    /// Outcome name, such as `review`.
    pub decision: String,
    /// The model's probability of fraud, if it answered.
    pub score: Option<f32>,
    /// `normal`, `elevated` or `highest`.
    pub risk_level: String,
    /// Why, the most severe first.
    pub reasons: Vec<AlertReason>,
    /// Decimal text in the transaction's currency, such as `123.45`.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Who was to be paid.
    pub merchant_id: String,
    /// Event time of the transaction.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    /// When it was decided.
    #[serde(serialize_with = "rfc3339")]
    pub detected_at: Timestamp,
    /// The rule set.
    pub ruleset: AlertRuleset,
    /// The model, if one was configured.
    pub model: Option<AlertModel>,
    /// Where its review stands; left out where reviews are not known (on the topic).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ReviewStatus>,
}

/// A reason, in the shape of a decision's.
pub type AlertReason = ReasonJson<String>;

/// The rule set that an alert names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertRuleset {
    /// Its name.
    pub name: String,
    /// Hash of its files, in hexadecimal digits.
    pub version: String,
}

/// The model that an alert names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertModel {
    /// Name in the manifest.
    pub name: String,
    /// Version in the manifest.
    pub version: String,
    /// Hash of the model file, in hexadecimal digits.
    pub sha256: String,
}

impl Alert {
    /// The alert about a decision, before anybody has reviewed it.
    #[must_use]
    pub fn of(decided: &Decided) -> Self {
        let (transaction, decision, generation) = (&decided.transaction, &decided.decision, &decided.generation);
        Self {
            alert_id: alert_id(transaction).to_string(),
            schema_version: SCHEMA_VERSION,
            transaction_id: transaction.transaction_id.to_string(),
            user_id: transaction.user_id.to_string(),
            decision: decision.outcome.name().to_owned(),
            score: decision.score,
            risk_level: decision.risk_level.name().to_owned(),
            reasons: decision.reasons.iter().map(|reason| ReasonJson::of(reason).map(str::to_owned)).collect(),
            amount: transaction.amount.decimal(),
            currency: transaction.amount.currency().code().to_owned(),
            merchant_id: transaction.merchant_id.to_string(),
            timestamp: transaction.at,
            detected_at: decided.evaluated_at,
            ruleset: AlertRuleset {
                name: generation.ruleset_name.to_string(),
                version: Hex(&generation.ruleset_hash).to_string(),
            },
            model: generation.model.as_ref().map(|model| AlertModel {
                name: model.name.to_string(),
                version: model.version.to_string(),
                sha256: Hex(&model.sha256).to_string(),
            }),
            status: None,
        }
    }

    /// The alert in JSON, as the value of a message.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        append(self, &mut out);
        out
    }
}

fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    Rfc3339(*at).serialize(serializer)
}

/// An alert and its place in the order in which alerts arrived in the store, ready to be sent to many readers.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The place; grows with every arrival.
    pub seq: i64,
    /// The alert.
    pub alert: Alert,
    /// The alert as an event of `text/event-stream`.
    pub event: Box<[u8]>,
}

impl Arrival {
    /// Prints the alert once, for all readers.
    #[must_use]
    pub fn new(seq: i64, alert: Alert) -> Self {
        // An id is a UUID and JSON escapes line ends, so that neither can break out of its line.
        let mut event = format!("event: alert\nid: {}\ndata: ", alert.alert_id).into_bytes();
        append(&alert, &mut event);
        event.extend_from_slice(b"\n\n");
        Self { seq, alert, event: event.into() }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! An alert to print.

    use super::super::decision::testing::answer;
    use super::{Alert, ReviewStatus};

    /// An alert about transaction `t-81`, open.
    pub(crate) fn alert() -> Alert {
        Alert { status: Some(ReviewStatus::Open), ..Alert::of(&answer().decided) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let alert = testing::alert();
        let (a, f) = ("0a".repeat(32), "ff".repeat(32));
        let expected = format!(
            "{}{}{}{}{}",
            format_args!(r#"{{"alert_id":"{}","schema_version":1,"transaction_id":"t-81","#, alert.alert_id),
            r#""user_id":"u-7","decision":"review","score":0.531,"risk_level":"elevated","reasons":[{"code":"DAILY_SPEND","message":"Daily spend threshold exceeded: 5,130.00 USD today","rule_id":"daily_spend","rule_version":1},{"code":"MODEL_ELEVATED","message":"Score 0.531","rule_id":null,"rule_version":null}],"#,
            r#""amount":"123.45","currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00.000Z","#,
            format_args!(r#""detected_at":"2026-11-23T12:00:00.000Z","ruleset":{{"name":"default","version":"{a}"}},"#),
            format_args!(r#""model":{{"name":"gbdt","version":"3","sha256":"{f}"}}"#),
        );
        let topic = Alert { status: None, ..alert.clone() };
        assert_eq!(serde_json::to_string(&topic).expect("printable"), format!("{expected}}}"));
        let open = serde_json::to_string(&alert).expect("printable");
        assert_eq!(open, format!(r#"{expected},"status":"open"}}"#));
        let arrival = Arrival::new(7, alert.clone());
        let event = String::from_utf8(arrival.event.into()).expect("UTF-8");
        assert_eq!(event, format!("event: alert\nid: {}\ndata: {open}\n\n", alert.alert_id));
        let bare = serde_json::to_string(&Alert { model: None, ..alert }).expect("printable");
        assert!(bare.ends_with(r#""model":null,"status":"open"}"#));
    }
}

//! An alert: the value on topic `fraud-alerts`, a row of a review store, an element of `GET /v1/alerts`. One shape for
//! all three, so that what is written, stored and shown cannot differ.

use super::decision::ReasonJson;
use super::time::Rfc3339;
use super::{Hex, append};
use crate::journal::record::Decided;
use serde::{Serialize, Serializer};
use verdict_core::alert::alert_id;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

/// Version of the shape.
pub const SCHEMA_VERSION: u32 = 1;

/// Most alerts on a page.
pub const MAX_PAGE: u32 = 500;

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
}

fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    Rfc3339(*at).serialize(serializer)
}

/// Where the review of an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewStatus {
    /// Nobody has looked at it.
    Open,
    /// Somebody looks at it.
    InReview,
    /// It was fraud.
    ConfirmedFraud,
    /// It was none.
    FalsePositive,
}

impl ReviewStatus {
    /// Every status, with its name on the wire.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Open, "open"),
        (Self::InReview, "in_review"),
        (Self::ConfirmedFraud, "confirmed_fraud"),
        (Self::FalsePositive, "false_positive"),
    ];
}

/// Which alerts are asked for; what is `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Only of this review status.
    pub status: Option<ReviewStatus>,
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only with this outcome.
    pub decision: Option<Outcome>,
    /// Only decided at or after this instant.
    pub since: Option<Timestamp>,
    /// `next_cursor` of the page before.
    pub cursor: Option<i64>,
    /// Most alerts on the page, 1 to [`MAX_PAGE`]; other values are brought into that range.
    pub limit: u32,
}

/// A page of alerts, the last to arrive first. Alerts that arrive later do not move what the next pages show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// For the next page; `None` on the last.
    #[serde(serialize_with = "cursor")]
    pub next_cursor: Option<i64>,
}

/// A string, so that callers send it back as it came instead of counting with it.
fn cursor<S: Serializer>(cursor: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match cursor {
        Some(cursor) => serializer.collect_str(cursor),
        None => serializer.serialize_none(),
    }
}

impl AlertPage {
    /// Appends the page as JSON.
    pub fn to_json(&self, out: &mut Vec<u8>) {
        append(self, out);
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

    fn printed(page: &AlertPage) -> String {
        let mut out = Vec::new();
        page.to_json(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

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
        let page = AlertPage { alerts: vec![alert.clone()], next_cursor: Some(41) };
        assert_eq!(printed(&page), format!(r#"{{"alerts":[{expected},"status":"open"}}],"next_cursor":"41"}}"#));
        let bare = AlertPage { alerts: vec![Alert { model: None, ..alert }], next_cursor: None };
        assert!(printed(&bare).contains(r#""model":null,"status":"open"}],"next_cursor":null}"#));
    }

    #[test]
    fn names_of_statuses_are_printed_names() {
        for (status, name) in ReviewStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("printable"), name);
        }
    }
}

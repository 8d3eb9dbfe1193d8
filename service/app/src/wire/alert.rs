//! An alert as JSON: the value on topic `fraud-alerts` and an element of `GET /v1/alerts`.

use super::time::Rfc3339;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use verdict_core::time::Timestamp;

/// An alert in plain values, as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertJson {
    /// UUID derived from the decision's id.
    pub alert_id: String,
    /// Version of this shape.
    pub schema_version: u32,
    /// The transaction.
    pub transaction_id: String,
    /// Whose.
    pub user_id: String,
    /// Outcome name, such as `review`.
    pub decision: String,
    /// The model's probability of fraud.
    pub score: Option<f32>,
    /// `normal`, `elevated` or `highest`.
    pub risk_level: String,
    /// JSON array of reasons, in the shape of a decision's.
    pub reasons_json: String,
    /// Decimal text, such as `123.45`.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Who was to be paid.
    pub merchant_id: String,
    /// Event time of the transaction.
    pub timestamp: Timestamp,
    /// When it was decided.
    pub detected_at: Timestamp,
    /// Name of the rule set.
    pub ruleset_name: String,
    /// Hash of the rule set, in hexadecimal digits.
    pub ruleset_version: String,
    /// The model, if one was configured.
    pub model: Option<AlertModel>,
    /// Where its review stands; left out where reviews are not known (on the topic).
    pub status: Option<String>,
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

#[derive(Serialize)]
struct Shape<'a> {
    alert_id: &'a str,
    schema_version: u32,
    transaction_id: &'a str,
    user_id: &'a str,
    decision: &'a str,
    score: Option<f32>,
    risk_level: &'a str,
    reasons: &'a RawValue,
    amount: &'a str,
    currency: &'a str,
    merchant_id: &'a str,
    timestamp: Rfc3339,
    detected_at: Rfc3339,
    ruleset: Ruleset<'a>,
    model: Option<&'a AlertModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}

#[derive(Serialize)]
struct Ruleset<'a> {
    name: &'a str,
    version: &'a str,
}

impl Serialize for AlertJson {
    /// Fails only when `reasons_json` is no JSON, which says that the store was written by something else.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reasons: &RawValue = serde_json::from_str(&self.reasons_json)
            .map_err(|error| S::Error::custom(format_args!("alert {}: reasons: {error}", self.alert_id)))?;
        let shape = Shape {
            alert_id: &self.alert_id,
            schema_version: self.schema_version,
            transaction_id: &self.transaction_id,
            user_id: &self.user_id,
            decision: &self.decision,
            score: self.score,
            risk_level: &self.risk_level,
            reasons,
            amount: &self.amount,
            currency: &self.currency,
            merchant_id: &self.merchant_id,
            timestamp: Rfc3339(self.timestamp),
            detected_at: Rfc3339(self.detected_at),
            ruleset: Ruleset { name: &self.ruleset_name, version: &self.ruleset_version },
            model: self.model.as_ref(),
            status: self.status.as_deref(),
        };
        shape.serialize(serializer)
    }
}

/// Appends an alert as one line of JSON without the newline.
///
/// # Errors
/// When `reasons_json` is no JSON; nothing useful has been appended then.
pub fn to_json(alert: &AlertJson, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(out, alert)
}

#[derive(Serialize)]
struct Page<'a> {
    alerts: &'a [AlertJson],
    next_cursor: Option<&'a str>,
}

/// A page of alerts as JSON; without a cursor there is no next page.
///
/// # Errors
/// When the reasons of an alert are no JSON.
pub fn page_to_json(alerts: &[AlertJson], next_cursor: Option<&str>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Page { alerts, next_cursor })
}

#[cfg(test)]
pub(crate) mod testing {
    //! An alert to print.

    use super::super::testing::NOON;
    use super::{AlertJson, AlertModel};

    /// An alert about transaction `t-81`.
    pub(crate) fn alert() -> AlertJson {
        AlertJson {
            alert_id: "6f1f".to_owned(),
            schema_version: 1,
            transaction_id: "t-81".to_owned(),
            user_id: "u-7".to_owned(),
            decision: "review".to_owned(),
            score: Some(0.25),
            risk_level: "elevated".to_owned(),
            reasons_json: r#"[{"code":"GEO_ANOMALY"}]"#.to_owned(),
            amount: "123.45".to_owned(),
            currency: "USD".to_owned(),
            merchant_id: "m-3".to_owned(),
            timestamp: NOON,
            detected_at: NOON + 7,
            ruleset_name: "default".to_owned(),
            ruleset_version: "0a".to_owned(),
            model: Some(AlertModel { name: "gbdt".to_owned(), version: "3".to_owned(), sha256: "ff".to_owned() }),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let alert = testing::alert();
        let expected = concat!(
            r#"{"alert_id":"6f1f","schema_version":1,"transaction_id":"t-81","user_id":"u-7","decision":"review","#,
            r#""score":0.25,"risk_level":"elevated","reasons":[{"code":"GEO_ANOMALY"}],"amount":"123.45","#,
            r#""currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00.000Z","#,
            r#""detected_at":"2026-11-23T12:00:00.007Z","ruleset":{"name":"default","version":"0a"},"#,
            r#""model":{"name":"gbdt","version":"3","sha256":"ff"}}"#
        );
        let mut out = Vec::new();
        to_json(&alert, &mut out).expect("printable");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);

        let reviewed = AlertJson { model: None, status: Some("in_review".to_owned()), ..alert.clone() };
        let page = page_to_json(std::slice::from_ref(&reviewed), Some("c1")).expect("printable");
        let page = String::from_utf8(page).expect("UTF-8");
        assert!(page.starts_with(r#"{"alerts":[{"alert_id":"6f1f""#), "{page}");
        assert!(page.ends_with(r#""model":null,"status":"in_review"}],"next_cursor":"c1"}"#), "{page}");
        assert_eq!(page_to_json(&[], None).expect("printable"), br#"{"alerts":[],"next_cursor":null}"#);
    }

    #[test]
    fn damaged_reasons_are_an_error() {
        let damaged = AlertJson { reasons_json: "[".to_owned(), ..testing::alert() };
        let error = page_to_json(&[damaged], None).expect_err("damaged");
        assert!(error.to_string().contains("alert 6f1f: reasons"), "{error}");
    }
}

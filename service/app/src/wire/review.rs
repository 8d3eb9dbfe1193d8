//! What a person says about an alert: the body of `POST /v1/alerts/{id}/reviews`, its answer, and what follows from it.

use super::ParseContext;
use super::fault::ParseError;
use super::field::Field;
use super::object;
use super::reader::Reader;
use super::time::Rfc3339;
use serde::Serialize;
use verdict_core::time::Timestamp;

/// Longest note in bytes: a page of text, and far below the bound of a body.
pub const MAX_NOTE_BYTES: usize = 8_192;

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

    /// What a review may say; an alert is open only while nobody has said anything.
    const SAID: [(Self, &'static str); 3] = [Self::ALL[1], Self::ALL[2], Self::ALL[3]];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The status of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(status, _)| *status)
    }

    /// Whether the payment was fraud, once that is settled.
    #[must_use]
    pub const fn is_fraud(self) -> Option<bool> {
        match self {
            Self::Open | Self::InReview => None,
            Self::ConfirmedFraud => Some(true),
            Self::FalsePositive => Some(false),
        }
    }
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReview {
    /// Where it stands now; never [`ReviewStatus::Open`].
    pub status: ReviewStatus,
    /// Why, for colleagues.
    pub note: Option<Box<str>>,
    /// Who works on it.
    pub assignee: Option<Box<str>>,
}

/// Parses one review.
///
/// # Errors
/// [`ParseError`] with every fault of the body.
pub fn parse(bytes: &[u8], context: &ParseContext<'_>) -> Result<NewReview, ParseError> {
    let fields = object::read(bytes)?;
    let mut reader = Reader::new(&fields, context);
    let status = reader.one_of(Field::Status, &ReviewStatus::SAID);
    let note = reader.optional_prose(Field::Note, MAX_NOTE_BYTES);
    let assignee = reader.optional_id(Field::Assignee);
    Ok(reader.finish(status.map(|status| NewReview { status, note, assignee }))?)
}

/// A review that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Its number.
    pub review_id: i64,
    /// The alert, as the store spells its id.
    pub alert_id: String,
    /// When it was said; later than every other review of the alert.
    pub at: Timestamp,
    /// What was said.
    pub said: NewReview,
}

#[derive(Serialize)]
struct ReviewJson<'a> {
    review_id: i64,
    alert_id: &'a str,
    status: ReviewStatus,
    assignee: Option<&'a str>,
    note: Option<&'a str>,
    at: Rfc3339,
}

impl Review {
    /// Appends the review as JSON.
    pub fn to_json(&self, out: &mut Vec<u8>) {
        let shape = ReviewJson {
            review_id: self.review_id,
            alert_id: &self.alert_id,
            status: self.said.status,
            assignee: self.said.assignee.as_deref(),
            note: self.said.note.as_deref(),
            at: Rfc3339(self.at),
        };
        super::append(&shape, out);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A review to print.

    use super::super::testing::NOON;
    use super::{NewReview, Review};

    /// What a store makes of a review.
    pub(crate) fn stored(alert_id: &str, said: NewReview) -> Review {
        Review { review_id: 12, alert_id: alert_id.to_owned(), at: NOON, said }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, rates, summary};
    use super::*;

    fn parsed(body: &str) -> Result<NewReview, Vec<String>> {
        let rates = rates();
        parse(body.as_bytes(), &context(&rates)).map_err(|error| summary(&error))
    }

    #[test]
    fn bodies() {
        let least = NewReview { status: ReviewStatus::InReview, note: None, assignee: None };
        assert_eq!(parsed(r#"{"status":"in_review","note":null}"#), Ok(least));
        let full = parsed(r#"{"status":"false_positive","note":"called,\nwas hers","assignee":"ana"}"#).expect("valid");
        assert_eq!((full.note.as_deref(), full.assignee.as_deref()), (Some("called,\nwas hers"), Some("ana")));
        let check = |body: &str, expected: &[&str]| assert_eq!(parsed(body).expect_err(body), expected, "{body}");
        check("{}", &["/status MISSING_FIELD"]);
        check(r#"{"status":"open","assignee":""}"#, &["/status UNKNOWN_VALUE", "/assignee ID_EMPTY"]);
        check(
            r#"{"status":1,"note":[],"assignee":"a\nb"}"#,
            &["/status WRONG_TYPE", "/note WRONG_TYPE", "/assignee TEXT_INVALID"],
        );
        let long = format!(r#"{{"status":"in_review","note":"{}"}}"#, "x".repeat(MAX_NOTE_BYTES + 1));
        check(&long, &["/note TEXT_TOO_LONG"]);
        check("[]", &[" WRONG_TYPE"]);
        check(r#"{"status":"in_review","status":"in_review"}"#, &["NOT_JSON"]);
    }

    #[test]
    fn statuses_have_one_name_each() {
        for (status, name) in ReviewStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("printable"), name);
            assert_eq!((status.name(), ReviewStatus::from_name(name)), (name, Some(status)));
        }
        assert_eq!(ReviewStatus::from_name("Open"), None);
        let settled: Vec<Option<bool>> = ReviewStatus::SAID.iter().map(|(status, _)| status.is_fraud()).collect();
        assert_eq!(settled, [None, Some(true), Some(false)]);
    }

    #[test]
    fn shape() {
        let said = NewReview { status: ReviewStatus::ConfirmedFraud, note: Some("x".into()), assignee: None };
        let mut out = Vec::new();
        testing::stored("7c9e", said).to_json(&mut out);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#"{"review_id":12,"alert_id":"7c9e","status":"confirmed_fraud","assignee":null,"note":"x","at":"2026-11-23T12:00:00.000Z"}"#
        );
    }
}

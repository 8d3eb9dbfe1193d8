//! A record of a topic as what it means: parsed by the same parsers as a request, its age measured against its own Kafka
//! timestamp. What is no event keeps its reason, and of a huge value only what a dead letter needs.

use crate::actors::messages::Event;
use crate::journal::record::Cut;
use crate::wire::{AgeBounds, ParseContext, ParseError, label, login, transaction};
use sha2::{Digest, Sha256};
use verdict_core::event::Transaction;
use verdict_core::money::Rates;
use verdict_core::time::Timestamp;

/// Largest value that is parsed: what one request may have (DESIGN 4).
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Largest value that a dead letter holds whole, and what it holds of a larger one.
const MAX_WHOLE_BYTES: usize = 1024 * 1024;
const CUT_BYTES: usize = 64 * 1024;

/// Reason code of a value that is too large to be an event, as over HTTP.
const TOO_LARGE: &str = "TOO_LARGE";

/// What a topic brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Transactions.
    Transactions,
    /// Logins.
    Logins,
    /// Labels.
    Labels,
}

/// What a record means.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    Event(Event),
    Refused { reason: &'static str, detail: Box<str> },
}

/// A value and its meaning.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    pub(super) meaning: Meaning,
    /// The bytes as they came, or the first of them.
    pub(super) original: Box<[u8]>,
    pub(super) cut: Option<Cut>,
}

/// What values are parsed with.
#[derive(Clone, Copy)]
pub(super) struct Decoding<'a> {
    pub(super) rates: &'a Rates,
    pub(super) bounds: AgeBounds,
    /// When the record was produced, or appended, as its topic has it.
    pub(super) produced_at: Timestamp,
}

impl Decoding<'_> {
    /// Reads a value; a record without one, as compaction takes for a deletion, is an empty text.
    pub(super) fn decode(&self, kind: Kind, value: &[u8]) -> Decoded {
        let meaning = self.meaning(kind, value);
        if value.len() <= MAX_WHOLE_BYTES {
            return Decoded { meaning, original: value.into(), cut: None };
        }
        let cut = Cut { length: value.len() as u64, sha256: Sha256::digest(value).into() };
        Decoded { meaning, original: value[..CUT_BYTES].into(), cut: Some(cut) }
    }

    fn meaning(&self, kind: Kind, value: &[u8]) -> Meaning {
        if value.len() > MAX_EVENT_BYTES {
            let detail = format!("expected a value of at most {MAX_EVENT_BYTES} bytes, found {}", value.len());
            return Meaning::Refused { reason: TOO_LARGE, detail: detail.into() };
        }
        let context = ParseContext { rates: self.rates, now: self.produced_at, bounds: self.bounds };
        let parsed = match kind {
            Kind::Transactions => {
                transaction::parse(value, &context).map(|parsed| Event::Transaction(parsed.transaction))
            }
            Kind::Logins => login::parse(value, &context).map(Event::Login),
            Kind::Labels => label::parse(value, &context).map(Event::Label),
        };
        match parsed {
            Ok(event) => Meaning::Event(event),
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &ParseError) -> Meaning {
    Meaning::Refused { reason: error.reason(), detail: error.to_string().into() }
}

impl Decoded {
    /// Event time; what is no event has none.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match &self.meaning {
            Meaning::Event(Event::Transaction(transaction)) => Some(transaction.at),
            Meaning::Event(Event::Login(login)) => Some(login.at),
            Meaning::Event(Event::Label(label)) => Some(label.at),
            Meaning::Refused { .. } => None,
        }
    }

    /// The transaction, if it is one.
    pub(super) fn transaction(&self) -> Option<&Transaction> {
        match &self.meaning {
            Meaning::Event(Event::Transaction(transaction)) => Some(transaction),
            Meaning::Event(_) | Meaning::Refused { .. } => None,
        }
    }

    /// Whose event it is.
    pub(super) fn user_id(&self) -> Option<&str> {
        match &self.meaning {
            Meaning::Event(Event::Transaction(transaction)) => Some(&transaction.user_id),
            Meaning::Event(Event::Login(login)) => Some(&login.user_id),
            Meaning::Event(Event::Label(label)) => Some(&label.user_id),
            Meaning::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{NOON, rates};

    fn decode(kind: Kind, value: &[u8], produced_at: Timestamp) -> Decoded {
        Decoding { rates: &rates(), bounds: AgeBounds::default(), produced_at }.decode(kind, value)
    }

    fn reason(kind: Kind, value: &[u8]) -> String {
        match decode(kind, value, NOON).meaning {
            Meaning::Event(_) => "event".to_owned(),
            Meaning::Refused { reason, .. } => reason.to_owned(),
        }
    }

    const TRANSACTION: &str = r#"{"transaction_id":"t","user_id":"u","amount":"1.00","currency":"USD","merchant_id":"m","timestamp":"2026-11-23T12:00:00Z"}"#;
    const LOGIN: &str = r#"{"login_id":"l","user_id":"u","timestamp":"2026-11-23T11:59:00Z"}"#;
    const LABEL: &str =
        r#"{"transaction_id":"t","user_id":"u","is_fraud":true,"source":"issuer","timestamp":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn the_topic_says_what_a_value_is() {
        for (kind, value, at) in [
            (Kind::Transactions, TRANSACTION, Some(NOON)),
            (Kind::Logins, LOGIN, Some(NOON - 60_000)),
            (Kind::Labels, LABEL, Some(NOON - 326 * 86_400_000 - 43_200_000)),
        ] {
            let decoded = decode(kind, value.as_bytes(), NOON);
            assert_eq!((decoded.at(), decoded.user_id()), (at, Some("u")), "{kind:?}");
            assert_eq!((&*decoded.original, decoded.cut), (value.as_bytes(), None));
        }
        assert_eq!(reason(Kind::Logins, TRANSACTION.as_bytes()), "MISSING_FIELD");
        assert_eq!(reason(Kind::Transactions, b"not json"), "NOT_JSON");
        assert_eq!(reason(Kind::Labels, b""), "NOT_JSON");
    }

    #[test]
    fn ages_count_from_the_records_own_timestamp() {
        let at = |days: i64| decode(Kind::Transactions, TRANSACTION.as_bytes(), NOON + days * 86_400_000);
        assert!(matches!(at(7).meaning, Meaning::Event(_)));
        assert!(matches!(at(8).meaning, Meaning::Refused { reason: "TOO_OLD", .. }));
        assert!(matches!(at(-2).meaning, Meaning::Refused { reason: "TOO_EARLY", .. }));
    }

    #[test]
    fn a_huge_value_leaves_its_beginning_its_length_and_its_hash() {
        let whole = vec![b'x'; MAX_WHOLE_BYTES];
        let decoded = decode(Kind::Transactions, &whole, NOON);
        assert_eq!((decoded.original.len(), decoded.cut), (MAX_WHOLE_BYTES, None));
        assert_eq!(reason(Kind::Transactions, &whole), "TOO_LARGE");
        let larger = vec![b'x'; MAX_WHOLE_BYTES + 1];
        let decoded = decode(Kind::Transactions, &larger, NOON);
        let cut = decoded.cut.expect("it was cut");
        assert_eq!((decoded.original.len(), cut.length), (65_536, 1_048_577));
        assert_eq!(cut.sha256, <[u8; 32]>::from(Sha256::digest(&larger)));
    }
}

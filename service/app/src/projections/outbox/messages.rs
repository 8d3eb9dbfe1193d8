//! What goes out: an alert as its readers know it, and a refused record as it came, with what was wrong beside it.

use crate::journal::record::{Body, Cut, Record};
use crate::wire::alert::Alert;
use crate::wire::{hex, time};
use verdict_core::event::Source;

/// Where something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `fraud-alerts`.
    Alerts,
    /// `dead-letters`.
    DeadLetters,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub channel: Channel,
    /// Whose it is; dead letters are nobody's.
    pub key: Option<Box<[u8]>>,
    /// What it says.
    pub value: Box<[u8]>,
    /// What stands beside it.
    pub headers: Vec<(&'static str, Box<[u8]>)>,
}

impl Outgoing {
    /// What a record sends out, if anything.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        match &record.body {
            Body::Decision(decided) if decided.decision.alert => Some(Self {
                channel: Channel::Alerts,
                key: Some(decided.transaction.user_id.as_bytes().into()),
                value: Alert::of(decided).to_json().into(),
                headers: Vec::new(),
            }),
            Body::DeadLetter { reason, detail, original, cut } => {
                Some(dead_letter(record, reason, detail, original, *cut))
            }
            _ => None,
        }
    }

    /// Bytes of it.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, |key| key.len()) + self.value.len() + headers
    }
}

/// A refused record: the value is the bytes as they came, or as they were cut; all else is a header, numbers as text.
fn dead_letter(record: &Record, reason: &str, detail: &str, original: &[u8], cut: Option<Cut>) -> Outgoing {
    let mut headers: Vec<(&'static str, Box<[u8]>)> = Vec::with_capacity(8);
    let mut header = |name, text: &str| headers.push((name, text.as_bytes().into()));
    match &record.source {
        Source::Topic { topic, partition, offset } => {
            header("origin-topic", topic);
            header("origin-partition", &partition.to_string());
            header("origin-offset", &offset.to_string());
        }
        Source::File { line } => header("origin-line", &line.to_string()),
        Source::Http => {}
    }
    header("reason", reason);
    header("detail", detail);
    header("time", &time::to_text(record.received_at));
    if let Some(Cut { length, sha256 }) = cut {
        header("length", &length.to_string());
        header("sha256", &hex(&sha256));
    }
    Outgoing { channel: Channel::DeadLetters, key: None, value: original.into(), headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::samples;

    fn headers(outgoing: &Outgoing) -> Vec<(&'static str, String)> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
        outgoing.headers.iter().map(|(name, value)| (*name, text(value))).collect()
    }

    #[test]
    fn an_alert_is_keyed_by_its_user_and_says_what_its_other_readers_see() {
        let record = samples::alert(0, 1, 5, "u-7");
        let Body::Decision(decided) = &record.body else { panic!("expected a decision") };
        let found = Outgoing::of(&record).expect("an alert");
        assert_eq!((found.channel, found.key.as_deref()), (Channel::Alerts, Some(&b"u-7"[..])));
        assert_eq!(found.value, serde_json::to_vec(&Alert::of(decided)).expect("printable").into());
        assert_eq!(headers(&found), []);
        assert_eq!(Outgoing::of(&samples::decision(0, 1, 5)), None);
        assert_eq!(Outgoing::of(&samples::login(0, 1, 5)), None);
    }

    #[test]
    fn a_dead_letter_is_the_original_with_its_origin_and_reason() {
        let record = samples::dead_letter(4, 1, 12);
        let found = Outgoing::of(&record).expect("a dead letter");
        assert_eq!((found.channel, found.key.as_deref()), (Channel::DeadLetters, None));
        assert_eq!(&*found.value, br#"{"transaction_id":"t-12"}"#);
        let mut expected = vec![
            ("origin-topic", "transactions".to_owned()),
            ("origin-partition", "4".to_owned()),
            ("origin-offset", "12".to_owned()),
            ("reason", "TOO_OLD".to_owned()),
            ("detail", "expected a timestamp after 0 ms".to_owned()),
            ("time", "2026-11-23T12:00:00.012Z".to_owned()),
        ];
        assert_eq!(headers(&found), expected);
        let mut cut = record.clone();
        let Body::DeadLetter { original, cut: whole, .. } = &mut cut.body else { panic!("expected a dead letter") };
        (*original, *whole) = (b"{".as_slice().into(), Some(Cut { length: 2_000_000, sha256: [10; 32] }));
        let cut = Outgoing::of(&cut).expect("a dead letter");
        expected.extend([("length", "2000000".to_owned()), ("sha256", "0a".repeat(32))]);
        assert_eq!((headers(&cut), &*cut.value), (expected, &b"{"[..]));
        let from_file = Record { source: Source::File { line: 17 }, ..record };
        assert_eq!(headers(&Outgoing::of(&from_file).expect("a dead letter"))[0], ("origin-line", "17".to_owned()));
    }
}

//! A dead letter as it is read back from its topic: what `messages` writes, for people and for sending it again. The topic
//! is open to others, so that nothing in it is trusted to be there.

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// A refused record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Where it came from; `None` if that was no topic, or is not told.
    pub origin: Option<LetterOrigin>,
    /// Why it was refused: a reason code.
    pub reason: Option<String>,
    /// What was expected and what was found.
    pub detail: Option<String>,
    /// When it was refused, RFC 3339.
    pub time: Option<String>,
    /// Length and SHA-256 of the whole, in hex, where only its beginning was kept.
    pub cut: Option<(u64, String)>,
    /// The bytes as they came, or their beginning.
    pub value: Vec<u8>,
}

/// Where a refused record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterOrigin {
    /// Full name of the topic.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl Letter {
    /// A message of the topic.
    #[must_use]
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers();
        let headers = headers.iter().flat_map(|headers| headers.iter());
        let headers: Vec<_> = headers.filter_map(|header| Some((header.key, header.value?))).collect();
        Self::read(&headers, message.payload().unwrap_or_default())
    }

    /// What headers and a value say.
    #[must_use]
    pub fn read(headers: &[(&str, &[u8])], value: &[u8]) -> Self {
        let text = |wanted: &str| {
            let (_, value) = headers.iter().find(|(name, _)| *name == wanted)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let origin = || {
            let partition = text("origin-partition")?.parse().ok().filter(|partition| *partition >= 0)?;
            let offset = text("origin-offset")?.parse().ok()?;
            Some(LetterOrigin { topic: text("origin-topic")?, partition, offset })
        };
        // Its presence says that it was cut; an unreadable length does not make it whole.
        let cut = text("length").map(|length| (length.parse().unwrap_or(0), text("sha256").unwrap_or_default()));
        Self {
            origin: origin(),
            reason: text("reason"),
            detail: text("detail"),
            time: text("time"),
            cut,
            value: value.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outgoing;
    use super::*;
    use crate::journal::record::{Body, Cut, Record, samples};

    fn read_back(record: &Record) -> Letter {
        let sent = Outgoing::of(record).expect("a dead letter");
        let headers: Vec<(&str, &[u8])> = sent.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        Letter::read(&headers, &sent.value)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut record = samples::dead_letter(4, 1, 12);
        let mut expected = Letter {
            origin: Some(LetterOrigin { topic: "transactions".to_owned(), partition: 4, offset: 12 }),
            reason: Some("TOO_OLD".to_owned()),
            detail: Some("expected a timestamp after 0 ms".to_owned()),
            time: Some("2026-11-23T12:00:00.012Z".to_owned()),
            cut: None,
            value: br#"{"transaction_id":"t-12"}"#.to_vec(),
        };
        assert_eq!(read_back(&record), expected);
        let Body::DeadLetter { cut, .. } = &mut record.body else { panic!("expected a dead letter") };
        *cut = Some(Cut { length: 2_000_000, sha256: [10; 32] });
        expected.cut = Some((2_000_000, "0a".repeat(32)));
        assert_eq!(read_back(&record), expected);
    }

    #[test]
    fn what_others_write_is_no_origin() {
        assert_eq!(Letter::read(&[], b""), Letter::default());
        for partition in ["-1", "x", ""] {
            let headers = [
                ("origin-topic", &b"transactions"[..]),
                ("origin-partition", partition.as_bytes()),
                ("origin-offset", b"1"),
            ];
            assert_eq!(Letter::read(&headers, b"").origin, None, "{partition:?}");
        }
        assert_eq!(Letter::read(&[("length", b"many")], b"").cut, Some((0, String::new())));
    }
}

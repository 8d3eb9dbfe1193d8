//! Version 4 of the stored record: answers that were given before they were journaled (ADR 0001), for which the versions
//! before have no shape.
//!
//! Everything else is still written as before. The shapes below never change: like those of version 1 they are
//! identified by their order only.

use super::record::{Body, Decided, Record};
use super::record_v1::{self, Append, DecidedV1, SourceV1};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;
use verdict_core::time::Timestamp;

/// The first byte of every record of this version.
pub const VERSION: u8 = 4;

/// Why bytes that begin with this version are not a record of it.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecodeError {
    /// The bytes do not have the shape.
    #[error("expected the shape of a version {VERSION} record: {0}")]
    Malformed(postcard::Error),
    /// Bytes are left after the record.
    #[error("expected the end of the record, found {0} more bytes")]
    Trailing(usize),
    /// What was decided is not.
    #[error(transparent)]
    Decided(#[from] record_v1::DecodeError),
}

#[derive(Serialize, Deserialize)]
struct RecordV4<'a> {
    partition: u16,
    epoch: u64,
    n: u64,
    #[serde(borrow)]
    source: SourceV1<'a>,
    received_at_ms: i64,
    #[serde(borrow)]
    body: BodyV4<'a>,
}

#[derive(Serialize, Deserialize)]
enum BodyV4<'a> {
    /// The first record of its transaction.
    AsAnswered(#[serde(borrow)] DecidedV1<'a>),
    /// Another answer to a transaction that has one.
    Answered(#[serde(borrow)] DecidedV1<'a>),
}

/// Appends the stored form; `false`, and nothing, for what an older version has a shape for.
///
/// # Errors
/// Never for the shapes of this version; the signature leaves the judgement to the encoder.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<bool, postcard::Error> {
    let body = match &record.body {
        Body::Decision(decided) if decided.as_answered => BodyV4::AsAnswered((&**decided).into()),
        Body::Answered(decided) => BodyV4::Answered((&**decided).into()),
        Body::Decision(_)
        | Body::Login(_)
        | Body::Label(_)
        | Body::List(_)
        | Body::Duplicate { .. }
        | Body::DeadLetter { .. }
        | Body::Skipped { .. } => return Ok(false),
    };
    let shape = RecordV4 {
        partition: record.partition,
        epoch: record.epoch,
        n: record.n,
        source: (&record.source).into(),
        received_at_ms: record.received_at.as_millis(),
        body,
    };
    out.push(VERSION);
    postcard::serialize_with_flavor(&shape, Append(out)).map(|()| true)
}

/// Reads back what follows the version byte.
///
/// # Errors
/// [`DecodeError`] names what was expected and found.
pub fn decode(bytes: &[u8], decoder: &mut record_v1::Decoder) -> Result<Record, DecodeError> {
    let (stored, rest) = postcard::take_from_bytes::<RecordV4<'_>>(bytes).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    let mut decided = |stored: DecidedV1<'_>| {
        let decided = Decided { as_answered: true, ..stored.into_decided(decoder)? };
        Ok::<_, record_v1::DecodeError>(Arc::new(decided))
    };
    Ok(Record {
        partition: stored.partition,
        epoch: stored.epoch,
        n: stored.n,
        source: stored.source.into(),
        received_at: Timestamp::from_millis(stored.received_at_ms),
        body: match stored.body {
            BodyV4::AsAnswered(stored) => Body::Decision(decided(stored)?),
            BodyV4::Answered(stored) => Body::Answered(decided(stored)?),
        },
    })
}

//! Version 3 of the stored record: what only sources with offsets leave, and versions 1 and 2 have no shape for (ADR 0001): a
//! record that was moved to another partition, and a dead letter whose bytes were cut.
//!
//! Everything else is still written as before. The shapes below never change: like those of version 1 they are
//! identified by their order only.

use super::record::{Body, Cut, Record};
use super::record_v1::{Append, Bytes, SourceV1};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use verdict_core::time::Timestamp;

/// The first byte of every record of this version.
pub const VERSION: u8 = 3;

/// Why bytes that begin with this version are not a record of it.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecodeError {
    /// The bytes do not have the shape.
    #[error("expected the shape of a version {VERSION} record: {0}")]
    Malformed(postcard::Error),
    /// Bytes are left after the record.
    #[error("expected the end of the record, found {0} more bytes")]
    Trailing(usize),
}

#[derive(Serialize, Deserialize)]
struct RecordV3<'a> {
    partition: u16,
    epoch: u64,
    n: u64,
    #[serde(borrow)]
    source: SourceV1<'a>,
    received_at_ms: i64,
    #[serde(borrow)]
    body: BodyV3<'a>,
}

#[derive(Serialize, Deserialize)]
enum BodyV3<'a> {
    Skipped {
        user_id: &'a str,
        moved_to: i32,
    },
    CutDeadLetter {
        reason: &'a str,
        detail: &'a str,
        #[serde(borrow)]
        original: Bytes<'a>,
        length: u64,
        sha256: [u8; 32],
    },
}

/// Appends the stored form; `false`, and nothing, for what an older version has a shape for.
///
/// # Errors
/// Never for the shapes of this version; the signature leaves the judgement to the encoder.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<bool, postcard::Error> {
    let body = match &record.body {
        Body::Skipped { user_id, moved_to } => BodyV3::Skipped { user_id, moved_to: *moved_to },
        Body::DeadLetter { reason, detail, original, cut: Some(Cut { length, sha256 }) } => {
            BodyV3::CutDeadLetter { reason, detail, original: Bytes(original), length: *length, sha256: *sha256 }
        }
        Body::Decision(_)
        | Body::Answered(_)
        | Body::Login(_)
        | Body::Label(_)
        | Body::List(_)
        | Body::Duplicate { .. }
        | Body::DeadLetter { cut: None, .. } => return Ok(false),
    };
    let shape = RecordV3 {
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
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (stored, rest) = postcard::take_from_bytes::<RecordV3<'_>>(bytes).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    Ok(Record {
        partition: stored.partition,
        epoch: stored.epoch,
        n: stored.n,
        source: stored.source.into(),
        received_at: Timestamp::from_millis(stored.received_at_ms),
        body: match stored.body {
            BodyV3::Skipped { user_id, moved_to } => Body::Skipped { user_id: user_id.into(), moved_to },
            BodyV3::CutDeadLetter { reason, detail, original, length, sha256 } => Body::DeadLetter {
                reason: reason.into(),
                detail: detail.into(),
                original: original.0.into(),
                cut: Some(Cut { length, sha256 }),
            },
        },
    })
}

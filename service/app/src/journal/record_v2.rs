//! Version 2 of the stored record: changes of block and allow lists, which version 1 has no shape for (ADR 0001).
//!
//! Everything else is still written as version 1, so that an older release reads the journal until the first list
//! change. The shapes below never change: like those of version 1 they are identified by their order only.

use super::record::{Body, Record};
use super::record_v1::{Append, SourceV1};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};
use verdict_core::time::Timestamp;

/// The first byte of every record of this version.
pub const VERSION: u8 = 2;

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
struct RecordV2<'a> {
    partition: u16,
    epoch: u64,
    n: u64,
    #[serde(borrow)]
    source: SourceV1<'a>,
    received_at_ms: i64,
    #[serde(borrow)]
    body: BodyV2<'a>,
}

#[derive(Serialize, Deserialize)]
enum BodyV2<'a> {
    List(#[serde(borrow)] ListChangeV2<'a>),
}

#[derive(Serialize, Deserialize)]
struct ListChangeV2<'a> {
    list: ListV2,
    kind: ListKindV2,
    value: &'a str,
    source: ListSourceV2,
    #[serde(borrow)]
    action: ListActionV2<'a>,
}

#[derive(Serialize, Deserialize)]
enum ListV2 {
    Block,
    Allow,
}

#[derive(Serialize, Deserialize)]
enum ListKindV2 {
    User,
    Merchant,
    Device,
    Ip,
}

#[derive(Serialize, Deserialize)]
enum ListSourceV2 {
    Decision,
    Api,
}

#[derive(Serialize, Deserialize)]
enum ListActionV2<'a> {
    Put { reason: &'a str, expires_at_ms: Option<i64> },
    Delete,
}

/// Appends the stored form of a list change; `false`, and nothing, for any other record.
///
/// # Errors
/// Never for the shapes of this version; the signature leaves the judgement to the encoder.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<bool, postcard::Error> {
    let Body::List(change) = &record.body else { return Ok(false) };
    let shape = RecordV2 {
        partition: record.partition,
        epoch: record.epoch,
        n: record.n,
        source: (&record.source).into(),
        received_at_ms: record.received_at.as_millis(),
        body: BodyV2::List(change.into()),
    };
    out.push(VERSION);
    postcard::serialize_with_flavor(&shape, Append(out)).map(|()| true)
}

/// Reads back what follows the version byte.
///
/// # Errors
/// [`DecodeError`] names what was expected and found.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (stored, rest) = postcard::take_from_bytes::<RecordV2<'_>>(bytes).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    let BodyV2::List(change) = stored.body;
    Ok(Record {
        partition: stored.partition,
        epoch: stored.epoch,
        n: stored.n,
        source: stored.source.into(),
        received_at: Timestamp::from_millis(stored.received_at_ms),
        body: Body::List(change.into()),
    })
}

impl<'a> From<&'a ListChange> for ListChangeV2<'a> {
    fn from(change: &'a ListChange) -> Self {
        Self {
            list: match change.key.list {
                List::Block => ListV2::Block,
                List::Allow => ListV2::Allow,
            },
            kind: match change.key.kind {
                ListKind::User => ListKindV2::User,
                ListKind::Merchant => ListKindV2::Merchant,
                ListKind::Device => ListKindV2::Device,
                ListKind::Ip => ListKindV2::Ip,
            },
            value: &change.key.value,
            source: match change.source {
                ListSource::Decision => ListSourceV2::Decision,
                ListSource::Api => ListSourceV2::Api,
            },
            action: match &change.action {
                ListAction::Put { reason, expires_at } => {
                    ListActionV2::Put { reason, expires_at_ms: expires_at.map(Timestamp::as_millis) }
                }
                ListAction::Delete => ListActionV2::Delete,
            },
        }
    }
}

impl From<ListChangeV2<'_>> for ListChange {
    fn from(stored: ListChangeV2<'_>) -> Self {
        Self {
            key: ListKey {
                list: match stored.list {
                    ListV2::Block => List::Block,
                    ListV2::Allow => List::Allow,
                },
                kind: match stored.kind {
                    ListKindV2::User => ListKind::User,
                    ListKindV2::Merchant => ListKind::Merchant,
                    ListKindV2::Device => ListKind::Device,
                    ListKindV2::Ip => ListKind::Ip,
                },
                value: stored.value.into(),
            },
            source: match stored.source {
                ListSourceV2::Decision => ListSource::Decision,
                ListSourceV2::Api => ListSource::Api,
            },
            action: match stored.action {
                ListActionV2::Put { reason, expires_at_ms } => {
                    ListAction::Put { reason: reason.into(), expires_at: expires_at_ms.map(Timestamp::from_millis) }
                }
                ListActionV2::Delete => ListAction::Delete,
            },
        }
    }
}

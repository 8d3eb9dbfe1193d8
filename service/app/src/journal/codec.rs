//! Records as bytes, of every version: the first byte says which. What was written once stays readable for ever; what
//! is written is the oldest version that has a shape for it (ADR 0001).

#[cfg(test)]
mod tests;

use super::record::Record;
use super::{record_v1, record_v2, record_v3, record_v4};
use thiserror::Error;

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecodeError {
    /// Not of version 1, nor of any other known.
    #[error(transparent)]
    V1(#[from] record_v1::DecodeError),
    /// Not of version 2, as which they begin.
    #[error(transparent)]
    V2(#[from] record_v2::DecodeError),
    /// Not of version 3, as which they begin.
    #[error(transparent)]
    V3(#[from] record_v3::DecodeError),
    /// Not of version 4, as which they begin.
    #[error(transparent)]
    V4(#[from] record_v4::DecodeError),
}

/// Appends the stored form of a record.
///
/// # Errors
/// Never for the shapes of these versions; the signature leaves the judgement to the encoder.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    if record_v4::encode(record, out)? || record_v3::encode(record, out)? || record_v2::encode(record, out)? {
        Ok(())
    } else {
        record_v1::encode(record, out)
    }
}

/// Whether the stored form may be that of a list change: no version but the second has a shape for one.
#[must_use]
pub fn may_be_list_change(bytes: &[u8]) -> bool {
    bytes.first() == Some(&record_v2::VERSION)
}

/// Reads many records, sharing among neighbours what they have in common.
#[derive(Debug, Default)]
pub struct Decoder {
    v1: record_v1::Decoder,
}

impl Decoder {
    /// Reads one record back; bit for bit what was encoded, except that slots which the catalogue has gained since are
    /// absent (NaN).
    ///
    /// # Errors
    /// [`DecodeError`] names what was expected and found.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Record, DecodeError> {
        match bytes.split_first() {
            Some((&record_v2::VERSION, rest)) => Ok(record_v2::decode(rest)?),
            Some((&record_v3::VERSION, rest)) => Ok(record_v3::decode(rest)?),
            Some((&record_v4::VERSION, rest)) => Ok(record_v4::decode(rest, &mut self.v1)?),
            _ => Ok(self.v1.decode(bytes)?),
        }
    }
}

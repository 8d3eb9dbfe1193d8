//! How a record of version 1 is stored: a version byte, then the shapes of `shape` in postcard's wire format (ADR 0001).
//! Whoever reads and writes records of any version asks `codec`.
//!
//! What was written once stays readable for ever: a golden file of every version is decoded by the tests. A shape of
//! version 1 never changes; a change of any kind is a new version beside it. Decoding takes any bytes without a panic,
//! and allocates in proportion to their number. It refuses to guess: unknown versions, left-over bytes and values that
//! the core does not allow are errors.

mod bytes;
mod convert;
mod shape;
#[cfg(test)]
mod tests;

use super::record::{Generation, Record};
pub(super) use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use shape::RecordV1;
pub(super) use shape::{DecidedV1, SourceV1};
use std::sync::Arc;
use thiserror::Error;
use verdict_core::geo::CoordinatesError;
use verdict_core::money::Currency;

/// The first byte of every record of this version.
pub const VERSION: u8 = 1;

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("expected a record, found no bytes")]
    Empty,
    /// Another version.
    #[error("expected record version 1 to 4, found {0}; a newer release wrote it")]
    Version(u8),
    /// The bytes do not have the shape.
    #[error("expected the shape of a version {VERSION} record: {0}")]
    Malformed(postcard::Error),
    /// Bytes are left after the record.
    #[error("expected the end of the record, found {0} more bytes")]
    Trailing(usize),
    /// More features than the catalogue has.
    #[error("expected at most {known} features, found {found}; a newer release wrote it")]
    Features {
        /// Slots of this release's catalogue.
        known: usize,
        /// Values in the record.
        found: usize,
    },
    /// No currency of the tables.
    #[error("expected an ISO 4217 currency code, found {0:?}")]
    Currency(Box<str>),
    /// No SHA-256.
    #[error("expected 32 bytes of SHA-256, found {0}")]
    Hash(usize),
    /// No point on Earth.
    #[error(transparent)]
    Coordinates(#[from] CoordinatesError),
}

/// Appends the stored form of a record.
///
/// # Errors
/// Only for what this version has no shape for (list changes and what sources with offsets leave); nothing is appended then.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    let shape = RecordV1::of(record).ok_or(postcard::Error::WontImplement)?;
    out.push(VERSION);
    postcard::serialize_with_flavor(&shape, Append(out))
}

/// Reads one record back; bit for bit what was encoded, except that slots which the catalogue has gained since are
/// absent (NaN).
///
/// # Errors
/// [`DecodeError`] names what was expected and found.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    Decoder::default().decode(bytes)
}

/// Reads many records, sharing one [`Generation`] among neighbours that name the same, and looking a currency up once.
#[derive(Debug, Default)]
pub struct Decoder {
    generation: Option<Arc<Generation>>,
    currency: Option<([u8; 3], Currency)>,
}

impl Decoder {
    /// See [`decode`].
    ///
    /// # Errors
    /// [`DecodeError`] names what was expected and found.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Record, DecodeError> {
        let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        let (stored, rest) = postcard::take_from_bytes::<RecordV1<'_>>(rest).map_err(DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::Trailing(rest.len()));
        }
        stored.into_record(self)
    }
}

/// Writes to the end of a buffer that the caller keeps.
pub(super) struct Append<'a>(pub(super) &'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

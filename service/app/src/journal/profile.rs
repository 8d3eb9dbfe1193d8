//! How a profile is stored, in a checkpoint and in the memory of a user who is no actor: the newest version is written,
//! every version is read for ever. The same profile always gives the same bytes.

use super::{profile_v1, profile_v2};
use thiserror::Error;
use verdict_core::profile::{PartsError, Profile};

/// Why bytes are no profile.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// An unknown version.
    #[error("expected version 1 or 2, found {0}; a newer version of verdict wrote it")]
    Version(u8),
    /// Nothing at all.
    #[error("expected a version byte, found nothing")]
    Empty,
    /// Not the shape.
    #[error("expected a profile, found other bytes: {0}")]
    Shape(#[from] postcard::Error),
    /// A value out of its range.
    #[error("expected {0} in its range")]
    Range(&'static str),
    /// Sequences out of order.
    #[error(transparent)]
    Order(#[from] PartsError),
}

/// The bytes of a profile.
#[must_use]
pub fn encode(profile: &Profile) -> Vec<u8> {
    profile_v2::encode(profile)
}

/// The profile of some bytes.
///
/// # Errors
/// [`ProfileError`] says what was expected.
pub fn decode(bytes: &[u8]) -> Result<Profile, ProfileError> {
    match versioned(bytes)? {
        (profile_v1::VERSION, shape) => profile_v1::decode(shape),
        (profile_v2::VERSION, shape) => profile_v2::decode(shape),
        (version, _) => Err(ProfileError::Version(version)),
    }
}

/// The number after the last record that the profile in some bytes reflects, without decoding the rest: every version
/// has it first.
///
/// # Errors
/// When the version is unknown, or nothing follows it.
pub fn next_n(bytes: &[u8]) -> Result<u64, ProfileError> {
    match versioned(bytes)? {
        (profile_v1::VERSION | profile_v2::VERSION, shape) => Ok(postcard::take_from_bytes(shape)?.0),
        (version, _) => Err(ProfileError::Version(version)),
    }
}

fn versioned(bytes: &[u8]) -> Result<(u8, &[u8]), ProfileError> {
    bytes.split_first().map(|(version, shape)| (*version, shape)).ok_or(ProfileError::Empty)
}

//! A user who is no actor: the id and the profile's stored bytes in one allocation, which is all that most users cost.
//!
//! It is a value: it changes nothing, and knows only of its profile what is first in the bytes.

use crate::journal::profile::{self, ProfileError};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use verdict_core::profile::Profile;

/// Bytes that say how long the id is; ids are at most 128 bytes long.
const ID_LENGTH: usize = 2;

/// See the module. Two are equal if they are of one user, so that a set of them is a map by user id.
#[derive(Clone)]
pub struct Dormant(Box<[u8]>);

impl Dormant {
    /// A user with a profile as `journal::profile` encodes it.
    ///
    /// # Panics
    /// With an id of 64 KiB: every way in refuses ids over 128 bytes.
    #[must_use]
    pub fn new(user_id: &str, profile: &[u8]) -> Self {
        // invariant: see above.
        #[expect(clippy::expect_used, reason = "an id that was cut would be another user's")]
        let length = u16::try_from(user_id.len()).expect("an id of at most 128 bytes");
        let mut bytes = Vec::with_capacity(ID_LENGTH + user_id.len() + profile.len());
        bytes.extend(length.to_le_bytes());
        bytes.extend(user_id.as_bytes());
        bytes.extend(profile);
        Self(bytes.into())
    }

    /// A user with this profile.
    #[must_use]
    pub fn of(user_id: &str, profile: &Profile) -> Self {
        Self::new(user_id, &profile::encode(profile))
    }

    /// The user's id.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.split().0
    }

    /// The profile's stored bytes.
    #[must_use]
    pub fn profile(&self) -> &[u8] {
        self.split().1
    }

    fn split(&self) -> (&[u8], &[u8]) {
        // Made above: the length is there, and so is as much after it.
        match self.0.split_first_chunk::<ID_LENGTH>() {
            Some((length, rest)) => rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len())),
            None => (&[], &[]),
        }
    }

    /// The number after the last record that the profile reflects.
    ///
    /// # Errors
    /// When the bytes are no profile.
    pub fn next_n(&self) -> Result<u64, ProfileError> {
        profile::next_n(self.profile())
    }

    /// The profile.
    ///
    /// # Errors
    /// When the bytes are no profile.
    pub fn wake(&self) -> Result<Profile, ProfileError> {
        profile::decode(self.profile())
    }
}

impl Borrow<[u8]> for Dormant {
    fn borrow(&self) -> &[u8] {
        self.id()
    }
}

impl Hash for Dormant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl PartialEq for Dormant {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Dormant {}

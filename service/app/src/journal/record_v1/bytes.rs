//! Two leaves of the stored shape that serde's own implementations would write byte by byte or too wide.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::fmt;
use verdict_core::features::{FeatureVector, SLOTS};

/// Bytes with their length before them, borrowed on both ways.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de [u8]>::deserialize(deserializer).map(Bytes)
    }
}

/// Feature values with their number before them.
///
/// Each is the IEEE 754 bits with the byte order reversed, as a variable-length integer: small whole numbers, flags and
/// NaN have zeros only in their last bytes, so that they take 1 to 3 bytes instead of 8, and no bit is ever lost.
pub(super) struct Slots {
    /// Values; absent (NaN) from `found` on.
    pub(super) values: FeatureVector,
    /// How many the record held; more than there are slots if a newer release wrote it.
    pub(super) found: usize,
}

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(SLOTS))?;
        for value in &self.values.0 {
            seq.serialize_element(&value.to_bits().swap_bytes())?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SlotsVisitor)
    }
}

struct SlotsVisitor;

impl<'de> Visitor<'de> for SlotsVisitor {
    type Value = Slots;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("feature values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Slots, A::Error> {
        let mut slots = Slots { values: FeatureVector([f64::NAN; SLOTS]), found: 0 };
        while let Some(bits) = seq.next_element::<u64>()? {
            if let Some(slot) = slots.values.0.get_mut(slots.found) {
                *slot = f64::from_bits(bits.swap_bytes());
            }
            slots.found += 1;
        }
        Ok(slots)
    }
}

//! Two leaves of the stored shape that serde's own implementations would write byte by byte or too wide.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use verdict_core::features::{FeatureVector, SLOTS};

/// Bytes with their length before them, borrowed on both ways.
#[derive(Clone, Copy)]
pub(in crate::journal) struct Bytes<'a>(pub(in crate::journal) &'a [u8]);

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

/// Feature values, packed: their number, a nibble with the length of each (low nibble first), then the bytes.
///
/// A value is its IEEE 754 bits in big endian without the zero bytes at its end: flags, counts and NaN take 0 to 3 bytes
/// instead of 8, and no bit is ever lost.
pub(super) struct Slots {
    /// Values; absent (NaN) from `found` on.
    pub(super) values: FeatureVector,
    /// How many the record held; more than there are slots if a newer release wrote it.
    pub(super) found: usize,
}

/// Longest packed form.
const MAX_PACKED: usize = 1 + SLOTS.div_ceil(2) + SLOTS * 8;
const _: () = assert!(SLOTS <= u8::MAX as usize, "the number of features is stored in a byte");

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut packed = [0; MAX_PACKED];
        packed[0] = SLOTS as u8;
        let mut end = 1 + SLOTS.div_ceil(2);
        for (slot, value) in self.values.0.iter().enumerate() {
            let bits = value.to_bits();
            let length = 8 - bits.trailing_zeros() as usize / 8;
            packed[1 + slot / 2] |= (length as u8) << (slot % 2 * 4);
            packed[end..end + 8].copy_from_slice(&bits.to_be_bytes());
            end += length;
            // The zeros that were copied too are overwritten by the next value, or are past the end.
        }
        serializer.serialize_bytes(&packed[..end])
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packed = <&'de [u8]>::deserialize(deserializer)?;
        unpack(packed).ok_or_else(|| D::Error::custom("features of other lengths than announced"))
    }
}

fn unpack(packed: &[u8]) -> Option<Slots> {
    let (&found, rest) = packed.split_first()?;
    let found = usize::from(found);
    let (lengths, mut rest) = rest.split_at_checked(found.div_ceil(2))?;
    let mut values = [f64::NAN; SLOTS];
    for slot in 0..found {
        let length = usize::from(lengths[slot / 2] >> (slot % 2 * 4) & 0xf);
        let (bytes, after) = rest.split_at_checked(length)?;
        let mut bits = [0; 8];
        bits.get_mut(..length)?.copy_from_slice(bytes);
        if let Some(value) = values.get_mut(slot) {
            *value = f64::from_bits(u64::from_be_bytes(bits));
        }
        rest = after;
    }
    rest.is_empty().then_some(Slots { values: FeatureVector(values), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_with_fewer_or_more_features_are_told() {
        // Two features: 1.0 is 3ff0..., 0.0 nothing at all.
        let slots = unpack(&[2, 0x02, 0x3f, 0xf0]).expect("unpacks");
        assert_eq!((slots.found, slots.values.0[0], slots.values.0[1]), (2, 1.0, 0.0));
        assert!(slots.values.0[2..].iter().all(|value| value.is_nan()));
        let many = [vec![200], vec![0; 100]].concat();
        assert_eq!(unpack(&many).expect("unpacks").found, 200);
    }

    #[test]
    fn other_lengths_than_announced_are_refused() {
        for packed in [&[][..], &[1], &[1, 2, 0x3f], &[1, 1, 0x3f, 0xf0], &[1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            assert!(unpack(packed).is_none(), "{packed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_unpacked(packed in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = unpack(&packed);
        }
    }
}

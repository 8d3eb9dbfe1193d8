//! Which partition a user belongs to: murmur2 as the Java client computes it, so that a topic keyed by `user_id` and the
//! journal agree (PROTOCOL).

use crate::journal::Partition;
use verdict_core::lists::{ListKey, ListKind};

/// The partition of a user among `partitions`.
#[must_use]
pub fn partition_of(user_id: &str, partitions: Partition) -> Partition {
    // Java clears the sign bit rather than taking the absolute value. The remainder is below `partitions`.
    ((murmur2(user_id.as_bytes()) & 0x7fff_ffff) % u32::from(partitions)) as Partition
}

/// The partition of a list entry: its user's, or that of its kind and value.
#[must_use]
pub fn partition_of_entry(key: &ListKey, partitions: Partition) -> Partition {
    match key.kind {
        ListKind::User => partition_of(&key.value, partitions),
        kind => partition_of(&format!("{}:{}", kind.name(), key.value), partitions),
    }
}

/// MurmurHash2, 32 bits, with the seed that Kafka's Java client fixes.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_java_client() {
        // Known values of Kafka's own test of `Utils.murmur2`.
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn stays_in_range() {
        for user in 0..1000 {
            assert!(partition_of(&format!("u-{user}"), 12) < 12);
            assert_eq!(partition_of(&format!("u-{user}"), 1), 0);
        }
    }
}

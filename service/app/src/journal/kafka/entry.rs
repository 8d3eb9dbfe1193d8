//! The bytes of one Kafka record: the start of an epoch, or a journal record with what the counting rule asks of it.
//!
//! ```text
//! magic 4 | CRC-32 4 | kind 1 | flags 1 | partition 2 | body
//! of an epoch:  partitions 2 | claim 16
//! of a record:  epoch 8 | n 8 | the record, as `codec` has it
//! ```
//! All numbers are little endian. The checksum covers everything behind itself, the partition included, so that what was
//! copied from another partition is damage. An epoch's number is the offset of its entry, which its bytes cannot hold.

use crate::journal::Partition;
use crate::journal::codec::{self, Decoder};
use crate::journal::ledger::Key;
use crate::journal::record::{Body, Record};
use thiserror::Error;

const MAGIC: [u8; 4] = *b"Vke1";
/// Where the checksum begins to cover.
const COVERED: usize = 8;
/// Bytes before the body.
const HEAD: usize = 12;
/// Bytes of an epoch and a number before a record.
const KEY: usize = 16;
const EPOCH: u8 = 1;
const RECORD: u8 = 2;
/// The record's decision raises an alert.
const ALERT: u8 = 1;
/// The record is a dead letter.
const DEAD_LETTER: u8 = 2;

/// What tells an owner's epoch entry from all others: nobody else chooses the same.
pub(super) type Claim = u128;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// An owner takes the partition over.
    Epoch {
        /// Who.
        claim: Claim,
    },
    /// A record, if it counts.
    Record {
        /// The epoch that it names.
        epoch: u64,
        /// Its number.
        n: u64,
        /// Whether its decision raises an alert.
        alert: bool,
        /// Whether it is a dead letter.
        dead_letter: bool,
        /// The record, as `codec` has it.
        bytes: &'a [u8],
    },
}

/// Why bytes are no entry of this partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// They are something else.
    #[error("{0}")]
    Foreign(String),
    /// They are not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Appends the entry that starts an epoch, in a journal of so many partitions.
pub(super) fn push_epoch(partition: Partition, partitions: Partition, claim: Claim, out: &mut Vec<u8>) {
    let start = begin(EPOCH, 0, partition, out);
    out.extend_from_slice(&partitions.to_le_bytes());
    out.extend_from_slice(&claim.to_le_bytes());
    finish(start, out);
}

/// Appends the entry of a record.
pub(super) fn push_record(record: &Record, out: &mut Vec<u8>) -> Result<(), String> {
    let flags = match &record.body {
        Body::Decision(decided) if decided.decision.alert => ALERT,
        Body::DeadLetter { .. } => DEAD_LETTER,
        _ => 0,
    };
    let start = begin(RECORD, flags, record.partition, out);
    out.extend_from_slice(&record.epoch.to_le_bytes());
    out.extend_from_slice(&record.n.to_le_bytes());
    codec::encode(record, out).map_err(|error| error.to_string())?;
    finish(start, out);
    Ok(())
}

/// The entry of a record whose version nobody knows.
#[cfg(test)]
pub(super) fn of_version(record: &Record, version: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_record(record, &mut bytes).expect("encodes");
    bytes[HEAD + KEY] = version;
    finish(0, &mut bytes);
    bytes
}

fn begin(kind: u8, flags: u8, partition: Partition, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0, 0, 0, 0, kind, flags]);
    out.extend_from_slice(&partition.to_le_bytes());
    start
}

fn finish(start: usize, out: &mut [u8]) {
    let checksum = crc32fast::hash(&out[start + COVERED..]);
    out[start + MAGIC.len()..start + COVERED].copy_from_slice(&checksum.to_le_bytes());
}

impl<'a> Entry<'a> {
    /// What bytes say that were found in a partition of a journal of so many partitions.
    pub(super) fn parse(bytes: &'a [u8], partition: Partition, partitions: Partition) -> Result<Self, Refused> {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD>().filter(|(head, _)| head[..4] == MAGIC) else {
            return Err(Refused::Foreign(format!("expected an entry of a journal, found {} other bytes", bytes.len())));
        };
        let damaged = |what: String| Err(Refused::Damaged(what));
        let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let found = crc32fast::hash(&bytes[COVERED..]);
        if found != expected {
            return damaged(format!("expected checksum {expected:08x}, found {found:08x}"));
        }
        let its = Partition::from_le_bytes([head[10], head[11]]);
        if its != partition {
            return damaged(format!("expected an entry of partition {partition}, found one of {its}"));
        }
        match (head[8], body.len()) {
            (EPOCH, 18) => {
                let of = Partition::from_le_bytes([body[0], body[1]]);
                if of != partitions {
                    return damaged(format!("expected a journal of {partitions} partitions, found one of {of}"));
                }
                let mut claim = [0; 16];
                claim.copy_from_slice(&body[2..]);
                Ok(Self::Epoch { claim: Claim::from_le_bytes(claim) })
            }
            (RECORD, KEY..) => {
                let (key, bytes) = body.split_at(KEY);
                let number =
                    |from: usize| key[from..from + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
                let is = |flag| head[9] & flag != 0;
                let (alert, dead_letter) = (is(ALERT), is(DEAD_LETTER));
                Ok(Self::Record { epoch: number(0), n: number(8), alert, dead_letter, bytes })
            }
            (kind, length) => damaged(format!("expected an epoch or a record, found kind {kind} of {length} bytes")),
        }
    }
}

/// The record of an entry, if it is the one that the entry announces.
pub(super) fn decode(key: Key, bytes: &[u8], decoder: &mut Decoder) -> Result<Record, String> {
    let record = decoder.decode(bytes).map_err(|error| error.to_string())?;
    let found = Key::from(&record);
    if found == key { Ok(record) } else { Err(format!("expected the record of {key:?}, found that of {found:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;
    use proptest::prelude::*;

    fn entry_of(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_record(record, &mut bytes).expect("encodes");
        bytes
    }

    #[test]
    fn entries_come_back() {
        let login = samples::login(2, 7, 5);
        let (raised, refused) = (samples::alert(2, 7, 5, "u-1"), samples::dead_letter(2, 7, 5));
        for (record, flags) in [(login, (false, false)), (raised, (true, false)), (refused, (false, true))] {
            let bytes = entry_of(&record);
            let Ok(Entry::Record { epoch: 7, n: 5, alert, dead_letter, bytes }) = Entry::parse(&bytes, 2, 3) else {
                panic!("expected a record")
            };
            assert_eq!((alert, dead_letter), flags);
            let mut decoder = Decoder::default();
            assert_eq!(decode(Key::from(&record), bytes, &mut decoder).as_ref(), Ok(&record));
            let another = Key { n: 6, ..Key::from(&record) };
            assert!(decode(another, bytes, &mut decoder).expect_err("refused").contains("n: 6"));
        }
        let mut bytes = Vec::new();
        push_epoch(2, 3, u128::MAX - 1, &mut bytes);
        assert_eq!(Entry::parse(&bytes, 2, 3), Ok(Entry::Epoch { claim: u128::MAX - 1 }));
    }

    #[test]
    fn what_is_no_entry_of_the_partition_is_refused() {
        let record = entry_of(&samples::login(2, 7, 5));
        let mut epoch = Vec::new();
        push_epoch(2, 3, 1, &mut epoch);
        let refused = |bytes: &[u8], partition, partitions| Entry::parse(bytes, partition, partitions).unwrap_err();
        for foreign in [&b""[..], b"{\"transaction_id\":\"t-1\"}", &record[..11]] {
            assert!(matches!(refused(foreign, 2, 3), Refused::Foreign(_)), "{foreign:?}");
        }
        for (bytes, partition, partitions, expected) in [
            (&record[..], 1, 3, "expected an entry of partition 1, found one of 2"),
            (&record[..record.len() - 1], 2, 3, "expected checksum"),
            (&epoch[..], 2, 4, "expected a journal of 4 partitions, found one of 3"),
        ] {
            match refused(bytes, partition, partitions) {
                Refused::Damaged(what) => assert!(what.contains(expected), "{what}"),
                other => panic!("expected damage, found {other:?}"),
            }
        }
    }

    /// What was written once stays readable: these bytes were put together by hand.
    #[test]
    fn the_layout_stays() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut epoch = Vec::new();
        push_epoch(2, 3, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, &mut epoch);
        assert_eq!(hex(&epoch), "566b6531286815fc010002000300100f0e0d0c0b0a090807060504030201");
        let record = entry_of(&samples::alert(0x0201, 0x0807_0605_0403_0201, 0x100f, "u-1"));
        assert_eq!(hex(&record[..4]) + &hex(&record[8..28]), "566b65310201010201020304050607080f10000000000000");
        let mut stored = Vec::new();
        codec::encode(&samples::alert(0x0201, 0x0807_0605_0403_0201, 0x100f, "u-1"), &mut stored).expect("encodes");
        assert_eq!(record[28..], stored);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = entry_of(&samples::decision(0, 1, 0));
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Entry::parse(&bytes, 0, 1).is_err());
        }

        #[test]
        fn any_body_is_parsed_without_a_panic(kind in 0..4_u8, body in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            let start = begin(kind, 0, 0, &mut bytes);
            bytes.extend_from_slice(&body);
            finish(start, &mut bytes);
            let _ = Entry::parse(&bytes, 0, 1);
        }
    }
}

//! What is stored: records and profiles, damaged.

use crate::damage::damaged;
use proptest::prelude::*;
use verdict::journal::codec::{self, DecodeError, Decoder};
use verdict::journal::profile;
use verdict::journal::record::{Body, Record};
use verdict_core::profile::{Change, Profile, Retention};

/// The records of the golden files, of both versions.
fn golden() -> Vec<Vec<u8>> {
    ["record-v1.bin", "record-v2.bin"].into_iter().flat_map(golden_of).collect()
}

fn golden_of(name: &str) -> Vec<Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let file = std::fs::read(path).expect("the golden file");
    let mut rest = file.as_slice();
    let mut frames = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (frame, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = tail;
    }
    assert!(frames.len() > 3, "found only {} records", frames.len());
    frames
}

/// Profiles that have seen all of the golden records, some with so little retained that buckets were made.
fn profiles() -> Vec<Vec<u8>> {
    let records: Vec<Record> = golden().iter().map(|frame| decode(frame).expect("a record")).collect();
    let tight = Retention { max_payments: 2, ..Retention::default() };
    [Retention::default(), tight]
        .iter()
        .map(|retention| {
            let mut profile = Profile::default();
            for (n, record) in records.iter().cycle().take(4 * records.len()).enumerate() {
                let change = match &record.body {
                    Body::Decision(decided) => Change::Decided(&decided.transaction, &decided.decision),
                    Body::Login(login) => Change::LoggedIn(login),
                    Body::Label(label) => Change::Labelled(label),
                    _ => continue,
                };
                profile.apply(change, n as u64, retention);
            }
            let bytes = profile::encode(&profile);
            assert_eq!(profile::decode(&bytes).expect("a profile"), profile);
            bytes
        })
        .collect()
}

fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    Decoder::default().decode(bytes)
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes).expect("encodes");
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn damaged_records_are_refused_or_come_back_the_same(bytes in damaged(golden())) {
        if let Ok(record) = decode(&bytes) {
            let again = encoded(&record);
            let back = decode(&again).expect("what is written can be read");
            prop_assert_eq!(encoded(&back), again);
        }
    }

    #[test]
    fn damaged_profiles_are_refused_or_come_back_the_same(bytes in damaged(profiles())) {
        if let Ok(profile) = profile::decode(&bytes) {
            let again = profile::encode(&profile);
            let back = profile::decode(&again).expect("what is written can be read");
            prop_assert_eq!(profile::encode(&back), again);
        }
    }
}

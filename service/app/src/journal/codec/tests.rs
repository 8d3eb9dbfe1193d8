//! Round trips over all versions, hostile bytes, and the golden file of version 2.

use super::{DecodeError, Decoder, encode, may_be_list_change};
use crate::journal::record::{Body, Record};
use crate::journal::{record_v1, record_v2, record_v3, record_v4, samples};
use proptest::prelude::*;
use std::path::Path;

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes).expect("encodes");
    bytes
}

fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    Decoder::default().decode(bytes)
}

proptest! {
    #[test]
    fn every_record_comes_back_bit_for_bit(record in samples::record()) {
        let bytes = encoded(&record);
        let version = match record.body {
            Body::List(_) => record_v2::VERSION,
            Body::Decision(ref decided) if decided.as_answered => record_v4::VERSION,
            Body::Answered(_) => record_v4::VERSION,
            Body::Skipped { .. } | Body::DeadLetter { cut: Some(_), .. } => record_v3::VERSION,
            _ => record_v1::VERSION,
        };
        prop_assert_eq!(bytes[0], version, "the oldest version that has a shape for it");
        prop_assert!(may_be_list_change(&bytes) || !matches!(record.body, Body::List(_)));
        let back = decode(&bytes).expect("decodes");
        prop_assert_eq!(&back, &record);
        prop_assert_eq!(encoded(&back), bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_decoded(mut bytes in prop::collection::vec(any::<u8>(), 1..300), version in 2_u8..5) {
        bytes[0] = version;
        let _ = decode(&bytes);
    }

    #[test]
    fn damaged_records_never_panic(change in samples::list_body(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = encoded(&samples::with(0, 1, 2, change));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = decode(&bytes);
        bytes.truncate(at);
        prop_assert!(decode(&bytes).is_err());
    }
}

#[test]
fn what_is_no_record_is_named() {
    assert_eq!(decode(&[]), Err(DecodeError::V1(record_v1::DecodeError::Empty)));
    assert_eq!(
        decode(&[5, 0]).expect_err("no such version").to_string(),
        "expected record version 1 to 4, found 5; a newer release wrote it"
    );
    let mut bytes = encoded(&samples::list_changes()[0]);
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(DecodeError::V2(record_v2::DecodeError::Trailing(1))));
    let mut out = Vec::new();
    assert!(record_v1::encode(&samples::list_changes()[0], &mut out).is_err() && out.is_empty());
    // A value that claims 2^60 bytes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let bytes = [&[record_v2::VERSION, 0, 0, 0, 0, 0, 0, 0, 1][..], &huge].concat();
    assert!(matches!(decode(&bytes), Err(DecodeError::V2(record_v2::DecodeError::Malformed(_)))));
}

/// Versions 2 to 4 stay readable for ever. If this fails after a change of the stored shape, the change needs a new version;
/// if only the text differs because the core's types gained a field, write the text again with
/// `VERDICT_WRITE_GOLDEN=text cargo test -p verdict golden`. `VERDICT_WRITE_GOLDEN=v2` was for the first time only.
#[test]
fn golden_version_2_is_readable() {
    golden(record_v2::VERSION, &samples::list_changes());
}

#[test]
fn golden_version_3_is_readable() {
    golden(record_v3::VERSION, &samples::of_topics());
}

#[test]
fn golden_version_4_is_readable() {
    golden(record_v4::VERSION, &samples::answered());
}

#[track_caller]
fn golden(version: u8, samples: &[Record]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (binary, text) = (folder.join(format!("record-v{version}.bin")), folder.join(format!("record-v{version}.txt")));
    let write = std::env::var_os("VERDICT_WRITE_GOLDEN");
    if write.as_deref() == Some(format!("v{version}").as_ref()) {
        let frame = |record: &Record| {
            let bytes = encoded(record);
            [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
        };
        let file: Vec<u8> = samples.iter().flat_map(frame).collect();
        std::fs::write(&binary, file).expect("writes the records");
    }
    let file = std::fs::read(&binary).expect("the golden file");
    let (mut rest, mut found) = (file.as_slice(), String::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (bytes, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        assert_eq!(bytes[0], version);
        found.push_str(&format!("{:#?}\n", decode(bytes).expect("a record of this version")));
        rest = tail;
    }
    assert!(rest.is_empty());
    if write.is_some() {
        std::fs::write(&text, &found).expect("writes the text");
    }
    assert_eq!(found, std::fs::read_to_string(&text).expect("the golden text"));
}

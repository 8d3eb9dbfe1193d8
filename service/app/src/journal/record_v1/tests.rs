//! Round trips, hostile bytes, and the golden file.

use super::{DecodeError, Decoder, VERSION, decode, encode};
use crate::journal::record::{Body, Record};
use crate::journal::samples;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes).expect("encodes");
    bytes
}

proptest! {
    #[test]
    fn every_record_comes_back_bit_for_bit(record in samples::record_v1()) {
        let bytes = encoded(&record);
        let back = decode(&bytes).expect("decodes");
        // Features compare by bits; the bytes cover what compares by value (a score, a coordinate of -0.0).
        prop_assert_eq!(&back, &record);
        prop_assert_eq!(encoded(&back), bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_decoded(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = decode(&bytes);
    }

    #[test]
    fn damaged_records_never_panic(record in samples::record_v1(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = encoded(&record);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = decode(&bytes);
        bytes.truncate(at);
        prop_assert!(decode(&bytes).is_err());
    }
}

#[test]
fn what_is_no_record_is_named() {
    assert_eq!(decode(&[]), Err(DecodeError::Empty));
    assert_eq!(decode(&[VERSION + 2, 0]), Err(DecodeError::Version(VERSION + 2)));
    let mut bytes = encoded(&samples::login(0, 1, 0));
    bytes.push(0);
    assert_eq!(decode(&bytes), Err(DecodeError::Trailing(1)));
    assert_eq!(
        DecodeError::Version(9).to_string(),
        "expected record version 1 to 4, found 9; a newer release wrote it"
    );
}

#[test]
fn an_announced_length_allocates_nothing() {
    // A dead letter whose text claims 2^60 bytes, and a decision that claims as many features.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    for body in [4_u8, 0] {
        let mut bytes = vec![VERSION, 0, 0, 0, 0, 0, body];
        bytes.extend(huge);
        assert!(matches!(decode(&bytes), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn neighbours_share_their_generation() {
    let mut decoder = Decoder::default();
    let [first, second] =
        [0, 1].map(|n| match decoder.decode(&encoded(&samples::decision(0, 1, n))).expect("decodes").body {
            Body::Decision(decided) => Arc::clone(&decided.generation),
            other => panic!("expected a decision, found {other:?}"),
        });
    assert!(Arc::ptr_eq(&first, &second));
}

/// Records of the golden file, each with its length (u32, little endian) before it.
fn golden_frames() -> Vec<u8> {
    let mut file = Vec::new();
    for record in samples::one_of_each() {
        let bytes = encoded(&record);
        file.extend((bytes.len() as u32).to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Version 1 stays readable for ever. If this fails after a change of the stored shape, the change needs a new version;
/// if only the text differs because the core's types gained a field, write the text again with
/// `VERDICT_WRITE_GOLDEN=text cargo test -p verdict golden`. `VERDICT_WRITE_GOLDEN=all` was for the first time only.
#[test]
fn golden_version_1_is_readable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (binary, text) = (folder.join("record-v1.bin"), folder.join("record-v1.txt"));
    let write = std::env::var_os("VERDICT_WRITE_GOLDEN");
    if write.as_deref() == Some("all".as_ref()) {
        std::fs::create_dir_all(&folder).expect("the folder");
        std::fs::write(&binary, golden_frames()).expect("writes the records");
    }
    let file = std::fs::read(&binary).expect("the golden file");
    let mut rest = file.as_slice();
    let mut found = String::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (bytes, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        found.push_str(&format!("{:#?}\n", decode(bytes).expect("a record of version 1")));
        rest = tail;
    }
    assert!(rest.is_empty());
    if write.is_some() {
        std::fs::write(&text, &found).expect("writes the text");
    }
    let expected = std::fs::read_to_string(&text).expect("the golden text");
    assert_eq!(found, expected);
}

//! A batch: the records of one commit as bytes, and the proof that they are what was written.
//!
//! Layout in `migrations/sqlite/journal.sql`. Reading refuses a batch whose checksum, frames, numbers or ends disagree.

use crate::journal::codec::{self, Decoder};
use crate::journal::ledger::Key;
use crate::journal::record::Record;

/// Bytes before each record: length (u32), partition (u16), n (u64).
const FRAME_HEADER: usize = 14;

/// A batch as the file holds it.
pub(super) struct Batch {
    /// Its number, from 1.
    pub(super) seq: u64,
    pub(super) ends: Vec<u8>,
    /// As stored, so that a value that is no checksum at all is found too.
    pub(super) checksum: i64,
    pub(super) body: Vec<u8>,
}

/// One record in a body.
pub(super) struct Frame<'a> {
    pub(super) partition: u16,
    pub(super) n: u64,
    pub(super) record: &'a [u8],
}

/// Appends a record's frame to a body.
pub(super) fn push_frame(record: &Record, body: &mut Vec<u8>) -> Result<(), String> {
    let start = body.len();
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&record.partition.to_le_bytes());
    body.extend_from_slice(&record.n.to_le_bytes());
    codec::encode(record, body).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len() - start - FRAME_HEADER).map_err(|_| "a record of over 4 GiB".to_owned())?;
    body[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The stored form of the ends.
pub(super) fn encode_ends(ends: &[u64]) -> Vec<u8> {
    ends.iter().flat_map(|end| end.to_le_bytes()).collect()
}

/// The ends of so many partitions, or what is wrong with them.
pub(super) fn decode_ends(bytes: &[u8], partitions: usize) -> Result<Vec<u64>, String> {
    let (ends, rest) = bytes.as_chunks::<8>();
    if ends.len() != partitions || !rest.is_empty() {
        return Err(format!("expected ends of {} bytes, found {}", partitions * 8, bytes.len()));
    }
    Ok(ends.iter().map(|end| u64::from_le_bytes(*end)).collect())
}

/// The checksum over everything in a batch.
pub(super) fn checksum(seq: u64, ends: &[u8], body: &[u8]) -> i64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&seq.to_le_bytes());
    hash.update(ends);
    hash.update(body);
    hash.finalize().into()
}

impl Batch {
    /// Checks the batch against itself and, where known, against the ends of the batch before it; gives its own ends.
    pub(super) fn verify(&self, partitions: usize, before: Option<&[u64]>) -> Result<Vec<u64>, String> {
        let found = checksum(self.seq, &self.ends, &self.body);
        if found != self.checksum {
            return Err(format!("expected checksum {:08x}, found {found:08x}", self.checksum));
        }
        let ends = decode_ends(&self.ends, partitions)?;
        let mut next: Vec<Option<u64>> = match before {
            Some(before) => before.iter().map(|n| Some(*n)).collect(),
            None => vec![None; partitions],
        };
        for frame in self.frames() {
            let frame = frame?;
            let slot = next
                .get_mut(usize::from(frame.partition))
                .ok_or_else(|| format!("expected a partition below {partitions}, found {}", frame.partition))?;
            if let Some(expected) = *slot
                && expected != frame.n
            {
                let partition = frame.partition;
                return Err(format!("expected record {expected} of partition {partition}, found {}", frame.n));
            }
            *slot = Some(frame.n.saturating_add(1));
        }
        for (partition, (next, end)) in next.iter().zip(&ends).enumerate() {
            if let Some(next) = next
                && next != end
            {
                return Err(format!("expected partition {partition} to end at {next}, found {end}"));
            }
        }
        Ok(ends)
    }

    /// The records' frames, in journal order.
    pub(super) fn frames(&self) -> Frames<'_> {
        Frames { rest: &self.body }
    }
}

impl Frame<'_> {
    /// The record, which must be the one that the frame announces.
    pub(super) fn decode(&self, decoder: &mut Decoder) -> Result<Record, String> {
        let named = |what: &dyn std::fmt::Display| format!("record {} of partition {}: {what}", self.n, self.partition);
        let record = decoder.decode(self.record).map_err(|error| named(&error))?;
        let Key { partition, n, .. } = Key::from(&record);
        if (partition, n) != (self.partition, self.n) {
            return Err(named(&format_args!("its content is record {n} of partition {partition}")));
        }
        Ok(record)
    }
}

/// Iterator over the frames of a body; ends after an error.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = split_frame(self.rest);
        self.rest = frame.as_ref().map_or(&[], |(_, rest)| rest);
        Some(frame.map(|(frame, _)| frame).ok_or_else(|| "expected a whole frame, found its beginning".to_owned()))
    }
}

fn split_frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (n, rest) = rest.split_first_chunk()?;
    let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((Frame { partition: u16::from_le_bytes(*partition), n: u64::from_le_bytes(*n), record }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;
    use proptest::prelude::*;

    fn batch(records: &[Record], ends: &[u64]) -> Batch {
        let mut body = Vec::new();
        for record in records {
            push_frame(record, &mut body).expect("encodes");
        }
        let ends = encode_ends(ends);
        Batch { seq: 4, checksum: checksum(4, &ends, &body), ends, body }
    }

    #[test]
    fn a_batch_is_checked_against_itself_and_its_predecessor() {
        let records = [samples::login(1, 1, 5), samples::login(0, 1, 9), samples::login(1, 1, 6)];
        let good = batch(&records, &[10, 7]);
        assert_eq!(good.verify(2, Some(&[9, 5])), Ok(vec![10, 7]));
        assert_eq!(good.verify(2, None), Ok(vec![10, 7]));

        let check = |batch: &Batch, partitions, before: Option<&[u64]>, expected: &str| {
            let found = batch.verify(partitions, before).expect_err("must be refused");
            assert!(found.contains(expected), "{found}");
        };
        check(&good, 2, Some(&[9, 4]), "expected record 4 of partition 1, found 5");
        check(&good, 3, None, "expected ends of 24 bytes, found 16");
        check(&batch(&records, &[10, 8]), 2, None, "expected partition 1 to end at 7, found 8");
        check(&batch(&records[..1], &[10, 6]), 2, Some(&[9, 5]), "expected partition 0 to end at 9, found 10");
        check(&batch(&[samples::login(2, 1, 0)], &[0, 0]), 2, None, "expected a partition below 2, found 2");
        check(&Batch { seq: 5, ..batch(&records, &[10, 7]) }, 2, None, "expected checksum");
    }

    #[test]
    fn a_frame_holds_the_record_it_announces() {
        let mut body = Vec::new();
        push_frame(&samples::login(1, 1, 5), &mut body).expect("encodes");
        body[6] = 6;
        let (frame, _) = split_frame(&body).expect("a frame");
        let error = frame.decode(&mut Decoder::default()).expect_err("must be refused");
        assert_eq!(error, "record 6 of partition 1: its content is record 5 of partition 1");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut batch = batch(&[samples::decision(0, 1, 0), samples::login(0, 1, 1)], &[2]);
            let at = at.index(batch.ends.len() + batch.body.len());
            match at.checked_sub(batch.ends.len()) {
                None => batch.ends[at] ^= flip,
                Some(at) => batch.body[at] ^= flip,
            }
            prop_assert!(batch.verify(1, Some(&[0])).is_err());
        }

        #[test]
        fn any_body_is_walked_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let batch = Batch { seq: 1, ends: vec![0; 8], checksum: checksum(1, &[0; 8], &body), body };
            let _ = batch.verify(1, None);
            prop_assert!(batch.frames().count() <= 200);
        }
    }
}

//! A batch: what one commit writes, as bytes, and the proof that they are what was written there.
//!
//! ```text
//! magic 4 | CRC-32 4 | length 4 | kind 1 | 0 1 | partitions 2 | number 8 | ends 8 each | body | zeros to a multiple of 8
//! ```
//! All numbers are little endian. `length` counts everything but the zeros at the end. The checksum covers the batch's
//! place in its file and everything behind itself: bytes that look like a batch because somebody sent them as an event,
//! or that a disk has put elsewhere, are none. `ends` is for every partition the number of its records in this batch and
//! all before it. Reading refuses a batch whose checksum, frames, numbers or ends disagree.

use crate::journal::Partition;
use crate::journal::codec::{self, Decoder};
use crate::journal::ledger::Key;
use crate::journal::record::{Body, Record};

pub(super) const MAGIC: [u8; 4] = *b"Vbt1";
/// Bytes before the ends.
pub(super) const FIXED: usize = 24;
/// Batches start at multiples of this.
pub(super) const ALIGN: usize = 8;
/// Where the checksum begins to cover.
const COVERED: usize = 8;
/// Bytes before each record: length (u32), partition (u16), flags (u16), n (u64).
const FRAME_HEADER: usize = 16;
/// Bytes of each change in a batch of epochs: epoch (u64), partition (u16).
const EPOCH_BYTES: usize = 10;
/// The record's decision raises an alert.
const ALERT: u16 = 1;

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Frames of records.
    Records = 1,
    /// Partitions with their new epochs.
    Epochs = 2,
    /// Nothing: everything before it was written, and the journal was closed.
    Closed = 3,
}

/// The length of a batch in its file.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// Readies a buffer for a batch's body, which follows what it holds then.
pub(super) fn begin(buffer: &mut Vec<u8>, partitions: usize) {
    buffer.clear();
    buffer.resize(FIXED + partitions * 8, 0);
}

/// The frames that were put into a buffer so far.
pub(super) fn frames(buffer: &[u8], partitions: usize) -> Frames<'_> {
    Frames { rest: &buffer[FIXED + partitions * 8..] }
}

/// Bytes that the batch in the buffer will take in the file.
pub(super) fn size(buffer: &[u8]) -> u64 {
    aligned(buffer.len()) as u64
}

/// Puts number and checksum in front of the body in the buffer, which then holds the batch for this place in a file.
pub(super) fn finish(buffer: &mut Vec<u8>, kind: Kind, seq: u64, ends: &[u64], offset: u64) {
    // invariant: appends of over 256 MiB are refused, and a batch is closed with 4 MiB
    let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    buffer.resize(aligned(buffer.len()), 0);
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[8..12].copy_from_slice(&length.to_le_bytes());
    buffer[12] = kind as u8;
    // invariant: there are at most 1,024 partitions
    buffer[14..16].copy_from_slice(&(ends.len() as u16).to_le_bytes());
    buffer[16..24].copy_from_slice(&seq.to_le_bytes());
    for (place, end) in buffer[FIXED..].as_chunks_mut::<8>().0.iter_mut().zip(ends) {
        *place = end.to_le_bytes();
    }
    let checksum = checksum(buffer, offset);
    buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(batch: &[u8], offset: u64) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&offset.to_le_bytes());
    hash.update(&batch[COVERED..]);
    hash.finalize()
}

/// Appends a record's frame to a body.
pub(super) fn push_frame(record: &Record, body: &mut Vec<u8>) -> Result<(), String> {
    let start = body.len();
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&record.partition.to_le_bytes());
    body.extend_from_slice(&flags(record).to_le_bytes());
    body.extend_from_slice(&record.n.to_le_bytes());
    codec::encode(record, body).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len() - start - FRAME_HEADER).map_err(|_| "a record of over 4 GiB".to_owned())?;
    body[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn flags(record: &Record) -> u16 {
    match &record.body {
        Body::Decision(decided) if decided.decision.alert => ALERT,
        _ => 0,
    }
}

/// Appends changes of epochs to a body.
pub(super) fn push_epochs(epochs: &[(Partition, u64)], body: &mut Vec<u8>) {
    for (partition, epoch) in epochs {
        body.extend_from_slice(&epoch.to_le_bytes());
        body.extend_from_slice(&partition.to_le_bytes());
    }
}

/// A batch as the file holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub(super) kind: Kind,
    ends: &'a [[u8; 8]],
    body: &'a [u8],
}

/// The first bytes of a batch, which say how long it is; nothing vouches for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Its number, from 1.
    pub(super) seq: u64,
    kind: Kind,
    length: usize,
    partitions: usize,
}

impl Head {
    /// What the bytes (at least [`FIXED`]) announce, if it is a batch of a journal of so many partitions.
    pub(super) fn parse(bytes: &[u8], partitions: usize) -> Result<Self, String> {
        let nothing = || "expected a batch, found other bytes".to_owned();
        let (fixed, _) = bytes.split_first_chunk::<FIXED>().ok_or_else(nothing)?;
        if fixed.iter().all(|byte| *byte == 0) {
            return Err("the batch is missing".to_owned());
        }
        let kind = match fixed[12] {
            1 => Kind::Records,
            2 => Kind::Epochs,
            3 => Kind::Closed,
            _ => return Err(nothing()),
        };
        let number = |from: usize, bytes: usize| {
            fixed[from..from + bytes].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let head = Self { seq: number(16, 8), kind, length: number(8, 4) as usize, partitions };
        let fits = number(14, 2) == partitions as u64 && head.length >= head.body_start();
        if fixed[..4] == MAGIC && fits { Ok(head) } else { Err(nothing()) }
    }

    fn body_start(&self) -> usize {
        FIXED + self.partitions * 8
    }

    /// Bytes that it takes in the file.
    pub(super) fn size(&self) -> usize {
        aligned(self.length)
    }

    /// Bytes up to the end of its ends.
    pub(super) const fn with_ends(partitions: usize) -> usize {
        FIXED + partitions * 8
    }

    /// The batch whose bytes these are, if they are what was written at this place.
    pub(super) fn batch<'a>(&self, bytes: &'a [u8], offset: u64) -> Result<Batch<'a>, String> {
        let bytes = bytes.get(..self.size()).ok_or("expected a whole batch, found its beginning")?;
        let expected = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let found = checksum(bytes, offset);
        if found != expected {
            return Err(format!("expected checksum {expected:08x}, found {found:08x}"));
        }
        let (ends, body) = (ends_of(bytes, self.partitions), &bytes[self.body_start()..self.length]);
        Ok(Batch { kind: self.kind, ends, body })
    }
}

/// The ends in a batch's first bytes.
fn ends_of(bytes: &[u8], partitions: usize) -> &[[u8; 8]] {
    bytes.get(FIXED..FIXED + partitions * 8).unwrap_or_default().as_chunks().0
}

/// Copies the ends from a batch's first bytes, which nothing vouches for.
pub(super) fn copy_ends(bytes: &[u8], ends: &mut Vec<u64>, partitions: usize) {
    ends.clear();
    ends.extend(ends_of(bytes, partitions).iter().map(|end| u64::from_le_bytes(*end)));
}

/// For every partition the number of records so far, where it is known: what the next batch must follow.
#[derive(Clone, Debug)]
pub(super) struct Chain(Vec<Option<u64>>);

impl Chain {
    pub(super) fn after(ends: &[u64]) -> Self {
        Self(ends.iter().map(|end| Some(*end)).collect())
    }

    pub(super) fn unknown(partitions: usize) -> Self {
        Self(vec![None; partitions])
    }

    /// What is known, 0 where nothing is.
    pub(super) fn ends(&self) -> Vec<u64> {
        self.0.iter().map(|end| end.unwrap_or(0)).collect()
    }

    /// Whether these may be the ends so far.
    pub(super) fn agrees(&self, ends: &[u64]) -> bool {
        self.0.iter().zip(ends).all(|(known, end)| known.is_none_or(|known| known == *end))
    }

    /// Checks a batch against itself and what came before it, and takes its ends.
    pub(super) fn follow(&mut self, batch: &Batch<'_>) -> Result<(), String> {
        let partitions = self.0.len();
        for frame in batch.frames() {
            let frame = frame?;
            let slot = self
                .0
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
        for (partition, (slot, end)) in self.0.iter_mut().zip(batch.ends).enumerate() {
            let end = u64::from_le_bytes(*end);
            if let Some(next) = *slot
                && next != end
            {
                return Err(format!("expected partition {partition} to end at {next}, found {end}"));
            }
            *slot = Some(end);
        }
        Ok(())
    }
}

impl<'a> Batch<'a> {
    /// The records' frames, in journal order; none in a batch of another kind.
    pub(super) fn frames(&self) -> Frames<'a> {
        Frames { rest: if self.kind == Kind::Records { self.body } else { &[] } }
    }

    /// Takes the new epochs in it, if it is a batch of those.
    pub(super) fn apply_epochs(&self, epochs: &mut [u64]) -> Result<(), String> {
        if self.kind != Kind::Epochs {
            return Ok(());
        }
        let (changes, rest) = self.body.as_chunks::<EPOCH_BYTES>();
        if !rest.is_empty() {
            return Err("expected whole changes of epochs, found the beginning of one".to_owned());
        }
        for [epoch @ .., low, high] in changes {
            let partition = u16::from_le_bytes([*low, *high]);
            let partitions = epochs.len();
            let known = epochs
                .get_mut(usize::from(partition))
                .ok_or_else(|| format!("expected a partition below {partitions}, found {partition}"))?;
            *known = u64::from_le_bytes(*epoch);
        }
        Ok(())
    }
}

/// One record in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) partition: Partition,
    pub(super) n: u64,
    flags: u16,
    pub(super) record: &'a [u8],
}

impl Frame<'_> {
    /// Whether its decision raises an alert.
    pub(super) fn raises_alert(&self) -> bool {
        self.flags & ALERT != 0
    }

    /// Whether it may put an entry on a list or take one off: a block that does so raises an alert, as every block does.
    pub(super) fn may_change_lists(&self) -> bool {
        self.raises_alert() || codec::may_be_list_change(self.record)
    }

    /// The record, which must be the one that the frame announces.
    pub(super) fn decode(&self, decoder: &mut Decoder) -> Result<Record, String> {
        let named = |what: &dyn std::fmt::Display| format!("record {} of partition {}: {what}", self.n, self.partition);
        let record = decoder.decode(self.record).map_err(|error| named(&error))?;
        let Key { partition, n, .. } = Key::from(&record);
        if (partition, n) != (self.partition, self.n) {
            return Err(named(&format_args!("its content is record {n} of partition {partition}")));
        }
        let flags = flags(&record);
        if flags != self.flags {
            return Err(named(&format_args!("expected flags {flags}, found {}", self.flags)));
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
    let (flags, rest) = rest.split_first_chunk()?;
    let (n, rest) = rest.split_first_chunk()?;
    let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (partition, flags) = (u16::from_le_bytes(*partition), u16::from_le_bytes(*flags));
    Some((Frame { partition, n: u64::from_le_bytes(*n), flags, record }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;
    use proptest::prelude::*;

    const PLACE: u64 = 4_096;

    fn batch(seq: u64, records: &[Record], ends: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes, ends.len());
        for record in records {
            push_frame(record, &mut bytes).expect("encodes");
        }
        let size = size(&bytes);
        finish(&mut bytes, Kind::Records, seq, ends, PLACE);
        assert_eq!(size, bytes.len() as u64);
        bytes
    }

    fn check(bytes: &[u8], offset: u64, mut before: Chain) -> Result<Vec<u64>, String> {
        let head = Head::parse(bytes, before.0.len())?;
        before.follow(&head.batch(bytes, offset)?)?;
        Ok(before.ends())
    }

    #[test]
    fn a_batch_is_checked_against_itself_its_place_and_its_predecessor() {
        let records = [samples::login(1, 1, 5), samples::login(0, 1, 9), samples::login(1, 1, 6)];
        let good = batch(4, &records, &[10, 7]);
        assert_eq!(good.len() % ALIGN, 0);
        assert_eq!(Head::parse(&good, 2).expect("a head").seq, 4);
        assert_eq!(check(&good, PLACE, Chain::after(&[9, 5])), Ok(vec![10, 7]));
        assert_eq!(check(&good, PLACE, Chain::unknown(2)), Ok(vec![10, 7]));

        let refused = |bytes: &[u8], offset, before: Chain, expected: &str| {
            let found = check(bytes, offset, before).expect_err("must be refused");
            assert!(found.contains(expected), "{found}");
        };
        refused(&good, PLACE, Chain::after(&[9, 4]), "expected record 4 of partition 1, found 5");
        refused(&good, PLACE, Chain::unknown(3), "expected a batch, found other bytes");
        refused(&good, PLACE + 8, Chain::unknown(2), "expected checksum");
        refused(&good[..good.len() - 8], PLACE, Chain::unknown(2), "expected a whole batch, found its beginning");
        refused(&[0; 64], PLACE, Chain::unknown(2), "the batch is missing");
        let ends = batch(4, &records, &[10, 8]);
        refused(&ends, PLACE, Chain::unknown(2), "expected partition 1 to end at 7, found 8");
        let first = batch(4, &records[..1], &[10, 6]);
        refused(&first, PLACE, Chain::after(&[9, 5]), "expected partition 0 to end at 9, found 10");
        let elsewhere = batch(4, &[samples::login(2, 1, 0)], &[0, 0]);
        refused(&elsewhere, PLACE, Chain::unknown(2), "expected a partition below 2, found 2");
    }

    #[test]
    fn a_frame_holds_the_record_it_announces() {
        let mut body = Vec::new();
        push_frame(&samples::alert(1, 1, 5, "u-1"), &mut body).expect("encodes");
        let refused = |body: &[u8]| {
            let (frame, _) = split_frame(body).expect("a frame");
            frame.decode(&mut Decoder::default()).expect_err("must be refused")
        };
        assert!(split_frame(&body).expect("a frame").0.raises_alert());
        body[8] = 6;
        assert_eq!(refused(&body), "record 6 of partition 1: its content is record 5 of partition 1");
        (body[8], body[6]) = (5, 0);
        assert_eq!(refused(&body), "record 5 of partition 1: expected flags 1, found 0");
    }

    #[test]
    fn epochs_come_back() {
        let mut bytes = Vec::new();
        begin(&mut bytes, 3);
        push_epochs(&[(2, 7), (0, u64::MAX)], &mut bytes);
        finish(&mut bytes, Kind::Epochs, 1, &[0, 0, 0], PLACE);
        let batch = Head::parse(&bytes, 3).expect("a head").batch(&bytes, PLACE).expect("a batch");
        let mut epochs = vec![1, 2, 3];
        batch.apply_epochs(&mut epochs).expect("applies");
        assert_eq!(epochs, [u64::MAX, 2, 7]);
        assert_eq!(batch.frames().count(), 0);
        assert!(batch.apply_epochs(&mut [0]).expect_err("refused").contains("expected a partition below 1, found 2"));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = batch(3, &[samples::decision(0, 1, 0), samples::login(0, 1, 1)], &[2]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(check(&bytes, PLACE, Chain::after(&[0])).is_err());
        }

        #[test]
        fn any_body_is_walked_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3_usize) {
            let kind = [Kind::Records, Kind::Epochs, Kind::Closed][kind];
            let mut bytes = Vec::new();
            begin(&mut bytes, 1);
            bytes.extend_from_slice(&body);
            finish(&mut bytes, kind, 1, &[0], PLACE);
            let batch = Head::parse(&bytes, 1).expect("a head").batch(&bytes, PLACE).expect("a batch");
            let _ = Chain::unknown(1).follow(&batch);
            let _ = batch.apply_epochs(&mut [0]);
            prop_assert!(batch.frames().count() <= 200);
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(head) = Head::parse(&bytes, 1) {
                prop_assert!(head.batch(&bytes, PLACE).is_err());
            }
        }
    }
}

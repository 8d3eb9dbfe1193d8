//! A frame: what one write of the spill adds to its file, as bytes, and the proof that they are what was written there.
//!
//! ```text
//! magic 4 | CRC-32 4 | length 4 | number 8 | items
//! ```
//! All numbers are little endian. `length` is that of the items. The checksum covers the frame's place in the file and
//! everything behind itself. Reading refuses a frame whose checksum, number or items disagree.

use super::RecordId;

const MAGIC: [u8; 4] = *b"Vsp1";
/// Bytes before the items.
const HEAD: usize = 20;
/// Where the checksum begins to cover.
const COVERED: usize = 8;
/// Bytes of an item besides those of its text or record: kind (u8), length (u32).
pub(super) const ITEM: usize = 5;
/// Bytes of a [`RecordId`]: partition (u16), epoch (u64), n (u64).
const ID: usize = 18;

const OWNER: u8 = 1;
const PUT: u8 = 2;
const DONE: u8 = 3;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Which journal the file belongs to.
    Owner(&'a str),
    /// A record, as it is stored.
    Put(&'a [u8]),
    /// A record is of no more interest.
    Done(RecordId),
}

/// Readies a buffer for the items of a frame.
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEAD, 0);
}

/// Whether there are no items.
pub(super) const fn is_empty(buffer: &[u8]) -> bool {
    buffer.len() <= HEAD
}

/// Appends an item.
pub(super) fn push(item: Item<'_>, buffer: &mut Vec<u8>) {
    let (kind, bytes) = match item {
        Item::Owner(name) => (OWNER, name.as_bytes()),
        Item::Put(record) => (PUT, record),
        Item::Done(RecordId { partition, epoch, n }) => {
            buffer.push(DONE);
            buffer.extend_from_slice(&(ID as u32).to_le_bytes());
            buffer.extend_from_slice(&partition.to_le_bytes());
            buffer.extend_from_slice(&epoch.to_le_bytes());
            return buffer.extend_from_slice(&n.to_le_bytes());
        }
    };
    buffer.push(kind);
    // invariant: a record is far smaller than the spill, which is bounded below 4 GiB
    buffer.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

/// Puts number and checksum in front of the items, which then are the frame of this place in a file.
pub(super) fn finish(buffer: &mut [u8], number: u64, offset: u64) {
    let length = u32::try_from(buffer.len() - HEAD).unwrap_or(u32::MAX);
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[8..12].copy_from_slice(&length.to_le_bytes());
    buffer[12..HEAD].copy_from_slice(&number.to_le_bytes());
    let checksum = checksum(buffer, offset);
    buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(frame: &[u8], offset: u64) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&offset.to_le_bytes());
    hash.update(&frame[COVERED..]);
    hash.finalize()
}

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    /// Bytes that it takes in the file.
    pub(super) size: usize,
    pub(super) items: Vec<Item<'a>>,
}

/// The frame at a place of a file, of which these are the bytes from there on; or why there is none.
pub(super) fn read(bytes: &[u8], offset: u64) -> Result<Frame<'_>, String> {
    let head = bytes.first_chunk::<HEAD>().ok_or("expected a frame, found its beginning")?;
    if head[..4] != MAGIC {
        return Err("expected a frame, found other bytes".to_owned());
    }
    let (length, number) = (number(&head[8..12]) as usize, number(&head[12..]));
    let size = HEAD + length;
    let frame = bytes.get(..size).ok_or("expected a whole frame, found its beginning")?;
    let (expected, found) = (u32::from_le_bytes([head[4], head[5], head[6], head[7]]), checksum(frame, offset));
    if found != expected {
        return Err(format!("expected checksum {expected:08x}, found {found:08x}"));
    }
    let mut items = Vec::new();
    let mut rest = &frame[HEAD..];
    while !rest.is_empty() {
        let (item, behind) = item(rest).ok_or("expected an item of a frame, found other bytes")?;
        items.push(item);
        rest = behind;
    }
    Ok(Frame { number, size, items })
}

fn item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<ITEM>()?;
    let (value, rest) = rest.split_at_checked(number(&head[1..]) as usize)?;
    let item = match head[0] {
        OWNER => Item::Owner(str::from_utf8(value).ok()?),
        PUT => Item::Put(value),
        DONE if value.len() == ID => Item::Done(RecordId {
            partition: u16::from_le_bytes([value[0], value[1]]),
            epoch: number(&value[2..10]),
            n: number(&value[10..]),
        }),
        _ => return None,
    };
    Some((item, rest))
}

/// Whether a whole frame begins anywhere behind the first of these bytes, numbered `from` or later.
pub(super) fn is_any_behind(bytes: &[u8], offset: u64, from: u64) -> bool {
    let places = (1..bytes.len()).filter(|at| bytes[*at..].starts_with(&MAGIC));
    places.into_iter().any(|at| read(&bytes[at..], offset + at as u64).is_ok_and(|frame| frame.number >= from))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

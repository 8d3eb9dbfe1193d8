//! Segments: the files of a log, each with a header that says what came before it, and a sparse index of its batches.
//!
//! A segment is named by the number of its first batch. Its header was on the disk before it had its name, so a header
//! that does not verify is damage, never a torn write. The index is only a way to find a batch sooner.

use super::disk::{self, Disk};
use crate::journal::{JournalError, Partition};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 8] = *b"VerdictJ";
/// The number that changes with the layout of a segment.
const FORMAT: u32 = 1;
/// Bytes before the counts: magic 8, CRC-32 4, format 4, partitions 2, zeros 6, first batch 8.
const FIXED: usize = 32;
/// Where the checksum begins to cover.
const COVERED: usize = 12;
/// A header fills whole blocks of this.
const BLOCK: usize = 4_096;
/// Distance of the places in an index.
const INDEX_EVERY: u64 = 64 << 10;

/// What came before a segment: its number of partitions, first batch, and each partition's records and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of its first batch.
    pub(super) first: u64,
    /// For every partition the number of records before it.
    pub(super) counts: Vec<u64>,
    /// For every partition the epoch before it, 0 where there was none.
    pub(super) epochs: Vec<u64>,
}

impl Header {
    /// Bytes that it takes, by the number of partitions.
    const fn size(partitions: usize) -> usize {
        (FIXED + 16 * partitions).next_multiple_of(BLOCK)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::size(self.counts.len()));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        // invariant: there are at most 1,024 partitions
        bytes.extend_from_slice(&(self.counts.len() as Partition).to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        for number in self.counts.iter().chain(&self.epochs) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.resize(Self::size(self.counts.len()), 0);
        let checksum = crc32fast::hash(&bytes[COVERED..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the start of a file, or what is wrong with it.
    fn decode(mut file: &File, path: &Path) -> Result<Self, JournalError> {
        let failed = |error: io::Error| JournalError::Store(disk::explain(path, &error));
        let foreign = || {
            let what = "is no journal segment of this service; restore it from a copy, or move the data directory away \
                        to start empty";
            JournalError::Store(format!("{} {what}", path.display()).into())
        };
        let mut bytes = Vec::with_capacity(BLOCK);
        file.by_ref().take(BLOCK as u64).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() < BLOCK || bytes[..8] != MAGIC {
            return Err(foreign());
        }
        let format = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        if format != FORMAT {
            let what = format!("has format {format}, expected {FORMAT}; start the release that wrote it");
            return Err(JournalError::Store(format!("{} {what}", path.display()).into()));
        }
        let partitions = usize::from(u16::from_le_bytes([bytes[16], bytes[17]]));
        file.take((Self::size(partitions) - BLOCK) as u64).read_to_end(&mut bytes).map_err(failed)?;
        let (expected, found) =
            (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]), crc32fast::hash(&bytes[COVERED..]));
        let (numbers, _) = bytes[FIXED - 8..].as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let first = numbers.next().unwrap_or(0);
        if bytes.len() != Self::size(partitions) || found != expected {
            let what = format!("its header: expected checksum {expected:08x}, found {found:08x}");
            return Err(damaged(path, first, what));
        }
        let counts = numbers.by_ref().take(partitions).collect();
        Ok(Self { first, counts, epochs: numbers.take(partitions).collect() })
    }
}

/// Damage in a file, at a batch.
pub(super) fn damaged(path: &Path, batch: u64, what: impl Into<Arc<str>>) -> JournalError {
    JournalError::Damaged { file: path.display().to_string().into(), batch, what: what.into() }
}

/// Where wanted records begin: the first wanted number of every partition, `u64::MAX` where none is.
#[derive(Clone, Debug)]
pub(super) struct Floors(pub(super) Vec<u64>);

impl Floors {
    /// Whether batches up to one with these ends hold any wanted record.
    pub(super) fn within(&self, ends: &[u64]) -> bool {
        ends.iter().zip(&self.0).any(|(end, from)| end > from)
    }
}

/// A place in a segment where a batch begins, and what came before it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    /// Number of the batch.
    pub(super) seq: u64,
    /// For every partition the number of records before it.
    pub(super) before: Vec<u64>,
}

/// Places at about every 64 KiB of a segment.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: Vec<Place>,
}

impl Index {
    /// Whether a batch here should have a place.
    pub(super) fn wants(&self, offset: u64) -> bool {
        self.places.last().is_none_or(|last| offset >= last.offset + INDEX_EVERY)
    }

    /// Takes a place behind the others.
    pub(super) fn push(&mut self, offset: u64, seq: u64, before: &[u64]) {
        self.places.push(Place { offset, seq, before: before.to_vec() });
    }

    /// The last place with nothing wanted before it.
    fn last_unwanted(&self, floors: &Floors) -> Option<Place> {
        let after = self.places.partition_point(|place| !floors.within(&place.before));
        self.places.get(after.checked_sub(1)?).cloned()
    }
}

/// One file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    index: Mutex<Option<Index>>,
}

impl Segment {
    pub(super) fn path_in(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}.log"))
    }

    pub(super) fn new(path: PathBuf, header: Header, index: Option<Index>) -> Self {
        Self { path, header, index: Mutex::new(index) }
    }

    /// Reads the header of a file.
    fn load(path: PathBuf, first: u64) -> Result<Self, JournalError> {
        let file = File::open(&path).map_err(|error| JournalError::Store(disk::explain(&path, &error)))?;
        let header = Header::decode(&file, &path)?;
        if header.first != first {
            let what = format!("its header says that it begins with batch {}", header.first);
            return Err(damaged(&path, first, what));
        }
        Ok(Self::new(path, header, None))
    }

    /// Where its batches begin.
    pub(super) fn start(&self) -> u64 {
        Header::size(self.header.counts.len()) as u64
    }

    /// The last indexed place with nothing wanted before it; its start where there is none. The index is built first
    /// where it is missing; says whether it was.
    pub(super) fn find(&self, floors: &Floors, build: impl FnOnce() -> Result<Index, JournalError>) -> Found {
        let mut index = self.index();
        let built = index.is_none();
        if built {
            *index = Some(build()?);
        }
        let place = index.as_ref().and_then(|index| index.last_unwanted(floors));
        let start = || Place { offset: self.start(), seq: self.header.first, before: self.header.counts.clone() };
        Ok((place.unwrap_or_else(start), built))
    }

    /// Adds a batch that became durable to the index, if there is one.
    pub(super) fn note(&self, offset: u64, seq: u64, before: &[u64]) {
        let mut index = self.index();
        if let Some(index) = index.as_mut()
            && index.wants(offset)
        {
            index.push(offset, seq, before);
        }
    }

    /// Frees the index; the next search builds it again.
    pub(super) fn forget_index(&self) {
        *self.index() = None;
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Option<Index>> {
        // Nothing under this lock leaves an index that is wrong, whatever happened to another holder.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, and whether the index was built for it.
pub(super) type Found = Result<(Place, bool), JournalError>;

/// The segments of a directory in their order, headers verified; none where there is no file of that name.
pub(super) fn list(dir: &Path) -> Result<Vec<Arc<Segment>>, JournalError> {
    let failed = |error: io::Error| JournalError::Store(disk::explain(dir, &error));
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 20);
        firsts.extend(first.and_then(|digits| digits.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    let load = |first: &u64| Segment::load(Segment::path_in(dir, *first), *first).map(Arc::new);
    let segments: Vec<Arc<Segment>> = firsts.iter().map(load).collect::<Result<_, _>>()?;
    if let Some(first) = segments.first()
        && first.header.first != 1
    {
        return Err(damaged(&Segment::path_in(dir, 1), 1, "the file is missing"));
    }
    for pair in segments.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        let grows = before.counts.iter().zip(&after.counts).all(|(before, after)| before <= after);
        if before.counts.len() != after.counts.len() || !grows {
            return Err(damaged(&pair[1].path, after.first, "its header does not follow the segment before it"));
        }
    }
    Ok(segments)
}

/// Makes a segment and gives it its name once it is on the disk, with so many bytes of space if they can be had.
/// Returns the file, and where its space ends.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    header: &Header,
    space_bytes: u64,
) -> Result<(File, PathBuf, u64), JournalError> {
    let (draft, path) = (dir.join("next.tmp"), Segment::path_in(dir, header.first));
    let failed = |error: io::Error| JournalError::Store(disk::explain(&path, &error));
    let bytes = header.encode();
    let start = bytes.len() as u64;
    let file = disk.create(&draft).map_err(failed)?;
    disk.write(&file, &bytes, 0).map_err(failed)?;
    let space = match disk::write_zeros(disk, &file, start, start + space_bytes) {
        Ok(()) => start + space_bytes,
        // Batches make their own space, as long as there is any.
        Err(_) => start,
    };
    disk.sync(&file).map_err(failed)?;
    disk.publish(&draft, &path).map_err(failed)?;
    Ok((file, path, space))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::log::disk::RealDisk;
    use proptest::prelude::*;

    fn header(partitions: u64) -> Header {
        Header { first: 9, counts: (0..partitions).collect(), epochs: (7..7 + partitions).collect() }
    }

    fn decode(bytes: &[u8]) -> Result<Header, JournalError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("1.log");
        std::fs::write(&path, bytes).expect("writes");
        Header::decode(&File::open(&path).expect("opens"), &path)
    }

    #[test]
    fn a_header_comes_back_whatever_its_size() {
        for (partitions, size) in [(1, 4_096), (12, 4_096), (254, 4_096), (255, 8_192), (1_024, 20_480)] {
            let header = header(partitions);
            let bytes = header.encode();
            assert_eq!(bytes.len(), size);
            assert_eq!(decode(&bytes).expect("a header"), header);
        }
    }

    #[test]
    fn what_is_no_header_is_explained() {
        let mut bytes = header(3).encode();
        assert!(decode(&bytes[..4_000]).expect_err("refused").to_string().contains("is no journal segment of this"));
        bytes[12] = 2;
        let error = decode(&bytes).expect_err("refused").to_string();
        assert!(error.contains("has format 2, expected 1; start the release that wrote it"), "{error}");
        let error = decode(&header(255).encode()[..4_096]).expect_err("refused").to_string();
        assert!(error.contains("damaged at batch 9: its header: expected checksum"), "{error}");
    }

    #[test]
    fn an_index_finds_the_last_place_with_nothing_wanted_before() {
        let mut index = Index::default();
        for (offset, before) in [(4_096, [0, 0]), (70_000, [5, 1]), (140_000, [5, 9])] {
            assert!(index.wants(offset));
            index.push(offset, offset, &before);
        }
        assert!(!index.wants(150_000));
        let find = |floors: [u64; 2]| index.last_unwanted(&Floors(floors.to_vec())).map(|place| place.offset);
        assert_eq!(find([0, 0]), Some(4_096));
        assert_eq!(find([4, u64::MAX]), Some(4_096));
        assert_eq!(find([5, u64::MAX]), Some(140_000));
        assert_eq!(find([5, 8]), Some(70_000));
        assert_eq!(find([u64::MAX, 9]), Some(140_000));
    }

    #[test]
    fn a_segment_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("next.tmp"), "half of one").expect("writes");
        assert_eq!(list(dir.path()).expect("lists").len(), 0);
        let first = Header { first: 1, ..header(2) };
        create(&RealDisk, dir.path(), &first, 100).expect("creates");
        let found = list(dir.path()).expect("lists");
        assert_eq!(found[0].header, first);
        std::fs::rename(&found[0].path, Segment::path_in(dir.path(), 2)).expect("renames");
        let error = list(dir.path()).expect_err("refused").to_string();
        assert!(error.contains("its header says that it begins with batch 1"), "{error}");
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(at in 0..4_096_usize, bit in 0..8) {
            let mut bytes = header(2).encode();
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }
    }
}

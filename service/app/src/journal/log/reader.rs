//! Reads batches back, verified, in blocking calls beside the writer, and never beyond what is durable.
//!
//! A cursor is found by a search over the headers of the segments and the index of one of them, and a walk over heads
//! from there. The scan that follows verifies every batch, the one before the first wanted one included, and holds one
//! page of records at a time. Only records that are wanted are decoded.

use super::Log;
use super::batch::{Chain, Frame, Head, copy_ends};
use super::scan::{SCAN_BYTES, Steps, Window};
use super::segment::{Floors, Index, Segment, damaged};
use crate::journal::codec::Decoder;
use crate::journal::record::Record;
use crate::journal::{Cursor, JournalError, Partition, Wanted};
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream};
use std::sync::Arc;

/// Bytes that are read at once for a single record: about the distance of places in an index. A projection that keeps up
/// begins with as many.
const LOOK_BYTES: usize = 64 << 10;
/// A page ends after this many bytes of batches.
const PAGE_BYTES: usize = 1 << 20;

/// The records from the cursor on, in the batches up to the last one given.
pub(super) fn replay(
    log: Arc<Log>,
    from: Cursor,
    wanted: Wanted,
    last_seq: u64,
) -> BoxStream<'static, Result<Record, JournalError>> {
    let pages = stream::try_unfold(None, move |scan: Option<Scan>| {
        let (log, from) = (Arc::clone(&log), from.clone());
        async move {
            blocking(move || {
                let scan = match scan {
                    Some(scan) => scan,
                    None => Scan::start(log, &from, wanted, last_seq)?,
                };
                scan.page()
            })
            .await
        }
    });
    Box::pin(pages.map_ok(|records| stream::iter(records.into_iter().map(Ok))).try_flatten())
}

/// One record that is durable.
pub(super) async fn read(log: Arc<Log>, partition: Partition, n: u64, last_seq: u64) -> Result<Record, JournalError> {
    blocking(move || read_now(&log, partition, n, last_seq)).await
}

/// Runs what waits for the disk where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(JournalError::Store(format!("the reader was stopped: {error}").into())))
}

fn read_now(log: &Arc<Log>, partition: Partition, n: u64, last_seq: u64) -> Result<Record, JournalError> {
    let floors = log.floors(&[(partition, n)])?;
    let mut walk = Walk::start(Arc::clone(log), &floors, last_seq, Steps::of(LOOK_BYTES))?;
    walk.skip_unwanted(&floors)?;
    let (seq, path) = (walk.seq, Arc::clone(walk.segment()));
    let missing = || damaged(&path.path, seq, format!("expected record {n} of partition {partition} in it"));
    let head = walk.head()?.ok_or_else(missing)?;
    let found = walk.verified(&head, Chain::unknown(log.partitions.into()), |frame| {
        let wanted = (frame.partition, frame.n) == (partition, n);
        wanted.then(|| frame.decode(&mut Decoder::default())).transpose()
    })?;
    found.0.into_iter().next().ok_or_else(missing)
}

/// A position among the batches of all segments.
struct Walk {
    log: Arc<Log>,
    segments: Arc<Vec<Arc<Segment>>>,
    /// The segment of the position.
    at: usize,
    window: Window,
    offset: u64,
    /// Number of the batch at the position.
    seq: u64,
    last_seq: u64,
    /// What the batch must follow.
    chain: Chain,
    steps: Steps,
}

impl Walk {
    /// At or before the first batch with a wanted record, by segments and index.
    fn start(log: Arc<Log>, floors: &Floors, last_seq: u64, steps: Steps) -> Result<Self, JournalError> {
        let segments = log.segments();
        // Nothing is before the first one, so that there is always one.
        let at = segments.partition_point(|segment| !floors.within(&segment.header.counts)).saturating_sub(1);
        let segment = Arc::clone(&segments[at]);
        let end = segments.get(at + 1).map_or(last_seq, |next| next.header.first - 1);
        let (place, built) = segment.find(floors, || build_index(&segment, end))?;
        if built {
            log.keep_index(&segment);
        }
        let window = Window::open(&segment.path, steps)?;
        let chain = Chain::after(&place.before);
        Ok(Self { log, segments, at, window, offset: place.offset, seq: place.seq, last_seq, chain, steps })
    }

    fn segment(&self) -> &Arc<Segment> {
        &self.segments[self.at]
    }

    fn partitions(&self) -> usize {
        self.log.partitions.into()
    }

    /// The head of the batch at the position, `None` at the end.
    fn head(&mut self) -> Result<Option<Head>, JournalError> {
        if self.seq > self.last_seq {
            return Ok(None);
        }
        if self.segments.get(self.at + 1).is_some_and(|next| next.header.first == self.seq) {
            self.next_segment()?;
        }
        let head = self.window.head(self.offset, self.seq, self.partitions())?;
        head.map(Some).map_err(|what| damaged(&self.segment().path, self.seq, what))
    }

    fn next_segment(&mut self) -> Result<(), JournalError> {
        if self.window.end_of_traces(self.offset)? > self.offset {
            let what = format!("expected the file to end before byte {}, found more", self.offset);
            return Err(damaged(&self.segment().path, self.seq, what));
        }
        let segment = Arc::clone(&self.segments[self.at + 1]);
        if !self.chain.agrees(&segment.header.counts) {
            return Err(damaged(&segment.path, self.seq, "its header does not follow the segment before it"));
        }
        self.window = Window::open(&segment.path, self.steps)?;
        self.at += 1;
        self.offset = segment.start();
        self.chain = Chain::after(&segment.header.counts);
        Ok(())
    }

    /// Goes to the first batch with a wanted record, or the end. It believes the heads on its way, but not that nothing is
    /// wanted in this whole segment when its successor says that something is. Gives the place of the batch before, if
    /// there is one that it went over.
    fn skip_unwanted(&mut self, floors: &Floors) -> Result<Option<(u64, u64)>, JournalError> {
        let (mut before, mut ends) = (None, Vec::new());
        let at = self.at;
        while let Some(head) = self.head()? {
            if self.at > at {
                let what = "expected it to end with the records that the next file follows, found fewer";
                return Err(damaged(&self.segments[at].path, self.seq - 1, what));
            }
            let partitions = self.partitions();
            copy_ends(self.window.at(self.offset, Head::with_ends(partitions))?, &mut ends, partitions);
            if floors.within(&ends) {
                break;
            }
            before = Some((self.offset, self.seq));
            self.chain = Chain::unknown(partitions);
            self.pass(&head);
        }
        Ok(before)
    }

    fn pass(&mut self, head: &Head) {
        self.offset += head.size() as u64;
        self.seq += 1;
    }

    /// Verifies the batch at the position after a chain, and takes what is wanted of it; gives the chain behind it.
    fn verified(
        &mut self,
        head: &Head,
        mut chain: Chain,
        mut take: impl FnMut(&Frame<'_>) -> Result<Option<Record>, String>,
    ) -> Result<(Vec<Record>, Chain), JournalError> {
        let path = Arc::clone(self.segment());
        let mut records = Vec::new();
        let checked = self.window.batch(head, self.offset)?.and_then(|batch| {
            chain.follow(&batch)?;
            for frame in batch.frames() {
                records.extend(take(&frame?)?);
            }
            Ok(())
        });
        checked.map_err(|what| damaged(&path.path, self.seq, what))?;
        Ok((records, chain))
    }
}

/// The index of a segment with its batches up to the last one given. Places come only after batches whose checksum is
/// right; damage ends it, and is found by whoever needs what lies there.
fn build_index(segment: &Segment, last_seq: u64) -> Result<Index, JournalError> {
    let partitions = segment.header.counts.len();
    let mut window = Window::open(&segment.path, Steps::of(SCAN_BYTES))?;
    let mut index = Index::default();
    let (mut offset, mut before) = (segment.start(), Some(segment.header.counts.clone()));
    for seq in segment.header.first..=last_seq {
        let Ok(head) = window.head(offset, seq, partitions)? else { break };
        if let Some(before) = before.as_ref().filter(|_| index.wants(offset)) {
            index.push(offset, seq, before);
        }
        let good = window.batch(&head, offset)?.is_ok();
        let mut ends = before.take().unwrap_or_default();
        copy_ends(window.at(offset, Head::with_ends(partitions))?, &mut ends, partitions);
        before = good.then_some(ends);
        offset += head.size() as u64;
    }
    Ok(index)
}

/// Records, and the scan that goes on behind them.
type Page = (Vec<Record>, Option<Scan>);

/// A replay under way.
struct Scan {
    walk: Walk,
    floors: Floors,
    wanted: Wanted,
    decoder: Decoder,
}

impl Scan {
    fn start(log: Arc<Log>, from: &Cursor, wanted: Wanted, last_seq: u64) -> Result<Self, JournalError> {
        let floors = log.floors(from)?;
        let mut walk = Walk::start(log, &floors, last_seq, Steps::growing(LOOK_BYTES, SCAN_BYTES))?;
        if let Some((offset, seq)) = walk.skip_unwanted(&floors)? {
            (walk.offset, walk.seq) = (offset, seq);
        }
        Ok(Self { walk, floors, wanted, decoder: Decoder::default() })
    }

    /// The wanted records of the next batches, `None` at the end.
    fn page(mut self) -> Result<Option<Page>, JournalError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES {
            match self.batch() {
                Ok(Some((records, size))) => {
                    page.extend(records);
                    bytes += size;
                }
                Ok(None) if page.is_empty() => return Ok(None),
                // What is good before damage is given first; the position stays before it.
                Err(error) if page.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(Some((page, Some(self))))
    }

    /// The wanted records of the next batch and its size in bytes, `None` at the end.
    fn batch(&mut self) -> Result<Option<(Vec<Record>, usize)>, JournalError> {
        let Some(head) = self.walk.head()? else { return Ok(None) };
        let Self { walk, floors, wanted, decoder } = self;
        let (records, chain) = walk.verified(&head, walk.chain.clone(), |frame| {
            let passes = match wanted {
                Wanted::Everything | Wanted::Published => true,
                Wanted::Alerts => frame.raises_alert(),
                Wanted::Lists => frame.may_change_lists(),
            };
            let wanted = passes && frame.n >= floors.0[usize::from(frame.partition)];
            wanted.then(|| frame.decode(decoder)).transpose()
        })?;
        walk.chain = chain;
        walk.pass(&head);
        Ok(Some((records, head.size())))
    }
}

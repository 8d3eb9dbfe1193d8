//! Reads records again, beside the tail: for replays, and single ones. Blocking calls, in threads made for that.
//!
//! A partition is read from the nearest known place to where the tail had got when the reader was made; one that the tail
//! does not follow, to its end. What the tail has read lately is taken out of memory. One partition is read after the other.

use super::Shared;
use super::consumer::{Lent, Pool};
use super::counting::{Counter, Verdict};
use super::entry::{self, Entry, Refused};
use super::recent::{Kept, Marks};
use super::tail::offset_of;
use crate::journal::codec::Decoder;
use crate::journal::ledger::Key;
use crate::journal::record::Record;
use crate::journal::{Cursor, JournalError, Partition, Position, Wanted};
use crate::kafka::{Watermarks, watermarks};
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A page ends after this many bytes or records.
const PAGE_BYTES: usize = 1 << 20;
const PAGE_RECORDS: usize = 4_096;
/// How long a reader waits for a record before it looks whether it is still wanted.
const WAIT: Duration = Duration::from_millis(100);
/// A read is given up when nothing came for so long.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// The records from the cursor on, up to what is durable now.
pub(super) fn replay(
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    from: Cursor,
    wanted: Wanted,
) -> BoxStream<'static, Result<Record, JournalError>> {
    let spans: Result<Vec<Span>, JournalError> =
        from.into_iter().rev().map(|(partition, n)| Span::from(&shared, partition, n)).collect();
    let scan = spans.map(|spans| Scan {
        shared,
        pool,
        spans,
        wanted,
        open: None,
        kept: VecDeque::new(),
        decoder: Decoder::default(),
        failed: None,
    });
    let pages = stream::once(async { scan })
        .map_ok(|scan| stream::try_unfold(scan, |scan| blocking(move || scan.page())))
        .try_flatten();
    Box::pin(pages.map_ok(|records| stream::iter(records.into_iter().map(Ok))).try_flatten())
}

/// One record.
pub(super) async fn read(
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    partition: Partition,
    n: u64,
) -> Result<Option<Record>, JournalError> {
    let mut span = Span::from(&shared, partition, n)?;
    span.last_n = n;
    let mut scan = Scan {
        shared,
        pool,
        spans: vec![span],
        wanted: Wanted::Everything,
        open: None,
        kept: VecDeque::new(),
        decoder: Decoder::default(),
        failed: None,
    };
    // Pages before it are empty where it is far behind the nearest known place.
    let found = move || {
        while let Some((records, rest)) = scan.page()? {
            if let Some(record) = records.into_iter().next() {
                return Ok(Some(record));
            }
            scan = rest;
        }
        Ok(None)
    };
    blocking(found).await
}

/// Runs what waits for a broker where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(JournalError::Store(format!("the reader was stopped: {error}").into())))
}

/// What is to be read of a partition.
#[derive(Debug)]
struct Span {
    partition: Partition,
    /// The first and the last wanted record.
    first_n: u64,
    last_n: u64,
    /// The offset behind the last entry that may be read; `None` for the end of the partition.
    end: Option<i64>,
    /// The number behind the last record that may be read, where that is known.
    end_n: Option<u64>,
    start: Option<Position>,
}

impl Span {
    fn from(shared: &Shared, partition: Partition, n: u64) -> Result<Self, JournalError> {
        if partition >= shared.partitions {
            let what = format!("expected a partition below {}, found {partition}", shared.partitions);
            return Err(JournalError::Store(what.into()));
        }
        let places = shared.places(partition);
        if let Some(first) = places.first().filter(|first| n < first.n) {
            let topic = Arc::clone(&shared.topic);
            return Err(JournalError::Trimmed { topic, partition, n, first: first.n });
        }
        let start = places.nearest(n).exact(n);
        let reached = places.reached();
        let (end, end_n) = (reached.map(|reached| offset_of(Some(reached))), reached.map(|reached| reached.n));
        Ok(Self { partition, first_n: n, last_n: u64::MAX, end, end_n, start })
    }
}

/// Records, and the scan that goes on behind them.
type Page = (Vec<Record>, Scan);

/// A read under way.
struct Scan {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// Still to be read, the next one last.
    spans: Vec<Span>,
    wanted: Wanted,
    open: Option<Open>,
    /// Of the span that is next, what was found in memory before it.
    kept: VecDeque<Kept>,
    decoder: Decoder,
    /// Told once what came before it was given; nothing is read behind it.
    failed: Option<JournalError>,
}

/// The partition that is being read.
struct Open {
    consumer: Lent,
    span: Span,
    counter: Counter,
    /// The offset behind the last entry to be read.
    end: i64,
    /// Whether that was read.
    over: bool,
    /// When something last came.
    since: Instant,
}

/// What came of one look at the consumer.
enum Look {
    /// A wanted record, and its bytes.
    Record(Box<Record>, usize),
    /// An entry that is not wanted, and its bytes; or none.
    Nothing(usize),
    /// The span is read.
    End,
}

impl Scan {
    /// The next wanted records, `None` at the end.
    fn page(mut self) -> Result<Option<Page>, JournalError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES && page.len() < PAGE_RECORDS {
            match self.look() {
                Ok(Some(Look::Record(record, size))) => {
                    page.push(*record);
                    bytes += size;
                }
                Ok(Some(Look::Nothing(size))) => bytes += size,
                Ok(Some(Look::End)) => self.open = None,
                Ok(None) if page.is_empty() => return Ok(None),
                Err(error) if page.is_empty() => return Err(error),
                Ok(None) => break,
                // What is good before it is given first.
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(Some((page, self)))
    }

    fn look(&mut self) -> Result<Option<Look>, JournalError> {
        if self.shared.is_closed() {
            return Err(JournalError::Store("the journal is closed".into()));
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                if let Some(found) = self.look_into_memory()? {
                    return Ok(Some(found));
                }
                match self.spans.pop() {
                    None => return Ok(None),
                    Some(span) => match Open::start(&self.shared, &self.pool, span)? {
                        None => return Ok(Some(Look::End)),
                        Some(open) => self.open.insert(open),
                    },
                }
            }
        };
        open.look(&self.shared, self.wanted, &mut self.decoder).map(Some)
    }

    /// A record of the next span out of memory, `None` where that does not go back so far.
    fn look_into_memory(&mut self) -> Result<Option<Look>, JournalError> {
        let Some(span) = self.spans.last_mut() else { return Ok(None) };
        if let Some(Kept { offset, epoch, n, bytes, .. }) = self.kept.pop_front() {
            let record = entry::decode(Key { partition: span.partition, epoch, n }, &bytes, &mut self.decoder);
            let refused = |what| self.shared.refused(span.partition, offset, &Refused::Damaged(what));
            return Ok(Some(Look::Record(Box::new(record.map_err(refused)?), bytes.len())));
        }
        let Some(end) = span.end_n.map(|end| end.min(span.last_n.saturating_add(1))) else { return Ok(None) };
        if span.first_n >= end {
            self.spans.pop();
            return Ok(Some(Look::End));
        }
        let Some((found, next)) = self.shared.recent(span.partition).from(span.first_n, end, self.wanted) else {
            return Ok(None);
        };
        span.first_n = next;
        self.kept = found.into();
        Ok(Some(Look::Nothing(0)))
    }
}

impl Open {
    /// Begins to read a span; `None` if there is nothing in it.
    fn start(shared: &Shared, pool: &Arc<Pool>, span: Span) -> Result<Option<Self>, JournalError> {
        let offset = offset_of(span.start);
        if span.end.is_some_and(|end| offset >= end) {
            return Ok(None);
        }
        let consumer = pool.lend()?;
        let end = match span.end {
            Some(end) => end,
            None => {
                let there = there(shared, &consumer, span.partition)?;
                if offset < there.low || offset > there.high {
                    return Err(shared.out_of_reach(span.partition, offset, there.low, there.high));
                }
                if offset == there.high {
                    return Ok(None);
                }
                there.high
            }
        };
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&shared.topic, span.partition.into(), Offset::Offset(offset))
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| JournalError::Store(consumer.settings().explain(&error).to_string().into()))?;
        let counter = Counter::at(span.start);
        Ok(Some(Self { consumer, span, counter, end, over: false, since: shared.clock.instant() }))
    }

    fn look(&mut self, shared: &Shared, wanted: Wanted, decoder: &mut Decoder) -> Result<Look, JournalError> {
        if self.over {
            return Ok(Look::End);
        }
        match self.consumer.poll(WAIT) {
            None if shared.clock.since(self.since) >= READ_LIMIT => {
                let seconds = READ_LIMIT.as_secs();
                Err(JournalError::Store(format!("nothing came from the brokers for {seconds} s").into()))
            }
            None => Ok(Look::Nothing(0)),
            Some(Ok(message)) => {
                self.since = shared.clock.instant();
                let size = message.payload().map_or(0, <[u8]>::len);
                let found = take(shared, &message, &mut self.counter, &self.span, wanted, decoder)?;
                self.over = message.offset() + 1 >= self.end || self.counter.next_n() > self.span.last_n;
                Ok(found.map_or(Look::Nothing(size), |record| Look::Record(Box::new(record), size)))
            }
            // Behind the last record there may be what is never delivered. The tail, on the other hand, has read its last.
            Some(Err(KafkaError::PartitionEOF(_))) if self.span.end.is_none() => Ok(Look::End),
            Some(Err(error)) => self.look_after(shared, &error),
        }
    }

    fn look_after(&self, shared: &Shared, error: &KafkaError) -> Result<Look, JournalError> {
        let code = error.rdkafka_error_code();
        if !matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) {
            // It goes on by itself, and the client has logged it.
            return Ok(Look::Nothing(0));
        }
        let there = there(shared, &self.consumer, self.span.partition)?;
        Err(shared.out_of_reach(self.span.partition, offset_of(self.span.start), there.low, there.high))
    }
}

/// Where a partition begins and ends.
fn there(shared: &Shared, consumer: &Lent, partition: Partition) -> Result<Watermarks, JournalError> {
    let (settings, client) = (consumer.settings(), consumer.client());
    let asked = watermarks(settings, client, &shared.topic, partition.into(), READ_LIMIT);
    asked.map_err(|error| JournalError::Store(error.to_string().into()))
}

/// The record of a message, if it counts and is wanted.
fn take(
    shared: &Shared,
    message: &BorrowedMessage<'_>,
    counter: &mut Counter,
    span: &Span,
    wanted: Wanted,
    decoder: &mut Decoder,
) -> Result<Option<Record>, JournalError> {
    let (partition, offset) = (span.partition, u64::try_from(message.offset()).unwrap_or(0));
    let refused = |refused: Refused| shared.refused(partition, offset, &refused);
    let entry = Entry::parse(message.payload().unwrap_or_default(), partition, shared.partitions).map_err(refused)?;
    let Verdict::Counts(_) = counter.feed(offset, &entry) else { return Ok(None) };
    let Entry::Record { epoch, n, alert, dead_letter, bytes } = entry else { return Ok(None) };
    if n < span.first_n || !(Marks { alert, dead_letter }).are(wanted, bytes) {
        return Ok(None);
    }
    let found = entry::decode(Key { partition, epoch, n }, bytes, decoder);
    found.map(Some).map_err(|what| refused(Refused::Damaged(what)))
}

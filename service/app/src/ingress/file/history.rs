//! Reading a history: CSV or NDJSON, plain or gzip, from a file or from standard input.
//!
//! Of either format an event is a line of bounded length: what is wrong with one line says nothing of the next.

use super::cells::{Cells, CellsError};
use crate::actors::messages::Event;
use crate::wire::csv::{CsvError, CsvHistory};
use crate::wire::{ParseContext, ParseError, line};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use verdict_core::money::Currency;

/// Longest line of a history in bytes; what is longer is refused and skipped. The limit of one event over HTTP.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// First bytes of a gzip file (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header and a transaction a row.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// No such file, no permission, damaged gzip.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The header is no header of a history.
    #[error("{}: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CsvError,
    },
    /// The first line is no row of names.
    #[error("{}: the header: {source}", path.display())]
    HeaderLine {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CellsError,
    },
}

/// One line.
pub(super) struct Entry {
    /// Its number, the first being 1.
    pub(super) line: u64,
    /// Its bytes without the line feed.
    pub(super) original: Box<[u8]>,
    /// The event, and whether the line itself says that it was fraud; or why it is none.
    pub(super) event: Result<(Event, Option<bool>), Refused>,
}

/// Why a line is no event.
pub(super) struct Refused {
    /// Reason code.
    pub(super) reason: &'static str,
    /// What was expected and found.
    pub(super) detail: String,
}

/// See the module.
pub struct History {
    path: PathBuf,
    /// Compressed bytes read from the file, for progress.
    bytes_read: Arc<AtomicU64>,
    /// Size of the file, if it is one.
    pub bytes_total: Option<u64>,
    reader: Box<dyn BufRead>,
    /// The line that is read, and its number.
    line: Vec<u8>,
    number: u64,
    rows: Rows,
}

enum Rows {
    Csv { columns: Box<CsvHistory>, cells: Box<Cells> },
    Ndjson,
}

impl History {
    /// Opens a history; `-` is standard input. `currency` is the one of rows that name none.
    ///
    /// # Errors
    /// When the file cannot be read or its header lacks a required column.
    pub fn open(path: &Path, format: Format, currency: Currency) -> Result<Self, HistoryError> {
        let io_error = |source| HistoryError::Io { path: path.to_owned(), source };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (input, bytes_total): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(io_error)?;
            let size = file.metadata().map_err(io_error)?.len();
            (Box::new(file), Some(size))
        };
        let counted = Counted { inner: input, bytes: Arc::clone(&bytes_read) };
        let mut plain = BufReader::with_capacity(256 * 1024, counted);
        let is_gzip = plain.fill_buf().map_err(io_error)?.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::with_capacity(256 * 1024, MultiGzDecoder::new(plain)))
        } else {
            Box::new(plain)
        };
        let path = path.to_owned();
        let (line, rows) = (Vec::new(), Rows::Ndjson);
        let mut history = Self { path, bytes_read, bytes_total, reader, line, number: 0, rows };
        if format == Format::Csv {
            history.rows = history.read_header(currency)?;
        }
        Ok(history)
    }

    fn read_header(&mut self, currency: Currency) -> Result<Rows, HistoryError> {
        let mut cells = Box::new(Cells::new());
        let empty = csv::ByteRecord::new();
        let header = match self.read_line()? {
            0 => Ok(&empty),
            length if length > MAX_LINE_BYTES => Err(CellsError::TooLong),
            _ => cells.split(&self.line),
        }
        .map_err(|source| HistoryError::HeaderLine { path: self.path.clone(), source })?;
        let columns = CsvHistory::new(header, currency)
            .map_err(|source| HistoryError::Header { path: self.path.clone(), source })?;
        Ok(Rows::Csv { columns: Box::new(columns), cells })
    }

    /// Bytes of the file read so far, as they are on disk.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The next line; empty lines are skipped.
    pub(super) fn next(&mut self, context: &ParseContext<'_>) -> Result<Option<Entry>, HistoryError> {
        let length = self.read_line()?;
        if length == 0 {
            return Ok(None);
        }
        let event = if length > MAX_LINE_BYTES {
            let detail = format!("expected a line of at most {MAX_LINE_BYTES} bytes, found {length}");
            Err(Refused { reason: "TOO_LARGE", detail })
        } else {
            match &mut self.rows {
                Rows::Ndjson => {
                    line::parse(&self.line, context).map(|event| (event, None)).map_err(|error| refused(&error))
                }
                Rows::Csv { columns, cells } => cells
                    .split(&self.line)
                    .map_err(|error| Refused { reason: "NOT_CSV", detail: error.to_string() })
                    .and_then(|row| columns.row(row, context).map_err(|faults| refused(&ParseError::from(faults))))
                    .map(|(transaction, is_fraud)| (Event::Transaction(transaction), is_fraud)),
            }
        };
        Ok(Some(Entry { line: self.number, original: self.line.trim_ascii_end().into(), event }))
    }

    /// Reads the next line that is not empty into `line`, ended by a single line feed, and gives its length; 0 at the end.
    fn read_line(&mut self) -> Result<usize, HistoryError> {
        loop {
            self.line.clear();
            self.number += 1;
            let length = read_line(&mut self.reader, &mut self.line)
                .map_err(|source| HistoryError::Io { path: self.path.clone(), source })?;
            if length == 0 {
                return Ok(0);
            }
            if !self.line.trim_ascii().is_empty() {
                while self.line.pop_if(|byte| matches!(byte, b'\n' | b'\r')).is_some() {}
                self.line.push(b'\n');
                return Ok(length);
            }
        }
    }
}

fn refused(error: &ParseError) -> Refused {
    Refused { reason: error.reason(), detail: error.to_string() }
}

/// Reads a line and returns its length; of one that is too long only the first [`MAX_LINE_BYTES`] are kept.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let room = MAX_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        length += taken;
        reader.consume(taken);
        if end.is_some() || taken == 0 {
            return Ok(length);
        }
    }
}

struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let text = format!("{}\nnext\nlast", "x".repeat(MAX_LINE_BYTES + 5));
        let mut reader = BufReader::with_capacity(1000, text.as_bytes());
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), MAX_LINE_BYTES + 6);
        assert_eq!(line.len(), MAX_LINE_BYTES);
        for expected in ["next\n", "last", ""] {
            line.clear();
            assert_eq!(read_line(&mut reader, &mut line).unwrap(), expected.len());
            assert_eq!(line, expected.as_bytes());
        }
    }

    /// Reads a whole history from bytes; gives its number of entries, or `None` where it ends with an error.
    fn entries(bytes: &[u8], format: Format) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        std::fs::write(&path, bytes).unwrap();
        let rates = crate::wire::testing::rates();
        let mut history = History::open(&path, format, rates.base()).ok()?;
        let mut count = 0;
        while let Some(entry) = history.next(&crate::wire::testing::context(&rates)).ok()? {
            assert!(entry.original.len() <= MAX_LINE_BYTES);
            count += 1;
        }
        Some(count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..400), packed in any::<bool>()) {
            let bytes = if packed { [GZIP_MAGIC.as_slice(), &bytes].concat() } else { bytes };
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            for format in [Format::Csv, Format::Ndjson] {
                prop_assert!(entries(&bytes, format).is_none_or(|count| packed || count <= lines));
            }
        }

        #[test]
        fn a_damaged_history_loses_only_what_is_damaged(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = "{\"login_id\":\"l\"}\nnonsense\n{}\n".repeat(3).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let count = entries(&bytes, Format::Ndjson);
            prop_assert!(matches!(count, Some(8..=10)), "{:?}", count);
        }
    }
}

//! One line of a CSV history into its cells.
//!
//! A row is a line: the line ends the row whatever quotes are open, so that a stray quote costs one row, and never the
//! rest of the file. Cells that hold a line break are thereby refused.

use super::history::MAX_LINE_BYTES;
use csv::ByteRecord;
use csv_core::ReadRecordResult;
use thiserror::Error;

/// Why a line is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CellsError {
    /// A quoted cell goes on where the line ends.
    #[error("expected every quoted cell to end on its line, found a quote that does not close")]
    OpenQuote,
    /// The row ends before the line does.
    #[error("expected a row to end with a line feed, found a carriage return inside the line")]
    CarriageReturn,
    /// A header over the bound.
    #[error("expected a line of at most {MAX_LINE_BYTES} bytes, found more")]
    TooLong,
}

/// Splits lines. Its buffers have room for the cells of any line: no more bytes than the line has, and no more cells than
/// bytes.
pub(super) struct Cells {
    reader: csv_core::Reader,
    bytes: Box<[u8]>,
    ends: Box<[usize]>,
    row: ByteRecord,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self {
            reader: csv_core::Reader::new(),
            bytes: vec![0; MAX_LINE_BYTES + 1].into(),
            ends: vec![0; MAX_LINE_BYTES + 2].into(),
            row: ByteRecord::new(),
        }
    }

    /// The cells of a line of at most [`MAX_LINE_BYTES`], not counting the line feed that it ends with.
    pub(super) fn split(&mut self, line: &[u8]) -> Result<&ByteRecord, CellsError> {
        let (result, read, _, cells) = self.reader.read_record(line, &mut self.bytes, &mut self.ends);
        let error = match result {
            ReadRecordResult::Record if read == line.len() => {
                self.row.clear();
                let mut start = 0;
                for end in &self.ends[..cells] {
                    self.row.push_field(&self.bytes[start..*end]);
                    start = *end;
                }
                return Ok(&self.row);
            }
            ReadRecordResult::Record => CellsError::CarriageReturn,
            // The line ended inside a cell. The buffers are never full: see `Cells`.
            _ => CellsError::OpenQuote,
        };
        self.reader.reset();
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_cells() {
        let mut cells = Cells::new();
        let mut check = |line: &str, expected: Result<&[&str], CellsError>| {
            let found = cells.split(line.as_bytes()).map(|row| {
                let cells = row.iter().map(|cell| String::from_utf8_lossy(cell).into_owned());
                cells.collect::<Vec<_>>()
            });
            let expected = expected.map(|cells| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{line:?}");
        };
        check("a,b,c\n", Ok(&["a", "b", "c"]));
        check("a,\"b, c\",\"d \"\"e\"\"\"\n", Ok(&["a", "b, c", "d \"e\""]));
        check(",,\n", Ok(&["", "", ""]));
        check("five \" inches,b\n", Ok(&["five \" inches", "b"]));
        check("a,\"b,c\n", Err(CellsError::OpenQuote));
        check("a,b\n", Ok(&["a", "b"]));
        check("a,\"b\"\"\n", Err(CellsError::OpenQuote));
        check("a\rb,c\n", Err(CellsError::CarriageReturn));
        check("\"a\rb\",c\n", Ok(&["a\rb", "c"]));
        let longest = format!("{}\n", ",".repeat(MAX_LINE_BYTES - 1));
        assert_eq!(cells.split(longest.as_bytes()).map(ByteRecord::len), Ok(MAX_LINE_BYTES));
        let one = format!("{}\n", "x".repeat(MAX_LINE_BYTES - 1));
        assert_eq!(cells.split(one.as_bytes()).map(ByteRecord::len), Ok(1));
    }
}

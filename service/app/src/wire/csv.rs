//! A history as CSV: a header names the columns, every row is a transaction, optionally with its label.
//!
//! Columns go by the names of the JSON fields, in any order; others are ignored. An empty cell is an absent value.
//! Refuses to guess: a header without a required column, or with one of them twice, is an error before the first row.

use super::ParseContext;
use super::fault::{Fault, FaultCode, Rejection, shown};
use super::field::Field;
use super::reader::{Reader, Values};
use super::transaction::read_event;
use std::borrow::Cow;
use thiserror::Error;
use verdict_core::event::Transaction;
use verdict_core::money::Currency;

/// The columns of a history file.
#[derive(Clone, Debug)]
pub struct CsvHistory {
    columns: [Option<usize>; Field::COUNT],
    default_currency: Currency,
}

/// Why a header is no header of a history.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CsvError {
    /// Columns that every history has are absent.
    #[error("expected the columns transaction_id, timestamp, user_id, merchant_id and amount, found none named {}", missing.join(", "))]
    MissingColumns {
        /// Each missing name, with the column that may have been meant.
        missing: Vec<String>,
    },
    /// A column occurs twice.
    #[error("expected each column once, found {name:?} twice")]
    DuplicateColumn {
        /// Its name.
        name: String,
    },
}

/// Columns that every history has.
const REQUIRED: [Field; 5] = [Field::TransactionId, Field::Timestamp, Field::UserId, Field::MerchantId, Field::Amount];

/// The other columns that are read.
const OPTIONAL: [Field; 8] = [
    Field::Currency,
    Field::IpAddress,
    Field::UserAgent,
    Field::DeviceId,
    Field::MerchantCategory,
    Field::Latitude,
    Field::Longitude,
    Field::IsFraud,
];

/// Likeness (Jaro-Winkler, 0 to 1) from which on a column is suggested for a missing one.
const SUGGEST_FROM: f64 = 0.7;

impl CsvHistory {
    /// Reads the header. Rows without a currency are in `default_currency`.
    ///
    /// # Errors
    /// [`CsvError`] names every missing column, or the first that occurs twice.
    pub fn new(header: &::csv::ByteRecord, default_currency: Currency) -> Result<Self, CsvError> {
        let names: Vec<Cow<'_, str>> = header
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let name = if place == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
                String::from_utf8_lossy(name.trim_ascii())
            })
            .collect();
        let mut columns = [None; Field::COUNT];
        for field in REQUIRED.into_iter().chain(OPTIONAL) {
            let mut places = names.iter().enumerate().filter(|(_, name)| *name == field.name()).map(|(place, _)| place);
            columns[field.index()] = places.next();
            if places.next().is_some() {
                return Err(CsvError::DuplicateColumn { name: field.name().to_owned() });
            }
        }
        let missing: Vec<String> = REQUIRED
            .into_iter()
            .filter(|field| columns[field.index()].is_none())
            .map(|field| suggest(field.name(), &names))
            .collect();
        if missing.is_empty() {
            Ok(Self { columns, default_currency })
        } else {
            Err(CsvError::MissingColumns { missing })
        }
    }

    /// Parses a row into a transaction and, where the file says it, whether it was fraud.
    ///
    /// # Errors
    /// Every fault of the row; pointers name columns like fields.
    pub fn row(
        &self,
        row: &::csv::ByteRecord,
        context: &ParseContext<'_>,
    ) -> Result<(Box<Transaction>, Option<bool>), Vec<Fault>> {
        let values = Row { history: self, row };
        let mut reader = Reader::new(&values, context);
        let transaction = read_event(&mut reader, context, Some(self.default_currency));
        let is_fraud = reader.optional_flag(Field::IsFraud);
        reader.finish(transaction).map(|transaction| (transaction, is_fraud))
    }
}

/// A missing column with the most similar one that is there.
fn suggest(missing: &str, names: &[Cow<'_, str>]) -> String {
    let known = |name: &str| REQUIRED.iter().chain(&OPTIONAL).any(|field| field.name() == name);
    names
        .iter()
        .filter(|name| !known(name))
        .map(|name| (strsim::jaro_winkler(missing, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= SUGGEST_FROM)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(|| missing.to_owned(), |(_, name)| format!("{missing} (rename {} to it?)", shown(name)))
}

/// One row under its header.
struct Row<'r> {
    history: &'r CsvHistory,
    row: &'r ::csv::ByteRecord,
}

impl<'r> Row<'r> {
    /// The bytes of a cell, `None` if it is empty or the row ends before it.
    fn cell(&self, field: Field) -> Option<&'r [u8]> {
        let column = self.history.columns[field.index()]?;
        self.row.get(column).filter(|cell| !cell.is_empty())
    }

    fn cell_text(&self, field: Field) -> Result<Option<&'r str>, Rejection> {
        self.cell(field)
            .map(|cell| {
                std::str::from_utf8(cell).map_err(|_| {
                    let message = format!("expected UTF-8, found {}", shown(&String::from_utf8_lossy(cell)));
                    Rejection::new(FaultCode::TextInvalid, message)
                })
            })
            .transpose()
    }
}

impl<'r> Values<'r> for Row<'r> {
    fn has(&self, field: Field) -> bool {
        self.cell(field).is_some()
    }

    fn text(&self, field: Field) -> Result<Option<Cow<'r, str>>, Rejection> {
        Ok(self.cell_text(field)?.map(Cow::Borrowed))
    }

    fn decimal(&self, field: Field) -> Result<Option<Cow<'r, str>>, Rejection> {
        self.text(field)
    }

    fn number(&self, field: Field) -> Result<Option<&'r str>, Rejection> {
        self.cell_text(field)
    }

    fn flag(&self, field: Field) -> Result<Option<bool>, Rejection> {
        self.cell(field)
            .map(|cell| match cell {
                b"1" | b"true" | b"True" | b"TRUE" => Ok(true),
                b"0" | b"false" | b"False" | b"FALSE" => Ok(false),
                _ => {
                    let found = shown(&String::from_utf8_lossy(cell));
                    Err(Rejection::new(FaultCode::WrongType, format!("expected 0, 1, true or false, found {found}")))
                }
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::AgeBounds;
    use super::super::testing::{NOON, context, rates};
    use super::*;
    use ::csv::ByteRecord;
    use proptest::prelude::*;
    use verdict_core::money::BaseMinor;

    fn usd() -> Currency {
        Currency::from_code("USD").expect("a currency")
    }

    fn record(cells: &[&str]) -> ByteRecord {
        ByteRecord::from(cells.to_vec())
    }

    const HEADER: [&str; 7] =
        ["transaction_id", "timestamp", "user_id", "merchant_id", "amount", "is_fraud", "fraud_scenario"];

    #[test]
    fn headers() {
        let check = |header: &[&str], expected: Result<(), &str>| {
            let found = CsvHistory::new(&record(header), usd()).map(drop).map_err(|e| e.to_string());
            match (expected, &found) {
                (Ok(()), Ok(())) => {}
                (Err(part), Err(message)) if message.contains(part) => {}
                _ => panic!("{header:?}: {found:?}"),
            }
        };
        check(&HEADER, Ok(()));
        check(&["\u{feff}transaction_id", " amount ", "merchant_id", "user_id", "timestamp"], Ok(()));
        check(&["transaction_id", "timestamp", "user_id", "merchant_id"], Err("none named amount"));
        check(
            &["transaction_id", "time_stamp", "userid", "merchant_id", "Amount"],
            Err(
                "timestamp (rename \"time_stamp\" to it?), user_id (rename \"userid\" to it?), amount (rename \"Amount\"",
            ),
        );
        check(&["1", "2018-04-01T00:00:31Z", "596"], Err("transaction_id, timestamp, user_id"));
        check(&["transaction_id", "amount", "amount"], Err("\"amount\" twice"));
    }

    #[test]
    fn rows() {
        let rates = rates();
        let history = CsvHistory::new(&record(&HEADER), usd()).expect("a header");
        let context = ParseContext { bounds: AgeBounds::NONE, ..context(&rates) };
        let row = record(&["0", "2018-04-01T00:00:31Z", "596", "3156", "57.16", "1", "2"]);
        let (transaction, is_fraud) = history.row(&row, &context).expect("a row");
        assert_eq!((transaction.base, is_fraud), (BaseMinor(5_716), Some(true)));
        assert_eq!(transaction.at.as_millis(), 1_522_540_831_000);
        assert_eq!((&*transaction.user_id, &*transaction.merchant_id), ("596", "3156"));

        let check = |cells: &[&str], expected: &[&str]| {
            let faults = history.row(&record(cells), &context).expect_err("faults");
            let found: Vec<String> = faults.iter().map(|f| format!("{} {}", f.pointer, f.code.name())).collect();
            assert_eq!(found, expected, "{cells:?}");
        };
        check(&["0", "2018-04-01T00:00:31Z", "596", "3156", "0.00", "0", "0"], &["/amount AMOUNT_TOO_SMALL"]);
        check(&["0", "2018-04-01 00:00:31", "596", "3156", "1", "0", "0"], &["/timestamp TIMESTAMP_INVALID"]);
        check(
            &["", "2018-04-01T00:00:31Z", "", "3156", "1,5", "yes", "0"],
            &[
                "/transaction_id MISSING_FIELD",
                "/user_id MISSING_FIELD",
                "/amount AMOUNT_NOT_DECIMAL",
                "/is_fraud WRONG_TYPE",
            ],
        );
        check(&["0", "2018-04-01T00:00:31Z", "596"], &["/amount MISSING_FIELD", "/merchant_id MISSING_FIELD"]);
    }

    #[test]
    fn every_column_is_read() {
        let rates = rates();
        let header = record(&[
            "currency",
            "latitude",
            "longitude",
            "ip_address",
            "device_id",
            "user_agent",
            "merchant_category",
            "amount",
            "merchant_id",
            "user_id",
            "timestamp",
            "transaction_id",
        ]);
        let history = CsvHistory::new(&header, usd()).expect("a header");
        let row = record(&[
            "EUR",
            "40.71",
            "-74",
            "::ffff:203.0.113.7",
            "d-1",
            "ua",
            "5411",
            "10",
            "m",
            "u",
            "2026-11-23T12:00:00Z",
            "t",
        ]);
        let (transaction, is_fraud) = history.row(&row, &context(&rates)).expect("a row");
        assert_eq!((transaction.base, is_fraud), (BaseMinor(1_080), None));
        assert_eq!(transaction.ip_address.as_deref(), Some("203.0.113.7"));
        assert_eq!(transaction.location.map(verdict_core::geo::Coordinates::longitude), Some(-74.0));
        assert_eq!(transaction.merchant_category.as_deref(), Some("5411"));
        assert_eq!(transaction.at, NOON);
        let faults = history.row(
            &ByteRecord::from(vec![
                &b"USD"[..],
                b"1",
                b"",
                b"",
                b"\xff",
                b"",
                b"",
                b"1",
                b"m",
                b"u",
                b"2026-11-23T12:00:00Z",
                b"t",
            ]),
            &context(&rates),
        );
        let codes: Vec<FaultCode> = faults.expect_err("faults").iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [FaultCode::TextInvalid, FaultCode::Coordinates]);
    }

    proptest! {
        #[test]
        fn never_panics(cells in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..9)) {
            let rates = rates();
            let history = CsvHistory::new(&record(&HEADER), usd()).expect("a header");
            let _ = history.row(&ByteRecord::from(cells.clone()), &context(&rates));
            let _ = CsvHistory::new(&ByteRecord::from(cells), usd());
        }
    }
}

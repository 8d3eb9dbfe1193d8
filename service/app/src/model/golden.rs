//! Golden rows: features, the score that they had where the model was trained, and the decision that followed. They
//! catch what a hash cannot: a runtime, a processor or a conversion that computes something else.

use super::manifest::{Band, Manifest, outcome_of};
use super::{Fault, GOLDEN_FILE};
use verdict_core::features::{FeatureVector, SLOTS, Slot};

/// Fewest rows that prove anything.
pub const LEAST_ROWS: usize = 1_000;
/// Greatest difference of a score.
pub const TOLERANCE: f32 = 1e-6;
/// Rows a batch.
const BATCH: usize = 64;

const SCORE_COLUMN: &str = "expected_score";
const OUTCOME_COLUMN: &str = "expected_decision";

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    line: usize,
    features: FeatureVector,
    score: f32,
    outcome: Box<str>,
}

#[cfg(test)]
impl Row {
    /// What the model sees.
    pub(super) fn features(&self) -> &FeatureVector {
        &self.features
    }
}

/// Reads the rows: the model's features in order, an empty field for an absent one, then score and decision.
pub(super) fn parse(text: &[u8], manifest: &Manifest, slots: &[Slot]) -> Result<Vec<Row>, Fault> {
    let fault = |what| Fault::File { file: GOLDEN_FILE, what };
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| fault(error.to_string()))?.clone();
    let expected = manifest.features.iter().map(String::as_str).chain([SCORE_COLUMN, OUTCOME_COLUMN]);
    if !header.iter().eq(expected.clone()) {
        let expected = expected.collect::<Vec<_>>().join(",");
        let found = header.iter().collect::<Vec<_>>().join(",");
        return Err(fault(format!("line 1: expected the columns {expected}, found {found}")));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| fault(error.to_string()))?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        rows.push(row(&record, line, slots).map_err(|what| fault(format!("line {line}: {what}")))?);
    }
    if rows.len() < LEAST_ROWS {
        return Err(fault(format!("expected at least {LEAST_ROWS} rows, found {}", rows.len())));
    }
    Ok(rows)
}

fn row(record: &csv::StringRecord, line: usize, slots: &[Slot]) -> Result<Row, String> {
    let mut features = FeatureVector([f64::NAN; SLOTS]);
    for (slot, field) in slots.iter().zip(record) {
        if !field.is_empty() {
            features.0[slot.index()] = number(field)?;
        }
    }
    let score = number::<f32>(record.get(slots.len()).unwrap_or_default())?;
    let outcome = record.get(slots.len() + 1).unwrap_or_default().into();
    Ok(Row { line, features, score, outcome })
}

fn number<T: std::str::FromStr>(field: &str) -> Result<T, String> {
    field.parse().map_err(|_| format!("expected a number, found {field:?}"))
}

/// Scores the rows and compares; the fault counts all rows that differ and shows the first.
pub(super) fn compare(
    rows: &[Row],
    bands: &[Band],
    mut score: impl FnMut(&[&FeatureVector]) -> Result<Vec<f32>, Fault>,
) -> Result<(), Fault> {
    let mut differing = 0;
    let mut first = None;
    for batch in rows.chunks(BATCH) {
        let features: Vec<&FeatureVector> = batch.iter().map(|row| &row.features).collect();
        for (row, found) in batch.iter().zip(score(&features)?) {
            let outcome = outcome_of(found, bands).name();
            // Written so that a score that is not a number differs.
            let close = (found - row.score).abs() <= TOLERANCE;
            if !close || outcome != &*row.outcome {
                differing += 1;
                first.get_or_insert((row, found, outcome));
            }
        }
    }
    match first {
        None => Ok(()),
        Some((row, found, outcome)) => Err(Fault::Golden {
            rows: differing,
            total: rows.len(),
            line: row.line,
            expected: format!("score {} and decision {:?}", row.score, row.outcome),
            found: format!("score {found} and decision {outcome:?}"),
        }),
    }
}

//! Scores feature vectors: one session a thread, rows in batches. It allocates what a batch needs once and keeps it.

use super::watchdog::{Leash, Watchdog};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, ValueType};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use verdict_core::features::{FeatureVector, Slot};

/// Why there is no score.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScoreError {
    /// ONNX Runtime does not take the model.
    #[error("ONNX Runtime does not take the model: {0}")]
    Session(String),
    /// The model's inputs or outputs are not those of the manifest.
    #[error("expected {expected}, found {found}")]
    Shape {
        /// What the manifest leads to expect.
        expected: String,
        /// What the model has.
        found: String,
    },
    /// Running the model failed.
    #[error("the model failed: {0}")]
    Run(String),
    /// The model was stopped, as it took too long.
    #[error("the model was stopped: it took longer than it may")]
    TimedOut,
    /// The model gave something that is no probability.
    #[error("expected a probability from 0 to 1, found {0}")]
    Range(String),
}

/// What gives scores: a model's session, or whatever a test puts in its place.
pub trait Score: Send {
    /// The probability of fraud of each row, 0 to 1, in order, by `until` if that is given.
    ///
    /// # Errors
    /// There is a score for no row; [`ScoreError::TimedOut`] when they were not there in time.
    fn score(&mut self, rows: &[&FeatureVector], until: Option<Instant>) -> Result<Vec<f32>, ScoreError>;
}

/// Scores with one model on one thread.
pub struct Scorer {
    session: Session,
    leash: Leash,
    /// Where each column of the input comes from.
    slots: Arc<[Slot]>,
    output: usize,
    /// The input of the last batch, row by row.
    input: Vec<f32>,
}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scorer").field("features", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Scorer {
    /// A session with one thread of its own caller: no pool, no spinning.
    pub(super) fn new(
        environment: &Environment,
        model: &[u8],
        output: &str,
        slots: Arc<[Slot]>,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, ScoreError> {
        let session = open(environment, model)?;
        let output = check_shape(&session, output, slots.len())?;
        let leash = watchdog.leash().map_err(|error| ScoreError::Session(error.to_string()))?;
        Ok(Self { session, leash, slots, output, input: Vec::new() })
    }

    /// [`Score::score`] that may take as long as it takes. The score of a row does not depend on the others.
    ///
    /// # Errors
    /// When the model fails or gives no probability; then there is a score for no row.
    pub fn score(&mut self, rows: &[&FeatureVector]) -> Result<Vec<f32>, ScoreError> {
        Score::score(self, rows, None)
    }
}

impl Score for Scorer {
    fn score(&mut self, rows: &[&FeatureVector], until: Option<Instant>) -> Result<Vec<f32>, ScoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.input.clear();
        for row in rows {
            // Training cut the features to f32 as well, so that a threshold splits the same rows here.
            self.input.extend(self.slots.iter().map(|slot| row.get(*slot) as f32));
        }
        let run = |error: ort::Error| ScoreError::Run(error.to_string());
        let shape = [rows.len(), self.slots.len()];
        let input = TensorRef::from_array_view((shape, self.input.as_slice())).map_err(run)?;
        let outputs = match until {
            None => self.session.run(ort::inputs![input]).map_err(run)?,
            Some(until) => {
                let options = self.leash.begin(until).map_err(run)?;
                let outputs = self.session.run_with_options(ort::inputs![input], options);
                // One that ended by itself at the last moment has its scores.
                let stopped = self.leash.end();
                outputs.map_err(|error| if stopped { ScoreError::TimedOut } else { run(error) })?
            }
        };
        let (_, scores) = outputs[self.output].try_extract_tensor::<f32>().map_err(run)?;
        if scores.len() != rows.len() || !scores.iter().all(|score| (0.0..=1.0).contains(score)) {
            return Err(ScoreError::Range(format!("{scores:?} for {} rows", rows.len())));
        }
        Ok(scores.to_vec())
    }
}

fn open(environment: &Environment, model: &[u8]) -> Result<Session, ScoreError> {
    let build = || {
        let mut builder = Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        builder.commit_from_memory(model)
    };
    build().map_err(|error: ort::Error| ScoreError::Session(error.to_string()))
}

/// One input of rows by features, and the named output of one number a row; gives the output's index.
fn check_shape(session: &Session, output: &str, features: usize) -> Result<usize, ScoreError> {
    let columns = features as i64;
    let expected = || format!("one float32 input of (rows, {features}) and a float32 output {output:?} of (rows, 1)");
    let found = || {
        let outlet = |outlet: &ort::value::Outlet| format!("{} {}", outlet.name(), outlet.dtype());
        let inputs = session.inputs().iter().map(outlet).collect::<Vec<_>>().join(", ");
        let outputs = session.outputs().iter().map(outlet).collect::<Vec<_>>().join(", ");
        format!("inputs {inputs} and outputs {outputs}")
    };
    let input_suits = matches!(session.inputs(), [input] if is_float(input.dtype(), &[-1, columns]));
    let index = session.outputs().iter().position(|candidate| candidate.name() == output);
    let suits = |index: &usize| {
        let dtype = session.outputs()[*index].dtype();
        is_float(dtype, &[-1, 1]) || is_float(dtype, &[-1])
    };
    match index.filter(suits) {
        Some(index) if input_suits => Ok(index),
        _ => Err(ScoreError::Shape { expected: expected(), found: found() }),
    }
}

/// A float tensor of this shape; -1 is any number of rows.
fn is_float(dtype: &ValueType, expected: &[i64]) -> bool {
    match dtype {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => shape.iter().eq(expected),
        _ => false,
    }
}

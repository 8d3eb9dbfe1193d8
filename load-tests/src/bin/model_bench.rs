//! Rows through the service's model room, or through a bare ONNX Runtime session: one side a process, because ONNX
//! Runtime allows one environment a process. The runner alternates the sides and compares.
//!
//! Both sides score the golden rows of the model, so that both must find the same scores. The bare side has its rows as
//! the session wants them and checks nothing: it is the least that any caller must do.

use clap::{Parser, ValueEnum};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde::Serialize;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use verdict::model::{ModelError, ModelHost, ScoreError, Search, disable_telemetry};
use verdict_core::features::{FeatureVector, SLOTS, Slot, lookup};
use verdict_load::clock::Stopwatch;

/// Rows in a batch.
const BATCHES: [usize; 3] = [1, 16, 64];
/// Golden rows that are scored over and over.
const ROWS: usize = 1_024;

/// Times one side on one thread.
#[derive(Debug, Parser)]
#[command(after_help = "Example: model_bench --side room --library .cache/onnxruntime/1.28.0/libonnxruntime.so")]
struct Args {
    /// Which side.
    #[arg(long, value_enum)]
    side: Side,
    /// The ONNX Runtime library.
    #[arg(long)]
    library: PathBuf,
    /// The model's directory.
    #[arg(long, default_value = "models/default")]
    model: PathBuf,
    /// Time for each size of batch.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    /// The model room of the service.
    Room,
    /// A session of `ort` and nothing else.
    Bare,
}

#[derive(Debug, Error)]
enum BenchError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Score(#[from] ScoreError),
    #[error("the bare session failed: {0}")]
    Ort(#[from] ort::Error),
    #[error("expected ONNX Runtime at {0}: {1}")]
    Library(PathBuf, String),
    #[error("expected {0} golden rows of the model's features in {1}, found otherwise")]
    Golden(usize, PathBuf),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

#[derive(Debug, Serialize)]
struct Findings {
    /// The scores of all rows, their bits added up: the same on both sides.
    scores: u64,
    batches: Vec<Batch>,
}

#[derive(Debug, Serialize)]
struct Batch {
    rows: usize,
    /// CPU time in microseconds.
    us_a_row: f64,
}

/// Golden rows, as features and as the model's input.
struct Rows {
    vectors: Vec<FeatureVector>,
    input: Vec<f32>,
    columns: usize,
}

#[expect(clippy::print_stdout, reason = "the findings go to stdout")]
fn main() -> Result<(), BenchError> {
    disable_telemetry();
    let args = Args::parse();
    let rows = Rows::read(&args.model)?;
    let length = Duration::try_from_secs_f64(args.seconds).unwrap_or_default();
    let findings = match args.side {
        Side::Room => room(&args, &rows, length)?,
        Side::Bare => bare(&args, &rows, length)?,
    };
    println!("{}", serde_json::to_string(&findings)?);
    Ok(())
}

fn room(args: &Args, rows: &Rows, length: Duration) -> Result<Findings, BenchError> {
    let search = Search { configured: Some(args.library.clone()), ..Search::default() };
    let mut scorer = ModelHost::load(&args.model, &search)?.scorer()?;
    let vectors: Vec<&FeatureVector> = rows.vectors.iter().collect();
    measure(length, |from, to, add| {
        add(&scorer.score(&vectors[from..to])?);
        Ok(())
    })
}

fn bare(args: &Args, rows: &Rows, length: Duration) -> Result<Findings, BenchError> {
    let builder =
        ort::init_from(&args.library).map_err(|error| BenchError::Library(args.library.clone(), error.to_string()))?;
    let environment = builder.with_telemetry(false).build()?;
    let model = read(&args.model.join("model.onnx"))?;
    let options = || -> ort::Result<Session> {
        let mut builder = Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        builder.commit_from_memory(&model)
    };
    let mut session = options()?;
    measure(length, |from, to, add| {
        let input = &rows.input[from * rows.columns..to * rows.columns];
        let input = TensorRef::from_array_view(([to - from, rows.columns], input))?;
        let outputs = session.run(ort::inputs![input])?;
        add(outputs[0].try_extract_tensor::<f32>()?.1);
        Ok(())
    })
}

/// Runs every size of batch for a while. `score` scores the rows from one index to another and hands the scores over.
fn measure(
    length: Duration,
    mut score: impl FnMut(usize, usize, &mut dyn FnMut(&[f32])) -> Result<(), BenchError>,
) -> Result<Findings, BenchError> {
    let mut findings = Findings { scores: 0, batches: Vec::new() };
    // Once, for the sum and to warm up; a row's score must not depend on its batch, so any size will do.
    for from in 0..ROWS {
        let sum = &mut findings.scores;
        score(from, from + 1, &mut |scores| {
            *sum += scores.iter().map(|score| u64::from(score.to_bits())).sum::<u64>();
        })?;
    }
    for size in BATCHES {
        let mut scored = 0_usize;
        let stopwatch = Stopwatch::start();
        let took = loop {
            let from = scored % ROWS;
            score(from, from + size, &mut |scores| {
                black_box(scores);
            })?;
            scored += size;
            if stopwatch.wall() >= length {
                break stopwatch.cpu();
            }
        };
        findings.batches.push(Batch { rows: size, us_a_row: took.as_nanos() as f64 / 1e3 / scored as f64 });
    }
    Ok(findings)
}

impl Rows {
    /// The first golden rows: features in the model's order, then what was expected of them.
    fn read(model: &Path) -> Result<Self, BenchError> {
        let path = model.join("golden.csv");
        let text = read(&path)?;
        let text = String::from_utf8_lossy(&text);
        let unsuitable = || BenchError::Golden(ROWS, path.clone());
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split(',');
        let slots: Vec<Slot> = names.map_while(|name| lookup(name).map(|(slot, _)| slot)).collect();
        let mut rows = Self { vectors: Vec::new(), input: Vec::new(), columns: slots.len() };
        for line in lines.take(ROWS) {
            let mut vector = FeatureVector([f64::NAN; SLOTS]);
            for (slot, field) in slots.iter().zip(line.split(',')) {
                let value = if field.is_empty() { f64::NAN } else { field.parse().map_err(|_| unsuitable())? };
                vector.0[slot.index()] = value;
                rows.input.push(value as f32);
            }
            rows.vectors.push(vector);
        }
        if rows.vectors.len() < ROWS || rows.columns == 0 {
            return Err(unsuitable());
        }
        Ok(rows)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BenchError> {
    std::fs::read(path).map_err(|error| BenchError::File(path.to_owned(), error))
}

//! The model room: loads a model that proves itself, and scores feature vectors with it through ONNX Runtime.
//!
//! A model is a directory `NAME/{model.onnx, manifest.json, golden.csv}`. Before it may score anything, its file must
//! have the hash that the manifest states, its features must be those of this build (I8), and at least
//! [`golden::LEAST_ROWS`] golden rows must come out as they did where it was trained: scores within
//! [`golden::TOLERANCE`], decisions equal. Anything else is refused, with every fault listed.
//!
//! It never trains, never computes a feature, and never decides what a score leads to: that is the rule set's policy.

mod archive;
mod golden;
mod manifest;
mod runtime;
mod scorer;
mod watchdog;

pub use archive::ArchiveError;
pub use golden::{LEAST_ROWS, TOLERANCE};
pub use manifest::{Band, Manifest};
pub use runtime::{RuntimeError, Search, disable_telemetry};
pub use scorer::{Score, ScoreError, Scorer};

use crate::wire::hex;
use ort::environment::Environment;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use verdict_core::features::{Slot, schema_version};
use watchdog::Watchdog;

/// The files of a model.
const MODEL_FILE: &str = "model.onnx";
const MANIFEST_FILE: &str = "manifest.json";
const GOLDEN_FILE: &str = "golden.csv";

/// What is wrong with a model's files.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A file cannot be read or understood.
    #[error("{file}: {what}")]
    File {
        /// Name of the file.
        file: &'static str,
        /// What was expected and found.
        what: String,
    },
    /// The model file is not the one that the manifest describes.
    #[error(
        "{MODEL_FILE}: expected sha256 {expected} (in {MANIFEST_FILE}), found {found}; copy the model's files again, \
         or train it again with `make train` (its golden rows were not tried)"
    )]
    Hash {
        /// In the manifest.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// The model was trained on features of another schema.
    #[error(
        "{MANIFEST_FILE}: expected feature_schema {expected} (this build), found {found}; train the model again with \
         `make train`, or run the build that it was trained for"
    )]
    Schema {
        /// Of this build.
        expected: String,
        /// In the manifest.
        found: String,
    },
    /// The model wants a feature that this build does not have.
    #[error("{MANIFEST_FILE}: feature {name:?} is not in the catalogue of this build{hint}")]
    Feature {
        /// The name in the manifest.
        name: String,
        /// Empty, or a name that was meant.
        hint: String,
    },
    /// Golden rows came out differently.
    #[error(
        "{GOLDEN_FILE}: {rows} of {total} rows differ, the first in line {line}: expected {expected}, found {found}; \
         model and golden rows belong to different trainings: copy all files of one training"
    )]
    Golden {
        /// Number of rows that differ.
        rows: usize,
        /// Number of rows.
        total: usize,
        /// Line of the first that does, counted from 1.
        line: usize,
        /// What the file says.
        expected: String,
        /// What the model says.
        found: String,
    },
}

/// Why there is no model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// ONNX Runtime is missing or unsuitable.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The model is refused.
    #[error("the model in {} is refused:{}", dir.display(), Lines(faults))]
    Refused {
        /// Where it is.
        dir: PathBuf,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
    /// The thread that stops runs cannot be started.
    #[error("the thread that stops a model which takes too long cannot be started: {0}")]
    Watchdog(#[source] std::io::Error),
    /// No such model was archived.
    #[error("no model with sha256 {sha256} is archived in {}; a replay needs the model that decided", dir.display())]
    NotArchived {
        /// Where it was looked for.
        dir: PathBuf,
        /// Which one.
        sha256: String,
    },
}

struct Lines<'a>(&'a [Fault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// A model as answers and records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// Name in the manifest.
    pub name: Box<str>,
    /// Version in the manifest.
    pub version: Box<str>,
    /// SHA-256 of the model file.
    pub sha256: [u8; 32],
}

/// The files as they were checked; what is archived is these, whatever happens to the directory meanwhile.
struct Files {
    model: Vec<u8>,
    manifest: Vec<u8>,
    golden: Vec<u8>,
}

/// A model that passed the gate. Cheap to clone; every shard thread makes itself a [`Scorer`] of it.
#[derive(Clone)]
pub struct ModelHost {
    files: Arc<Files>,
    manifest: Arc<Manifest>,
    sha256: [u8; 32],
    slots: Arc<[Slot]>,
    environment: Environment,
    watchdog: Arc<Watchdog>,
}

impl fmt::Debug for ModelHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelHost").field("sha256", &hex(&self.sha256)).finish_non_exhaustive()
    }
}

impl ModelHost {
    /// Loads the model of a directory, through ONNX Runtime where `search` finds it, and puts it through the gate.
    ///
    /// # Errors
    /// [`ModelError::Runtime`] when ONNX Runtime is missing or unsuitable, [`ModelError::Refused`] with every fault of
    /// the model.
    pub fn load(dir: &Path, search: &Search) -> Result<Self, ModelError> {
        Self::load_from(dir, search, |file| read_file(dir, file))
    }

    /// Puts the files that `read` gives through the gate; `place` names them in errors.
    fn load_from(
        place: &Path,
        search: &Search,
        read: impl Fn(&'static str) -> Result<Vec<u8>, Fault>,
    ) -> Result<Self, ModelError> {
        let environment = runtime::environment(search)?;
        let watchdog = Watchdog::start().map_err(ModelError::Watchdog)?;
        let (host, golden) = Self::read(read, environment, watchdog).map_err(|faults| refused(place, faults))?;
        host.prove(&golden).map_err(|fault| refused(place, vec![fault]))?;
        Ok(host)
    }

    /// The files that a model is made of.
    #[must_use]
    pub fn files(dir: &Path) -> [PathBuf; 3] {
        [MODEL_FILE, MANIFEST_FILE, GOLDEN_FILE].map(|file| dir.join(file))
    }

    /// Everything that can be checked without running the model; lists all faults.
    fn read(
        read: impl Fn(&'static str) -> Result<Vec<u8>, Fault>,
        environment: Environment,
        watchdog: Arc<Watchdog>,
    ) -> Result<(Self, Vec<golden::Row>), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut read = |file| read(file).map_err(|fault| faults.push(fault)).ok();
        let (model, text, golden) = (read(MODEL_FILE), read(MANIFEST_FILE), read(GOLDEN_FILE));
        let manifest = text.as_deref().map(Manifest::parse).and_then(|manifest| keep(manifest, &mut faults));
        let sha256 = model.as_deref().map(|bytes| <[u8; 32]>::from(Sha256::digest(bytes)));
        if let (Some(manifest), Some(sha256)) = (&manifest, &sha256) {
            let (expected, found) = (manifest.sha256.to_ascii_lowercase(), hex(sha256));
            if expected != found {
                faults.push(Fault::Hash { expected, found });
            }
        }
        let slots = manifest.as_ref().and_then(|manifest| known_slots(manifest, &mut faults));
        let rows = match (&golden, &manifest, &slots) {
            (Some(text), Some(manifest), Some(slots)) => keep(golden::parse(text, manifest, slots), &mut faults),
            _ => None,
        };
        let files = model.zip(text).zip(golden).map(|((model, manifest), golden)| Files { model, manifest, golden });
        match (files, manifest, sha256, slots, rows) {
            (Some(files), Some(manifest), Some(sha256), Some(slots), Some(rows)) if faults.is_empty() => {
                let (files, manifest) = (Arc::new(files), Arc::new(manifest));
                Ok((Self { files, manifest, sha256, slots: slots.into(), environment, watchdog }, rows))
            }
            _ => Err(faults),
        }
    }

    /// The golden rows through the very path that decisions take.
    fn prove(&self, golden: &[golden::Row]) -> Result<(), Fault> {
        let unusable = |error: ScoreError| Fault::File { file: MODEL_FILE, what: error.to_string() };
        let mut scorer = self.scorer().map_err(unusable)?;
        golden::compare(golden, &self.manifest.bands, |rows| scorer.score(rows).map_err(unusable))
    }

    /// A scorer for one thread.
    ///
    /// # Errors
    /// When ONNX Runtime refuses the model or its inputs and outputs are not what the manifest says.
    pub fn scorer(&self) -> Result<Scorer, ScoreError> {
        let Self { environment, files, manifest, slots, watchdog, .. } = self;
        Scorer::new(environment, &files.model, &manifest.output, slots.clone(), watchdog)
    }

    /// How answers and records name it.
    #[must_use]
    pub fn reference(&self) -> ModelReference {
        let Manifest { name, version, .. } = &*self.manifest;
        ModelReference { name: name.as_str().into(), version: version.as_str().into(), sha256: self.sha256 }
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Copies the model to `<data>/archive/models/<sha256>/`, so that decisions that name it can be replayed; does
    /// nothing if it is there. To be called before any record names the model.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn archive(&self, data_dir: &Path) -> Result<PathBuf, ArchiveError> {
        archive::store(&self.archived_files(), &hex(&self.sha256), data_dir)
    }

    /// The files that are archived, by name.
    #[must_use]
    pub fn archived_files(&self) -> [(&'static str, &[u8]); 3] {
        let Files { model, manifest, golden } = &*self.files;
        [(MODEL_FILE, model), (MANIFEST_FILE, manifest), (GOLDEN_FILE, golden)]
    }

    /// A model from its archived files, of whatever archive: `place` names it in errors. It goes through the same gate.
    ///
    /// # Errors
    /// As [`ModelHost::load`], also when it is another model.
    pub fn from_archived(
        place: &Path,
        sha256: &[u8; 32],
        search: &Search,
        file: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, ModelError> {
        let read = |name| file(name).ok_or_else(|| Fault::File { file: name, what: "is not archived".to_owned() });
        let host = Self::load_from(place, search, read)?;
        if host.sha256 != *sha256 {
            let fault = Fault::Hash { expected: hex(sha256), found: hex(&host.sha256) };
            return Err(refused(place, vec![fault]));
        }
        Ok(host)
    }

    /// Loads an archived model by its hash, for a replay. It goes through the same gate.
    ///
    /// # Errors
    /// As [`ModelHost::load`], and [`ModelError::NotArchived`].
    pub fn load_archived(data_dir: &Path, sha256: &[u8; 32], search: &Search) -> Result<Self, ModelError> {
        let sha256 = hex(sha256);
        let dir = archive::place(data_dir, &sha256);
        if !dir.is_dir() {
            return Err(ModelError::NotArchived { dir, sha256 });
        }
        Self::load(&dir, search)
    }
}

fn refused(dir: &Path, faults: Vec<Fault>) -> ModelError {
    ModelError::Refused { dir: dir.to_owned(), faults }
}

fn read_file(dir: &Path, file: &'static str) -> Result<Vec<u8>, Fault> {
    std::fs::read(dir.join(file)).map_err(|error| Fault::File { file, what: format!("cannot be read: {error}") })
}

/// The value, or one more fault.
fn keep<T>(result: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// The slot of every feature, `None` (and faults) if the schema or a name is not of this build.
fn known_slots(manifest: &Manifest, faults: &mut Vec<Fault>) -> Option<Vec<Slot>> {
    let before = faults.len();
    let expected = hex(&schema_version());
    if !manifest.feature_schema.eq_ignore_ascii_case(&expected) {
        faults.push(Fault::Schema { expected, found: manifest.feature_schema.clone() });
    }
    let (slots, unknown) = manifest.slots();
    faults.extend(unknown);
    (faults.len() == before).then_some(slots)
}

#[cfg(test)]
mod tests;

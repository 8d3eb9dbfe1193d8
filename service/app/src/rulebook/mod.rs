//! The rule book: loads a rule set from its folder, compiles it, archives it by hash, runs its cases.
//!
//! A rule set is `DIR/NAME/ruleset.yaml` with `DIR/fx.yaml`, which all sets of a folder share. One fault in either and
//! nothing loads. What is archived can be loaded again by its hash for as long as the journal names it (I8).

mod archive;
pub mod cases;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use verdict_core::rules::yaml::MAX_FILE_BYTES;
use verdict_core::rules::{Diagnostic, RuleSet, RuleSources, SourceFile};

/// The file with rules and policy, in the set's own folder.
pub const RULESET_FILE: &str = "ruleset.yaml";
/// The file with base currency and rates, beside the sets' folders.
pub const FX_FILE: &str = "fx.yaml";

/// A compiled rule set with the texts that it was made of.
#[derive(Clone, Debug)]
pub struct Rulebook {
    rules: Arc<RuleSet>,
    ruleset_text: String,
    fx_text: String,
}

/// Why a rule set does not load or cannot be archived.
#[derive(Debug, Error)]
pub enum RulebookError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The set has faults.
    #[error("{}", lines(.0))]
    Faults(Vec<Diagnostic>),
    /// The archive cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An archived set is not what its hash says.
    #[error("{} is damaged: expected the files of hash {expected}, found {found}", path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// The hash that names it, in hexadecimal.
        expected: String,
        /// The hash of what is there.
        found: String,
    },
}

/// One diagnostic a line.
fn lines(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Rulebook {
    /// Loads and compiles `DIR/SET/ruleset.yaml` with `DIR/fx.yaml`.
    ///
    /// # Errors
    /// A file cannot be read, or every fault of both files with path, line and column.
    pub fn load(dir: &Path, set: &str) -> Result<Self, RulebookError> {
        let [ruleset, fx] = Self::files(dir, set);
        Self::from_files(set, &ruleset, &fx)
    }

    /// The files that a set is made of.
    #[must_use]
    pub fn files(dir: &Path, set: &str) -> [PathBuf; 2] {
        [dir.join(set).join(RULESET_FILE), dir.join(FX_FILE)]
    }

    fn from_files(name: &str, ruleset_path: &Path, fx_path: &Path) -> Result<Self, RulebookError> {
        let (ruleset_text, fx_text) = (read(ruleset_path)?, read(fx_path)?);
        Self::compile(name, (ruleset_path, ruleset_text), (fx_path, fx_text))
    }

    /// Of texts, whose paths are what diagnostics name.
    fn compile(
        name: &str,
        (ruleset_path, ruleset_text): (&Path, String),
        (fx_path, fx_text): (&Path, String),
    ) -> Result<Self, RulebookError> {
        let rules = RuleSet::compile(&RuleSources {
            name,
            ruleset: SourceFile { path: &ruleset_path.to_string_lossy(), text: &ruleset_text },
            fx: SourceFile { path: &fx_path.to_string_lossy(), text: &fx_text },
        })
        .map_err(RulebookError::Faults)?;
        Ok(Self { rules: Arc::new(rules), ruleset_text, fx_text })
    }

    /// The compiled set.
    #[must_use]
    pub const fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }
}

/// A text file of bounded size.
fn read(path: &Path) -> Result<String, RulebookError> {
    let bounded = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    bounded().map_err(|source| RulebookError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder that ships.
    pub(super) fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules")
    }

    #[test]
    fn the_shipped_set_loads() {
        let book = Rulebook::load(&shipped(), "default").unwrap();
        let ids: Vec<&str> = book.rules().rules().iter().map(|rule| &*rule.id).collect();
        assert_eq!(ids, ["geo_anomaly", "daily_spend", "block_list", "impossible_travel", "velocity"]);
        assert_eq!(book.rules().name(), "default");
    }

    #[test]
    fn what_is_missing_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Rulebook::load(folder.path(), "default").unwrap_err();
        assert!(missing.to_string().contains("ruleset.yaml cannot be read"), "{missing}");
        std::fs::create_dir(folder.path().join("default")).unwrap();
        std::fs::write(folder.path().join("default/ruleset.yaml"), "rules: [{id: a}]\n").unwrap();
        std::fs::write(folder.path().join("fx.yaml"), "base: XXX\n").unwrap();
        let wrong = Rulebook::load(folder.path(), "default").unwrap_err().to_string();
        assert!(wrong.contains("ruleset.yaml:1:9: expected a value for \"version\""), "{wrong}");
        assert!(wrong.contains("fx.yaml:1:7: expected an ISO 4217 currency"), "{wrong}");
        assert_eq!(wrong.lines().count(), 5, "{wrong}");
        std::fs::write(folder.path().join("fx.yaml"), [b'a', 0xff]).unwrap();
        assert!(Rulebook::load(folder.path(), "default").unwrap_err().to_string().contains("fx.yaml cannot be read"));
    }
}

//! `manifest.json`: what a model is, and what it was trained on.

use super::{Fault, MANIFEST_FILE};
use serde::Deserialize;
use std::collections::HashSet;
use verdict_core::decision::Outcome;
use verdict_core::features::{CATALOGUE, Slot, lookup};

/// What a model says of itself. Fields that are not known are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Manifest {
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// SHA-256 of `model.onnx` in hexadecimal.
    pub sha256: String,
    /// Names of the features, in the order of the input's columns.
    pub features: Vec<String>,
    /// Feature-schema version that it was trained on, in hexadecimal.
    pub feature_schema: String,
    /// Name of the output that holds the probability of fraud, one a row.
    pub output: String,
    /// What its scores were meant to lead to; the golden rows are checked against these, the rule set's policy decides.
    pub bands: Vec<Band>,
    /// What it was trained on, for people.
    #[serde(default)]
    pub training: serde_json::Value,
    /// How good it was on traffic of another seed, for people.
    #[serde(default)]
    pub metrics: serde_json::Value,
}

/// Scores strictly above a threshold, and what follows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Band {
    /// The threshold.
    pub above: f64,
    /// Name of the outcome.
    #[serde(deserialize_with = "outcome")]
    pub outcome: Outcome,
}

fn outcome<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Outcome::ALL.iter().find(|(_, known)| *known == name);
    known.map(|(outcome, _)| *outcome).ok_or_else(|| {
        let names = Outcome::ALL.map(|(_, name)| name).join(", ");
        serde::de::Error::custom(format!("expected an outcome ({names}), found {name:?}"))
    })
}

impl Manifest {
    /// Reads and checks everything that does not depend on the other files.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let fault = |what| Fault::File { file: MANIFEST_FILE, what };
        let manifest: Self = serde_json::from_slice(text).map_err(|error| fault(error.to_string()))?;
        if manifest.name.is_empty() || manifest.version.is_empty() {
            return Err(fault("expected a name and a version, found an empty one".to_owned()));
        }
        if manifest.features.is_empty() {
            return Err(fault("expected at least one feature, found none".to_owned()));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = manifest.features.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(fault(format!("expected every feature once, found {twice:?} twice")));
        }
        if !manifest.bands.iter().all(|band| (0.0..=1.0).contains(&band.above))
            || !manifest.bands.is_sorted_by(|a, b| a.above > b.above)
        {
            return Err(fault("expected bands from the highest threshold down, each from 0 to 1".to_owned()));
        }
        Ok(manifest)
    }

    /// The slot of each feature, and a fault for each name that this build does not have.
    pub(super) fn slots(&self) -> (Vec<Slot>, Vec<Fault>) {
        let mut faults = Vec::new();
        let slots = self
            .features
            .iter()
            .filter_map(|name| match lookup(name) {
                Some((slot, _)) => Some(slot),
                None => {
                    faults.push(Fault::Feature { name: name.clone(), hint: hint(name) });
                    None
                }
            })
            .collect();
        (slots, faults)
    }
}

/// What a score leads to under these bands, compared like the live rule set's: as the model gives it.
pub(super) fn outcome_of(score: f32, bands: &[Band]) -> Outcome {
    let band = bands.iter().find(|band| score > band.above as f32);
    band.map_or(Outcome::Approve, |band| band.outcome)
}

fn hint(name: &str) -> String {
    let near = CATALOGUE.iter().map(|spec| (strsim::normalized_damerau_levenshtein(spec.name, name), spec.name));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, meant)) if likeness > 0.6 => format!(" (did you mean {meant:?}?)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(change: impl FnOnce(&mut serde_json::Value), expected: &str) {
        let mut manifest = serde_json::json!({
            "name": "m", "version": "1", "sha256": "00", "features": ["amount", "hour_of_day"], "feature_schema": "00",
            "output": "score", "bands": [{"above": 0.8, "outcome": "block"}, {"above": 0.5, "outcome": "review"}],
        });
        change(&mut manifest);
        match Manifest::parse(manifest.to_string().as_bytes()) {
            Ok(_) => assert_eq!(expected, ""),
            Err(fault) => {
                let fault = fault.to_string();
                assert!(!expected.is_empty() && fault.contains(expected), "{fault}");
            }
        }
    }

    #[test]
    fn a_manifest_is_checked_whole() {
        check(|_| (), "");
        check(|m| m["training"] = serde_json::json!({"seed": 1}), "");
        check(|m| m["name"] = "".into(), "a name and a version");
        check(|m| m["features"] = serde_json::json!([]), "at least one feature");
        check(|m| m["features"] = serde_json::json!(["amount", "amount"]), "\"amount\" twice");
        check(|m| m["bands"][0]["above"] = 0.4.into(), "from the highest threshold down");
        check(|m| m["bands"][0]["above"] = 1.5.into(), "from 0 to 1");
        check(|m| m["bands"][0]["outcome"] = "deny".into(), "expected an outcome (approve, challenge, review, block)");
        check(|m| m["sha256"] = 7.into(), "invalid type");
    }

    #[test]
    fn a_band_starts_strictly_above_its_threshold() {
        let bands = [Band { above: 0.8, outcome: Outcome::Block }, Band { above: 0.5, outcome: Outcome::Review }];
        // 0.8 as f32 is a little above 0.8 as f64, and no more above the threshold for that.
        for (score, expected) in [
            (0.9, Outcome::Block),
            (f32::from_bits(0.8_f32.to_bits() + 1), Outcome::Block),
            (0.8_f32, Outcome::Review),
            (0.799_999, Outcome::Review),
            (0.5, Outcome::Approve),
            (0.500_001, Outcome::Review),
            (0.0, Outcome::Approve),
        ] {
            assert_eq!(outcome_of(score, &bands), expected, "{score}");
        }
    }

    #[test]
    fn an_unknown_feature_gets_a_suggestion() {
        assert_eq!(hint("usercount_7d"), " (did you mean \"user_count_7d\"?)");
        assert_eq!(hint("zzz"), "");
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_never_panics(
            at in any::<prop::sample::Index>(), length in 0_usize..12, trap in prop::sample::select(TRAPS.to_vec()),
        ) {
            let mut bytes = include_bytes!("../../../../models/default/manifest.json").to_vec();
            let at = at.index(bytes.len());
            bytes.splice(at..(at + length).min(bytes.len()), trap.bytes());
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert!(!manifest.features.is_empty() && !manifest.name.is_empty());
            }
        }

        #[test]
        fn any_bytes_are_no_manifest(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Manifest::parse(&bytes).is_err());
        }
    }

    /// What JSON parsers trip over.
    const TRAPS: [&str; 14] =
        ["", "\"", "\\", "\\ud800", "{", "}", "[", "]", ",", "1e400", "-0", "null", "NaN", "\"features\": [[[[[[[[[["];

    #[test]
    fn a_deep_manifest_is_refused() {
        for deep in ["[".repeat(1 << 20), "{\"training\":".repeat(100_000)] {
            assert!(Manifest::parse(deep.as_bytes()).is_err());
        }
    }
}

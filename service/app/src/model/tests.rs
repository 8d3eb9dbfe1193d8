//! The gate against the shipped model, whole and damaged. Needs ONNX Runtime where `make setup` puts it.

use super::*;
use crate::telemetry::clock;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;
use verdict_core::features::{FeatureVector, SLOTS};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn search() -> Search {
    let library = project().join(".cache/onnxruntime/1.28.0/libonnxruntime.so");
    assert!(library.is_file(), "these tests need ONNX Runtime at {}: run `make setup`", library.display());
    Search { configured: Some(library), ..Search::default() }
}

fn shipped() -> PathBuf {
    project().join("models/default")
}

/// A copy of the shipped model that a test may damage.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in [MODEL_FILE, MANIFEST_FILE, GOLDEN_FILE] {
            fs::copy(shipped().join(file), dir.path().join(file)).unwrap();
        }
        Self(dir)
    }

    fn manifest(self, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let path = self.0.path().join(MANIFEST_FILE);
        let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(&path, manifest.to_string()).unwrap();
        self
    }

    fn golden(self, change: impl FnOnce(&mut Vec<Vec<String>>)) -> Self {
        let path = self.0.path().join(GOLDEN_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
        change(&mut rows);
        let lines: Vec<String> = rows.into_iter().map(|row| row.join(",") + "\n").collect();
        fs::write(&path, lines.concat()).unwrap();
        self
    }

    fn model(self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = self.0.path().join(MODEL_FILE);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        self
    }

    /// What the gate says.
    fn faults(self) -> Vec<Fault> {
        match ModelHost::load(self.0.path(), &search()) {
            Ok(_) => Vec::new(),
            Err(ModelError::Refused { faults, .. }) => faults,
            Err(error) => panic!("{error}"),
        }
    }
}

fn flip_last_byte(bytes: &mut [u8]) {
    *bytes.last_mut().unwrap() ^= 1;
}

fn last_two(row: &mut [String]) -> &mut [String] {
    let from = row.len() - 2;
    &mut row[from..]
}

#[test]
fn the_shipped_model_proves_itself() {
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    let reference = host.reference();
    assert_eq!(hex(&reference.sha256), host.manifest().sha256);
    assert_eq!((&*reference.name, &*reference.version), (&*host.manifest().name, &*host.manifest().version));
    // The manifest's own bands: over 0.8 blocks.
    assert_eq!(manifest::outcome_of(0.81, &host.manifest().bands), verdict_core::decision::Outcome::Block);
    assert_eq!(Copy::new().faults(), []);
}

#[test]
fn a_changed_model_file_is_refused() {
    let faults = Copy::new().model(|bytes| flip_last_byte(bytes)).faults();
    assert!(matches!(&faults[..], [Fault::Hash { .. }]), "{faults:?}");
    let faults = Copy::new().model(Vec::clear).faults();
    assert!(matches!(&faults[..], [Fault::Hash { .. }]), "{faults:?}");
}

#[test]
fn a_changed_golden_row_is_refused() {
    let shift = |rows: &mut Vec<Vec<String>>, by: f32| {
        let score: f32 = last_two(&mut rows[17])[0].parse().unwrap();
        last_two(&mut rows[17])[0] = (score + by).to_string();
    };
    assert_eq!(Copy::new().golden(|rows| shift(rows, 5e-7)).faults(), []);
    let faults = Copy::new().golden(|rows| shift(rows, 3e-6)).faults();
    // Row 17 after the header is line 18.
    assert!(matches!(&faults[..], [Fault::Golden { rows: 1, line: 18, .. }]), "{faults:?}");
    let faults = Copy::new().golden(|rows| last_two(&mut rows[17])[1] = "challenge".to_owned()).faults();
    assert!(matches!(&faults[..], [Fault::Golden { rows: 1, line: 18, .. }]), "{faults:?}");
    let faults = Copy::new().golden(|rows| last_two(&mut rows[17])[0] = "NaN".to_owned()).faults();
    assert!(matches!(&faults[..], [Fault::Golden { rows: 1, .. }]), "{faults:?}");
}

#[test]
fn golden_rows_that_prove_nothing_are_refused() {
    let check = |change: fn(&mut Vec<Vec<String>>), expected: &str| {
        let faults = Copy::new().golden(change).faults();
        let [Fault::File { file: GOLDEN_FILE, what }] = &faults[..] else { panic!("{faults:?}") };
        assert!(what.contains(expected), "{what}");
    };
    check(|rows| rows.truncate(1_000), "expected at least 1000 rows, found 999");
    check(|rows| rows[0].swap(0, 1), "line 1: expected the columns");
    check(|rows| rows[5][0] = "many".to_owned(), "line 6: expected a number, found \"many\"");
    check(|rows| drop(rows[5].pop()), "found record with");
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let copy = Copy::new().model(|bytes| flip_last_byte(bytes)).manifest(|manifest| {
        manifest["feature_schema"] = "00".into();
        manifest["features"][0] = "amuont".into();
    });
    let dir = copy.0.path().to_owned();
    let error = ModelHost::load(&dir, &search()).unwrap_err().to_string();
    for part in [&*dir.display().to_string(), "sha256", "feature_schema", "(did you mean \"amount\"?)", "make train"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
}

#[test]
fn missing_and_broken_files_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = ModelHost::load(empty.path(), &search()).unwrap_err().to_string();
    for file in [MODEL_FILE, MANIFEST_FILE, GOLDEN_FILE] {
        assert!(error.contains(file), "{error}");
    }
    let copy = Copy::new();
    fs::write(copy.0.path().join(MANIFEST_FILE), "{").unwrap();
    assert!(matches!(&copy.faults()[..], [Fault::File { file: MANIFEST_FILE, .. }]));
}

#[test]
fn a_model_of_another_shape_is_refused() {
    let copy = Copy::new()
        .manifest(|manifest| drop(manifest["features"].as_array_mut().unwrap().pop()))
        .golden(|rows| rows.iter_mut().for_each(|row| drop(row.remove(row.len() - 3))));
    let faults = copy.faults();
    assert!(matches!(&faults[..], [Fault::File { file: MODEL_FILE, what }] if what.contains("expected one float32")));
    let faults = Copy::new().manifest(|manifest| manifest["output"] = "label".into()).faults();
    assert!(
        matches!(&faults[..], [Fault::File { file: MODEL_FILE, what }] if what.contains("\"label\"")),
        "{faults:?}"
    );
}

/// I3: a replay batches differently from the run that it repeats.
#[test]
fn the_score_of_a_row_does_not_depend_on_its_batch() {
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    let golden = fs::read(shipped().join(GOLDEN_FILE)).unwrap();
    let rows = golden::parse(&golden, host.manifest(), &host.slots).unwrap();
    let rows: Vec<&FeatureVector> = rows.iter().map(golden::Row::features).collect();
    let mut scorer = host.scorer().unwrap();
    let mut in_batches = |size: usize| -> Vec<u32> {
        rows.chunks(size).flat_map(|batch| scorer.score(batch).unwrap()).map(f32::to_bits).collect()
    };
    let singly = in_batches(1);
    for size in [2, 3, 7, 16, 64, 1_000] {
        assert_eq!(in_batches(size), singly, "batches of {size}");
    }
}

/// A scorer of a model that goes round a loop as often as the feature `amount` says (testdata/endless.py).
fn endless(watchdog: &Arc<Watchdog>) -> Scorer {
    let environment = runtime::environment(&search()).unwrap();
    let (amount, _) = verdict_core::features::lookup("amount").unwrap();
    Scorer::new(&environment, include_bytes!("testdata/endless.onnx"), "score", [amount].into(), watchdog).unwrap()
}

const ENDLESS: FeatureVector = FeatureVector([9e17; SLOTS]);
const SHORT: FeatureVector = FeatureVector([3.0; SLOTS]);

#[test]
fn a_run_that_takes_too_long_is_stopped_and_the_next_one_is_not() {
    let watchdog = Watchdog::start().unwrap();
    let mut scorer = endless(&watchdog);
    let soon = |ms| Some(Duration::from_millis(ms));
    for _ in 0..3 {
        // The long patience of a first run must not keep the watchdog from looking in time at the second.
        assert_eq!(Score::score(&mut scorer, &[&SHORT], soon(60_000)), Ok(vec![0.25]));
        let started = clock::instant();
        assert_eq!(Score::score(&mut scorer, &[&SHORT, &ENDLESS], soon(30)), Err(ScoreError::TimedOut));
        assert!(started.elapsed() >= Duration::from_millis(30), "not before its time");
        assert_eq!(scorer.score(&[&SHORT, &SHORT]), Ok(vec![0.25, 0.25]));
    }
    // A time that is over already.
    let over = soon(0);
    assert_eq!(Score::score(&mut scorer, &[&ENDLESS], over), Err(ScoreError::TimedOut));
}

#[test]
fn runs_of_several_sessions_are_stopped_each_in_its_time() {
    let watchdog = Watchdog::start().unwrap();
    let ended: Vec<_> = [120_u64, 20, 70]
        .map(|ms| {
            let mut scorer = endless(&watchdog);
            std::thread::spawn(move || {
                let until = clock::instant() + Duration::from_millis(ms);
                let scored = Score::score(&mut scorer, &[&ENDLESS], Some(Duration::from_millis(ms)));
                (scored, until, clock::instant())
            })
        })
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    for (scored, until, ended) in ended {
        assert_eq!(scored, Err(ScoreError::TimedOut));
        assert!(until <= ended);
    }
}

#[test]
fn thousands_of_runs_that_end_in_time_are_left_alone() {
    let watchdog = Watchdog::start().unwrap();
    let mut scorer = endless(&watchdog);
    for number in 0..5_000 {
        let allowed = Duration::from_millis(1_000 + number % 7 * 1_000);
        assert_eq!(Score::score(&mut scorer, &[&SHORT], Some(allowed)), Ok(vec![0.25]));
    }
    assert_eq!(Score::score(&mut scorer, &[&ENDLESS], Some(Duration::ZERO)), Err(ScoreError::TimedOut));
}

#[test]
fn the_watchdog_ends_with_its_model() {
    let watchdog = Watchdog::start().unwrap();
    let shared = Arc::downgrade(&watchdog.shared);
    let scorer = endless(&watchdog);
    drop(watchdog);
    assert!(shared.upgrade().is_some(), "the scorer keeps it");
    drop(scorer);
    // Its thread holds the last reference.
    while shared.upgrade().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn scores_come_from_every_thread_and_for_any_row() {
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    let nothing_known = FeatureVector([f64::NAN; SLOTS]);
    let extreme = FeatureVector([f64::MAX; SLOTS]);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let mut scorer = host.scorer().unwrap();
            std::thread::spawn(move || scorer.score(&[&nothing_known, &extreme]).unwrap())
        })
        .collect();
    let scores: Vec<Vec<f32>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(scores[0], scores[1]);
    assert_eq!(scores[0].len(), 2);
    assert_eq!(host.scorer().unwrap().score(&[]), Ok(Vec::new()));
}

#[test]
fn an_archived_model_is_found_again_by_its_hash() {
    let data = tempfile::tempdir().unwrap();
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    let sha256 = host.reference().sha256;
    let missing = ModelHost::load_archived(data.path(), &sha256, &search()).unwrap_err();
    assert!(matches!(missing, ModelError::NotArchived { .. }));
    let place = host.archive(data.path()).unwrap();
    assert_eq!(place, data.path().join("archive/models").join(hex(&sha256)));
    assert_eq!(host.archive(data.path()).unwrap(), place);
    assert_eq!(fs::read_dir(data.path().join("archive/models")).unwrap().count(), 1, "no draft is left");
    let again = ModelHost::load_archived(data.path(), &sha256, &search()).unwrap();
    assert_eq!(again.reference(), host.reference());
}

#[test]
fn a_model_is_made_again_of_its_archived_files_and_of_no_other() {
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    let (sha256, place) = (host.reference().sha256, Path::new("elsewhere"));
    let file =
        |name: &str| host.archived_files().iter().find(|(kept, _)| *kept == name).map(|(_, bytes)| bytes.to_vec());
    let again = ModelHost::from_archived(place, &sha256, &search(), file).unwrap();
    assert_eq!(again.reference(), host.reference());
    let other = ModelHost::from_archived(place, &[7; 32], &search(), file).unwrap_err().to_string();
    assert!(other.contains("the model in elsewhere is refused") && other.contains("expected sha256 0707"), "{other}");
    let without =
        ModelHost::from_archived(place, &sha256, &search(), |name| file(name).filter(|_| name != GOLDEN_FILE));
    let without = without.unwrap_err().to_string();
    assert!(without.contains("golden.csv: is not archived"), "{without}");
}

#[test]
fn an_archive_that_cannot_be_written_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("archive"), "a file where a folder should be").unwrap();
    let host = ModelHost::load(&shipped(), &search()).unwrap();
    assert!(host.archive(data.path()).is_err());
}

//! Finds ONNX Runtime and makes sure that it is a suitable one, before `ort` touches it: `ort` panics, or waits for
//! ever, on a library that is missing or too old.

use ort::environment::Environment;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// The version that the project fetches and tests with.
const VERSION: &str = "1.28.0";
/// Oldest and newest minor version (1.x): what `ort` is built for, and the last whose official builds do not report
/// their use to their maker.
const MINOR_VERSIONS: std::ops::RangeInclusive<u32> = ort::MINOR_VERSION..=28;
/// How far above the binary the project's cache folder may be: `target/release/deps/..`.
const LEVELS_UP: usize = 4;

/// Why there is no ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuntimeError {
    /// No library where it was looked for.
    #[error(
        "ONNX Runtime {VERSION} was not found; looked at {}; fetch it with `make setup`, or name the library in \
         [model] runtime_library or ORT_DYLIB_PATH",
        list(looked_at)
    )]
    Missing {
        /// Where.
        looked_at: Vec<PathBuf>,
    },
    /// The file is no ONNX Runtime.
    #[error("expected ONNX Runtime {VERSION} at {}, found no such library: {what}; fetch it with `make setup`", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        what: String,
    },
    /// Too old, or so new that it would call out.
    #[error(
        "expected ONNX Runtime 1.{} to 1.{} at {}, found {found}: older ones lack functions, official newer ones report \
         their use to their maker; fetch {VERSION} with `make setup`",
        MINOR_VERSIONS.start(), MINOR_VERSIONS.end(), path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// It was found and does not start.
    #[error("ONNX Runtime at {} does not start: {what}", path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// What it says.
        what: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where to look for the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// `[model] runtime_library`, or `ORT_DYLIB_PATH`; nothing else is tried if it is set.
    pub configured: Option<PathBuf>,
    /// The running binary: the library may be beside it, or in the cache folder of the project that built it.
    pub binary: Option<PathBuf>,
    /// The working directory, whose cache folder is tried last.
    pub working_dir: Option<PathBuf>,
}

impl Search {
    /// From the configuration, with the running binary and the working directory filled in.
    #[must_use]
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, binary: std::env::current_exe().ok(), working_dir: std::env::current_dir().ok() }
    }

    /// Every place, in order.
    fn places(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.configured {
            return vec![named.clone()];
        }
        let file = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let cached = |dir: &Path| dir.join(".cache/onnxruntime").join(VERSION).join(&file);
        let beside = self.binary.as_deref().and_then(Path::parent);
        let mut places: Vec<PathBuf> = beside.map(|dir| dir.join(&file)).into_iter().collect();
        places.extend(self.working_dir.as_deref().map(cached));
        places.extend(beside.into_iter().flat_map(|dir| dir.ancestors().skip(1).take(LEVELS_UP)).map(cached));
        places
    }

    fn find(&self) -> Result<PathBuf, RuntimeError> {
        let looked_at = self.places();
        match looked_at.iter().find(|path| path.is_file()) {
            // Absolute, so that the system's library path is not searched.
            Some(path) => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            None => Err(RuntimeError::Missing { looked_at }),
        }
    }
}

/// Tells ONNX Runtime not to report its use, whatever build it is. Call it first in `main`.
pub fn disable_telemetry() {
    #[expect(unsafe_code, reason = "set_var is unsafe while other threads may read the environment")]
    // SAFETY: called first in `main`, before any other thread exists.
    unsafe {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
    }
}

/// ONNX Runtime has one environment a process, and so does this room: the first library found is the one that stays.
static STARTED: Mutex<Option<Environment>> = Mutex::new(None);

/// The process's environment; finds, checks and starts the library the first time.
pub(super) fn environment(search: &Search) -> Result<Environment, RuntimeError> {
    let path = search.find()?;
    check(&path)?;
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*started {
        return Ok(environment.clone());
    }
    let fail = |what: String| RuntimeError::Start { path: path.clone(), what };
    let builder = ort::init_from(&path).map_err(|error| fail(error.to_string()))?;
    let environment =
        builder.with_name("verdict").with_telemetry(false).build().map_err(|error| fail(error.to_string()))?;
    Ok(started.insert(environment).clone())
}

/// Loads the library and asks for its version, as `ort` would, but answering instead of panicking.
fn check(path: &Path) -> Result<(), RuntimeError> {
    let unusable = |what: String| RuntimeError::Unusable { path: path.to_owned(), what };
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    // SAFETY: the operator names this library to be loaded and run; its initialisers have no preconditions.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| unusable(error.to_string()))?;
    #[expect(unsafe_code, reason = "the symbol's type is the one that ONNX Runtime's C header declares")]
    // SAFETY: every version of ONNX Runtime exports OrtGetApiBase with this signature.
    let base = unsafe {
        let get = library.get::<unsafe extern "system" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase\0");
        get.map(|get| get())
    };
    let base = base.map_err(|_| unusable("it does not export OrtGetApiBase".to_owned()))?;
    #[expect(unsafe_code, reason = "reads the table of functions that OrtGetApiBase promises")]
    // SAFETY: the pointer is null or to a static table; GetVersionString gives a static string; GetApi takes any number.
    let (version, offers_api) = unsafe {
        let Some(base) = base.as_ref() else { return Err(unusable("OrtGetApiBase gave nothing".to_owned())) };
        let version = CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned();
        let minor = version.strip_prefix("1.").and_then(|rest| rest.split('.').next()).and_then(|n| n.parse().ok());
        // An old library prints a complaint when asked for a newer API, so the version comes first.
        let suits = minor.is_some_and(|minor: u32| MINOR_VERSIONS.contains(&minor));
        (version, suits && !(base.GetApi)(ort::sys::ORT_API_VERSION).is_null())
    };
    // It stays loaded: `ort` opens it again, and unloading it is not supported.
    std::mem::forget(library);
    if offers_api { Ok(()) } else { Err(RuntimeError::Version { path: path.to_owned(), found: version }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_is_the_only_place() {
        let search = Search {
            configured: Some("/a/lib.so".into()),
            binary: Some("/c/verdict".into()),
            working_dir: Some("/d".into()),
        };
        assert_eq!(search.places(), [PathBuf::from("/a/lib.so")]);
    }

    #[test]
    fn unnamed_it_is_beside_the_binary_then_in_the_cache_folders() {
        let search = Search {
            binary: Some("/p/target/debug/verdict".into()),
            working_dir: Some("/w".into()),
            ..Search::default()
        };
        let places: Vec<String> = search.places().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(places[0], "/p/target/debug/libonnxruntime.so");
        assert_eq!(places[1], "/w/.cache/onnxruntime/1.28.0/libonnxruntime.so");
        assert!(places.contains(&"/p/.cache/onnxruntime/1.28.0/libonnxruntime.so".to_owned()));
    }

    #[test]
    fn a_missing_library_says_where_it_was_looked_for_and_what_to_do() {
        let search = Search { configured: Some("/nowhere/lib.so".into()), ..Search::default() };
        let error = environment(&search).map(drop).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/lib.so") && error.contains("make setup"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("libonnxruntime.so");
        std::fs::write(&path, b"no library").expect("writable");
        let error = environment(&Search { configured: Some(path), ..Search::default() }).map(drop);
        assert!(matches!(error, Err(RuntimeError::Unusable { .. })), "{error:?}");
    }

    #[test]
    fn another_library_is_refused() {
        // Any library without the symbol will do; the C library is always loaded already.
        let path = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib/aarch64-linux-gnu/libc.so.6",
            "/usr/lib/libc.so.6",
            "/lib64/libc.so.6",
        ]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .expect("a C library at a usual place");
        let error = check(Path::new(path)).expect_err("no ONNX Runtime").to_string();
        assert!(error.contains("OrtGetApiBase"), "{error}");
    }
}

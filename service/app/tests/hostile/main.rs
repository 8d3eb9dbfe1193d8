//! Hostile input at every parser: random bytes and damaged versions of what is right. Nothing panics, overflows the stack
//! or takes long, and what is accepted comes back the same from the printer. The manifest and the lines of a history are
//! tested so beside their parsers, which are private.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod damage;
mod events;
mod rules;
mod stored;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verdict_core::rules::{RuleSet, RuleSources, SourceFile};

/// Longest that one input may take, in a build without optimisation on a busy machine. The inputs are as long as is
/// accepted, so that a cost that grows with the square of the length takes far longer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Runs with the stack of a thread that is smaller than any in the service, and within the time.
#[track_caller]
fn bounded<T: Send>(what: &str, run: impl FnOnce() -> T + Send) -> T {
    #[expect(clippy::disallowed_methods, reason = "a test measures real time")]
    let started = Instant::now();
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, run).expect("a thread");
        thread.join().unwrap_or_else(|_| panic!("{what}: it panicked"))
    });
    assert!(started.elapsed() < PATIENCE, "{what} took {:?}", started.elapsed());
    result
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compiles rule files.
fn compile(ruleset: &str, fx: &str) -> Result<RuleSet, Vec<verdict_core::rules::Diagnostic>> {
    RuleSet::compile(&RuleSources {
        name: "hostile",
        ruleset: SourceFile { path: "ruleset.yaml", text: ruleset },
        fx: SourceFile { path: "fx.yaml", text: fx },
    })
}

/// The shipped rules.
fn shipped() -> RuleSet {
    compile(&text("rules/default/ruleset.yaml"), &text("rules/fx.yaml")).expect("the shipped rules compile")
}

//! The whole service in a simulation: actors, core and HTTP handlers as in production, over a disk, a model and clocks
//! that fail as a seed has it, on one thread in virtual time.
//!
//! A seed is a story of requests, retries, crashes and stops; after every step and at every rest the invariants are
//! checked against a naive history that shares no code with the service. A seed that breaks one is printed, and told
//! again it breaks it again:
//!
//! - `VERDICT_SEED=7` tells one seed, `VERDICT_STEPS=20` only its first 20 steps and the end;
//! - `VERDICT_SEEDS=5000` tells that many, `VERDICT_FIRST_SEED=1000000` from another one on.
//!
//! It refuses to sleep, to read a clock, to start a thread inside a story, and to use a file.

mod audit;
mod clients;
mod events;
#[path = "../../../core/tests/oracle/history.rs"]
#[expect(dead_code, reason = "the core's own tests ask more of it")]
mod history;
#[path = "../../../core/tests/oracle/naive.rs"]
mod naive;
mod plan;
mod ports;
mod rest;
mod senders;
mod service;
mod story;

use ports::Rules;
use story::{Broken, Story, Told};

/// Seeds that every run of the tests tells.
const USUAL_SEEDS: u64 = 150;

/// Steps of a trace that are printed.
const SHOWN: usize = 40;

#[expect(clippy::disallowed_methods, reason = "a test has no configuration but the environment")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("expected a number in {name}, found {value:?}")))
}

fn tell(seed: u64, steps: Option<u32>, rules: &Rules) -> Told {
    match Story::tell(seed, steps, rules) {
        Ok(told) => told,
        Err(broken) => panic!("{}", report(seed, steps, &broken)),
    }
}

fn report(seed: u64, steps: Option<u32>, broken: &Broken) -> String {
    let from = broken.trace.len().saturating_sub(SHOWN);
    let steps = steps.map(|steps| format!("VERDICT_STEPS={steps} ")).unwrap_or_default();
    format!(
        "seed {seed} breaks: {}\n{:?}\n... {from} lines before\n{}\ntell it again: VERDICT_SEED={seed} {steps}cargo test \
         --locked -p verdict --lib simulation",
        broken.what,
        broken.plan,
        broken.trace[from..].join("\n"),
    )
}

#[test]
fn every_seed_keeps_the_invariants() {
    let rules = Rules::compile();
    let steps = variable("VERDICT_STEPS").map(|steps| steps as u32);
    if let Some(seed) = variable("VERDICT_SEED") {
        tell(seed, steps, &rules);
        return;
    }
    let first = variable("VERDICT_FIRST_SEED").unwrap_or(0);
    let seeds = first..first + variable("VERDICT_SEEDS").unwrap_or(USUAL_SEEDS);
    let (mut records, mut requests, mut lives) = (0, 0, 0);
    for seed in seeds.clone() {
        let told = tell(seed, steps, &rules);
        records += told.records;
        requests += told.requests;
        lives += told.lives;
    }
    println!("{seeds:?}: {requests} requests, {records} records, {lives} lives");
}

#[test]
fn a_seed_is_the_same_story_every_time() {
    let rules = Rules::compile();
    for seed in 0..20 {
        assert_eq!(tell(seed, None, &rules).fingerprint, tell(seed, None, &rules).fingerprint, "seed {seed}");
    }
}

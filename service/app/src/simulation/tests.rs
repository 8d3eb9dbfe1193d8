//! Tells seeds, as many as the environment asks for, and prints what breaks one.

use super::ports::Rules;
use super::story::{Broken, Story, Told};

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
    let (mut streams, mut alerts, mut cut_off) = (0, 0, 0);
    for seed in seeds.clone() {
        let told = tell(seed, steps, &rules);
        records += told.records;
        requests += told.requests;
        lives += told.lives;
        for counts in told.followed {
            streams += counts.streams;
            alerts += counts.alerts;
            cut_off += counts.cut_off;
        }
    }
    println!("{seeds:?}: {requests} requests, {records} records, {lives} lives");
    println!("{streams} streams of {alerts} alerts, {cut_off} cut off");
}

#[test]
fn a_seed_is_the_same_story_every_time() {
    let rules = Rules::compile();
    for seed in 0..20 {
        assert_eq!(tell(seed, None, &rules).fingerprint, tell(seed, None, &rules).fingerprint, "seed {seed}");
    }
}

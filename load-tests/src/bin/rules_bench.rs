//! 30 compiled rules against the same conditions written in Rust, over the same feature vectors.
//!
//! Each rule stands once in CEL and once in Rust, side by side below. Before anything is timed both must give identical
//! hits over 100,000 vectors. The two are then timed in turn, and one JSON line says how long each took per vector.

use clap::Parser;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;
use thiserror::Error;
use verdict_core::decision::RuleHit;
use verdict_core::features::{CATALOGUE, FeatureVector, SLOTS};
use verdict_core::rules::{RuleSet, RuleSources, SourceFile};
use verdict_load::clock::Stopwatch;

/// Vectors that both must agree on.
const CHECKED: usize = 100_000;
/// Vectors that are timed: too many for a processor to learn how each of them branches (with 2,048 the straight-line
/// Rust ran four times as fast, which no traffic would let it), few enough for the third-level cache.
const TIMED: usize = 16_384;
/// Shortest time that a side is run for in a round.
const SIDE: Duration = Duration::from_millis(500);

/// Times compiled rules against Rust.
#[derive(Debug, Parser)]
#[command(after_help = "Example: rules_bench --rounds 5")]
struct Args {
    /// Alternate rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seed of the vectors.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Error)]
enum BenchError {
    #[error("the rules do not compile:\n{0}")]
    Compile(String),
    #[error("vector {vector} of seed {seed}: expected the hits {rust:?} of Rust, found {engine:?}")]
    Differ { vector: usize, seed: u64, rust: Vec<RuleHit>, engine: Vec<RuleHit> },
    #[error("expected every rule to fire over {CHECKED} vectors, found none of {0}")]
    Silent(String),
    #[error("findings cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

#[derive(Debug, Serialize)]
struct Findings {
    rules: usize,
    vectors: usize,
    hits: usize,
    rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
struct Round {
    /// Compiled by the engine.
    engine_ns: f64,
    /// One Rust function with 30 `if`s, which the compiler optimises as a whole: the most that Rust can do.
    rust_ns: f64,
    /// 30 Rust functions, one a rule, called through a table: what a rule engine in plain Rust looks like.
    functions_ns: f64,
}

/// Slot of a feature, found by the compiler.
const fn slot(name: &str) -> usize {
    let mut index = 0;
    while index < SLOTS {
        if same(CATALOGUE[index].name.as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    SLOTS // out of range: the compiler refuses to index with it
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Declares rules: the name, the condition in CEL, and the condition in Rust, where `f!(name)` is a feature.
macro_rules! rules {
    ($vector:ident: $($id:literal $cel:literal $rust:expr;)*) => {
        /// Names and conditions in CEL.
        const RULES: &[(&str, &str)] = &[$(($id, $cel)),*];

        /// The conditions in Rust, each a function.
        const FUNCTIONS: [fn(&FeatureVector) -> bool; RULES.len()] = [$(|$vector: &FeatureVector| $rust),*];

        /// The conditions in Rust, in the same order.
        fn by_hand($vector: &FeatureVector, hits: &mut Vec<RuleHit>) {
            hits.clear();
            let mut rule = 0;
            $(
                if $rust {
                    hits.push(RuleHit { rule, shadow: false });
                }
                rule += 1;
            )*
        }
    };
}

macro_rules! f {
    ($vector:ident, $name:ident) => {
        $vector.0[const { slot(stringify!($name)) }]
    };
}

rules! { v:
    "geo_anomaly" "has_last_login && minutes_since_login <= 60.0 && miles_from_login > 500.0"
        f!(v, has_last_login) == 1.0 && f!(v, minutes_since_login) <= 60.0 && f!(v, miles_from_login) > 500.0;
    "daily_spend" "user_spend_today > 5000.0" f!(v, user_spend_today) > 5000.0;
    "burst" "user_count_1h >= 10" f!(v, user_count_1h) >= 10.0;
    "burst_of_small" "user_count_1h >= 5 && user_max_1h < 5.0" f!(v, user_count_1h) >= 5.0 && f!(v, user_max_1h) < 5.0;
    "large" "amount > 2000.0" f!(v, amount) > 2000.0;
    "large_at_night" "amount > 500.0 && hour_of_day < 5" f!(v, amount) > 500.0 && f!(v, hour_of_day) < 5.0;
    "large_first" "is_first_purchase && amount > 300.0" f!(v, is_first_purchase) == 1.0 && f!(v, amount) > 300.0;
    "no_login" "!has_last_login && amount > 400.0" f!(v, has_last_login) != 1.0 && f!(v, amount) > 400.0;
    "stale_login" "has_last_login && minutes_since_login > 20160.0 && amount > 150.0"
        f!(v, has_last_login) == 1.0 && f!(v, minutes_since_login) > 20_160.0 && f!(v, amount) > 150.0;
    "impossible_travel" "speed_mph > 600.0 && miles_from_login > 100.0"
        f!(v, speed_mph) > 600.0 && f!(v, miles_from_login) > 100.0;
    "many_merchants" "user_merchants_24h >= 8" f!(v, user_merchants_24h) >= 8.0;
    "many_merchants_fast" "user_merchants_24h >= 5 && user_count_1h >= 5"
        f!(v, user_merchants_24h) >= 5.0 && f!(v, user_count_1h) >= 5.0;
    "above_own_mean" "user_count_30d >= 10 && amount > 8.0 * user_mean_30d"
        f!(v, user_count_30d) >= 10.0 && f!(v, amount) > 8.0 * f!(v, user_mean_30d);
    "new_maximum" "user_count_7d > 3 && amount >= user_max_30d && amount > 250.0"
        f!(v, user_count_7d) > 3.0 && f!(v, amount) >= f!(v, user_max_30d) && f!(v, amount) > 250.0;
    "weekend_night" "is_weekend && (hour_of_day >= 23 || hour_of_day <= 4) && amount > 200.0"
        f!(v, is_weekend) == 1.0 && (f!(v, hour_of_day) >= 23.0 || f!(v, hour_of_day) <= 4.0) && f!(v, amount) > 200.0;
    "hour_spend" "user_sum_1h > 1500.0" f!(v, user_sum_1h) > 1500.0;
    "day_spend" "user_sum_24h > 3000.0 && user_count_24h >= 4"
        f!(v, user_sum_24h) > 3000.0 && f!(v, user_count_24h) >= 4.0;
    "week_spend" "user_sum_7d > 8000.0" f!(v, user_sum_7d) > 8000.0;
    "month_spend" "user_sum_30d > 20000.0 && user_sum_7d > 6000.0"
        f!(v, user_sum_30d) > 20_000.0 && f!(v, user_sum_7d) > 6000.0;
    "week_in_a_day" "user_count_7d >= 5 && user_sum_24h > 0.9 * user_sum_7d && user_sum_24h > 500.0"
        f!(v, user_count_7d) >= 5.0 && f!(v, user_sum_24h) > 0.9 * f!(v, user_sum_7d) && f!(v, user_sum_24h) > 500.0;
    "awake_late" "hour_of_day in [1, 2, 3] && user_count_1h >= 3"
        matches!(f!(v, hour_of_day) as i64, 1..=3) && f!(v, user_count_1h) >= 3.0;
    "far_and_large" "miles_from_login > 200.0 && amount > 100.0 && minutes_since_login < 720.0"
        f!(v, miles_from_login) > 200.0 && f!(v, amount) > 100.0 && f!(v, minutes_since_login) < 720.0;
    "far_or_fast" "miles_from_login > 1500.0 || speed_mph > 900.0"
        f!(v, miles_from_login) > 1500.0 || f!(v, speed_mph) > 900.0;
    "on_block_list" "block_list_hits > 0" f!(v, block_list_hits) > 0.0;
    "large_unlisted" "allow_list_hits == 0 && amount > 900.0"
        f!(v, allow_list_hits) == 0.0 && f!(v, amount) > 900.0;
    "test_charge" "amount <= 1.0 && user_count_24h >= 3" f!(v, amount) <= 1.0 && f!(v, user_count_24h) >= 3.0;
    "dormant_awakes" "user_count_30d == 1 && !is_first_purchase && amount > 100.0"
        f!(v, user_count_30d) == 1.0 && f!(v, is_first_purchase) != 1.0 && f!(v, amount) > 100.0;
    "spread" "user_max_24h - user_mean_24h > 400.0 && user_count_24h >= 3"
        f!(v, user_max_24h) - f!(v, user_mean_24h) > 400.0 && f!(v, user_count_24h) >= 3.0;
    "share_of_month" "user_sum_30d > 0.0 && amount / user_sum_30d > 0.8 && user_count_30d >= 5"
        f!(v, user_sum_30d) > 0.0 && f!(v, amount) / f!(v, user_sum_30d) > 0.8 && f!(v, user_count_30d) >= 5.0;
    "night_limit" "amount > (hour_of_day < 6 ? 700.0 : 1500.0)"
        f!(v, amount) > if f!(v, hour_of_day) < 6.0 { 700.0 } else { 1500.0 };
}

#[expect(clippy::print_stdout, reason = "the findings go to stdout")]
fn main() -> Result<(), BenchError> {
    let args = Args::parse();
    let set = compile()?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(args.seed);
    let vectors: Vec<FeatureVector> = (0..CHECKED).map(|_| vector(&mut random)).collect();
    let hits = check(&set, &vectors, args.seed)?;
    let timed = &vectors[..TIMED];
    let rounds = (0..args.rounds)
        .map(|_| Round {
            engine_ns: time(timed, |vector, hits| set.evaluate(vector, hits)),
            rust_ns: time(timed, by_hand),
            functions_ns: time(timed, by_functions),
        })
        .collect();
    let findings = Findings { rules: RULES.len(), vectors: CHECKED, hits, rounds };
    println!("{}", serde_json::to_string(&findings)?);
    Ok(())
}

fn compile() -> Result<RuleSet, BenchError> {
    let mut text = "rules:\n".to_owned();
    for (id, when) in RULES {
        let rule = format!(
            "- id: {id}\n  version: 1\n  when: \"{when}\"\n  outcome: review\n  reason: {{code: R, message: \"m\"}}\n"
        );
        let _ = text.write_str(&rule); // a String takes everything
    }
    let sources = RuleSources {
        name: "bench",
        ruleset: SourceFile { path: "bench.yaml", text: &text },
        fx: SourceFile { path: "fx.yaml", text: "base: USD\nrates: {}\n" },
    };
    RuleSet::compile(&sources).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        BenchError::Compile(lines.join("\n"))
    })
}

/// Whether both sides agree on every vector and every rule fires; gives the number of hits.
fn check(set: &RuleSet, vectors: &[FeatureVector], seed: u64) -> Result<usize, BenchError> {
    let (mut engine, mut rust) = (Vec::new(), Vec::new());
    let mut fired = vec![0_usize; RULES.len()];
    for (at, vector) in vectors.iter().enumerate() {
        set.evaluate(vector, &mut engine);
        by_hand(vector, &mut rust);
        if engine != rust {
            return Err(BenchError::Differ { vector: at, seed, rust, engine });
        }
        rust.iter().for_each(|hit| fired[usize::from(hit.rule)] += 1);
    }
    let silent: Vec<&str> =
        RULES.iter().zip(&fired).filter(|(_, fired)| **fired == 0).map(|((id, _), _)| *id).collect();
    if !silent.is_empty() {
        return Err(BenchError::Silent(silent.join(", ")));
    }
    Ok(fired.iter().sum())
}

/// The conditions in Rust, called one by one.
fn by_functions(vector: &FeatureVector, hits: &mut Vec<RuleHit>) {
    hits.clear();
    for (condition, rule) in black_box(&FUNCTIONS).iter().zip(0..) {
        if condition(vector) {
            hits.push(RuleHit { rule, shadow: false });
        }
    }
}

/// Nanoseconds of CPU time that one evaluation takes.
fn time(vectors: &[FeatureVector], mut evaluate: impl FnMut(&FeatureVector, &mut Vec<RuleHit>)) -> f64 {
    let mut hits = Vec::with_capacity(RULES.len());
    let mut evaluated = 0_usize;
    let stopwatch = Stopwatch::start();
    loop {
        for vector in vectors {
            evaluate(black_box(vector), &mut hits);
            black_box(&hits);
        }
        evaluated += vectors.len();
        if stopwatch.wall() >= SIDE {
            return stopwatch.cpu().as_nanos() as f64 / evaluated as f64;
        }
    }
}

/// A user's features: ordinary for most, suspicious for one in ten, absent (NaN) where a user would have none.
fn vector(random: &mut Xoshiro256PlusPlus) -> FeatureVector {
    let mut vector = FeatureVector([0.0; SLOTS]);
    let mut set = |name: &str, value: f64| vector.0[slot(name)] = value;
    let suspicious = random.random_bool(0.1);
    let mut upto = |most: f64| random.random::<f64>().powi(3) * most;
    let amount = upto(if suspicious { 3_000.0 } else { 300.0 });
    let windows = [("1h", if suspicious { 15.0 } else { 3.0 }, 2_000.0), ("24h", 6.0, 3_000.0)];
    let longer = [("7d", 12.0, 9_000.0), ("30d", 30.0, 25_000.0)];
    let (mut count, mut sum, mut largest) = (0.0, 0.0, amount);
    for (window, most, spent) in windows.into_iter().chain(longer) {
        count += upto(most).floor();
        sum += upto(spent);
        largest = f64::max(largest, upto(800.0));
        set(&format!("user_count_{window}"), count + 1.0);
        set(&format!("user_sum_{window}"), sum + amount);
        set(&format!("user_mean_{window}"), (sum + amount) / (count + 1.0));
        set(&format!("user_max_{window}"), largest);
    }
    set("amount", amount);
    set("user_spend_today", amount + upto(6_000.0));
    set("user_merchants_24h", 1.0 + upto(10.0).floor());
    let has_login = upto(1.0) < 0.4;
    let (minutes, miles) = (upto(40_000.0), upto(if suspicious { 3_000.0 } else { 60.0 }));
    set("has_last_login", f64::from(has_login));
    set("minutes_since_login", if has_login { minutes } else { f64::NAN });
    set("miles_from_login", if has_login { miles } else { f64::NAN });
    set("speed_mph", if has_login { miles / (minutes / 60.0).max(1.0 / 3_600.0) } else { f64::NAN });
    set("hour_of_day", random.random_range(0..24).into());
    set("is_weekend", random.random_bool(2.0 / 7.0).into());
    set("is_first_purchase", (count < 1.0 && random.random_bool(0.5)).into());
    set("block_list_hits", random.random_bool(0.01).into());
    set("allow_list_hits", random.random_bool(0.02).into());
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_and_every_rule_fires() {
        assert_eq!(RULES.len(), 30);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let vectors: Vec<FeatureVector> = (0..20_000).map(|_| vector(&mut random)).collect();
        let set = compile().expect("rules that compile");
        assert!(check(&set, &vectors, 5).expect("agreement") > 2_000);
    }
}

//! The predicates of `invariant` can fail: each is shown a value that breaks its promise.

use crate::stories::decision;
use verdict_core::decision::{Outcome, RiskLevel};
use verdict_core::features::{FeatureVector, SLOTS, lookup};
use verdict_core::invariant;
use verdict_core::profile::{Bucket, ProfileParts, Retention, WindowTotals};
use verdict_core::time::{HOUR_MS, Timestamp};

/// A first payment of 5.00 with no login.
fn first_payment() -> FeatureVector {
    let mut features = FeatureVector([0.0; SLOTS]);
    for window in ["1h", "24h", "7d", "30d"] {
        for (aggregate, value) in [("count", 1.0), ("sum", 5.0), ("mean", 5.0), ("max", 5.0)] {
            set(&mut features, &format!("user_{aggregate}_{window}"), value);
        }
    }
    for (name, value) in [("amount", 5.0), ("user_spend_today", 5.0), ("user_merchants_24h", 1.0)] {
        set(&mut features, name, value);
    }
    for name in ["minutes_since_login", "miles_from_login", "speed_mph"] {
        set(&mut features, name, f64::NAN);
    }
    features
}

fn set(features: &mut FeatureVector, name: &str, value: f64) {
    features.0[lookup(name).expect("a feature of the catalogue").0.index()] = value;
}

#[test]
fn numbers_have_no_gap() {
    assert!(invariant::contiguous(None, 0) && invariant::contiguous(Some(0), 1));
    for (previous, n) in [(None, 1), (Some(0), 0), (Some(0), 2), (Some(5), 4), (Some(u64::MAX), 0)] {
        assert!(!invariant::contiguous(previous, n), "{previous:?} then {n}");
    }
    assert!(invariant::offset_advances(None, 7) && invariant::offset_advances(Some(7), 9));
    for (previous, offset) in [(None, -1), (Some(7), 7), (Some(7), 6)] {
        assert!(!invariant::offset_advances(previous, offset), "{previous:?} then {offset}");
    }
}

#[test]
fn a_replay_is_compared_bit_for_bit() {
    let (features, plain) = (first_payment(), decision(None));
    assert!(invariant::replay_equals((&features, &plain), (&features, &plain)));
    let mut other = features;
    set(&mut other, "is_weekend", -0.0);
    let difference = invariant::first_difference(&features, &other).expect("a difference of one bit");
    assert_eq!(difference.name, "is_weekend");
    assert!(!invariant::replay_equals((&features, &plain), (&other, &plain)));

    let mut scored = plain.clone();
    scored.score = Some(0.5);
    assert!(!invariant::replay_equals((&features, &plain), (&features, &scored)));
    let mut nudged = scored.clone();
    nudged.score = Some(f32::from_bits(0.5_f32.to_bits() + 1));
    assert!(!invariant::replay_equals((&features, &scored), (&features, &nudged)));
    let mut alerted = plain.clone();
    alerted.alert = true;
    assert!(!invariant::replay_equals((&features, &plain), (&features, &alerted)));
}

#[test]
fn windows_and_logins_that_cannot_be() {
    let sound = first_payment();
    assert!(invariant::windows_nested(&sound) && invariant::means_within(&sound) && invariant::logins_as_of(&sound));
    let broken = |changes: &[(&str, f64)]| {
        let mut features = sound;
        for (name, value) in changes {
            set(&mut features, name, *value);
        }
        features
    };
    for change in [
        ("user_count_1h", 2.0),
        ("user_count_1h", 0.0),
        ("user_sum_7d", 4.0),
        ("user_max_24h", 6.0),
        ("amount", 5.01),
        ("user_spend_today", 5.01),
        ("user_merchants_24h", 2.0),
        ("user_merchants_24h", 0.0),
        ("user_sum_30d", f64::NAN),
    ] {
        assert!(!invariant::windows_nested(&broken(&[change])), "{change:?}");
    }
    for change in [("user_mean_7d", 5.01), ("user_mean_7d", -1.0), ("user_max_7d", 5.01)] {
        assert!(!invariant::means_within(&broken(&[change])), "{change:?}");
    }
    let known =
        [("has_last_login", 1.0), ("minutes_since_login", 3.0), ("miles_from_login", 9.0), ("speed_mph", 180.0)];
    assert!(invariant::logins_as_of(&broken(&known)));
    for (index, value) in [(0, 0.0), (1, -1.0), (1, f64::NAN), (2, 20_000.0), (2, f64::NAN), (3, f64::INFINITY)] {
        let mut changes = known;
        changes[index].1 = value;
        assert!(!invariant::logins_as_of(&broken(&changes)), "{changes:?}");
    }
}

#[test]
fn bounds_hold_for_buckets_too() {
    let retention = Retention { dedupe_ms: 0, ..Retention::default() };
    let bucket = |hour: i64| Bucket { hour: Timestamp::from_millis(hour * HOUR_MS), totals: WindowTotals::default() };
    let parts = |hours: i64| ProfileParts { buckets: (0..hours).map(bucket).collect(), ..ProfileParts::default() };
    assert!(invariant::profile_bounded(&parts(30 * 24), &retention));
    assert!(!invariant::profile_bounded(&parts(31 * 24), &retention));
}

#[test]
fn decisions_agree_with_themselves() {
    let sound = decision(None);
    assert!(invariant::decision_coherent(&sound));
    let mut silent = sound.clone();
    silent.outcome = Outcome::Review;
    silent.risk_level = RiskLevel::Elevated;
    assert!(!invariant::decision_coherent(&silent), "a review without an alert");
    silent.alert = true;
    assert!(invariant::decision_coherent(&silent));
    silent.risk_level = RiskLevel::Highest;
    assert!(!invariant::decision_coherent(&silent));
    let mut scored = sound;
    scored.score = Some(1.5);
    assert!(!invariant::decision_coherent(&scored));
}

//! The invariants as pure predicates, for tests, simulations and whoever verifies a journal.
//!
//! Each one names the invariant of the design that it checks. None repairs, logs or panics: a caller learns that a value
//! breaks the promise and decides what that means.

use crate::decision::{Decision, Outcome, RiskLevel};
use crate::event::Transaction;
use crate::features::{CATALOGUE, FeatureVector};
use crate::geo::EARTH_RADIUS_MILES;
use crate::profile::{LONGEST_WINDOW_MS, ProfileParts, Retention};
use crate::time::HOUR_MS;

/// The first feature in which a recomputed vector differs from the recorded one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureDifference {
    /// The feature's name.
    pub name: &'static str,
    /// What the journal holds.
    pub recorded: f64,
    /// What the replay found.
    pub recomputed: f64,
}

/// I6: records of a partition are numbered without a gap, from 0.
#[must_use]
pub fn contiguous(previous_n: Option<u64>, n: u64) -> bool {
    match previous_n {
        None => n == 0,
        Some(previous) => previous.checked_add(1) == Some(n),
    }
}

/// I6: records of a source partition are journaled in offset order, each once. Offsets may skip (control records).
#[must_use]
pub fn offset_advances(previous: Option<i64>, offset: i64) -> bool {
    offset >= 0 && previous.is_none_or(|previous| previous < offset)
}

/// I3: the first feature that a replay computes differently, bit for bit; `None` if there is none.
#[must_use]
pub fn first_difference(recorded: &FeatureVector, recomputed: &FeatureVector) -> Option<FeatureDifference> {
    CATALOGUE
        .iter()
        .zip(recorded.0.iter().zip(&recomputed.0))
        .find(|(_, (recorded, recomputed))| recorded.to_bits() != recomputed.to_bits())
        .map(|(spec, (&recorded, &recomputed))| FeatureDifference { name: spec.name, recorded, recomputed })
}

/// I3: a replay computes the recorded features and the recorded decision, the score bit for bit.
#[must_use]
pub fn replay_equals(recorded: (&FeatureVector, &Decision), recomputed: (&FeatureVector, &Decision)) -> bool {
    let bits = |decision: &Decision| decision.score.map(f32::to_bits);
    // A score that is no number equals itself here; everything else is compared with the score left out.
    let rest = |decision: &Decision| Decision { score: None, ..decision.clone() };
    first_difference(recorded.0, recomputed.0).is_none()
        && bits(recorded.1) == bits(recomputed.1)
        && rest(recorded.1) == rest(recomputed.1)
}

/// I9: every shorter window lies inside every longer one, the event itself lies inside all of them, and so does today
/// in the last 24 hours. Holds for approximate windows too.
#[must_use]
pub fn windows_nested(features: &FeatureVector) -> bool {
    let value = |name: &str| features.named(name).unwrap_or(f64::NAN);
    let ascending = |names: [&str; 4]| names.map(value).is_sorted();
    value("user_count_1h") >= 1.0
        && value("amount") <= value("user_max_1h")
        && value("amount") <= value("user_spend_today")
        && ascending(["user_count_1h", "user_count_24h", "user_count_7d", "user_count_30d"])
        && ascending(["user_sum_1h", "user_sum_24h", "user_sum_7d", "user_sum_30d"])
        && ascending(["user_max_1h", "user_max_24h", "user_max_7d", "user_max_30d"])
        && value("user_spend_today") <= value("user_sum_24h")
        && (1.0..=value("user_count_24h")).contains(&value("user_merchants_24h"))
}

/// I9: a mean lies between nothing and the maximum of its window, and the maximum is no more than the sum.
#[must_use]
pub fn means_within(features: &FeatureVector) -> bool {
    ["1h", "24h", "7d", "30d"].iter().all(|window| {
        let value = |aggregate: &str| features.named(&format!("user_{aggregate}_{window}")).unwrap_or(f64::NAN);
        let (mean, max, sum) = (value("mean"), value("max"), value("sum"));
        0.0 <= mean && mean <= max && max <= sum
    })
}

/// I9: a login is never seen before it happened, and what follows from one is there only if one is known.
#[must_use]
pub fn logins_as_of(features: &FeatureVector) -> bool {
    let value = |name: &str| features.named(name).unwrap_or(f64::NAN);
    let (minutes, miles, speed) = (value("minutes_since_login"), value("miles_from_login"), value("speed_mph"));
    let known = value("has_last_login") == 1.0;
    let half_way_round = std::f64::consts::PI * EARTH_RADIUS_MILES;
    let located = !miles.is_nan();
    (if known { minutes >= 0.0 } else { minutes.is_nan() })
        && located != speed.is_nan()
        && (!located || (known && (0.0..=half_way_round).contains(&miles) && speed >= 0.0 && speed.is_finite()))
}

/// I7: a profile holds no more than its bounds allow, hourly buckets included.
#[must_use]
pub fn profile_bounded(parts: &ProfileParts, retention: &Retention) -> bool {
    // Hours that a window of a transaction just above the floor may touch, and the one at each end.
    let hours = (retention.dedupe_ms.saturating_add(LONGEST_WINDOW_MS) / HOUR_MS).saturating_add(2);
    parts.recent.len() + parts.older.len() <= retention.max_payments
        && i64::try_from(parts.buckets.len()).is_ok_and(|buckets| buckets <= hours)
        && parts.logins.len() <= retention.max_logins
        && parts.labels.len() <= retention.max_labels
        && parts.entries.len() <= 2
}

/// What a decision says agrees with itself: the risk level is the outcome's, people hear of everything but an approval,
/// and only a block puts the user on a list.
#[must_use]
pub fn decision_coherent(decision: &Decision) -> bool {
    decision.risk_level == RiskLevel::from(decision.outcome)
        && (decision.outcome == Outcome::Approve || decision.alert)
        && (decision.outcome == Outcome::Block || decision.block_entry.is_none())
        && decision.score.is_none_or(|score| (0.0..=1.0).contains(&score))
}

/// I3: every list hit of a decision names what its payment names, so that hits which a replay takes from the record are
/// at least possible.
#[must_use]
pub fn hits_concern(transaction: &Transaction, decision: &Decision) -> bool {
    decision.list_hits.iter().all(|hit| hit.kind.named_by(transaction) == Some(&hit.value))
}

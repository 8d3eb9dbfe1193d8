//! The catalogue: name, type, unit and meaning of every feature, and the version of the whole.

use sha2::{Digest, Sha256};

/// The type that a rule's condition sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureType {
    /// `true` or `false`.
    Bool,
    /// A whole number; compared with literals such as `5`.
    Int,
    /// A number; compared with literals such as `5.0`. May be absent (NaN).
    Double,
}

impl FeatureType {
    /// The CEL name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
        }
    }
}

/// What a feature is measured in; says how messages print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Yes or no.
    Flag,
    /// A number of things.
    Count,
    /// Major units of the base currency, exact to its minor unit.
    BaseMoney,
    /// Minutes.
    Minutes,
    /// Miles.
    Miles,
    /// Miles per hour.
    MilesPerHour,
    /// Hour of the day, 0 to 23.
    Hour,
}

impl Unit {
    /// The name in documents and in the schema version.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Count => "count",
            Self::BaseMoney => "base currency",
            Self::Minutes => "minutes",
            Self::Miles => "miles",
            Self::MilesPerHour => "miles per hour",
            Self::Hour => "hour",
        }
    }
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSpec {
    /// The name in rules and manifests.
    pub name: &'static str,
    /// The type that conditions see.
    pub kind: FeatureType,
    /// What it is measured in.
    pub unit: Unit,
    /// What it says, for people; windows are (t − w, t] with the event itself included.
    pub meaning: &'static str,
}

/// Index of a feature in the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

const fn spec(name: &'static str, kind: FeatureType, unit: Unit, meaning: &'static str) -> FeatureSpec {
    FeatureSpec { name, kind, unit, meaning }
}

use FeatureType::{Bool, Double, Int};
use Unit::{BaseMoney, Count, Flag, Hour, Miles, MilesPerHour, Minutes};

/// Every feature, in slot order. Append only: a slot's place is part of the journal's records.
pub const CATALOGUE: [FeatureSpec; 28] = [
    spec("amount", Double, BaseMoney, "amount of this transaction"),
    spec("hour_of_day", Int, Hour, "hour of the UTC day of this transaction"),
    spec("is_weekend", Bool, Flag, "whether this transaction is on a Saturday or Sunday in UTC"),
    spec("is_first_purchase", Bool, Flag, "whether no earlier transaction of the user is known"),
    spec("user_count_1h", Int, Count, "transactions of the user in the last hour"),
    spec("user_count_24h", Int, Count, "transactions of the user in the last 24 hours"),
    spec("user_count_7d", Int, Count, "transactions of the user in the last 7 days"),
    spec("user_count_30d", Int, Count, "transactions of the user in the last 30 days"),
    spec("user_sum_1h", Double, BaseMoney, "amount spent by the user in the last hour"),
    spec("user_sum_24h", Double, BaseMoney, "amount spent by the user in the last 24 hours"),
    spec("user_sum_7d", Double, BaseMoney, "amount spent by the user in the last 7 days"),
    spec("user_sum_30d", Double, BaseMoney, "amount spent by the user in the last 30 days"),
    spec("user_mean_1h", Double, BaseMoney, "mean amount of the user's transactions in the last hour"),
    spec("user_mean_24h", Double, BaseMoney, "mean amount of the user's transactions in the last 24 hours"),
    spec("user_mean_7d", Double, BaseMoney, "mean amount of the user's transactions in the last 7 days"),
    spec("user_mean_30d", Double, BaseMoney, "mean amount of the user's transactions in the last 30 days"),
    spec("user_max_1h", Double, BaseMoney, "largest transaction of the user in the last hour"),
    spec("user_max_24h", Double, BaseMoney, "largest transaction of the user in the last 24 hours"),
    spec("user_max_7d", Double, BaseMoney, "largest transaction of the user in the last 7 days"),
    spec("user_max_30d", Double, BaseMoney, "largest transaction of the user in the last 30 days"),
    spec("user_merchants_24h", Int, Count, "different merchants that the user paid in the last 24 hours"),
    spec("user_spend_today", Double, BaseMoney, "amount spent by the user in this transaction's UTC day so far"),
    spec("has_last_login", Bool, Flag, "whether a successful login at or before this transaction is known"),
    spec("minutes_since_login", Double, Minutes, "time since the last successful login; absent without one"),
    spec(
        "miles_from_login",
        Double,
        Miles,
        "distance from the last successful login with coordinates; absent without one",
    ),
    spec("speed_mph", Double, MilesPerHour, "miles_from_login over the time since that login, of at least one second"),
    spec("block_list_hits", Int, Count, "block list entries that bind this transaction"),
    spec("allow_list_hits", Int, Count, "allow list entries that bind this transaction"),
];

/// Raised when a feature is computed differently under the same name, type and unit.
const COMPUTATION_REVISION: u32 = 1;

/// The slot and specification of a name.
#[must_use]
pub fn lookup(name: &str) -> Option<(Slot, &'static FeatureSpec)> {
    CATALOGUE.iter().zip(0..).find(|(spec, _)| spec.name == name).map(|(spec, index)| (Slot(index), spec))
}

/// SHA-256 over names, types, units and the revision of the computation: the feature-schema version of I8.
#[must_use]
pub fn schema_version() -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(COMPUTATION_REVISION.to_be_bytes());
    for spec in &CATALOGUE {
        for part in [spec.name, spec.kind.name(), spec.unit.name()] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (index, spec) in CATALOGUE.iter().enumerate() {
            let (slot, found) = lookup(spec.name).expect("in the catalogue");
            assert_eq!((slot.index(), found.name), (index, spec.name));
        }
        assert!(lookup("user_count_2h").is_none());
    }
}

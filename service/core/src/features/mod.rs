//! Features: what rules and the model see of an event and its history, as typed slots of one vector.
//!
//! The catalogue is the only place that names a feature. Rules and models refer to slots by these names, and a model is
//! refused unless it was trained on the same schema version (I8).

mod catalogue;
mod compute;

pub use catalogue::{CATALOGUE, FeatureSpec, FeatureType, Slot, Unit, lookup, schema_version};
pub use compute::{Computed, compute, compute_alone, compute_idle};

/// Number of slots.
pub const SLOTS: usize = CATALOGUE.len();

/// The value of every feature for one event.
///
/// All types share one representation: a boolean is 0 or 1, an integer is exact up to 2⁵³, and a feature that has no
/// value for this event (no login, no coordinates) is NaN, with which every comparison is false.
#[derive(Clone, Copy, Debug)]
pub struct FeatureVector(pub [f64; SLOTS]);

impl FeatureVector {
    /// The value in a slot.
    #[must_use]
    pub fn get(&self, slot: Slot) -> f64 {
        self.0[slot.index()]
    }

    /// The value of a feature by name, `None` if the catalogue has no such feature.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<f64> {
        lookup(name).map(|(slot, _)| self.get(slot))
    }
}

impl PartialEq for FeatureVector {
    /// Bit for bit, so that absent values (NaN) equal each other and a replay can be compared exactly (I3).
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

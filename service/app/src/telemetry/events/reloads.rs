//! What is counted when rules and model are read again.

use crate::telemetry::metrics::Metrics;

/// What came of an attempt to reload rules and model; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// They are in force.
    Adopted,
    /// They are what was in force.
    Unchanged,
    /// Something is wrong with them; what was in force stays.
    Refused,
}

impl ReloadOutcome {
    /// Every outcome, with its name in labels.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Adopted, "adopted"), (Self::Unchanged, "unchanged"), (Self::Refused, "refused")];
}

/// Rules and model were read again.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// What came of it.
    pub outcome: ReloadOutcome,
}

impl Reloaded {
    /// Records the event.
    pub fn emit(self, metrics: &Metrics) {
        metrics.reloads(self.outcome).increment(1);
        metrics.handles().reload_failed.set(if self.outcome == ReloadOutcome::Refused { 1.0 } else { 0.0 });
    }
}

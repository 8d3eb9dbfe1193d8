//! What is measured rather than counted: readiness, and how far and how fast projections follow.

use super::super::metrics::Metrics;
use super::approximate;

/// Whether the service can take traffic, and each of its components, sampled.
#[derive(Clone, Debug)]
pub struct Ready<'a> {
    /// All in all.
    pub ready: bool,
    /// By name, as `/readyz` has them.
    pub components: &'a [(&'static str, bool)],
}

impl Ready<'_> {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let level = |ready| if ready { 1.0 } else { 0.0 };
        metrics.handles().ready.set(level(self.ready));
        for (component, ready) in self.components {
            metrics.gauge("verdict_component_ready", "component", component).set(level(*ready));
        }
    }
}

/// How far a projection is behind the journal, sampled.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionLag {
    /// Its name, such as `review`.
    pub projection: &'static str,
    /// Durable records that it has not read.
    pub records: u64,
    /// How long the oldest of them has waited, in seconds; 0 if there is none.
    pub seconds: f64,
    /// Records that it has come to reflect since the start; never fewer than before.
    pub reflected: u64,
}

impl ProjectionLag {
    /// Records the level.
    pub fn emit(self, metrics: &Metrics) {
        let Self { projection, records, seconds, reflected } = self;
        metrics.gauge("verdict_projection_lag_records", "projection", projection).set(approximate(records));
        metrics.gauge("verdict_projection_age_seconds", "projection", projection).set(seconds);
        metrics.counter("verdict_projection_records_total", "projection", projection).absolute(reflected);
    }
}

//! Metrics, tracing, health and the one clock.

pub mod clock;

//! Metrics, tracing, health and the one clock.

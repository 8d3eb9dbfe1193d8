//! Metrics, tracing, health and the one clock.
//!
//! Names of metrics live in `metrics` and nowhere else; other rooms emit the structs of [`events`]. Nothing here is
//! global but the log subscriber, which `tracing` wants to be.

pub mod clock;
pub mod events;
pub mod health;
mod logging;
mod metrics;

pub use logging::init as init_logging;
pub use metrics::Metrics;

//! What the load generator, the echo baseline and the benches share.
//!
//! Nothing here is part of the service, and the service never depends on it. The runner `load-tests/run` starts these
//! binaries, pins them to cores and compares them in one run; no binary here judges a ratio between processes.

pub mod clock;
pub mod connection;
pub mod latencies;
pub mod requests;
pub mod single;
pub mod tally;
pub mod zipf;

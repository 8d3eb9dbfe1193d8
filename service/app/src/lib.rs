//! Verdict: decides in real time whether a payment goes through.
//!
//! Read `app` first: it is the only place that wires the rooms together. Then any room on its own.

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod ingress;
pub mod journal;
pub mod kafka;
pub mod model;
pub mod projections;
pub mod rulebook;
#[cfg(test)]
mod simulation;
mod sqlite;
pub mod telemetry;
pub mod traffic;
pub mod wire;

//! The pure domain of Verdict: money, events, profiles, features, rules, decisions.
//!
//! Nothing in this crate does I/O, reads a clock, spawns a task or takes a lock (I5): time, randomness and
//! configuration are arguments, effects are returned as data. The service around it (`verdict`) does the rest.

pub mod alert;
pub mod decision;
pub mod event;
pub mod features;
pub mod geo;
pub mod invariant;
pub mod lists;
pub mod money;
pub mod policy;
pub mod profile;
pub mod rules;
pub mod time;

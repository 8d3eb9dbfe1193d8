//! The whole service in a simulation: actors, core and HTTP handlers as in production, over a disk, a store, a model and clocks
//! that fail as a seed has it, on one thread in virtual time.
//!
//! A seed is a story of requests, retries, crashes and stops; after every step and at every rest the invariants are
//! checked against a naive history that shares no code with the service. A seed that breaks one is printed, and told
//! again it breaks it again:
//!
//! - `VERDICT_SEED=7` tells one seed, `VERDICT_STEPS=20` only its first 20 steps and the end;
//! - `VERDICT_SEEDS=5000` tells that many, `VERDICT_FIRST_SEED=1000000` from another one on.
//!
//! It refuses to sleep, to read a clock, to start a thread inside a story, and to use a file.

mod alerts;
mod audit;
mod batches;
mod clients;
mod events;
mod followers;
#[path = "../../../core/tests/oracle/history.rs"]
#[expect(dead_code, reason = "the core's own tests ask more of it")]
mod history;
mod lists;
#[path = "../../../core/tests/oracle/naive.rs"]
mod naive;
mod plan;
mod ports;
mod register;
mod rest;
mod senders;
mod sent;
mod service;
mod step;
mod story;
mod tests;
mod web;

//! What tests from outside share: a running `verdict` in a folder and on a port of its own, and a small HTTP client.
//! Knows the service only as users do: its command line, its files, its answers.
//!
//! ```no_run
//! let service = verdict_tests::Service::builder().arg("--model").arg("").start();
//! let answer = service.post("/v1/decide", r#"{"transaction_id": "t-1"}"#);
//! assert_eq!(answer.status, 422, "{}", answer.body);
//! let folder = service.terminate().folder; // SIGTERM; the data stays
//! let again = verdict_tests::Service::builder().folder(folder).start();
//! ```
//!
//! The binary is not built by Cargo for these tests, as it belongs to another package: `make test` builds it first, and
//! a binary older than its sources is refused.

#![expect(clippy::panic, clippy::expect_used, reason = "a panic is how a test fails")]

mod answer;
mod binary;
mod clock;
mod command;
mod events;
mod follower;
mod held;
mod lock;
pub mod servers;
mod service;

pub use answer::{Answer, Client};
pub use binary::{verdict, workspace};
pub use clock::{DAY_MS, Stopwatch, now_ms, rfc3339, until, within};
pub use command::{Ended, command, finish, replay, run, sqlite, verify};
pub use events::{Payment, label, lasting, login, setting, text_setting, timeless};
pub use follower::{Follower, Told};
pub use held::HeldThread;
pub use lock::Lock;
pub use service::{Builder, Service, Stopped};

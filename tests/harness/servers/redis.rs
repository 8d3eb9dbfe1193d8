//! A Redis server for tests.

use super::attendant::{Attendant, faults};
use serde_json::json;

/// A server on 127.0.0.1 that writes down what it answers: a kill loses nothing.
#[derive(Debug)]
pub struct Redis {
    attendant: Attendant,
}

faults!(Redis);

impl Redis {
    /// Starts an empty server and waits until it is ready; well under a second.
    ///
    /// # Panics
    /// It does not start; the message holds the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self { attendant: Attendant::start("redis", &json!({})) }
    }

    /// `redis://127.0.0.1:PORT/`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.attendant.text("url")
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url().trim_start_matches("redis://").trim_end_matches('/')
    }
}

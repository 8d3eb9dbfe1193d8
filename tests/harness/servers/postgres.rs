//! A PostgreSQL server for tests, and databases in it.

use super::attendant::{Attendant, faults};
use serde_json::json;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cluster on 127.0.0.1 with the user `verdict`, who may do anything in it.
#[derive(Debug)]
pub struct Postgres {
    attendant: Attendant,
}

faults!(Postgres);

impl Postgres {
    /// Starts a server with the empty database `verdict` and waits until it is ready; 2 s.
    ///
    /// # Panics
    /// It does not start; the message holds the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self { attendant: Attendant::start("postgres", &json!({})) }
    }

    /// The server that the tests of this binary share; started by whoever asks first. Do no harm to it.
    #[must_use]
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The URL of the database `verdict`, with the password.
    #[must_use]
    pub fn url(&self) -> &str {
        self.attendant.text("url")
    }

    /// Makes an empty database; its URL.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    #[track_caller]
    pub fn fresh_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("fresh_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let made = self.attendant.order(&json!({ "do": "database", "name": name }));
        made["url"].as_str().expect("the URL of what was made").to_owned()
    }
}

//! `[postgres]`: the database that people look at, and how much is kept in it.

use super::layers::suggestion;
use super::secret::Secret;
use super::section::Section;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;

/// The database, and how much is kept in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...`.
    pub url: Secret,
    /// Days of `decisions` that are kept before today.
    pub decision_days: u32,
    /// Connections at most, over all that the service does with the database.
    pub max_connections: u32,
    /// Whether a start brings the tables up to this release, or refuses those that are behind.
    pub migrate: bool,
}

impl PostgresConfig {
    /// The settings beside this URL, all at their defaults.
    #[must_use]
    pub const fn at(url: Secret) -> Self {
        Self { url, decision_days: 30, max_connections: 8, migrate: false }
    }

    /// `None` when no layer has the section: alerts and reviews are in a file of the data folder then.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let place = section.place();
        let given = section.given("url").or_else(|| section.given("url_file"));
        let url = section.secret("url");
        let default = Self::at(Secret::default());
        let config = Self {
            decision_days: section.integer("decision_days", default.decision_days, 1..=3_650),
            // One is the projection's.
            max_connections: section.integer("max_connections", default.max_connections, 2..=100),
            migrate: section.flag("migrate", default.migrate),
            url: url.clone().unwrap_or_default(),
        };
        match (&given, &url, place) {
            (Some(setting), Some(url), _) => {
                if let Err(expected) = check(url) {
                    section.fault("url", setting, &expected);
                }
            }
            (None, _, Some(place)) => section.fault_at(
                "url",
                place,
                "expected `url` such as \"postgres://verdict@localhost/verdict\", or `url_file`: without it nothing of \
                 [postgres] is used",
            ),
            // A fault that was reported, or no section.
            _ => {}
        }
        section.end();
        url.map(|_| config)
    }
}

/// What may follow the `?`. The library takes others with a warning that shows their value, which may be a password with
/// its name misspelled.
const PARAMETERS: [&str; 14] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
    "ssl-mode",
];

/// What is wrong with a URL; no value of it is quoted.
fn check(url: &Secret) -> Result<(), String> {
    let shape =
        "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=verify-full where the network is not trusted";
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
        return Err(format!("expected {shape}"));
    }
    let parameters = url.expose().split_once('?').map_or("", |(_, rest)| rest);
    let names = parameters.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty());
    if let Some(unknown) = names.into_iter().find(|name| !PARAMETERS.contains(name)) {
        let hint = suggestion(unknown, &PARAMETERS, str::to_owned);
        // What is unknown may be the rest of a password.
        return Err(format!("unknown parameter{hint}; in a password, `?`, `&` and `@` are written %3F, %26 and %40"));
    }
    PgConnectOptions::from_str(url.expose())
        .map(drop)
        .map_err(|_| format!("expected {shape}; found one that cannot be read"))
}

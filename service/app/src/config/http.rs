//! `[http]`: where the API listens and who may call it. Never shows a key or its hash.

use super::layers::{Setting, suggestion};
use super::section::Section;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Ask for decisions.
    Decide,
    /// Send logins, labels and batches of events.
    Ingest,
    /// Read alerts and profiles, write reviews.
    Review,
    /// Change lists. It implies no other scope.
    Admin,
}

impl Scope {
    /// Every scope, with its name in the configuration.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Decide, "decide"), (Self::Ingest, "ingest"), (Self::Review, "review"), (Self::Admin, "admin")];

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Ingest => "ingest",
            Self::Review => "review",
            Self::Admin => "admin",
        }
    }
}

/// One API key. Only its hash is known.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyConfig {
    /// Who calls with it, for logs; unique.
    pub name: Box<str>,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What it may do; not empty, sorted, without repeats. No scope implies another.
    pub scopes: Vec<Scope>,
    /// How fast it may call; `None` leaves that to the service's own limits.
    pub rate: Option<RateConfig>,
}

/// How fast a key may call: a bucket that holds `burst` requests and fills at `per_sec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// Requests a second, in the long run.
    pub per_sec: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

impl fmt::Debug for ApiKeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ApiKeyConfig");
        shown.field("name", &self.name).field("scopes", &self.scopes).field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that parse and answer requests.
    pub workers: usize,
    /// Connections open together, in all; more wait to be accepted.
    pub max_connections: usize,
    /// Time that a stop may take in all, in seconds; the process then ends whatever it still waits for.
    pub shutdown_secs: u32,
    /// Keys that callers present; empty leaves the API open, which only a loopback address may be.
    pub api_keys: Vec<ApiKeyConfig>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            workers: 2,
            max_connections: 10_000,
            // Below the 30 s after which Kubernetes kills, so that the log can still say what hung.
            shutdown_secs: 25,
            api_keys: Vec::new(),
        }
    }
}

impl HttpConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            listen: section.text("listen", default.listen, |text| {
                text.parse().map_err(|_| "an IP address and a port such as \"127.0.0.1:8080\"")
            }),
            workers: section.integer("workers", default.workers, 1..=256),
            max_connections: section.integer("max_connections", default.max_connections, 1..=1_000_000),
            shutdown_secs: section.integer("shutdown_secs", default.shutdown_secs, 1..=3600),
            api_keys: api_keys(&mut section),
        };
        section.end();
        config
    }
}

/// Most requests a second, and at once, that a key can be held to: beyond what one service answers.
const MOST_RATE: u32 = 1_000_000;

/// Where the parts of a value inside `api_keys` are reported: at themselves in the file, else at the variable.
struct Keys<'s, 'a> {
    section: &'s mut Section<'a>,
    setting: Setting<'a>,
}

impl Keys<'_, '_> {
    fn fault(&mut self, value: &Spanned<impl Sized>, message: &str) {
        let place = match &self.setting {
            Setting::Toml(_) => self.section.layers().place_of_span(value.span()),
            Setting::Text(text) => text.place.clone(),
        };
        self.section.fault_at("api_keys", place, message);
    }
}

fn api_keys(section: &mut Section<'_>) -> Vec<ApiKeyConfig> {
    let Some(setting) = section.given("api_keys") else { return Vec::new() };
    let mut keys = Keys { section, setting: setting.clone() };
    match setting {
        Setting::Toml(value) => read_keys(&mut keys, value),
        Setting::Text(text) => match DeValue::parse(&text.text) {
            Ok(value) => read_keys(&mut keys, &value),
            Err(error) => {
                let message = format!("expected a TOML array of tables: {}", error.message());
                keys.section.fault_at("api_keys", text.place.clone(), &message);
                Vec::new()
            }
        },
    }
}

fn read_keys(keys: &mut Keys<'_, '_>, value: &Spanned<DeValue<'_>>) -> Vec<ApiKeyConfig> {
    let Some(array) = value.get_ref().as_array() else {
        let found = value.get_ref().type_str();
        keys.fault(
            value,
            &format!("expected an array of tables {{name, sha256, scopes}}, found a value of type {found}"),
        );
        return Vec::new();
    };
    let mut read: Vec<ApiKeyConfig> = Vec::new();
    for item in array {
        let Some(table) = item.get_ref().as_table() else {
            let found = item.get_ref().type_str();
            keys.fault(item, &format!("expected a table {{name, sha256, scopes}}, found a value of type {found}"));
            continue;
        };
        let Some(key) = read_key(keys, item, table) else { continue };
        if read.iter().any(|other| other.name == key.name) {
            keys.fault(item, &format!("the name `{}` is used twice; names are unique", key.name));
        } else if let Some(other) = read.iter().find(|other| other.sha256 == key.sha256) {
            let message =
                format!("`{}` and `{}` have the same sha256; give every caller a key of its own", other.name, key.name);
            keys.fault(item, &message);
        } else {
            read.push(key);
        }
    }
    read
}

fn read_key(keys: &mut Keys<'_, '_>, item: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Option<ApiKeyConfig> {
    const KNOWN: [&str; 5] = ["name", "sha256", "scopes", "rate_per_sec", "burst"];
    for (key, _) in table.iter().filter(|(key, _)| !KNOWN.contains(&key.get_ref().as_ref())) {
        let hint = suggestion(key.get_ref(), &KNOWN, str::to_owned);
        keys.fault(key, &format!("unknown key `{}`{hint}", key.get_ref()));
    }
    let mut part = |name: &str| {
        let value = table.get(name);
        if value.is_none() {
            keys.fault(item, &format!("`{name}` is missing"));
        }
        value
    };
    let (name, sha256, scopes) = (part("name"), part("sha256"), part("scopes"));
    let name = name.and_then(|value| {
        let name = value.get_ref().as_str().filter(|name| !name.is_empty());
        name.map(Box::from).or_else(|| {
            keys.fault(value, "expected `name` to be a string that is not empty");
            None
        })
    });
    // The value is not quoted: it may be the key itself, pasted in the wrong place.
    let sha256 = sha256.and_then(|value| {
        value.get_ref().as_str().and_then(hash_from_hex).or_else(|| {
            keys.fault(value, "expected `sha256` to be 64 hexadecimal digits: `printf %s KEY | sha256sum`");
            None
        })
    });
    let scopes = scopes.and_then(|value| read_scopes(keys, value));
    let rate = read_rate(keys, table);
    Some(ApiKeyConfig { name: name?, sha256: sha256?, scopes: scopes?, rate: rate? })
}

/// The rate, `Some(None)` without one, `None` after a fault.
fn read_rate(keys: &mut Keys<'_, '_>, table: &DeTable<'_>) -> Option<Option<RateConfig>> {
    let mut sound = true;
    let mut number = |keys: &mut Keys<'_, '_>, name: &str| {
        let value = table.get(name)?;
        let digits = match value.get_ref() {
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        let found =
            digits.and_then(|number| u32::try_from(number).ok()).filter(|number| (1..=MOST_RATE).contains(number));
        if found.is_none() {
            keys.fault(value, &format!("expected `{name}` to be an integer from 1 to {MOST_RATE}"));
            sound = false;
        }
        found
    };
    let (per_sec, burst) = (number(keys, "rate_per_sec"), number(keys, "burst"));
    if let (Some(value), false) = (table.get("burst"), table.contains_key("rate_per_sec")) {
        keys.fault(value, "expected `rate_per_sec` beside `burst`; without it the key has no rate");
        sound = false;
    }
    sound.then(|| per_sec.map(|per_sec| RateConfig { per_sec, burst: burst.unwrap_or(per_sec) }))
}

fn read_scopes(keys: &mut Keys<'_, '_>, value: &Spanned<DeValue<'_>>) -> Option<Vec<Scope>> {
    let names = Scope::ALL.map(|(_, name)| name);
    let Some(array) = value.get_ref().as_array().filter(|array| !array.is_empty()) else {
        keys.fault(value, &format!("expected `scopes` to be an array of {}", names.join(", ")));
        return None;
    };
    let mut scopes = Vec::new();
    let mut sound = true;
    for item in array {
        let found = item.get_ref().as_str().unwrap_or_default();
        if let Some((scope, _)) = Scope::ALL.iter().find(|(_, name)| *name == found) {
            scopes.push(*scope);
        } else {
            let hint = suggestion(found, &names, str::to_owned);
            keys.fault(item, &format!("expected a scope ({}), found {found:?}{hint}", names.join(", ")));
            sound = false;
        }
    }
    scopes.sort_unstable();
    scopes.dedup();
    sound.then_some(scopes)
}

fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

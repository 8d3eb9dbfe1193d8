//! Configuration: one TOML file, the environment and the command line, read once, validated whole.
//!
//! Every component gets its own small struct by value; there is no global. All faults are reported together, each with
//! the place where it stands. This is the one room that reads the environment. Paths are relative to the working
//! directory, wherever the file is.
//!
//! Layers, each over the one before: defaults, the file, `VERDICT__SECTION__KEY` variables, flags. A variable or flag of
//! a string setting is the bare text; any other is written as in TOML.

mod error;
mod http;
mod kafka;
mod layers;
mod parts;
mod postgres;
mod redis;
mod secret;
mod section;

pub use error::{ConfigError, ConfigErrors, Place};
pub use http::{ApiKeyConfig, HttpConfig, RateConfig, Scope};
pub use kafka::{KafkaConfig, refused_property};
pub use parts::{ActorsConfig, DataConfig, DecideConfig, ModelConfig, RulesConfig};
pub use postgres::PostgresConfig;
pub use redis::RedisConfig;
pub use secret::Secret;

use layers::{File, Findings, Layers, PREFIX, TextSetting, suggestion};
use section::{Section, variable};
use std::path::{Path, PathBuf};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "verdict.toml";

/// Log filter when `RUST_LOG` is not set; the HTTP server announces its threads, which `listening` says better.
const DEFAULT_LOG_FILTER: &str = "info,actix_server=warn";

const SECTIONS: [&str; 9] = ["http", "data", "actors", "decide", "rules", "model", "redis", "kafka", "postgres"];

/// The whole configuration, valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[http]`.
    pub http: HttpConfig,
    /// `[data]`.
    pub data: DataConfig,
    /// `[actors]`.
    pub actors: ActorsConfig,
    /// `[decide]`.
    pub decide: DecideConfig,
    /// `[rules]`.
    pub rules: RulesConfig,
    /// `[model]`.
    pub model: ModelConfig,
    /// `[kafka]`; `None` keeps everything on this machine.
    pub kafka: Option<KafkaConfig>,
    /// `[postgres]`; `None` keeps alerts and reviews in a file of the data folder.
    pub postgres: Option<PostgresConfig>,
    /// `[redis]`; `None` keeps no mirror of the lists.
    pub redis: Option<RedisConfig>,
    /// Log directives in the syntax of `RUST_LOG`, which sets them; `None` stands for `info` and a quiet HTTP server.
    pub log_filter: Option<String>,
}

/// A setting given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as people type it, such as `--listen`.
    pub name: &'static str,
    /// The setting that it overrides, such as `("http", "listen")`.
    pub setting: (&'static str, &'static str),
    /// Its value.
    pub value: String,
}

impl Config {
    /// The log directives to start with.
    #[must_use]
    pub fn log_filter(&self) -> &str {
        self.log_filter.as_deref().unwrap_or(DEFAULT_LOG_FILTER)
    }

    /// Reads the file and the environment. Without a path, [`DEFAULT_FILE`] is read if it exists.
    ///
    /// # Errors
    /// Every fault of every layer, and a file that was named but cannot be read.
    pub fn load(path: Option<&Path>, flags: Vec<Flag>) -> Result<Self, ConfigErrors> {
        let named = path.is_some();
        let path = path.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        let shown = path.display().to_string();
        let mut faults = Vec::new();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let place = Place::File { path: shown.as_str().into(), line: 0, column: 0 };
                faults.push(ConfigError { place, message: format!("cannot read the configuration: {error}") });
                None
            }
        };
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => env.push((name, value)),
                Err(_) if name.starts_with(PREFIX) => {
                    let place = Place::Variable(name.into());
                    faults.push(ConfigError { place, message: "expected UTF-8, found other bytes".to_owned() });
                }
                Err(_) => {}
            }
        }
        let file = text.as_deref().map(|text| (shown.as_str(), text));
        match Self::from_layers(file, env.into_iter(), flags) {
            Ok(config) => ConfigErrors::from_found(faults).map_or(Ok(config), Err),
            Err(errors) => {
                faults.extend_from_slice(errors.all());
                ConfigErrors::from_found(faults).map_or(Err(errors), Err)
            }
        }
    }

    /// Builds a configuration from a file's (name, text) and environment variables; of files it reads only those that hold a secret.
    ///
    /// # Errors
    /// Every fault, in order of place.
    pub fn from_sources(
        file: Option<(&str, &str)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::from_layers(file, env, Vec::new())
    }

    /// Like [`Config::from_sources`], with flags on top.
    ///
    /// # Errors
    /// Every fault, in order of place.
    pub fn from_layers(
        file: Option<(&str, &str)>,
        env: impl Iterator<Item = (String, String)>,
        flags: Vec<Flag>,
    ) -> Result<Self, ConfigErrors> {
        let mut findings = Findings::default();
        let file = file.map(|(path, text)| File::parse(path, text, &mut findings));
        let mut environment = Environment::read(env, &mut findings);
        environment.texts.extend(flags.into_iter().map(TextSetting::from));
        let layers = Layers { file, texts: environment.texts };
        check_sections(&layers, &mut findings);
        let config = Self {
            http: HttpConfig::read(Section::new("http", &layers, &mut findings)),
            data: DataConfig::read(Section::new("data", &layers, &mut findings)),
            actors: ActorsConfig::read(Section::new("actors", &layers, &mut findings)),
            decide: DecideConfig::read(Section::new("decide", &layers, &mut findings)),
            rules: RulesConfig::read(Section::new("rules", &layers, &mut findings)),
            model: ModelConfig::read(Section::new("model", &layers, &mut findings), environment.ort_dylib_path),
            kafka: KafkaConfig::read(Section::new("kafka", &layers, &mut findings)),
            postgres: PostgresConfig::read(Section::new("postgres", &layers, &mut findings)),
            redis: RedisConfig::read(Section::new("redis", &layers, &mut findings)),
            log_filter: environment.log_filter,
        };
        config.cross_check(&layers, &mut findings);
        ConfigErrors::from_found(findings.into_errors()).map_or(Ok(config), Err)
    }

    /// What concerns more than one setting. A check is left out when one of its settings is at fault by itself.
    fn cross_check(&self, layers: &Layers<'_>, findings: &mut Findings) {
        let mut check = |settings: &[&'static str], holds: bool, message: String| {
            if holds || !findings.trusts(settings) {
                return;
            }
            // Defaults agree with one another, so at least one of the settings was given.
            let given = settings.iter().find_map(|name| {
                let (section, key) = name.split_once('.')?;
                layers.find(section, key).map(|setting| (name, layers.place(&setting)))
            });
            if let Some((name, place)) = given {
                findings.push_setting(name, place, &message);
            }
        };
        let data = &self.data;
        let (kept_hours, open_hours) =
            (u64::from(data.dedupe_days) * 24, u64::from(data.max_age_days) * 24 + u64::from(data.max_ahead_hours));
        check(
            &["data.dedupe_days", "data.max_age_days", "data.max_ahead_hours"],
            kept_hours >= open_hours,
            format!(
                "ids are remembered for {kept_hours} h (dedupe_days), but events may be {open_hours} h apart \
                 (max_age_days and max_ahead_hours): a duplicate could pass as new; set dedupe_days to at least {}",
                open_hours.div_ceil(24)
            ),
        );
        check(
            &["actors.shards", "data.partitions"],
            self.actors.shards <= data.partitions,
            format!(
                "expected at most one shard a partition, found {} shards and {} partitions",
                self.actors.shards, data.partitions
            ),
        );
        check(
            &["http.listen", "http.api_keys"],
            self.http.listen.ip().is_loopback() || !self.http.api_keys.is_empty(),
            format!(
                "{} can be reached from other machines, but there are no API keys; add an entry to http.api_keys, \
                 or listen on 127.0.0.1",
                self.http.listen
            ),
        );
    }
}

impl From<Flag> for TextSetting {
    fn from(flag: Flag) -> Self {
        let (section, key) = flag.setting;
        Self {
            section: section.to_owned(),
            key: key.to_owned(),
            text: flag.value,
            place: Place::Flag(flag.name.into()),
        }
    }
}

/// What the environment says.
struct Environment {
    texts: Vec<TextSetting>,
    log_filter: Option<String>,
    ort_dylib_path: Option<PathBuf>,
}

impl Environment {
    fn read(env: impl Iterator<Item = (String, String)>, findings: &mut Findings) -> Self {
        let mut read = Self { texts: Vec::new(), log_filter: None, ort_dylib_path: None };
        for (name, text) in env {
            if let Some(rest) = name.strip_prefix(PREFIX) {
                read.texts.extend(override_of(&name, rest, text, findings));
            } else if name == "ORT_DYLIB_PATH" && !text.is_empty() {
                read.ort_dylib_path = Some(PathBuf::from(text));
            } else if name == "RUST_LOG" && !text.is_empty() {
                match tracing_subscriber::EnvFilter::try_new(&text) {
                    Ok(_) => read.log_filter = Some(text),
                    Err(error) => findings.push(
                        Place::Variable(name.into()),
                        format!("expected log directives, found {text:?}: {error}"),
                    ),
                }
            }
        }
        read
    }
}

fn override_of(name: &str, rest: &str, text: String, findings: &mut Findings) -> Option<TextSetting> {
    let place = Place::Variable(name.into());
    let Some((section, key)) = rest.split_once("__") else {
        findings.push(place, format!("unknown variable; overrides are named {PREFIX}SECTION__KEY"));
        return None;
    };
    let (lower_section, lower_key) = (section.to_lowercase(), key.to_lowercase());
    if section != section.to_uppercase() || key != key.to_uppercase() {
        let meant = variable(&lower_section, &lower_key);
        findings.push(place, format!("unknown variable; names are in capitals: `{meant}`"));
        return None;
    }
    if !SECTIONS.contains(&lower_section.as_str()) {
        let hint = suggestion(&lower_section, &SECTIONS, |section| variable(section, &lower_key));
        findings.push(place, format!("unknown section `{lower_section}`{hint}"));
        return None;
    }
    Some(TextSetting { section: lower_section, key: lower_key, text, place })
}

fn check_sections(layers: &Layers<'_>, findings: &mut Findings) {
    for (name, value) in layers.file.iter().flat_map(File::table) {
        let section: &str = name.get_ref();
        if !SECTIONS.contains(&section) {
            let hint = suggestion(section, &SECTIONS, |known| format!("[{known}]"));
            findings.push_setting(section, layers.place_of_span(name.span()), &format!("unknown section{hint}"));
        } else if !value.get_ref().is_table() {
            let found = value.get_ref().type_str();
            let message = format!("expected a section, written [{section}], found a value of type {found}");
            findings.push_setting(section, layers.place_of_span(value.span()), &message);
        }
    }
}

#[cfg(test)]
mod tests;

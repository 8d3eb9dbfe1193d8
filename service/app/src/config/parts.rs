//! The sections with a few plain keys each: `[data]`, `[actors]`, `[decide]`, `[rules]`, `[model]`. Bounds that
//! concern one key are here; what concerns two is in the parent.

use super::section::Section;
use std::path::PathBuf;

/// `[data]`: what is kept on disk, and which event times are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// Folder of the journal, the profiles and the archives.
    pub dir: PathBuf,
    /// How long an id is remembered, in days of event time.
    pub dedupe_days: u32,
    /// Number of journal partitions; only read when the journal is created.
    pub partitions: u16,
    /// Oldest accepted event against receipt, in days.
    pub max_age_days: u32,
    /// Furthest accepted event ahead of receipt, in hours.
    pub max_ahead_hours: u32,
    /// Time between two checkpoints, in seconds: the longer, the more is replayed at a start, and the less they
    /// cost under load.
    pub checkpoint_secs: u32,
    /// Most block and allow entries that may be asked for; more are refused with 422 (I7).
    pub max_list_entries: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data"),
            dedupe_days: 8,
            partitions: 12,
            max_age_days: 7,
            max_ahead_hours: 24,
            checkpoint_secs: 30,
            max_list_entries: 100_000,
        }
    }
}

impl DataConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            dir: section.path("dir", default.dir),
            dedupe_days: section.integer("dedupe_days", default.dedupe_days, 1..=3660),
            partitions: section.integer("partitions", default.partitions, 1..=1024),
            max_age_days: section.integer("max_age_days", default.max_age_days, 1..=3650),
            max_ahead_hours: section.integer("max_ahead_hours", default.max_ahead_hours, 0..=240),
            checkpoint_secs: section.integer("checkpoint_secs", default.checkpoint_secs, 1..=3600),
            max_list_entries: section.integer("max_list_entries", default.max_list_entries, 0..=10_000_000),
        };
        section.end();
        config
    }
}

/// `[actors]`: how the work is shared out, and how many users are actors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorsConfig {
    /// Number of shards, each a thread; at most one a partition.
    pub shards: u16,
    /// Most users that are actors, over all shards; the others are bytes in memory (I7).
    pub hot_users: u32,
    /// Time after which a user who was not heard of is no actor any more, in seconds.
    pub idle_secs: u32,
}

impl Default for ActorsConfig {
    fn default() -> Self {
        Self { shards: 2, hot_users: 100_000, idle_secs: 300 }
    }
}

impl ActorsConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            shards: section.integer("shards", default.shards, 1..=1024),
            hot_users: section.integer("hot_users", default.hot_users, 1..=100_000_000),
            idle_secs: section.integer("idle_secs", default.idle_secs, 1..=604_800),
        };
        section.end();
        config
    }
}

/// `[decide]`: bounds of a decision over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecideConfig {
    /// Deadline of a request that names none, in milliseconds.
    pub deadline_ms: u32,
    /// Requests in flight over all shards; more are refused with 429 (I7).
    pub max_in_flight: usize,
}

impl Default for DecideConfig {
    fn default() -> Self {
        Self { deadline_ms: 200, max_in_flight: 4096 }
    }
}

impl DecideConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            deadline_ms: section.integer("deadline_ms", default.deadline_ms, 1..=60_000),
            max_in_flight: section.integer("max_in_flight", default.max_in_flight, 1..=1_000_000),
        };
        section.end();
        config
    }
}

/// `[rules]`: which rule set decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesConfig {
    /// Folder with `features.yaml`, `fx.yaml` and a folder a rule set.
    pub dir: PathBuf,
    /// Name of the rule set: a folder in `dir`.
    pub set: String,
    /// Whether rules and model are reloaded when their files change; SIGHUP reloads them in any case.
    pub watch: bool,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("rules"), set: "default".to_owned(), watch: true }
    }
}

impl RulesConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            dir: section.path("dir", default.dir),
            set: section.text("set", default.set, |text| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                let named = !text.is_empty() && text.bytes().all(plain);
                if named { Ok(text.to_owned()) } else { Err("the name of a rule set: letters, digits, `-` and `_`") }
            }),
            watch: section.flag("watch", default.watch),
        };
        section.end();
        config
    }
}

/// `[model]`: which model scores, and the library that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// Folder with `model.onnx` and `manifest.json`; `None`, written `dir = ""`, decides by rules alone.
    pub dir: Option<PathBuf>,
    /// The ONNX Runtime library; `None` looks beside the binary, then in the project's cache folder. Where no layer
    /// names it, the variable `ORT_DYLIB_PATH` does.
    pub runtime_library: Option<PathBuf>,
    /// Rows scored together at most, 1 to 256; 1 scores row by row. Rows never wait for a batch to fill.
    pub max_batch: u16,
}

impl Default for ModelConfig {
    fn default() -> Self {
        // Beyond 64 a row of the shipped model gets no cheaper (REPORT.md, "Model"), and the first would wait longer.
        Self { dir: Some(PathBuf::from("models/default")), runtime_library: None, max_batch: 64 }
    }
}

impl ModelConfig {
    pub(super) fn read(mut section: Section<'_>, ort_dylib_path: Option<PathBuf>) -> Self {
        let default = Self::default();
        let config = Self {
            dir: section.text("dir", default.dir, |text| Ok((!text.is_empty()).then(|| PathBuf::from(text)))),
            runtime_library: section.text("runtime_library", ort_dylib_path, |text| {
                if text.is_empty() { Err("the path of libonnxruntime.so") } else { Ok(Some(PathBuf::from(text))) }
            }),
            max_batch: section.integer("max_batch", default.max_batch, 1..=256),
        };
        section.end();
        config
    }
}

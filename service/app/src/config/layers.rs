//! The layers that settings come from: the file, over it the environment, over that the command line. Knows places and
//! types of values, not what any setting means.

use super::error::{ConfigError, Place};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Prefix of the environment variables that override settings.
pub(super) const PREFIX: &str = "VERDICT__";

/// Longest file in bytes: room for hundreds of API keys.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// A setting given as text, outside the file.
#[derive(Clone, Debug)]
pub(super) struct TextSetting {
    /// Section, in lower case.
    pub(super) section: String,
    /// Key, in lower case.
    pub(super) key: String,
    /// The value, as it was given.
    pub(super) text: String,
    /// The variable or the flag.
    pub(super) place: Place,
}

/// A value of any layer, with enough to say where it stands.
#[derive(Clone, Debug)]
pub(super) enum Setting<'a> {
    /// From the file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// From a variable or a flag.
    Text(&'a TextSetting),
}

/// The file, parsed.
#[derive(Debug)]
pub(super) struct File<'a> {
    path: Arc<str>,
    text: &'a str,
    /// Where each line begins, so that many findings are placed in little time.
    line_starts: Vec<usize>,
    table: DeTable<'a>,
}

impl<'a> File<'a> {
    /// Parses the text as far as it can be parsed; what cannot is reported.
    pub(super) fn parse(path: &str, text: &'a str, findings: &mut Findings) -> Self {
        let fits = text.len() <= MAX_FILE_BYTES;
        let (table, faults) = DeTable::parse_recoverable(if fits { text } else { "" });
        let after_each_newline = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_each_newline).collect();
        let file = Self { path: path.into(), text, line_starts, table: table.into_inner() };
        if !fits {
            let message = format!("expected a configuration of at most {MAX_FILE_BYTES} bytes, found {}", text.len());
            findings.push(file.place(0..0), message);
        }
        for fault in faults {
            let place = file.place(fault.span().unwrap_or(0..0));
            findings.broken_lines.extend(line_of(&place));
            findings.push(place, lower_first(fault.message()));
        }
        file
    }

    /// The top-level table.
    pub(super) const fn table(&self) -> &DeTable<'a> {
        &self.table
    }

    /// Line and column of a byte range's start.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let at = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= at);
        // invariant: the first line starts at 0, so that at least one start is at or before any place.
        let before = self.text.get(self.line_starts[line - 1]..at).unwrap_or_default();
        Place::File { path: Arc::clone(&self.path), line, column: before.chars().count() + 1 }
    }
}

fn line_of(place: &Place) -> Option<usize> {
    match place {
        Place::File { line, .. } => Some(*line),
        Place::Variable(_) | Place::Flag(_) => None,
    }
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Everything found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<ConfigError>,
    /// Settings with a fault of their own, as `section.key`: they stand at their default and are not cross-checked.
    failed: BTreeSet<String>,
    /// Lines that are not TOML: what a half-read line seems to say is not reported.
    broken_lines: BTreeSet<usize>,
}

impl Findings {
    /// Records a fault.
    pub(super) fn push(&mut self, place: Place, message: String) {
        self.errors.push(ConfigError { place, message });
    }

    /// Records a fault of one setting, unless its line is already known to be broken.
    pub(super) fn push_setting(&mut self, setting: &str, place: Place, message: &str) {
        self.failed.insert(setting.to_owned());
        if line_of(&place).is_none_or(|line| !self.broken_lines.contains(&line)) {
            self.push(place, format!("{setting}: {message}"));
        }
    }

    /// Whether all of these settings say what their author meant.
    pub(super) fn trusts(&self, settings: &[&str]) -> bool {
        self.broken_lines.is_empty() && !settings.iter().any(|setting| self.failed.contains(*setting))
    }

    /// The faults.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }
}

/// All layers together.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    /// The file, if there is one.
    pub(super) file: Option<File<'a>>,
    /// Variables, then flags: a later one wins.
    pub(super) texts: Vec<TextSetting>,
}

impl Layers<'_> {
    /// Where a setting stands.
    pub(super) fn place(&self, setting: &Setting<'_>) -> Place {
        match setting {
            Setting::Toml(value) => self.place_of_span(value.span()),
            Setting::Text(text) => text.place.clone(),
        }
    }

    /// Where a range of the file stands.
    pub(super) fn place_of_span(&self, span: Range<usize>) -> Place {
        match &self.file {
            Some(file) => file.place(span),
            None => Place::File { path: "".into(), line: 0, column: 0 },
        }
    }

    /// The setting of the highest layer that has it.
    pub(super) fn find(&self, section: &str, key: &str) -> Option<Setting<'_>> {
        let text = self.texts.iter().rev().find(|text| text.section == section && text.key == key);
        text.map(Setting::Text).or_else(|| self.section(section)?.get(key).map(Setting::Toml))
    }

    /// A section of the file.
    pub(super) fn section(&self, section: &str) -> Option<&DeTable<'_>> {
        self.file.as_ref()?.table().get(section)?.get_ref().as_table()
    }
}

/// The known name that was most likely meant, as the tail of a message; empty when none is near.
pub(super) fn suggestion(found: &str, known: &[&str], shape: impl Fn(&str) -> String) -> String {
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(found, name), name)).min();
    match nearest {
        // A third of the letters may differ: enough for slips and plurals, too little for another word.
        Some((distance, name)) if distance <= (name.len() / 3).max(1) => format!("; did you mean `{}`?", shape(name)),
        _ => String::new(),
    }
}

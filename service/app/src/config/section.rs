//! Reads the settings of one section: a typed value or its default, and a finding for whatever is wrong. What nobody
//! asked for when the section ends is unknown.

use super::error::Place;
use super::layers::{Findings, Layers, Setting, suggestion};
use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use toml::de::DeValue;

/// A reader of one section.
pub(super) struct Section<'a> {
    name: &'static str,
    layers: &'a Layers<'a>,
    findings: &'a mut Findings,
    asked: Vec<Cow<'static, str>>,
}

impl<'a> Section<'a> {
    /// Starts to read a section.
    pub(super) const fn new(name: &'static str, layers: &'a Layers<'a>, findings: &'a mut Findings) -> Self {
        Self { name, layers, findings, asked: Vec::new() }
    }

    /// The setting as it was given, `None` when it was not.
    pub(super) fn given(&mut self, key: impl Into<Cow<'static, str>>) -> Option<Setting<'a>> {
        let key = key.into();
        let found = self.layers.find(self.name, &key);
        self.asked.push(key);
        found
    }

    /// Where the section begins, or the first setting of it that stands elsewhere; `None` when no layer has any.
    pub(super) fn place(&self) -> Option<Place> {
        let in_file = self.layers.file.as_ref().and_then(|file| file.table().get_key_value(self.name));
        let in_file = in_file.map(|(name, _)| self.layers.place_of_span(name.span()));
        in_file.or_else(|| Some(self.layers.texts.iter().find(|text| text.section == self.name)?.place.clone()))
    }

    /// An integer within bounds.
    pub(super) fn integer<T: TryFrom<i64>>(&mut self, key: &'static str, default: T, range: RangeInclusive<i64>) -> T {
        let Some(setting) = self.given(key) else { return default };
        let number = match &setting {
            Setting::Toml(value) => match value.get_ref() {
                DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok(),
                _ => None,
            },
            Setting::Text(text) => text.text.trim().parse().ok(),
        };
        let within = number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        within.unwrap_or_else(|| {
            let (low, high) = range.into_inner();
            self.fault(key, &setting, &format!("expected an integer from {low} to {high}, found {}", shown(&setting)));
            default
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(setting) = self.given(key) else { return default };
        let flag = match &setting {
            Setting::Toml(value) => value.get_ref().as_bool(),
            Setting::Text(text) => text.text.trim().parse().ok(),
        };
        flag.unwrap_or_else(|| {
            self.fault(key, &setting, &format!("expected true or false, found {}", shown(&setting)));
            default
        })
    }

    /// A string that `parse` understands; `parse` says what it expected.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> T {
        let Some(setting) = self.given(key) else { return default };
        let parsed = match &setting {
            Setting::Toml(value) => value.get_ref().as_str().map_or(Err("a string"), parse),
            Setting::Text(text) => parse(&text.text),
        };
        parsed.unwrap_or_else(|expected| {
            self.fault(key, &setting, &format!("expected {expected}, found {}", shown(&setting)));
            default
        })
    }

    /// A path that is not empty.
    pub(super) fn path(&mut self, key: &'static str, default: PathBuf) -> PathBuf {
        self.text(key, default, |text| if text.is_empty() { Err("a path") } else { Ok(PathBuf::from(text)) })
    }

    /// Reports a fault of a setting, at its place.
    pub(super) fn fault(&mut self, key: &str, setting: &Setting<'_>, message: &str) {
        self.fault_at(key, self.layers.place(setting), message);
    }

    /// Reports a fault inside a setting.
    pub(super) fn fault_at(&mut self, key: &str, place: Place, message: &str) {
        self.findings.push_setting(&format!("{}.{key}", self.name), place, message);
    }

    /// All layers, for places inside a setting.
    pub(super) const fn layers(&self) -> &'a Layers<'a> {
        self.layers
    }

    /// Reports every key of the section that nobody asked for.
    pub(super) fn end(self) {
        let known: Vec<&str> = self.asked.iter().map(AsRef::as_ref).collect();
        for (key, _) in self.layers.section(self.name).into_iter().flatten() {
            if !known.contains(&key.get_ref().as_ref()) {
                let hint = suggestion(key.get_ref(), &known, str::to_owned);
                let place = self.layers.place_of_span(key.span());
                self.findings.push_setting(&format!("{}.{}", self.name, key.get_ref()), place, &unknown("key", &hint));
            }
        }
        for text in self.layers.texts.iter().filter(|text| text.section == self.name) {
            if !known.contains(&text.key.as_str()) {
                let hint = suggestion(&text.key, &known, |key| variable(self.name, key));
                self.findings.push(text.place.clone(), unknown("variable", &hint));
            }
        }
    }
}

/// The environment variable of a setting.
pub(super) fn variable(section: &str, key: &str) -> String {
    format!("{}{}__{}", super::layers::PREFIX, section.to_uppercase(), key.to_uppercase())
}

fn unknown(what: impl Display, hint: &str) -> String {
    format!("unknown {what}{hint}")
}

/// The value as a message quotes it.
fn shown(setting: &Setting<'_>) -> String {
    match setting {
        Setting::Text(text) => format!("{:?}", text.text),
        Setting::Toml(value) => match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        },
    }
}

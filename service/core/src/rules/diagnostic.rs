//! Faults of rule files: where, what was expected and what was found. Collects all of them; never stops at the first.

use std::fmt;

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file, as its [`SourceFile`](super::SourceFile) names it.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)
    }
}

/// A place in a file, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Place {
    /// Where a file begins.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// The faults found so far in one file.
#[derive(Debug)]
pub struct Faults<'a> {
    path: &'a str,
    found: Vec<Diagnostic>,
}

impl<'a> Faults<'a> {
    /// No faults yet in the file of this name.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        Self { path, found: Vec::new() }
    }

    /// Notes a fault.
    pub fn add(&mut self, place: Place, message: impl Into<String>) {
        self.found.push(Diagnostic {
            path: self.path.to_owned(),
            line: place.line,
            column: place.column,
            message: message.into(),
        });
    }

    /// How many were found.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}

/// Of the known names, the one that was probably meant.
#[must_use]
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong: `user_cout_1h` finds its name, `frobnicate` finds none.
    let most = written.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The suggestion to append to a message: empty, or `; did you mean "..."?`.
#[must_use]
pub fn suggestion<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(written, known).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// A text from a file as messages quote it: cut after 60 characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near() {
        let known = ["user_count_1h", "user_count_24h", "outcome"];
        assert_eq!(nearest("user_cout_1h", known), Some("user_count_1h"));
        assert_eq!(nearest("outcme", known), Some("outcome"));
        assert_eq!(nearest("frobnicate", known), None);
        assert_eq!(suggestion("x", known), "");
        assert_eq!(suggestion("outcom", known), "; did you mean \"outcome\"?");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"...", "é".repeat(60)));
    }
}

//! A text that is never shown: passwords, keys, addresses with a password in them.

use super::layers::Setting;
use super::section::Section;
use std::fmt;
use std::fs::File;
use std::io::Read;

/// Longest secret that is read from a file, in bytes: a private key with its chain of certificates fits.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// A secret. What prints it prints stars.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever needs it; it must not end up in a log or a message.
    #[must_use]
    pub const fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Section<'_> {
    /// The secret of `key`, or of the file that `key` with `_file` behind it names, without the line break at its end.
    /// Both together are a fault. No message quotes a value.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let (direct, file) = (self.given(key), self.given(file_key.clone()));
        match (direct, file) {
            (None, None) => None,
            (Some(_), Some(file)) => {
                self.fault(&file_key, &file, &format!("expected either `{key}` or `{file_key}`, found both"));
                None
            }
            (Some(setting), None) => {
                let secret = text_of(&setting).ok_or("expected a string".to_owned()).and_then(checked);
                secret.map_err(|message| self.fault(key, &setting, &message)).ok()
            }
            (None, Some(setting)) => {
                let secret = text_of(&setting).ok_or("expected the path of a file".to_owned()).and_then(read_file);
                secret.map_err(|message| self.fault(&file_key, &setting, &message)).ok()
            }
        }
    }
}

fn text_of<'a>(setting: &'a Setting<'_>) -> Option<&'a str> {
    match setting {
        Setting::Toml(value) => value.get_ref().as_str(),
        Setting::Text(text) => Some(&text.text),
    }
}

fn checked(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("expected a string that is not empty".to_owned()) } else { Ok(Secret::new(text)) }
}

/// The secret in a file, without the line break at its end.
///
/// # Errors
/// What was expected of the file and what was found; never what is in it.
pub(super) fn read_file(path: &str) -> Result<Secret, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read the secret in {path:?}: {error}"))?;
    if text.len() > MAX_SECRET_BYTES {
        return Err(format!("expected at most {MAX_SECRET_BYTES} bytes in {path:?}, found more"));
    }
    let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    checked(text).map_err(|_| format!("expected a secret in {path:?}, found an empty file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{self, Findings, Layers};

    /// Reads `[postgres] url`, with a variable over the file.
    fn read(text: &str, variable: Option<(&str, &str)>) -> Result<Option<Secret>, String> {
        let mut findings = Findings::default();
        let file = layers::File::parse("verdict.toml", text, &mut findings);
        let texts = variable.map(|(key, text)| layers::TextSetting {
            section: "postgres".to_owned(),
            key: key.to_owned(),
            text: text.to_owned(),
            place: crate::config::Place::Variable(key.into()),
        });
        let layers = Layers { file: Some(file), texts: texts.into_iter().collect() };
        let mut section = Section::new("postgres", &layers, &mut findings);
        let secret = section.secret("url");
        section.end();
        let errors: Vec<String> = findings.into_errors().iter().map(ToString::to_string).collect();
        if errors.is_empty() { Ok(secret) } else { Err(errors.join("\n")) }
    }

    #[test]
    fn it_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** Secret(***) Some(Secret(***))");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn it_comes_from_the_setting_or_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let named = format!("[postgres]\nurl_file = {path:?}\n");
        for (content, expected) in [("p@ss\n", "p@ss"), ("p@ss\r\n", "p@ss"), ("p@ss", "p@ss"), (" p \n\n", " p \n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&named, None), Ok(Some(Secret::new(expected))), "{content:?}");
        }
        assert_eq!(read("[postgres]\nurl = \"u\"\n", None), Ok(Some(Secret::new("u"))));
        assert_eq!(read("[postgres]\nurl = \"u\"\n", Some(("url", "v"))), Ok(Some(Secret::new("v"))));
        assert_eq!(read("", Some(("url_file", path.to_str().unwrap()))), Ok(Some(Secret::new(" p \n"))));
        assert_eq!(read("[postgres]\n", None), Ok(None));
    }

    #[test]
    fn faults_name_the_place_and_never_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let shown = format!("{path:?}");
        let named = format!("[postgres]\nurl_file = {shown}\n");
        let at = "verdict.toml:2:12: postgres.url_file:";
        assert_eq!(
            read(&named, None),
            Err(format!("{at} cannot read the secret in {shown}: No such file or directory (os error 2)"))
        );
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(read(&named, None), Err(format!("{at} expected a secret in {shown}, found an empty file")));
        std::fs::write(&path, "x".repeat(MAX_SECRET_BYTES + 1)).unwrap();
        assert_eq!(read(&named, None), Err(format!("{at} expected at most 65536 bytes in {shown}, found more")));
        assert_eq!(
            read(&named, Some(("url", "hunter2"))),
            Err(format!("{at} expected either `url` or `url_file`, found both"))
        );
        assert_eq!(
            read("[postgres]\nurl = 42\n", None),
            Err("verdict.toml:2:7: postgres.url: expected a string".to_owned())
        );
        assert_eq!(
            read("[postgres]\nurl_fil = \"x\"\n", None),
            Err("verdict.toml:2:1: postgres.url_fil: unknown key; did you mean `url_file`?".to_owned())
        );
    }
}

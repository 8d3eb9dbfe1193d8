//! `[redis]`: the server that mirrors the lists for other systems.

use super::secret::Secret;
use super::section::Section;
use redis::IntoConnectionInfo;

/// The server that mirrors the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://` for TLS.
    pub url: Secret,
}

impl RedisConfig {
    /// `None` when no layer has the section: nobody is told of the lists but over HTTP then.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let place = section.place();
        let given = section.given("url").or_else(|| section.given("url_file"));
        let url = section.secret("url");
        match (&given, &url, place) {
            (Some(setting), Some(url), _) => {
                if let Err(expected) = check(url) {
                    section.fault("url", setting, expected);
                }
            }
            (None, _, Some(place)) => section.fault_at(
                "url",
                place,
                "expected `url` such as \"redis://localhost:6379\", or `url_file`: without it nothing of [redis] is used",
            ),
            // A fault that was reported, or no section.
            _ => {}
        }
        section.end();
        url.map(|url| Self { url })
    }
}

/// What is wrong with a URL; no part of it is quoted.
fn check(url: &Secret) -> Result<(), &'static str> {
    let text = url.expose();
    if !["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err("expected redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// where the network is not trusted");
    }
    // The library's own words for it switch off what TLS is for.
    if text.contains('#') {
        return Err("expected no `#`, which is written %23 in a password: a certificate is always checked");
    }
    let readable = text.into_connection_info().map(drop);
    readable.map_err(|_| "expected redis://USER:PASSWORD@HOST:PORT/DATABASE; found one that cannot be read")
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// What a file says, or its faults, a line each.
    fn read(text: &str) -> Result<Config, String> {
        let read = Config::from_sources(Some(("verdict.toml", text)), std::iter::empty());
        read.map_err(|errors| errors.all().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_server_is_named_and_never_shown() {
        assert_eq!(read("").unwrap().redis, None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        for url in
            ["redis://localhost", "rediss://verdict:hunter2@[::1]:6380/3", "redis://:hunter2%23@redis.example:6379"]
        {
            std::fs::write(&path, format!("{url}\n")).unwrap();
            for text in [format!("[redis]\nurl = {url:?}\n"), format!("[redis]\nurl_file = {path:?}\n")] {
                let config = read(&text).unwrap();
                assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
                assert_eq!(config.redis.unwrap().url.expose(), url);
            }
        }
    }

    #[test]
    fn faults_name_the_place_and_never_the_value() {
        for (text, expected) in [
            (
                "url = \"https://u:hunter2@redis\"",
                "2:7: redis.url: expected redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// where the network is not trusted",
            ),
            (
                "url = \"redis://u:hunter2@redis:99999\"",
                "2:7: redis.url: expected redis://USER:PASSWORD@HOST:PORT/DATABASE; found one that cannot be read",
            ),
            (
                "url = \"rediss://u:hunter2@redis#insecure\"",
                "2:7: redis.url: expected no `#`, which is written %23 in a password: a certificate is always checked",
            ),
            ("url = \"\"", "2:7: redis.url: expected a string that is not empty"),
            (
                "",
                "1:2: redis.url: expected `url` such as \"redis://localhost:6379\", or `url_file`: without it nothing of [redis] is used",
            ),
            (
                "url = \"redis://r\"\nurls = \"redis://u:hunter2@r\"",
                "3:1: redis.urls: unknown key; did you mean `url`?",
            ),
        ] {
            assert_eq!(read(&format!("[redis]\n{text}\n")).unwrap_err(), format!("verdict.toml:{expected}"));
        }
    }

    #[test]
    fn the_example_in_the_docs_can_be_used() {
        let example = include_str!("../../../../docs/verdict.example.toml");
        assert_eq!(
            read(&example.replace("# [redis]", "[redis]").replace("# url = \"redis", "url = \"redis")).unwrap(),
            { Config { redis: read("[redis]\nurl = \"redis://127.0.0.1:6379\"").unwrap().redis, ..Config::default() } }
        );
    }
}

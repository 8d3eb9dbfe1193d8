//! What a server without API keys asks of a request: that no web page of elsewhere has sent it.
//!
//! Such a server trusts whoever reaches its loopback address, and every browser on the machine does, for any page that it
//! shows. A page may send a POST to another site without being asked, and a name that an attacker owns may lead to this
//! address, which makes their page a page of this server (DNS rebinding). So the host must be one that nobody can own, an
//! address or `localhost`, and a browser must say that the page is this server's own. It stops no program on the machine.

use crate::wire::problem::Problem;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use std::net::{Ipv4Addr, Ipv6Addr};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longest part of a header that a problem shows, in characters.
const SHOWN: usize = 80;

/// Refuses what only a web page of elsewhere sends. Programs send no `Origin`, and may leave out `Host` as well.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST);
    if let Some(found) = host.filter(|host| !names_this_machine(host.as_bytes())) {
        return Err(problem("Host: an IP address or localhost, with any port", "Host", found));
    }
    if let Some(found) = headers.get(ORIGIN).filter(|origin| !is_own(origin.as_bytes(), host)) {
        return Err(problem("no Origin but this server's own", "Origin", found));
    }
    if let Some(found) = headers.get(SEC_FETCH_SITE).filter(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"))
    {
        return Err(problem("no request of another site's page", "Sec-Fetch-Site", found));
    }
    Ok(())
}

fn problem(expected: &str, name: &str, found: &HeaderValue) -> Problem {
    let found: String = String::from_utf8_lossy(found.as_bytes()).chars().take(SHOWN).collect();
    let detail = format!(
        "expected {expected}, as long as this server has no API keys, found {name}: {found:?}; for names and pages of \
         elsewhere set up [[http.api_keys]]"
    );
    Problem::new(403, "NOT_LOCAL", detail)
}

/// Whether a `Host` is an address or `localhost`, with or without a port.
fn names_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    (name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok()) && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an `Origin` is the server that the request names. A server without keys speaks plain HTTP.
fn is_own(origin: &[u8], host: Option<&HeaderValue>) -> bool {
    let Some((scheme, origin)) = origin.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"http://") && host.is_some_and(|host| origin.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_headers(lines: &[(&str, &str)], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        match (check(&headers), expected) {
            (Ok(()), None) => {}
            (Err(problem), Some(part)) => {
                assert_eq!((problem.status, problem.code), (403, "NOT_LOCAL"));
                assert!(problem.detail.contains(part), "{lines:?}: {}", problem.detail);
            }
            (found, _) => panic!("{lines:?}: {found:?}"),
        }
    }

    #[test]
    fn hosts() {
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "localhost",
            "LocalHost:8080",
            "[::1]:8080",
            "[::1]",
            "192.168.1.7:80",
            "localhost:",
        ] {
            check_headers(&[("host", host)], None);
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:8080.evil.example",
            "[::1].evil.example",
            "[::1",
            "::1",
            "x",
            "",
            "127.1",
            "\u{e9}vil",
        ] {
            check_headers(&[("host", host)], Some("Host"));
        }
        check_headers(&[], None);
    }

    #[test]
    fn origins_and_sites() {
        let host = ("host", "127.0.0.1:8080");
        check_headers(&[host, ("origin", "http://127.0.0.1:8080")], None);
        check_headers(&[host, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")], None);
        check_headers(&[("host", "localhost"), ("origin", "http://LOCALHOST")], None);
        for origin in [
            "http://evil.example",
            "https://127.0.0.1:8080",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://127.0.0.1:8080.evil.example",
            "null",
            "",
        ] {
            check_headers(&[host, ("origin", origin)], Some("Origin"));
        }
        check_headers(&[("origin", "http://127.0.0.1:8080")], Some("Origin"));
        check_headers(&[host, ("sec-fetch-site", "cross-site")], Some("Sec-Fetch-Site"));
        for site in ["none", "same-origin"] {
            check_headers(&[host, ("sec-fetch-site", site)], None);
        }
    }
}

//! Who may call, and how fast: bearer keys with scopes, compared by their SHA-256 in constant time.
//!
//! A server without keys is open to whoever reaches it, at any rate; the configuration lets only a loopback address be
//! so, and `local` keeps web pages of elsewhere out. No scope implies another: a key that may change lists may do nothing else unless it says so. Only hashes are kept;
//! nothing here prints a key.

use super::rate::TokenBucket;
use crate::config::{ApiKeyConfig, Scope};
use crate::wire::problem::Problem;
use actix_web::http::header::HeaderValue;
use sha2::{Digest, Sha256};
use std::time::Instant;
use subtle::ConstantTimeEq;

/// The configured keys.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    config: ApiKeyConfig,
    /// What is left of its rate, if it has one.
    bucket: Option<TokenBucket>,
}

/// Who was let through: a key of the ring, or nobody in particular where everything is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller(Option<usize>);

impl KeyRing {
    /// A ring of keys; without any, everything is open.
    #[must_use]
    pub fn new(keys: Vec<ApiKeyConfig>) -> Self {
        let with_bucket = |config: ApiKeyConfig| Key { bucket: config.rate.map(TokenBucket::new), config };
        Self { keys: keys.into_iter().map(with_bucket).collect() }
    }

    /// Whether there is no key, so that everything is open to whoever reaches this server.
    pub(super) fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Lets a caller through who presents a key with one of the scopes, and has it pay for one request.
    pub(super) fn admit(
        &self,
        authorization: Option<&HeaderValue>,
        any_of: &[Scope],
        now: impl FnOnce() -> Instant,
    ) -> Result<Caller, Problem> {
        if self.is_open() || any_of.is_empty() {
            return Ok(Caller(None));
        }
        let Some(presented) = authorization.and_then(bearer) else {
            return Err(Problem::new(401, "UNAUTHORIZED", "expected the header Authorization: Bearer KEY"));
        };
        let presented: [u8; 32] = Sha256::digest(presented).into();
        // Every key is compared in full: the time taken says nothing about which one was close.
        let mut found = None;
        for (at, key) in self.keys.iter().enumerate() {
            if bool::from(key.config.sha256.ct_eq(&presented)) {
                found = Some((at, &key.config));
            }
        }
        let Some((at, key)) = found else {
            return Err(Problem::new(401, "UNAUTHORIZED", "expected a key of this server, found an unknown one"));
        };
        if !any_of.iter().any(|scope| key.scopes.contains(scope)) {
            let wanted: Vec<&str> = any_of.iter().map(|scope| scope.name()).collect();
            let (wanted, name) = (wanted.join(" or "), &key.name);
            let detail = format!("expected a key with the scope {wanted}, found {name:?} without it");
            return Err(Problem::new(403, "FORBIDDEN", detail));
        }
        let caller = Caller(Some(at));
        self.charge(caller, now).map(|()| caller)
    }

    /// Takes one more request, or line of a batch, off the caller's rate. The clock is read only where there is a rate.
    pub(super) fn charge(&self, caller: Caller, now: impl FnOnce() -> Instant) -> Result<(), Problem> {
        let key = caller.0.and_then(|at| self.keys.get(at));
        let Some((key, bucket)) = key.and_then(|key| Some((key, key.bucket.as_ref()?))) else { return Ok(()) };
        bucket.take(now()).map_err(|wait| {
            let rate = key.config.rate.map_or(0, |rate| rate.per_sec);
            let detail = format!("expected at most {rate} requests a second with this key, found more; retry later");
            // In whole seconds, as the header has it, and never too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Problem::new(429, "RATE_LIMITED", detail).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
        })
    }
}

/// The token of `Bearer TOKEN`; the scheme's case does not count (RFC 9110).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateConfig;
    use crate::telemetry::clock::instant as start;
    use std::time::Duration;

    fn key(name: &str, text: &str, scopes: &[Scope]) -> ApiKeyConfig {
        ApiKeyConfig { name: name.into(), sha256: Sha256::digest(text).into(), scopes: scopes.to_vec(), rate: None }
    }

    #[test]
    fn admission() {
        let ring = KeyRing::new(vec![
            key("checkout", "alpha", &[Scope::Decide]),
            key("console", "beta", &[Scope::Review, Scope::Admin]),
        ]);
        let check = |header: Option<&str>, any_of: &[Scope], expected: u16| {
            let header = header.map(|text| HeaderValue::from_str(text).expect("a header"));
            let found = ring.admit(header.as_ref(), any_of, start).map_or_else(|problem| problem.status, |_| 200);
            assert_eq!(found, expected, "{header:?} {any_of:?}");
        };
        check(None, &[], 200);
        check(None, &[Scope::Decide], 401);
        check(Some("Bearer alpha"), &[Scope::Decide], 200);
        check(Some("bearer  alpha "), &[Scope::Decide], 200);
        check(Some("Bearer beta"), &[Scope::Decide], 403);
        check(Some("Bearer beta"), &[Scope::Ingest, Scope::Review], 200);
        check(Some("Bearer alphabet"), &[Scope::Decide], 401);
        for bad in ["alpha", "Basic alpha", "Bearer", "Bearer ", "Beareralpha", ""] {
            check(Some(bad), &[Scope::Decide], 401);
        }
        assert!(KeyRing::default().admit(None, &[Scope::Admin], start).is_ok());
        assert!(!format!("{ring:?}").contains("sha256"));
    }

    #[test]
    fn a_key_uses_up_its_own_rate_only() {
        let rate = Some(RateConfig { per_sec: 1, burst: 2 });
        let ring = KeyRing::new(vec![
            ApiKeyConfig { rate, ..key("bounded", "alpha", &[Scope::Decide]) },
            ApiKeyConfig { rate, ..key("other", "beta", &[Scope::Decide]) },
            key("free", "gamma", &[Scope::Decide]),
        ]);
        let start = start();
        let ask = |text: &str, ms: u64, scope: Scope| {
            let header = HeaderValue::from_str(&format!("Bearer {text}")).expect("a header");
            ring.admit(Some(&header), &[scope], || start + Duration::from_millis(ms))
                .map_err(|problem| (problem.code, problem.retry_after_secs))
        };
        let decide = |text: &str, ms: u64| ask(text, ms, Scope::Decide);
        let limited = Err(("RATE_LIMITED", Some(1)));
        // What is forbidden costs nothing.
        assert_eq!(ask("alpha", 0, Scope::Admin), Err(("FORBIDDEN", None)));
        let alpha = decide("alpha", 0).expect("a token");
        assert_eq!(ring.charge(alpha, || start).map_err(|problem| problem.code), Ok(()));
        assert_eq!(ring.charge(alpha, || start).map_err(|problem| problem.code), Err("RATE_LIMITED"));
        assert_eq!(decide("alpha", 999), limited);
        assert_eq!((decide("beta", 999), decide("gamma", 999)), (Ok(Caller(Some(1))), Ok(Caller(Some(2)))));
        assert_eq!((decide("alpha", 1_000), decide("alpha", 1_001)), (Ok(alpha), limited));
        assert!((0..1_000).all(|_| decide("gamma", 0).is_ok()));
    }
}

//! Who may call: bearer keys with scopes, compared by their SHA-256 in constant time.
//!
//! A server without keys is open to whoever reaches it; the configuration lets only a loopback address be so. Only
//! hashes are kept; nothing here prints a key.

use crate::config::{ApiKeyConfig, Scope};
use crate::wire::problem::Problem;
use actix_web::http::header::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The configured keys.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: Vec<ApiKeyConfig>,
}

impl KeyRing {
    /// A ring of keys; without any, everything is open.
    #[must_use]
    pub fn new(keys: Vec<ApiKeyConfig>) -> Self {
        Self { keys }
    }

    /// Lets a caller through who presents a key with one of the scopes.
    pub(super) fn admit(&self, authorization: Option<&HeaderValue>, any_of: &[Scope]) -> Result<(), Problem> {
        if self.keys.is_empty() || any_of.is_empty() {
            return Ok(());
        }
        let Some(presented) = authorization.and_then(bearer) else {
            return Err(Problem::new(401, "UNAUTHORIZED", "expected the header Authorization: Bearer KEY"));
        };
        let presented: [u8; 32] = Sha256::digest(presented).into();
        // Every key is compared in full: the time taken says nothing about which one was close.
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.sha256.ct_eq(&presented)) {
                found = Some(key);
            }
        }
        let Some(key) = found else {
            return Err(Problem::new(401, "UNAUTHORIZED", "expected a key of this server, found an unknown one"));
        };
        if any_of.iter().any(|scope| key.scopes.contains(scope)) {
            return Ok(());
        }
        let wanted: Vec<&str> = any_of.iter().map(|scope| scope.name()).collect();
        let detail = format!("expected a key with the scope {}, found {:?} without it", wanted.join(" or "), key.name);
        Err(Problem::new(403, "FORBIDDEN", detail))
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

    fn key(name: &str, text: &str, scopes: &[Scope]) -> ApiKeyConfig {
        ApiKeyConfig { name: name.into(), sha256: Sha256::digest(text).into(), scopes: scopes.to_vec() }
    }

    #[test]
    fn admission() {
        let ring = KeyRing::new(vec![
            key("checkout", "alpha", &[Scope::Decide]),
            key("console", "beta", &[Scope::Review, Scope::Admin]),
        ]);
        let check = |header: Option<&str>, any_of: &[Scope], expected: u16| {
            let header = header.map(|text| HeaderValue::from_str(text).expect("a header"));
            let found = ring.admit(header.as_ref(), any_of).map_or_else(|problem| problem.status, |()| 200);
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
        assert!(KeyRing::default().admit(None, &[Scope::Admin]).is_ok());
        assert!(!format!("{ring:?}").contains("sha256"));
    }
}

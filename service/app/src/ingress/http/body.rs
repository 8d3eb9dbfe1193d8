//! Reads a request's body within its bounds of type, size and time.

use super::HttpState;
use crate::wire::problem::Problem;
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{FutureExt, StreamExt};
use std::pin::pin;
use std::time::Duration;

/// What a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One event.
    Event,
    /// Lines of events.
    Batch,
}

/// The whole body.
///
/// # Errors
/// 415 for another type or encoding, 413 for too many bytes, 408 for too slow, 400 for a body that breaks off.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    state: &HttpState,
    kind: Kind,
) -> Result<Bytes, Problem> {
    check_type(request, kind)?;
    let (limit, what) = match kind {
        Kind::Event => (state.limits.event_bytes, "a body"),
        Kind::Batch => (state.limits.batch_bytes, "a batch"),
    };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(what, limit));
    }
    let mut collected = pin!(collect(payload, limit, || too_large(what, limit)));
    // Nearly every body is there with its head, and needs no timer.
    if let Some(whole) = collected.as_mut().now_or_never() {
        return whole;
    }
    let whole = tokio::time::timeout(state.limits.body_timeout, collected);
    whole.await.unwrap_or_else(|_| Err(too_slow(state.limits.body_timeout)))
}

/// Collects chunks; a body that came in one piece, as nearly all do, is not copied.
async fn collect(mut payload: Payload, limit: usize, too_large: impl Fn() -> Problem) -> Result<Bytes, Problem> {
    let mut whole = Bytes::new();
    let mut several = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        if whole.len() + several.len() + chunk.len() > limit {
            return Err(too_large());
        }
        if whole.is_empty() && several.is_empty() {
            whole = chunk;
        } else {
            several.extend_from_slice(&std::mem::take(&mut whole));
            several.extend_from_slice(&chunk);
        }
    }
    Ok(if several.is_empty() { whole } else { several.freeze() })
}

/// A type that is missing is accepted: the body will show what it is.
fn check_type(request: &HttpRequest, kind: Kind) -> Result<(), Problem> {
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let detail = "expected a body without Content-Encoding; send it uncompressed";
        return Err(Problem::new(415, "UNSUPPORTED_ENCODING", detail));
    }
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let (fits, expected) = match kind {
        Kind::Event => (is("application/json") || is_json_dialect(essence), "application/json"),
        Kind::Batch => (is("application/x-ndjson") || is("application/ndjson"), "application/x-ndjson"),
    };
    if fits {
        return Ok(());
    }
    let detail = format!("expected Content-Type: {expected}, found {:?}", essence.chars().take(80).collect::<String>());
    Err(Problem::new(415, "UNSUPPORTED_MEDIA_TYPE", detail))
}

/// Whether a media type is `application/...+json` (RFC 6839).
fn is_json_dialect(essence: &str) -> bool {
    let bytes = essence.as_bytes();
    let starts = bytes.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"application/"));
    let ends = bytes.len().checked_sub(5).is_some_and(|at| bytes[at..].eq_ignore_ascii_case(b"+json"));
    starts && ends
}

/// The problem of a body, or a line of one, over its limit.
pub(super) fn too_large(what: &str, limit: usize) -> Problem {
    Problem::new(413, "TOO_LARGE", format!("expected {what} of at most {limit} bytes, found more"))
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!("expected the whole body within {} s, found it incomplete", limit.as_secs_f64());
    Problem::new(408, "BODY_TIMEOUT", detail)
}

fn broken(error: &PayloadError) -> Problem {
    let detail = match error {
        PayloadError::Incomplete(_) => "expected the whole body, found its end too early".to_owned(),
        other => format!("expected a body as its headers announce it, found: {other}"),
    };
    Problem::new(400, "BODY_INVALID", detail)
}

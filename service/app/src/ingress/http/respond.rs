//! Answers: JSON as it was printed, and every refusal as a problem object with its headers.

use super::HttpState;
use super::access::Caller;
use super::connection::Gate;
use super::local;
use super::turnstile::Inside;
use crate::actors::messages::Refusal;
use crate::wire::problem::{MEDIA_TYPE, Problem};
use crate::wire::{Fault, FaultCode, time};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpRequest, HttpResponse, web};
use std::future::Future;
use std::time::{Duration, Instant};
use verdict_core::money::ConversionError;

/// The media type of answers.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Longest path and query in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;

/// Longest headers in bytes, names and values together. The server itself reads at most 128 KiB and 96 lines of them.
const MAX_HEADERS_BYTES: usize = 32 * 1024;

/// Checks what every request must satisfy before its body is looked at; no scope means open to all.
pub(super) fn admit(
    request: &HttpRequest,
    state: &HttpState,
    any_of: &[crate::config::Scope],
) -> Result<Caller, Problem> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |both| both.as_str().len());
    if uri_bytes > MAX_URI_BYTES {
        let detail = format!("expected a path and query of at most {MAX_URI_BYTES} bytes, found {uri_bytes}");
        return Err(Problem::new(414, "URI_TOO_LONG", detail));
    }
    let headers_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers_bytes > MAX_HEADERS_BYTES {
        let detail = format!("expected headers of at most {MAX_HEADERS_BYTES} bytes, found {headers_bytes}");
        return Err(Problem::new(431, "HEADERS_TOO_LARGE", detail));
    }
    if state.keys.is_open() && !any_of.is_empty() {
        local::check(request.headers())?;
    }
    state.keys.admit(request.headers().get(AUTHORIZATION), any_of, || state.clock.instant())
}

/// Checks that a request did not wait too long before it was parsed. Without a worker's turnstile nothing waits. To be asked
/// once the body of a single event is read: a connection with an unread body is closed, and another has to be set up.
pub(super) fn in_time(request: &HttpRequest) -> Result<(), Problem> {
    match request.conn_data::<Gate>() {
        Some(gate) if gate.too_late() => Err(overloaded()),
        _ => Ok(()),
    }
}

/// Takes the event of a request in, until what is returned is dropped; and when it came, from which its deadline counts.
pub(super) fn enter(request: &HttpRequest, state: &HttpState) -> Result<(Option<Inside>, Instant), Problem> {
    let now = state.clock.instant();
    let Some(gate) = request.conn_data::<Gate>() else { return Ok((None, now)) };
    let inside = gate.enter(now).ok_or_else(overloaded)?;
    Ok((Some(inside), now.checked_sub(gate.waited()).unwrap_or(now)))
}

fn overloaded() -> Problem {
    let detail = "more requests come than can be answered in time; this one left no trace, retry it later";
    Problem::new(429, "OVERLOADED", detail).retry_after(1)
}

/// Waits for what only reads, and may be asked for again at once. Events carry their deadline with them.
pub(super) async fn within<T>(allowed: Duration, reading: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::time::timeout(allowed, reading).await.map_err(|_| {
        let detail =
            format!("expected to read this within {} s, found it takes longer now; retry", allowed.as_secs_f64());
        Problem::new(503, "DEADLINE_EXCEEDED", detail).retry_after(1)
    })
}

/// A JSON answer, or the problem that stands in its way.
pub(super) fn answer(request: &HttpRequest, state: &HttpState, result: Result<Vec<u8>, Problem>) -> HttpResponse {
    match result {
        Ok(json) => HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(json),
        Err(problem) => refuse(request, state, &problem),
    }
}

/// A JSON answer with a status of its own.
pub(super) fn created(status: StatusCode, json: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, JSON)).body(json)
}

/// Answers with a problem, and counts it.
pub(super) fn refuse(request: &HttpRequest, state: &HttpState, problem: &Problem) -> HttpResponse {
    (state.on_rejected)(problem.code);
    print(request, problem)
}

/// Answers with a problem that is no rejection.
pub(super) fn print(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let mut body = Vec::with_capacity(512);
    problem.to_json(request.path(), &mut body);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response.content_type(MEDIA_TYPE).insert_header((CACHE_CONTROL, "no-store"));
    if let Some(seconds) = problem.retry_after_secs {
        response.insert_header((RETRY_AFTER, seconds.to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"verdict\""));
    }
    response.body(body)
}

/// Answers a path that is no route.
pub(super) async fn not_found(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let problem = admit(&request, &state, &[]).err().unwrap_or_else(|| {
        Problem::new(404, "NOT_FOUND", "expected one of the paths that GET /openapi.json lists, found none of them")
    });
    refuse(&request, &state, &problem)
}

/// Answers a method that a route does not take.
pub(super) async fn method_not_allowed(
    request: HttpRequest,
    state: web::Data<HttpState>,
    allow: &'static str,
) -> HttpResponse {
    let detail = format!("expected {allow}, found {}", request.method());
    let mut response = refuse(&request, &state, &Problem::new(405, "METHOD_NOT_ALLOWED", detail));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = match &refusal {
            Refusal::TooOld { floor } => format!(
                "expected a time after {}; at or before it, duplicates of this user's events can no longer be told",
                time::to_text(*floor)
            ),
            // The cause names files of the server; it is in the log.
            Refusal::JournalUnavailable(_) => {
                "the journal cannot be written now; the service recovers by itself; retry".to_owned()
            }
            Refusal::ProfileUnreadable(_) => {
                "this user's profile cannot be read; the operator finds in the log what to do".to_owned()
            }
            other => other.to_string(),
        };
        let later = |status, code, seconds| Self::new(status, code, detail.clone()).retry_after(seconds);
        match refusal {
            Refusal::TooOld { .. } => {
                let code = FaultCode::TooOld;
                let fault = Fault { pointer: "/timestamp".to_owned(), code, message: detail.clone() };
                Self { faults: vec![fault], ..Self::new(422, code.name(), detail) }
            }
            Refusal::Unpriced(why) => {
                let (pointer, code) = match why {
                    ConversionError::NoRate(_) => ("/currency", FaultCode::UnknownCurrency),
                    ConversionError::TooLarge(_) => ("/amount", FaultCode::AmountTooLarge),
                };
                let fault = Fault { pointer: pointer.to_owned(), code, message: detail.clone() };
                Self { faults: vec![fault], ..Self::new(422, code.name(), detail) }
            }
            Refusal::IdReused => Self::new(409, "ID_REUSED", detail),
            Refusal::NotListed => Self::new(404, "ENTRY_NOT_FOUND", detail),
            Refusal::ListsFull { .. } => Self::new(422, "LISTS_FULL", detail),
            Refusal::Overloaded { .. } => later(429, "OVERLOADED", 1),
            Refusal::DeadlineExceeded => later(503, "DEADLINE_EXCEEDED", 1),
            Refusal::JournalLate => later(503, "JOURNAL_LATE", 1),
            Refusal::SpillFull => later(503, "SPILL_FULL", 1),
            Refusal::SpillFailed => later(503, "SPILL_FAILED", 1),
            Refusal::JournalUnavailable(_) => later(503, "JOURNAL_UNAVAILABLE", 5),
            Refusal::Recovering => later(503, "RECOVERING", 1),
            Refusal::OriginalUnavailable => later(503, "ORIGINAL_UNAVAILABLE", 1),
            Refusal::ProfileUnreadable(_) => later(503, "PROFILE_UNREADABLE", 60),
            Refusal::Stopping => later(503, "STOPPING", 5),
        }
    }
}

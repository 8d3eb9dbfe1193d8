//! `GET /v1/alerts`: alerts with the state of their review, newest first, in pages.

use super::{HttpState, respond};
use crate::config::Scope;
use crate::wire::alert::Arrival;
use crate::wire::alert_query::{AlertFilter, AlertPage, MAX_PAGE};
use crate::wire::fault::shown;
use crate::wire::problem::Problem;
use crate::wire::review::{NewReview, Review, ReviewStatus};
use crate::wire::{Fault, FaultCode, time};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::broadcast;
use uuid::Uuid;
use verdict_core::decision::Outcome;
use verdict_core::event::MAX_ID_BYTES;
use verdict_core::time::Timestamp;

/// Alerts on a page unless the caller asks for another number.
const DEFAULT_LIMIT: u32 = 50;

/// Why the store of alerts does not give what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AlertError {
    /// It cannot be used; whoever runs it has logged why (503).
    #[error("alerts cannot be read or reviewed now; decisions go on; retry")]
    Unavailable,
    /// It has no alert of this id (404; of a cursor 422).
    #[error("expected the id of an alert, found one that is none")]
    NotFound,
    /// A review by hand is dated so far ahead that none can come after it (409).
    #[error(
        "expected a latest review that is not a day ahead of this server's clock, found one; wait, or delete that row of \
         alert_reviews"
    )]
    ReviewAhead,
}

impl From<AlertError> for Problem {
    fn from(error: AlertError) -> Self {
        match error {
            AlertError::Unavailable => Self::new(503, "ALERTS_UNAVAILABLE", error.to_string()).retry_after(5),
            AlertError::NotFound => Self::new(404, "ALERT_NOT_FOUND", error.to_string()),
            AlertError::ReviewAhead => Self::new(409, "REVIEW_AHEAD", error.to_string()),
        }
    }
}

/// Where alerts are read, followed and reviewed.
pub trait AlertDesk: Send + Sync {
    /// One page of the alerts that pass the filter.
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertError>>;

    /// The place of an alert in the order of arrival; without an id, of the newest.
    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<i64, AlertError>>;

    /// The alerts that arrived after a place, at most so many, in order.
    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, AlertError>>;

    /// Alerts that arrive from now on, in order; who is too slow is told that some are gone.
    fn live(&self) -> broadcast::Receiver<Arc<Arrival>>;

    /// Stores what is said at this time; it is durable when this resolves.
    fn review(&self, alert_id: Uuid, said: NewReview, now: Timestamp) -> BoxFuture<'_, Result<Review, AlertError>>;
}

pub(super) async fn get(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let result = page(&request, &state).await;
    respond::answer(&request, &state, result)
}

async fn page(request: &HttpRequest, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Review])?;
    let filter = parse(request.query_string())?;
    let page = respond::within(state.limits.read_deadline, state.alerts.page(filter)).await?;
    let page = page.map_err(|error| match error {
        AlertError::NotFound => {
            let message = "expected the cursor of an alert that is still here, found another; start again without it";
            invalid(vec![fault("cursor", message.to_owned())])
        }
        AlertError::Unavailable | AlertError::ReviewAhead => error.into(),
    })?;
    let mut json = Vec::with_capacity(1_024 * page.alerts.len() + 64);
    page.to_json(&mut json);
    Ok(json)
}

fn fault(parameter: &str, message: String) -> Fault {
    Fault { pointer: format!("/{parameter}"), code: FaultCode::UnknownValue, message }
}

fn invalid(faults: Vec<Fault>) -> Problem {
    let detail = faults.first().map_or_else(String::new, |fault| format!("{}: {}", &fault.pointer[1..], fault.message));
    Problem { faults, ..Problem::new(422, "INVALID_QUERY", detail) }
}

/// Reads the query of a page.
fn parse(query: &str) -> Result<AlertFilter, Problem> {
    let mut filter = AlertFilter { limit: DEFAULT_LIMIT, ..AlertFilter::default() };
    let mut cursor = None;
    let known = &["status", "user_id", "decision", "since", "cursor", "limit"];
    let mut faults = parameters(query, known, |name, value| match name {
        "cursor" => {
            cursor = Some(value.to_owned());
            Ok(())
        }
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            filter.limit =
                limit.ok_or_else(|| format!("expected a whole number from 1 to {MAX_PAGE}, found {}", shown(value)))?;
            Ok(())
        }
        _ => narrow(&mut filter, name, value),
    })?;
    // Last, as it belongs to the filters. With a fault among them it would only be called one of others.
    if let Some(cursor) = cursor.filter(|_| faults.is_empty()) {
        match filter.read_cursor(&cursor) {
            Ok(after) => filter.after = Some(after),
            Err(message) => faults.push(fault("cursor", message)),
        }
    }
    if faults.is_empty() { Ok(filter) } else { Err(invalid(faults)) }
}

/// Reads the query of a stream: what its alerts are and stay, unlike the status of a review.
pub(super) fn parse_stream(query: &str) -> Result<AlertFilter, Problem> {
    let mut filter = AlertFilter::default();
    let faults = parameters(query, &["user_id", "decision"], |name, value| narrow(&mut filter, name, value))?;
    if faults.is_empty() { Ok(filter) } else { Err(invalid(faults)) }
}

/// Hands the parameters over, and gives what is wrong with them. One that is unknown or comes twice is a fault: a filter
/// that is silently dropped would show alerts that were filtered out.
fn parameters(
    query: &str,
    known: &[&str],
    mut apply: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<Vec<Fault>, Problem> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| invalid(vec![fault("query", error.to_string())]))?
        .into_inner();
    let mut faults = Vec::new();
    for (place, (name, value)) in pairs.iter().enumerate() {
        let applied = if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
            Err("expected once, found again".to_owned())
        } else if known.contains(&name.as_str()) {
            apply(name, value)
        } else {
            Err(format!("expected one of the parameters {}, found {}", known.join(", "), shown(name)))
        };
        if let Err(message) = applied {
            // A pointer's `~` and `/` are escaped (RFC 6901); names that are known have neither.
            let shown: String = name.chars().take(40).collect();
            faults.push(fault(&shown.replace('~', "~0").replace('/', "~1"), message));
        }
    }
    Ok(faults)
}

/// Takes up a parameter that narrows.
fn narrow(filter: &mut AlertFilter, name: &str, value: &str) -> Result<(), String> {
    match name {
        "status" => filter.status = Some(one_of(value, &ReviewStatus::ALL)?),
        "decision" => filter.decision = Some(one_of(value, &Outcome::ALL)?),
        "since" => filter.since = Some(time::parse(value)?),
        _ => {
            if value.is_empty() || value.len() > MAX_ID_BYTES {
                return Err(format!("expected an id of 1 to {MAX_ID_BYTES} bytes, found {}", shown(value)));
            }
            filter.user_id = Some(value.to_owned());
        }
    }
    Ok(())
}

fn one_of<T: Copy>(value: &str, names: &[(T, &'static str)]) -> Result<T, String> {
    names.iter().find(|(_, name)| *name == value).map(|(found, _)| *found).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
        format!("expected one of {}, found {}", known.join(", "), shown(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::to_text;

    #[test]
    fn queries() {
        let filter = parse("").expect("no filter");
        assert_eq!((filter.limit, filter.status, &filter.user_id), (50, None, &None));
        let full = "status=in_review&user_id=u%2F7&decision=block&since=2026-11-23T13:00:00%2B01:00&limit=500";
        let filter = parse(full).expect("a filter");
        let cursor = filter.cursor_after(Uuid::from_u128(41));
        let next = parse(&format!("cursor={cursor}&{full}")).expect("a cursor before its filters");
        assert_eq!(next, AlertFilter { after: Some(Uuid::from_u128(41)), ..filter.clone() });
        assert_eq!((filter.status, filter.decision), (Some(ReviewStatus::InReview), Some(Outcome::Block)));
        assert_eq!((filter.user_id.as_deref(), filter.after, filter.limit), (Some("u/7"), None, 500));
        assert_eq!(filter.since.map(to_text).as_deref(), Some("2026-11-23T12:00:00.000Z"));

        let check = |query: &str, expected: &[&str]| {
            let problem = parse(query).expect_err(query);
            let pointers: Vec<&str> = problem.faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!((problem.status, pointers.as_slice()), (422, expected), "{query}");
        };
        check("limit=0", &["/limit"]);
        check("limit=501&status=new&since=today&decision=Block", &["/limit", "/status", "/since", "/decision"]);
        check("user=u-7", &["/user"]);
        check("a/b~c=1", &["/a~1b~0c"]);
        check("limit=1&limit=1", &["/limit"]);
        check("cursor=next", &["/cursor"]);
        check("cursor=", &["/cursor"]);
        check(&format!("cursor={cursor}"), &["/cursor"]);
        check(&format!("cursor={cursor}&{full}&limit=1"), &["/limit"]);
        check("user_id=", &["/user_id"]);
        check(&format!("user_id={}", "u".repeat(129)), &["/user_id"]);

        let filter = parse_stream("decision=block&user_id=u-7").expect("a filter");
        assert_eq!((filter.decision, filter.user_id.as_deref()), (Some(Outcome::Block), Some("u-7")));
        let problem = parse_stream("status=open&limit=1").expect_err("they narrow no stream");
        assert_eq!(problem.faults.len(), 2);
    }
}

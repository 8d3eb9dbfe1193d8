//! `GET /v1/alerts`: alerts with the state of their review, newest first, in pages.

use super::{HttpState, respond};
use crate::config::Scope;
use crate::wire::alert::{AlertFilter, AlertPage, MAX_PAGE, ReviewStatus};
use crate::wire::fault::shown;
use crate::wire::problem::Problem;
use crate::wire::{Fault, FaultCode, time};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::BoxFuture;
use thiserror::Error;
use verdict_core::decision::Outcome;

/// Alerts on a page unless the caller asks for another number.
const DEFAULT_LIMIT: u32 = 50;
/// The store of alerts cannot be read; whoever runs it has logged why (503).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("alerts cannot be read now; decisions go on; retry")]
pub struct AlertsUnavailable;

/// Where alerts are read.
pub trait AlertReader: Send + Sync {
    /// One page of the alerts that pass the filter.
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertsUnavailable>>;
}

pub(super) async fn get(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let result = page(&request, &state).await;
    respond::answer(&request, &state, result)
}

async fn page(request: &HttpRequest, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Review])?;
    let filter = parse(request.query_string())?;
    let page = respond::within(state.limits.read_deadline, state.alerts.page(filter)).await?;
    let page = page.map_err(|error| Problem::new(503, "ALERTS_UNAVAILABLE", error.to_string()).retry_after(5))?;
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

/// Reads the query. A parameter that is unknown or comes twice is a fault: a filter that is silently dropped would show
/// alerts that were filtered out.
fn parse(query: &str) -> Result<AlertFilter, Problem> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| invalid(vec![fault("query", error.to_string())]))?
        .into_inner();
    let mut filter = AlertFilter { limit: DEFAULT_LIMIT, ..AlertFilter::default() };
    let mut faults = Vec::new();
    for (place, (name, value)) in pairs.iter().enumerate() {
        let again = pairs[..place].iter().any(|(earlier, _)| earlier == name);
        let applied =
            if again { Err("expected once, found again".to_owned()) } else { apply(&mut filter, name, value) };
        if let Err(message) = applied {
            // A pointer's `~` and `/` are escaped (RFC 6901); names that are known have neither.
            let shown: String = name.chars().take(40).collect();
            faults.push(fault(&shown.replace('~', "~0").replace('/', "~1"), message));
        }
    }
    if faults.is_empty() { Ok(filter) } else { Err(invalid(faults)) }
}

fn apply(filter: &mut AlertFilter, name: &str, value: &str) -> Result<(), String> {
    match name {
        "status" => filter.status = Some(one_of(value, &ReviewStatus::ALL)?),
        "decision" => filter.decision = Some(one_of(value, &Outcome::ALL)?),
        "user_id" => filter.user_id = Some(value.to_owned()),
        "cursor" => {
            let cursor = value.parse().ok().filter(|cursor| *cursor > 0);
            filter.cursor = Some(
                cursor.ok_or_else(|| format!("expected a cursor as next_cursor gave it, found {}", shown(value)))?,
            );
        }
        "since" => filter.since = Some(time::parse(value)?),
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            filter.limit =
                limit.ok_or_else(|| format!("expected a whole number from 1 to {MAX_PAGE}, found {}", shown(value)))?;
        }
        _ => {
            let known = "status, user_id, decision, since, cursor, limit";
            return Err(format!("expected one of the parameters {known}, found {}", shown(name)));
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
        let full =
            "status=in_review&user_id=u%2F7&decision=block&since=2026-11-23T13:00:00%2B01:00&cursor=41&limit=500";
        let filter = parse(full).expect("a filter");
        assert_eq!((filter.status, filter.decision), (Some(ReviewStatus::InReview), Some(Outcome::Block)));
        assert_eq!((filter.user_id.as_deref(), filter.cursor, filter.limit), (Some("u/7"), Some(41), 500));
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
        check("cursor=0", &["/cursor"]);
    }
}

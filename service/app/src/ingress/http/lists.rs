//! `/v1/lists`: block and allow entries, put, deleted, looked up and paged. A change is answered once it is durable and
//! binds the next decision.

use super::body::{self, Kind};
use super::{HttpState, respond};
use crate::actors::messages::{ListChanged, ListQuery, Refusal, Submission};
use crate::config::Scope;
use crate::wire::fault::shown;
use crate::wire::problem::Problem;
use crate::wire::{Fault, FaultCode, list};
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use verdict_core::event::Source;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};
use verdict_core::time::Timestamp;

/// Entries on a page unless the caller asks for another number.
const DEFAULT_LIMIT: usize = 50;
/// Most entries on a page.
const MAX_PAGE: usize = 500;

pub(super) async fn put(request: HttpRequest, payload: web::Payload, state: web::Data<HttpState>) -> HttpResponse {
    match put_entry(&request, payload, &state).await {
        Ok((status, json)) => respond::created(status, json),
        Err(problem) => respond::refuse(&request, &state, &problem),
    }
}

async fn put_entry(
    request: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
) -> Result<(StatusCode, Vec<u8>), Problem> {
    respond::admit(request, state, &[Scope::Admin])?;
    let key = key(request).await?;
    let body = body::read(request, payload, state, Kind::Event).await?;
    let (action, received_at) = state.parse(|context| list::parse(&body, context));
    let change = ListChange { key, source: ListSource::Api, action: action? };
    let mut json = Vec::with_capacity(256);
    if let Some(entry) = change.entry() {
        list::entry_to_json(&change.key, &entry, &mut json);
    }
    let status = match submit(state, change, received_at).await? {
        ListChanged::Created => StatusCode::CREATED,
        ListChanged::Replaced | ListChanged::Unchanged | ListChanged::Deleted => StatusCode::OK,
    };
    Ok((status, json))
}

pub(super) async fn delete(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    match delete_entry(&request, &state).await {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(problem) => respond::refuse(&request, &state, &problem),
    }
}

async fn delete_entry(request: &HttpRequest, state: &HttpState) -> Result<(), Problem> {
    respond::admit(request, state, &[Scope::Admin])?;
    let change = ListChange { key: key(request).await?, source: ListSource::Api, action: ListAction::Delete };
    submit(state, change, state.clock.now()).await.map(drop)
}

async fn submit(state: &HttpState, event: ListChange, received_at: Timestamp) -> Result<ListChanged, Problem> {
    let started = state.clock.instant();
    let deadline = Some(started + state.limits.ingest_deadline);
    let (event, source) = (Box::new(event), Source::Http);
    let submission = Submission { event, source, received_at, started, deadline, undurable: false, original: None };
    Ok(state.intake.change_list(submission).await?)
}

pub(super) async fn get(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let result = entry(&request, &state).await;
    respond::answer(&request, &state, result)
}

async fn entry(request: &HttpRequest, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Admin, Scope::Review])?;
    let key = key(request).await?;
    let entry = state.intake.list_entry(&key, state.clock.now())?;
    let entry = entry.ok_or(Refusal::NotListed)?;
    let mut json = Vec::with_capacity(256);
    list::entry_to_json(&key, &entry, &mut json);
    Ok(json)
}

pub(super) async fn get_page(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let result = page(&request, &state).await;
    respond::answer(&request, &state, result)
}

async fn page(request: &HttpRequest, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Admin, Scope::Review])?;
    let name = web::Path::<String>::extract(request).await.map_err(|_| unknown_list(""))?;
    let list = one_of(&name, &List::ALL).ok_or_else(|| unknown_list(&name))?;
    let page = state.intake.list_page(&parse(list, request.query_string())?, state.clock.now())?;
    let mut json = Vec::with_capacity(256 * page.entries.len() + 64);
    list::page_to_json(&page, &mut json);
    Ok(json)
}

/// The entry that a path names.
async fn key(request: &HttpRequest) -> Result<ListKey, Problem> {
    let parts = web::Path::<(String, String, String)>::extract(request).await;
    let (list, kind, value) = parts.map_err(|_| not_utf8())?.into_inner();
    let list = one_of(&list, &List::ALL).ok_or_else(|| unknown_list(&list))?;
    let kind = one_of(&kind, &ListKind::ALL).ok_or_else(|| {
        let detail = format!("expected user, merchant, device or ip, found {}", shown(&kind));
        Problem::new(404, "NOT_FOUND", detail)
    })?;
    // Bytes that are no UTF-8 are decoded to this character: an entry for it would be about something else.
    let asked_for = || request.uri().path().to_ascii_uppercase().contains("%EF%BF%BD");
    if value.contains(char::REPLACEMENT_CHARACTER) && !asked_for() {
        return Err(not_utf8());
    }
    let value = list::value(kind, &value).map_err(|fault| invalid(fault.code.name(), vec![fault]))?;
    Ok(ListKey { list, kind, value })
}

fn not_utf8() -> Problem {
    let message = "expected percent-encoded UTF-8, found other bytes".to_owned();
    invalid("INVALID_PATH", vec![Fault { pointer: "/value".to_owned(), code: FaultCode::TextInvalid, message }])
}

fn unknown_list(name: &str) -> Problem {
    Problem::new(404, "NOT_FOUND", format!("expected the list block or allow, found {}", shown(name)))
}

fn one_of<T: Copy>(value: &str, names: &[(T, &'static str)]) -> Option<T> {
    names.iter().find(|(_, name)| *name == value).map(|(found, _)| *found)
}

fn invalid(code: &'static str, faults: Vec<Fault>) -> Problem {
    let detail = faults.first().map_or_else(String::new, |fault| format!("{}: {}", &fault.pointer[1..], fault.message));
    Problem { faults, ..Problem::new(422, code, detail) }
}

/// Reads the query of a page. A parameter that is unknown or comes twice is a fault, as it is for alerts.
fn parse(list: List, query: &str) -> Result<ListQuery, Problem> {
    let fault = |name: &str, message: String| {
        // A pointer's `~` and `/` are escaped (RFC 6901); names that are known have neither.
        let shown: String = name.chars().take(40).collect();
        let pointer = format!("/{}", shown.replace('~', "~0").replace('/', "~1"));
        Fault { pointer, code: FaultCode::UnknownValue, message }
    };
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| invalid("INVALID_QUERY", vec![fault("query", error.to_string())]))?
        .into_inner();
    let mut wanted = ListQuery { list, kind: None, after: None, limit: DEFAULT_LIMIT };
    let mut faults = Vec::new();
    for (place, (name, value)) in pairs.iter().enumerate() {
        let again = pairs[..place].iter().any(|(earlier, _)| earlier == name);
        let applied =
            if again { Err("expected once, found again".to_owned()) } else { apply(&mut wanted, name, value) };
        faults.extend(applied.err().map(|message| fault(name, message)));
    }
    if faults.is_empty() { Ok(wanted) } else { Err(invalid("INVALID_QUERY", faults)) }
}

fn apply(wanted: &mut ListQuery, name: &str, value: &str) -> Result<(), String> {
    let expected = |what: &str| format!("expected {what}, found {}", shown(value));
    match name {
        "kind" => {
            let kind = one_of(value, &ListKind::ALL);
            wanted.kind = Some(kind.ok_or_else(|| expected("user, merchant, device or ip"))?);
        }
        "cursor" => {
            let after = list::cursor(value);
            wanted.after = Some(after.ok_or_else(|| expected("a cursor as next_cursor gave it"))?);
        }
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            wanted.limit = limit.ok_or_else(|| expected(&format!("a whole number from 1 to {MAX_PAGE}")))?;
        }
        _ => {
            return Err(format!("expected one of the parameters kind, cursor, limit, found {}", shown(name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let wanted = parse(List::Allow, "").expect("no filter");
        assert_eq!(wanted, ListQuery { list: List::Allow, kind: None, after: None, limit: 50 });
        let wanted = parse(List::Block, "kind=ip&cursor=i3132&limit=500").expect("a filter");
        let after = Some((ListKind::Ip, "12".into()));
        assert_eq!(wanted, ListQuery { list: List::Block, kind: Some(ListKind::Ip), after, limit: 500 });
        let check = |query: &str, expected: &[&str]| {
            let problem = parse(List::Block, query).expect_err(query);
            let pointers: Vec<&str> = problem.faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(
                (problem.status, problem.code, pointers.as_slice()),
                (422, "INVALID_QUERY", expected),
                "{query}"
            );
        };
        check("limit=0", &["/limit"]);
        check("limit=501&kind=users&cursor=41", &["/limit", "/kind", "/cursor"]);
        check("cursor=m6d2d3", &["/cursor"]);
        check("cursor=", &["/cursor"]);
        check("list=allow", &["/list"]);
        check("a/b~c=1&kind=ip&kind=ip", &["/a~1b~0c", "/kind"]);
    }
}

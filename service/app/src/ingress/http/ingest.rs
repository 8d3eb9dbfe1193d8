//! `POST /v1/logins` and `POST /v1/labels`: events that are remembered, answered once durable.

use super::body::{self, Kind};
use super::{HttpState, respond};
use crate::actors::messages::{Accepted, Submission};
use crate::config::Scope;
use crate::wire::problem::Problem;
use crate::wire::{label, login};
use actix_web::{HttpRequest, HttpResponse, web};
use verdict_core::event::{Login, Source};
use verdict_core::time::Timestamp;

pub(super) async fn post_login(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let result = take_login(&request, payload, &state).await;
    respond::answer(&request, &state, result)
}

async fn take_login(request: &HttpRequest, payload: web::Payload, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Ingest])?;
    let body = body::read(request, payload, state, Kind::Event).await?;
    respond::in_time(request)?;
    let (parsed, received_at) = state.parse(|context| login::parse(&body, context));
    let login = parsed?;
    let login_id = login.login_id.clone();
    let (inside, _) = respond::enter(request, state)?;
    let accepted = submit_login(state, login, received_at).await?;
    drop(inside);
    let mut json = Vec::new();
    login::accepted_to_json(&login_id, accepted.duplicate, &mut json);
    Ok(json)
}

/// Has a login remembered.
pub(super) async fn submit_login(state: &HttpState, login: Login, received_at: Timestamp) -> Result<Accepted, Problem> {
    Ok(state.intake.login(submission(state, login, received_at)).await?)
}

pub(super) async fn post_label(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let result = take_label(&request, payload, &state).await;
    respond::answer(&request, &state, result)
}

async fn take_label(request: &HttpRequest, payload: web::Payload, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Ingest])?;
    let body = body::read(request, payload, state, Kind::Event).await?;
    respond::in_time(request)?;
    let (parsed, received_at) = state.parse(|context| label::parse(&body, context));
    let label = parsed?;
    let (transaction_id, user_id, source) = (label.transaction_id.clone(), label.user_id.clone(), label.source);
    let (inside, _) = respond::enter(request, state)?;
    let accepted = state.intake.label(submission(state, label, received_at)).await?;
    drop(inside);
    let mut json = Vec::new();
    label::accepted_to_json((&transaction_id, &user_id, source), accepted.duplicate, &mut json);
    Ok(json)
}

fn submission<E>(state: &HttpState, event: E, received_at: Timestamp) -> Submission<E> {
    let started = state.clock.instant();
    let deadline = Some(started + state.limits.ingest_deadline);
    let (event, source) = (Box::new(event), Source::Http);
    Submission { event, source, received_at, started, deadline, undurable: false, original: None }
}

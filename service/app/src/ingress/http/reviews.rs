//! `POST /v1/alerts/{id}/reviews`: what a person says about an alert, answered once durable.

use super::alerts::AlertError;
use super::body::{self, Kind};
use super::{HttpState, respond};
use crate::config::Scope;
use crate::wire::problem::Problem;
use crate::wire::review;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use uuid::Uuid;

pub(super) async fn post(request: HttpRequest, payload: web::Payload, state: web::Data<HttpState>) -> HttpResponse {
    let result = take(&request, payload, &state).await;
    let created = result.is_ok();
    let mut response = respond::answer(&request, &state, result);
    if created {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

async fn take(request: &HttpRequest, payload: web::Payload, state: &HttpState) -> Result<Vec<u8>, Problem> {
    respond::admit(request, state, &[Scope::Review])?;
    let body = body::read(request, payload, state, Kind::Event).await?;
    let (parsed, now) = state.parse(|context| review::parse(&body, context));
    let said = parsed?;
    // What is no UUID names no alert.
    let id = web::Path::<String>::extract(request).await.ok();
    let id = id.and_then(|id| Uuid::try_parse(&id).ok()).ok_or(AlertError::NotFound)?;
    let review = respond::within(state.limits.read_deadline, state.alerts.review(id, said, now)).await??;
    let mut json = Vec::with_capacity(512);
    review.to_json(&mut json);
    Ok(json)
}

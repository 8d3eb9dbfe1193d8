//! What operators and machines ask of the service itself; open to all, so nothing here names a user, nor a file unless an
//! operator asks.

use super::{HttpState, respond};
use crate::config::Scope;
use crate::telemetry::health::Audience;
use crate::wire::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, web};

/// The description of this API.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// Alive: the process answers.
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ok"}"#)
}

/// Ready: profiles are recovered and every part works. Not being ready is no rejection and is not counted as one.
pub(super) async fn ready(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let report = (state.readiness)(audience(&request, &state));
    if report.ready {
        return HttpResponse::Ok().content_type("application/json").body(report.detail);
    }
    respond::print(&request, &Problem::new(503, "NOT_READY", report.waiting_for).retry_after(1))
}

/// Causes name files and quote rules: they are for whoever holds an admin's key, or everybody where nobody needs one.
fn audience(request: &HttpRequest, state: &HttpState) -> Audience {
    match respond::admit(request, state, &[Scope::Admin]) {
        Ok(_) => Audience::Operator,
        Err(_) => Audience::Anyone,
    }
}

pub(super) async fn metrics(state: web::Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((state.metrics)())
}

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}

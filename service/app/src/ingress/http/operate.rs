//! What operators and machines ask of the service itself; open to all, so nothing here names a user.

use super::{HttpState, respond};
use crate::wire::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

/// The description of this API.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// Whether the service can take requests, and what that hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyReport {
    /// Every condition; the service is ready when all hold.
    pub checks: Vec<ReadyCheck>,
}

/// One condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyCheck {
    /// What is checked, such as `shards`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// How far it is, for people.
    pub detail: String,
}

impl ReadyReport {
    /// Whether every condition holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

#[derive(Serialize)]
struct ReadyJson<'a> {
    status: &'a str,
    checks: &'a [ReadyCheck],
}

/// Alive: the process answers.
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ok"}"#)
}

/// Ready: profiles are recovered and every part works. Not being ready is no rejection and is not counted as one.
pub(super) async fn ready(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let report = (state.readiness)();
    if report.is_ready() {
        return HttpResponse::Ok().json(ReadyJson { status: "ready", checks: &report.checks });
    }
    let open: Vec<String> = report
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| format!("{}: {}", check.name, check.detail))
        .collect();
    respond::print(&request, &Problem::new(503, "NOT_READY", open.join("; ")).retry_after(1))
}

pub(super) async fn metrics(state: web::Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((state.metrics)())
}

pub(super) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}

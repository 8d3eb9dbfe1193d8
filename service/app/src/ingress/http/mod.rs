//! The HTTP API of DESIGN 4: routes, limits and status codes.
//!
//! A handler admits the caller, reads the body within its bounds, parses it with `wire`, hands the event to the
//! [`Intake`] and prints what comes back. Every error is a problem object with a reason code. Decides nothing, keeps no
//! state between requests, and reads no clock of its own.

pub mod access;
pub mod alerts;
mod body;
mod connection;
mod decide;
mod docs;
mod events;
mod ingest;
pub mod intake;
mod limit;
mod line;
mod lists;
mod local;
mod operate;
mod profile;
mod rate;
mod respond;
mod reviews;
mod serve;
pub mod streams;
#[cfg(test)]
mod tests;
mod turnstile;

pub use access::KeyRing;
pub use alerts::{AlertDesk, AlertError};
pub use intake::Intake;
pub use serve::serve;
pub use streams::Streams;

use crate::telemetry::clock::Clock;
use crate::telemetry::health::{Audience, ReadinessReport};
use crate::wire::{AgeBounds, ParseContext};
use actix_web::http::Method;
use actix_web::{Resource, Route, guard, web};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use verdict_core::money::Rates;
use verdict_core::time::Timestamp;

/// What every handler shares.
pub struct HttpState {
    /// Where events go.
    pub intake: Box<dyn Intake>,
    /// The rates in force.
    pub rates: Box<dyn Fn() -> Arc<Rates> + Send + Sync>,
    /// How old and how early an event may be.
    pub bounds: AgeBounds,
    /// Sizes and times.
    pub limits: Limits,
    /// The time of receipt and of deadlines.
    pub clock: Clock,
    /// Who may call.
    pub keys: KeyRing,
    /// What `/readyz` reports, to whom.
    pub readiness: Box<dyn Fn(Audience) -> ReadinessReport + Send + Sync>,
    /// The text that `/metrics` answers with, in the Prometheus exposition format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Where alerts are read, followed and reviewed.
    pub alerts: Arc<dyn AlertDesk>,
    /// Who follows the alerts.
    pub streams: Streams,
    /// Called with the reason code of everything that is refused, lines of batches included.
    pub on_rejected: Box<dyn Fn(&'static str) + Send + Sync>,
    /// Permits for batches in memory.
    pub batches: Arc<Semaphore>,
}

/// Bounds of requests (I7).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body of one event, and longest line of a batch, in bytes.
    pub event_bytes: usize,
    /// Longest body of a batch in bytes.
    pub batch_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Time for a decision whose caller names none.
    pub decide_deadline: Duration,
    /// Time for a login or a label.
    pub ingest_deadline: Duration,
    /// Time for a profile or a page of alerts.
    pub read_deadline: Duration,
    /// Events in flight together, at any time.
    pub max_in_flight: usize,
    /// Lines of one batch in flight together.
    pub batch_window: usize,
    /// How long a client may leave the answers to its batch unread before the rest is given up.
    pub batch_stall: Duration,
    /// How long a stream may be silent before a comment shows that it lives.
    pub stream_heartbeat: Duration,
    /// How long a client may leave the alerts that it follows unread before it is cut off.
    pub stream_stall: Duration,
    /// How long a batch may take from its first line to its last answer.
    pub batch_timeout: Duration,
}

/// Batches held in memory together, 16 MiB each at most.
pub const MAX_BATCHES: usize = 8;

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes: 64 * 1024,
            batch_bytes: 16 * 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            decide_deadline: Duration::from_millis(200),
            ingest_deadline: Duration::from_secs(5),
            read_deadline: Duration::from_secs(5),
            max_in_flight: 4_096,
            batch_window: 256,
            batch_stall: Duration::from_secs(30),
            // Proxies commonly close what is silent for 60 s.
            stream_heartbeat: Duration::from_secs(15),
            stream_stall: Duration::from_secs(10),
            batch_timeout: Duration::from_secs(600),
        }
    }
}

impl Limits {
    /// The defaults, with a window of batches that leaves half of what may be in flight to single requests.
    #[must_use]
    pub fn within(max_in_flight: usize) -> Self {
        let default = Self::default();
        let batch_window = (max_in_flight / 2 / MAX_BATCHES).clamp(1, default.batch_window);
        Self { max_in_flight, batch_window, ..default }
    }
}

impl HttpState {
    /// Runs `parse` with the rates in force, the age bounds and the time of receipt.
    fn parse<T>(&self, parse: impl FnOnce(&ParseContext<'_>) -> T) -> (T, Timestamp) {
        let (rates, now) = ((self.rates)(), self.clock.now());
        (parse(&ParseContext { rates: &rates, now, bounds: self.bounds }), now)
    }
}

/// One route: its path, the methods that it takes as `Allow` lists them, and how it answers them.
struct Endpoint {
    path: &'static str,
    allow: &'static str,
    routes: Vec<Route>,
}

impl Endpoint {
    fn post(path: &'static str, route: fn(Route) -> Route) -> Self {
        Self { path, allow: "POST", routes: vec![route(taking(|method| *method == Method::POST))] }
    }

    fn get(path: &'static str, route: fn(Route) -> Route) -> Self {
        let either = taking(|method| matches!(*method, Method::GET | Method::HEAD));
        Self { path, allow: "GET, HEAD", routes: vec![route(either)] }
    }

    /// The same path with two more methods; `allow` names all of them.
    fn and(self, allow: &'static str, routes: [Route; 2]) -> Self {
        Self { allow, routes: self.routes.into_iter().chain(routes).collect(), ..self }
    }

    /// The resource, which answers other methods with 405.
    fn into_resource(self) -> Resource {
        let allow = self.allow;
        let refuse = move |request, state| respond::method_not_allowed(request, state, allow);
        let resource = web::resource(self.path).default_service(web::to(refuse));
        self.routes.into_iter().fold(resource, Resource::route)
    }
}

/// A route for some methods. The guards of actix-web note every method that they refuse in a map of the request, for an
/// `Allow` header that is known here.
fn taking(method: fn(&Method) -> bool) -> Route {
    web::route().guard(guard::fn_guard(move |context| method(&context.head().method)))
}

/// Every route; `openapi.json` describes the same.
fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/v1/decide", |route| route.to(decide::post)),
        Endpoint::post("/decide", |route| route.to(decide::post)),
        Endpoint::post("/v1/events", |route| route.to(events::post)),
        Endpoint::post("/v1/logins", |route| route.to(ingest::post_login)),
        Endpoint::post("/v1/labels", |route| route.to(ingest::post_label)),
        Endpoint::get("/v1/users/{id}/profile", |route| route.to(profile::get)),
        Endpoint::get("/v1/alerts", |route| route.to(alerts::get)),
        Endpoint::get("/v1/alerts/stream", |route| route.to(streams::get)),
        Endpoint::post("/v1/alerts/{id}/reviews", |route| route.to(reviews::post)),
        Endpoint::get("/v1/lists/{list}", |route| route.to(lists::get_page)),
        Endpoint::get("/v1/lists/{list}/{kind}/{value}", |route| route.to(lists::get)).and(
            "GET, HEAD, PUT, DELETE",
            [
                taking(|method| *method == Method::PUT).to(lists::put),
                taking(|method| *method == Method::DELETE).to(lists::delete),
            ],
        ),
        Endpoint::get("/healthz", |route| route.to(operate::health)),
        Endpoint::get("/readyz", |route| route.to(operate::ready)),
        Endpoint::get("/metrics", |route| route.to(operate::metrics)),
        Endpoint::get("/openapi.json", |route| route.to(operate::openapi)),
        Endpoint::get("/docs", |route| route.to(docs::page)),
        Endpoint::get("/docs/page.css", |route| route.to(docs::style)),
        Endpoint::get("/docs/page.js", |route| route.to(docs::script)),
    ]
}

/// Registers every route on an application.
pub fn configure(config: &mut web::ServiceConfig, state: web::Data<HttpState>) {
    config.app_data(state);
    for endpoint in endpoints() {
        config.service(endpoint.into_resource());
    }
    config.default_service(web::to(respond::not_found));
}

//! The HTTP handlers of a simulated service, called without a connection: what is sent to them, and the bodies that they
//! answer with, read as somebody reads them.

use super::alerts::Desk;
use super::events::Event;
use super::plan::Plan;
use super::ports::Rules;
use super::service::{AGES, STALL, Service};
use crate::actors::gateway::Gateway;
use crate::actors::messages::{Accepted, Answer, ListChanged, ListPage, ListQuery, ProfileView, Refusal, Submission};
use crate::ingress::http::{self, HttpState, Intake, KeyRing, Limits};
use crate::wire::time::to_text;
use crate::wire::{label, login, transaction};
use actix_web::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::test::{self, TestRequest};
use actix_web::web::{Bytes, Data};
use futures_util::future::LocalBoxFuture;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::lists::{ListAction, ListChange, ListEntry, ListKey};
use verdict_core::money::Currency;
use verdict_core::time::Timestamp;

/// Batches that the service takes at a time.
pub(super) const MAX_BATCHES: usize = 2;

/// An HTTP application.
pub(super) type Web = Rc<dyn Fn(TestRequest) -> LocalBoxFuture<'static, Page>>;

/// An answer whose body is read a piece at a time.
pub(super) struct Page {
    pub(super) status: u16,
    body: Pin<Box<BoxBody>>,
}

impl Page {
    /// The next piece, `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let piece = poll_fn(|context| self.body.as_mut().poll_next(context)).await?;
        piece.ok()
    }

    pub(super) async fn whole(mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await {
            whole.extend_from_slice(&piece);
        }
        whole
    }

    /// The code of the problem that it is.
    pub(super) async fn code(self) -> String {
        code_of(&self.whole().await)
    }
}

/// The code of a problem object.
pub(super) fn code_of(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    json["code"].as_str().unwrap_or("no problem object").to_owned()
}

/// The application over a service.
pub(super) async fn over(service: &Service, plan: &Plan, rules: &Rules) -> Web {
    let (rates, rejected) = (Arc::new(rules.set(0).rates().clone()), Arc::clone(&service.rejected));
    let readiness = service.readiness.clone();
    let breaches = Arc::clone(&service.breaches);
    let state = Data::new(HttpState {
        intake: Box::new(Watched { gateway: service.gateway.clone(), limit: plan.limit, breaches }),
        rates: Box::new(move || Arc::clone(&rates)),
        bounds: AGES,
        limits: Limits { batch_window: plan.batch_window, stream_stall: STALL, ..Limits::within(plan.limit) },
        clock: service.clock.clone(),
        keys: KeyRing::default(),
        readiness: Box::new(move |audience| readiness.report(audience)),
        metrics: Box::new(String::new),
        alerts: Arc::new(Desk { store: service.alerts.clone(), live: service.live.clone() }),
        streams: service.streams.clone(),
        on_rejected: Box::new(move |reason| {
            *rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(reason.to_owned()).or_default() += 1;
        }),
        batches: Arc::new(Semaphore::new(MAX_BATCHES)),
    });
    let app = Rc::new(test::init_service(App::new().configure(|config| http::configure(config, state))).await);
    Rc::new(move |request| {
        let app = Rc::clone(&app);
        Box::pin(async move {
            let response: ServiceResponse<_> = test::call_service(&*app, request.to_request()).await;
            let response = response.map_into_boxed_body();
            Page { status: response.status().as_u16(), body: Box::pin(response.into_body()) }
        })
    })
}

/// A payment as JSON with its deadline, or a login, each as a line of a batch.
pub(super) fn line_of(event: &Event, deadline: Duration, out: &mut Vec<u8>) {
    match event {
        Event::Pay(payment) => {
            transaction::to_json(payment, out);
            out.pop();
            out.extend_from_slice(format!(",\"deadline_ms\":{}}}", deadline.as_millis()).as_bytes());
        }
        Event::LogIn(event) => login::to_json(event, out),
        Event::Tell(_) | Event::List(_) => {}
    }
}

/// The request of one event, with a deadline if it is a transaction.
pub(super) fn request_of(event: &Event, base: Currency, deadline: Duration) -> TestRequest {
    let mut body = Vec::new();
    let (method, path) = match event {
        Event::Pay(_) => (Method::POST, "/v1/decide".to_owned()),
        Event::LogIn(_) => (Method::POST, "/v1/logins".to_owned()),
        Event::Tell(event) => {
            label::to_json(event, base, &mut body);
            (Method::POST, "/v1/labels".to_owned())
        }
        Event::List(ListChange { key, action, .. }) => {
            let path = format!("/v1/lists/{}/{}/{}", key.list.name(), key.kind.name(), key.value);
            match action {
                ListAction::Put { reason, expires_at } => {
                    let expires_at = expires_at.map(to_text);
                    body = serde_json::json!({"reason": reason, "expires_at": expires_at}).to_string().into_bytes();
                    (Method::PUT, path)
                }
                ListAction::Delete => (Method::DELETE, path),
            }
        }
    };
    line_of(event, deadline, &mut body);
    TestRequest::default().method(method).uri(&path).set_payload(body)
}

/// The gateway, watched: what it sheds must be more than it may take at that very moment (I7).
struct Watched {
    gateway: Gateway,
    limit: usize,
    breaches: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn look<T>(&self, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        let in_flight = self.gateway.in_flight();
        if matches!(answer, Err(Refusal::Overloaded { .. })) && in_flight < self.limit {
            let breach = format!("I7: shed with {in_flight} of {} in flight", self.limit);
            self.breaches.lock().unwrap_or_else(PoisonError::into_inner).push(breach);
        }
        answer
    }
}

impl Intake for Watched {
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async { self.look(self.gateway.decide(submission).await) })
    }

    fn login(&self, submission: Submission<Login>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async { self.look(self.gateway.login(submission).await) })
    }

    fn label(&self, submission: Submission<Label>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        Box::pin(async { self.look(self.gateway.label(submission).await) })
    }

    fn profile<'a>(&'a self, user_id: &'a str) -> LocalBoxFuture<'a, Result<Option<ProfileView>, Refusal>> {
        Box::pin(async { self.look(self.gateway.profile(user_id).await) })
    }

    fn change_list(&self, submission: Submission<ListChange>) -> LocalBoxFuture<'_, Result<ListChanged, Refusal>> {
        Box::pin(async { self.look(self.gateway.change_list(submission).await) })
    }

    fn list_entry(&self, key: &ListKey, now: Timestamp) -> Result<Option<ListEntry>, Refusal> {
        self.gateway.list_entry(key, now)
    }

    fn list_page(&self, query: &ListQuery, now: Timestamp) -> Result<ListPage, Refusal> {
        self.gateway.list_page(query, now)
    }
}

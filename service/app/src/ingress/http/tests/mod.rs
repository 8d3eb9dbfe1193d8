//! Status codes, headers and bodies of every route, against actors that answer as told.

mod attacks;
mod batches;
mod contract;
mod served;
mod statuses;

use super::{AlertReader, AlertsUnavailable, HttpState, Intake, KeyRing, Limits, MAX_BATCHES, configure};
use crate::actors::messages::{Accepted, Answer, ProfileView, Refusal, Submission};
use crate::telemetry::clock::{self, Clock, TimeSource};
use crate::telemetry::health::{DecidingWith, Readiness};
use crate::wire::AgeBounds;
use crate::wire::alert::testing::alert;
use crate::wire::alert::{AlertFilter, AlertPage};
use crate::wire::decision::testing::answer_to;
use crate::wire::testing::{NOON, rates};
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::test::{self, TestRequest};
use actix_web::web::{Bytes, Data};
use actix_web::{App, Error};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use verdict_core::decision::Degradation;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::features::{FeatureVector, SLOTS};
use verdict_core::time::Timestamp;

/// A body that is right in every way.
const TRANSACTION: &str = r#"{"transaction_id":"t-81","user_id":"u-7","amount":"123.45","currency":"USD","merchant_id":"m-3","timestamp":"2026-11-23T12:00:00.000Z"}"#;
const LOGIN: &str = r#"{"login_id":"l-9","user_id":"u-7","timestamp":"2026-11-23T11:30:00.000Z"}"#;
const LABEL: &str = r#"{"transaction_id":"t-81","user_id":"u-7","is_fraud":true,"source":"analyst","timestamp":"2026-11-23T12:00:00.000Z"}"#;

/// How the actors answer.
#[derive(Clone, Debug, Default)]
enum Mood {
    /// With a normal decision.
    #[default]
    Fine,
    /// Without the model.
    Degraded,
    /// Before the record is durable.
    NotDurable,
    /// With a refusal.
    Refusing(Refusal),
    /// Never.
    Silent,
    /// After being polled more often the earlier they came, so that the last would finish first.
    Backwards,
}

/// Actors that answer as told and remember what they were asked, in order.
#[derive(Clone, Default)]
struct Actors {
    mood: Mood,
    seen: Arc<Mutex<Vec<String>>>,
    deadlines: Arc<Mutex<Vec<Duration>>>,
}

impl Actors {
    fn note(&self, what: String) -> usize {
        let mut seen = self.seen.lock().expect("no panic under the lock");
        seen.push(what);
        seen.len()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic under the lock").clone()
    }

    /// Remembers how long an event may take; every event over HTTP has a deadline.
    fn note_deadline<E>(&self, submission: &Submission<E>) {
        let deadline = submission.deadline.expect("a deadline");
        self.deadlines.lock().expect("no panic under the lock").push(deadline - submission.started);
    }

    fn deadlines(&self) -> Vec<Duration> {
        self.deadlines.lock().expect("no panic under the lock").clone()
    }

    async fn reply<T>(&self, what: String, fine: impl FnOnce() -> T) -> Result<T, Refusal> {
        let place = self.note(what);
        match &self.mood {
            Mood::Refusing(refusal) => return Err(refusal.clone()),
            Mood::Silent => std::future::pending::<()>().await,
            Mood::Backwards => {
                for _ in 0..100_usize.saturating_sub(place) {
                    tokio::task::yield_now().await;
                }
            }
            Mood::Fine | Mood::Degraded | Mood::NotDurable => {}
        }
        Ok(fine())
    }
}

impl Intake for Actors {
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>> {
        self.note_deadline(&submission);
        let what = format!("decide {}", submission.event.transaction_id);
        Box::pin(self.reply(what, move || {
            let mut answer = answer_to(submission.event);
            if matches!(self.mood, Mood::Degraded) {
                let mut decided = (*answer.decided).clone();
                decided.decision.degraded.push(Degradation::ModelTimeout);
                answer.decided = Arc::new(decided);
            }
            answer.durable = !matches!(self.mood, Mood::NotDurable);
            answer
        }))
    }

    fn login(&self, submission: Submission<Login>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        self.note_deadline(&submission);
        Box::pin(self.reply(format!("login {}", submission.event.login_id), || Accepted { duplicate: false }))
    }

    fn label(&self, submission: Submission<Label>) -> LocalBoxFuture<'_, Result<Accepted, Refusal>> {
        self.note_deadline(&submission);
        Box::pin(self.reply(format!("label {}", submission.event.transaction_id), || Accepted { duplicate: true }))
    }

    fn profile<'a>(&'a self, user_id: &'a str) -> LocalBoxFuture<'a, Result<Option<ProfileView>, Refusal>> {
        let view = ProfileView {
            user_id: user_id.into(),
            features: FeatureVector([f64::NAN; SLOTS]),
            recent: Vec::new(),
            retained: 0,
            last_login: None,
            fraud_labels: 0,
            entries: Vec::new(),
        };
        let known = user_id.starts_with("u-") || user_id.contains('/');
        Box::pin(self.reply(format!("profile {user_id}"), move || known.then_some(view)))
    }
}

/// A store with one alert, which is down behind cursor 13.
struct Alerts;

impl AlertReader for Alerts {
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertsUnavailable>> {
        Box::pin(async move {
            match filter.cursor {
                None => Ok(AlertPage { alerts: vec![alert()], next_cursor: Some(41) }),
                Some(13) => Err(AlertsUnavailable),
                Some(_) => Ok(AlertPage { alerts: Vec::new(), next_cursor: None }),
            }
        })
    }
}

/// A wall clock that stands at noon.
struct Noon;

impl TimeSource for Noon {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn instant(&self) -> Instant {
        clock::instant()
    }
}

/// Two shards that serve and a projection that follows.
fn readiness() -> Readiness {
    let readiness = Readiness::new(2);
    readiness.set_shard(0, true);
    readiness.set_shard(1, true);
    readiness.set_projection_lag("alerts", 0);
    let ruleset = serde_json::json!({"name": "default", "version": "0a".repeat(32)});
    let model = serde_json::json!({"name": "default", "version": "1", "sha256": "5e".repeat(32)});
    readiness.set_deciding(DecidingWith { ruleset, model: Some(model) });
    readiness
}

/// What the tests look at afterwards.
struct Bench {
    actors: Actors,
    rejected: Arc<Mutex<Vec<&'static str>>>,
    state: HttpState,
}

impl Bench {
    fn new(mood: Mood) -> Self {
        let actors = Actors { mood, ..Actors::default() };
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&rejected);
        let state = HttpState {
            intake: Box::new(actors.clone()),
            rates: Box::new(|| Arc::new(rates())),
            bounds: AgeBounds::default(),
            limits: Limits::default(),
            clock: Clock::Given(Arc::new(Noon)),
            keys: KeyRing::default(),
            readiness: Box::new(|| readiness().report()),
            metrics: Box::new(|| "verdict_alerts_total 0\n".to_owned()),
            alerts: Arc::new(Alerts),
            on_rejected: Box::new(move |reason| hook.lock().expect("no panic under the lock").push(reason)),
            batches: Arc::new(Semaphore::new(MAX_BATCHES)),
        };
        Self { actors, rejected, state }
    }
}

/// What came back.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The reason code, having checked that an error is a whole problem object.
    fn code(&self) -> String {
        if self.status < 400 {
            return String::new();
        }
        assert_eq!(self.header(CONTENT_TYPE.as_str()), Some("application/problem+json"));
        let problem = self.json();
        for key in ["type", "title", "detail", "instance", "code"] {
            assert!(problem[key].is_string(), "{key} in {problem}");
        }
        assert_eq!(problem["status"], self.status);
        assert!(problem["errors"].is_array(), "{problem}");
        assert_eq!(self.header("retry-after").is_some(), matches!(self.status, 429 | 503), "{problem}");
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends one request to an application around the state.
async fn send(state: &Data<HttpState>, request: TestRequest) -> Reply {
    send_with(state, request, None).await
}

/// The same with a body that arrives as the payload says.
async fn send_with(state: &Data<HttpState>, request: TestRequest, payload: Option<Payload>) -> Reply {
    let state = state.clone();
    let app = test::init_service(App::new().configure(move |config| configure(config, state))).await;
    let mut request = request.to_request();
    if let Some(payload) = payload {
        (request, _) = request.replace_payload(payload);
    }
    collect(&app, request).await
}

async fn collect<S, R, B>(app: &S, request: R) -> Reply
where
    S: Service<R, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let response = test::call_service(app, request).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply { status, headers, body: test::read_body(response).await }
}

fn post(uri: &str, body: impl Into<Bytes>) -> TestRequest {
    TestRequest::post().uri(uri).set_payload(body)
}

fn get(uri: &str) -> TestRequest {
    TestRequest::get().uri(uri)
}

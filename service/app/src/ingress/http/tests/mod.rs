//! Status codes, headers and bodies of every route, against actors that answer as told.

mod attacks;
mod batches;
mod contract;
mod open;
mod served;
mod statuses;
mod streams;
mod turnstile;

use super::{AlertDesk, AlertError, HttpState, Intake, KeyRing, Limits, MAX_BATCHES, Streams, configure};
use crate::actors::messages::{Accepted, Answer, ListChanged, ListPage, ListQuery, ProfileView, Refusal, Submission};
use crate::config::{ApiKeyConfig, Scope};
use crate::telemetry::clock::{self, Clock, TimeSource};
use crate::telemetry::health::{DecidingWith, Readiness};
use crate::wire::AgeBounds;
use crate::wire::alert::testing::alert;
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::decision::testing::answer_to;
use crate::wire::list::testing::listed;
use crate::wire::review::{self, NewReview, Review};
use crate::wire::testing::{NOON, rates};
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::test::{self, TestRequest};
use actix_web::web::{Bytes, Data};
use actix_web::{App, Error};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;
use verdict_core::decision::Degradation;
use verdict_core::event::{Label, Login, Transaction};
use verdict_core::features::{FeatureVector, SLOTS};
use verdict_core::lists::{ListAction, ListChange, ListEntry, ListKey};
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
    /// With this lack.
    Degraded(Degradation),
    /// Before the record is durable.
    NotDurable,
    /// With a refusal.
    Refusing(Refusal),
    /// Never.
    Silent,
    /// One for every permit.
    Held(Arc<Semaphore>),
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
            Mood::Held(answers) => answers.acquire().await.expect("never closed").forget(),
            Mood::Backwards => {
                for _ in 0..100_usize.saturating_sub(place) {
                    tokio::task::yield_now().await;
                }
            }
            Mood::Fine | Mood::Degraded(_) | Mood::NotDurable => {}
        }
        Ok(fine())
    }
}

impl Intake for Actors {
    fn decide(&self, submission: Submission<Transaction>) -> LocalBoxFuture<'_, Result<Answer, Refusal>> {
        self.note_deadline(&submission);
        let what = format!("decide {}", submission.event.transaction_id);
        Box::pin(self.reply(what, move || {
            let mut answer = answer_to(*submission.event);
            if let Mood::Degraded(why) = self.mood {
                let mut decided = (*answer.decided).clone();
                decided.decision.degraded.push(why);
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

    fn change_list(&self, submission: Submission<ListChange>) -> LocalBoxFuture<'_, Result<ListChanged, Refusal>> {
        self.note_deadline(&submission);
        let ListChange { key, action, .. } = *submission.event;
        let what = format!("{action:?} {} {} {}", key.list.name(), key.kind.name(), key.value);
        Box::pin(async move {
            let known = listed().0 == key;
            let done = match (action, known) {
                (ListAction::Put { .. }, false) => ListChanged::Created,
                (ListAction::Put { .. }, true) => ListChanged::Replaced,
                (ListAction::Delete, true) => ListChanged::Deleted,
                (ListAction::Delete, false) => return Err(Refusal::NotListed),
            };
            self.reply(what, || done).await
        })
    }

    fn list_entry(&self, key: &ListKey, _: Timestamp) -> Result<Option<ListEntry>, Refusal> {
        match &self.mood {
            Mood::Refusing(refusal) => Err(refusal.clone()),
            _ => Ok(Some(listed()).filter(|(known, _)| known == key).map(|(_, entry)| entry)),
        }
    }

    fn list_page(&self, query: &ListQuery, _: Timestamp) -> Result<ListPage, Refusal> {
        match &self.mood {
            Mood::Refusing(refusal) => Err(refusal.clone()),
            _ => Ok(ListPage { entries: vec![listed()], next: query.after.clone() }),
        }
    }
}

/// A store of the alerts with ids 1 and up, of which so many have arrived. It is down for what follows alert 13.
struct Alerts {
    arrived: AtomicI64,
    live: broadcast::Sender<Arc<Arrival>>,
}

/// Alert number `seq` of users u-0 and u-1 in turn.
fn arrival(seq: i64) -> Arrival {
    let (alert_id, user_id) = (Uuid::from_u128(seq.unsigned_abs().into()).to_string(), format!("u-{}", seq % 2));
    Arrival::new(seq, Alert { alert_id, user_id, ..alert() })
}

impl Alerts {
    fn new(arrived: i64) -> Self {
        Self { arrived: arrived.into(), live: broadcast::Sender::new(64) }
    }

    fn newest(&self) -> i64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Has so many more arrive.
    fn arrive(&self, count: i64) {
        for _ in 0..count {
            let seq = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = self.live.send(Arc::new(arrival(seq)));
        }
    }

    /// The number of an alert that is there.
    fn number(&self, id: Uuid) -> Result<i64, AlertError> {
        let number = i64::try_from(id.as_u128()).ok().filter(|number| (1..=self.newest()).contains(number));
        number.ok_or(AlertError::NotFound)
    }
}

impl AlertDesk for Alerts {
    fn page(&self, filter: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertError>> {
        Box::pin(async move {
            let next_cursor = Some(filter.cursor_after(Uuid::from_u128(1)));
            match filter.after.map(|id| self.number(id)).transpose()? {
                None => Ok(AlertPage { alerts: vec![alert()], next_cursor }),
                Some(13) => Err(AlertError::Unavailable),
                Some(_) => Ok(AlertPage { alerts: Vec::new(), next_cursor: None }),
            }
        })
    }

    fn place(&self, alert_id: Option<Uuid>) -> BoxFuture<'_, Result<i64, AlertError>> {
        Box::pin(async move { alert_id.map_or_else(|| Ok(self.newest()), |id| self.number(id)) })
    }

    fn arrived(&self, after: i64, most: u32) -> BoxFuture<'_, Result<Vec<Arrival>, AlertError>> {
        Box::pin(async move {
            if after == 13 {
                return Err(AlertError::Unavailable);
            }
            Ok((after + 1..=self.newest()).take(most as usize).map(arrival).collect())
        })
    }

    fn live(&self) -> broadcast::Receiver<Arc<Arrival>> {
        self.live.subscribe()
    }

    fn review(&self, alert_id: Uuid, said: NewReview, now: Timestamp) -> BoxFuture<'_, Result<Review, AlertError>> {
        Box::pin(async move {
            match self.number(alert_id)? {
                13 => Err(AlertError::Unavailable),
                _ => Ok(Review { at: now, ..review::testing::stored(&alert_id.to_string(), said) }),
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
/// A key of each scope, whose text is the scope's name.
fn a_key_a_scope() -> KeyRing {
    let key = |(scope, name): (Scope, &str)| ApiKeyConfig {
        name: name.into(),
        sha256: Sha256::digest(name).into(),
        scopes: vec![scope],
        rate: None,
    };
    KeyRing::new(Scope::ALL.map(key).to_vec())
}

fn readiness() -> Readiness {
    let readiness = Readiness::new(2);
    readiness.set_shard(0, true);
    readiness.set_shard(1, true);
    readiness.set_projection_lag("review", 0);
    let ruleset = serde_json::json!({"name": "default", "version": "0a".repeat(32)});
    let model = serde_json::json!({"name": "default", "version": "1", "sha256": "5e".repeat(32)});
    readiness.set_deciding(DecidingWith { ruleset, model: Some(model) });
    readiness
}

/// What the tests look at afterwards.
struct Bench {
    actors: Actors,
    alerts: Arc<Alerts>,
    cut_off: Arc<AtomicI64>,
    rejected: Arc<Mutex<Vec<&'static str>>>,
    state: HttpState,
}

impl Bench {
    fn new(mood: Mood) -> Self {
        let actors = Actors { mood, ..Actors::default() };
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&rejected);
        let (alerts, cut_off) = (Arc::new(Alerts::new(41)), Arc::new(AtomicI64::new(0)));
        let cut = Arc::clone(&cut_off);
        let streams = Streams::new(3, move || {
            cut.fetch_add(1, Ordering::Relaxed);
        });
        let state = HttpState {
            intake: Box::new(actors.clone()),
            rates: Box::new(|| Arc::new(rates())),
            bounds: AgeBounds::default(),
            limits: Limits::default(),
            clock: Clock::Given(Arc::new(Noon)),
            keys: KeyRing::default(),
            readiness: Box::new(|audience| readiness().report(audience)),
            metrics: Box::new(|| "verdict_alerts_total 0\n".to_owned()),
            alerts: Arc::clone(&alerts) as Arc<dyn AlertDesk>,
            streams,
            on_rejected: Box::new(move |reason| hook.lock().expect("no panic under the lock").push(reason)),
            batches: Arc::new(Semaphore::new(MAX_BATCHES)),
        };
        Self { actors, alerts, cut_off, rejected, state }
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
        // Some of what is not normal is decided for good, and no better later.
        if problem["code"] != "NOT_NORMAL" {
            assert_eq!(self.header("retry-after").is_some(), matches!(self.status, 429 | 503), "{problem}");
        }
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

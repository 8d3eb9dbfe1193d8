//! One life of the service: every part but the ports as in production, on one thread, from start to crash or stop.

use super::events::Event;
use super::plan::Plan;
use super::ports::{Rules, SimModel, SimTime};
use crate::actors::gateway::Gateway;
use crate::actors::messages::Submission;
use crate::actors::replica::ListReplica;
use crate::actors::shard::{ShardActor, ShardSettings};
use crate::ingress::http::streams::Streams;
use crate::ingress::http::{self, AlertDesk, AlertError, HttpState, KeyRing, Limits};
use crate::journal::Journal;
use crate::journal::checkpoint::Checkpoints;
use crate::journal::simulated::{Disk, SimCheckpoints, SimJournal};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::health::Readiness;
use crate::wire::alert::Arrival;
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, Review};
use crate::wire::time::to_text;
use crate::wire::{AgeBounds, label, login, transaction};
use actix_web::http::Method;
use actix_web::test::{self, TestRequest};
use actix_web::web::{Bytes, Data};
use actix_web::{App, dev};
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;
use verdict_core::event::Source;
use verdict_core::lists::{ListAction, ListChange};
use verdict_core::money::Currency;
use verdict_core::time::{DAY_MS, HOUR_MS, Timestamp};

/// What the composition root adds to the permits.
const MAILBOX_RESERVE: usize = 1_024;

/// How old an event may be over HTTP, and how early.
pub(super) const AGES: AgeBounds = AgeBounds { max_age_ms: Some(7 * DAY_MS), max_ahead_ms: Some(24 * HOUR_MS) };

/// An HTTP application: status and body of the answer to a method, a path and a body.
type Web = Rc<dyn Fn(Method, String, Vec<u8>) -> LocalBoxFuture<'static, (u16, Bytes)>>;

/// See the module.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) gateway: Gateway,
    pub(super) lists: Arc<ListReplica>,
    pub(super) readiness: Readiness,
    pub(super) time: Arc<SimTime>,
    stopping: Rc<Cell<bool>>,
    rejected: Arc<Mutex<BTreeMap<String, u64>>>,
    clock: Clock,
    web: Option<Web>,
}

impl Service {
    /// Starts over what is on the disk.
    pub(super) async fn start(
        plan: &Plan,
        (rules, which): (&Rules, usize),
        disk: &Disk,
        model: Option<&SimModel>,
        time: SimTime,
    ) -> Self {
        let time = Arc::new(time);
        let clock = Clock::Given(time.clone());
        let journal: Arc<dyn Journal> = Arc::new(SimJournal::open(disk.clone()));
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(SimCheckpoints::open(disk.clone()));
        let readiness = Readiness::new(plan.shards.into());
        let lists = ListReplica::new(plan.partitions, plan.max_listed);
        let mut shards = Vec::new();
        for shard in 0..plan.shards {
            let settings = ShardSettings {
                shard,
                partitions: (0..plan.partitions).filter(|partition| partition % plan.shards == shard).collect(),
                retention: plan.retention,
                hot: plan.hot,
                clock: clock.clone(),
                journal: Arc::clone(&journal),
                checkpoints: Some(Arc::clone(&checkpoints)),
                checkpoint_every: Duration::from_secs(plan.checkpoint_secs.into()),
                lists: Arc::clone(&lists),
                readiness: readiness.clone(),
                metrics: Metrics::new(),
                mailbox: plan.limit + MAILBOX_RESERVE,
            };
            let (address, start) = ShardActor::prepare(settings, rules.judge(which, model.cloned()));
            start();
            shards.push(address);
        }
        let gateway = Gateway::new(shards, plan.partitions, plan.limit, Arc::clone(&lists));
        let mut service = Self {
            gateway,
            lists,
            readiness,
            time,
            stopping: Rc::default(),
            rejected: Arc::default(),
            clock,
            web: None,
        };
        if plan.http {
            service.web = Some(service.web(rules, plan.limit).await);
        }
        service
    }

    /// The application over this gateway.
    async fn web(&self, rules: &Rules, limit: usize) -> Web {
        let (rates, rejected) = (Arc::new(rules.set(0).rates().clone()), Arc::clone(&self.rejected));
        let readiness = self.readiness.clone();
        let state = Data::new(HttpState {
            intake: Box::new(self.gateway.clone()),
            rates: Box::new(move || Arc::clone(&rates)),
            bounds: AGES,
            limits: Limits::within(limit),
            clock: self.clock.clone(),
            keys: KeyRing::default(),
            readiness: Box::new(move || readiness.report()),
            metrics: Box::new(String::new),
            alerts: Arc::new(NoAlerts),
            streams: Streams::new(1, || ()),
            on_rejected: Box::new(move |reason| {
                *rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(reason.to_owned()).or_default() += 1;
            }),
            batches: Arc::new(Semaphore::new(http::MAX_BATCHES)),
        });
        let app = Rc::new(test::init_service(App::new().configure(|config| http::configure(config, state))).await);
        Rc::new(move |method, path, body| {
            let app = Rc::clone(&app);
            Box::pin(async move {
                let request = TestRequest::default().method(method).uri(&path).set_payload(body).to_request();
                let response: dev::ServiceResponse<_> = test::call_service(&*app, request).await;
                (response.status().as_u16(), test::read_body(response).await)
            })
        })
    }

    /// An event as a request with this deadline.
    pub(super) fn submission<E>(&self, event: E, deadline: Option<Duration>) -> Submission<E> {
        let started = self.clock.instant();
        let deadline = deadline.map(|deadline| started + deadline);
        Submission { event, source: Source::Http, received_at: self.clock.now(), started, deadline, original: None }
    }

    /// An event as a line of a file.
    pub(super) fn line<E>(&self, event: E, line: u64, original: Vec<u8>) -> Submission<E> {
        let (source, original) = (Source::File { line }, Some(original.into()));
        Submission { source, original, ..self.submission(event, None) }
    }

    /// The wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Says that it stops.
    pub(super) fn stop(&self) {
        self.readiness.stop();
        self.stopping.set(true);
    }

    /// Whether it was asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// What the handlers counted as refused, by reason.
    pub(super) fn rejected(&self) -> BTreeMap<String, u64> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether requests go through the handlers.
    pub(super) fn has_web(&self) -> bool {
        self.web.is_some()
    }

    /// Sends an event, with a deadline if it is a transaction; without handlers there is no answer.
    pub(super) async fn send(&self, event: &Event, base: Currency, deadline: Duration) -> (u16, Bytes) {
        let mut body = Vec::new();
        let (method, path) = match event {
            Event::Pay(payment) => {
                transaction::to_json(payment, &mut body);
                body.pop();
                body.extend_from_slice(format!(",\"deadline_ms\":{}}}", deadline.as_millis()).as_bytes());
                (Method::POST, "/v1/decide".to_owned())
            }
            Event::LogIn(event) => {
                login::to_json(event, &mut body);
                (Method::POST, "/v1/logins".to_owned())
            }
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
        match &self.web {
            Some(web) => web(method, path, body).await,
            None => (0, Bytes::new()),
        }
    }
}

/// A simulated service shows no alerts: they are a projection, and nothing asks for them.
struct NoAlerts;

impl AlertDesk for NoAlerts {
    fn page(&self, _: AlertFilter) -> BoxFuture<'_, Result<AlertPage, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }

    fn place(&self, _: Option<Uuid>) -> BoxFuture<'_, Result<i64, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }

    fn arrived(&self, _: i64, _: u32) -> BoxFuture<'_, Result<Vec<Arrival>, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }

    fn live(&self) -> broadcast::Receiver<Arc<Arrival>> {
        broadcast::Sender::new(1).subscribe()
    }

    fn review(&self, _: Uuid, _: NewReview, _: Timestamp) -> BoxFuture<'_, Result<Review, AlertError>> {
        Box::pin(ready(Err(AlertError::Unavailable)))
    }
}

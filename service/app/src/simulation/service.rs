//! One life of the service: every part but the ports as in production, on one thread, from start to crash or stop.

use super::alerts::SimAlerts;
use super::events::Event;
use super::plan::Plan;
use super::ports::{Rules, SimModel, SimTime};
use super::web::{self, Page, Web};
use crate::actors::gateway::Gateway;
use crate::actors::messages::Submission;
use crate::actors::permits::Permits;
use crate::actors::replica::ListReplica;
use crate::actors::shard::{ShardActor, ShardSettings};
use crate::ingress::http::streams::Streams;
use crate::journal::Journal;
use crate::journal::checkpoint::Checkpoints;
use crate::journal::simulated::{Disk, SimCheckpoints, SimJournal};
use crate::projections::alert_feed::AlertFeed;
use crate::projections::review::{Lag, ReviewProjection};
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::health::Readiness;
use crate::wire::AgeBounds;
use crate::wire::alert::Arrival;
use actix_web::test::TestRequest;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use verdict_core::event::Source;
use verdict_core::money::Currency;
use verdict_core::time::{DAY_MS, HOUR_MS, Timestamp};

/// How old an event may be over HTTP, and how early.
pub(super) const AGES: AgeBounds = AgeBounds { max_age_ms: Some(7 * DAY_MS), max_ahead_ms: Some(24 * HOUR_MS) };

/// How long a client may leave alerts unread; longer than a model ever holds its thread up.
pub(super) const STALL: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) gateway: Gateway,
    pub(super) lists: Arc<ListReplica>,
    pub(super) readiness: Readiness,
    pub(super) time: Arc<SimTime>,
    stopping: Rc<Cell<bool>>,
    pub(super) rejected: Arc<Mutex<BTreeMap<String, u64>>>,
    /// What the handlers saw that must not be.
    pub(super) breaches: Arc<Mutex<Vec<String>>>,
    pub(super) clock: Clock,
    pub(super) alerts: SimAlerts,
    pub(super) live: broadcast::Sender<Arc<Arrival>>,
    pub(super) streams: Streams,
    /// How far the alerts are behind the journal.
    pub(super) lag: Lag,
    web: Option<Web>,
}

impl Service {
    /// Starts over what is on the disk.
    pub(super) async fn start(
        plan: &Plan,
        (rules, which): (&Rules, usize),
        (disk, alerts): (&Disk, &SimAlerts),
        model: Option<&SimModel>,
        time: SimTime,
    ) -> Self {
        let time = Arc::new(time);
        let clock = Clock::Given(time.clone());
        let journal: Arc<dyn Journal> = Arc::new(SimJournal::open(disk.clone()));
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(SimCheckpoints::open(disk.clone()));
        let readiness = Readiness::new(plan.shards.into());
        let lists = ListReplica::new(plan.partitions, plan.max_listed);
        let permits = Permits::new(plan.limit, plan.shards);
        let mut shards = Vec::new();
        for shard in 0..plan.shards {
            let settings = ShardSettings {
                shard,
                partitions: (0..plan.partitions).filter(|partition| partition % plan.shards == shard).collect(),
                retention: plan.retention,
                hot: plan.hot,
                max_batch: 64,
                clock: clock.clone(),
                journal: Arc::clone(&journal),
                checkpoints: Some(Arc::clone(&checkpoints)),
                spill: None,
                checkpoint_every: Duration::from_secs(plan.checkpoint_secs.into()),
                lists: Arc::clone(&lists),
                begun: Arc::new(|_| ()),
                readiness: readiness.clone(),
                metrics: Metrics::new(),
                permits: permits.clone(),
            };
            let (address, start) = ShardActor::prepare(settings, rules.judge(which, model.cloned()));
            start();
            shards.push(address);
        }
        let gateway = Gateway::new(shards, plan.partitions, permits, Arc::clone(&lists));
        let projection = ReviewProjection::new(journal, Arc::new(alerts.clone()), 0);
        let (lag, breaches) = (projection.lag(), Arc::<Mutex<Vec<String>>>::default());
        let seen = Arc::clone(&breaches);
        actix::spawn(async move {
            let error = projection.run().await;
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("I4: the projection ended: {error}"));
        });
        let live = broadcast::Sender::new(plan.alerts_behind);
        actix::spawn(AlertFeed::new(Arc::new(alerts.clone()), live.clone()).run());
        let mut service = Self {
            gateway,
            lists,
            readiness,
            time,
            stopping: Rc::default(),
            rejected: Arc::default(),
            breaches,
            clock,
            alerts: alerts.clone(),
            live,
            streams: Streams::new(plan.streams, || ()),
            lag,
            web: None,
        };
        if plan.http {
            service.web = Some(web::over(&service, plan, rules).await);
        }
        service
    }

    /// An event as a request with this deadline.
    pub(super) fn submission<E>(&self, event: E, deadline: Option<Duration>) -> Submission<E> {
        let started = self.clock.instant();
        let deadline = deadline.map(|deadline| started + deadline);
        Submission {
            event: Box::new(event),
            source: Source::Http,
            received_at: self.clock.now(),
            started,
            deadline,
            undurable: false,
            original: None,
        }
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
        self.streams.stop();
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

    /// What must not be, if it was seen.
    pub(super) fn breach(&self) -> Option<String> {
        self.breaches.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// The answer to one who follows the alerts and saw this one last.
    pub(super) async fn follow(&self, path: String, last: Option<String>) -> Page {
        self.ask(TestRequest::get().uri(&path).insert_header(("last-event-id", last.unwrap_or_default()))).await
    }

    /// Whether requests go through the handlers.
    pub(super) fn has_web(&self) -> bool {
        self.web.is_some()
    }

    /// The answer of the handlers to an event, with a deadline if it is a transaction.
    pub(super) async fn send(&self, event: &Event, base: Currency, deadline: Duration) -> (u16, Vec<u8>) {
        let page = self.ask(web::request_of(event, base, deadline)).await;
        (page.status, page.whole().await)
    }

    /// The answer of the handlers.
    pub(super) async fn ask(&self, request: TestRequest) -> Page {
        let web = self.web.as_ref().expect("a story over HTTP");
        web(request).await
    }
}

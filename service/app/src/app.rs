//! The only composition root: what is built from what, downstream first.
//!
//! `Deciding` is what decides (rules and model, one generation), `Service` is everything that `verdict serve` runs,
//! and `scratch` is the same actors over a journal that keeps nothing, for a backtest.

mod alerts;
mod base_currency;
mod brokers;
mod consuming;
mod freshness;
pub(crate) mod lists;
mod open_files;
mod publishing;
mod reload;
pub(crate) mod review_store;
mod reviews;
mod shards;
mod stopping;
pub(crate) mod storage;
mod watch;

use crate::actors::context::Judge;
use crate::actors::gateway::Gateway;
use crate::actors::replica::ListReplica;
use crate::actors::shard::Begun;
use crate::config::{Config, DataConfig, KafkaConfig};
use crate::ingress::http::streams::{MAX_STREAMS, Streams};
use crate::ingress::http::{self, HttpState, KeyRing, Limits};
use crate::ingress::kafka::Consumption;
use crate::journal::record::{Generation, ModelRef};
use crate::journal::{DirLock, Journal, MemoryJournal};
use crate::model::{ModelHost, Score, Search};
use crate::projections::Follower;
use crate::projections::alert_feed::AlertFeed;
use crate::projections::review::ReviewProjection;
use crate::projections::review_labels::ReviewLabels;
use crate::projections::review_store::ReviewStore;
use crate::rulebook::Rulebook;
use crate::telemetry::Metrics;
use crate::telemetry::clock::Clock;
use crate::telemetry::events::{AlertStreamCutOff, AlertStreams, InFlight, ListEntries, Ready, Rejected};
use crate::telemetry::health::Readiness;
use crate::wire::AgeBounds;
use actix::Arbiter;
use actix_web::web::Data;
use alerts::Desk;
use anyhow::{Context as _, bail};
use freshness::Freshness;
use futures_util::future::join_all;
use lists::Mirror;
use publishing::{Outboxes, Publishing};
use reload::{RatesInForce, Reloader};
use shards::{Shards, seat};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stopping::{Progress, Step, Stopping};
use storage::Storage;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use verdict_core::features::schema_version;
use verdict_core::profile::Retention;
use verdict_core::rules::RuleSet;
use verdict_core::time::{DAY_MS, HOUR_MS};
use watch::Look;

/// How often recorded samples are folded into histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// How long a stop waits for its last answers to be read once everything is saved, if alerts were being followed: some
/// reader of a stream may never read its end.
const STREAMS_GRACE: Duration = Duration::from_secs(3);

/// Lines of a history in flight: enough for batches of the model, few enough to stay in the cache.
pub const BACKTEST_WINDOW: usize = 1_024;

/// What decides: one generation of rules and model (I8).
#[derive(Clone)]
pub struct Deciding {
    /// The rule set, compiled.
    pub rulebook: Rulebook,
    /// The model, if one is configured.
    pub model: Option<ModelHost>,
    /// How records name both.
    pub generation: Arc<Generation>,
}

impl Deciding {
    /// Loads and checks rules and model.
    ///
    /// # Errors
    /// Every fault of the rule set, or why the model is refused.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let rulebook = Rulebook::load(&config.rules.dir, &config.rules.set)?;
        let model = match &config.model.dir {
            Some(dir) => {
                let search = Search::new(config.model.runtime_library.clone());
                Some(ModelHost::load(dir, &search)?)
            }
            None => None,
        };
        let reference = model.as_ref().map(ModelHost::reference);
        let generation = Arc::new(Generation {
            ruleset_name: rulebook.rules().name().into(),
            ruleset_hash: rulebook.rules().hash(),
            model: reference.map(|model| ModelRef { name: model.name, version: model.version, sha256: model.sha256 }),
            feature_schema: schema_version(),
        });
        Ok(Self { rulebook, model, generation })
    }

    /// The compiled rule set.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.rulebook.rules()
    }

    /// Keeps rules and model beside the journal, by hash; to be done before any record names them.
    fn archive(&self, data_dir: &Path) -> anyhow::Result<()> {
        self.rulebook.archive(data_dir)?;
        if let Some(model) = &self.model {
            model.archive(data_dir)?;
        }
        Ok(())
    }

    /// What one shard decides with; a model session belongs to one thread.
    fn judge(&self) -> anyhow::Result<Judge> {
        let scorer = self.model.as_ref().map(ModelHost::scorer).transpose()?;
        let scorer = scorer.map(|scorer| Box::new(scorer) as Box<dyn Score>);
        Ok(Judge::new(Arc::clone(self.rules()), Arc::clone(&self.generation), scorer))
    }
}

/// How much profiles keep under a configuration.
#[must_use]
pub fn retention(data: &DataConfig) -> Retention {
    Retention { dedupe_ms: i64::from(data.dedupe_days) * DAY_MS, ..Retention::default() }
}

/// A gateway over a journal that keeps nothing: a backtest.
///
/// # Errors
/// When the model's session cannot be made.
pub fn scratch(config: &Config, deciding: &Deciding, metrics: &Metrics) -> anyhow::Result<Gateway> {
    let shards = Shards {
        journal: Arc::new(MemoryJournal::new(config.data.partitions, false)),
        checkpoints: None,
        spill: None,
        clock: Clock::EventTime,
        lists: ListReplica::new(config.data.partitions, config.data.max_list_entries),
        readiness: Readiness::new(config.actors.shards.into()),
        begun: nobody(),
        metrics: metrics.clone(),
    };
    let (gateway, starts) = shards.prepare(config, deciding)?;
    for start in starts {
        Arbiter::new().spawn_fn(start);
    }
    Ok(gateway)
}

/// Everything that `verdict serve` runs, bound and ready to start.
pub struct Service {
    config: Config,
    deciding: Deciding,
    listener: TcpListener,
    topics: Option<consuming::Topics>,
    storage: Storage,
    reviews: Arc<dyn ReviewStore>,
    readiness: Readiness,
    metrics: Metrics,
    /// The files of rules and model before they were read.
    looked: Look,
    hangups: Signal,
    /// Held until the service ends; by the journal's writer until that has ended, whoever still holds the journal.
    _lock: DirLock,
}

impl Service {
    /// Validates everything, opens the data directory and binds the address; nothing runs yet.
    ///
    /// # Errors
    /// What is wrong with the rules, the model, the data directory or the address, and what to do.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        // From here on a SIGHUP no longer ends the process; one that comes during the start is heard after it.
        let hangups = signal(SignalKind::hangup())?;
        let looked = Look::at(&reload::files(&config));
        let deciding = Deciding::load(&config)?;
        let dir = &config.data.dir;
        let lock = DirLock::acquire(dir)?;
        let topics = consuming::Topics::find(&config).await?;
        let storage = Storage::open(&config, lock.clone()).await?;
        let journal = &*storage.journal;
        base_currency::check(deciding.rules().rates().base(), dir, journal).await?;
        deciding.archive(dir)?;
        let metrics = Metrics::new();
        let reviews = review_store::open(&config, journal.partitions()).await?;
        let listen = config.http.listen;
        let listener = TcpListener::bind(listen).with_context(|| {
            format!("cannot listen on {listen}; another service may use it, choose another with --listen")
        })?;
        let readiness = Readiness::new(config.actors.shards.into());
        Ok(Self {
            config,
            deciding,
            listener,
            topics,
            storage,
            reviews,
            readiness,
            metrics,
            looked,
            hangups,
            _lock: lock,
        })
    }

    /// Runs until a signal asks to stop, then drains and saves. A second signal ends the process at once, and so does the
    /// end of the grace time.
    ///
    /// # Errors
    /// When a part cannot be started, or fails for good.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let grace = Duration::from_secs(self.config.http.shutdown_secs.into());
        let mut stopping = Stopping::listen(grace)?;
        let address = self.listener.local_addr()?;
        let journal = Arc::clone(&self.storage.journal);
        // Downstream first: what reads the journal, what writes it, what feeds it.
        let projection = ReviewProjection::new(Arc::clone(&journal), Arc::clone(&self.reviews) as _, seed());
        let lag = projection.lag();
        let publishing = self.storage.publishing();
        let lists = ListReplica::new(journal.partitions(), self.config.data.max_list_entries);
        let shards = Shards {
            journal,
            checkpoints: Some(Arc::clone(&self.storage.checkpoints)),
            spill: self.storage.spill(),
            clock: Clock::System,
            lists: Arc::clone(&lists),
            readiness: self.readiness.clone(),
            begun: publishing.as_ref().map_or_else(nobody, Publishing::begun),
            metrics: self.metrics.clone(),
        };
        let (gateway, starts) = shards.prepare(&self.config, &self.deciding)?;
        let serving = gateway.clone();
        let projection = actix::spawn(async move {
            // Until its partitions are taken over, nobody knows where a journal on Kafka ends.
            if serving.serving().await.is_ok() {
                let error = projection.run().await;
                error!(%error, "alerts stand still until the service is started again; decisions go on");
            }
        });
        let mirror = Mirror::start(&self.config, &self.storage, gateway.clone())?;
        let labels = ReviewLabels::new(Arc::clone(&self.reviews), self.metrics.clone());
        let labels = actix::spawn(labels.run(reviews::through(gateway.clone(), Clock::System)));
        let desk = Desk::new(Arc::clone(&self.reviews));
        let feed = actix::spawn(AlertFeed::new(Arc::clone(&self.reviews) as _, desk.live()).run());
        let metrics = self.metrics.clone();
        let streams = Streams::new(MAX_STREAMS, move || AlertStreamCutOff.emit(&metrics));
        let rates = RatesInForce::of(&self.deciding);
        let (workers, wanted) = (self.config.http.workers, self.config.http.max_connections);
        let own_files = open_files::own_files(self.config.actors.shards, workers);
        let connections = open_files::make_room(wanted, own_files);
        let outboxes = publishing.as_ref().map(Publishing::outboxes);
        let consumption = self.consume(&gateway, &rates, outboxes.clone())?;
        let state = self.http_state(&gateway, rates.clone(), desk, streams.clone());
        let server = http::serve(self.listener.try_clone()?, workers, connections, state, seat(starts, workers))?;
        let handle = server.handle();
        let mut followers: Vec<(&'static str, Box<dyn Follower>)> = vec![("review", Box::new(lag))];
        followers.extend(outboxes.map(|outboxes| ("outbox", Box::new(outboxes) as _)));
        followers.extend(mirror.as_ref().map(|mirror| ("lists", Box::new(mirror.lag.clone()) as _)));
        let freshness = Freshness::new(self.storage.journal.durable(), followers);
        let upkeep = actix::spawn(self.upkeep(gateway.clone(), lists, freshness, streams.clone()));
        let reloader = Reloader {
            config: self.config.clone(),
            in_force: self.deciding,
            gateway: gateway.clone(),
            rates,
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
            hangups: self.hangups,
            loaded: self.looked,
        };
        reloader.show();
        let reloading = actix::spawn(reloader.run());
        info!(%address, data = %self.config.data.dir.display(), "listening");
        let mut running = actix::spawn(server);
        tokio::select! {
            asked = stopping.asked() => drop(asked?),
            ended = &mut running => bail!("the HTTP server ended: {ended:?}"),
            // What is in the journal is whole: the next start goes on from it, and serves all partitions again.
            shard = self.readiness.lost_shard() => bail!(
                "shard {shard} panicked, as the log says above: its users cannot be served; start the service again, and \
                 please report it"
            ),
        }
        self.readiness.stop();
        let followed = streams.open() > 0;
        streams.stop();
        let progress = stopping.progress;
        progress.at(Step::Drain);
        if let Some(consumption) = consumption {
            consumption.stop().await;
        }
        save(&gateway, &*self.storage.journal, &progress).await;
        progress.at(Step::Answers);
        // The shards live on the server's threads, so they end first.
        gateway.end().await;
        // Half of the time leaves the other half for the files; what is cut short is an answer that nobody has read.
        let patience = if followed { STREAMS_GRACE.min(grace / 2) } else { grace / 2 };
        if tokio::time::timeout(patience, handle.stop(true)).await.is_err() {
            info!("some callers did not read their last answers");
        }
        let tasks: Vec<JoinHandle<()>> =
            [reloading, upkeep, projection, labels, feed].into_iter().chain(mirror.map(|mirror| mirror.task)).collect();
        tasks.iter().for_each(JoinHandle::abort);
        // Only then have they let go of the journal, which closes with the last who holds it.
        drop(join_all(tasks).await);
        drop(publishing);
        progress.at(Step::Files);
        self.storage.close().await;
        Ok(())
    }

    /// Starts to consume topics, if any are named; heartbeats go through these outboxes.
    fn consume(
        &mut self,
        gateway: &Gateway,
        rates: &RatesInForce,
        outboxes: Option<Outboxes>,
    ) -> anyhow::Result<Option<Consumption>> {
        let Some(mut topics) = self.topics.take() else { return Ok(None) };
        let every = self.config.kafka.as_ref().and_then(KafkaConfig::heartbeat);
        if let (Some(every), Some(outboxes)) = (every, outboxes) {
            topics = topics.beating(every, outboxes, self.storage.journal.durable());
        }
        let (rates, heard) = (rates.clone(), (self.metrics.clone(), self.readiness.clone()));
        topics.consume(&self.config, gateway.clone(), move || rates.get(), self.age_bounds(), heard).map(Some)
    }

    fn age_bounds(&self) -> AgeBounds {
        AgeBounds {
            max_age_ms: Some(i64::from(self.config.data.max_age_days) * DAY_MS),
            max_ahead_ms: Some(i64::from(self.config.data.max_ahead_hours) * HOUR_MS),
        }
    }

    fn http_state(&self, gateway: &Gateway, rates: RatesInForce, desk: Desk, streams: Streams) -> Data<HttpState> {
        let (readiness, metrics, rejections) = (self.readiness.clone(), self.metrics.clone(), self.metrics.clone());
        Data::new(HttpState {
            intake: Box::new(gateway.clone()),
            rates: Box::new(move || rates.get()),
            bounds: self.age_bounds(),
            limits: Limits {
                decide_deadline: Duration::from_millis(self.config.decide.deadline_ms.into()),
                ..Limits::within(self.config.decide.max_in_flight)
            },
            clock: Clock::System,
            keys: KeyRing::new(self.config.http.api_keys.clone()),
            readiness: Box::new(move |audience| readiness.report(audience)),
            metrics: Box::new(move || metrics.render()),
            alerts: Arc::new(desk),
            streams,
            on_rejected: Box::new(move |reason| Rejected { reason }.emit(&rejections)),
            batches: Arc::new(Semaphore::new(http::MAX_BATCHES)),
        })
    }

    /// What is measured rather than counted, and what has expired, once a second.
    fn upkeep(
        &self,
        gateway: Gateway,
        lists: Arc<ListReplica>,
        mut freshness: Freshness,
        streams: Streams,
    ) -> impl Future<Output = ()> + 'static {
        let (metrics, readiness, kafka) = (self.metrics.clone(), self.readiness.clone(), self.storage.kafka.clone());
        async move {
            loop {
                actix::clock::sleep(UPKEEP_EVERY).await;
                metrics.run_upkeep();
                InFlight { requests: gateway.in_flight() }.emit(&metrics);
                ListEntries { entries: lists.sweep(Clock::System.now()) }.emit(&metrics);
                AlertStreams { open: streams.open() }.emit(&metrics);
                for lag in freshness.look(Clock::System.instant()) {
                    readiness.set_projection_lag(lag.projection, lag.records);
                    lag.emit(&metrics);
                }
                if let Some(kafka) = &kafka {
                    kafka.look(&readiness, &metrics);
                }
                Ready { ready: readiness.is_ready(), components: &readiness.components() }.emit(&metrics);
            }
        }
    }
}

/// A service that has nothing to do when an epoch begins.
fn nobody() -> Begun {
    Arc::new(|_| ())
}

/// What tells the waits of this service from those of others that failed at the same moment.
fn seed() -> u64 {
    Clock::System.now().as_millis().cast_unsigned() ^ u64::from(std::process::id()) << 32
}

/// Answers what is in flight, then saves every profile.
async fn save(gateway: &Gateway, journal: &dyn Journal, progress: &Progress) {
    progress.at(Step::Drain);
    // Nothing is in it: it only comes back once everything before it is on the disk.
    let (flushed, told) = (journal.append(Vec::new()), progress.clone());
    actix::spawn(async move {
        if flushed.await.is_ok() {
            told.journal_answered();
        }
    });
    gateway.drain().await;
    progress.at(Step::Checkpoint);
    if gateway.checkpoint().await {
        info!("drained and saved; everything answered is in the journal");
    } else {
        warn!(
            "profiles could not be saved, the next start replays what is missing; everything answered is in the journal"
        );
    }
}

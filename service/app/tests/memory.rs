//! What a user costs in memory, hot and dormant, counted at the allocator: every live allocation at the size that mimalloc
//! gives it. What the process costs in all is measured by `load-tests/run users`.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]
#![expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use verdict::actors::context::Judge;
use verdict::actors::gateway::Gateway;
use verdict::actors::messages::Submission;
use verdict::actors::partition::partition_of;
use verdict::actors::permits::Permits;
use verdict::actors::replica::ListReplica;
use verdict::actors::shard::{ShardActor, ShardSettings};
use verdict::actors::users::HotBounds;
use verdict::journal::checkpoint::{Checkpoint, CheckpointStore, ListSnapshot, Mark, Marker, ProfileSnapshot, Totals};
use verdict::journal::record::Generation;
use verdict::journal::{MemoryJournal, profile};
use verdict::telemetry::Metrics;
use verdict::telemetry::clock::Clock;
use verdict::telemetry::health::Readiness;
use verdict_core::event::{Login, Source};
use verdict_core::features::schema_version;
use verdict_core::profile::{Payment, Profile, ProfileParts, Retention};
use verdict_core::rules::{RuleSet, RuleSources, SourceFile};
use verdict_core::time::{HOUR_MS, Timestamp};

/// Live bytes.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(class(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(class(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What mimalloc gives for a size: multiples of 16 up to 128, then four sizes between two powers of two, then pages.
fn class(size: usize) -> usize {
    match size {
        0..=8 => 8,
        9..=128 => size.next_multiple_of(16),
        129..=32_768 => size.next_multiple_of((size - 1).next_power_of_two().max(256) / 8),
        _ => size.next_multiple_of(4_096),
    }
}

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
/// A table of them is as empty as it can be: it has just grown, to 32,768 places.
const USERS: usize = 14_400;
const RULES: &str = "
rules:
  - {id: spend, version: 1, when: user_spend_today > 100.0, outcome: block, reason: {code: SPEND, message: Spent}}
";

fn id(user: usize) -> String {
    format!("user-{user:06}")
}

/// Payments some 9 h apart, all inside the dedupe horizon.
fn profile_of(user: usize, events: usize) -> Profile {
    let print = |what: u64| (what << 40 ^ user as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let payment = |event: usize| Payment {
        at: NOON - 9 * HOUR_MS * (events - event) as i64 + (user * 7_919 + event * 104_729) as i64 % HOUR_MS,
        minor: (user * 31 + event * 977) as i64 % 100_000,
        merchant: print(event as u64),
        id: print(1_000 + event as u64),
        content: print(2_000 + event as u64),
        n: 20_000_000 + (event * 83_333 + user) as u64,
    };
    let recent: Vec<Payment> = (0..events).map(payment).collect();
    let (first, newest) = (recent.first().map(|payment| payment.at), recent.last().map(|payment| payment.at));
    Profile::from_parts(ProfileParts { recent, first, newest, ..ProfileParts::default() }).expect("in order")
}

async fn checkpoint(dir: &std::path::Path, users: usize, events: impl Fn(usize) -> usize) -> Arc<CheckpointStore> {
    let store = CheckpointStore::open(dir).await.expect("opens");
    let row = |user| ProfileSnapshot {
        partition: partition_of(&id(user), 1),
        user_id: id(user).into(),
        n: 0,
        bytes: profile::encode(&profile_of(user, events(user))),
    };
    let marks = vec![Mark { partition: 0, next_n: 0, totals: Totals::default() }];
    let marker = Marker { marks, sources: Vec::new() };
    // Nobody is on a list: nothing is to be looked for in the profiles.
    let lists = vec![ListSnapshot { partition: 0, entries: Vec::new() }];
    store.save(&Checkpoint { profiles: (0..users).map(row).collect(), lists, marker }).await.expect("saves");
    Arc::new(store)
}

async fn start(checkpoints: Arc<CheckpointStore>) -> Gateway {
    let fx = SourceFile { path: "fx.yaml", text: "base: USD\nrates: {}\n" };
    let ruleset = SourceFile { path: "ruleset.yaml", text: RULES };
    let rules = RuleSet::compile(&RuleSources { name: "test", ruleset, fx }).expect("rules");
    let (ruleset_hash, feature_schema) = (rules.hash(), schema_version());
    let generation = Generation { ruleset_name: "test".into(), ruleset_hash, model: None, feature_schema };
    let judge = Judge::new(Arc::new(rules), Arc::new(generation), None);
    let lists = ListReplica::new(1, 100);
    let permits = Permits::new(64, 1);
    let settings = ShardSettings {
        shard: 0,
        partitions: vec![0],
        retention: Retention::default(),
        hot: HotBounds { users: USERS, idle_ticks: 3_600 },
        max_batch: 64,
        clock: Clock::System,
        journal: Arc::new(MemoryJournal::new(1, false)),
        checkpoints: Some(checkpoints),
        spill: None,
        checkpoint_every: Duration::from_secs(3_600),
        lists: Arc::clone(&lists),
        begun: Arc::new(|_| ()),
        readiness: Readiness::new(1),
        metrics: Metrics::new(),
        permits: permits.clone(),
    };
    let (address, start) = ShardActor::prepare(settings, judge);
    start();
    let gateway = Gateway::new(vec![address], 1, permits, lists);
    gateway.serving().await.expect("serving");
    gateway
}

async fn log_in(gateway: &Gateway, user: usize) {
    let event = Login {
        login_id: "l-1".into(),
        user_id: id(user).into(),
        at: NOON,
        ip_address: None,
        device_id: None,
        user_agent: None,
        location: None,
        success: true,
    };
    let (received_at, started) = (NOON, verdict::telemetry::clock::instant());
    // A source whose answers nobody asks for again, so that none is kept.
    let source = Source::File { line: 1 };
    let event = Box::new(event);
    let login = Submission { event, source, received_at, started, deadline: None, undurable: false, original: None };
    gateway.login(login).await.expect("accepted");
}

/// Live bytes of a shard with so many users, all dormant and then all hot. A system of its own, so that nothing of the one
/// before ends meanwhile.
fn measure(users: usize, events: fn(usize) -> usize) -> (usize, usize) {
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        // A store that has saved keeps what it was given for a while; one that is opened again has nothing.
        drop(checkpoint(dir.path(), users, events).await);
        let store = CheckpointStore::open(dir.path()).await.expect("opens");
        let before = live();
        let gateway = start(Arc::new(store)).await;
        let dormant = live() - before;
        for user in 0..users {
            log_in(&gateway, user).await;
        }
        let hot = live() - before;
        gateway.stop().await;
        (dormant, hot)
    })
}

/// Bytes a user, dormant and hot, beyond what the events are allowed: 40 stored each, and 48 in an actor.
fn cost(events: fn(usize) -> usize) -> (f64, f64) {
    // What a shard is made of anyway.
    let (nobody, _) = measure(0, events);
    let (dormant, hot) = measure(USERS, events);
    let all = (0..USERS).map(events).sum::<usize>();
    let a_user = |bytes: usize, events: usize| (bytes as f64 - events as f64) / USERS as f64;
    // One login each came on top.
    (a_user(dormant - nobody, 40 * all + USERS * id(0).len()), a_user(hot - nobody, 48 * (all + USERS)))
}

#[test]
fn a_user_costs_no_more_than_was_promised() {
    for (what, events) in [
        ("a few events", (|user| user % 9) as fn(usize) -> usize),
        ("20 events", |_| 20),
        ("up to 60 events", |user| user % 61),
    ] {
        let (dormant, hot) = cost(events);
        println!("{what}: {dormant:.0} bytes a dormant user beyond id and events, {hot:.0} a hot one beyond events");
        assert!(dormant <= 64.0, "{what}: {dormant:.1} bytes a dormant user beyond its id and 40 an event");
        assert!(hot <= 2.5 * 1_024.0, "{what}: {hot:.1} bytes a hot user beyond its events");
    }
}

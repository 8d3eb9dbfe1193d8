//! Users that passivate and wake: the same answers as if all were actors, whatever comes when.

use super::gateway::Gateway;
use super::messages::{Answer, Refusal, Submission};
use super::permits::Permits;
use super::recovery::{fold, recover};
use super::replica::ListReplica;
use super::requests::Tick;
use super::shard::{ShardActor, ShardSettings};
use super::tests::{Moody, NOON, count, payment, settings, start_with};
use super::users::HotBounds;
use crate::journal::checkpoint::{Checkpoint, CheckpointStore, Mark, Marker, ProfileSnapshot, Totals};
use crate::journal::{Journal, JournalError, Wanted, profile};
use actix::Addr;
use futures_util::TryStreamExt;
use futures_util::future::{join, join_all};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use verdict_core::event::{Login, Transaction};
use verdict_core::profile::{Profile, Retention};

/// Permits: more than any burst below.
const LIMIT: usize = 256;

fn pay(user: &str, id: &str, minor: i64, second: i64) -> Submission<Transaction> {
    let mut submission = payment(id, minor);
    submission.event.user_id = user.into();
    submission.event.at = NOON + second * 1_000;
    submission
}

fn login(user: &str, id: &str, second: i64) -> Submission<Login> {
    let event = Login {
        login_id: id.into(),
        user_id: user.into(),
        at: NOON + second * 1_000,
        ip_address: None,
        device_id: None,
        user_agent: None,
        location: None,
        success: true,
    };
    let Submission { source, received_at, started, deadline, original, .. } = payment("", 1);
    let event = Box::new(event);
    Submission { event, source, received_at, started, deadline, undurable: false, original }
}

/// What a metric without labels stands at.
fn metric(settings: &ShardSettings, name: &str) -> f64 {
    let text = settings.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("a metric").parse().expect("a number")
}

fn capped(journal: &Arc<Moody>, users: usize, idle_ticks: u32) -> ShardSettings {
    ShardSettings { hot: HotBounds { users, idle_ticks }, ..settings(Arc::clone(journal), LIMIT) }
}

/// The same settings once more, for a metric or another start.
fn again(settings: &ShardSettings) -> ShardSettings {
    ShardSettings {
        partitions: settings.partitions.clone(),
        clock: settings.clock.clone(),
        journal: Arc::clone(&settings.journal),
        checkpoints: settings.checkpoints.clone(),
        spill: settings.spill.clone(),
        // Another start knows nothing of the entries before it.
        lists: ListReplica::new(settings.journal.partitions(), 1_000),
        readiness: settings.readiness.clone(),
        begun: Arc::clone(&settings.begun),
        permits: Permits::new(LIMIT, 1),
        metrics: settings.metrics.clone(),
        ..*settings
    }
}

async fn serving(settings: &ShardSettings) -> (Gateway, Addr<ShardActor>) {
    let (gateway, shard) = start_with(again(settings));
    gateway.serving().await.expect("serving");
    (gateway, shard)
}

/// Lets everything else run until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A payment of a user, of so many minor units.
    Pay(u8, i64),
    /// The same payment as some time before.
    Repeat(u16),
    Login(u8),
    /// A second passes.
    Tick,
    Checkpoint,
    /// Everybody waits until everything so far is answered.
    Settle,
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..12_u8, 1..4_000_i64).prop_map(|(user, minor)| Step::Pay(user, minor)),
        3 => any::<u16>().prop_map(Step::Repeat),
        3 => (0..12_u8).prop_map(Step::Login),
        3 => Just(Step::Tick),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 0..most)
}

/// What was answered to every payment, in order: whatever does not depend on the clock.
type Answers = Vec<String>;

fn shown(answer: Result<Answer, Refusal>) -> String {
    match answer {
        Ok(Answer { decided, durable, duplicate }) => {
            let decision = &decided.decision;
            let what = (decision.outcome, &decision.reasons, &decision.list_hits, &decision.block_entry);
            format!("{durable} {duplicate} {what:?} {:?}", decided.features.0.map(f64::to_bits))
        }
        Err(refusal) => refusal.to_string(),
    }
}

/// Sends steps without waiting for answers, but where they say so.
async fn run(steps: &[Step], settings: &ShardSettings) -> (Answers, Gateway) {
    let (gateway, shard) = serving(settings).await;
    let (mut answers, mut waiting, mut paid, mut logins) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, step) in steps.iter().enumerate() {
        let again = |place: usize| -> Option<Submission<Transaction>> {
            let &(place, user, minor): &(usize, u8, i64) = paid.get(place % paid.len().max(1))?;
            Some(pay(&format!("u-{user}"), &format!("t-{place}"), minor, place as i64))
        };
        let sent = match *step {
            Step::Pay(user, minor) => {
                paid.push((place, user, minor));
                Some(pay(&format!("u-{user}"), &format!("t-{place}"), minor, place as i64))
            }
            Step::Repeat(before) => again(before.into()),
            Step::Login(user) => {
                let permit = gateway.turn().await.expect("a permit");
                let login = login(&format!("u-{user}"), &format!("l-{place}"), place as i64);
                logins.push(gateway.send_login(login, permit));
                None
            }
            Step::Tick => {
                shard.try_send(Tick).expect("room");
                None
            }
            Step::Checkpoint => {
                let gateway = gateway.clone();
                actix::spawn(async move { assert!(gateway.checkpoint().await) });
                None
            }
            Step::Settle => {
                answers.extend(join_all(waiting.drain(..)).await);
                None
            }
        };
        if let Some(sent) = sent {
            let (gateway, permit) = (&gateway, gateway.turn().await.expect("a permit"));
            let reply = gateway.send_transaction(sent, permit);
            waiting.push(async move {
                match reply.await.expect("an answer") {
                    Ok(super::messages::Settled::Answer(answer)) => shown(Ok(answer)),
                    Ok(other) => panic!("{other:?}"),
                    Err(refusal) => shown(Err(refusal)),
                }
            });
        }
        if waiting.len() >= LIMIT / 2 {
            answers.extend(join_all(waiting.drain(..)).await);
        }
    }
    answers.extend(join_all(waiting).await);
    // One that is on its way to its user yet would be in the journal and not in the next checkpoint.
    for login in logins {
        login.await.expect("an answer").expect("accepted");
    }
    (answers, gateway)
}

/// Profiles as the journal alone makes them.
async fn folded(journal: &Moody) -> BTreeMap<Box<str>, Profile> {
    let mut users = HashMap::new();
    let mut records = journal.replay(vec![(0, 0), (1, 0)], Wanted::Everything);
    while let Some(record) = records.try_next().await.expect("a record") {
        fold(&mut users, &record, &Retention::default());
    }
    users.into_iter().map(|(id, profile)| (id, *profile)).collect()
}

/// Profiles as the checkpoint has them.
async fn saved(store: &CheckpointStore) -> BTreeMap<Box<str>, Profile> {
    let rows: Vec<ProfileSnapshot> = store.load(&[0, 1]).try_collect().await.expect("loads");
    let decoded = rows.into_iter().map(|row| (row.user_id, profile::decode(&row.bytes).expect("a profile")));
    decoded.inspect(|(id, profile)| assert!(profile.next_n() > 0, "{id}")).collect()
}

/// With two users hot at most, idle after two ticks, checkpoints and ticks in between: the answers of an uncapped run, and
/// the profiles that the journal makes, saved and recovered.
#[test]
fn answers_do_not_depend_on_who_is_hot() {
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let passivations = Cell::new(0.0);
    let outcome = runner.run(&steps(1_200), |steps| {
        actix::System::new().block_on(async {
            let roomy = Moody::new();
            let (expected, _) = run(&steps, &capped(&roomy, 1_000, 1_000)).await;

            let (tight, dir) = (Moody::new(), tempfile::tempdir().expect("a directory"));
            let store = Arc::new(CheckpointStore::open(dir.path()).await.expect("opens"));
            let settings = ShardSettings { checkpoints: Some(store.clone()), ..capped(&tight, 2, 2) };
            let (found, gateway) = run(&steps, &settings).await;
            assert_eq!(found, expected);

            assert!(gateway.checkpoint().await);
            let (made, again) = (folded(&tight).await, saved(&store).await);
            assert_eq!(again, made);
            passivations.set(passivations.get() + metric(&settings, "verdict_user_passivations_total"));

            // A second life: from the checkpoint, and more of the same.
            gateway.stop().await;
            let (_, gateway) = run(&steps, &settings).await;
            assert!(gateway.checkpoint().await);
            assert_eq!(saved(&store).await, folded(&tight).await);
            gateway.stop().await;
        });
        Ok(())
    });
    outcome.expect("the same answers");
    assert!(passivations.get() > 1_000.0, "{} passivations", passivations.get());
}

#[test]
fn thousands_of_interleaved_events_pass_through_two_places() {
    actix::System::new().block_on(async {
        let settings = capped(&Moody::new(), 2, 300);
        let (gateway, shard) = serving(&settings).await;
        let mut seen = [0; 50];
        for burst in 0..1_000_i64 {
            // Eight together, of five users, who come again ten bursts later.
            let sent = (0..8).map(|place| {
                let (user, id) = ((burst * 5 + place % 5) as usize % seen.len(), format!("t-{burst}-{place}"));
                let sent = gateway.decide(pay(&format!("u-{user}"), &id, 10, burst));
                async move { (user, sent.await.expect("an answer")) }
            });
            for (user, answer) in join_all(sent).await {
                seen[user] += 1;
                assert_eq!(count(&answer), f64::from(seen[user]));
            }
        }
        shard.send(Tick).await.expect("ticks");
        until("only so many are hot", || metric(&settings, "verdict_hot_users") == 2.0).await;
        assert_eq!(metric(&settings, "verdict_dormant_users"), 48.0);
        let (slept, woken) =
            (metric(&settings, "verdict_user_passivations_total"), metric(&settings, "verdict_user_wake_ups_total"));
        assert_eq!(slept - woken, 48.0);
        assert!(woken > 4_000.0, "{woken} wake-ups");
        gateway.stop().await;
    });
}

#[test]
fn idle_users_passivate_and_busy_ones_do_not() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let settings = capped(&journal, 1_000, 3);
        let (gateway, shard) = serving(&settings).await;
        let hot = || metric(&settings, "verdict_hot_users");
        for user in 0..100 {
            gateway.decide(pay(&format!("u-{user}"), "t-1", 10, 0)).await.expect("an answer");
        }
        for _ in 0..2 {
            shard.send(Tick).await.expect("ticks");
        }
        gateway.decide(pay("u-7", "t-2", 10, 1)).await.expect("an answer");
        assert_eq!((hot(), metric(&settings, "verdict_user_passivations_total")), (100.0, 0.0));
        shard.send(Tick).await.expect("ticks");
        // Seen four times in three ticks, but the last time only counts once it is due.
        until("only the one used lately is hot", || hot() == 1.0).await;
        let view = gateway.profile("u-8").await.expect("a view").expect("known");
        assert_eq!((view.retained, hot()), (1, 1.0), "looking wakes nobody");

        // An answer that waits for the disk keeps nobody hot: the record is numbered and in the profile.
        journal.held.send_replace(true);
        let waiting = actix::spawn({
            let gateway = gateway.clone();
            async move { gateway.decide(pay("u-9", "t-2", 10, 2)).await }
        });
        until("it is on its way", || hot() == 2.0).await;
        for _ in 0..4 {
            shard.send(Tick).await.expect("ticks");
        }
        until("all are dormant", || hot() == 0.0).await;
        let third = actix::spawn({
            let gateway = gateway.clone();
            async move { gateway.decide(pay("u-9", "t-3", 10, 3)).await }
        });
        until("it woke", || hot() == 1.0).await;
        journal.held.send_replace(false);
        let (second, third) = join(waiting, third).await;
        let counted = [second, third].map(|answer| count(&answer.expect("joined").expect("an answer")));
        assert_eq!(counted, [2.0, 3.0]);
        gateway.stop().await;
        until("nobody is in memory", || hot() == 0.0 && metric(&settings, "verdict_dormant_users") == 0.0).await;
    });
}

#[test]
fn a_failed_append_forgets_the_dormant_as_well() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let settings = capped(&journal, 1, 300);
        let (gateway, _) = serving(&settings).await;
        for user in ["u-1", "u-2", "u-3"] {
            gateway.decide(pay(user, "t-1", 10, 0)).await.expect("an answer");
        }
        journal.fails.store(true, Ordering::SeqCst);
        let both = join(gateway.decide(pay("u-1", "t-2", 10, 1)), gateway.decide(pay("u-2", "t-2", 10, 1))).await;
        assert!(both.0.is_err() && both.1.is_err(), "{both:?}");
        gateway.serving().await.expect("recovered");
        assert_eq!(metric(&settings, "verdict_dormant_users"), 3.0);
        for user in ["u-1", "u-2", "u-3"] {
            let answer = gateway.decide(pay(user, "t-2", 10, 1)).await.expect("an answer");
            assert_eq!((count(&answer), answer.duplicate), (2.0, false), "{user}");
        }
    });
}

/// A checkpoint of two users whose bytes are these, the checksums right.
async fn checkpoint_of(bytes: &[u8], n: u64) -> (tempfile::TempDir, Arc<CheckpointStore>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    let row = |user: &str, n, bytes| ProfileSnapshot { user_id: user.into(), partition: 0, n, bytes };
    let mark = |partition| Mark { partition, next_n: 0, totals: Totals::default() };
    let profiles = vec![row("u-1", n, bytes.to_vec()), row("u-2", 0, profile::encode(&Profile::default()))];
    let marker = Marker { marks: vec![mark(0), mark(1)], sources: Vec::new() };
    store.save(&Checkpoint { profiles, marker, ..Checkpoint::default() }).await.expect("saves");
    (dir, Arc::new(store))
}

#[test]
fn a_profile_that_does_not_decode_refuses_its_user_alone() {
    actix::System::new().block_on(async {
        // A version and a number, and then nothing that makes sense.
        let (dir, store) = checkpoint_of(&[2, 0, 0xff, 0xff], 0).await;
        let settings = ShardSettings { checkpoints: Some(store.clone()), ..capped(&Moody::new(), 2, 300) };
        let (gateway, _) = serving(&settings).await;
        for _ in 0..3 {
            let refused = gateway.decide(pay("u-1", "t-1", 10, 0)).await.expect_err("unreadable").to_string();
            let file = dir.path().join("profiles.db").display().to_string();
            assert!(
                refused.contains(&file) && refused.contains("\"u-1\"") && refused.contains("move it away"),
                "{refused}"
            );
            assert!(matches!(gateway.profile("u-1").await, Err(Refusal::ProfileUnreadable(_))));
            gateway.login(login("u-1", "l-1", 0)).await.expect_err("unreadable");
        }
        assert_eq!(count(&gateway.decide(pay("u-2", "t-1", 10, 0)).await.expect("an answer")), 1.0);
        assert!(gateway.checkpoint().await);
        let rows: Vec<ProfileSnapshot> = store.load(&[0, 1]).try_collect().await.expect("loads");
        let kept = rows.iter().find(|row| &*row.user_id == "u-1").expect("still there");
        assert_eq!(kept.bytes, [2, 0, 0xff, 0xff], "what could not be read is not written over");
    });
}

#[test]
fn bytes_of_another_version_or_row_are_refused_at_once() {
    actix::System::new().block_on(async {
        for (bytes, n, what) in [
            (&[3, 5][..], 0, "expected version 1 or 2, found 3"),
            (&[], 0, "expected a version byte, found nothing"),
            (&[2, 6, 0, 0, 0, 0, 0, 0], 0, "expected the number of a record in its range"),
        ] {
            let (_dir, store) = checkpoint_of(bytes, n).await;
            let recovered = recover(&[0, 1], &*Moody::new(), Some(&*store), &Retention::default()).await;
            let error = recovered.err().expect("refused");
            assert!(matches!(error, JournalError::DamagedCheckpoint { .. }), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(what) && error.contains("\"u-1\"") && error.contains("move it away"), "{error}");
        }
    });
}

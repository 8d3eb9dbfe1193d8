//! `kill -9` at random moments under load, again and again, on one data directory.
//!
//! `VERDICT_KILLS` sets how often, `VERDICT_SEED` repeats a run's choices (the moments themselves are up to the machine).

use super::caller::{Caller, Expected};
use fastrand::Rng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use verdict_tests::{Client, Service, Stopwatch, now_ms, setting, timeless, until, verify, within};

const CALLERS: usize = 6;
/// Groups of users take turns, so that most users are quiet while the service is killed and started several times.
const GROUPS: usize = 4;
const USERS_IN_GROUP: usize = 12;

fn users(group: usize) -> Vec<String> {
    (0..USERS_IN_GROUP).map(|user| format!("user-{group}-{user}")).collect()
}

/// Users that are actors at most: the default, far above the users here, and so few that nearly every event wakes one.
const ROOMY: u32 = 100_000;
const TIGHT: u32 = 5;

fn start(folder: TempDir, hot_users: u32) -> Service {
    builder(folder, hot_users).start()
}

/// Checkpoints every second, so that a kill hits one at work.
fn builder(folder: TempDir, hot_users: u32) -> verdict_tests::Builder {
    let builder = Service::builder().folder(folder).env("VERDICT__DATA__CHECKPOINT_SECS", "1");
    let idle_secs = if hot_users == ROOMY { "300" } else { "1" };
    builder.env("VERDICT__ACTORS__HOT_USERS", hot_users.to_string()).env("VERDICT__ACTORS__IDLE_SECS", idle_secs)
}

/// Starts it and kills it before or while it recovers.
fn kill_during_start(folder: TempDir, hot_users: u32, rng: &mut Rng) -> TempDir {
    let service = builder(folder, hot_users).spawn_only();
    let _ = within(Duration::from_millis(rng.u64(..150)), || None::<()>);
    service.kill().folder
}

/// Load until so many answers were given, and then the kill, in the middle of whatever goes on.
fn load_and_kill(service: Service, callers: &mut [Caller], users: &[String], rng: &mut Rng) -> TempDir {
    let target = rng.u64(20..1_200);
    let answered = AtomicU64::new(0);
    let clients: Vec<Client> = callers.iter().map(|_| service.client()).collect();
    thread::scope(|scope| {
        for (caller, client) in callers.iter_mut().zip(&clients) {
            scope.spawn(|| caller.call(client, users, &answered));
        }
        until("answers under load", || (answered.load(Ordering::Relaxed) >= target).then_some(()));
        let pause = Duration::from_micros(rng.u64(..3_000));
        let _ = within(pause, || None::<()>);
        service.kill().folder
    })
}

fn profiles(client: &Client, expected: &BTreeMap<String, Expected>) -> BTreeMap<String, Value> {
    let profile = |user: &String| {
        let answer = client.get(&format!("/v1/users/{user}/profile")).unwrap();
        assert_eq!(answer.status, 200, "{user}: {}", answer.body);
        (user.clone(), answer.json())
    };
    expected.keys().map(profile).collect()
}

fn expected(callers: &[Caller]) -> BTreeMap<String, Expected> {
    let mut expected = BTreeMap::new();
    callers.iter().for_each(|caller| caller.expect(&mut expected));
    expected
}

fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Every answer stands, and every accepted event counts once.
fn check(service: &Service, callers: &mut [Caller], all: bool) -> u64 {
    let compared: u64 = thread::scope(|scope| {
        let checks: Vec<_> = callers
            .iter_mut()
            .map(|caller| (caller, service.client()))
            .map(|(caller, client)| scope.spawn(move || caller.settle_and_check(&client, all)))
            .collect();
        checks.into_iter().map(|check| check.join().unwrap()).sum()
    });
    let expected = expected(callers);
    for (user, profile) in profiles(&service.client(), &expected) {
        expected[&user].check(&profile);
    }
    compared
}

#[test]
fn what_was_answered_stands_after_every_kill_and_nothing_counts_twice() {
    kill_again_and_again(ROOMY);
}

#[test]
fn what_was_answered_stands_while_users_passivate_and_wake() {
    kill_again_and_again(TIGHT);
}

#[expect(clippy::print_stdout, reason = "a failed run shows what repeats it")]
fn kill_again_and_again(hot_users: u32) {
    let seed = setting("VERDICT_SEED", now_ms().unsigned_abs());
    let kills = setting("VERDICT_KILLS", 6);
    println!("{kills} kills with VERDICT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let watch = Stopwatch::start();
    let start_ms = now_ms() - 1_000;
    let mut callers: Vec<Caller> = (0..CALLERS).map(|number| Caller::new(seed, number, CALLERS, start_ms)).collect();
    let mut folder = TempDir::new().unwrap();
    let (mut compared, mut kills_at_start) = (0, 0);
    for kill in 0..kills {
        let mut users = users(kill as usize % GROUPS);
        users.push("user-always".to_owned());
        folder = load_and_kill(start(folder, hot_users), &mut callers, &users, &mut rng);
        while rng.u8(..3) == 0 {
            folder = kill_during_start(folder, hot_users, &mut rng);
            kills_at_start += 1;
        }
        verify(folder.path());
        let service = start(folder, hot_users);
        compared += check(&service, &mut callers, kill + 1 == kills);
        if hot_users == TIGHT {
            // Three a shard; those in flight may have been beyond, until the next second.
            until("few hot users", || (metric(&service, "verdict_hot_users") <= 6.0).then_some(()));
            let (woken, dormant) =
                (metric(&service, "verdict_user_wake_ups_total"), metric(&service, "verdict_dormant_users"));
            assert!(woken > 0.0 && dormant > 6.0, "{woken} woken, {dormant} dormant");
        }
        // The next start recovers from a checkpoint, or from none since the last kill.
        folder = if rng.bool() { service.terminate().folder } else { service.kill().folder };
    }
    verify(folder.path());
    let events: usize = callers.iter().map(|caller| caller.bodies().count()).sum();
    println!(
        "{kills} kills under load and {kills_at_start} during a start, {events} events, {compared} answers compared, {:.0} s",
        watch.seconds()
    );
    same_profiles_however_they_were_made(folder, hot_users, &callers);
}

/// Profiles from checkpoints and journal, from the journal alone, and of a service that was never killed (I3).
fn same_profiles_however_they_were_made(folder: TempDir, hot_users: u32, callers: &[Caller]) {
    let expected = expected(callers);
    let timeless_profiles = |service: &Service| -> BTreeMap<String, Value> {
        profiles(&service.client(), &expected).into_iter().map(|(user, profile)| (user, timeless(profile))).collect()
    };
    let service = start(folder, hot_users);
    let recovered = timeless_profiles(&service);
    let folder = service.kill().folder;
    remove_profiles(&folder.path().join("data"));
    let service = start(folder, hot_users);
    assert_same("made from the journal alone", &timeless_profiles(&service), &recovered);
    assert!(service.terminate().status.success());

    let unharmed = Service::start();
    let client = unharmed.client();
    for (path, body) in callers.iter().flat_map(Caller::bodies) {
        until("an event to be taken", || match client.post(path, body).unwrap().status {
            200 => Some(()),
            503 => None,
            status => panic!("{path} {body}: {status}"),
        });
    }
    let without_entries = |profiles: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        // Whom the model blocks, and until when, depends on the order of arrival and on the clock.
        let without = |(user, mut profile): (String, Value)| {
            profile["list_entries"].take();
            profile["features"]["block_list_hits"].take();
            (user, profile)
        };
        profiles.into_iter().map(without).collect()
    };
    let never_killed = without_entries(timeless_profiles(&unharmed));
    assert_same("of a service that was never killed", &never_killed, &without_entries(recovered));
}

fn assert_same(which: &str, found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    for (user, expected) in expected {
        assert_eq!(&found[user], expected, "the profile {which} differs");
    }
}

fn remove_profiles(data: &Path) {
    for entry in fs::read_dir(data).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("profiles.db") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn what_was_replayed_survives_the_start_after_the_next() {
    let service = Service::start();
    let payment = verdict_tests::Payment::new("u-1", "t-1", "12.50");
    let first = service.post("/v1/decide", &payment.text());
    assert_eq!(first.status, 200, "{}", first.body);
    let folder = service.kill().folder;
    // Recovered by replay, saved when it stops, and never asked about in between.
    let folder = Service::builder().folder(folder).start().terminate().folder;
    let service = Service::builder().folder(folder).start();
    let again = service.post("/v1/decide", &payment.text());
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &Value::Bool(true)), "{}", again.body);
    let profile = service.get("/v1/users/u-1/profile").json();
    assert_eq!(profile["features"]["user_count_24h"], 1, "{profile}");
}

#[test]
fn the_very_first_start_may_be_killed_at_any_moment() {
    let seed = setting("VERDICT_SEED", now_ms().unsigned_abs());
    println!("VERDICT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    for _ in 0..8 {
        let mut folder = TempDir::new().unwrap();
        for _ in 0..2 {
            let service = builder(folder, ROOMY).spawn_only();
            let _ = within(Duration::from_millis(rng.u64(..80)), || None::<()>);
            folder = service.kill().folder;
        }
        let service = start(folder, ROOMY);
        let answer = service.post("/v1/decide", &verdict_tests::Payment::new("u", "t", "1.00").text());
        assert_eq!(answer.status, 200, "{}", answer.body);
        verify(service.terminate().folder.path());
    }
}

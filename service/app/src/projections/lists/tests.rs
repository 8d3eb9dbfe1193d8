//! The projection over a real Redis: what other systems read, and every way in which a mirror can be behind, ahead, of
//! another history, or gone.

mod bench;
mod places;
mod trimmed;

use super::names::position_name;
use super::*;
use crate::actors::partition::partition_of_entry;
use crate::journal::record::samples;
use bench::{Bench, PARTITIONS, key, merchant};
use futures_util::FutureExt;
use redis::Commands;
use tokio::time::timeout;
use verdict_core::lists::ListAction;
use verdict_core::time::Timestamp;

/// Far off; the server's clock decides what has ended.
const LATER: Timestamp = Timestamp::from_millis(4_000_000_000_000);
/// Longer than a failure is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn other_systems_read_entries_as_they_are() {
    let bench = Bench::new().await;
    let until = |reason: &str, expires_at| ListAction::Put { reason: reason.into(), expires_at: Some(expires_at) };
    bench.put(key(List::Allow, ListKind::Ip, "2001:db8::1"), "partner \"x\"").await;
    bench.change(key(List::Block, ListKind::User, "u-7"), until("for a while", LATER)).await;
    bench.put(merchant("gone"), "soon deleted").await;
    bench.put(merchant("back"), "first").await;
    bench.delete(merchant("gone")).await;
    bench.delete(merchant("back")).await;
    bench.change(merchant("back"), until("and ends", LATER)).await;
    bench.put(merchant("back"), "for ever").await;
    // One that has ended is not there, and takes what was there before with it.
    bench.put(key(List::Block, ListKind::Device, "d-1"), "lost").await;
    let ended = key(List::Block, ListKind::Device, "d-1");
    bench.change(ended, until("found", Timestamp::from_millis(1))).await;
    bench.expected.lock().unwrap().remove("verdict:block:device:d-1");
    let mut projection = bench.projection();
    let lag = projection.lag();
    assert_eq!(lag.records(), 10);
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
    assert_eq!(lag.records(), 0);
    let mut connection = bench.connection();
    let value: String = connection.get("verdict:block:user:u-7").unwrap();
    let expected = r#"{"reason":"for a while","source":"api","alert_id":null,"expires_at":"2096-10-02T07:06:40.000Z"}"#;
    assert_eq!(value, expected);
    for (name, ends) in [("verdict:block:user:u-7", LATER.as_millis()), ("verdict:block:merchant:back", -1)] {
        let found: i64 = redis::cmd("PEXPIRETIME").arg(name).query(&mut connection).unwrap();
        assert_eq!(found, ends, "{name}");
    }
}

#[tokio::test]
async fn a_decision_that_blocks_its_user_is_mirrored() {
    let bench = Bench::new().await;
    let blocks = |record: &Record| matches!(change(record), Some((_, Some(entry))) if entry.alert_id.is_some());
    let blocked = samples::one_of_each().into_iter().find(blocks).unwrap();
    let (key, entry) = change(&blocked).unwrap();
    let entry = ListEntry { expires_at: Some(LATER), ..entry.unwrap() };
    let Body::Decision(mut decided) = blocked.body else { panic!("a decision") };
    Arc::make_mut(&mut decided).decision.block_entry = Some(entry.clone());
    bench.append(partition_of_entry(&key, PARTITIONS), Body::Decision(decided)).await;
    bench.expected.lock().unwrap().insert(names::entry_name(&key), entry);
    bench.projection().catch_up().await.unwrap();
    bench.assert_mirrored();
    let value = bench.names().remove(&names::entry_name(&key)).unwrap();
    assert!(value.contains(r#""source":"decision","alert_id":"00000000-"#), "{value}");
}

#[tokio::test]
async fn it_goes_on_from_where_it_stopped_and_writes_nothing_again() {
    let bench = Bench::new().await;
    bench.put(merchant("m-1"), "old").await;
    bench.projection().catch_up().await.unwrap();
    // Whoever meddles with a value is not noticed, which tells whether it was written again.
    let (name, meddled) = ("verdict:block:merchant:m-1", "meddled with");
    let _: () = bench.connection().set(name, meddled).unwrap();
    bench.put(merchant("m-2"), "new").await;
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    assert_eq!((projection.rewrites, bench.names().get(name).map(String::as_str)), (0, Some(meddled)));
    projection.look().await.unwrap();
    assert!(projection.positioned, "it is as it was left");
    // A rebuild notices nothing either: it writes all of it again.
    bench.mirror().forget(PARTITIONS).await.unwrap();
    bench.looked_and_caught_up(&mut projection).await;
    assert_eq!(projection.rewrites, 1);
}

#[tokio::test]
async fn a_mirror_that_was_emptied_is_filled_from_what_was_saved_and_the_journal_since() {
    let bench = Bench::new().await;
    for n in 0..40 {
        bench.put(merchant(&format!("m-{n}")), "old").await;
    }
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
    bench.save();
    bench.delete(merchant("m-3")).await;
    bench.put(merchant("m-4"), "new").await;
    bench.put(merchant("m-40"), "new").await;
    // Once noticed by looking, once by the next write.
    redis::cmd("FLUSHALL").query::<()>(&mut bench.connection()).unwrap();
    bench.looked_and_caught_up(&mut projection).await;
    redis::cmd("FLUSHALL").query::<()>(&mut bench.connection()).unwrap();
    bench.put(merchant("m-41"), "newer").await;
    let error = projection.catch_up().await.unwrap_err();
    assert!(matches!(&error, ProjectionError::Mirror(MirrorError::Moved { found, .. }) if found.is_empty()), "{error}");
    assert!(error.is_transient());
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
    // One that was saved while later records were already in it comes to the same.
    bench.save();
    bench.saved.0.lock().unwrap().values_mut().for_each(|saved| saved.next_n = saved.next_n.saturating_sub(5));
    redis::cmd("FLUSHALL").query::<()>(&mut bench.connection()).unwrap();
    bench.looked_and_caught_up(&mut projection).await;
}

#[tokio::test]
async fn a_copy_of_before_is_brought_up_to_date() {
    let bench = Bench::new().await;
    for n in 0..6 {
        bench.put(merchant(&format!("m-{n}")), "old").await;
    }
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    let copy = bench.names();
    bench.delete(merchant("m-1")).await;
    bench.put(merchant("m-2"), "new").await;
    bench.put(key(List::Allow, ListKind::User, "u-1"), "new").await;
    projection.catch_up().await.unwrap();
    bench.restore(&copy);
    bench.looked_and_caught_up(&mut projection).await;
    // The history vouches for a copy, so that nothing had to be written again.
    assert_eq!(projection.rewrites, 1, "at the start alone");
    // Also where the copy was put back while nobody ran.
    bench.restore(&copy);
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
    assert_eq!(projection.rewrites, 0);
}

#[tokio::test]
async fn what_another_history_left_goes() {
    let bench = Bench::new().await;
    let ours = [merchant("m-1"), key(List::Allow, ListKind::Device, "d-1")];
    for own in &ours {
        bench.put(own.clone(), "ours").await;
    }
    bench.pass(3).await;
    let projection = || async {
        let mut projection = bench.projection();
        projection.catch_up().await.unwrap();
        projection
    };
    projection().await;
    let good = bench.names();
    let last = bench.journal.durable().borrow().clone();
    let theirs = |n: u64| Left { position: Position { n, fingerprint: 7 }, place: None }.to_string();
    let all = |text: &str| -> BTreeMap<String, String> {
        (0..PARTITIONS).map(|partition| (position_name(partition), text.to_owned())).collect()
    };
    let stale = BTreeMap::from([
        ("verdict:block:merchant:m-1".to_owned(), "theirs".to_owned()),
        ("verdict:block:user:u-9".to_owned(), "theirs".to_owned()),
        ("verdict:allow:ip:192.0.2.1".to_owned(), "theirs".to_owned()),
    ]);
    let wider = BTreeMap::from([(position_name(PARTITIONS), theirs(1)), (position_name(900), theirs(1))]);
    let none = BTreeMap::new();
    for positions in [&all(&theirs(last[0])), &all(&theirs(u64::MAX)), &all(&theirs(0)), &all("writing:9-9"), &none] {
        let found: BTreeMap<_, _> =
            stale.iter().chain(positions).chain(&wider).map(|(k, v)| (k.clone(), v.clone())).collect();
        bench.restore(&found);
        assert_eq!(projection().await.rewrites, 1, "{positions:?}");
        bench.assert_mirrored();
    }
    // A position of another type, and names that the mirror does not use.
    bench.restore(&good);
    let mut connection = bench.connection();
    let _: () = connection.del(position_name(1)).unwrap();
    let _: () = connection.rpush(position_name(1), "x").unwrap();
    let foreign = ["other", "verdict:deny:user:u", "verdict:lock"];
    foreign.iter().for_each(|name| connection.set(name, "foreign").unwrap());
    assert_eq!(projection().await.rewrites, 1);
    for name in foreign {
        assert_eq!(connection.get_del::<_, String>(name).unwrap(), "foreign");
    }
    bench.assert_mirrored();
}

#[tokio::test]
async fn two_journals_do_not_take_each_others_mirror_for_their_own() {
    let first = Bench::new().await;
    first.put(merchant("m-1"), "first").await;
    first.projection().catch_up().await.unwrap();
    let Bench { redis, journal, saved, expected, epochs, projections } = first;
    // As many records, in the same epochs.
    let second = Bench::with(redis).await;
    second.put(merchant("m-1"), "second").await;
    second.projection().catch_up().await.unwrap();
    second.assert_mirrored();
    let first = Bench { redis: second.redis, journal, saved, expected, epochs, projections };
    first.projection().catch_up().await.unwrap();
    first.assert_mirrored();
}

#[tokio::test]
async fn more_entries_than_one_script_takes() {
    let bench = Bench::new().await;
    for n in 0..2_000 {
        bench.put(merchant(&format!("m-{n}")), "many").await;
    }
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
    for n in 0..1_900 {
        bench.delete(merchant(&format!("m-{n}"))).await;
    }
    bench.save();
    bench.mirror().forget(PARTITIONS).await.unwrap();
    bench.looked_and_caught_up(&mut projection).await;
}

#[tokio::test]
async fn an_attempt_that_the_server_carries_out_late_does_nothing() {
    let bench = Bench::new().await;
    bench.put(merchant("m-1"), "now").await;
    bench.projection().catch_up().await.unwrap();
    let before = bench.names();
    let old = ListEntry { list: List::Block, reason: "old".into(), alert_id: None, expires_at: None };
    let (stale, position) = (merchant("m-1"), before[&position_name(0)].clone());
    for from in ["", "writing:1-1", "0:0000000000000007"] {
        let step = Move { partition: 0, from, to: &position };
        let error = bench.mirror().write(step, [(&stale, Some(&old))].into_iter()).await.unwrap_err();
        assert!(matches!(&error, MirrorError::Moved { found, .. } if **found == position), "{error}");
    }
    assert_eq!(bench.names(), before);
    // Two that write all of it again at the same time: the one that was overtaken says so, and does no harm.
    let (mut one, mut other) = (bench.projection(), bench.projection());
    bench.mirror().forget(PARTITIONS).await.unwrap();
    let outcomes = futures_util::future::join(one.catch_up(), other.catch_up()).await;
    for outcome in [outcomes.0, outcomes.1] {
        let moved = matches!(outcome, Ok(()) | Err(ProjectionError::Mirror(MirrorError::Moved { .. })));
        assert!(moved, "{outcome:?}");
    }
    other.catch_up().await.unwrap();
    bench.assert_mirrored();
}

#[tokio::test]
async fn positions_move_along_with_records_that_change_nothing() {
    let bench = Bench::new().await;
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    bench.pass(MAX_UNSAVED - 1).await;
    projection.catch_up().await.unwrap();
    assert_eq!(projection.places[0].left_n, 0, "not worth a write");
    bench.pass(1).await;
    projection.catch_up().await.unwrap();
    let at = projection.places[0].left_n;
    assert_eq!(at, MAX_UNSAVED);
    bench.put(merchant("m-1"), "new").await;
    let mut projection = bench.projection();
    projection.position().await.unwrap();
    assert!(projection.places.iter().all(|place| place.left_n == at && place.next == at));
    projection.catch_up().await.unwrap();
    bench.assert_mirrored();
}

#[tokio::test]
async fn it_follows_through_everything_that_happens_to_the_server() {
    let bench = Bench::new().await;
    let projection = bench.projection();
    let lag = projection.lag();
    let caught_up = || async {
        let names = bench.expected.lock().unwrap().len() + usize::from(PARTITIONS);
        let mirrored = async {
            while lag.records() > 0 || bench.names().len() != names {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, mirrored).await.expect("it catches up");
        bench.assert_mirrored();
    };
    let acting = async {
        bench.put(merchant("m-1"), "first").await;
        caught_up().await;
        // Held for longer than it waits: neither the connection that is there nor a new one answers.
        bench.redis.pause();
        bench.put(merchant("m-2"), "while it was held").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(lag.records() > 0, "it cannot have been written");
        bench.redis.resume();
        caught_up().await;
        bench.redis.kill();
        bench.delete(merchant("m-1")).await;
        bench.redis.restart();
        caught_up().await;
        redis::cmd("FLUSHALL").query::<()>(&mut bench.connection()).unwrap();
        caught_up().await;
    };
    tokio::select! {
        error = projection.run() => panic!("{error}"),
        () = acting => {}
    }
}

#[tokio::test]
async fn a_held_server_is_given_up_in_time() {
    let bench = Bench::new().await;
    let mut projection = bench.projection();
    projection.catch_up().await.unwrap();
    bench.redis.pause();
    for what in ["the connection that is there", "a new one"] {
        let looked = timeout(Duration::from_secs(10), projection.look()).await.expect(what);
        let error = looked.unwrap_err();
        assert!(error.is_transient() && !projection.positioned, "{what}: {error}");
    }
    bench.redis.resume();
    projection.catch_up().await.unwrap();
}

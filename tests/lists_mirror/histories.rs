//! Two histories that have come apart: the mirror's and the service's, either of them older than the other.

use super::pair::{Pair, copy, mirrored};
use fastrand::Rng;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use verdict_tests::{now_ms, setting, until};

#[test]
fn a_mirror_from_a_copy_is_brought_up_to_date() {
    let pair = Pair::start();
    pair.change("first");
    pair.assert_mirrored();
    let data = pair.redis.folder().join("appendonlydir");
    let kept = TempDir::new().unwrap();
    copy(&data, kept.path());
    pair.delete("block/merchant/v-first");
    pair.change("second");
    pair.block("u-spender");
    let expected = pair.assert_mirrored();
    pair.redis.kill();
    fs::remove_dir_all(&data).unwrap();
    copy(kept.path(), &data);
    pair.redis.restart();
    assert_eq!(pair.assert_mirrored(), expected);
}

#[test]
fn a_mirror_ahead_of_the_journal_is_written_again() {
    let pair = Pair::start();
    pair.change("first");
    let first = pair.assert_mirrored();
    let (redis, folder) = pair.stop(true);
    let kept = TempDir::new().unwrap();
    copy(&folder.path().join("data"), kept.path());
    let pair = Pair::start_again((redis, folder));
    pair.change("never-happened");
    pair.delete("block/device/v-first");
    pair.block("u-spender");
    pair.assert_mirrored();
    let (redis, folder) = pair.stop(true);
    // The service's data comes from a copy, and goes on otherwise: beyond where the mirror is, before it is looked at.
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    copy(kept.path(), &folder.path().join("data"));
    redis.kill();
    let pair = Pair::start_again((redis, folder));
    for turn in ["instead", "and-more", "and-more-again"] {
        pair.change(turn);
    }
    pair.redis.restart();
    let found = pair.assert_mirrored();
    let known =
        |name: &String| first.contains_key(name) || ["instead", "more", "again"].iter().any(|end| name.ends_with(end));
    assert!(found.keys().all(known) && first.keys().all(|name| found.contains_key(name)), "{found:#?}");
}

/// `VERDICT_KILLS` sets how often, `VERDICT_SEED` repeats a run's choices (the moments themselves are up to the machine).
#[test]
fn a_killed_service_leaves_a_mirror_that_the_next_one_makes_good() {
    let (seed, kills) = (setting("VERDICT_SEED", now_ms().unsigned_abs()), setting("VERDICT_KILLS", 3));
    println!("{kills} kills with VERDICT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut pair = Pair::start();
    for kill in 0..kills {
        let (answered, target) = (AtomicU32::new(0), rng.u32(5..60));
        let client = pair.service.client();
        let stopped = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0.. {
                    let path = format!("/v1/lists/block/merchant/k-{}", n % 7);
                    let body = json!({"reason": format!("{kill}-{n}")}).to_string();
                    let json = [("content-type", "application/json")];
                    let asked = match n % 3 {
                        0 => client.request("DELETE", &path, &[], b""),
                        _ => client.request("PUT", &path, &json, body.as_bytes()),
                    };
                    if asked.is_err() {
                        return;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            until("answers", || (answered.load(Ordering::Relaxed) >= target).then_some(()));
            pair.stop(false)
        });
        // Half the time the mirror is emptied besides, so that it is being written again at the next kill.
        if rng.bool() {
            let _: () = redis::cmd("FLUSHALL").query(&mut super::pair::connect(&stopped.0)).unwrap();
            assert_eq!(mirrored(&stopped.0).len(), 0);
        }
        pair = Pair::start_again(stopped);
        if rng.bool() {
            pair.assert_mirrored();
        }
    }
    pair.assert_mirrored();
}

//! What happens to the Redis: it is emptied, killed, held, and missing at the start.

use super::pair::{Pair, connect, folder, mirrored, mirroring};
use std::fs;
use verdict_tests::servers::Redis;
use verdict_tests::{Payment, Stopwatch, until};

#[test]
fn a_mirror_that_was_emptied_is_filled_without_any_change() {
    let pair = Pair::start();
    pair.change("first");
    pair.block("u-spender");
    let before = pair.assert_mirrored();
    let _: () = redis::cmd("FLUSHALL").query(&mut connect(&pair.redis)).unwrap();
    let watch = Stopwatch::start();
    until("everything to be back", || (mirrored(&pair.redis) == before).then_some(()));
    println!("back after {:.3} s", watch.seconds());
    // Killed, and started without its data.
    pair.redis.kill();
    pair.delete("block/merchant/v-first");
    fs::remove_dir_all(pair.redis.folder().join("appendonlydir")).unwrap();
    pair.redis.restart();
    assert_eq!(pair.assert_mirrored().len(), before.len() - 1);
}

#[test]
fn a_held_server_holds_up_nothing() {
    let pair = Pair::start();
    pair.change("first");
    pair.assert_mirrored();
    pair.redis.pause();
    let mut slowest = 0.0_f64;
    for n in 0..40 {
        let watch = Stopwatch::start();
        let answer = pair.service.post("/v1/decide", &Payment::new(&format!("u-{n}"), "t", "1.00").text());
        slowest = slowest.max(watch.seconds());
        assert_eq!((answer.status, answer.json()["durable"].as_bool()), (200, Some(true)), "{}", answer.body);
    }
    println!("slowest of 40 decisions: {slowest:.3} s");
    pair.change("while-held");
    pair.block("u-spender");
    until("the mirror to be behind", || pair.lag().filter(|lag| *lag > 0));
    until("the log to say so", || {
        pair.service.stderr().contains("the mirror of the lists stands still: Redis at ").then_some(())
    });
    assert_eq!(pair.service.post("/v1/decide", &Payment::new("u-x", "t", "1.00").text()).status, 200);
    pair.redis.resume();
    assert!(pair.assert_mirrored().contains_key("verdict:block:user:u-spender"));
    pair.until_caught_up();
}

#[test]
fn a_server_that_is_missing_at_the_start_is_found_later() {
    let redis = Redis::start();
    redis.kill();
    let service = mirroring(&redis, folder()).start();
    let pair = Pair { redis, service };
    pair.change("first");
    pair.redis.restart();
    assert_eq!(pair.assert_mirrored().len(), 3 * 2 + 1);
    // A stop does not wait for it either.
    pair.redis.pause();
    let watch = Stopwatch::start();
    let stopped = pair.service.terminate();
    assert!(stopped.status.success() && watch.seconds() < 5.0, "{:.1} s\n{}", watch.seconds(), stopped.stderr);
}

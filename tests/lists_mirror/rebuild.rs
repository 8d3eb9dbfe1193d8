//! `verdict rebuild lists`: with a service and without, whatever somebody has done to the mirror.

use super::pair::{PARTITIONS, Pair, connect, mirrored};
use redis::Commands;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use verdict_tests::servers::Redis;
use verdict_tests::{Ended, command, finish};

fn rebuild(redis: Option<&Redis>, folder: &Path) -> Ended {
    let mut command = command(["rebuild", "lists", "--data-dir"]);
    command.arg(folder.join("data")).env("VERDICT__DATA__PARTITIONS", PARTITIONS);
    if let Some(redis) = redis {
        command.env("VERDICT__REDIS__URL", redis.url());
    }
    finish(&mut command)
}

/// Changes, removes and adds an entry by hand, none of which anybody notices.
pub(crate) fn meddle(redis: &Redis, expected: &BTreeMap<String, Value>) {
    let mut connection = connect(redis);
    let meddled = expected["verdict:block:merchant:v-first"].to_string().replace("first", "meddled");
    let _: () = connection.set("verdict:block:merchant:v-first", meddled).unwrap();
    let _: () = connection.del("verdict:allow:user:always").unwrap();
    let _: () = connection.set("verdict:block:ip:192.0.2.1", json!({"reason": "by hand"}).to_string()).unwrap();
}

#[test]
fn a_rebuild_makes_the_mirror_good() {
    let pair = Pair::start();
    pair.change("first");
    let expected = pair.assert_mirrored();
    meddle(&pair.redis, &expected);
    assert_ne!(mirrored(&pair.redis), expected);
    let ended = rebuild(Some(&pair.redis), pair.service.folder()).success();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "the running service wrote the mirror of the lists again\n");
    assert_eq!(pair.assert_mirrored(), expected);
    let (redis, folder) = pair.stop(true);
    meddle(&redis, &expected);
    let ended = rebuild(Some(&redis), folder.path()).success();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "the mirror of the lists was written again\n");
    assert_eq!(mirrored(&redis), expected);
    let ended = rebuild(None, folder.path());
    assert!(!ended.status.success() && ended.stderr.contains("there is no mirror; set redis.url"), "{}", ended.stderr);
    redis.kill();
    let ended = rebuild(Some(&redis), folder.path());
    assert!(!ended.status.success() && ended.stderr.contains("Redis at 127.0.0.1:"), "{}", ended.stderr);
    assert_eq!(Pair::start_again((restarted(redis), folder)).assert_mirrored(), expected);
}

fn restarted(redis: Redis) -> Redis {
    redis.restart();
    redis
}

//! The mirror of a journal on Kafka, where nothing is known of a partition before the service has taken it over.

use super::pair::{PARTITIONS, Pair, connect, folder, mirrored, mirroring};
use super::rebuild::meddle;
use redis::Commands;
use tempfile::TempDir;
use verdict_tests::servers::{Kafka, Redis, Topics};
use verdict_tests::{Ended, command, finish, until};

const AGAIN: &str = "writing the mirror of the lists again";

fn on_kafka(topics: &Topics) -> [(&'static str, String); 2] {
    let brokers = Kafka::shared().bootstrap_servers().to_owned();
    [("VERDICT__KAFKA__BOOTSTRAP_SERVERS", brokers), ("VERDICT__KAFKA__TOPIC_PREFIX", topics.prefix().to_owned())]
}

fn start(topics: &Topics, redis: Redis, folder: TempDir) -> Pair {
    let builder = mirroring(&redis, folder);
    let builder = on_kafka(topics).into_iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    Pair { service: builder.start(), redis }
}

fn rebuild(topics: &Topics, redis: &Redis, pair: &Pair) -> Ended {
    let mut command = command(["rebuild", "lists", "--data-dir"]);
    command.arg(pair.service.folder().join("data")).env("VERDICT__DATA__PARTITIONS", PARTITIONS);
    command.envs(on_kafka(topics)).env("VERDICT__REDIS__URL", redis.url());
    finish(&mut command)
}

fn empty(redis: &Redis) {
    let _: () = redis::cmd("FLUSHALL").query(&mut connect(redis)).unwrap();
}

/// Whether every partition has a position that says how far it is written: entries come first.
fn settled(redis: &Redis) -> bool {
    let mut connection = connect(redis);
    let names: Vec<String> = connection.keys("verdict:position:*").unwrap();
    let is_said = |name: &String| connection.get::<_, String>(name).is_ok_and(|at| !at.starts_with("writing"));
    names.len().to_string() == PARTITIONS && names.iter().all(is_said)
}

#[test]
fn a_journal_on_kafka_is_mirrored() {
    let topics = Kafka::shared().fresh_topics("mirror", PARTITIONS.parse().unwrap());
    let pair = start(&topics, Redis::start(), folder());
    pair.change("first");
    pair.block("u-spender");
    let before = pair.assert_mirrored();
    assert!(before.contains_key("verdict:block:user:u-spender"), "{before:?}");
    pair.until_caught_up();
    empty(&pair.redis);
    until("everything to be back", || (mirrored(&pair.redis) == before).then_some(()));
    until("all of it to be written", || settled(&pair.redis).then_some(()));
    // What was left there before a kill is gone on with: it is not ahead of a journal that nobody has read yet.
    let (redis, same) = pair.stop(false);
    let pair = start(&topics, redis, same);
    pair.change("second");
    let second = pair.assert_mirrored();
    assert_eq!(second.len(), before.len() + 3);
    assert!(!pair.service.stderr().contains(AGAIN), "{}", pair.service.stderr());
    meddle(&pair.redis, &second);
    let ended = rebuild(&topics, &pair.redis, &pair).success();
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "the running service wrote the mirror of the lists again\n");
    assert_eq!(pair.assert_mirrored(), second);
    // Emptied while nobody ran, and filled by a service that has never seen the journal.
    let (redis, _) = pair.stop(true);
    empty(&redis);
    let pair = start(&topics, redis, folder());
    assert_eq!(pair.assert_mirrored(), second);
    assert!(pair.service.stderr().contains(AGAIN), "{}", pair.service.stderr());
}

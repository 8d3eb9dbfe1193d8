//! The outbox on a real broker: a reader of what is committed sees each once and soon, whatever happens to who writes.

use super::super::kafka::open;
use super::*;
use crate::kafka::testing::{Found, LIMIT, committed, fresh, read, reader};
use crate::kafka::{Compacted, KafkaSettings, Scribes, Topic};
use crate::telemetry::clock::{Clock, instant};
use rdkafka::message::Message;
use std::collections::{BTreeMap, HashMap};
use verdict_tests::servers::{Kafka, KafkaOptions};

/// Partitions of the topics that go out, unlike those of the journal.
const WIDTH: u16 = 3;

/// One owner after the other of partition 0.
struct Owner {
    settings: KafkaSettings,
    journal: Arc<MemoryJournal>,
    epoch: u64,
    scribes: Scribes,
    profiles: Arc<Compacted>,
}

async fn owner(settings: &KafkaSettings, journal: &Arc<MemoryJournal>, epoch: u64) -> Owner {
    let scribes = Scribes::new(settings.clone(), Clock::System);
    let topic = settings.topic(Topic::Profiles);
    let profiles = Arc::new(Compacted::new(settings.clone(), topic, WIDTH, b"u/", Clock::System));
    Owner { settings: settings.clone(), journal: Arc::clone(journal), epoch, scribes, profiles }
}

impl Owner {
    /// An outbox in a new term.
    async fn term(&self) -> Outbox {
        in_time(self.scribes.take_over(&[0])).await.expect("takes over");
        let journal = Arc::clone(&self.journal) as Arc<dyn Journal>;
        open(&self.settings, journal, &self.scribes, Arc::clone(&self.profiles), 0).expect("its term has begun")
    }

    async fn append(&self, numbers: std::ops::Range<u64>) {
        append(&self.journal, self.epoch, 0, numbers).await;
    }

    fn found(&self, topic: Topic) -> Vec<Found> {
        committed(&self.settings, &self.settings.topic(topic), WIDTH)
    }
}

/// How long brokers may take after a crash: they end a transaction whose end they were not told after a minute.
const AFTER_A_CRASH: Duration = Duration::from_secs(150);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

/// Transaction ids of what was found, in the order of each partition.
fn ids(found: &[Found]) -> Vec<String> {
    let id = |found: &Found| {
        let value: serde_json::Value = serde_json::from_str(&found.value).expect("JSON");
        value["transaction_id"].as_str().expect("an id").to_owned()
    };
    found.iter().map(id).collect()
}

/// Fails unless all that records 0..n send out is there, each once, each user's and the dead letters as they came.
#[track_caller]
fn assert_once(owner: &Owner, n: u64) {
    for (topic, channel) in [(Topic::Alerts, Channel::Alerts), (Topic::DeadLetters, Channel::DeadLetters)] {
        let found = owner.found(topic);
        let mut wanted: Vec<String> =
            expected(0..n).into_iter().filter(|(to, _)| *to == channel).map(|(_, id)| id).collect();
        let mut seen = ids(&found);
        let number = |id: &String| id.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        let mut last: HashMap<Option<&str>, u64> = HashMap::new();
        for (found, id) in found.iter().zip(&seen).filter(|(found, _)| found.key.is_some()) {
            let before = last.insert(found.key.as_deref(), number(id));
            assert!(before.is_none_or(|before| before < number(id)), "{found:?} came after {before:?}");
        }
        wanted.sort_by_key(number);
        seen.sort_by_key(number);
        assert_eq!(seen.len(), wanted.len(), "{topic:?}");
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn each_is_seen_once_though_its_scribe_is_dropped_again_and_again() {
    const TERMS: u64 = 8;
    const RECORDS: u64 = 2_000;
    let settings = fresh(Kafka::shared(), "outbox", WIDTH);
    let (journal, epoch) = journal().await;
    let owner = owner(&settings, &journal, epoch).await;
    let mut dice = crate::traffic::dice::Dice::new(7, 0, 0);
    for term in 0..TERMS {
        let mut outbox = owner.term().await;
        // To where the last term was cut off.
        in_time(outbox.catch_up()).await.expect("catches up");
        owner.append(term * RECORDS..(term + 1) * RECORDS).await;
        // Two transactions of some 30 ms each, and the end anywhere in them.
        let early = Duration::from_millis(dice.below(80).into());
        let caught_up = tokio::time::timeout(early, outbox.catch_up()).await;
        if term % 2 == 0 {
            owner.scribes.release(&[0], Duration::ZERO);
        }
        if let Ok(Err(error)) = caught_up {
            panic!("{error}");
        }
    }
    let mut last = owner.term().await;
    in_time(last.catch_up()).await.expect("catches up");
    assert_once(&owner, TERMS * RECORDS);
    let topic = settings.topic(Topic::Alerts);
    // What was cut off is in the topic as well, for those who read what is not committed.
    let (all, seen) = (read(&settings, &topic, WIDTH, "read_uncommitted").len(), owner.found(Topic::Alerts).len());
    assert!(all > seen, "no transaction was cut off: {all} of {seen}");
}

#[tokio::test]
async fn a_second_owner_fences_the_first_and_goes_on_where_it_was() {
    let settings = fresh(Kafka::shared(), "owners", WIDTH);
    let (journal, epoch) = journal().await;
    let (one, two) = (owner(&settings, &journal, epoch).await, owner(&settings, &journal, epoch).await);
    one.append(0..400).await;
    let first = one.term().await;
    let mut reflected = first.lag().reflected();
    let first = tokio::spawn(first.run());
    in_time(reflected.wait_for(|next| *next == 400)).await.expect("follows");
    let second = two.term().await;
    let mut reflected = second.lag().reflected();
    let second = tokio::spawn(second.run());
    for from in [400, 500, 600] {
        two.append(from..from + 100).await;
        in_time(reflected.wait_for(|next| *next == from + 100)).await.expect("follows");
    }
    let error = in_time(first).await.expect("it ends");
    assert!(error.is_fenced(), "{error}");
    assert_once(&two, 700);
    second.abort();
}

#[tokio::test]
async fn each_is_seen_once_though_the_broker_is_killed_in_the_middle() {
    const RECORDS: u64 = 6_000;
    let kafka = Kafka::start(KafkaOptions { partitions: 0, ..KafkaOptions::default() });
    let settings = fresh(&kafka, "killed", WIDTH);
    let (journal, epoch) = journal().await;
    let owner = owner(&settings, &journal, epoch).await;
    let told = watch::Sender::new(0);
    // An owner stays one: where librdkafka does not know what became of a transaction, it takes its partition over again.
    let owning = async {
        for _ in 0..5 {
            let outbox = owner.term().await;
            let mut reflected = outbox.lag().reflected();
            let telling = async {
                while reflected.changed().await.is_ok() {
                    told.send_replace(*reflected.borrow_and_update());
                }
            };
            let (error, ()) = tokio::join!(outbox.run(), telling);
            println!("{error}");
            assert!(!error.is_fenced(), "{error}");
        }
        panic!("every term ended");
    };
    let appending = async {
        for from in (0..RECORDS).step_by(50) {
            owner.append(from..from + 50).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut reached = told.subscribe();
    let killing = async {
        in_time(reached.wait_for(|next| *next > RECORDS / 5)).await.expect("follows");
        let restarted = tokio::task::spawn_blocking(move || {
            kafka.kill();
            kafka.restart();
            kafka
        });
        let kafka = in_time(restarted).await.expect("restarts");
        let caught_up = tokio::time::timeout(AFTER_A_CRASH, reached.wait_for(|next| *next == RECORDS)).await;
        caught_up.expect("in time").expect("catches up");
        kafka
    };
    let kafka = tokio::select! {
        () = owning => panic!("an owner owns"),
        ((), kafka) = async { tokio::join!(appending, killing) } => kafka,
    };
    assert_once(&owner, RECORDS);
    drop(kafka);
}

#[tokio::test]
async fn an_alert_is_with_its_readers_soon_and_where_other_clients_look_for_it() {
    const ALERTS: u64 = 600;
    const FIRST: u64 = 10;
    let settings = fresh(Kafka::shared(), "soon", WIDTH);
    let (journal, epoch) = journal().await;
    let owner = owner(&settings, &journal, epoch).await;
    let running = tokio::spawn(owner.term().await.run());
    let count = watch::Sender::new(0);
    let mut counted = count.subscribe();
    let reading = tokio::task::spawn_blocking({
        let settings = settings.clone();
        move || {
            let topic = settings.topic(Topic::Alerts);
            let reader = reader(&settings, &topic, WIDTH, "read_committed");
            let (mut seen, began) = (BTreeMap::new(), instant());
            while seen.len() < ALERTS as usize && began.elapsed() < LIMIT {
                if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
                    let alert: serde_json::Value =
                        serde_json::from_slice(message.payload().expect("a value")).expect("JSON");
                    let key = String::from_utf8(message.key().expect("a key").to_vec()).expect("UTF-8");
                    seen.insert(alert["transaction_id"].as_str().expect("an id").to_owned(), instant());
                    // As the Java client has it: murmur2 of the key, which is what users' partitions go by.
                    assert_eq!(message.partition(), i32::from(crate::actors::partition::partition_of(&key, WIDTH)));
                    count.send_replace(seen.len());
                }
            }
            seen
        }
    });
    let mut sent = BTreeMap::new();
    for n in 0..ALERTS {
        let record = samples::alert(0, epoch, n, &format!("u-{n}"));
        sent.insert(format!("t-0-{n}"), instant());
        journal.append(vec![record]).await.expect("durable");
        if n < FIRST {
            // Whoever has just started knows no broker yet.
            in_time(counted.wait_for(|count| *count as u64 == n + 1)).await.expect("reads");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = in_time(reading).await.expect("reads");
    assert_eq!(seen.len() as u64, ALERTS);
    sent.retain(|id, _| !(0..FIRST).any(|n| *id == format!("t-0-{n}")));
    let mut took: Vec<Duration> = sent.iter().map(|(id, at)| seen[id].saturating_duration_since(*at)).collect();
    took.sort();
    let at = |share: f64| took[(share * (took.len() - 1) as f64) as usize];
    println!("seen after {:?} at the median, {:?} at p99, {:?} at most", at(0.5), at(0.99), at(1.0));
    // Four times the promise, as this machine may be busy with anything.
    assert!(at(0.99) < Duration::from_secs(1), "p99 {:?}", at(0.99));
    running.abort();
}

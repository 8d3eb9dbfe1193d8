//! Scribes on a real broker: seen once, fenced, abandoned, and past a job that fails. A broker that is killed: see the outbox.

use super::*;
use crate::kafka::Scribes;
use crate::kafka::testing::{LIMIT, committed, fresh, read};
use crate::telemetry::clock::{Clock, instant};
use futures_util::FutureExt;
use futures_util::future::join_all;
use verdict_tests::servers::Kafka;

async fn scribe(settings: &KafkaSettings) -> Scribe {
    Scribe::take_over(settings.clone(), 0, Clock::System, LIMIT).await.expect("takes over")
}

fn message(settings: &KafkaSettings, topic: &str, value: &str) -> Message {
    let topic = format!("{}{topic}", settings.topic_prefix).into();
    Message { topic, value: Some(value.as_bytes().into()), partition: Some(0), ..Message::default() }
}

/// Values of a topic's first partition.
fn values(settings: &KafkaSettings, topic: &str) -> Vec<String> {
    let topic = format!("{}{topic}", settings.topic_prefix);
    committed(settings, &topic, 1).into_iter().map(|found| found.value).collect()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

#[tokio::test]
async fn jobs_of_many_callers_go_out_in_order_once_and_soon() {
    let settings = fresh(Kafka::shared(), "scribe", 2);
    let scribe = scribe(&settings).await;
    let mut took = Vec::new();
    for n in 0..20 {
        let began = instant();
        let both = vec![
            message(&settings, "fraud-alerts", &n.to_string()),
            Message { partition: Some(1), ..message(&settings, "dead-letters", &n.to_string()) },
        ];
        in_time(scribe.write(both)).await.expect("commits");
        took.push(began.elapsed());
    }
    took.sort();
    println!("a transaction alone took {:?} at the median, {:?} at most", took[10], took[19]);
    let mut written = Vec::new();
    for n in 20..500 {
        written.push(
            in_time(scribe.queue(vec![message(&settings, "fraud-alerts", &n.to_string())])).await.expect("queued"),
        );
    }
    assert!(in_time(join_all(written)).await.iter().all(Result::is_ok));
    let expected: Vec<String> = (0..500).map(|n: u32| n.to_string()).collect();
    assert_eq!(values(&settings, "fraud-alerts"), expected);
    let letters = committed(&settings, &format!("{}dead-letters", settings.topic_prefix), 2);
    assert_eq!(letters.iter().map(|found| &*found.value).collect::<Vec<_>>(), &expected[..20]);
    assert!(letters.iter().all(|found| found.partition == 1));
    let large = Message { value: Some(vec![0; 17 << 20].into()), ..message(&settings, "dead-letters", "") };
    assert!(matches!(scribe.write(vec![large]).await, Err(ScribeError::TooLarge { .. })));
    let largest = Message { value: Some(vec![0; 16_000_000].into()), ..message(&settings, "dead-letters", "") };
    in_time(scribe.write(vec![largest])).await.expect("commits the largest");
}

#[tokio::test]
async fn a_second_scribe_of_a_partition_fences_the_first() {
    let settings = fresh(Kafka::shared(), "fence", 1);
    let first = scribe(&settings).await;
    let write = async |scribe: &Scribe, value: &str| {
        in_time(scribe.write(vec![message(&settings, "fraud-alerts", value)])).await
    };
    write(&first, "1").await.expect("commits");
    let second = scribe(&settings).await;
    write(&second, "2").await.expect("commits");
    let fenced = ScribeError::Fenced { partition: 0 };
    assert_eq!(write(&first, "3").await, Err(fenced.clone()));
    assert_eq!((write(&first, "4").await, first.ended()), (Err(fenced.clone()), Some(fenced)));
    write(&second, "5").await.expect("commits");
    assert_eq!(values(&settings, "fraud-alerts"), ["1", "2", "5"]);
    let second = Arc::new(second);
    let closing = Arc::clone(&second);
    tokio::task::spawn_blocking(move || closing.close(LIMIT)).await.expect("closes");
    assert_eq!(write(&second, "6").await, Err(ScribeError::Closed { partition: 0 }));
}

#[tokio::test]
async fn a_job_that_cannot_go_out_holds_nobody_up_for_long_and_goes_out_when_it_can() {
    let settings = fresh(Kafka::shared(), "nowhere", 1);
    let scribe = scribe(&settings).await;
    let lost = vec![message(&settings, "fraud-alerts", "with it"), message(&settings, "not-there", "lost")];
    let lost = scribe.queue(lost).await.expect("queued");
    for n in 0..3 {
        in_time(scribe.write(vec![message(&settings, "fraud-alerts", &n.to_string())])).await.expect("commits");
    }
    assert_eq!(values(&settings, "fraud-alerts"), ["0", "1", "2"]);
    let topic = format!("{}not-there", settings.topic_prefix);
    Kafka::shared().create_topic(&topic, 1, &[]);
    in_time(lost).await.expect("commits");
    assert_eq!(values(&settings, "fraud-alerts"), ["0", "1", "2", "with it"]);
    assert_eq!(values(&settings, "not-there"), ["lost"]);
}

#[tokio::test]
async fn a_partition_stays_open_while_it_is_taken_over_again() {
    let settings = fresh(Kafka::shared(), "again", 1);
    let scribes = Scribes::new(settings.clone(), Clock::System);
    in_time(scribes.take_over(&[0])).await.expect("takes over");
    let former = scribes.of(0).expect("open");
    let mut again = Box::pin(scribes.take_over(&[0]));
    assert!((&mut again).now_or_never().is_none(), "it takes the brokers' time");
    assert_eq!(scribes.partitions(), [0]);
    assert!(former.write(vec![message(&settings, "fraud-alerts", "late")]).await.is_err());
    let (one, other) = in_time(async { tokio::join!(again, scribes.take_over(&[0])) }).await;
    assert!(one.is_ok() && other.is_ok());
    let present = scribes.of(0).expect("open");
    in_time(present.write(vec![message(&settings, "fraud-alerts", "1")])).await.expect("commits");
    assert_eq!(values(&settings, "fraud-alerts"), ["1"]);
}

#[tokio::test]
async fn what_was_under_way_when_a_scribe_was_abandoned_is_not_seen() {
    let settings = fresh(Kafka::shared(), "abandoned", 1);
    let first = scribe(&settings).await;
    in_time(first.write(vec![message(&settings, "fraud-alerts", "1")])).await.expect("commits");
    let queued = in_time(first.queue(vec![message(&settings, "fraud-alerts", "2")])).await.expect("queued");
    let all = format!("{}fraud-alerts", settings.topic_prefix);
    // It lingers for more before it commits, so that it is met in between, but for a machine that stands still.
    let began = instant();
    while !read(&settings, &all, 1, "read_uncommitted").iter().any(|found| found.value == "2") {
        assert!(began.elapsed() < LIMIT, "it was not sent");
    }
    first.retire(Duration::ZERO);
    let outcome = in_time(queued).await;
    let second = scribe(&settings).await;
    in_time(second.write(vec![message(&settings, "fraud-alerts", "3")])).await.expect("commits");
    let expected: &[&str] = if outcome.is_ok() { &["1", "2", "3"] } else { &["1", "3"] };
    assert_eq!(values(&settings, "fraud-alerts"), expected);
}

#[tokio::test]
async fn what_goes_out_first_is_written_once_and_aborted_before() {
    let settings = fresh(Kafka::shared(), "rehearsed", 1);
    let alerts = format!("{}fraud-alerts", settings.topic_prefix);
    for term in ["1", "2"] {
        let scribe = scribe(&settings).await;
        // Nobody outside reads this, and there is nothing to be rehearsed.
        let mark = Message { key: Some(term.as_bytes().into()), ..message(&settings, "verdict.profiles", "a mark") };
        in_time(scribe.write(vec![mark])).await.expect("commits");
        for number in ["first", "second"] {
            let value = format!("{number} of {term}");
            in_time(scribe.write(vec![message(&settings, "fraud-alerts", &value)])).await.expect("commits");
        }
    }
    let all: Vec<String> =
        read(&settings, &alerts, 1, "read_uncommitted").into_iter().map(|found| found.value).collect();
    let twice = ["first of 1", "first of 1", "second of 1", "first of 2", "first of 2", "second of 2"];
    assert_eq!(all, twice);
    assert_eq!(values(&settings, "fraud-alerts"), ["first of 1", "second of 1", "first of 2", "second of 2"]);
    assert_eq!(values(&settings, "verdict.profiles").len(), 2);
}

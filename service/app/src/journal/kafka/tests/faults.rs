//! Brokers that die and hang, and a producer that cannot go on.

use super::*;
use crate::journal::record::Body;
use crate::telemetry::clock::instant;
use futures_util::future::join_all;
use verdict_tests::servers::KafkaOptions;

#[tokio::test]
async fn a_broker_may_die_and_hang() {
    let kafka = Kafka::start(KafkaOptions { partitions: 0, ..KafkaOptions::default() });
    killed(&kafka).await;
    held(&kafka).await;
}

/// Killed with appends on their way: each of them lands once, in order, when the broker is back.
async fn killed(kafka: &Kafka) {
    const RECORDS: u64 = 4_000;
    let journal = open(&settings(kafka, "killed", 2), 2).await;
    let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
    let mut durable = journal.durable();
    let mut appends = append_all(&journal, tenures[0], 0..RECORDS);
    in_time("a first record", durable.wait_for(|durable| durable[0] > 0)).await.expect("open");
    kafka.kill();
    // Whatever was still on its way then, these are behind it.
    appends.extend(append_all(&journal, tenures[0], RECORDS..RECORDS + 100));
    appends.extend(append_all(&journal, tenures[1], 0..100));
    kafka.restart();
    for appended in in_time("the appends", join_all(appends)).await {
        appended.expect("durable");
    }
    assert_eq!(count(&journal, 0).await, RECORDS + 100);
    assert_eq!(count(&journal, 1).await, 100);
    assert_eq!(*durable.borrow(), [RECORDS + 100, 100]);
}

/// Held: nothing is failed, nothing is durable, and all goes on afterwards. A journal that is closed meanwhile ends in time.
async fn held(kafka: &Kafka) {
    let journal = open(&settings(kafka, "held", 1), 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    let closed = open(&settings(kafka, "closed", 1), 1).await;
    let to_close = take_over(&closed, 0).await.expect("takes over");
    journal.append(vec![login(tenure, 0)]).await.expect("durable");
    kafka.pause();
    let appended = journal.append(vec![login(tenure, 1)]);
    let refused = closed.append(vec![login(to_close, 0)]);
    let begun = instant();
    closed.close(Duration::from_millis(300));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
    assert!(matches!(refused.await, Err(AppendError::Closed)));
    assert!(matches!(closed.append(vec![login(to_close, 1)]).await, Err(AppendError::Closed)));
    let begun = instant();
    drop(closed);
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(*journal.durable().borrow(), [1]);
    let polled = journal.tail_polled();
    kafka.resume();
    in_time("the append", appended).await.expect("durable");
    assert_eq!(count(&journal, 0).await, 2);
    assert!(journal.tail_polled() > polled);
}

#[tokio::test]
async fn a_producer_that_cannot_go_on_ends_every_epoch() {
    let journal = fresh("fatal", 2).await;
    let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
    let mut appends = append_all(&journal, tenures[0], 0..200);
    journal.queue.send(Command::BreakProducer).expect("open");
    appends.extend(append_all(&journal, tenures[0], 200..300));
    let ends = in_time("the appends", join_all(appends)).await;
    let durable = ends.iter().filter(|end| end.is_ok()).count() as u64;
    assert!(durable < 300, "the last ones cannot be written");
    assert!(ends[durable as usize..].iter().all(Result::is_err), "none is durable behind one that is not");
    let refused = journal.append(vec![login(tenures[1], 0)]).await.expect_err("refused");
    assert!(matches!(refused, AppendError::Fenced { partition: 1, .. }), "{refused}");

    // A new producer, and a new epoch behind whatever landed.
    let again = journal.take_over(vec![0, 1]).await.expect("takes over");
    assert!(again[0].next_n >= durable, "{again:?}");
    journal.append(vec![login(again[0], again[0].next_n), login(again[1], 0)]).await.expect("durable");
    assert_eq!(count(&journal, 0).await, again[0].next_n + 1);
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_ends_its_epoch() {
    let settings = settings(Kafka::shared(), "refused", 1);
    let journal = open(&settings, 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    let original = vec![b'x'; 17 << 20].into_boxed_slice();
    let too_large = Body::DeadLetter { reason: "TEST".into(), detail: "".into(), original, cut: None };
    let refused = journal.append(vec![samples::with(0, tenure.epoch, 0, too_large)]);
    let behind = journal.append(vec![login(tenure, 1)]);
    let error = in_time("the refusal", refused).await.expect_err("refused").to_string();
    assert!(error.starts_with("the journal cannot be written: "), "{error}");
    assert!(behind.await.is_err(), "a record is missing before it");
    let again = take_over(&journal, 0).await.expect("takes over");
    assert_eq!(again.next_n, 0);
    journal.append(vec![login(again, 0)]).await.expect("durable");
}

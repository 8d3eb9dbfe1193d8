//! Where readers start: at places that were learned or saved, and never where the log does not reach.

use super::*;
use crate::journal::Position;
use crate::kafka::Inspector;
use futures_util::future::join_all;

/// Deletes the records of partition 0 before this offset.
async fn trim(settings: &KafkaSettings, offset: u64) {
    let inspector = Inspector::new(settings.clone(), LIMIT).expect("a client");
    inspector.delete_before(&settings.topic(Topic::Journal), 0, offset as i64).await.expect("trims");
}

/// A journal whose partition 0 has so many records, all of one epoch.
async fn filled(settings: &KafkaSettings, records: u64) -> (KafkaJournal, Tenure) {
    let journal = open(settings, 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    for appended in join_all(append_all(&journal, tenure, 0..records)).await {
        appended.expect("durable");
    }
    (journal, tenure)
}

#[tokio::test]
async fn owners_and_readers_start_where_they_are_told() {
    const RECORDS: u64 = 500;
    let settings = settings(Kafka::shared(), "places", 1);
    let (first, tenure) = filled(&settings, RECORDS).await;
    assert_eq!(first.position(0, RECORDS).expect("the end").n, RECORDS);
    let saved = first.position(0, 300).expect("a position");
    assert_eq!((saved.n, saved.offset, saved.epoch), (300, tenure.epoch + 301, tenure.epoch));
    assert_eq!(first.position(1, 0), None);
    drop(first);

    // Nothing before the position is there any more, so that nobody can have read it.
    trim(&settings, saved.offset).await;
    let blind = open(&settings, 1).await;
    let error = take_over(&blind, 0).await.expect_err("refused").to_string();
    let topic = settings.topic(Topic::Journal);
    let expected = format!("partition 0 of {topic} cannot be read from offset 0: it holds {} up to ", saved.offset);
    assert!(error.starts_with(&expected), "{error}");
    let error = replayed(&blind, 0, 400).await.expect_err("refused").to_string();
    assert!(error.starts_with(&expected), "{error}");

    let second = open(&settings, 1).await;
    second.locate(&[(0, saved), (7, saved)]);
    let again = take_over(&second, 0).await.expect("takes over");
    assert_eq!(again.next_n, RECORDS);
    second.append(vec![login(again, RECORDS)]).await.expect("durable");
    assert_eq!(*second.durable().borrow(), [RECORDS + 1]);
    let from = replayed(&second, 0, 310).await.expect("replays");
    assert_eq!(from.iter().map(|record| record.n).collect::<Vec<_>>(), (310..=RECORDS).collect::<Vec<_>>());
    for n in [300, 301, 499, RECORDS] {
        assert_eq!(second.read(0, n).await.expect("reads").map(|record| record.n), Some(n));
    }
    assert_eq!(second.read(0, RECORDS + 1).await.expect("reads"), None);
    let error = second.read(0, 299).await.expect_err("refused").to_string();
    assert!(error.starts_with(&expected), "{error}");

    // Who knows where it begins, knows that it was trimmed, and where to take it over.
    let third = open(&settings, 1).await;
    third.begin_at(&[(0, saved), (7, saved)]);
    assert_eq!((third.first(0), third.first(7)), (300, 0));
    let expected = format!("partition 0 of {topic} was trimmed: expected record 299, found none before 300");
    for error in [third.read(0, 299).await.map(drop), replayed(&third, 0, 299).await.map(drop)] {
        let error = error.expect_err("refused").to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
    assert_eq!(replayed(&third, 0, 300).await.expect("replays").len() as u64, RECORDS + 1 - 300);
    assert_eq!(take_over(&third, 0).await.expect("takes over").next_n, RECORDS + 1);
}

#[tokio::test]
async fn a_position_of_another_topic_is_out_of_reach() {
    let journal = fresh("elsewhere", 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    journal.append(vec![login(tenure, 0)]).await.expect("durable");
    let mut position = journal.position(0, 1).expect("a position");
    let other = fresh("elsewhere", 1).await;
    position.offset = 77;
    other.locate(&[(0, position)]);
    let error = take_over(&other, 0).await.expect_err("refused");
    assert!(matches!(error, JournalError::OutOfReach { partition: 0, offset: 77, first: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_place_from_elsewhere_is_taken_up_only_if_it_is_borne_out() {
    const RECORDS: u64 = 500;
    let settings = settings(Kafka::shared(), "borne", 1);
    let (first, tenure) = filled(&settings, RECORDS).await;
    let (saved, end) = (first.position(0, 300).expect("a position"), first.position(0, RECORDS).expect("the end"));
    let began = Position { offset: tenure.epoch + 1, epoch: tenure.epoch, n: 0 };
    drop(first);

    // As a start does that has a mark: it knows the end alone.
    let second = open(&settings, 1).await;
    second.locate(&[(0, end)]);
    take_over(&second, 0).await.expect("takes over");
    for foreign in [
        Position { offset: saved.offset + 7, ..saved },
        Position { offset: saved.offset - 7, n: saved.n - 8, ..saved },
        Position { n: saved.n - 1, ..saved },
        Position { epoch: saved.epoch + 1, ..saved },
        Position { offset: 9_999, ..saved },
        Position { offset: 0, n: 0, ..saved },
        Position { offset: u64::MAX, ..saved },
    ] {
        second.locate_proven(vec![(0, foreign), (7, saved)]).await.expect("asks");
        assert_eq!(second.position(0, 300), None, "{foreign:?} was taken up");
    }
    second.locate_proven(vec![(0, saved)]).await.expect("asks");
    assert_eq!(second.position(0, 300), Some(saved));
    second.locate_proven(vec![(0, began)]).await.expect("asks");
    assert_eq!(second.position(0, 0), Some(began));
    let from = replayed(&second, 0, 310).await.expect("replays");
    assert_eq!(from.iter().map(|record| record.n).collect::<Vec<_>>(), (310..RECORDS).collect::<Vec<_>>());

    // Where the entry before it is gone, nothing bears it out.
    trim(&settings, saved.offset).await;
    let third = open(&settings, 1).await;
    third.locate_proven(vec![(0, saved)]).await.expect("asks");
    assert_eq!(third.position(0, 300), None);
}

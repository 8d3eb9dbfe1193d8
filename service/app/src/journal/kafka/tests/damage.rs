//! Topics that hold something else than what a journal wrote, or are set up to lose it.

use super::*;

#[tokio::test]
async fn damage_and_strangers_are_named_with_partition_and_offset() {
    let settings = settings(Kafka::shared(), "damage", 2);
    let topic = settings.topic(Topic::Journal);
    let journal = open(&settings, 2).await;
    let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
    journal.append(vec![login(tenures[0], 0)]).await.expect("durable");
    let mut damaged = entry_of(&login(tenures[0], 1));
    damaged[40] ^= 1;
    produce(&settings, &[damaged]);

    let expected = format!("partition 0 of {topic} is damaged at offset 2: expected checksum");
    let error = in_time("the refusal", journal.append(vec![login(tenures[0], 1)])).await.expect_err("refused");
    assert!(error.to_string().contains(&expected) || matches!(error, AppendError::Fenced { .. }), "{error}");
    for journal in [&journal, &open(&settings, 2).await] {
        let error = take_over(journal, 0).await.expect_err("refused").to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
    // What is good before it is given; and other partitions go on.
    let reader = open(&settings, 2).await;
    let mut records = reader.replay(vec![(0, 0)], Wanted::Everything);
    assert_eq!(records.try_next().await.expect("good"), Some(login(tenures[0], 0)));
    let error = records.try_next().await.expect_err("damaged").to_string();
    assert!(error.starts_with(&expected), "{error}");
    journal.append(vec![login(tenures[1], 0)]).await.expect("durable");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_never_passed_over() {
    let settings = settings(Kafka::shared(), "unread", 1);
    let journal = open(&settings, 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    journal.append(vec![login(tenure, 0)]).await.expect("durable");
    // Of a release to come: it is whole, and it counts.
    produce(&settings, &[entry::of_version(&login(tenure, 1), 200)]);
    produce(&settings, &[entry_of(&login(tenure, 2))]);
    let reader = open(&settings, 1).await;
    let mut records = reader.replay(vec![(0, 0)], Wanted::Everything);
    assert_eq!(records.try_next().await.expect("good"), Some(login(tenure, 0)));
    let error = records.try_next().await.expect_err("unreadable").to_string();
    assert!(error.contains("at offset 2: "), "{error}");
    // Nor is what lies behind it given to whoever goes on all the same.
    assert_eq!(records.try_next().await.ok().flatten(), None);
}

#[tokio::test]
async fn a_topic_of_something_else_is_refused() {
    let settings = settings(Kafka::shared(), "foreign", 1);
    produce(&settings, &[b"{\"transaction_id\":\"t-1\"}".to_vec()]);
    let journal = open(&settings, 1).await;
    let error = take_over(&journal, 0).await.expect_err("refused").to_string();
    let expected = format!("partition 0 of {} holds something else at offset 0: ", settings.topic(Topic::Journal));
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_topic_that_is_not_set_up_for_a_journal_is_refused() {
    let refused = |settings: &KafkaSettings, partitions| {
        let opened = KafkaJournal::open(settings.clone(), partitions, Clock::System);
        async move { opened.await.err().expect("should be refused").to_string() }
    };
    let good = settings(Kafka::shared(), "setup", 3);
    let topic = good.topic(Topic::Journal);
    let error = refused(&good, 4).await;
    assert!(
        error.contains(&format!("{topic} has 3 partitions, the configuration says 4; set data.partitions = 3")),
        "{error}"
    );
    // As a topic is made without a thought.
    let loses = KafkaSettings { topic_prefix: format!("loses-{}", good.topic_prefix).into(), ..good };
    assert!(refused(&loses, 1).await.contains("found none"), "there is no such topic");
    let one_day = [("retention.ms", "86400000"), ("max.message.bytes", "1048588")];
    Kafka::shared().create_topic(&loses.topic(Topic::Journal), 1, &one_day);
    let error = refused(&loses, 1).await;
    assert!(error.contains("expected retention.ms=-1") && error.contains("expected max.message.bytes"), "{error}");
}

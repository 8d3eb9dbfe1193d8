//! What is read of a compacted topic while a transaction is under way in it.

use super::super::testing::{LIMIT, fresh};
use super::super::{ClientLog, Topic};
use super::*;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use verdict_tests::servers::Kafka;

fn put(producer: &BaseProducer<ClientLog>, topic: &str, key: &str, value: &str) {
    let record = BaseRecord::to(topic).partition(0).key(key).payload(value);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(LIMIT).expect("written");
}

#[test]
fn before_a_take_over_what_a_former_owner_left_is_not_waited_for() {
    let settings = fresh(Kafka::shared(), "so-far", 1);
    let topic = settings.topic(Topic::Profiles);
    let config = settings.transactional_producer("so-far");
    let producer: BaseProducer<ClientLog> = config.create_with_context(settings.log("test")).expect("a producer");
    producer.init_transactions(LIMIT).expect("its own");
    producer.begin_transaction().expect("begun");
    put(&producer, &topic, "a", "1");
    put(&producer, &topic, "u/1", "profile");
    producer.commit_transaction(LIMIT).expect("committed");
    producer.begin_transaction().expect("begun");
    put(&producer, &topic, "a", "2");
    put(&producer, &topic, "b", "2");

    let compacted = Compacted::new(settings, topic, 1, b"u/", Clock::System);
    let small = |entries: &[(&str, &str)]| -> Small {
        entries.iter().map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into())).collect()
    };
    assert_eq!(compacted.small_so_far(0), Ok(small(&[("a", "1")])));
    producer.commit_transaction(LIMIT).expect("committed");
    // It goes on from there, and the large ones of the first pass are not lost.
    assert_eq!(compacted.small(0), Ok(small(&[("a", "2"), ("b", "2")])));
    let mut large = Vec::new();
    let each = |key: &[u8], _: &[u8]| {
        large.push(key.to_vec());
        ControlFlow::Continue(())
    };
    assert_eq!((compacted.large(0, each), large), (Ok(()), vec![b"u/1".to_vec()]));
}

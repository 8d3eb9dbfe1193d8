//! The archive on a real broker.

use super::super::testing::{LIMIT, fresh, read};
use super::super::{ClientLog, MAX_MESSAGE_BYTES};
use super::*;
use rdkafka::producer::{BaseProducer, Producer};
use verdict_tests::servers::Kafka;

fn archive(settings: &KafkaSettings) -> TopicArchive {
    TopicArchive::new(settings.clone(), Clock::System)
}

/// Larger than a record may be, and no two of its chunks the same.
fn large() -> Vec<u8> {
    (0..MAX_MESSAGE_BYTES / 4 + 77).flat_map(u32::to_le_bytes).collect()
}

/// Puts a record in a partition, past every archive.
fn put(settings: &KafkaSettings, partition: i32, key: &str, value: &[u8]) {
    let producer: BaseProducer<ClientLog> =
        settings.producer().create_with_context(settings.log("test")).expect("a producer");
    let topic = settings.topic(Topic::Archive);
    let record = BaseRecord::to(&topic).partition(partition).key(key).payload(value);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(LIMIT).expect("written");
}

/// How many records each partition has.
fn records(settings: &KafkaSettings, partitions: u16) -> Vec<usize> {
    let found = read(settings, &settings.topic(Topic::Archive), partitions, "read_committed");
    (0..i32::from(partitions)).map(|own| found.iter().filter(|found| found.partition == own).count()).collect()
}

#[track_caller]
fn check(found: Option<Files>, expected: &[(&str, &[u8])]) {
    let found = found.expect("kept");
    let found: Vec<(&str, &[u8])> = found.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    // Not shown where it fails: they are long.
    assert!(found == expected, "other files than were kept");
}

#[test]
fn files_of_any_size_come_back_and_are_written_once() {
    for partitions in [1, 3] {
        let settings = fresh(Kafka::shared(), "archive", partitions);
        let (first, model) = (archive(&settings), large());
        let files: [(&str, &[u8]); 3] = [("model.onnx", &model), ("manifest.json", b"{}"), ("empty", b"")];
        assert!(first.read("model/1").expect("reads").is_none());
        assert!(first.keep("model/1", &files).expect("kept"), "it was not there");
        check(first.read("model/1").expect("reads"), &files);
        assert!(!first.keep("model/1", &files).expect("kept"), "it was there");
        // Another process, which has files of its own that share one.
        let second = archive(&settings);
        assert!(!second.keep("model/1", &files).expect("kept"));
        assert!(second.keep("ruleset/2", &files[1..]).expect("kept"));
        for archive in [&first, &second] {
            check(archive.read("model/1").expect("reads"), &files);
            check(archive.read("ruleset/2").expect("reads"), &files[1..]);
            assert!(archive.read("ruleset/1").expect("reads").is_none());
        }
        // 17 chunks and one, that one again, and two manifests.
        let expected = if partitions == 1 { vec![21] } else { vec![2, 0, 19] };
        assert_eq!(records(&settings, partitions), expected);
    }
}

#[test]
fn what_is_damaged_is_told_and_written_again() {
    let settings = fresh(Kafka::shared(), "mended", 2);
    let files: [(&str, &[u8]); 2] = [("ruleset.yaml", b"rules: []"), ("fx.yaml", b"base: USD")];
    let damages: [(&[u8], &str); 2] = [
        (b"{", "its manifest cannot be read"),
        (b"{\"version\":9,\"partition\":0,\"from\":0,\"files\":[]}", "of version 1, found 9"),
    ];
    assert!(archive(&settings).keep("ruleset/1", &files).expect("kept"));
    for (value, told) in damages {
        put(&settings, 0, "ruleset/1", value);
        let error = archive(&settings).read("ruleset/1").expect_err("damaged").to_string();
        let expected = format!("ruleset/1 in topic {} is damaged: ", settings.topic(Topic::Archive));
        assert!(error.starts_with(&expected) && error.contains(told), "{error}");
        assert!(archive(&settings).keep("ruleset/1", &files).expect("kept"), "written again");
        check(archive(&settings).read("ruleset/1").expect("reads"), &files);
    }
}

#[test]
fn chunks_that_are_missing_or_elsewhere_are_looked_for() {
    let settings = fresh(Kafka::shared(), "copied", 1);
    let files: [(&str, &[u8]); 1] = [("ruleset.yaml", b"rules: []")];
    let manifest = |from: i64, chunk: &[u8]| {
        let entry = Entry { name: "ruleset.yaml".into(), sha256: hash(b"rules: []"), chunks: vec![hash(chunk)] };
        let manifest = Manifest { version: VERSION, partition: 0, from, files: vec![entry] };
        serde_json::to_vec(&manifest).expect("encodes")
    };
    put(&settings, 0, &format!("chunk/{}", hash(b"rules: []")), b"rules: []");
    // As in a topic that was copied, without what was compacted away: offsets are others there.
    for from in [0, 1, 700] {
        put(&settings, 0, "ruleset/1", &manifest(from, b"rules: []"));
        check(archive(&settings).read("ruleset/1").expect("reads"), &files);
    }
    let refused = |key: &str| archive(&settings).read(key).expect_err("refused").to_string();
    put(&settings, 0, "ruleset/2", &manifest(0, b"rules: [other]"));
    assert!(refused("ruleset/2").contains("a chunk of ruleset.yaml is not there"));
    // A value that its key does not name is none, and what is put together of other chunks is not the file.
    put(&settings, 0, &format!("chunk/{}", hash(b"rules: [other]")), b"rules: []");
    assert!(refused("ruleset/2").contains("a chunk of ruleset.yaml is not there"));
    put(&settings, 0, &format!("chunk/{}", hash(b"rules: [other]")), b"rules: [other]");
    assert!(refused("ruleset/2").contains("expected ruleset.yaml with sha256"));
    assert!(archive(&settings).keep("ruleset/2", &files).expect("kept"), "written again");
    check(archive(&settings).read("ruleset/2").expect("reads"), &files);
}

#[test]
fn brokers_that_do_not_take_it_are_an_error() {
    let settings = fresh(Kafka::shared(), "refused", 1);
    let nowhere = KafkaSettings { topic_prefix: "nowhere.".into(), ..settings };
    assert!(archive(&nowhere).read("ruleset/1").is_err(), "there is no such topic");
    Kafka::shared().create_topic("small.verdict.archive", 1, &[("max.message.bytes", "200")]);
    let small = KafkaSettings { topic_prefix: "small.".into(), ..nowhere };
    let error = archive(&small).keep("ruleset/1", &[("ruleset.yaml", &[b'x'; 500])]).expect_err("refused").to_string();
    assert!(error.contains("ruleset/1 cannot be archived in topic small.verdict.archive"), "{error}");
    assert!(archive(&small).read("ruleset/1").expect("reads").is_none(), "half of it is nothing");
}

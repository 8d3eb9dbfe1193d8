//! Checkpoints on a real broker: what they do beyond the contract of the port.

use super::super::contract::{load, on_kafka, parts, save, topics};
use super::super::tests::{mark, profile};
use super::*;
use crate::journal::MemoryJournal;
use crate::kafka::testing::{committed, read};

fn only(partition: Partition, next_n: u64) -> Marker {
    Marker { marks: vec![mark(partition, next_n)], sources: Vec::new() }
}

#[tokio::test]
async fn the_newest_of_each_of_many_comes_back_and_the_mark_is_last() {
    let settings = topics("many");
    let store = on_kafka(&settings).await;
    let of = |n: u64| -> Vec<ProfileSnapshot> { (0..10_000).map(|user| profile(2, user, n)).collect() };
    assert_eq!(save(&store, parts(&of(5)), &[], &only(2, 6)).await.ok(), Some(true));
    let mut newest = of(9);
    assert_eq!(save(&store, parts(&newest[..5_000]), &[], &only(2, 10)).await.ok(), Some(true));
    newest[5_000..].clone_from_slice(&of(5)[5_000..]);
    let topic = Arc::clone(store.profiles.topic());
    drop(store);

    let store = on_kafka(&settings).await;
    let mut found = load(&store, &[2]).await.expect("reads");
    newest.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    found.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    assert!(found == newest, "expected {} profiles, each its newest, found {}", newest.len(), found.len());
    assert_eq!(store.marker().await.expect("reads"), Some(only(2, 10)));

    let keys: Vec<Option<String>> = committed(&settings, &topic, 4).into_iter().map(|found| found.key).collect();
    let marks: Vec<usize> =
        keys.iter().enumerate().filter(|(_, key)| key.as_deref() == Some("mark/2")).map(|(at, _)| at).collect();
    assert_eq!((marks, keys.len()), (vec![10_000, 15_001], 15_002));
}

#[tokio::test]
async fn a_part_stands_when_the_rest_does_not_come_and_a_former_owner_writes_nothing() {
    let settings = topics("parts");
    let first = on_kafka(&settings).await;
    assert_eq!(save(&first, parts(&[profile(0, 1, 5)]), &[], &only(0, 6)).await.ok(), Some(true));
    // Larger than a slice, so that what comes before the end is written before it.
    let long: Vec<_> =
        (10..14).map(|user| ProfileSnapshot { bytes: vec![7; 600_000], ..profile(0, user, 8) }).collect();
    let given_up = parts(&long).into_iter().chain([None]).collect();
    assert_eq!(save(&first, given_up, &[], &only(0, 9)).await.ok(), Some(false));
    let second = on_kafka(&settings).await;
    let found = load(&second, &[0]).await.expect("reads");
    assert!(found.contains(&profile(0, 1, 5)), "{}", found.len());
    assert!(found.iter().all(|found| *found == profile(0, 1, 5) || long.contains(found)));
    assert_eq!(second.marker().await.expect("reads"), Some(only(0, 6)));

    let late = save(&first, parts(&[profile(0, 1, 20)]), &[], &only(0, 21)).await;
    let error = late.expect_err("it is fenced").to_string();
    assert!(error.contains("partition 0: another owner has taken its transactions over"), "{error}");
    let sources = vec![SourceOffset { topic: "transactions".into(), partition: 5, next_offset: 1 }];
    let error = save(&second, Vec::new(), &[], &Marker { sources, ..only(0, 6) }).await.expect_err("has no mark");
    assert!(error.to_string().contains("the offset of transactions/5 goes with the mark"), "{error}");
    assert_eq!(second.marker().await.expect("reads"), Some(only(0, 6)));
}

#[tokio::test]
async fn damage_is_refused_by_name_unless_something_newer_stands() {
    let settings = topics("damage");
    let store = on_kafka(&settings).await;
    let sound = [profile(1, 1, 5), profile(1, 2, 5)];
    assert_eq!(save(&store, parts(&sound), &[], &only(1, 6)).await.ok(), Some(true));
    let mut message = shape::profile(store.profiles.topic(), &profile(1, 2, 7));
    if let Some(byte) = message.value.as_mut().and_then(|value| value.last_mut()) {
        *byte ^= 1;
    }
    store.scribes.of(1).expect("its scribe").write(vec![message]).await.expect("commits");
    let error = load(&store, &[1]).await.expect_err("must be refused");
    assert!(matches!(error, JournalError::DamagedSnapshot { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("verdict.profiles is damaged: the profile of user \"u-2\": expected checksum"), "{text}");
    let newer = [profile(1, 2, 9)];
    assert_eq!(save(&store, parts(&newer), &[], &only(1, 10)).await.ok(), Some(true));
    assert_eq!(load(&store, &[1]).await.expect("reads"), [sound[0].clone(), newer[0].clone()]);

    let mark = Message {
        value: Some([1, 0, 0, 0, 0, 9].into()),
        ..shape::mark(store.profiles.topic(), &mark(1, 12), None, &Sources::new()).expect("a mark")
    };
    store.scribes.of(1).expect("its scribe").write(vec![mark]).await.expect("commits");
    let error = store.marker().await.expect_err("must be refused").to_string();
    assert!(error.contains("the mark of partition 1: expected checksum 00000000"), "{error}");
}

/// Knows one position, and notes what it is told.
struct Placed {
    memory: MemoryJournal,
    told: Mutex<Vec<(Partition, Position)>>,
}

const PLACE: Position = Position { offset: 77, epoch: 40, n: 5 };

impl Journal for Placed {
    fn partitions(&self) -> Partition {
        self.memory.partitions()
    }
    fn take_over(
        &self,
        partitions: Vec<Partition>,
    ) -> BoxFuture<'_, Result<Vec<crate::journal::Tenure>, JournalError>> {
        self.memory.take_over(partitions)
    }
    fn append(
        &self,
        records: Vec<crate::journal::record::Record>,
    ) -> BoxFuture<'static, Result<(), crate::journal::AppendError>> {
        self.memory.append(records)
    }
    fn replay(
        &self,
        from: crate::journal::Cursor,
        wanted: crate::journal::Wanted,
    ) -> BoxStream<'_, Result<crate::journal::record::Record, JournalError>> {
        self.memory.replay(from, wanted)
    }
    fn read(
        &self,
        partition: Partition,
        n: u64,
    ) -> BoxFuture<'_, Result<Option<crate::journal::record::Record>, JournalError>> {
        self.memory.read(partition, n)
    }
    fn durable(&self) -> tokio::sync::watch::Receiver<Vec<u64>> {
        self.memory.durable()
    }
    fn position(&self, partition: Partition, n: u64) -> Option<Position> {
        (partition == 3 && n >= PLACE.n).then_some(PLACE)
    }
    fn locate(&self, positions: &[(Partition, Position)]) {
        self.told.lock().expect("no holder panicked").extend(positions);
    }
}

#[tokio::test]
async fn a_mark_keeps_where_the_journal_finds_its_place() {
    let settings = topics("places");
    let journal = Arc::new(Placed { memory: MemoryJournal::new(4, false), told: Mutex::default() });
    let open = || {
        let scribes = Arc::new(Scribes::new(settings.clone(), Clock::System));
        let profiles = profiles(&settings, 4, Clock::System);
        KafkaCheckpoints::new(scribes, profiles, Arc::clone(&journal) as Arc<dyn Journal>)
    };
    let store = open();
    store.take_over(vec![2, 3]).await.expect("takes over");
    let marker = Marker { marks: vec![mark(2, 6), mark(3, 6)], sources: Vec::new() };
    assert_eq!(save(&store, Vec::new(), &[], &marker).await.ok(), Some(true));
    assert_eq!(*journal.told.lock().expect("no holder panicked"), []);
    let store = open();
    store.take_over(vec![3]).await.expect("takes over");
    assert_eq!(*journal.told.lock().expect("no holder panicked"), [(3, PLACE)]);
    // Of what was not taken over, nothing is told, and nothing is written.
    assert_eq!(store.marker().await.expect("reads"), Some(only(3, 6)));
    let error = save(&store, Vec::new(), &[], &only(2, 7)).await.expect_err("is not its own").to_string();
    assert!(error.contains("partition 2: no transactions are open for it here"), "{error}");
    let all = read(&settings, store.profiles.topic(), 4, "read_uncommitted");
    assert_eq!(all.iter().filter(|found| found.key.as_deref() == Some("mark/2")).count(), 1);
}

//! One suite for every implementation of the port.

use super::kafka::{KafkaCheckpoints, profiles};
use super::tests::{listed, mark, profile};
use super::{CheckpointStore, Checkpoints, ListSnapshot, Marker, ProfileSnapshot, SourceOffset, Totals};
use crate::config::KafkaConfig;
use crate::journal::{JournalError, MemoryJournal, Partition};
use crate::kafka::{KafkaSettings, Scribes};
use crate::telemetry::clock::Clock;
use futures_util::TryStreamExt;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use tempfile::TempDir;
use verdict_tests::servers::Kafka;

const PARTITIONS: Partition = 4;
const ALL: [Partition; 4] = [0, 1, 2, 3];

/// Where a store keeps what it is given.
enum Place {
    Dir(TempDir),
    Topics(KafkaSettings),
}

impl Place {
    fn every() -> [Self; 2] {
        [Self::Dir(tempfile::tempdir().expect("a directory")), Self::Topics(topics("checkpoints"))]
    }

    /// A store as a new process finds it.
    async fn open(&self) -> Box<dyn Checkpoints> {
        match self {
            Self::Dir(dir) => Box::new(CheckpointStore::open(dir.path()).await.expect("opens")),
            Self::Topics(settings) => Box::new(on_kafka(settings).await),
        }
    }
}

/// Clients with topics of their own on the shared broker.
pub(super) fn topics(name: &str) -> KafkaSettings {
    let kafka = Kafka::shared();
    let mut config = KafkaConfig::at(kafka.bootstrap_servers());
    config.topic_prefix = kafka.fresh_topics(name, PARTITIONS.into()).prefix().into();
    config.group_id = config.topic_prefix.clone();
    KafkaSettings::from(&config)
}

pub(super) async fn on_kafka(settings: &KafkaSettings) -> KafkaCheckpoints {
    let scribes = Arc::new(Scribes::new(settings.clone(), Clock::System));
    let profiles = profiles(settings, PARTITIONS, Clock::System);
    let store = KafkaCheckpoints::new(scribes, profiles, Arc::new(MemoryJournal::new(PARTITIONS, false)));
    store.take_over(ALL.to_vec()).await.expect("takes over");
    store
}

type Parts = Vec<Option<Vec<ProfileSnapshot>>>;

pub(super) async fn save(
    store: &dyn Checkpoints,
    parts: Parts,
    lists: &[ListSnapshot],
    marker: &Marker,
) -> Result<bool, JournalError> {
    store.save_parts(stream::iter(parts).boxed_local(), lists, marker).await
}

/// All of it in parts as shards make them.
pub(super) fn parts(profiles: &[ProfileSnapshot]) -> Parts {
    let mut sorted = profiles.to_vec();
    sorted.sort_by(|a, b| (a.partition, &a.user_id).cmp(&(b.partition, &b.user_id)));
    let of_one = sorted.chunk_by(|a, b| a.partition == b.partition);
    of_one.flat_map(|profiles| profiles.chunks(super::ROWS_PER_STATEMENT)).map(|part| Some(part.to_vec())).collect()
}

pub(super) async fn load(
    store: &dyn Checkpoints,
    partitions: &[Partition],
) -> Result<Vec<ProfileSnapshot>, JournalError> {
    let mut profiles: Vec<ProfileSnapshot> = store.load(partitions).try_collect().await?;
    profiles.sort_by(|a, b| (a.partition, &a.user_id).cmp(&(b.partition, &b.user_id)));
    Ok(profiles)
}

#[tokio::test]
async fn a_new_store_is_empty() {
    for place in Place::every() {
        let store = place.open().await;
        assert_eq!(store.marker().await.expect("reads"), None);
        assert_eq!(store.lists().await.expect("reads"), []);
        assert_eq!(load(&*store, &[0, 1]).await.expect("reads"), []);
    }
}

#[tokio::test]
async fn the_last_checkpoint_of_every_shard_comes_back() {
    for place in Place::every() {
        // More than a page of profiles, and a rest of a statement.
        let mut first: Vec<ProfileSnapshot> = (0..10_100).map(|user| profile((user % 2) as u16, user, 5)).collect();
        // Of topic partition 4, whose owner has journal partition 0.
        let topic = |next_offset| SourceOffset { topic: "transactions".into(), partition: 4, next_offset };
        let logins = SourceOffset { topic: "logins".into(), partition: 1, next_offset: 3 };
        let marker = Marker { marks: vec![mark(0, 20), mark(1, 30)], sources: vec![logins.clone(), topic(7)] };
        let store = place.open().await;
        assert_eq!(save(&*store, parts(&first), &[], &marker).await.ok(), Some(true));
        assert_eq!(store.marker().await.expect("reads"), Some(marker));

        // One shard saves again: one of its profiles is newer, one is new.
        let newer = [profile(0, 4, 25), profile(0, 20_000, 26)];
        let marker = Marker { marks: vec![mark(0, 27)], sources: vec![topic(9)] };
        assert_eq!(save(&*store, parts(&newer), &[], &marker).await.ok(), Some(true));
        drop(store);

        let store = place.open().await;
        let marker = store.marker().await.expect("reads").expect("a marker");
        assert_eq!(marker, Marker { marks: vec![mark(0, 27), mark(1, 30)], sources: vec![logins, topic(9)] });
        assert_eq!(marker.mark(1), Some(&mark(1, 30)));
        assert_eq!(marker.mark(2), None);
        assert_eq!(marker.totals(), Totals { decisions: 55, logins: 2, ..Totals::default() });
        assert_eq!(marker.totals().records(), 57);

        first[4] = newer[0].clone();
        first.push(newer[1].clone());
        first.sort_by(|a, b| (a.partition, &a.user_id).cmp(&(b.partition, &b.user_id)));
        // Twice, as a shard that starts again does.
        for _ in 0..2 {
            assert_eq!(load(&*store, &[0, 1]).await.expect("reads"), first);
        }
        first.retain(|profile| profile.partition == 1);
        assert_eq!(load(&*store, &[1]).await.expect("reads"), first);
        assert_eq!(load(&*store, &[2]).await.expect("reads"), []);
    }
}

#[tokio::test]
async fn long_profiles_come_back_a_few_at_a_time() {
    for place in Place::every() {
        let long = |user: usize| ProfileSnapshot { bytes: vec![user as u8; 700_000], ..profile(0, user, 5) };
        let mut profiles: Vec<ProfileSnapshot> =
            (0..60).map(|user| if user % 2 == 0 { long(user) } else { profile(0, user, 5) }).collect();
        let marker = Marker { marks: vec![mark(0, 6)], sources: Vec::new() };
        let store = place.open().await;
        assert_eq!(save(&*store, parts(&profiles), &[], &marker).await.ok(), Some(true));
        profiles.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        assert_eq!(load(&*store, &[0]).await.expect("reads"), profiles);
        // Whoever stops reading holds nobody up.
        let first = store.load(&ALL).try_next().await.expect("reads");
        assert!(first.is_some());
        assert_eq!(load(&*store, &[0]).await.expect("reads").len(), 60);
    }
}

#[tokio::test]
async fn list_entries_are_replaced_partition_by_partition() {
    for place in Place::every() {
        let store = place.open().await;
        let marker = Marker::default();
        assert_eq!(save(&*store, Vec::new(), &[listed(0), listed(3)], &marker).await.ok(), Some(true));
        let emptied = ListSnapshot { partition: 0, entries: Vec::new() };
        assert_eq!(save(&*store, Vec::new(), std::slice::from_ref(&emptied), &marker).await.ok(), Some(true));
        // A checkpoint that has nothing to say of lists leaves them.
        assert_eq!(save(&*store, Vec::new(), &[], &marker).await.ok(), Some(true));
        drop(store);
        let store = place.open().await;
        assert_eq!(store.lists().await.expect("reads"), [emptied, listed(3)]);
    }
}

#[tokio::test]
async fn one_that_is_given_up_leaves_marks_and_lists_as_they_were() {
    for place in Place::every() {
        let before = Marker { marks: vec![mark(0, 6)], sources: Vec::new() };
        let old = [profile(0, 1, 5)];
        let store = place.open().await;
        assert_eq!(save(&*store, parts(&old), &[listed(0)], &before).await.ok(), Some(true));
        let after = Marker { marks: vec![mark(0, 10)], sources: Vec::new() };
        let new = [profile(0, 1, 9), profile(0, 2, 8)];
        let emptied = ListSnapshot { partition: 0, entries: Vec::new() };
        let given_up = parts(&new).into_iter().chain([None]).collect();
        assert_eq!(save(&*store, given_up, &[emptied], &after).await.ok(), Some(false));
        drop(store);
        let store = place.open().await;
        assert_eq!(store.marker().await.expect("reads"), Some(before));
        assert_eq!(store.lists().await.expect("reads"), [listed(0)]);
        let found = load(&*store, &[0]).await.expect("reads");
        // All of it, or with those parts that stand.
        assert!(found == old || store.stands_in_parts() && found == new, "{found:?}");
    }
}

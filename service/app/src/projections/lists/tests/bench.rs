//! A journal with its owner and a Redis to mirror it in, for the projection's tests.

use super::super::names::entry_name;
use super::*;
use crate::actors::partition::partition_of_entry;
use crate::config::Secret;
use crate::journal::MemoryJournal;
use redis::Connection;
use std::sync::Mutex;
use verdict_core::lists::{ListAction, ListChange, ListSource};
use verdict_tests::servers::Redis;

pub(super) const PARTITIONS: Partition = 3;

/// What was saved last, as a test has it.
#[derive(Default)]
pub(super) struct Saved(pub(super) Mutex<BTreeMap<Partition, SavedEntries>>);

impl SavedLists for Saved {
    fn saved(&self) -> BoxFuture<'_, Result<BTreeMap<Partition, SavedEntries>, JournalError>> {
        let saved = self.0.lock().unwrap().clone();
        async move { Ok(saved) }.boxed()
    }
}

/// A journal with its owner, and a Redis.
pub(super) struct Bench {
    pub(super) redis: Redis,
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) saved: Arc<Saved>,
    /// Of each entry what the journal made of it last.
    pub(super) expected: Mutex<BTreeMap<String, ListEntry>>,
    pub(super) epochs: Vec<u64>,
    pub(super) projections: Mutex<u64>,
}

pub(super) fn key(list: List, kind: ListKind, value: &str) -> ListKey {
    ListKey { list, kind, value: value.into() }
}

pub(super) fn merchant(value: &str) -> ListKey {
    key(List::Block, ListKind::Merchant, value)
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Redis::start()).await
    }

    /// A journal of its own on a server that may have served another one.
    pub(super) async fn with(redis: Redis) -> Self {
        let journal = Arc::new(MemoryJournal::new(PARTITIONS, true));
        let tenures = journal.take_over((0..PARTITIONS).collect()).await.unwrap();
        let epochs = tenures.iter().map(|tenure| tenure.epoch).collect();
        let (saved, expected) = (Arc::default(), Mutex::default());
        Self { redis, journal, saved, expected, epochs, projections: Mutex::new(0) }
    }

    pub(super) fn mirror(&self) -> ListMirror {
        ListMirror::new(&Secret::new(self.redis.url())).unwrap()
    }

    pub(super) fn projection(&self) -> ListProjection {
        let mut seed = self.projections.lock().unwrap();
        *seed += 1;
        ListProjection::new(Arc::clone(&self.journal) as _, Arc::clone(&self.saved) as _, self.mirror(), *seed)
    }

    pub(super) fn connection(&self) -> Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }

    pub(super) async fn append(&self, partition: Partition, body: Body) {
        let n = self.journal.durable().borrow()[usize::from(partition)];
        let record = samples::with(partition, self.epochs[usize::from(partition)], n, body);
        self.journal.append(vec![record]).await.unwrap();
    }

    pub(super) async fn change(&self, key: ListKey, action: ListAction) {
        let change = ListChange { key, source: ListSource::Api, action };
        let name = entry_name(&change.key);
        match change.entry() {
            Some(entry) => _ = self.expected.lock().unwrap().insert(name, entry),
            None => _ = self.expected.lock().unwrap().remove(&name),
        }
        self.append(partition_of_entry(&change.key, PARTITIONS), Body::List(change)).await;
    }

    pub(super) async fn put(&self, key: ListKey, reason: &str) {
        self.change(key, ListAction::Put { reason: reason.into(), expires_at: None }).await;
    }

    pub(super) async fn delete(&self, key: ListKey) {
        self.change(key, ListAction::Delete).await;
    }

    /// Records that change no entry.
    pub(super) async fn pass(&self, records: u64) {
        for n in 0..records {
            for partition in 0..PARTITIONS {
                self.append(partition, samples::login(partition, 0, n).body).await;
            }
        }
    }

    /// Saves what the journal has made of the entries by now.
    pub(super) fn save(&self) {
        let durable = self.journal.durable().borrow().clone();
        let mut saved: BTreeMap<Partition, SavedEntries> =
            (0..).zip(durable).map(|(p, next_n)| (p, SavedEntries { next_n, entries: Vec::new() })).collect();
        for (name, entry) in &*self.expected.lock().unwrap() {
            let Some(Named::Entry(key)) = Named::parse(name) else { panic!("the name of an entry: {name}") };
            let of = saved.get_mut(&partition_of_entry(&key, PARTITIONS)).unwrap();
            of.entries.push((key, entry.clone()));
        }
        *self.saved.0.lock().unwrap() = saved;
    }

    /// Every name that begins like one of the mirror, with its value.
    pub(super) fn names(&self) -> BTreeMap<String, String> {
        let mut connection = self.connection();
        let names: Vec<String> = connection.keys("verdict:*").unwrap();
        names.into_iter().map(|name| (name.clone(), connection.get(name).unwrap())).collect()
    }

    /// Puts back what stood there once.
    pub(super) fn restore(&self, names: &BTreeMap<String, String>) {
        let mut restored = redis::pipe();
        restored.atomic().cmd("FLUSHALL").ignore();
        names.iter().for_each(|(name, value)| _ = restored.set(name, value).ignore());
        restored.query::<()>(&mut self.connection()).unwrap();
    }

    /// The mirror holds what the journal says, and a position of each partition that vouches for all of it.
    #[track_caller]
    pub(super) fn assert_mirrored(&self) {
        let json = |entry: &ListEntry| {
            let mut out = Vec::new();
            crate::wire::list::mirrored_to_json(entry, &mut out);
            String::from_utf8(out).unwrap()
        };
        let (positions, entries): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.names().into_iter().partition(|(name, _)| name.starts_with("verdict:position:"));
        let expected: BTreeMap<String, String> =
            self.expected.lock().unwrap().iter().map(|(name, entry)| (name.clone(), json(entry))).collect();
        assert_eq!(entries, expected);
        assert_eq!(positions.len(), usize::from(PARTITIONS), "{positions:?}");
        assert!(positions.values().all(|text| Left::parse(text).is_some()), "{positions:?}");
    }

    /// Finds that the mirror was meddled with, and makes it good.
    pub(super) async fn looked_and_caught_up(&self, projection: &mut ListProjection) {
        let error = projection.look().await.unwrap_err();
        assert!(matches!(error, ProjectionError::Mirror(MirrorError::Moved { .. })), "{error}");
        projection.catch_up().await.unwrap();
        self.assert_mirrored();
    }
}

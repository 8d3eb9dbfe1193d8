//! Trimming on a real broker: what is gone, what holds it, and what a start and every reader find afterwards.

use super::*;
use crate::actors::recovery::{Recovered, fold, recover};
use crate::app::storage::Observed;
use crate::config::KafkaConfig;
use crate::journal::checkpoint::kafka::KafkaCheckpoints;
use crate::journal::checkpoint::{Checkpoints, ListSnapshot, Mark, Marker, ProfileSnapshot, Totals};
use crate::journal::record::{Record, samples};
use crate::journal::{Journal, JournalError, Wanted, profile};
use crate::kafka::testing::{LIMIT, fresh};
use crate::kafka::{Inspector, KafkaSettings, Topic};
use crate::projections::review::ReviewProjection;
use crate::projections::review_store::ProjectionStore as _;
use crate::projections::review_store::sqlite::SqliteStore;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::HashMap;
use tempfile::TempDir;
use verdict_core::profile::{Profile, Retention};
use verdict_tests::servers::Kafka;

const PARTITIONS: Partition = 2;
/// Records in each part of a history.
const SOME: u64 = 40;

type Users = HashMap<Box<str>, Box<Profile>>;

#[test]
fn what_is_kept_covers_duplicates_and_windows() {
    let mut config = Config::default();
    let with = |config: &mut Config, days| {
        config.kafka = Some(KafkaConfig { journal_retention_days: days, ..KafkaConfig::at("a:1") });
        keep_ms(config)
    };
    assert_eq!(keep_ms(&config), None);
    assert_eq!(with(&mut config, 0), None);
    assert_eq!(with(&mut config, 1), Some(31 * DAY_MS), "the longest window, and a day ahead");
    assert_eq!(with(&mut config, 90), Some(91 * DAY_MS));
    config.data.dedupe_days = 40;
    assert_eq!(with(&mut config, 1), Some(41 * DAY_MS));
}

/// A node, as `app` puts it together, without shards: a test appends and saves in their place.
struct Node {
    kafka: OnKafka,
    checkpoints: Arc<dyn Checkpoints>,
    recovered: Recovered,
}

impl Node {
    async fn start(settings: &KafkaSettings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kafka = OnKafka::open(settings.clone(), PARTITIONS, folder.path(), 1 << 20).await.expect("opens");
        let (scribes, profiles) = (Arc::clone(&kafka.scribes), Arc::clone(&kafka.profiles));
        let checkpoints: Arc<dyn Checkpoints> =
            Arc::new(KafkaCheckpoints::new(scribes, profiles, kafka.journal.clone()));
        let (journal, retention) = (&*kafka.journal, Retention::default());
        let recovered = recover(&[0, 1], journal, Some(&*checkpoints), &retention).await.expect("recovers");
        Self { kafka, checkpoints, recovered }
    }

    /// Ends as a process that is killed does, but for what is on its way.
    async fn end(self) {
        let Self { kafka: OnKafka { journal, scribes, .. }, checkpoints, .. } = self;
        drop(checkpoints);
        let closing = move || {
            scribes.close(LIMIT);
            journal.close(LIMIT);
        };
        tokio::task::spawn_blocking(closing).await.expect("closes");
    }

    /// So many more alerts in each partition, durable, of a few users.
    async fn append(&mut self, users: &mut Users) {
        let mut records: Vec<Record> = Vec::new();
        for tenure in &mut self.recovered.tenures {
            for n in tenure.next_n..tenure.next_n + SOME {
                records.push(samples::alert(
                    tenure.partition,
                    tenure.epoch,
                    n,
                    &format!("u-{}-{}", tenure.partition, n % 7),
                ));
            }
            tenure.next_n += SOME;
        }
        records.iter().for_each(|record| fold(users, record, &Retention::default()));
        self.kafka.journal.append(records).await.expect("durable");
    }

    /// A checkpoint of all users and of no list entries, up to what was appended.
    async fn save(&self, users: &Users) {
        let of = |(user_id, kept): (&str, &Profile)| {
            let bytes = profile::encode(kept);
            let partition = if user_id.starts_with("u-0-") { 0 } else { 1 };
            let n = profile::next_n(&bytes).expect("a profile");
            ProfileSnapshot { user_id: user_id.into(), partition, n, bytes }
        };
        let profiles: Vec<ProfileSnapshot> =
            users.iter().map(|(user_id, kept)| (&**user_id, &**kept)).map(of).collect();
        let (zeros, nines) = profiles.into_iter().partition(|profile| profile.partition == 0);
        let parts = stream::iter([Some(zeros), Some(nines)]).boxed_local();
        let mark = |tenure: &crate::journal::Tenure| Mark {
            partition: tenure.partition,
            next_n: tenure.next_n,
            totals: Totals { decisions: tenure.next_n, ..Totals::default() },
        };
        let marker = Marker { marks: self.recovered.tenures.iter().map(mark).collect(), sources: Vec::new() };
        let lists = [0, 1].map(|partition| ListSnapshot { partition, entries: Vec::new() });
        assert!(self.checkpoints.save_parts(parts, &lists, &marker).await.expect("saved"));
    }

    async fn publish(&self) {
        let OnKafka { settings, journal, scribes, profiles, .. } = &self.kafka;
        for partition in 0..PARTITIONS {
            let outbox = outbox::kafka::open(settings, journal.clone(), scribes, Arc::clone(profiles), partition);
            outbox.expect("its term").catch_up().await.expect("published");
        }
    }

    async fn review(&self, store: &Arc<SqliteStore>) {
        let mut projection = ReviewProjection::new(self.kafka.journal.clone(), Arc::clone(store) as _, 7);
        projection.catch_up().await.expect("reflected");
    }

    /// A trimmer that keeps nothing for its age.
    fn trimmer(&self) -> Trimmer {
        let written = (Arc::clone(&self.kafka.scribes), Arc::clone(&self.kafka.profiles));
        Trimmer::new(self.kafka.settings.clone(), written, self.kafka.journal.clone(), Clock::System, 0)
    }

    fn firsts(&self) -> Vec<u64> {
        (0..PARTITIONS).map(|partition| self.kafka.journal.first(partition)).collect()
    }
}

/// Where the broker says that the partitions begin.
async fn low(settings: &KafkaSettings) -> Vec<i64> {
    let inspector = Inspector::new(settings.clone(), LIMIT).expect("a client");
    let topic = settings.topic(Topic::Journal);
    let ask = move || (0..2).map(|partition| inspector.watermarks(&topic, partition).expect("asked").low).collect();
    tokio::task::spawn_blocking(ask).await.expect("asked")
}

async fn opened(folder: &TempDir) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(folder.path()).await.expect("opens"))
}

/// Rounds until the clock has moved on from the last place that was noted.
async fn rounds(trimmer: &mut Trimmer, node: &Node, reviews: &dyn ReviewStore, metrics: &Metrics) {
    let noted = Clock::System.now();
    round(trimmer, &node.kafka, reviews, metrics).await.expect("a round");
    while Clock::System.now() <= noted {
        tokio::task::yield_now().await;
    }
    round(trimmer, &node.kafka, reviews, metrics).await.expect("a round");
}

#[actix::test]
async fn what_nobody_needs_goes_and_a_start_finds_everybody_as_they_were() {
    let settings = fresh(Kafka::shared(), "trimmed", PARTITIONS);
    let (folder, metrics) = (TempDir::new().unwrap(), Metrics::new());
    let (reviews, mut users) = (opened(&folder).await, Users::new());
    let mut node = Node::start(&settings).await;
    let mut trimmer = node.trimmer();
    node.append(&mut users).await;
    let old = TempDir::new().unwrap();
    let behind = opened(&old).await;
    node.review(&behind).await;
    rounds(&mut trimmer, &node, &*reviews, &metrics).await;
    assert_eq!(low(&settings).await, [0, 0], "there is no checkpoint");
    node.append(&mut users).await;
    node.save(&users).await;
    rounds(&mut trimmer, &node, &*reviews, &metrics).await;
    assert_eq!(low(&settings).await, [0, 0], "neither published nor reviewed");
    node.publish().await;
    rounds(&mut trimmer, &node, &*reviews, &metrics).await;
    assert_eq!(low(&settings).await, [0, 0], "not reviewed");
    node.review(&reviews).await;
    rounds(&mut trimmer, &node, &*reviews, &metrics).await;
    // The epoch's entry is before the first record; the mark's last record stays, and the place behind it with it.
    assert_eq!((low(&settings).await, node.firsts()), (vec![SOME as i64 + 1; 2], vec![SOME; 2]));
    let shown = metrics.render();
    assert!(shown.contains(&format!("verdict_journal_trimmed_records_total {}", 2 * SOME)), "{shown}");

    // Behind the checkpoint, so that there is something to be replayed.
    node.append(&mut users).await;
    node.end().await;
    let mut node = Node::start(&settings).await;
    assert_eq!((node.firsts(), node.recovered.replayed), (vec![SOME; 2], 2 * SOME));
    assert_eq!(node.recovered.tenures.iter().map(|tenure| tenure.next_n).collect::<Vec<_>>(), [3 * SOME; 2]);
    assert_eq!(node.recovered.users.len(), users.len());
    for (user_id, expected) in &users {
        let found = node.recovered.users.get(user_id.as_bytes()).expect("known");
        assert!(found.profile() == profile::encode(expected), "{user_id} is another than before");
    }

    // It goes on from there in a later term.
    node.save(&users).await;
    node.append(&mut users).await;
    node.publish().await;
    node.review(&reviews).await;
    rounds(&mut node.trimmer(), &node, &*reviews, &metrics).await;
    assert_eq!(node.firsts(), [2 * SOME; 2]);
    // A store that came back from an old copy would have a hole, and is told so.
    let mut projection = ReviewProjection::new(node.kafka.journal.clone(), Arc::clone(&behind) as _, 7);
    let told = projection.catch_up().await.expect_err("refused");
    assert!(
        !told.is_transient() && told.to_string().contains("was trimmed: expected record 40, found none before 80"),
        "{told}"
    );
    // What was wiped begins where the journal does, and everything from there is in it once.
    let folder = TempDir::new().unwrap();
    let wiped = opened(&folder).await;
    node.review(&wiped).await;
    let reflected = wiped.positions().await.expect("positions");
    assert_eq!(reflected.iter().map(|reached| reached.n).collect::<Vec<_>>(), [4 * SOME; 2]);
    node.end().await;
}

#[actix::test]
async fn a_reader_of_what_was_trimmed_is_told_so() {
    let settings = fresh(Kafka::shared(), "told", PARTITIONS);
    let (folder, metrics) = (TempDir::new().unwrap(), Metrics::new());
    let (reviews, mut users) = (opened(&folder).await, Users::new());
    let mut node = Node::start(&settings).await;
    let mut trimmer = node.trimmer();
    node.append(&mut users).await;
    round(&mut trimmer, &node.kafka, &*reviews, &metrics).await.expect("a round");
    node.append(&mut users).await;
    node.save(&users).await;
    node.publish().await;
    node.review(&reviews).await;
    rounds(&mut trimmer, &node, &*reviews, &metrics).await;
    assert_eq!(node.firsts(), [SOME; 2]);

    // A replay of everything, as `verdict replay` begins one, beside the service.
    let mut config = Config::default();
    config.data.partitions = PARTITIONS;
    config.kafka = Some(KafkaConfig {
        topic_prefix: settings.topic_prefix.clone(),
        ..KafkaConfig::at(&settings.bootstrap_servers)
    });
    let observed = Observed::open(&config).await.expect("opens");
    let told = observed.replay().try_next().await.expect_err("refused").to_string();
    let expected = format!(
        "partition 1 of {} was trimmed: expected record 0, found none before {SOME}",
        settings.topic(Topic::Journal)
    );
    assert!(told.starts_with(&expected) || told.starts_with(&expected.replace("partition 1", "partition 0")), "{told}");
    // A record, and a stretch that begins before the start.
    let journal = &node.kafka.journal;
    let read = journal.read(0, SOME - 1).await;
    assert!(matches!(read, Err(JournalError::Trimmed { partition: 0, n: 39, first: SOME, .. })), "{read:?}");
    let stretch = journal.replay(vec![(1, 0)], Wanted::Published).try_next().await;
    assert!(matches!(stretch, Err(JournalError::Trimmed { partition: 1, n: 0, .. })), "{stretch:?}");
    assert_eq!(journal.read(0, SOME).await.expect("reads").map(|record| record.n), Some(SOME));
    node.end().await;
}

#[actix::test]
async fn a_review_projection_behind_the_last_mark_begins_at_the_place_that_it_left() {
    let settings = fresh(Kafka::shared(), "left", PARTITIONS);
    let (folder, mut users) = (TempDir::new().unwrap(), Users::new());
    let reviews = opened(&folder).await;
    let mut node = Node::start(&settings).await;
    node.append(&mut users).await;
    node.review(&reviews).await;
    node.append(&mut users).await;
    node.save(&users).await;
    node.end().await;

    // Of what lies before its place only the last entry is left, which bears it out: nobody can have read the others.
    let left = reviews.positions().await.expect("positions");
    let places: Vec<_> = left.iter().filter_map(|reached| reached.place).collect();
    assert_eq!(places.iter().map(|place| (place.n, place.offset)).collect::<Vec<_>>(), [(SOME, SOME + 1); 2]);
    let inspector = Inspector::new(settings.clone(), LIMIT).expect("a client");
    for (partition, place) in (0..).zip(&places) {
        let before = place.offset as i64 - 1;
        inspector.delete_before(&settings.topic(Topic::Journal), partition, before).await.expect("deletes");
    }

    let node = Node::start(&settings).await;
    assert_eq!(node.recovered.replayed, 0, "the mark is behind all");
    let elsewhere = TempDir::new().unwrap();
    let mut blind = ReviewProjection::new(node.kafka.journal.clone(), opened(&elsewhere).await as _, 7);
    let told = blind.catch_up().await.expect_err("the start is gone").to_string();
    assert!(told.contains(" cannot be read from offset 0: it holds "), "{told}");
    node.review(&reviews).await;
    let reflected = reviews.positions().await.expect("positions");
    assert_eq!(reflected.iter().map(|reached| reached.n).collect::<Vec<_>>(), [2 * SOME; 2]);
    node.end().await;
}

//! List entries through a shard: what binds the next decision, what a failed append leaves, what survives a start.

use super::{MAX_LISTED, Moody, NOON, RULES, compile, judge_by, payment, settings};
use crate::actors::gateway::Gateway;
use crate::actors::messages::{ListChanged, ListPage, ListQuery, Refusal, Submission};
use crate::actors::partition::partition_of;
use crate::actors::permits::Permits;
use crate::actors::recovery::recover;
use crate::actors::replica::ListReplica;
use crate::actors::shard::{ShardActor, ShardSettings, Start};
use crate::actors::users::HotBounds;
use crate::journal::checkpoint::{Checkpoint, CheckpointStore, Checkpoints, ListSnapshot, Mark, Marker};
use crate::journal::record::Body;
use crate::journal::{Journal, Wanted};
use crate::telemetry::clock::{self, Clock, TimeSource};
use futures_util::TryStreamExt;
use futures_util::future::{join, join_all};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use verdict_core::decision::Outcome;
use verdict_core::event::Source;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};
use verdict_core::profile::Retention;
use verdict_core::time::Timestamp;

/// Permits.
const LIMIT: usize = 64;

/// A wall clock that stands at noon.
struct Noon;

impl TimeSource for Noon {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn instant(&self) -> Instant {
        clock::instant()
    }
}

fn start(journal: &Arc<Moody>) -> Gateway {
    start_saving(journal, None)
}

fn start_saving(journal: &Arc<Moody>, checkpoints: Option<&Arc<CheckpointStore>>) -> Gateway {
    let (gateway, starts) = prepare(journal, checkpoints, 1);
    starts.into_iter().for_each(|start| start());
    gateway
}

/// A gateway to so many shards with a replica of their own, and what starts them.
fn prepare(journal: &Arc<Moody>, checkpoints: Option<&Arc<CheckpointStore>>, shards: u16) -> (Gateway, Vec<Start>) {
    let partitions = journal.partitions();
    let lists = ListReplica::new(partitions, MAX_LISTED);
    let permits = Permits::new(LIMIT, shards);
    let shard = |shard| {
        let settings = ShardSettings {
            shard,
            partitions: (0..partitions).filter(|partition| partition % shards == shard).collect(),
            checkpoints: checkpoints.map(|store| Arc::clone(store) as Arc<dyn Checkpoints>),
            lists: Arc::clone(&lists),
            permits: permits.clone(),
            // What is shown of a user is what binds now.
            clock: Clock::Given(Arc::new(Noon)),
            // Nearly everybody is dormant.
            hot: HotBounds { users: 1, idle_ticks: 300 },
            ..settings(Arc::clone(journal), LIMIT)
        };
        ShardActor::prepare(settings, judge_by(compile(RULES, "base: USD\nrates: {}\n"), None))
    };
    let (addresses, starts) = (0..shards).map(shard).unzip();
    (Gateway::new(addresses, partitions, permits, Arc::clone(&lists)), starts)
}

fn key(list: List, kind: ListKind, value: &str) -> ListKey {
    ListKey { list, kind, value: value.into() }
}

fn block(kind: ListKind, value: &str) -> ListKey {
    key(List::Block, kind, value)
}

fn request(key: ListKey, action: ListAction) -> Submission<ListChange> {
    let event = ListChange { key, source: ListSource::Api, action };
    let started = clock::instant();
    Submission {
        event: Box::new(event),
        source: Source::Http,
        received_at: NOON,
        started,
        deadline: None,
        undurable: false,
        original: None,
    }
}

async fn put(gateway: &Gateway, key: ListKey, expires_at: Option<Timestamp>) -> Result<ListChanged, Refusal> {
    let action = ListAction::Put { reason: "asked".into(), expires_at };
    gateway.change_list(request(key, action)).await
}

async fn delete(gateway: &Gateway, key: ListKey) -> Result<ListChanged, Refusal> {
    gateway.change_list(request(key, ListAction::Delete)).await
}

/// The outcome of a payment of 1.00, and the kinds of what it met.
async fn met(gateway: &Gateway, id: &str) -> (Outcome, Vec<ListKind>) {
    let mut sent = payment(id, 100);
    sent.event.device_id = Some("d-1".into());
    sent.event.ip_address = Some("203.0.113.7".into());
    let decided = gateway.decide(sent).await.expect("an answer").decided;
    (decided.decision.outcome, decided.decision.list_hits.iter().map(|hit| hit.kind).collect())
}

fn all(gateway: &Gateway, list: List) -> ListPage {
    gateway.list_page(&ListQuery { list, kind: None, after: None, limit: 100 }, NOON).expect("complete")
}

#[test]
fn entries_of_every_kind_bind_the_very_next_decision() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(&journal);
        gateway.serving().await.expect("serving");
        assert_eq!(met(&gateway, "t-0").await, (Outcome::Approve, vec![]));
        let values = [
            (ListKind::User, "u-1"),
            (ListKind::Merchant, "m-1"),
            (ListKind::Device, "d-1"),
            (ListKind::Ip, "203.0.113.7"),
        ];
        for (kind, value) in values {
            assert_eq!(put(&gateway, block(kind, value), None).await.expect("done"), ListChanged::Created);
            assert_eq!(met(&gateway, &format!("{value}-1")).await, (Outcome::Block, vec![kind]));
            assert_eq!(put(&gateway, block(kind, value), None).await.expect("done"), ListChanged::Unchanged);
            assert_eq!(put(&gateway, block(kind, value), Some(NOON + 1)).await.expect("done"), ListChanged::Replaced);
            assert_eq!(all(&gateway, List::Block).entries.len(), 1);
            assert_eq!(delete(&gateway, block(kind, value)).await.expect("done"), ListChanged::Deleted);
            assert_eq!(met(&gateway, &format!("{value}-2")).await, (Outcome::Approve, vec![]));
            assert!(matches!(delete(&gateway, block(kind, value)).await, Err(Refusal::NotListed)));
        }
        // One record for every change, none for what changed nothing.
        let records: Vec<_> =
            journal.replay(vec![(0, 0), (1, 0)], Wanted::Everything).try_collect().await.expect("replays");
        let changes = records.iter().filter(|record| matches!(record.body, Body::List(_))).count();
        assert_eq!((changes, records.len()), (12, 12 + 9));
        // Nobody was seen that only a request named.
        assert!(matches!(delete(&gateway, block(ListKind::User, "u-unseen")).await, Err(Refusal::NotListed)));
        assert!(gateway.profile("u-unseen").await.expect("an answer").is_none());
    });
}

#[test]
fn what_is_asked_for_goes_over_the_block_of_a_decision() {
    actix::System::new().block_on(async {
        let gateway = start(&Moody::new());
        gateway.serving().await.expect("serving");
        let own = || block(ListKind::User, "u-1");
        let blocked = gateway.decide(payment("t-1", 10_001)).await.expect("an answer").decided;
        assert_eq!(blocked.decision.outcome, Outcome::Block);
        let shown = all(&gateway, List::Block).entries;
        let [(key, entry)] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!((key, entry.source()), (&own(), ListSource::Decision));
        assert_eq!(Some(entry), blocked.decision.block_entry.as_ref());
        assert_eq!(gateway.list_entry(&own(), NOON).expect("complete").as_ref(), Some(entry));
        // A shorter one replaces it, in the profile and in what is shown.
        assert_eq!(put(&gateway, own(), Some(NOON + 5)).await.expect("done"), ListChanged::Replaced);
        let entry = gateway.list_entry(&own(), NOON).expect("complete").expect("an entry");
        assert_eq!((entry.source(), entry.expires_at), (ListSource::Api, Some(NOON + 5)));
        assert!(gateway.list_entry(&own(), NOON + 5).expect("complete").is_none(), "expired ones are not shown");
        assert_eq!(delete(&gateway, own()).await.expect("done"), ListChanged::Deleted);
        assert!(all(&gateway, List::Block).entries.is_empty());
        // The day's spending is over the bound of its rule; nothing of it comes from a list.
        let next = gateway.decide(payment("t-2", 100)).await.expect("an answer").decided;
        assert!(next.decision.list_hits.is_empty(), "{:?}", next.decision.list_hits);
    });
}

#[test]
fn one_more_than_is_allowed_is_refused_and_decisions_still_block() {
    actix::System::new().block_on(async {
        let gateway = start(&Moody::new());
        gateway.serving().await.expect("serving");
        let many = (0..MAX_LISTED + 2).map(|n| format!("m-{n}")).collect::<Vec<_>>();
        let done = join_all(many.iter().map(|value| put(&gateway, block(ListKind::Merchant, value), None))).await;
        let refused = done.iter().filter(|done| matches!(done, Err(Refusal::ListsFull { limit: MAX_LISTED }))).count();
        assert_eq!((done.iter().filter(|done| done.is_ok()).count(), refused), (MAX_LISTED, 2));
        // What is there may be replaced, and what goes makes room.
        let there = all(&gateway, List::Block).entries;
        assert_eq!(there.len(), MAX_LISTED);
        assert_eq!(put(&gateway, there[0].0.clone(), Some(NOON + 1)).await.expect("done"), ListChanged::Replaced);
        let blocked = gateway.decide(payment("t-1", 10_001)).await.expect("an answer").decided;
        assert!(blocked.decision.block_entry.is_some());
        assert_eq!(all(&gateway, List::Block).entries.len(), MAX_LISTED + 1);
        assert_eq!(delete(&gateway, there[0].0.clone()).await.expect("done"), ListChanged::Deleted);
        assert_eq!(put(&gateway, block(ListKind::Ip, "::1"), None).await.expect("done"), ListChanged::Created);
        // Nobody becomes known by being refused.
        let refused = put(&gateway, block(ListKind::User, "u-unknown"), None).await;
        assert!(matches!(refused, Err(Refusal::ListsFull { .. })), "{refused:?}");
        assert!(gateway.profile("u-unknown").await.expect("an answer").is_none());
    });
}

#[test]
fn a_change_whose_append_failed_binds_nobody_afterwards() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(&journal);
        gateway.serving().await.expect("serving");
        put(&gateway, block(ListKind::Device, "d-other"), None).await.expect("done");
        for kind_value in [(ListKind::Merchant, "m-1"), (ListKind::User, "u-1")] {
            journal.fails.store(true, Ordering::SeqCst);
            let failed = put(&gateway, block(kind_value.0, kind_value.1), None).await.expect_err("the disk is full");
            assert!(matches!(failed, Refusal::JournalUnavailable(_)), "{failed}");
            gateway.serving().await.expect("recovered");
            assert_eq!(all(&gateway, List::Block).entries.len(), 1, "only what was durable is left");
            assert_eq!(met(&gateway, &format!("{}-1", kind_value.1)).await, (Outcome::Approve, vec![]));
        }
        journal.fails.store(true, Ordering::SeqCst);
        let failed = delete(&gateway, block(ListKind::Device, "d-other")).await.expect_err("the disk is full");
        assert!(matches!(failed, Refusal::JournalUnavailable(_)), "{failed}");
        gateway.serving().await.expect("recovered");
        assert_eq!(all(&gateway, List::Block).entries.len(), 1, "and all of what was durable is there");
    });
}

#[test]
fn entries_survive_a_checkpoint_and_what_came_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    actix::System::new().block_on(async {
        let store = Arc::new(CheckpointStore::open(dir.path()).await.expect("opens"));
        let journal = Moody::new();
        let gateway = start_saving(&journal, Some(&store));
        gateway.serving().await.expect("serving");
        put(&gateway, block(ListKind::Merchant, "m-1"), None).await.expect("done");
        put(&gateway, block(ListKind::Ip, "203.0.113.7"), None).await.expect("done");
        assert!(gateway.checkpoint().await);
        let saved: usize = store.lists().await.expect("reads").iter().map(|lists| lists.entries.len()).sum();
        assert_eq!(saved, 2);
        put(&gateway, block(ListKind::User, "u-1"), None).await.expect("done");
        delete(&gateway, block(ListKind::Merchant, "m-1")).await.expect("done");

        // Another start from the same checkpoint and journal: its own replica, a new epoch.
        let again = start_saving(&journal, Some(&store));
        again.serving().await.expect("serving");
        let expected = vec![ListKind::User, ListKind::Ip];
        assert_eq!(met(&again, "t-1").await, (Outcome::Block, expected.clone()));
        assert_eq!(all(&again, List::Block), all(&gateway, List::Block));
        // What the replay changed is in the next checkpoint, and none of it is replayed again.
        assert!(again.checkpoint().await);
        let marker = store.marker().await.expect("reads").expect("a marker");
        assert_eq!(marker.totals().list_changes, 4);
        let last = start_saving(&journal, Some(&store));
        last.serving().await.expect("serving");
        assert_eq!(met(&last, "t-2").await, (Outcome::Block, expected));
    });
}

#[test]
fn no_shard_decides_before_the_entries_of_all_are_known() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = start(&journal);
        gateway.serving().await.expect("serving");
        // Entries of both partitions, one of which is not the user's.
        let (two, one) = ([(ListKind::Merchant, "m-1"), (ListKind::Device, "d-1")], "203.0.113.7");
        for (kind, value) in [two[0], two[1], (ListKind::Ip, one)] {
            put(&gateway, block(kind, value), None).await.expect("done");
        }
        let expected = met(&gateway, "t-1").await;
        assert_eq!(expected.1.len(), 3);
        gateway.stop().await;

        let (gateway, starts) = prepare(&journal, None, 2);
        let mut starts = starts.into_iter();
        let own = usize::from(partition_of("u-1", 2));
        let (mut first, mut second) = (starts.next(), starts.next());
        if own == 1 {
            std::mem::swap(&mut first, &mut second);
        }
        first.expect("the user's shard")();
        // It answers all along, and never without the other's entries.
        for turn in 0..50 {
            let refused = gateway.decide(payment(&format!("early-{turn}"), 100)).await.expect_err("not yet");
            assert!(matches!(refused, Refusal::Recovering), "{refused}");
            assert!(matches!(gateway.list_entry(&block(ListKind::Ip, one), NOON), Err(Refusal::Recovering)));
            tokio::task::yield_now().await;
        }
        second.expect("the other shard")();
        gateway.serving().await.expect("serving");
        assert_eq!(met(&gateway, "t-2").await, expected);
    });
}

/// A payment over the bound of the rule that blocks, of this user.
async fn blocked(gateway: &Gateway, user: &str, id: &str) {
    let mut sent = payment(id, 10_001);
    sent.event.user_id = user.into();
    let decided = gateway.decide(sent).await.expect("an answer").decided;
    assert_eq!(decided.decision.outcome, Outcome::Block);
}

/// A checkpoint with the profiles of another, and with these list entries and positions.
async fn rewritten(
    from: &CheckpointStore,
    lists: Vec<ListSnapshot>,
    marks: Vec<Mark>,
) -> (tempfile::TempDir, CheckpointStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    let profiles = from.load(&[0, 1]).try_collect().await.expect("loads");
    let marker = Marker { marks, sources: Vec::new() };
    store.save(&Checkpoint { profiles, lists, marker }).await.expect("saves");
    (dir, store)
}

#[test]
fn entries_of_users_are_found_whatever_the_checkpoint_says_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    actix::System::new().block_on(async {
        let store = Arc::new(CheckpointStore::open(dir.path()).await.expect("opens"));
        let journal = Moody::new();
        let gateway = start_saving(&journal, Some(&store));
        gateway.serving().await.expect("serving");
        put(&gateway, block(ListKind::User, "u-1"), None).await.expect("done");
        put(&gateway, key(List::Allow, ListKind::User, "u-3"), None).await.expect("done");
        blocked(&gateway, "u-2", "t-1").await;
        assert!(gateway.checkpoint().await);
        let saved = store.lists().await.expect("reads");
        let (block_list, allow_list) = (all(&gateway, List::Block).entries, all(&gateway, List::Allow).entries);
        assert_eq!((block_list.len(), allow_list.len()), (2, 1));

        // Nothing is replayed, and nobody is woken: what was saved is shown, and goes when it is told to.
        let again = start_saving(&journal, Some(&store));
        again.serving().await.expect("serving");
        assert_eq!((all(&again, List::Block).entries, all(&again, List::Allow).entries), (block_list, allow_list));
        assert_eq!(delete(&again, block(ListKind::User, "u-2")).await.expect("done"), ListChanged::Deleted);
        let view = again.profile("u-2").await.expect("an answer").expect("seen");
        assert!(view.entries.is_empty(), "{view:?}");

        // Rows that are empty because they were saved a moment before the profiles, and no rows at all, as in a checkpoint of
        // an earlier release: the profiles tell, and the next checkpoint has the rows.
        let marks = store.marker().await.expect("reads").expect("a marker").marks;
        let start = || marks.iter().map(|mark| Mark { next_n: 0, ..*mark }).collect();
        let emptied = (0..2).map(|partition| ListSnapshot { partition, entries: Vec::new() }).collect();
        for (lists, marks) in [(saved, start()), (emptied, start()), (Vec::new(), start()), (Vec::new(), marks.clone())]
        {
            let (_dir, store) = rewritten(&store, lists, marks).await;
            let recovered = recover(&[0, 1], &*journal, Some(&store), &Retention::default()).await.expect("recovers");
            assert!(recovered.lists.keys().map(|key| &*key.value).eq(["u-1", "u-3"]), "{:?}", recovered.lists);
            assert_eq!(recovered.changed_lists.len(), 2);
        }
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(ListKind, List, u8),
    Delete(ListKind, List, u8),
    /// A payment that is blocked, whose user is then on the list.
    Block(u8),
    /// A checkpoint while this user is blocked, and put on the other list.
    Checkpoint(u8),
    /// The service is gone without a word, and another starts.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let list = || prop_oneof![Just(List::Block), Just(List::Allow)];
    let kind = || prop_oneof![2 => Just(ListKind::User), 1 => Just(ListKind::Merchant)];
    let step = prop_oneof![
        3 => (kind(), list(), 0..4_u8).prop_map(|(kind, list, value)| Step::Put(kind, list, value)),
        3 => (kind(), list(), 0..4_u8).prop_map(|(kind, list, value)| Step::Delete(kind, list, value)),
        2 => (0..4_u8).prop_map(Step::Block),
        2 => (0..4_u8).prop_map(Step::Checkpoint),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..30)
}

/// Runs the steps; after each start there must be what was there before it, and users' profiles must say the same.
async fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(CheckpointStore::open(dir.path()).await.expect("opens"));
    let journal = Moody::new();
    let mut gateway = start_saving(&journal, Some(&store));
    gateway.serving().await.expect("serving");
    let pay = |user: u8, number: usize| {
        let mut sent = payment(&format!("t-{number}"), 10_001);
        sent.event.user_id = format!("v-{user}").into();
        sent
    };
    for (number, step) in steps.iter().chain([&Step::Crash]).enumerate() {
        match *step {
            // Refused where it is one too many, or none.
            Step::Put(kind, list, value) => drop(put(&gateway, key(list, kind, &format!("v-{value}")), None).await),
            Step::Delete(kind, list, value) => drop(delete(&gateway, key(list, kind, &format!("v-{value}"))).await),
            Step::Block(user) => drop(gateway.decide(pay(user, number)).await.expect("an answer")),
            Step::Checkpoint(user) => {
                let allowed = put(&gateway, key(List::Allow, ListKind::User, &format!("v-{user}")), None);
                let meanwhile = join(gateway.decide(pay(user, number)), allowed);
                let (saved, (decided, _)) = join(gateway.checkpoint(), meanwhile).await;
                prop_assert!(saved && decided.is_ok());
            }
            Step::Crash => {
                let before = [List::Block, List::Allow].map(|list| all(&gateway, list).entries);
                gateway = start_saving(&journal, Some(&store));
                gateway.serving().await.expect("serving");
                prop_assert_eq!([List::Block, List::Allow].map(|list| all(&gateway, list).entries), before.clone());
                for user in (0..4).map(|user| format!("v-{user}")) {
                    let listed =
                        before.iter().flatten().filter(|(key, _)| key.kind == ListKind::User && *key.value == *user);
                    let listed: Vec<_> = listed.map(|(_, entry)| entry.clone()).collect();
                    let view = gateway.profile(&user).await.expect("an answer");
                    prop_assert_eq!(view.map(|view| view.entries).unwrap_or_default(), listed, "of {}", user);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_costs_no_entry_whatever_was_saved(steps in steps()) {
        actix::System::new().block_on(run(&steps))?;
    }
}

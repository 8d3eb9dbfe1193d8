//! What only the file does: earlier releases, failures and damage; and what needs no store: ahead of the journal, and books.

use super::contract::load;
use super::{
    Checkpoint, CheckpointStore, ListSnapshot, Mark, Marker, ProfileSnapshot, SourceOffset, Totals, check_against,
};
use crate::journal::{JournalError, Partition, samples};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::path::Path;
use tempfile::TempDir;
use verdict_core::lists::{List, ListEntry, ListKey, ListKind};
use verdict_core::time::Timestamp;

pub(super) fn profile(partition: Partition, user: usize, n: u64) -> ProfileSnapshot {
    let bytes = vec![user as u8; 40 + user % 400];
    ProfileSnapshot { user_id: format!("u-{user}").into(), partition, n, bytes }
}

pub(super) fn mark(partition: Partition, next_n: u64) -> Mark {
    Mark { partition, next_n, totals: Totals { decisions: next_n - 1, logins: 1, ..Totals::default() } }
}

/// An entry of every list and of every kind, of a partition.
pub(super) fn listed(partition: Partition) -> ListSnapshot {
    let entry = |list, alert: Option<u128>| ListEntry {
        list,
        reason: "chargebacks".into(),
        alert_id: alert.map(uuid::Uuid::from_u128),
        expires_at: alert.map(|_| Timestamp::from_millis(1_795_435_200_000)),
    };
    let entries = ListKind::ALL.into_iter().flat_map(|(kind, _)| {
        [List::Block, List::Allow].map(|list| {
            let key = ListKey { list, kind, value: format!("{}-{partition}", kind.name()).into() };
            (key, entry(list, (list == List::Block).then_some(7)))
        })
    });
    ListSnapshot { partition, entries: entries.collect() }
}

async fn saved(checkpoint: &Checkpoint) -> (TempDir, CheckpointStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    store.save(checkpoint).await.expect("saves");
    (dir, store)
}

async fn execute(dir: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join("profiles.db"));
    sqlx::raw_sql(sql).execute(&mut options.connect().await.expect("connects")).await.expect("executes");
}

#[tokio::test]
async fn a_file_of_an_earlier_release_gets_the_table_of_lists_and_keeps_its_marks() {
    let marker = Marker { marks: vec![mark(0, 6)], sources: Vec::new() };
    let (dir, store) = saved(&Checkpoint { marker: marker.clone(), ..Checkpoint::default() }).await;
    drop(store);
    execute(dir.path(), "DROP TABLE lists").await;
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    assert_eq!(store.marker().await.expect("a mark without list changes is of version 1"), Some(marker));
    assert_eq!(store.lists().await.expect("reads"), []);
    let counted = Mark { totals: Totals { list_changes: 300, ..Totals::default() }, ..mark(0, 300) };
    let marker = Marker { marks: vec![counted], sources: Vec::new() };
    store.save(&Checkpoint { marker: marker.clone(), ..Checkpoint::default() }).await.expect("saves");
    assert_eq!(store.marker().await.expect("and with them of version 2"), Some(marker));
}

#[tokio::test]
async fn a_checkpoint_that_fails_leaves_the_one_before() {
    let before = Checkpoint {
        profiles: vec![profile(0, 1, 5)],
        marker: Marker { marks: vec![mark(0, 6)], sources: Vec::new() },
        ..Checkpoint::default()
    };
    let (dir, store) = saved(&before).await;
    execute(
        dir.path(),
        "CREATE TRIGGER full BEFORE INSERT ON marks BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    .await;
    let after = Checkpoint {
        profiles: vec![profile(0, 1, 9), profile(0, 2, 8)],
        marker: Marker { marks: vec![mark(0, 10)], sources: Vec::new() },
        ..Checkpoint::default()
    };
    let error = store.save(&after).await.expect_err("must fail").to_string();
    assert!(error.contains("profiles.db") && error.contains("disk is full"), "{error}");
    assert_eq!(store.marker().await.expect("reads"), Some(before.marker));
    assert_eq!(load(&store, &[0]).await.expect("reads"), before.profiles);
    execute(dir.path(), "DROP TRIGGER full").await;
    store.save(&after).await.expect("saves");
    assert_eq!(load(&store, &[0]).await.expect("reads"), after.profiles);
}

#[tokio::test]
async fn damage_is_refused_by_name() {
    let checkpoint = Checkpoint {
        profiles: vec![profile(0, 1, 5), profile(0, 2, 5)],
        lists: vec![listed(0)],
        marker: Marker {
            marks: vec![mark(0, 6)],
            sources: vec![SourceOffset { topic: "logins".into(), partition: 2, next_offset: 4 }],
        },
    };
    let changes = [
        ("UPDATE profiles SET bytes = x'00' || substr(bytes, 2) WHERE user_id = 'u-2'", "the profile of user \"u-2\""),
        ("UPDATE profiles SET n = 4 WHERE user_id = 'u-2'", "the profile of user \"u-2\": expected checksum"),
        ("UPDATE profiles SET user_id = 'u-9' WHERE user_id = 'u-2'", "the profile of user \"u-9\": expected checksum"),
        ("UPDATE marks SET body = x'0206' WHERE partition = 0", "the mark of partition 0: expected checksum"),
        ("UPDATE lists SET body = x'0100'", "the list entries of partition 0: expected checksum"),
        ("UPDATE sources SET next_offset = 5", "the offset of logins/2: expected checksum"),
    ];
    for (sql, what) in changes {
        let (dir, store) = saved(&checkpoint).await;
        execute(dir.path(), sql).await;
        let error = match store.marker().await {
            Ok(_) if sql.contains("lists") => store.lists().await.expect_err("must be refused"),
            Ok(_) => load(&store, &[0]).await.expect_err("must be refused"),
            Err(error) => error,
        };
        assert!(matches!(error, JournalError::DamagedCheckpoint { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("profiles.db") && message.contains(what), "{message}");
        assert!(message.contains("profiles are made again from the journal"), "{message}");
    }
}

#[test]
fn a_checkpoint_ahead_of_its_journal_is_refused() {
    let marker = Marker { marks: vec![mark(0, 6), mark(1, 9)], sources: Vec::new() };
    assert!(check_against(&marker, &[6, 9]).is_ok());
    assert!(check_against(&marker, &[7, 100]).is_ok());
    for (durable, journal) in [([6, 8].as_slice(), 8), (&[6], 0)] {
        let error = check_against(&marker, durable).expect_err("must be refused").to_string();
        let expected = format!(
            "the checkpoint reflects partition 1 up to record 9, but the journal ends at {journal}: \
             the folder journal is older than profiles.db"
        );
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn books_count_by_kind() {
    let mut totals = Totals::default();
    for record in samples::one_of_each() {
        totals.count(&record);
    }
    let mut expected =
        Totals { decisions: 3, logins: 1, labels: 1, duplicates: 1, dead_letters: 1, ..Totals::default() };
    assert_eq!((totals, totals.records()), (expected, 7));
    for record in samples::list_changes() {
        totals.count(&record);
    }
    expected.list_changes = 4;
    assert_eq!((totals, totals.records()), (expected, 11));
    for record in samples::of_topics() {
        totals.count(&record);
    }
    (expected.dead_letters, expected.skipped) = (2, 1);
    assert_eq!((totals, totals.records()), (expected, 13));
    for record in samples::answered() {
        totals.count(&record);
    }
    (expected.decisions, expected.answered) = (4, 1);
    assert_eq!((totals, totals.records()), (expected, 15));
    assert_eq!([totals, totals].into_iter().sum::<Totals>().records(), 30);
}

/// An older release reads a mark until there is something to count that it does not know.
#[test]
fn a_mark_is_of_the_oldest_version_that_can_hold_it() {
    let totals = [(0, 0, 0), (4, 0, 0), (4, 2, 0), (0, 2, 0), (0, 0, 1), (4, 2, 1)];
    let versions = totals.map(|(list_changes, skipped, answered)| {
        let totals = Totals { decisions: 3, list_changes, skipped, answered, ..Totals::default() };
        let mark = Mark { partition: 5, next_n: totals.records(), totals };
        let bytes = super::marker::encode(&mark).expect("encodes");
        assert_eq!(super::marker::decode(5, super::marker::mark_checksum(5, &bytes), &bytes), Ok(mark));
        bytes[0]
    });
    assert_eq!(versions, [1, 2, 3, 3, 4, 4]);
}

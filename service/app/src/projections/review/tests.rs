//! The projection over a journal in memory and a real store: once each, through failures, restarts and a wiped store.

use super::super::review_store::ReviewStore;
use super::*;
use crate::journal::record::samples;
use crate::journal::{MemoryJournal, Partition};
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::ReviewStatus;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::path::Path;
use tempfile::TempDir;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

struct Room {
    dir: TempDir,
    journal: Arc<MemoryJournal>,
    epochs: Vec<u64>,
    store: Arc<ReviewStore>,
}

async fn room() -> Room {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Arc::new(MemoryJournal::new(2, true));
    let epochs = journal.take_over(vec![0, 1]).await.expect("takes over").iter().map(|tenure| tenure.epoch).collect();
    let store = Arc::new(ReviewStore::open(dir.path()).await.expect("opens"));
    Room { dir, journal, epochs, store }
}

impl Room {
    fn projection(&self) -> AlertProjection {
        AlertProjection::new(Arc::clone(&self.journal) as Arc<dyn Journal>, Arc::clone(&self.store))
    }

    /// Appends records n.. of a partition: every third an alert of the user, the others not.
    async fn append(&self, partition: Partition, from: u64, count: u64) {
        let epoch = self.epochs[usize::from(partition)];
        let records = (from..from + count).map(|n| match n % 3 {
            0 => samples::alert(partition, epoch, n, &format!("u-{}", n % 2)),
            1 => samples::decision(partition, epoch, n),
            _ => samples::login(partition, epoch, n),
        });
        self.journal.append(records.collect()).await.expect("appends");
    }

    async fn page(&self, filter: AlertFilter) -> AlertPage {
        self.store.alerts(&filter).await.expect("a page")
    }

    /// Transaction ids on a page, as they come.
    async fn ids(&self, filter: AlertFilter) -> Vec<String> {
        self.page(filter).await.alerts.into_iter().map(|alert| alert.transaction_id).collect()
    }
}

fn first(limit: u32) -> AlertFilter {
    AlertFilter { limit, ..AlertFilter::default() }
}

async fn execute(dir: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(dir.join("review.db"));
    sqlx::raw_sql(sql).execute(&mut options.connect().await.expect("connects")).await.expect("executes");
}

#[tokio::test]
async fn an_alert_keeps_what_the_decision_said() {
    let room = room().await;
    let record = samples::alert(0, room.epochs[0], 0, "u-7");
    let Body::Decision(decided) = &record.body else { panic!("expected a decision") };
    room.journal.append(vec![record.clone()]).await.expect("appends");
    room.projection().catch_up().await.expect("catches up");
    let expected = Alert { status: Some(ReviewStatus::Open), ..Alert::of(decided) };
    let page = room.page(first(10)).await;
    assert_eq!(page, AlertPage { alerts: vec![expected], next_cursor: None });
    let mut reader =
        SqliteConnectOptions::new().filename(room.dir.path().join("review.db")).connect().await.expect("connects");
    let reason: String = sqlx::query_scalar("SELECT reason FROM alerts").fetch_one(&mut reader).await.expect("a row");
    assert_eq!(reason, "Daily spend threshold exceeded: 5,130.00 USD today");
}

#[tokio::test]
async fn each_alert_is_there_once_through_restarts_and_a_wiped_store() {
    let mut room = room().await;
    room.append(0, 0, 30).await;
    let mut projection = room.projection();
    assert_eq!(projection.lag().records(), 30);
    projection.catch_up().await.expect("catches up");
    projection.catch_up().await.expect("nothing new");
    assert_eq!(projection.lag().records(), 0);
    room.append(1, 0, 7).await;
    drop(projection);

    // A restart goes on from the stored position; a second reader adds nothing.
    for _ in 0..2 {
        room.projection().catch_up().await.expect("catches up");
        assert_eq!(room.page(first(100)).await.alerts.len(), 13);
    }
    // A position that was lost, as after a power cut, or reset by hand: everything is read again, nothing doubled.
    execute(room.dir.path(), "DELETE FROM positions").await;
    room.projection().catch_up().await.expect("catches up");
    assert_eq!(room.page(first(100)).await.alerts.len(), 13);

    let before = room.page(first(100)).await;
    room.dir = tempfile::tempdir().expect("a directory");
    room.store = Arc::new(ReviewStore::open(room.dir.path()).await.expect("opens"));
    room.projection().catch_up().await.expect("catches up");
    assert_eq!(room.page(first(100)).await, before);
}

#[tokio::test]
async fn pages_are_stable_while_alerts_arrive() {
    let room = room().await;
    let mut projection = room.projection();
    room.append(0, 0, 30).await;
    projection.catch_up().await.expect("catches up");
    let all: Vec<String> = (0..10).rev().map(|alert| format!("t-0-{}", alert * 3)).collect();

    let mut found = Vec::new();
    let mut after = None;
    let mut next = 30;
    loop {
        let page = room.page(AlertFilter { after, ..first(4) }).await;
        found.extend(page.alerts.into_iter().map(|alert| alert.transaction_id));
        room.append(0, next, 3).await;
        next += 3;
        projection.catch_up().await.expect("catches up");
        let Some(cursor) = page.next_cursor else { break };
        after = Some(first(4).read_cursor(&cursor).expect("a cursor of this filter"));
    }
    assert_eq!(found, all);
    assert_eq!(room.ids(first(1)).await, ["t-0-36"]);
    // A limit out of range is brought into it.
    assert_eq!(room.ids(first(0)).await, ["t-0-36"]);
    assert_eq!(room.ids(first(u32::MAX)).await.len(), 13);
}

#[tokio::test]
async fn filters_hold_together() {
    let room = room().await;
    room.append(0, 0, 12).await;
    room.projection().catch_up().await.expect("catches up");
    let noon = Timestamp::from_millis(1_795_435_200_000);
    let table = [
        (AlertFilter { user_id: Some("u-0".into()), ..first(9) }, vec!["t-0-6", "t-0-0"]),
        (AlertFilter { user_id: Some("nobody".into()), ..first(9) }, vec![]),
        (AlertFilter { since: Some(noon + 6), ..first(9) }, vec!["t-0-9", "t-0-6"]),
        (AlertFilter { since: Some(noon + 6), user_id: Some("u-0".into()), ..first(9) }, vec!["t-0-6"]),
        (AlertFilter { decision: Some(Outcome::Block), ..first(9) }, vec![]),
        (AlertFilter { decision: Some(Outcome::Review), ..first(1) }, vec!["t-0-9"]),
        (AlertFilter { status: Some(ReviewStatus::Open), ..first(2) }, vec!["t-0-9", "t-0-6"]),
        (AlertFilter { status: Some(ReviewStatus::ConfirmedFraud), ..first(2) }, vec![]),
    ];
    for (filter, expected) in table {
        assert_eq!(room.ids(filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_running_projection_follows_and_outlives_a_failing_store() {
    let room = room().await;
    execute(
        room.dir.path(),
        "CREATE TRIGGER full BEFORE INSERT ON positions BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    .await;
    let projection = room.projection();
    let lag = projection.lag();
    room.append(0, 0, 30).await;
    let mut failing = room.projection();
    let error = failing.catch_up().await.expect_err("must fail");
    assert!(error.is_transient() && error.to_string().contains("disk is full"), "{error}");
    assert_eq!(room.ids(first(100)).await, Vec::<String>::new());

    let running = tokio::spawn(projection.run());
    let mut reflected = lag.reflected();
    assert_eq!(*reflected.borrow_and_update(), [0, 0]);
    execute(room.dir.path(), "DROP TRIGGER full").await;
    reflected.wait_for(|next| next[0] == 30).await.expect("catches up after a back-off");
    for partition in [1, 0] {
        room.append(partition, if partition == 0 { 30 } else { 0 }, 3).await;
    }
    reflected.wait_for(|next| *next == [33, 3]).await.expect("follows");
    assert_eq!(room.ids(first(100)).await.len(), 12);
    assert_eq!(lag.records(), 0);
    running.abort();

    failing.catch_up().await.expect("goes on from what the other stored");
    assert_eq!(room.ids(first(100)).await.len(), 12);
}

#[tokio::test]
async fn a_store_ahead_of_its_journal_is_refused() {
    let room = room().await;
    room.append(0, 0, 3).await;
    room.projection().catch_up().await.expect("catches up");
    execute(room.dir.path(), "UPDATE positions SET next_n = 9 WHERE partition = 0").await;
    let error = room.projection().run().await;
    assert!(!error.is_transient());
    let expected = "review.db reflects partition 0 up to record 9, but the journal ends at 3; with the service stopped";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test]
async fn a_damaged_row_is_named() {
    let room = room().await;
    room.append(0, 0, 1).await;
    room.projection().catch_up().await.expect("catches up");
    execute(room.dir.path(), "UPDATE alerts SET reasons = '[{'").await;
    let error = room.store.alerts(&first(1)).await.expect_err("must be refused").to_string();
    assert!(error.contains("review.db is damaged: the reasons of alert 1"), "{error}");
}

//! The projection over a journal in memory and real stores of both kinds: once each, through failures, restarts, a wiped
//! store and one that is rebuilt.

mod places;

use super::super::review_store::contract::{NOON, PARTITIONS, Subject, subjects};
use super::*;
use crate::journal::record::samples;
use crate::journal::{MemoryJournal, Partition};
use crate::wire::alert_query::AlertFilter;
use crate::wire::review::ReviewStatus;
use verdict_core::event::{Label, LabelSource};

struct Room {
    subject: Subject,
    journal: Arc<MemoryJournal>,
    epochs: Vec<u64>,
}

/// A journal and an empty store of every kind.
async fn rooms() -> Vec<Room> {
    let mut rooms = vec![];
    for subject in subjects().await {
        let journal = Arc::new(MemoryJournal::new(PARTITIONS, true));
        let tenures = journal.take_over((0..PARTITIONS).collect()).await.expect("takes over");
        let epochs = tenures.iter().map(|tenure| tenure.epoch).collect();
        rooms.push(Room { subject, journal, epochs });
    }
    rooms
}

impl Room {
    fn projection(&self) -> ReviewProjection {
        ReviewProjection::new(Arc::clone(&self.journal) as Arc<dyn Journal>, Arc::clone(&self.subject.store) as _, 0)
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

    /// Transaction ids of all alerts, as they are listed.
    async fn ids(&self) -> Vec<String> {
        let page = self.subject.page(&all()).await;
        page.alerts.into_iter().map(|alert| alert.transaction_id).collect()
    }

    /// Executes SQL by hand.
    async fn execute(&self, file: &str, database: &str) {
        self.subject.by_hand(file, database).await.expect("executes");
    }

    /// Fails unless the database holds so many decisions and labels; a file has none.
    async fn assert_rows(&self, decisions: usize, labels: usize) {
        let counted = format!(
            "SELECT 1 / (CASE WHEN (SELECT count(*) FROM decisions) = {decisions} \
             AND (SELECT count(*) FROM labels) = {labels} THEN 1 ELSE 0 END)"
        );
        self.execute("SELECT 1", &counted).await;
    }
}

fn all() -> AlertFilter {
    AlertFilter { limit: 100, ..AlertFilter::default() }
}

#[tokio::test]
async fn each_row_is_there_once_through_restarts_and_a_wiped_store() {
    for room in rooms().await {
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
            assert_eq!(room.ids().await.len(), 13);
            room.assert_rows(25, 0).await;
        }
        // A position that was lost, as after a power cut, or reset by hand: everything is read again, nothing doubled.
        room.execute("DELETE FROM positions", "TRUNCATE projection_positions").await;
        room.projection().catch_up().await.expect("catches up");
        assert_eq!(room.ids().await.len(), 13);
        room.assert_rows(25, 0).await;

        let before = room.subject.page(&all()).await;
        room.subject.wipe().await;
        assert_eq!(room.ids().await, Vec::<String>::new());
        room.projection().catch_up().await.expect("catches up");
        assert_eq!(room.subject.page(&all()).await, before);
        room.assert_rows(25, 0).await;
    }
}

#[tokio::test]
async fn an_alert_says_its_first_reason_in_a_column() {
    for room in rooms().await {
        room.append(0, 0, 1).await;
        room.projection().catch_up().await.expect("catches up");
        let wanted = "'Daily spend threshold exceeded: 5,130.00 USD today'";
        let table = |name: &str| format!("CREATE TABLE seen AS SELECT reason FROM {name} WHERE reason = {wanted}");
        room.execute(&table("alerts"), &table("fraud_alerts")).await;
        room.execute(
            "CREATE TABLE one (n CHECK (n = 1)); INSERT INTO one SELECT count(*) FROM seen",
            "CREATE TABLE one (n int CHECK (n = 1)); INSERT INTO one SELECT count(*) FROM seen",
        )
        .await;
    }
}

#[tokio::test]
async fn of_labels_the_latest_is_kept() {
    for room in rooms().await {
        let label = |n: u64, is_fraud, at| {
            let (transaction_id, user_id) = ("t-1".into(), "u-1".into());
            let source = if n == 3 { LabelSource::Issuer } else { LabelSource::Customer };
            let label = Label { transaction_id, user_id, is_fraud, source, at: NOON + at, amount_lost: None };
            samples::with(0, room.epochs[0], n, Body::Label(label))
        };
        // The second is the latest; the third came late; the fourth is another source's; the fifth came last of an instant.
        let records =
            [label(0, false, 0), label(1, true, 9), label(2, false, 5), label(3, true, 1), label(4, false, 9)];
        room.journal.append(records[..4].to_vec()).await.expect("appends");
        room.projection().catch_up().await.expect("catches up");
        let check = |expected: &str| {
            format!(
                "SELECT 1 / (CASE WHEN (SELECT string_agg(source || ' ' || is_fraud, ', ' ORDER BY source) FROM labels) = \
                 '{expected}' THEN 1 ELSE 0 END)"
            )
        };
        room.execute("SELECT 1", &check("customer true, issuer true")).await;
        room.journal.append(records[4..].to_vec()).await.expect("appends");
        for _ in 0..2 {
            room.projection().catch_up().await.expect("catches up");
            room.execute("SELECT 1", &check("customer false, issuer true")).await;
            room.subject.store.reset().await.expect("resets");
        }
    }
}

#[tokio::test]
async fn pages_are_stable_while_alerts_arrive() {
    for room in rooms().await {
        let mut projection = room.projection();
        room.append(0, 0, 30).await;
        projection.catch_up().await.expect("catches up");
        let expected: Vec<String> = (0..10).rev().map(|alert| format!("t-0-{}", alert * 3)).collect();
        let first = AlertFilter { limit: 4, ..AlertFilter::default() };
        let (mut found, mut after, mut next) = (Vec::new(), None, 30);
        loop {
            let page = room.subject.page(&AlertFilter { after, ..first.clone() }).await;
            found.extend(page.alerts.into_iter().map(|alert| alert.transaction_id));
            room.append(0, next, 3).await;
            next += 3;
            projection.catch_up().await.expect("catches up");
            let Some(cursor) = page.next_cursor else { break };
            after = Some(first.read_cursor(&cursor).expect("a cursor of this filter"));
        }
        assert_eq!(found, expected);
        assert_eq!(room.subject.page(&AlertFilter { limit: u32::MAX, ..first }).await.alerts.len(), 13);
    }
}

#[tokio::test]
async fn a_running_projection_follows_and_outlives_a_failing_store() {
    for room in rooms().await {
        room.execute(
            "CREATE TRIGGER full BEFORE INSERT ON positions BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
            "ALTER TABLE projection_positions ADD CONSTRAINT disk_is_full CHECK (n = 0)",
        )
        .await;
        let projection = room.projection();
        let lag = projection.lag();
        room.append(0, 0, 30).await;
        let mut failing = room.projection();
        let error = failing.catch_up().await.expect_err("must fail");
        assert!(error.is_transient() && error.to_string().replace('_', " ").contains("disk is full"), "{error}");
        assert_eq!(room.ids().await, Vec::<String>::new());

        let running = tokio::spawn(projection.run());
        let mut reflected = lag.reflected();
        assert_eq!(*reflected.borrow_and_update(), [0, 0]);
        room.execute("DROP TRIGGER full", "ALTER TABLE projection_positions DROP CONSTRAINT disk_is_full").await;
        reflected.wait_for(|next| next[0] == 30).await.expect("catches up after a back-off");
        for partition in [1, 0] {
            room.append(partition, if partition == 0 { 30 } else { 0 }, 3).await;
        }
        reflected.wait_for(|next| *next == [33, 3]).await.expect("follows");
        assert_eq!(room.ids().await.len(), 12);
        assert_eq!(lag.records(), 0);
        running.abort();

        failing.catch_up().await.expect("goes on from what the other stored");
        assert_eq!(room.ids().await.len(), 12);
    }
}

#[tokio::test]
async fn a_running_projection_notices_a_rebuild() {
    for room in rooms().await {
        room.append(0, 0, 9).await;
        let projection = room.projection();
        let mut reflected = projection.lag().reflected();
        let running = tokio::spawn(projection.run());
        reflected.wait_for(|next| next[0] == 9).await.expect("follows");
        // Nothing more is written, so that only a look can tell.
        room.execute("DELETE FROM alerts", "TRUNCATE fraud_alerts, decisions").await;
        room.subject.again().await.reset().await.expect("resets");
        // It may have come to the end again before this looks.
        reflected.changed().await.expect("begins again");
        reflected.wait_for(|next| next[0] == 9).await.expect("and ends");
        assert_eq!(room.ids().await.len(), 3);
        room.assert_rows(6, 0).await;
        // While it writes, the write tells.
        room.subject.again().await.reset().await.expect("resets");
        room.append(0, 9, 3).await;
        reflected.wait_for(|next| next[0] == 12).await.expect("follows");
        assert_eq!(room.ids().await.len(), 4);
        room.assert_rows(8, 0).await;
        running.abort();
    }
}

#[tokio::test]
async fn a_store_ahead_of_its_journal_is_refused() {
    for room in rooms().await {
        room.append(0, 0, 3).await;
        room.projection().catch_up().await.expect("catches up");
        let table = |name: &str, n: &str| format!("UPDATE {name} SET {n} = 9 WHERE partition = 0");
        room.execute(&table("positions", "next_n"), &table("projection_positions", "n")).await;
        let error = room.projection().run().await;
        assert!(!error.is_transient());
        let name = room.subject.store.name();
        let expected = format!("{name} reflects partition 0 up to record 9, but the journal ends at 3; ");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_named() {
    for room in rooms().await {
        room.append(0, 0, 1).await;
        room.projection().catch_up().await.expect("catches up");
        room.execute("UPDATE alerts SET reasons = '[{'", "UPDATE fraud_alerts SET reasons = '[{}]'").await;
        let error = room.subject.store.alerts(&all()).await.expect_err("must be refused").to_string();
        assert!(error.contains(" is damaged: the reasons of alert 1"), "{error}");
        assert!(error.contains(&*room.subject.store.name()), "{error}");
    }
}

#[tokio::test]
async fn an_alert_is_open_until_somebody_says_otherwise() {
    for room in rooms().await {
        let record = samples::alert(0, room.epochs[0], 0, "u-7");
        let Body::Decision(decided) = &record.body else { panic!("expected a decision") };
        room.journal.append(vec![record.clone()]).await.expect("appends");
        room.projection().catch_up().await.expect("catches up");
        let expected = Alert { status: Some(ReviewStatus::Open), ..Alert::of(decided) };
        let page = room.subject.page(&all()).await;
        assert_eq!((page.alerts, page.next_cursor), (vec![expected], None));
    }
}

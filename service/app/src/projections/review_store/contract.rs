//! One suite for both implementations of the port, and what tests of its users need: a store with alerts in it.

use super::postgres::{PostgresStore, Settings};
use super::sqlite::SqliteStore;
use super::{Move, Reached, ReviewError, ReviewStore, Stretch};
use crate::journal::record::{Body, samples};
use crate::journal::{Partition, Position};
use crate::telemetry::clock::{Clock, TimeSource};
use crate::wire::alert::{Alert, Arrival};
use crate::wire::alert_query::{AlertFilter, AlertPage};
use crate::wire::review::{NewReview, ReviewStatus};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;
use uuid::Uuid;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;
use verdict_tests::servers::Postgres;

pub(in crate::projections) const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);
/// Partitions of the journals that these stores follow.
pub(in crate::projections) const PARTITIONS: Partition = 2;

/// The day of the samples.
struct Noon(Instant);

impl TimeSource for Noon {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn instant(&self) -> Instant {
        self.0
    }
}

/// What the stores of these tests are told.
pub(super) fn settings() -> Settings {
    Settings {
        journal: "journal-1".into(),
        partitions: PARTITIONS,
        decision_days: 30,
        max_connections: 4,
        migrate: true,
        clock: Clock::Given(Arc::new(Noon(crate::telemetry::clock::instant()))),
    }
}

/// A store under test, and the way in for a person at a prompt.
pub(in crate::projections) struct Subject {
    pub(in crate::projections) store: Arc<dyn ReviewStore>,
    place: Place,
}

enum Place {
    File(TempDir),
    Database(Box<PgConnectOptions>),
}

/// Empty stores of every kind.
pub(in crate::projections) async fn subjects() -> Vec<Subject> {
    let dir = tempfile::tempdir().expect("a directory");
    let url: PgConnectOptions = Postgres::shared().fresh_database().parse().expect("a URL");
    let mut both = vec![];
    for place in [Place::File(dir), Place::Database(Box::new(url))] {
        both.push(Subject { store: open(&place).await, place });
    }
    both
}

async fn open(place: &Place) -> Arc<dyn ReviewStore> {
    let store: Arc<dyn ReviewStore> = match place {
        Place::File(dir) => Arc::new(SqliteStore::open(dir.path()).await.expect("opens")),
        Place::Database(options) => Arc::new(PostgresStore::new(options, settings())),
    };
    // As the projection does before anything else: the database gets its tables.
    store.positions().await.expect("positions");
    store
}

impl Subject {
    /// The store as another process would open it.
    pub(in crate::projections) async fn again(&self) -> Arc<dyn ReviewStore> {
        open(&self.place).await
    }

    /// Executes SQL on a connection of its own, in the words of the file or of the database.
    pub(in crate::projections) async fn by_hand(&self, file: &str, database: &str) -> Result<(), String> {
        match &self.place {
            Place::File(dir) => super::sqlite::tests::by_hand(dir.path(), file).await,
            Place::Database(options) => {
                let mut connection: PgConnection = options.connect().await.expect("connects");
                let done = sqlx::raw_sql(sqlx::AssertSqlSafe(database.to_owned())).execute(&mut connection).await;
                connection.close().await.expect("closes");
                done.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// Empties everything that is made from the journal.
    pub(in crate::projections) async fn wipe(&self) {
        let (file, database) = (
            "DELETE FROM alerts; DELETE FROM positions",
            "TRUNCATE fraud_alerts, decisions, labels, projection_positions",
        );
        self.by_hand(file, database).await.expect("wiped");
    }

    /// A review by hand.
    pub(in crate::projections) async fn says_by_hand(&self, alert_id: &str, status: &str, at: Timestamp) {
        let (into, at) = ("INSERT INTO alert_reviews (alert_id, status, note,", at.as_millis());
        let file = format!("{into} at_ms) VALUES ('{alert_id}', '{status}', 'x', {at})");
        let database = format!("{into} at) VALUES ('{alert_id}', '{status}', 'x', to_timestamp({at} / 1000.0))");
        self.by_hand(&file, &database).await.expect("inserts");
    }

    async fn with_status(&self, status: ReviewStatus) -> Vec<String> {
        let page = self.page(&AlertFilter { status: Some(status), limit: 9, ..AlertFilter::default() }).await;
        assert!(page.alerts.iter().all(|alert| alert.status == Some(status)));
        page.alerts.into_iter().map(|alert| alert.transaction_id).collect()
    }

    pub(in crate::projections) async fn page(&self, filter: &AlertFilter) -> AlertPage {
        self.store.alerts(filter).await.expect("a page")
    }
}

/// Alert n of a user, decided n milliseconds after noon.
pub(in crate::projections) fn alert(n: u64, user_id: &str) -> Alert {
    let Body::Decision(decided) = samples::alert(0, 1, n, user_id).body else { panic!("expected a decision") };
    Alert::of(&decided)
}

pub(in crate::projections) fn id_of(alert: &Alert) -> Uuid {
    Uuid::try_parse(&alert.alert_id).expect("an id")
}

pub(in crate::projections) fn says(status: ReviewStatus) -> NewReview {
    NewReview { status, note: None, assignee: None }
}

/// Writes alerts, with the position of partition 0 after them.
pub(in crate::projections) async fn reflect(
    store: &dyn ReviewStore,
    alerts: &[Alert],
    to: u64,
) -> Result<(), ReviewError> {
    let positions = store.positions().await?;
    let from = positions.iter().find(|reached| reached.partition == 0).map_or(0, |reached| reached.n);
    let moves = if from == to { vec![] } else { vec![Move { partition: 0, from, to, place: None }] };
    store.apply(&Stretch { alerts: alerts.to_vec(), moves, ..Stretch::default() }).await
}

/// Partitions that have something reflected, and up to which record.
pub(in crate::projections) async fn positions(store: &dyn ReviewStore) -> Vec<(Partition, u64)> {
    let all = store.positions().await.expect("reads").into_iter();
    all.map(|reached| (reached.partition, reached.n)).filter(|(_, n)| *n > 0).collect()
}

/// Writes alerts 0..count, of users u-0 and u-1 in turn.
pub(in crate::projections) async fn fill(store: &dyn ReviewStore, count: u64) -> Vec<Alert> {
    let alerts: Vec<Alert> = (0..count).map(|n| alert(n, &format!("u-{}", n % 2))).collect();
    reflect(store, &alerts, count).await.expect("applies");
    alerts
}

#[tokio::test]
async fn an_alert_comes_back_as_it_was_written() {
    for subject in subjects().await {
        let full = alert(0, "u-0");
        let bare = Alert { model: None, score: None, reasons: vec![], ..alert(1, "ü 'x' \\ \"") };
        let yen = Alert { amount: "5000".into(), currency: "JPY".into(), ..alert(2, "u-2") };
        reflect(&*subject.store, &[full.clone(), bare.clone(), yen.clone()], 3).await.expect("applies");
        let page = subject.page(&AlertFilter { limit: 9, ..AlertFilter::default() }).await;
        let open = |alert: Alert| Alert { status: Some(ReviewStatus::Open), ..alert };
        assert_eq!(page.alerts, [open(yen), open(bare), open(full)]);
    }
}

#[tokio::test]
async fn a_position_moves_only_from_the_expected_one() {
    for subject in subjects().await {
        let store = &subject.store;
        fill(&**store, 3).await;
        let stretch = |n, from, to| Stretch {
            alerts: vec![alert(n, "u")],
            moves: [(1, 0, 9), (0, from, to)]
                .map(|(partition, from, to)| Move { partition, from, to, place: None })
                .into(),
            ..Stretch::default()
        };
        let error = store.apply(&stretch(7, 2, 8)).await.expect_err("is elsewhere");
        assert!(matches!(error, ReviewError::Moved { partition: 0, expected: 2, found: 3 }), "{error}");
        assert!(error.is_transient());
        assert_eq!(positions(&**store).await, [(0, 3)], "all or nothing");
        assert_eq!(subject.page(&AlertFilter { limit: 9, ..AlertFilter::default() }).await.alerts.len(), 3);
        // Of two readers one writes.
        let other = subject.again().await;
        store.apply(&stretch(7, 3, 8)).await.expect("applies");
        let error = other.apply(&stretch(8, 3, 9)).await.expect_err("the other was first");
        assert!(matches!(error, ReviewError::Moved { .. }), "{error}");
        assert_eq!(positions(&*other).await, [(0, 8), (1, 9)]);

        other.reset().await.expect("resets");
        assert_eq!(positions(&**store).await, []);
        assert!(matches!(store.apply(&stretch(9, 8, 9)).await, Err(ReviewError::Moved { found: 0, .. })));
        assert_eq!(
            subject.page(&AlertFilter { limit: 9, ..AlertFilter::default() }).await.alerts.len(),
            4,
            "rows stay"
        );
    }
}

#[tokio::test]
async fn a_position_keeps_its_place_and_loses_it_with_a_reset() {
    let place = |offset| Some(Position { offset, epoch: 1 << 40, n: 2 });
    for subject in subjects().await {
        let store = &subject.store;
        let to = |from, to, place| {
            let moves = vec![Move { partition: 0, from, to, place }, Move { partition: 1, from, to, place: None }];
            Stretch { moves, ..Stretch::default() }
        };
        let standing = async || subject.again().await.positions().await.expect("reads");
        let expected = |n, place| [Reached { partition: 0, n, place }, Reached { partition: 1, n, place: None }];
        store.apply(&to(0, 3, place(7))).await.expect("applies");
        assert_eq!(standing().await, expected(3, place(7)));
        store.apply(&to(2, 4, place(8))).await.expect_err("is elsewhere");
        assert_eq!(standing().await, expected(3, place(7)), "all or nothing");
        // By hand the number alone is put back; what is known of the place stays true.
        subject
            .by_hand("UPDATE positions SET next_n = 2", "UPDATE projection_positions SET n = 2")
            .await
            .expect("moves");
        assert_eq!(standing().await, expected(2, place(7)));
        store.apply(&to(2, 5, None)).await.expect("applies");
        assert_eq!(standing().await, expected(5, None), "no place of another position is left");
        store.apply(&to(5, 6, place(9))).await.expect("applies");
        store.reset().await.expect("resets");
        assert!(standing().await.iter().all(|reached| (reached.n, reached.place) == (0, None)));
    }
}

#[tokio::test]
async fn the_latest_review_is_the_status_of_its_alert() {
    for subject in subjects().await {
        let store = &subject.store;
        let alerts = fill(&**store, 3).await;
        let review = |status, at| store.review(id_of(&alerts[1]), says(status), at);
        let first = review(ReviewStatus::InReview, NOON).await.expect("stored").expect("an alert");
        assert_eq!((first.review_id, first.at, first.said.status), (1, NOON, ReviewStatus::InReview));
        assert_eq!(subject.with_status(ReviewStatus::InReview).await, ["t-0-1"]);
        assert_eq!(subject.with_status(ReviewStatus::Open).await, ["t-0-2", "t-0-0"]);
        // Said last, it counts, whatever the clock has done.
        let second = review(ReviewStatus::ConfirmedFraud, NOON + -60_000).await.expect("stored").expect("an alert");
        assert_eq!(second.at, NOON + 1);
        assert_eq!(subject.with_status(ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
        assert_eq!(subject.with_status(ReviewStatus::InReview).await, Vec::<String>::new());
        assert_eq!(store.review(Uuid::nil(), says(ReviewStatus::InReview), NOON).await.expect("answers"), None);
        let far = Timestamp::from_millis(9_999_999_999_999);
        assert!(matches!(review(ReviewStatus::InReview, far).await, Err(ReviewError::Ahead)));

        // By hand: between the two it changes nothing, later it does, and deleted it never was.
        let id = &alerts[1].alert_id;
        subject.says_by_hand(id, "false_positive", NOON).await;
        assert_eq!(subject.with_status(ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
        subject.says_by_hand(id, "false_positive", NOON + 9).await;
        assert_eq!(subject.with_status(ReviewStatus::FalsePositive).await, ["t-0-1"]);
        let delete = "DELETE FROM alert_reviews WHERE note = 'x'";
        subject.by_hand(delete, delete).await.expect("deletes");
        assert_eq!(subject.with_status(ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
        let change = "UPDATE alert_reviews SET status = 'false_positive'";
        let message = subject.by_hand(change, change).await.expect_err("it stays");
        assert!(message.contains("a review is not changed: insert a later one"), "{message}");
        let queue =
            "CREATE TABLE seen AS SELECT * FROM alert_queue WHERE status = 'confirmed_fraud' AND assignee IS NULL";
        subject.by_hand(queue, queue).await.expect("a view for people");
        let delete = "DELETE FROM alert_reviews";
        subject.by_hand(delete, delete).await.expect("deletes");
        assert_eq!(subject.with_status(ReviewStatus::Open).await, ["t-0-2", "t-0-1", "t-0-0"]);
    }
}

#[tokio::test]
async fn reviews_outlive_the_alerts_that_they_speak_of() {
    for subject in subjects().await {
        let store = &subject.store;
        let alerts = fill(&**store, 3).await;
        for (alert, status) in [(0, ReviewStatus::ConfirmedFraud), (2, ReviewStatus::FalsePositive)] {
            store.review(id_of(&alerts[alert]), says(status), NOON).await.expect("stored").expect("an alert");
        }
        let page = AlertFilter { limit: 2, ..AlertFilter::default() };
        let cursor = subject.page(&page).await.next_cursor.expect("another page");
        subject.wipe().await;
        assert_eq!(store.unlabelled((0, 0), 9).await.expect("reads"), []);
        let after = Some(page.read_cursor(&cursor).expect("a cursor"));
        let error = store.alerts(&AlertFilter { after, ..page.clone() }).await.expect_err("nothing to go on after");
        assert!(matches!(error, ReviewError::UnknownCursor(id) if id == id_of(&alerts[1])), "{error}");

        reflect(&**store, &alerts, 3).await.expect("made again");
        assert_eq!(subject.with_status(ReviewStatus::ConfirmedFraud).await, ["t-0-0"]);
        assert_eq!(subject.with_status(ReviewStatus::FalsePositive).await, ["t-0-2"]);
        assert_eq!(subject.with_status(ReviewStatus::Open).await, ["t-0-1"]);
        assert_eq!(store.unlabelled((0, 0), 9).await.expect("reads").len(), 2);
        // The cursor of before goes on where it stopped.
        let rest = subject.page(&AlertFilter { after, ..page }).await;
        assert_eq!((rest.alerts[0].transaction_id.as_str(), rest.alerts.len(), rest.next_cursor), ("t-0-0", 1, None));
    }
}

#[tokio::test]
async fn settled_reviews_wait_for_their_labels_in_order() {
    for subject in subjects().await {
        let store = &subject.store;
        let alerts = fill(&**store, 3).await;
        for (alert, status, at) in [(2, ReviewStatus::ConfirmedFraud, 5), (1, ReviewStatus::InReview, 0)] {
            store.review(id_of(&alerts[alert]), says(status), NOON + at).await.expect("stored").expect("an alert");
        }
        store.reviewed().await;
        subject.says_by_hand(&alerts[0].alert_id, "false_positive", NOON + 2).await;
        subject.says_by_hand("00000000-0000-5000-8000-000000000000", "false_positive", NOON + 1).await;
        let waiting = store.unlabelled((i64::MIN, i64::MIN), 9).await.expect("reads");
        let short = |at: usize| {
            let label = &waiting[at].label;
            (&*label.transaction_id, &*label.user_id, label.is_fraud, label.at - NOON)
        };
        assert_eq!((short(0), short(1), waiting.len()), (("t-0-0", "u-0", false, 2), ("t-0-2", "u-0", true, 5), 2));
        let rest = store.unlabelled(waiting[0].place, 9).await.expect("reads");
        assert_eq!(rest, waiting[1..]);
        store.labelled(&[waiting[0].review_id]).await.expect("marks");
        assert_eq!(store.unlabelled((i64::MIN, i64::MIN), 9).await.expect("reads"), rest);
    }
}

#[tokio::test]
async fn arrivals_come_in_order_and_have_a_place() {
    for subject in subjects().await {
        let store = &subject.store;
        let alerts = fill(&**store, 5).await;
        let mut head = store.head();
        assert_eq!(*head.borrow_and_update(), Some(5));
        let seqs = |arrivals: Vec<Arrival>| arrivals.into_iter().map(|arrival| arrival.seq).collect::<Vec<_>>();
        assert_eq!(seqs(store.arrived(1, 3).await.expect("reads")), [2, 3, 4]);
        assert_eq!(seqs(store.arrived(5, 3).await.expect("reads")), Vec::<i64>::new());
        assert_eq!(store.place(Some(id_of(&alerts[2]))).await.expect("reads"), Some(3));
        assert_eq!(store.place(Some(Uuid::nil())).await.expect("reads"), None);
        assert_eq!(store.place(None).await.expect("reads"), Some(5));
        reflect(&**store, &alerts, 5).await.expect("again, nothing new");
        assert!(!head.has_changed().expect("the store is there"));
        reflect(&**store, &[alert(9, "u")], 6).await.expect("one more");
        assert!(head.has_changed().expect("the store is there") && *head.borrow() > Some(5));
        // Decided before others that were here first: it arrives last, and is listed where it belongs.
        let late = Alert { detected_at: NOON + 1, ..alert(10, "u") };
        reflect(&**store, &[late], 7).await.expect("a late one");
        let page = subject.page(&AlertFilter { limit: 9, ..AlertFilter::default() }).await;
        let listed: Vec<&str> = page.alerts.iter().map(|alert| alert.transaction_id.as_str()).collect();
        assert_eq!(listed, ["t-0-9", "t-0-4", "t-0-3", "t-0-2", "t-0-10", "t-0-1", "t-0-0"]);
        assert_eq!(store.arrived(5, 9).await.expect("reads").last().expect("some").alert.transaction_id, "t-0-10");
        assert_eq!(*subject.again().await.head().borrow(), store.place(None).await.expect("reads"));
    }
}

#[tokio::test]
async fn filters_hold_together() {
    for subject in subjects().await {
        fill(&*subject.store, 5).await;
        let first = |limit| AlertFilter { limit, ..AlertFilter::default() };
        let table = [
            (AlertFilter { user_id: Some("u-0".into()), ..first(9) }, vec!["t-0-4", "t-0-2", "t-0-0"]),
            (AlertFilter { user_id: Some("nobody".into()), ..first(9) }, vec![]),
            (AlertFilter { since: Some(NOON + 3), ..first(9) }, vec!["t-0-4", "t-0-3"]),
            (AlertFilter { since: Some(NOON + 1), user_id: Some("u-0".into()), ..first(9) }, vec!["t-0-4", "t-0-2"]),
            (AlertFilter { decision: Some(Outcome::Block), ..first(9) }, vec![]),
            (AlertFilter { decision: Some(Outcome::Review), ..first(1) }, vec!["t-0-4"]),
            (AlertFilter { status: Some(ReviewStatus::Open), ..first(2) }, vec!["t-0-4", "t-0-3"]),
            (AlertFilter { status: Some(ReviewStatus::ConfirmedFraud), ..first(2) }, vec![]),
            (first(0), vec!["t-0-4"]),
        ];
        for (filter, expected) in table {
            let page = subject.page(&filter).await;
            let ids: Vec<&str> = page.alerts.iter().map(|alert| alert.transaction_id.as_str()).collect();
            assert_eq!(ids, expected, "{filter:?}");
            if let Some(cursor) = page.next_cursor {
                let after = Some(filter.read_cursor(&cursor).expect("a cursor of this filter"));
                let next = subject.page(&AlertFilter { after, ..filter }).await;
                assert_eq!(
                    next.alerts.first().map(|alert| alert.detected_at + 1),
                    page.alerts.last().map(|alert| alert.detected_at)
                );
            }
        }
    }
}

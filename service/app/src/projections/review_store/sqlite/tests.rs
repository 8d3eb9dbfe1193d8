//! Reviews over the API and by hand, the status that follows, old files, and what SQLite makes of each filter.

use super::rows::select;
use super::*;
use crate::journal::record::{Body, samples};
use crate::wire::review::{NewReview, ReviewStatus};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

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

/// A store with alerts 0..count, of users u-0 and u-1 in turn.
pub(in crate::projections) async fn store_of(count: u64) -> (TempDir, ReviewStore, Vec<Alert>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = ReviewStore::open(dir.path()).await.expect("opens");
    let alerts: Vec<Alert> = (0..count).map(|n| alert(n, &format!("u-{}", n % 2))).collect();
    store.apply(&alerts, &[count]).await.expect("applies");
    (dir, store, alerts)
}

/// Executes SQL the way a person at a prompt does: on a connection of their own.
pub(in crate::projections) async fn by_hand(dir: &Path, sql: &str) -> Result<(), String> {
    let options = SqliteConnectOptions::new().filename(dir.join("review.db"));
    let mut connection = options.connect().await.expect("connects");
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
    done.map(drop).map_err(|error| error.to_string())
}

async fn with_status(store: &ReviewStore, status: ReviewStatus) -> Vec<String> {
    let filter = AlertFilter { status: Some(status), limit: 9, ..AlertFilter::default() };
    let page = store.alerts(&filter).await.expect("a page");
    assert!(page.alerts.iter().all(|alert| alert.status == Some(status)));
    page.alerts.into_iter().map(|alert| alert.transaction_id).collect()
}

#[tokio::test]
async fn the_latest_review_is_the_status_of_its_alert() {
    let (dir, store, alerts) = store_of(3).await;
    let review = |status, at| store.review(id_of(&alerts[1]), says(status), at);
    let first = review(ReviewStatus::InReview, NOON).await.expect("stored").expect("an alert");
    assert_eq!((first.review_id, first.at, first.said.status), (1, NOON, ReviewStatus::InReview));
    assert_eq!(with_status(&store, ReviewStatus::InReview).await, ["t-0-1"]);
    assert_eq!(with_status(&store, ReviewStatus::Open).await, ["t-0-2", "t-0-0"]);
    // Said last, it counts, whatever the clock has done.
    let second = review(ReviewStatus::ConfirmedFraud, NOON + -60_000).await.expect("stored").expect("an alert");
    assert_eq!(second.at, NOON + 1);
    assert_eq!(with_status(&store, ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
    assert_eq!(store.review(Uuid::nil(), says(ReviewStatus::InReview), NOON).await.expect("answers"), None);

    // By hand: between the two it changes nothing, later it does, and deleted it never was.
    let insert = |status: &str, at: Timestamp| {
        let (id, at) = (&alerts[1].alert_id, at.as_millis());
        format!("INSERT INTO alert_reviews (alert_id, status, note, at_ms) VALUES ('{id}', '{status}', 'x', {at})")
    };
    by_hand(dir.path(), &insert("false_positive", NOON)).await.expect("inserts");
    assert_eq!(with_status(&store, ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
    by_hand(dir.path(), &insert("false_positive", NOON + 9)).await.expect("inserts");
    assert_eq!(with_status(&store, ReviewStatus::FalsePositive).await, ["t-0-1"]);
    by_hand(dir.path(), "DELETE FROM alert_reviews WHERE note = 'x'").await.expect("deletes");
    assert_eq!(with_status(&store, ReviewStatus::ConfirmedFraud).await, ["t-0-1"]);
    by_hand(dir.path(), "DELETE FROM alert_reviews").await.expect("deletes");
    assert_eq!(with_status(&store, ReviewStatus::Open).await, ["t-0-2", "t-0-1", "t-0-0"]);
}

#[tokio::test]
async fn a_slip_at_the_prompt_is_refused_in_words() {
    let (dir, store, alerts) = store_of(1).await;
    let id = &alerts[0].alert_id;
    let insert = |columns: &str, values: &str| format!("INSERT INTO alert_reviews ({columns}) VALUES ({values})");
    let upper = id.to_uppercase();
    let far = "9999999999999";
    let table = [
        (insert("alert_id, status", &format!("'{id}', 'fraud'")), "CHECK constraint failed: status IN"),
        (insert("alert_id, status", &format!("'{upper}', 'in_review'")), "CHECK constraint failed"),
        (insert("alert_id, status", "'7', 'in_review'"), "CHECK constraint failed"),
        (
            insert("alert_id, status, at_ms", &format!("'{id}', 'in_review', 1795435200")),
            "expected at_ms in milliseconds",
        ),
        (insert("alert_id, status, at_ms", &format!("'{id}', 'in_review', {far}")), "at most a day ahead"),
        (insert("alert_id, status, at_ms", &format!("'{id}', 'in_review', 'today'")), "cannot store TEXT"),
    ];
    for (sql, expected) in table {
        let message = by_hand(dir.path(), &sql).await.expect_err(&sql);
        assert!(message.contains(expected), "{sql}: {message}");
    }
    // What the trigger refuses is no fault of the file, nor of the service.
    let ahead =
        store.review(id_of(&alerts[0]), says(ReviewStatus::InReview), Timestamp::from_millis(9_999_999_999_999));
    assert!(matches!(ahead.await, Err(ReviewError::Ahead)));
    by_hand(dir.path(), &insert("alert_id, status", &format!("'{id}', 'confirmed_fraud'"))).await.expect("inserts");
    assert_eq!(with_status(&store, ReviewStatus::ConfirmedFraud).await, ["t-0-0"]);
    let message = by_hand(dir.path(), "UPDATE alert_reviews SET status = 'false_positive'").await.expect_err("kept");
    assert!(message.contains("insert a later one"), "{message}");
    by_hand(dir.path(), "UPDATE alert_reviews SET note = 'found later'").await.expect("a note may be added to");
    let queue =
        "CREATE TABLE seen AS SELECT * FROM alert_queue WHERE note = 'found later' AND status = 'confirmed_fraud'";
    by_hand(dir.path(), queue).await.expect("a view for people");
    let mut reviews = store.reviews.lock().await;
    let at_ms: i64 =
        sqlx::query_scalar("SELECT reviewed_at_ms FROM seen").fetch_one(&mut *reviews).await.expect("a row");
    let now = crate::telemetry::clock::now().as_millis();
    assert!((now - 60_000..=now + 1).contains(&at_ms), "{at_ms} is not now, {now}");
}

#[tokio::test]
async fn reviews_outlive_the_alerts_that_they_speak_of() {
    let (dir, store, alerts) = store_of(3).await;
    for (alert, status) in [(0, ReviewStatus::ConfirmedFraud), (2, ReviewStatus::FalsePositive)] {
        store.review(id_of(&alerts[alert]), says(status), NOON).await.expect("stored").expect("an alert");
    }
    let page = AlertFilter { limit: 2, ..AlertFilter::default() };
    let cursor = store.alerts(&page).await.expect("a page").next_cursor.expect("another page");
    by_hand(dir.path(), "DELETE FROM alerts; DELETE FROM positions").await.expect("wiped");
    assert_eq!(store.unlabelled((0, 0), 9).await.expect("reads"), []);
    let after = Some(page.read_cursor(&cursor).expect("a cursor"));
    let error = store.alerts(&AlertFilter { after, ..page.clone() }).await.expect_err("nothing to go on after");
    assert!(matches!(error, ReviewError::UnknownCursor(id) if id == id_of(&alerts[1])), "{error}");

    store.apply(&alerts, &[3]).await.expect("made again");
    assert_eq!(with_status(&store, ReviewStatus::ConfirmedFraud).await, ["t-0-0"]);
    assert_eq!(with_status(&store, ReviewStatus::FalsePositive).await, ["t-0-2"]);
    assert_eq!(with_status(&store, ReviewStatus::Open).await, ["t-0-1"]);
    assert_eq!(store.unlabelled((0, 0), 9).await.expect("reads").len(), 2);
    // The cursor of before goes on where it stopped.
    let rest = store.alerts(&AlertFilter { after, ..page }).await.expect("a page");
    assert_eq!((rest.alerts[0].transaction_id.as_str(), rest.alerts.len(), rest.next_cursor), ("t-0-0", 1, None));
}

#[tokio::test]
async fn a_file_of_the_first_format_keeps_its_alerts() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Layout { format: 1, upgrades: &[], ..REVIEWS };
    let path = dir.path().join("review.db");
    drop(crate::sqlite::open(&path, &first).await.expect("creates it"));
    let row = "INSERT INTO alerts VALUES (7, '7c9e2f60-54a1-5c0b-9d3e-2a7f4b8d1e55', 1, 't', 'u', 'review', 0.5, 'elevated', \
               NULL, '[]', '1.00', 'USD', 'm', 1, 2, 'default', '0a', NULL, NULL, NULL); \
               INSERT INTO positions VALUES (0, 9)";
    by_hand(dir.path(), row).await.expect("inserts");
    for _ in 0..2 {
        let store = ReviewStore::open(dir.path()).await.expect("opens");
        assert_eq!(with_status(&store, ReviewStatus::Open).await, ["t"]);
        assert_eq!(store.positions().await.expect("reads"), [(0, 9)]);
        assert_eq!(store.place(None).await.expect("reads"), Some(7));
    }
}

#[tokio::test]
async fn every_filter_is_found_in_an_index() {
    let (_dir, store, _) = store_of(1).await;
    let none = AlertFilter::default;
    let user = || AlertFilter { user_id: Some("u".into()), ..none() };
    let block = || AlertFilter { decision: Some(Outcome::Block), ..none() };
    let open = || AlertFilter { status: Some(ReviewStatus::Open), ..none() };
    let table = [
        (none(), "alerts_by_time"),
        (AlertFilter { since: Some(NOON), ..none() }, "alerts_by_time"),
        (user(), "alerts_by_user"),
        (open(), "alerts_by_status"),
        (block(), "alerts_by_decision"),
        (AlertFilter { decision: Some(Outcome::Block), ..open() }, "alerts_by_status"),
        (AlertFilter { status: Some(ReviewStatus::Open), ..user() }, "alerts_by_user"),
        (AlertFilter { since: Some(NOON), decision: Some(Outcome::Block), ..user() }, "alerts_by_user"),
        (AlertFilter { since: Some(NOON), ..block() }, "alerts_by_decision"),
    ];
    for (filter, index) in table {
        for after in [None, Some((1, 1))] {
            let sql = format!("EXPLAIN QUERY PLAN {}", select(&filter, after, 50).sql().as_str());
            let mut reader = store.reader.lock().await;
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *reader).await.expect("a plan");
            let steps: Vec<String> = plan.into_iter().map(|(_, _, _, step)| step).collect();
            // One step: no scan of the rest, no sorting of what was found.
            assert!(steps.len() == 1 && steps[0].contains(&format!("INDEX {index}")), "{filter:?}: {steps:?}");
            let bounded = filter != none() || after.is_some();
            assert_eq!(steps[0].starts_with("SEARCH"), bounded, "{filter:?}: {steps:?}");
        }
    }
}

#[tokio::test]
async fn arrivals_come_in_order_and_have_a_place() {
    let (_dir, store, alerts) = store_of(5).await;
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), 5);
    let seqs = |arrivals: Vec<Arrival>| arrivals.into_iter().map(|arrival| arrival.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.arrived(1, 3).await.expect("reads")), [2, 3, 4]);
    assert_eq!(seqs(store.arrived(5, 3).await.expect("reads")), Vec::<i64>::new());
    assert_eq!(store.place(Some(id_of(&alerts[2]))).await.expect("reads"), Some(3));
    assert_eq!(store.place(Some(Uuid::nil())).await.expect("reads"), None);
    assert_eq!(store.place(None).await.expect("reads"), Some(5));
    store.apply(&alerts, &[5]).await.expect("again, nothing new");
    assert!(!head.has_changed().expect("the store is there"));
    store.apply(&[alert(9, "u")], &[6]).await.expect("one more");
    assert!(head.has_changed().expect("the store is there") && *head.borrow() > 5);
    // Decided before others that were here first: it arrives last, and is listed where it belongs.
    let late = Alert { detected_at: NOON + 1, ..alert(10, "u") };
    store.apply(&[late], &[7]).await.expect("a late one");
    let page = store.alerts(&AlertFilter { limit: 9, ..AlertFilter::default() }).await.expect("a page");
    let listed: Vec<&str> = page.alerts.iter().map(|alert| alert.transaction_id.as_str()).collect();
    assert_eq!(listed, ["t-0-9", "t-0-4", "t-0-3", "t-0-2", "t-0-10", "t-0-1", "t-0-0"]);
    assert_eq!(store.arrived(5, 9).await.expect("reads").last().expect("some").alert.transaction_id, "t-0-10");
}

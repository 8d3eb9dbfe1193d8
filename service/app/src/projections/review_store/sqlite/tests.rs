//! What is SQLite's own: words for slips at the prompt, old files, and what it makes of each filter.

use super::super::contract::{fill, id_of, says};
use super::rows::select;
use super::*;
use crate::wire::review::ReviewStatus;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use verdict_core::decision::Outcome;
use verdict_core::time::Timestamp;

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// A store with alerts 0..count, of users u-0 and u-1 in turn.
async fn store_of(count: u64) -> (TempDir, SqliteStore, Vec<Alert>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).await.expect("opens");
    let alerts = fill(&store, count).await;
    (dir, store, alerts)
}

/// Executes SQL the way a person at a prompt does: on a connection of their own.
pub(in crate::projections) async fn by_hand(dir: &Path, sql: &str) -> Result<(), String> {
    let options = SqliteConnectOptions::new().filename(dir.join("review.db"));
    let mut connection = options.connect().await.expect("connects");
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
    done.map(drop).map_err(|error| error.to_string())
}

async fn with_status(store: &SqliteStore, status: ReviewStatus) -> Vec<String> {
    let filter = AlertFilter { status: Some(status), limit: 9, ..AlertFilter::default() };
    let page = store.alerts(&filter).await.expect("a page");
    assert!(page.alerts.iter().all(|alert| alert.status == Some(status)));
    page.alerts.into_iter().map(|alert| alert.transaction_id).collect()
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
        let store = SqliteStore::open(dir.path()).await.expect("opens");
        assert_eq!(with_status(&store, ReviewStatus::Open).await, ["t"]);
        assert_eq!(store.positions().await.expect("reads"), [Reached { partition: 0, n: 9, place: None }]);
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_threads_stand_behind() {
    let own = rustix::process::getpriority_process(None).expect("a priority");
    let (_dir, _store, _) = store_of(1).await;
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let behind = tasks.flatten().filter(|task| {
        // A thread may end before it is looked at; nice is the 17th field behind its name.
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, fields)) = stat.rsplit_once(')') else { return false };
        name.contains("(sqlx-sqlite")
            && fields.split_whitespace().nth(16) == Some(&(own + crate::sqlite::NICER).min(19).to_string())
    });
    assert!(behind.count() >= 4, "the writer, reviews, pages and streams have one each");
}

//! Labels over a real store and a service that answers as told.

use super::super::review_store::contract::{fill, id_of, says};
use super::super::review_store::sqlite::SqliteStore;
use super::*;
use crate::wire::alert::Alert;
use crate::wire::review::ReviewStatus::{ConfirmedFraud, FalsePositive, InReview};
use std::cell::{Cell, RefCell};
use std::future::ready;
use std::path::Path;
use tempfile::TempDir;
use verdict_core::event::LabelSource;
use verdict_core::time::Timestamp;

const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

/// What a label says, in short.
fn short(label: &Label) -> (String, bool, i64) {
    assert_eq!((label.source, label.amount_lost), (LabelSource::Analyst, None));
    (label.transaction_id.to_string(), label.is_fraud, label.at - NOON)
}

/// A store with alerts 0..count, of users u-0 and u-1 in turn.
async fn store_of(count: u64) -> (TempDir, Arc<dyn ReviewStore>, Vec<Alert>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn ReviewStore> = Arc::new(SqliteStore::open(dir.path()).await.expect("opens"));
    let alerts = fill(&*store, count).await;
    (dir, store, alerts)
}

async fn by_hand(dir: &Path, sql: &str) -> Result<(), String> {
    super::super::review_store::sqlite::tests::by_hand(dir, sql).await
}

const COUNTS: Result<Accepted, Refusal> = Ok(Accepted { duplicate: false });

#[tokio::test]
async fn each_settled_review_is_labelled_once_in_order() {
    let (dir, store, alerts) = store_of(4).await;
    let metrics = Metrics::new();
    let labels = ReviewLabels::new(Arc::clone(&store), metrics.clone());
    for (alert, status, at) in [(2, ConfirmedFraud, 5), (1, InReview, 0), (0, FalsePositive, 2), (2, FalsePositive, 5)]
    {
        store.review(id_of(&alerts[alert]), says(status), NOON + at).await.expect("stored").expect("an alert");
    }
    let id = &alerts[3].alert_id;
    let row = format!(
        "INSERT INTO alert_reviews (alert_id, status, at_ms) VALUES ('{id}', 'confirmed_fraud', {}), \
         ('00000000-0000-5000-8000-000000000000', 'confirmed_fraud', {})",
        (NOON + 1).as_millis(),
        NOON.as_millis(),
    );
    by_hand(dir.path(), &row).await.expect("inserts");
    let sent = RefCell::new(Vec::new());
    let send = |label: Label| {
        sent.borrow_mut().push(short(&label));
        ready(COUNTS)
    };
    assert_eq!(labels.catch_up(send).await.expect("all go"), Waiting::default());
    let label = |n: i64, is_fraud, at| (format!("t-0-{n}"), is_fraud, at);
    let expected = [label(3, true, 1), label(0, false, 2), label(2, true, 5), label(2, false, 6)];
    assert_eq!(*sent.borrow(), expected, "of one alert the later one last; nothing of an alert that is not there");
    labels.catch_up(send).await.expect("nothing is left");
    assert_eq!(sent.borrow().len(), 4);
    assert!(metrics.render().contains("verdict_review_labels_total 4"));
}

#[tokio::test]
async fn a_flag_is_cleared_only_after_its_label_counts() {
    let (_dir, store, alerts) = store_of(3).await;
    for alert in &alerts {
        store.review(id_of(alert), says(ConfirmedFraud), NOON).await.expect("stored").expect("an alert");
    }
    let labels = ReviewLabels::new(Arc::clone(&store), Metrics::new());
    let sent = Cell::new(0);
    let second_fails = |_: Label| {
        sent.set(sent.get() + 1);
        ready(if sent.get() == 2 { Err(Refusal::Recovering) } else { COUNTS })
    };
    let error = labels.catch_up(second_fails).await.expect_err("the second is refused").to_string();
    assert!(error.starts_with("the label of review 2 was refused"), "{error}");
    let left: Vec<i64> =
        store.unlabelled(FIRST, 9).await.expect("reads").iter().map(|review| review.review_id).collect();
    assert_eq!((left, sent.get()), (vec![2, 3], 2));
    // Killed while a label is on its way: the flag stands.
    let hanging = labels.catch_up(|_| std::future::pending());
    assert!(tokio::time::timeout(Duration::from_millis(20), hanging).await.is_err());
    assert_eq!(store.unlabelled(FIRST, 9).await.expect("reads").len(), 2);
    labels.catch_up(second_fails).await.expect("the rest goes");
    assert_eq!(store.unlabelled(FIRST, 9).await.expect("reads"), []);
}

/// One profile that cannot be read must not hold up the labels of everybody else.
#[tokio::test]
async fn a_user_who_is_refused_waits_alone_and_in_order() {
    // Users u-0 and u-1 in turn, and more of them than one look at the store shows.
    let count = 2 * i64::from(BATCH) + 6;
    let (_dir, store, alerts) = store_of(count as u64).await;
    for (alert, at) in alerts.iter().zip(0..) {
        store.review(id_of(alert), says(ConfirmedFraud), NOON + at).await.expect("stored").expect("an alert");
    }
    let metrics = Metrics::new();
    let labels = ReviewLabels::new(Arc::clone(&store), metrics.clone());
    let sent = RefCell::new(Vec::new());
    let unreadable = Cell::new(true);
    let send = |label: Label| {
        sent.borrow_mut().push((label.user_id.to_string(), label.at - NOON));
        let refused = &*label.user_id == "u-0" && unreadable.get();
        ready(if refused { Err(Refusal::ProfileUnreadable("damaged".into())) } else { COUNTS })
    };
    let waiting = labels.catch_up(send).await.expect("nothing concerns the service");
    assert_eq!((waiting.labels, waiting.users), (count as u64 / 2, 1));
    assert!(waiting.why.is_some_and(|why| why.contains("the label of review 1 was refused")));
    let asked = |user: &str| sent.borrow().iter().filter(|(of, _)| of == user).count() as i64;
    assert_eq!((asked("u-0"), asked("u-1")), (1, count / 2), "a user who is refused is asked once a pass");
    assert!(metrics.render().contains(&format!("verdict_review_labels_waiting {}", count / 2)));
    unreadable.set(false);
    sent.borrow_mut().clear();
    assert_eq!(labels.catch_up(send).await.expect("the rest goes"), Waiting::default());
    let expected: Vec<(String, i64)> = (0..count).step_by(2).map(|at| ("u-0".to_owned(), at)).collect();
    assert_eq!(*sent.borrow(), expected);
    assert_eq!(store.unlabelled(FIRST, 9).await.expect("reads"), []);
    assert!(metrics.render().contains("verdict_review_labels_waiting 0"));
}

#[tokio::test]
async fn it_follows_reviews_over_the_api_and_by_hand_and_outlives_refusals() {
    let (dir, store, alerts) = store_of(2).await;
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let attempts = Cell::new(0);
    let send = move |label: Label| {
        attempts.set(attempts.get() + 1);
        let refused = attempts.get() <= 2;
        if !refused {
            sender.send(short(&label)).expect("the test listens");
        }
        ready(if refused { Err(Refusal::Overloaded { limit: 1 }) } else { COUNTS })
    };
    let following = ReviewLabels::new(Arc::clone(&store), Metrics::new()).run(send);
    let acting = async {
        store.review(id_of(&alerts[0]), says(FalsePositive), NOON).await.expect("stored").expect("an alert");
        assert_eq!(sent.recv().await.expect("a label"), ("t-0-0".to_owned(), false, 0));
        let (id, at) = (&alerts[1].alert_id, NOON.as_millis());
        let row =
            format!("INSERT INTO alert_reviews (alert_id, status, at_ms) VALUES ('{id}', 'confirmed_fraud', {at})");
        by_hand(dir.path(), &row).await.expect("inserts");
        assert_eq!(sent.recv().await.expect("a label"), ("t-0-1".to_owned(), true, 0));
    };
    let both = async {
        tokio::select! {
            () = following => panic!("it follows until it is dropped"),
            () = acting => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("in time");
}

//! What is PostgreSQL's own: one journal a database, tables that are behind, days that come and go, servers that hang.

use super::super::contract::{NOON, alert, fill, id_of, reflect, settings, subjects};
use super::*;
use crate::journal::record::{Body, samples};
use crate::projections::review_store::{DecidedAt, Move, ProjectionStore, ReviewStore};
use crate::telemetry::clock::TimeSource;
use sqlx::{ConnectOptions, PgConnection, Row};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;
use verdict_core::time::{DAY_MS, Timestamp};
use verdict_tests::servers::Postgres;

fn fresh() -> PgConnectOptions {
    Postgres::shared().fresh_database().parse().expect("a URL")
}

async fn prompt(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.expect("connects")
}

#[tokio::test]
async fn a_database_belongs_to_one_journal() {
    let options = fresh();
    let mine = PostgresStore::new(&options, settings());
    ProjectionStore::positions(&mine).await.expect("claims it");
    let other = Settings { journal: "journal-2".into(), ..settings() };
    let other = PostgresStore::new(&options, other);
    let stretch = Stretch {
        alerts: vec![alert(0, "u")],
        moves: vec![Move { partition: 0, from: 0, to: 1, place: None }],
        ..Stretch::default()
    };
    for error in [
        ProjectionStore::positions(&other).await.map(drop).expect_err("is taken"),
        ReviewStore::reset(&other).await.expect_err("is taken"),
    ] {
        assert!(!error.is_transient());
        let message = error.to_string();
        assert!(
            message.contains("made of journal journal-1, expected journal-2: two journals never share"),
            "{message}"
        );
    }
    // Even one that never looked writes nothing.
    let error = ProjectionStore::apply(&other, &stretch).await.expect_err("is taken");
    assert!(matches!(error, ReviewError::Moved { .. }), "{error}");
    assert_eq!(rows::newest(&mut prompt(&options).await).await.expect("reads"), 0);
}

#[tokio::test]
async fn tables_that_are_behind_or_ahead_are_refused_in_words() {
    let options = fresh();
    let strict = PostgresStore::new(&options, Settings { migrate: false, ..settings() });
    let error = ProjectionStore::positions(&strict).await.expect_err("is empty");
    assert!(error.to_string().contains("2 migration(s) behind; run `verdict migrate`"), "{error}");
    assert!(error.is_transient(), "somebody may run it meanwhile");
    assert_eq!(strict.migrate().await.expect("migrates"), 2);
    assert_eq!(strict.migrate().await.expect("nothing to do"), 0);
    ProjectionStore::positions(&strict).await.expect("goes on");
    let newer = "INSERT INTO verdict_migrations VALUES (9, 'later', now(), true, '\\x00', 1)";
    sqlx::raw_sql(newer).execute(&mut prompt(&options).await).await.expect("inserts");
    let later = PostgresStore::new(&options, settings());
    let error = ProjectionStore::positions(&later).await.expect_err("is newer");
    assert!(error.to_string().contains("migration 9, which this release does not know"), "{error}");
}

#[tokio::test]
async fn a_database_of_the_first_release_is_brought_up_with_its_positions() {
    let options = fresh();
    let store = PostgresStore::new(&options, settings());
    ProjectionStore::positions(&store).await.expect("claims it");
    fill(&store, 3).await;
    drop(store);
    let back = "ALTER TABLE projection_positions DROP COLUMN kafka_offset, DROP COLUMN kafka_epoch, DROP COLUMN kafka_n; \
                DELETE FROM verdict_migrations WHERE version = 2";
    sqlx::raw_sql(back).execute(&mut prompt(&options).await).await.expect("goes back");
    let strict = PostgresStore::new(&options, Settings { migrate: false, ..settings() });
    let error = ProjectionStore::positions(&strict).await.expect_err("is behind");
    assert!(error.to_string().contains("1 migration(s) behind"), "{error}");
    let store = PostgresStore::new(&options, settings());
    let reached = |partition, n| Reached { partition, n, place: None };
    assert_eq!(ProjectionStore::positions(&store).await.expect("brings it up"), [reached(0, 3), reached(1, 0)]);
    reflect(&store, &[alert(5, "u")], 4).await.expect("writes on");
}

/// A day that moves on.
struct Days(AtomicI64, Instant);

impl TimeSource for Days {
    fn now(&self) -> Timestamp {
        NOON + self.0.load(Ordering::Relaxed) * DAY_MS
    }

    fn instant(&self) -> Instant {
        self.1
    }
}

#[tokio::test]
async fn days_of_decisions_come_and_go() {
    let options = fresh();
    let days = Arc::new(Days(AtomicI64::new(0), crate::telemetry::clock::instant()));
    let clock = Clock::Given(Arc::clone(&days) as _);
    let store = PostgresStore::new(&options, Settings { decision_days: 2, clock, ..settings() });
    ProjectionStore::positions(&store).await.expect("claims it");
    let decided = |n: u64, day: i64| {
        let Body::Decision(decided) = samples::alert(0, 1, n, "u").body else { panic!("expected a decision") };
        let evaluated_at = NOON + day * DAY_MS;
        let decided = Arc::new(crate::journal::record::Decided { evaluated_at, ..(*decided).clone() });
        DecidedAt { partition: 0, n, decided }
    };
    let apply = async |from, decided: Vec<DecidedAt>| {
        let moves = vec![Move { partition: 0, from, to: from + 1, place: None }];
        ProjectionStore::apply(&store, &Stretch { decided, moves, ..Stretch::default() }).await.expect("applies");
    };
    let partitions = async || {
        let sql = "SELECT relname::text FROM pg_class WHERE relname LIKE 'decisions\\_2%' AND relkind = 'r' ORDER BY 1";
        let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut prompt(&options).await).await.expect("reads");
        names.iter().map(|name| name["decisions_202611".len()..].to_owned()).collect::<Vec<_>>()
    };
    let count = async || {
        let row = sqlx::query("SELECT count(*) FROM decisions").fetch_one(&mut prompt(&options).await).await;
        row.expect("reads").get::<i64, _>(0)
    };
    assert_eq!(partitions().await, ["23", "24", "25"]);
    // Two days are kept before today, older ones are not looked for; the same again is nothing.
    apply(0, vec![decided(0, 0), decided(1, -2), decided(2, -3)]).await;
    apply(1, vec![decided(0, 0), decided(1, -2), decided(2, -3)]).await;
    assert_eq!((partitions().await, count().await), (vec!["21".into(), "23".into(), "24".into(), "25".into()], 2));
    days.0.store(1, Ordering::Relaxed);
    ProjectionStore::positions(&store).await.expect("a look is enough");
    assert_eq!((partitions().await, count().await), (vec!["23".into(), "24".into(), "25".into(), "26".into()], 1));
    // Somebody reads a day that is over: it stays until tomorrow, and nothing waits for them.
    let mut reading = prompt(&options).await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM decisions").execute(&mut reading).await.expect("reads");
    days.0.store(3, Ordering::Relaxed);
    apply(2, vec![decided(3, 3)]).await;
    assert_eq!(partitions().await, ["23", "24", "25", "26", "27", "28"]);
    drop(reading);
    days.0.store(4, Ordering::Relaxed);
    apply(3, vec![decided(4, 4)]).await;
    assert_eq!(
        (partitions().await, count().await),
        (vec!["25".into(), "26".into(), "27".into(), "28".into(), "29".into()], 2)
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let server = Postgres::start();
    let options: PgConnectOptions = server.url().parse().expect("a URL");
    let store = PostgresStore::new(&options, settings());
    ProjectionStore::positions(&store).await.expect("claims it");
    let alerts = fill(&store, 2).await;
    server.pause();
    let asked = async || {
        let error = store.place(None).await.map(drop).expect_err("nobody answers");
        let ReviewError::Store(why) = store.told(error) else { panic!("expected a failure of the store") };
        assert!(why.contains("expected the server to connect within 3 s, given up"), "{why}");
    };
    // A write, and more readers at once than there are connections.
    let written = async { reflect(&store, &[alert(5, "u")], 3).await.expect_err("nobody answers") };
    let all = async { tokio::join!(written, asked(), asked(), asked(), asked(), asked()) };
    tokio::time::timeout(Duration::from_secs(25), all).await.expect("in bounded time");
    server.resume();
    assert_eq!(store.place(Some(id_of(&alerts[1]))).await.expect("answers again"), Some(2));
    reflect(&store, &[alert(5, "u")], 3).await.expect("writes again");
    // Its connections end with it, and others are made.
    server.restart();
    for _ in 0..4 {
        store.place(None).await.expect("the connections of before were given up");
    }
    reflect(&store, &[alert(6, "u")], 4).await.expect("writes again");
}

#[tokio::test]
async fn a_slip_at_the_prompt_is_refused_in_words() {
    let subject = subjects().await.remove(1);
    let alerts = fill(&*subject.store, 1).await;
    let id = &alerts[0].alert_id;
    let insert = |columns: &str, values: &str| format!("INSERT INTO alert_reviews ({columns}) VALUES ({values})");
    let table = [
        (
            insert("alert_id, status", &format!("'{id}', 'fraud'")),
            "violates check constraint \"alert_reviews_status_check\"",
        ),
        (insert("alert_id, status", "'7', 'in_review'"), "invalid input syntax for type uuid"),
        (insert("alert_id, status, at", &format!("'{id}', 'in_review', to_timestamp(1795435)")), "after 1999"),
        (
            insert("alert_id, status, at", &format!("'{id}', 'in_review', now() + interval '2 days'")),
            "at most a day ahead",
        ),
    ];
    for (sql, expected) in table {
        let message = subject.by_hand("", &sql).await.expect_err(&sql);
        assert!(message.contains(expected), "{sql}: {message}");
    }
    let said = insert("alert_id, status", &format!("'{}', 'confirmed_fraud'", id.to_uppercase()));
    subject.by_hand("", &said).await.expect("inserts");
    assert_eq!(subject.store.unlabelled((0, 0), 9).await.expect("reads").len(), 1);
    subject.by_hand("", "UPDATE alert_reviews SET note = 'found later'").await.expect("a note may be added to");
}

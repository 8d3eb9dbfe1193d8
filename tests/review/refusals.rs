//! Databases that a start refuses, and what it says.

use super::{decide, query, start, with_database};
use tempfile::TempDir;
use verdict_tests::servers::Postgres;
use verdict_tests::{Service, command, finish, until};

#[test]
fn a_database_is_brought_up_when_somebody_says_so() {
    let url = Postgres::shared().fresh_database();
    let strict = || Service::builder().arg("--model").arg("").env("VERDICT__POSTGRES__URL", &url);
    let refused = strict().try_start().unwrap_err();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("2 migration(s) behind; run `verdict migrate`"), "{}", refused.stderr);
    let migrate = || finish(command(["migrate"]).env("VERDICT__POSTGRES__URL", &url));
    assert_eq!(migrate().success().stdout, b"the database is up to date: 2 migration(s) done\n");
    assert_eq!(migrate().success().stdout, b"the database is up to date already\n");
    let service = strict().folder(refused.folder).start();
    decide(&service, "u", "t", "5000.01");
    until("the alert", || (query(&url, "SELECT count(*) FROM fraud_alerts") == "1").then_some(()));
    let comments =
        "SELECT count(*) FROM pg_description WHERE objoid IN ('fraud_alerts'::regclass, 'alert_queue'::regclass)";
    assert!(query(&url, comments).parse::<u32>().unwrap() > 10, "analysts are told what they see");
    let none = finish(&mut command(["migrate"]));
    assert_eq!(none.status.code(), Some(2));
    assert!(none.stderr.contains("names no database: set postgres.url"), "{}", none.stderr);
}

#[test]
fn the_database_of_another_journal_is_refused() {
    let url = Postgres::shared().fresh_database();
    let first = start(&url, TempDir::new().unwrap());
    decide(&first, "u", "t", "5000.01");
    let refused = with_database(&url).try_start().unwrap_err();
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("two journals never share one; name another database"), "{}", refused.stderr);
    let mut other = command(["rebuild", "review"]);
    other.arg("--data-dir").arg(refused.folder.path().join("data")).env("VERDICT__POSTGRES__URL", &url);
    let other = finish(&mut other);
    assert!(!other.status.success() && other.stderr.contains("two journals never share one"), "{}", other.stderr);
    // The first one is none the worse for it.
    until("the alert", || (query(&url, "SELECT count(*) FROM fraud_alerts") == "1").then_some(()));
}

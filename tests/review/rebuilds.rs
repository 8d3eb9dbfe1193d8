//! Tables that were emptied, filled again from the journal; what people wrote stays.

use super::{assert_books, caught_up, count, decide, query, start};
use std::path::Path;
use tempfile::TempDir;
use verdict_tests::servers::Postgres;
use verdict_tests::{command, finish, until};

fn rebuild(url: &str, folder: &Path) -> String {
    let mut command = command(["rebuild", "review"]);
    command.arg("--data-dir").arg(folder.join("data")).env("VERDICT__POSTGRES__URL", url);
    String::from_utf8(finish(&mut command).success().stdout).unwrap()
}

const SHOWN: &str =
    "SELECT string_agg(alert::text, E'\\n' ORDER BY alert_id) FROM (SELECT * FROM alert_queue) AS alert";

#[test]
fn emptied_tables_are_filled_again_beside_the_service_and_without_it() {
    let url = Postgres::shared().fresh_database();
    let service = start(&url, TempDir::new().unwrap());
    for number in 0..40 {
        decide(&service, &format!("u-{number}"), "t-1", if number % 2 == 0 { "5000.01" } else { "1.00" });
    }
    caught_up(&service);
    query(
        &url,
        "INSERT INTO alert_reviews (alert_id, status, note) SELECT alert_id, 'confirmed_fraud', 'mine' FROM fraud_alerts LIMIT 7",
    );
    until("the labels that follow", || (count(&url, "labels") == 7).then_some(()));
    let (shown, reviews) = (query(&url, SHOWN), query(&url, "TABLE alert_reviews"));
    let reached = || query(&url, "SELECT sum(n) FROM projection_positions");
    let before = reached();
    // Nothing was lost: nothing changes.
    let said = rebuild(&url, service.folder());
    assert_eq!(said, "the service reads the journal again from its start, now if it runs\n");
    until("all to be read again", || (reached() == before).then_some(()));
    assert_eq!(query(&url, SHOWN), shown);

    query(&url, "TRUNCATE fraud_alerts, decisions, labels");
    rebuild(&url, service.folder());
    // Decisions go on, and join what is filled again.
    decide(&service, "u-40", "t-1", "1.00");
    until("all decisions", || (count(&url, "decisions") == 41).then_some(()));
    caught_up(&service);
    assert_eq!((query(&url, SHOWN), query(&url, "TABLE alert_reviews")), (shown.clone(), reviews.clone()));
    assert_eq!(count(&url, "labels"), 7);

    // The positions wiped as well, by somebody who thought of everything: the service reads again by itself.
    query(&url, "TRUNCATE fraud_alerts, decisions, labels, projection_positions");
    until("all decisions", || (count(&url, "decisions") == 41).then_some(()));
    let stopped = service.terminate();
    assert_eq!(assert_books(&url, stopped.folder.path()), 41);
    query(&url, "TRUNCATE fraud_alerts, decisions, labels");
    let said = rebuild(&url, stopped.folder.path());
    assert!(said.ends_with(" records of the journal were read again\n"), "{said}");
    assert_eq!(assert_books(&url, stopped.folder.path()), 41);
    assert_eq!((query(&url, SHOWN), query(&url, "TABLE alert_reviews")), (shown, reviews));
}

//! PostgreSQL: committed rows outlive a kill of all its processes; held, it answers nothing; databases are apart.

use super::{assert_gone, output, processes};
use std::process::{Command, Stdio};
use std::time::Duration;
use verdict_tests::servers::Postgres;
use verdict_tests::within;

fn query(url: &str, sql: &str) -> Result<String, String> {
    output("psql", &["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", url, "--command", sql])
}

#[test]
fn committed_rows_outlive_a_kill() {
    let server = Postgres::start();
    query(server.url(), "CREATE TABLE alerts (id int); INSERT INTO alerts VALUES (7)").unwrap();
    assert!(processes(server.folder()).len() > 3, "it has processes of its own");
    server.kill();
    assert_eq!(processes(server.folder()), Vec::<u32>::new());
    query(server.url(), "SELECT 1").unwrap_err();
    server.restart();
    assert_eq!(query(server.url(), "SELECT id FROM alerts").unwrap(), "7\n");
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
    let folder = server.folder().to_owned();
    drop(server);
    assert_gone(&folder);
}

#[test]
fn a_held_server_answers_when_it_goes_on() {
    let server = Postgres::start();
    server.pause();
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", server.url(), "--command", "SELECT 1"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut client = psql.spawn().unwrap();
    assert!(within(Duration::from_millis(300), || client.try_wait().unwrap()).is_none(), "a held server answered");
    server.resume();
    assert!(client.wait().unwrap().success());
}

#[test]
fn databases_of_the_shared_server_are_apart() {
    let databases = [Postgres::shared().fresh_database(), Postgres::shared().fresh_database()];
    for (at, url) in databases.iter().enumerate() {
        query(url, &format!("CREATE TABLE own AS SELECT {at} AS id")).unwrap();
    }
    for (at, url) in databases.iter().enumerate() {
        assert_eq!(query(url, "SELECT id FROM own").unwrap(), format!("{at}\n"));
    }
}

#[test]
fn nobody_enters_without_the_password() {
    let url = Postgres::shared().url();
    let (_, place) = url.split_once('@').unwrap();
    let refused = query(&format!("postgres://verdict:wrong@{place}"), "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
}

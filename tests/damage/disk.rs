//! A disk that takes no more: nothing is answered that is not on it, and it heals by itself.
//!
//! A limit on the size of files stands in for a full disk: every write fails from one moment on, for any user and on any
//! machine, and can be allowed again while the service runs.

use super::files::History;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;
use verdict_tests::{Builder, Payment, Service, login, now_ms, until, verdict, verify};

/// Writes beyond the limit fail with an error, as on a full disk, instead of ending the process.
fn patient(keep: &TempDir) -> PathBuf {
    let path = keep.path().join("patient");
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", verdict().display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn builder(keep: &TempDir) -> Builder {
    Service::builder().binary(patient(keep)).env("VERDICT__DATA__CHECKPOINT_SECS", "1")
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let keep = TempDir::new().unwrap();
    let service = builder(&keep).start();
    let before = History::send(&service, "before", 40);
    service.limit_file_bytes(Some(1));

    let lost = Payment::new("user-before-1", "while-full", "7.77");
    let first = service.post("/v1/decide", &lost.text());
    assert_eq!((first.status, &first.json()["code"]), (503, &"JOURNAL_UNAVAILABLE".into()), "{}", first.body);
    assert_eq!(first.header("retry-after"), "5");
    let said = until("/readyz to name the cause", || {
        let answer = service.get("/readyz");
        (answer.status == 503 && answer.body.contains("journal")).then_some(answer.body)
    });
    assert!(said.contains("disk"), "{said}");
    for _ in 0..20 {
        let answer = service.post("/v1/decide", &lost.text());
        let code = answer.json()["code"].clone();
        assert!(answer.status == 503 && (code == "RECOVERING" || code == "JOURNAL_UNAVAILABLE"), "{}", answer.body);
    }
    let seen = login("user-before-1", "l-1", now_ms(), (1.0, 2.0)).to_string();
    assert_eq!(service.post("/v1/logins", &seen).status, 503);
    assert_eq!(service.get("/healthz").status, 200);
    assert!(service.get("/metrics").body.contains("verdict_journal_failures_total"), "metrics go on");

    service.limit_file_bytes(None);
    let healed = until("the service to heal by itself", || {
        let answer = service.post("/v1/decide", &lost.text());
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!((&healed["durable"], &healed["duplicate"]), (&true.into(), &false.into()), "it was never decided");
    until("/readyz", || (service.get("/readyz").status == 200).then_some(()));
    assert_eq!(before.known_prefix(&service), 40, "what was answered before is still known");
    let profile = service.get("/v1/users/user-before-1/profile").json();
    assert_eq!(profile["features"]["user_count_30d"], 7, "6 before, and one that was decided in the end: {profile}");

    let folder = service.terminate().folder;
    verify(folder.path());
    let service = Service::builder().folder(folder).start();
    assert_eq!(before.known_prefix(&service), 40);
    let again = service.post("/v1/decide", &lost.text()).json();
    assert_eq!((&again["duplicate"], &again["decision_id"]), (&true.into(), &healed["decision_id"]));
}

#[test]
fn a_disk_that_stays_full_loses_nothing_that_was_answered() {
    let keep = TempDir::new().unwrap();
    let service = builder(&keep).start();
    let before = History::send(&service, "kept", 20);
    service.limit_file_bytes(Some(1));
    let lost = Payment::new("user-kept-1", "while-full", "7.77");
    assert_eq!(service.post("/v1/decide", &lost.text()).status, 503);
    let stopped = service.terminate();
    println!("asked to stop on a full disk, it ended with {}", stopped.status);
    let service = Service::builder().folder(stopped.folder).start();
    assert_eq!(before.known_prefix(&service), 20);
    let now = service.post("/v1/decide", &lost.text()).json();
    assert_eq!(now["durable"], true, "{now}");
    verify(service.kill().folder.path());
}

#[test]
fn a_directory_that_cannot_be_written_stops_the_start() {
    for dir in ["/proc/verdict-data", "FILE"] {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let dir = if dir == "FILE" { file.display().to_string() } else { dir.to_owned() };
        let ended = verdict_tests::run(["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        let expected = format!("expected a directory that this user may write to at {dir}");
        assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    }
}

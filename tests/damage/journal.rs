//! Harm to `journal.db` and its log: what was cut off is forgotten from its end, what was changed is refused.

use super::files::{History, copy, decides_nothing, flip_after, merge_log, not_ready, remove};
use fastrand::Rng;
use std::fs::{self, OpenOptions};
use verdict_tests::{Payment, Service, now_ms, replay, setting, sqlite, until, verify};

/// No checkpoint of its own until it stops: what counts is in the journal alone.
fn start() -> Service {
    Service::builder().env("VERDICT__DATA__CHECKPOINT_SECS", "3600").start()
}

#[test]
fn a_torn_log_leaves_a_consistent_beginning() {
    let seed = setting("VERDICT_SEED", now_ms().unsigned_abs());
    println!("VERDICT_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let service = start();
    let history = History::send(&service, "torn", 60);
    let origin = service.kill().folder;
    let mut known = Vec::new();
    for round in 0..8 {
        let folder = copy(origin.path());
        // The alerts would be ahead of the journal, which holds nothing up; that is not asked here.
        remove(folder.path(), "review.db");
        let log = folder.path().join("data/journal.db-wal");
        let length = fs::metadata(&log).unwrap().len();
        match round {
            0 => fs::remove_file(&log).unwrap(),
            1..5 => OpenOptions::new().write(true).open(&log).unwrap().set_len(rng.u64(..length)).unwrap(),
            _ => {
                let mut bytes = fs::read(&log).unwrap();
                let place = rng.usize(..bytes.len());
                bytes[place] ^= 1 << rng.u8(..8);
                fs::write(&log, bytes).unwrap();
            }
        }
        if round > 0 || fs::metadata(folder.path().join("data/journal.db")).unwrap().len() > 4_096 {
            // A log that lost its first page leaves a file without tables, which only a start gives it.
            let ended = replay(folder.path());
            assert!(ended.status.success() || ended.stderr.contains("journal"), "{}", ended.stderr);
        }
        let service = Service::builder().folder(folder).start();
        known.push(history.known_prefix(&service));
        verify(service.kill().folder.path());
    }
    println!("of {} payments, torn logs kept {known:?}", history.payments.len());
    let whole = Service::builder().folder(origin).start();
    assert_eq!(history.known_prefix(&whole), history.payments.len(), "a kill alone loses nothing");
}

#[test]
fn a_flipped_bit_in_a_batch_is_refused_with_file_and_batch() {
    let service = start();
    let history = History::send(&service, "flip", 30);
    let folder = service.terminate().folder;
    merge_log(folder.path(), "journal.db");
    flip_after(&folder.path().join("data/journal.db"), b"flip-0014");

    // Nobody reads that batch at a start with a checkpoint; who asks for it is refused, and nobody else.
    let service = Service::builder().folder(folder).start();
    let damaged = service.post("/v1/decide", &history.payments[14].text());
    assert_eq!((damaged.status, &damaged.json()["code"]), (503, &"ORIGINAL_UNAVAILABLE".into()), "{}", damaged.body);
    let fine = service.post("/v1/decide", &history.payments[15].text());
    assert_eq!((fine.status, &fine.json()["duplicate"]), (200, &true.into()), "{}", fine.body);
    let new = service.post("/v1/decide", &Payment::new("new", "new", "1.00").text());
    assert_eq!((new.status, &new.json()["durable"]), (200, &true.into()), "{}", new.body);
    assert!(service.stderr().contains("journal.db is damaged at batch"), "{}", service.stderr());
    let folder = service.terminate().folder;

    let ended = replay(folder.path());
    assert_eq!(ended.status.code(), Some(1));
    let batch = ended.stderr.split("is damaged at batch ").nth(1).unwrap_or_else(|| panic!("{}", ended.stderr));
    let batch: u64 = batch.split(':').next().unwrap().parse().unwrap();
    assert!((10..=15).contains(&batch), "payments were sent one at a time: {batch}");

    // A start that must read it refuses to serve, and says so.
    remove(folder.path(), "profiles.db");
    let service = Service::builder().folder(folder).spawn_only();
    let said = not_ready(&service, &format!("journal.db is damaged at batch {batch}"));
    assert!(said.contains("restore the file from a copy"), "{said}");
    decides_nothing(&service, &history.payments[15]);
    decides_nothing(&service, &Payment::new("new", "newer", "1.00"));
    assert!(service.terminate().status.success());
}

#[test]
fn a_flipped_bit_in_the_last_batch_stops_the_start() {
    let service = start();
    History::send(&service, "last", 5);
    let folder = service.terminate().folder;
    merge_log(folder.path(), "journal.db");
    flip_after(&folder.path().join("data/journal.db"), b"last-0004");
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stopped.stderr.contains("journal.db is damaged at batch 5"), "{}", stopped.stderr);
}

#[test]
fn a_missing_batch_is_refused() {
    let service = start();
    let history = History::send(&service, "gone", 20);
    let folder = service.terminate().folder;
    let journal = folder.path().join("data/journal.db");
    sqlite(&journal, "DELETE FROM batches WHERE seq = 10");
    let ended = replay(folder.path());
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("damaged at batch 10: the batch is missing"), "{}", ended.stderr);
    remove(folder.path(), "profiles.db");
    let service = Service::builder().folder(folder).spawn_only();
    not_ready(&service, "damaged at batch 10: the batch is missing");
    decides_nothing(&service, &history.payments[3]);
}

#[test]
fn a_journal_that_lost_its_end_is_behind_its_checkpoint() {
    let service = start();
    let history = History::send(&service, "end", 20);
    let folder = service.terminate().folder;
    sqlite(&folder.path().join("data/journal.db"), "DELETE FROM batches WHERE seq = (SELECT max(seq) FROM batches)");
    let service = Service::builder().folder(folder).spawn_only();
    not_ready(&service, "journal.db is older than profiles.db");
    // The user of the last payment is on the shard that found it; the other one may serve.
    let last = history.payments.last().unwrap();
    until("a refusal", || (service.post("/v1/decide", &last.text()).status == 503).then_some(()));
}

#[test]
fn a_file_that_is_no_journal_is_refused() {
    let folder = start().terminate().folder;
    // What a log still holds would stand in for the file.
    merge_log(folder.path(), "journal.db");
    fs::write(folder.path().join("data/journal.db"), "not a database, but long enough to be one. ".repeat(200))
        .unwrap();
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stopped.stderr.contains("journal.db") && stopped.stderr.contains("restore it"), "{}", stopped.stderr);
}

#[test]
fn another_number_of_partitions_is_refused() {
    let folder = start().terminate().folder;
    let stopped = Service::builder().folder(folder).env("VERDICT__DATA__PARTITIONS", "5").try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stopped.stderr.contains("created with 12 partitions"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("set data.partitions = 12"), "{}", stopped.stderr);
}

#[test]
fn a_replay_needs_the_rules_and_the_model_that_decided() {
    let service = start();
    History::send(&service, "archive", 3);
    let folder = service.terminate().folder;
    for part in ["rulesets", "models"] {
        let archive = folder.path().join("data/archive").join(part);
        let aside = folder.path().join("aside");
        fs::rename(&archive, &aside).unwrap();
        let ended = replay(folder.path());
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&archive.display().to_string()), "{}", ended.stderr);
        fs::rename(&aside, &archive).unwrap();
    }
    verify(folder.path());
    // A start with the same rules and model puts them back.
    fs::remove_dir_all(folder.path().join("data/archive")).unwrap();
    let folder = Service::builder().folder(folder).start().terminate().folder;
    verify(folder.path());
}

//! Harm to the files of the journal: what a crash tore is forgotten from its end, what was changed is refused.

use super::files::{History, batches, copy, decides_nothing, flip_after, lose_after, not_ready, remove, segment};
use fastrand::Rng;
use std::fs;
use verdict_tests::{Payment, Service, now_ms, replay, setting, until, verify};

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
        let log = segment(folder.path());
        // A kill leaves space behind the last batch, which begins here.
        let (first, last) = (batches(folder.path())[0], *batches(folder.path()).last().unwrap());
        let mut bytes = fs::read(&log).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        match round {
            0 => bytes.truncate(first),
            1..5 => bytes.truncate(rng.usize(first..end)),
            _ => bytes[rng.usize(last..end)] ^= 1 << rng.u8(..8),
        }
        fs::write(&log, bytes).unwrap();
        let ended = replay(folder.path());
        assert!(ended.status.success(), "{}", ended.stderr);
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

    // Of a start from a checkpoint nobody holds that record in memory; who asks for it is refused, and nobody else.
    let service = Service::builder().folder(folder).start();
    flip_after(&segment(service.folder()), b"flip-0014");
    let damaged = service.post("/v1/decide", &history.payments[14].text());
    assert_eq!((damaged.status, &damaged.json()["code"]), (503, &"ORIGINAL_UNAVAILABLE".into()), "{}", damaged.body);
    let fine = service.post("/v1/decide", &history.payments[15].text());
    assert_eq!((fine.status, &fine.json()["duplicate"]), (200, &true.into()), "{}", fine.body);
    let new = service.post("/v1/decide", &Payment::new("new", "new", "1.00").text());
    assert_eq!((new.status, &new.json()["durable"]), (200, &true.into()), "{}", new.body);
    let folder = service.terminate().folder;
    let file = "journal/00000000000000000001.log is damaged at batch ";

    let ended = replay(folder.path());
    assert_eq!(ended.status.code(), Some(1));
    let batch = ended.stderr.split("is damaged at batch ").nth(1).unwrap_or_else(|| panic!("{}", ended.stderr));
    let batch: u64 = batch.split(':').next().unwrap().parse().unwrap();
    assert!((10..=20).contains(&batch), "payments were sent one at a time, after the shards' epochs: {batch}");

    // The last file is read whole at a start, which refuses to go on, and says so.
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stopped.stderr.contains(&format!("{file}{batch}")), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("restore the file from a copy"), "{}", stopped.stderr);
}

#[test]
fn a_flipped_bit_in_the_last_batch_stops_the_start() {
    let service = start();
    History::send(&service, "last", 5);
    let folder = service.terminate().folder;
    flip_after(&segment(folder.path()), b"last-0004");
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    let expected = "journal/00000000000000000001.log is damaged at batch ";
    assert!(
        stopped.stderr.contains(expected),
        "the clean stop behind it tells it from a torn write: {}",
        stopped.stderr
    );
}

#[test]
fn a_missing_batch_is_refused() {
    let service = start();
    History::send(&service, "gone", 20);
    let folder = service.terminate().folder;
    let places = batches(folder.path());
    let mut bytes = fs::read(segment(folder.path())).unwrap();
    bytes[places[9]..places[10]].fill(0);
    fs::write(segment(folder.path()), bytes).unwrap();
    let ended = replay(folder.path());
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("damaged at batch 10: the batch is missing"), "{}", ended.stderr);
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert!(stopped.stderr.contains("damaged at batch 10: the batch is missing"), "{}", stopped.stderr);
}

#[test]
fn a_missing_file_is_behind_its_checkpoint() {
    let service = start();
    let history = History::send(&service, "file", 20);
    let folder = service.terminate().folder;
    fs::remove_file(segment(folder.path())).unwrap();
    let service = Service::builder().folder(folder).spawn_only();
    not_ready(&service, "the folder journal is older than profiles.db");
    decides_nothing(&service, &history.payments[3]);
}

#[test]
fn a_journal_that_lost_its_end_is_behind_its_checkpoint() {
    let service = start();
    let history = History::send(&service, "end", 20);
    let folder = service.terminate().folder;
    lose_after(folder.path(), b"end-0018");
    let service = Service::builder().folder(folder).spawn_only();
    not_ready(&service, "the folder journal is older than profiles.db");
    // The user of the last payment is on the shard that found it; the other one may serve.
    let last = history.payments.last().unwrap();
    until("a refusal", || (service.post("/v1/decide", &last.text()).status == 503).then_some(()));
}

#[test]
fn a_file_that_is_no_journal_is_refused() {
    let folder = start().terminate().folder;
    fs::write(segment(folder.path()), "not a journal, but long enough to be one. ".repeat(200)).unwrap();
    let stopped = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stopped.stderr.contains("is no journal segment of this service; restore it"), "{}", stopped.stderr);
}

#[test]
fn a_folder_of_the_older_layout_is_refused() {
    let folder = start().terminate().folder;
    fs::write(folder.path().join("data/journal.db"), "SQLite format 3").unwrap();
    let ended = Service::builder().folder(folder).try_start().unwrap_err();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("journal.db was written by an earlier"), "{}", ended.stderr);
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

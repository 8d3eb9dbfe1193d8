//! What is particular to the file: restarts, damage, torn tails and failing writes.

use super::file_in;
use crate::journal::contract::{own, replayed};
use crate::journal::record::Record;
use crate::journal::{AppendError, DirLock, Journal, JournalError, Partition, SqliteJournal, samples};
use futures_util::TryStreamExt;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::path::Path;
use tempfile::TempDir;

async fn open(dir: &Path) -> SqliteJournal {
    SqliteJournal::open(dir, 2).await.expect("opens")
}

/// A connection beside the journal's own, as a curious operator might have.
async fn outsider(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file_in(dir)).connect().await.expect("connects")
}

async fn execute(dir: &Path, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut outsider(dir).await).await.expect("executes");
}

/// A closed journal of ten batches of three records in partition 0 and one in partition 1.
async fn ten_batches() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epochs = own(&journal).await;
    for batch in 0..10 {
        let mut records: Vec<Record> = (0..3).map(|n| samples::decision(0, epochs[0], batch * 3 + n)).collect();
        records.push(samples::login(1, epochs[1], batch));
        journal.append(records).await.expect("durable");
    }
    drop(journal);
    dir
}

async fn replay(journal: &SqliteJournal, from: &[(Partition, u64)]) -> Result<Vec<Record>, JournalError> {
    journal.replay(from.to_vec()).try_collect().await
}

/// Opening or replaying must be refused, at this batch and with these words.
async fn expect_damage(dir: &Path, batch: u64, what: &str) {
    let found = match SqliteJournal::open(dir, 2).await {
        Ok(journal) => replay(&journal, &[(0, 0), (1, 0)]).await.map(|records| records.len()),
        Err(error) => Err(error),
    };
    match found {
        Err(JournalError::Damaged { file, batch: at, what: found }) => {
            assert_eq!((&*file, at), (file_in(dir).display().to_string().as_str(), batch), "{found}");
            assert!(found.contains(what), "{found}");
        }
        other => panic!("expected damage at batch {batch}, found {other:?}"),
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_it_ended() {
    let dir = ten_batches().await;
    let journal = open(dir.path()).await;
    assert_eq!(*journal.durable().borrow(), [30, 10]);
    let tenure = journal.take_over(vec![1]).await.expect("takes over")[0];
    assert_eq!((tenure.epoch, tenure.next_n), (2, 10));
    journal.append(vec![samples::login(1, 2, 10)]).await.expect("durable");
    assert_eq!(replayed(&journal, &[(0, 0), (1, 0)]).await.len(), 41);
    // From a cursor in the middle: whole batches before it are not read, single records are left out.
    let tail = replayed(&journal, &[(0, 28), (1, 9)]).await;
    let found: Vec<_> = tail.iter().map(|record| (record.partition, record.n)).collect();
    assert_eq!(found, [(0, 28), (0, 29), (1, 9), (1, 10)]);
    for n in 0..30 {
        assert_eq!(journal.read(0, n).await.expect("reads"), Some(samples::decision(0, 1, n)));
    }
}

#[tokio::test]
async fn every_cursor_is_found() {
    let dir = ten_batches().await;
    let journal = open(dir.path()).await;
    for from_0 in 0..=31 {
        for from_1 in [0, 4, 9, 10, 11] {
            let found = replayed(&journal, &[(0, from_0), (1, from_1)]).await;
            let count = |partition| found.iter().filter(|record| record.partition == partition).count() as u64;
            assert_eq!((count(0), count(1)), (30_u64.saturating_sub(from_0), 10_u64.saturating_sub(from_1)));
        }
    }
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = ten_batches().await;
    let error = SqliteJournal::open(dir.path(), 12).await.expect_err("refused").to_string();
    let expected = "was created with 2 partitions, the configuration says 12; set data.partitions = 2, or use another";
    assert!(error.contains(expected), "{error}");
    let error = SqliteJournal::open(dir.path(), 0).await.expect_err("refused").to_string();
    assert!(error.contains("expected 1 to 1024 partitions, found 0"), "{error}");
}

#[tokio::test]
async fn a_changed_value_is_found() {
    let changes: [(&'static str, u64, &str); 8] = [
        ("UPDATE batches SET body = substr(body, 1, 99) || x'00' || substr(body, 101) WHERE seq = 4", 4, "checksum"),
        ("UPDATE batches SET ends = x'0d00000000000000' || substr(ends, 9) WHERE seq = 4", 4, "checksum"),
        ("UPDATE batches SET checksum = checksum + 1 WHERE seq = 10", 10, "checksum"),
        ("UPDATE batches SET checksum = 'none' WHERE seq = 10", 10, "mismatched types"),
        ("UPDATE batches SET ends = x'00' WHERE seq = 10", 10, "checksum"),
        ("DELETE FROM batches WHERE seq = 4", 4, "the batch is missing"),
        ("DELETE FROM batches WHERE seq = 1", 1, "the batch is missing"),
        ("UPDATE batches SET seq = 11 WHERE seq = 10", 11, "checksum"),
    ];
    for (sql, batch, what) in changes {
        let dir = ten_batches().await;
        execute(dir.path(), sql).await;
        expect_damage(dir.path(), batch, what).await;
    }
}

#[tokio::test]
async fn a_batch_from_elsewhere_does_not_fit() {
    let dir = ten_batches().await;
    // Checksum and frames of batch 5 are right, its numbers do not follow batch 3.
    execute(dir.path(), "DELETE FROM batches WHERE seq = 4").await;
    let mut outsider = outsider(dir.path()).await;
    let (ends, body): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT ends, body FROM batches WHERE seq = 5").fetch_one(&mut outsider).await.expect("a batch");
    sqlx::query("INSERT INTO batches (seq, ends, checksum, body) VALUES (4, ?, ?, ?)")
        .bind(&ends)
        .bind(super::batch::checksum(4, &ends, &body))
        .bind(&body)
        .execute(&mut outsider)
        .await
        .expect("inserts");
    expect_damage(dir.path(), 4, "expected record 9 of partition 0, found 12").await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_raw_file_is_found() {
    let dir = ten_batches().await;
    // The last connection to close has emptied the write-ahead log, so the rows are in the main file.
    let mut bytes = std::fs::read(file_in(dir.path())).expect("reads");
    let at = bytes.windows(6).position(|window| window == b"t-0-13").expect("the record of the fifth batch");
    bytes[at] ^= 0x20;
    std::fs::write(file_in(dir.path()), bytes).expect("writes");
    expect_damage(dir.path(), 5, "checksum").await;
    // Readers that need nothing of that batch, nor to know that the next one follows it, go on.
    let journal = open(dir.path()).await;
    assert_eq!(replay(&journal, &[(0, 18)]).await.expect("after it").len(), 12);
    assert!(journal.read(0, 11).await.expect("before it").is_some());
    assert!(matches!(journal.read(0, 13).await, Err(JournalError::Damaged { batch: 5, .. })));
}

#[tokio::test]
async fn a_torn_page_is_found() {
    let dir = ten_batches().await;
    let bytes = std::fs::read(file_in(dir.path())).expect("reads");
    // The last pages hold the last batches; without them SQLite itself finds the file malformed.
    std::fs::write(file_in(dir.path()), &bytes[..bytes.len() - 3 * 4_096]).expect("writes");
    match SqliteJournal::open(dir.path(), 2).await {
        Err(JournalError::Store(what)) => assert!(what.contains("restore it from a copy"), "{what}"),
        other => panic!("expected a refusal, found {:?}", other.map(|_| ())),
    }
}

/// What a power cut may leave of the write-ahead log: any prefix of it, or a last part that is garbage.
#[tokio::test]
async fn a_torn_log_loses_what_was_never_confirmed_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epoch = own(&journal).await[0];
    let log = dir.path().join("journal.db-wal");
    // Number of durable records by the length that the log had then.
    let mut confirmed = Vec::new();
    for n in 0..12 {
        journal.append(vec![samples::decision(0, epoch, n)]).await.expect("durable");
        confirmed.push((std::fs::metadata(&log).expect("a log").len(), n + 1));
    }
    let whole = std::fs::read(&log).expect("reads");
    let cuts = (confirmed[0].0..=whole.len() as u64).step_by(1_500).chain(confirmed.iter().map(|(length, _)| *length));
    for cut in cuts {
        for garbage in [0, 5_000] {
            let torn = tempfile::tempdir().expect("a directory");
            std::fs::copy(file_in(dir.path()), file_in(torn.path())).expect("copies");
            let mut tail = whole[..cut as usize].to_vec();
            tail.resize(tail.len() + garbage, 0xa5);
            std::fs::write(torn.path().join("journal.db-wal"), tail).expect("writes");

            let kept = confirmed.iter().filter(|(length, _)| *length <= cut).map(|(_, n)| *n).max().expect("one");
            let journal = open(torn.path()).await;
            assert_eq!(*journal.durable().borrow(), [kept, 0], "cut at {cut}");
            let records = replayed(&journal, &[(0, 0)]).await;
            assert_eq!(records.iter().map(|record| record.n).collect::<Vec<_>>(), (0..kept).collect::<Vec<_>>());
            let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
            assert_eq!(tenure.next_n, kept);
            journal.append(vec![samples::login(0, tenure.epoch, kept)]).await.expect("durable");
        }
    }
}

#[tokio::test]
async fn a_failed_write_ends_the_epochs_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epochs = own(&journal).await;
    journal.append(vec![samples::login(0, epochs[0], 0)]).await.expect("durable");
    execute(
        dir.path(),
        "CREATE TRIGGER full BEFORE INSERT ON batches BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    .await;

    // More than one batch, all queued before the first is answered, and a barrier at the end.
    let appends: Vec<_> = (1..10_000).map(|n| journal.append(vec![samples::login(0, epochs[0], n)])).collect();
    let barrier = journal.append(Vec::new());
    for (place, append) in appends.into_iter().enumerate() {
        match append.await {
            Err(AppendError::Store(what)) => assert!(what.contains("database or disk is full"), "{what}"),
            Err(AppendError::Fenced { partition: 0, epoch }) if epoch == epochs[0] && place > 0 => {}
            other => panic!("expected a failure, found {other:?}"),
        }
    }
    assert!(matches!(barrier.await, Ok(()) | Err(AppendError::Store(_))));
    assert_eq!(*journal.durable().borrow(), [1, 0]);
    let refused = journal.append(vec![samples::login(0, epochs[0], 1)]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");

    // A partition that had no part in it goes on as soon as the disk does.
    execute(dir.path(), "DROP TRIGGER full").await;
    journal.append(vec![samples::login(1, epochs[1], 0)]).await.expect("durable");
    let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
    assert_eq!(tenure.next_n, 1);
    journal.append(vec![samples::login(0, tenure.epoch, 1)]).await.expect("durable");
    assert_eq!(replayed(&journal, &[(0, 0), (1, 0)]).await.len(), 3);
}

#[tokio::test]
async fn a_write_that_failed_but_landed_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epoch = own(&journal).await[0];
    // FAIL keeps what the statement has done: the row lands, and the writer sees an error.
    execute(dir.path(), "CREATE TRIGGER late AFTER INSERT ON batches BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END")
        .await;
    let failed = journal.append(vec![samples::login(0, epoch, 0)]).await;
    assert!(matches!(failed, Err(AppendError::Store(_))), "{failed:?}");
    assert_eq!(*journal.durable().borrow(), [0, 0]);
    execute(dir.path(), "DROP TRIGGER late").await;
    let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
    assert_eq!(tenure.next_n, 1);
    assert_eq!(*journal.durable().borrow(), [1, 0]);
    journal.append(vec![samples::login(0, tenure.epoch, 1)]).await.expect("durable");
    assert_eq!(replayed(&journal, &[(0, 0)]).await.len(), 2);
}

#[tokio::test]
async fn dropping_the_journal_writes_what_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epoch = own(&journal).await[0];
    for n in 0..50 {
        drop(journal.append(vec![samples::login(0, epoch, n)]));
    }
    drop(journal);
    assert_eq!(*open(dir.path()).await.durable().borrow(), [50, 0]);
}

#[tokio::test]
async fn a_reader_never_holds_up_the_writer() {
    let dir = ten_batches().await;
    let journal = open(dir.path()).await;
    let mut slow = journal.replay(vec![(0, 0)]);
    assert!(slow.try_next().await.expect("reads").is_some());
    let epoch = own(&journal).await[0];
    journal.append(vec![samples::login(0, epoch, 30)]).await.expect("durable");
    assert_eq!(slow.try_collect::<Vec<_>>().await.expect("reads").len(), 29);
}

#[tokio::test]
async fn a_missing_directory_is_made_and_its_lock_is_exclusive() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("a/b");
    let _lock = DirLock::acquire(&data).expect("free");
    drop(open(&data).await);
    assert!(DirLock::acquire(&data).is_err());
    let error = SqliteJournal::open(Path::new("/proc/verdict-test"), 2).await.expect_err("refused").to_string();
    assert!(error.contains("expected a directory that this user may write to at /proc/verdict-test"), "{error}");
}

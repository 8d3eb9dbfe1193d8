//! Restarts, segments and readers: what was written is found again, from every cursor.

use super::*;
use crate::journal::contract::replayed;
use crate::journal::{DirLock, JournalObserver};

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
async fn every_cursor_is_found_in_one_segment_and_in_several() {
    let disk = Arc::new(FaultyDisk::default());
    for dir in [ten_batches().await, ten_batches_with(small(&disk)).await] {
        let several = segments(dir.path()).len() > 2;
        let journal = open_with(dir.path(), if several { small(&disk) } else { Layout::default() });
        for from_0 in 0..=31 {
            for from_1 in [0, 4, 9, 10, 11] {
                let found = replayed(&journal, &[(0, from_0), (1, from_1)]).await;
                let count = |partition| found.iter().filter(|record| record.partition == partition).count() as u64;
                assert_eq!((count(0), count(1)), (30_u64.saturating_sub(from_0), 10_u64.saturating_sub(from_1)));
            }
        }
        for n in 0..10 {
            assert_eq!(journal.read(1, n).await.expect("reads"), Some(samples::login(1, 1, n)));
        }
    }
}

#[tokio::test]
async fn segments_follow_one_another_and_a_batch_larger_than_one_has_its_own() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open_with(dir.path(), small(&disk));
    let epochs = own(&journal).await;
    let mut expected = Vec::new();
    for (batch, size) in [1, 3, 60, 1, 1, 60, 60, 2].into_iter().enumerate() {
        let from = expected.len() as u64;
        let records: Vec<Record> = (from..from + size).map(|n| samples::decision(0, epochs[0], n)).collect();
        journal.append(records.clone()).await.expect("durable");
        expected.extend(records);
        assert_eq!(replayed(&journal, &[(0, 0)]).await, expected, "after batch {batch}");
    }
    let found = segments(dir.path());
    assert!(found.len() >= 6, "{}", found.len());
    let sizes: Vec<u64> = found.iter().map(|segment| std::fs::metadata(&segment.path).expect("a file").len()).collect();
    let long = sizes.iter().filter(|size| **size > 7_500).count();
    assert_eq!(long, 3, "only what is larger than a segment makes one longer: {sizes:?}");
    drop(journal);
    // Epochs and numbers go from header to header.
    let journal = open_with(dir.path(), small(&disk));
    let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
    assert_eq!(tenures.iter().map(|tenure| (tenure.epoch, tenure.next_n)).collect::<Vec<_>>(), [(2, 188), (2, 0)]);
    assert_eq!(replayed(&journal, &[(0, 0)]).await, expected);
    let observer = JournalObserver::open(dir.path()).await.expect("opens");
    assert_eq!(observer.records(), 188);
    assert_eq!(observer.replay().try_collect::<Vec<_>>().await.expect("replays"), expected);
}

#[tokio::test]
async fn only_a_bounded_number_of_indexes_is_kept() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open_with(dir.path(), Layout { segment_bytes: 5_000, ..small(&disk) });
    let epochs = own(&journal).await;
    for n in 0..60 {
        journal.append(vec![samples::decision(0, epochs[0], n)]).await.expect("durable");
    }
    for n in (0..60).chain((0..60).rev()) {
        assert!(journal.read(0, n).await.expect("reads").is_some());
        let segments = journal.shared.log.segments();
        let indexed = segments.iter().filter(|segment| segment.index().is_some()).count();
        assert!(segments.len() > 15 && indexed <= super::super::MAX_INDEXES + 1, "{indexed}");
    }
}

#[tokio::test]
async fn an_index_leads_into_the_middle_of_a_large_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path()).await;
    let epochs = own(&journal).await;
    for batch in 0..300 {
        let records = (batch * 10..batch * 10 + 10).map(|n| samples::decision(0, epochs[0], n)).collect();
        journal.append(records).await.expect("durable");
    }
    for round in 0..2 {
        for n in (0..3_000).step_by(37) {
            assert_eq!(journal.read(0, n).await.expect("reads").expect("a record").n, n, "round {round}");
        }
        assert_eq!(replay(&journal, &[(0, 2_995)]).await.expect("replays").len(), 5);
        // The second round builds it from the file.
        journal.shared.log.last().forget_index();
    }
}

#[tokio::test]
async fn a_clean_stop_leaves_no_space_and_a_look_changes_nothing() {
    let dir = ten_batches().await;
    let (offset, size) = *batches(&segments(dir.path())[0]).last().expect("a batch");
    let before = std::fs::read(file_in(dir.path())).expect("reads");
    assert_eq!(before.len(), offset + size);
    drop(open(dir.path()).await);
    drop(JournalObserver::open(dir.path()).await.expect("opens"));
    assert!(before == std::fs::read(file_in(dir.path())).expect("reads"));
}

#[tokio::test]
async fn space_is_made_ahead_and_used() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout { segment_bytes: 1 << 20, space_bytes: 100_000, ..small(&disk) };
    let journal = open_with(dir.path(), layout);
    let epochs = own(&journal).await;
    let length = || std::fs::metadata(file_in(dir.path())).expect("a file").len();
    let mut lengths = std::collections::BTreeSet::new();
    for n in 0..200 {
        journal.append(vec![samples::decision(0, epochs[0], n)]).await.expect("durable");
        lengths.insert(length());
    }
    assert!(lengths.len() < 10, "{lengths:?}");
    assert!(length() > 100_000);
    assert_eq!(replay(&journal, &[(0, 0)]).await.expect("replays").len(), 200);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = ten_batches().await;
    let error = LogJournal::open(lock(dir.path()), 12).await.expect_err("refused").to_string();
    let expected = "was created with 2 partitions, the configuration says 12; set data.partitions = 2, or use another";
    assert!(error.contains(expected), "{error}");
    let error = LogJournal::open(lock(dir.path()), 0).await.expect_err("refused").to_string();
    assert!(error.contains("expected 1 to 1024 partitions, found 0"), "{error}");
    let most = tempfile::tempdir().expect("a directory");
    let journal = LogJournal::open(lock(most.path()), 1_024).await.expect("opens");
    let epoch = journal.take_over(vec![1_023]).await.expect("takes over")[0].epoch;
    journal.append(vec![samples::login(1_023, epoch, 0)]).await.expect("durable");
    drop(journal);
    let journal = LogJournal::open(lock(most.path()), 1_024).await.expect("opens");
    assert!(journal.read(1_023, 0).await.expect("reads").is_some());
}

#[tokio::test]
async fn a_journal_of_the_older_layout_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("journal.db"), "SQLite format 3").expect("writes");
    for error in [
        LogJournal::open(lock(dir.path()), 2).await.expect_err("refused"),
        JournalObserver::open(dir.path()).await.expect_err("refused"),
    ] {
        let error = error.to_string();
        assert!(error.contains("journal.db was written by an earlier, unreleased layout"), "{error}");
    }
    assert!(!folder_in(dir.path()).exists());
}

#[tokio::test]
async fn an_observer_needs_a_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = JournalObserver::open(dir.path()).await.expect_err("refused").to_string();
    assert!(error.contains("check that data.dir names the right directory"), "{error}");
    std::fs::create_dir(folder_in(dir.path())).expect("a folder");
    let error = JournalObserver::open(dir.path()).await.expect_err("refused").to_string();
    assert!(error.contains("holds no journal"), "{error}");
}

#[tokio::test]
async fn an_observer_beside_the_writer_sees_a_beginning() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Arc::new(open_with(dir.path(), small(&disk)));
    let epochs = own(&*journal).await;
    let writer = std::thread::spawn({
        let journal = Arc::clone(&journal);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            for n in 0..400 {
                runtime.block_on(journal.append(vec![samples::decision(0, epochs[0], n)])).expect("durable");
            }
        }
    });
    let mut seen = 0;
    while seen < 400 {
        let durable = journal.durable().borrow()[0];
        let observer = JournalObserver::open(dir.path()).await.expect("no damage");
        let records: Vec<Record> = observer.replay().try_collect().await.expect("replays");
        assert!(records.len() as u64 >= durable && records.len() as u64 == observer.records());
        assert!(records.iter().enumerate().all(|(n, record)| record.n == n as u64));
        seen = records.len();
    }
    writer.join().expect("no failure");
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
    let mut slow = journal.replay(vec![(0, 0)], Wanted::Everything);
    assert!(slow.try_next().await.expect("reads").is_some());
    let epoch = own(&journal).await[0];
    journal.append(vec![samples::login(0, epoch, 30)]).await.expect("durable");
    assert_eq!(slow.try_collect::<Vec<_>>().await.expect("reads").len(), 29);
}

#[tokio::test]
async fn a_missing_directory_is_made_and_its_lock_is_exclusive() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("a/b");
    let journal = open(&data).await;
    assert!(DirLock::acquire(&data).is_err());
    drop(journal);
    lock(&data);
}

/// A service that starts while another one closes the journal would cut off what that writes, or write over it.
#[test]
fn the_directory_is_held_until_the_journal_has_been_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(FaultyDisk::default());
    let journal = open_with(dir.path(), Layout { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Layout::default() });
    let written = || std::fs::read(file_in(dir.path())).expect("reads");
    disk.set(|faults| faults.held = true);
    let before = written();
    let closing = std::thread::spawn(move || drop(journal));
    while written() == before {
        std::thread::yield_now();
    }
    let error = DirLock::acquire(dir.path()).expect_err("its end is not on the disk yet").to_string();
    assert!(error.contains("is used by process"), "{error}");
    disk.set(|faults| faults.held = false);
    closing.join().expect("no panic");
    lock(dir.path());
}

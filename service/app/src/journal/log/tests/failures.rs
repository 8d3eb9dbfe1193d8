//! Writes and syncs that fail: what failed stays failed, and everything else goes on.

use super::*;
use crate::journal::AppendError;
use crate::journal::contract::replayed;
use futures_util::FutureExt;

fn faulty(dir: &Path) -> (Arc<FaultyDisk>, LogJournal) {
    let disk = Arc::new(FaultyDisk::default());
    let layout = Layout { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Layout::default() };
    (disk, open_with(dir, layout))
}

#[tokio::test]
async fn a_full_disk_ends_the_epochs_of_what_it_failed_and_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, journal) = faulty(dir.path());
    let epochs = own(&journal).await;
    journal.append(vec![samples::login(0, epochs[0], 0)]).await.expect("durable");
    disk.set(|faults| faults.full_at = Some(4_500));

    // More than one batch, all queued before the first is answered, and a barrier at the end.
    let appends: Vec<_> = (1..10_000).map(|n| journal.append(vec![samples::login(0, epochs[0], n)])).collect();
    let barrier = journal.append(Vec::new());
    let mut failed = 0;
    for append in appends {
        match append.await {
            Ok(()) => assert_eq!(failed, 0),
            Err(AppendError::Store(what)) => {
                assert!(what.contains("No space left on device") && what.contains("free some disk space"), "{what}");
                failed += 1;
            }
            Err(AppendError::Fenced { partition: 0, epoch }) if epoch == epochs[0] && failed > 0 => failed += 1,
            other => panic!("expected a failure, found {other:?}"),
        }
    }
    assert!(failed > 0 && matches!(barrier.await, Ok(()) | Err(AppendError::Store(_))));
    let durable = journal.durable().borrow()[0];
    assert_eq!(durable, 10_000 - failed);
    let refused = journal.append(vec![samples::login(0, epochs[0], durable)]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");

    // A partition that had no part in it goes on as soon as the disk does.
    disk.set(|faults| faults.full_at = None);
    journal.append(vec![samples::login(1, epochs[1], 0)]).await.expect("durable");
    let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
    assert_eq!(tenure.next_n, durable);
    journal.append(vec![samples::login(0, tenure.epoch, durable)]).await.expect("durable");
    assert_eq!(replayed(&journal, &[(0, 0), (1, 0)]).await.len() as u64, durable + 2);
    drop(journal);
    assert_eq!(*open(dir.path()).await.durable().borrow(), [durable + 1, 1]);
}

#[tokio::test]
async fn what_failed_is_gone_also_if_nothing_was_written_since_the_journal_was_opened() {
    let dir = ten_batches().await;
    let (disk, journal) = faulty(dir.path());
    disk.set(|faults| faults.syncs = 1);
    assert!(journal.take_over(vec![0]).await.is_err());
    assert_eq!(batches(&segments(dir.path())[0]).len(), 13, "it is in the file");
    drop(journal);
    assert_eq!(batches(&segments(dir.path())[0]).len(), 12, "it was never confirmed");
    assert_eq!(*open(dir.path()).await.durable().borrow(), [30, 10]);
}

#[tokio::test]
async fn a_full_disk_takes_what_still_fits() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(FaultyDisk::default());
    let layout = Layout { segment_bytes: 1 << 20, space_bytes: 20_000, ..small(&disk) };
    let journal = open_with(dir.path(), layout);
    let epochs = own(&journal).await;
    // No more room than this, whatever it is used for: space ahead cannot be made for long.
    disk.set(|faults| faults.full_at = Some(30_000));
    let mut n = 0;
    let failed = loop {
        match journal.append(vec![samples::decision(0, epochs[0], n)]).await {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(failed.to_string().contains("free some disk space"), "{failed}");
    let places = batches(&segments(dir.path())[0]);
    let (offset, size) = places[places.len() - 1];
    assert!(offset + size + size > 30_000, "the last one that fits was taken: {offset} and {size}");
    disk.set(|faults| faults.full_at = None);
    let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
    assert_eq!(tenure.next_n, n);
    journal.append(vec![samples::decision(0, tenure.epoch, n)]).await.expect("durable");
}

#[tokio::test]
async fn what_failed_stays_failed_even_if_it_landed() {
    // Whole and unsynced, torn at some byte, or in some sectors.
    let faults: [fn(&mut Faults); 5] = [
        |faults| faults.syncs = 1,
        |faults| faults.syncs = 3,
        |faults| faults.write = Some(Landing::Prefix(300)),
        |faults| faults.write = Some(Landing::Prefix(usize::MAX)),
        |faults| faults.write = Some(Landing::Sectors(0b10)),
    ];
    for fault in faults {
        let dir = tempfile::tempdir().expect("a directory");
        let (disk, journal) = faulty(dir.path());
        let epochs = own(&journal).await;
        journal.append(vec![samples::decision(0, epochs[0], 0)]).await.expect("durable");
        // The segment, the epochs, the record, the space ahead.
        disk.wait_for_syncs(4);
        disk.set(fault);
        let failed = journal.append((1..4).map(|n| samples::decision(0, epochs[0], n)).collect()).await;
        match failed {
            Err(AppendError::Store(what)) => assert!(what.contains("check the disk"), "{what}"),
            other => panic!("expected a failure, found {other:?}"),
        }
        assert_eq!(*journal.durable().borrow(), [1, 0]);
        // While its place cannot be made certain, nothing is written.
        while disk.get(|faults| faults.syncs > 0) {
            assert!(journal.take_over(vec![1]).await.is_err());
        }
        let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
        assert_eq!(tenure.next_n, 1);
        journal.append(vec![samples::login(0, tenure.epoch, 1)]).await.expect("durable");
        let expected = [samples::decision(0, epochs[0], 0), samples::login(0, tenure.epoch, 1)];
        assert_eq!(replayed(&journal, &[(0, 0)]).await, expected);
        drop(journal);
        assert_eq!(replayed(&open(dir.path()).await, &[(0, 0)]).await, expected);
    }
}

#[tokio::test]
async fn a_take_over_that_failed_starts_no_epoch() {
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, journal) = faulty(dir.path());
    let epochs = own(&journal).await;
    disk.wait_for_syncs(3);
    disk.set(|faults| faults.syncs = 1);
    journal.take_over(vec![0, 1]).await.expect_err("the disk fails");
    // The owner before goes on.
    journal.append(vec![samples::login(0, epochs[0], 0)]).await.expect("durable");
    assert_eq!(journal.take_over(vec![0]).await.expect("takes over")[0].epoch, epochs[0] + 1);
    drop(journal);
    let tenures = open(dir.path()).await.take_over(vec![0, 1]).await.expect("takes over");
    assert_eq!(tenures.iter().map(|tenure| tenure.epoch).collect::<Vec<_>>(), [epochs[0] + 2, epochs[1] + 1]);
}

#[tokio::test]
async fn a_segment_that_cannot_be_made_fails_its_batch_only() {
    for named in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(FaultyDisk::default());
        let journal = open_with(dir.path(), small(&disk));
        let mut epoch = own(&journal).await[0];
        let (mut n, mut failures) = (0, 0);
        while n < 60 {
            if n % 7 == 0 {
                disk.set(|faults| faults.publish = Some(named));
            }
            match journal.append(vec![samples::decision(0, epoch, n)]).await {
                Ok(()) => n += 1,
                Err(_) => {
                    failures += 1;
                    let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
                    assert_eq!(tenure.next_n, n);
                    epoch = tenure.epoch;
                }
            }
        }
        assert!(failures > 2, "{failures}");
        drop(journal);
        let journal = open_with(dir.path(), small(&disk));
        let found = replayed(&journal, &[(0, 0)]).await;
        assert_eq!(found.iter().map(|record| record.n).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn nothing_is_confirmed_before_the_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, journal) = faulty(dir.path());
    let epochs = own(&journal).await;
    // The segment, the epochs, the space ahead.
    disk.wait_for_syncs(3);
    disk.set(|faults| faults.held = true);
    let mut waiting = journal.append(vec![samples::login(0, epochs[0], 0)]);
    // It is in the file, and still nobody hears of it.
    let written = || batches(&segments(dir.path())[0]).len() == 2;
    while !written() {
        std::thread::yield_now();
    }
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(*journal.durable().borrow(), [0, 0]);
    assert_eq!(journal.read(0, 0).await.expect("reads"), None);
    assert_eq!(replayed(&journal, &[(0, 0)]).await, []);
    // What comes meanwhile shares the next sync.
    let others: Vec<_> = (1..100).map(|n| journal.append(vec![samples::login(0, epochs[0], n)])).collect();
    let before = disk.get(|faults| faults.synced);
    disk.set(|faults| faults.held = false);
    waiting.await.expect("durable");
    for other in others {
        other.await.expect("durable");
    }
    // One for the first, one for space ahead at most twice, one for all others.
    assert!(disk.get(|faults| faults.synced) - before <= 4);
    assert_eq!(*journal.durable().borrow(), [100, 0]);
}

#[tokio::test]
async fn a_closed_journal_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, journal) = faulty(dir.path());
    let epochs = own(&journal).await;
    disk.set(|faults| faults.dead = true);
    assert!(journal.append(vec![samples::login(0, epochs[0], 0)]).await.is_err());
    // Nothing can be written any more, not even that it was closed; a start finds what was confirmed.
    drop(journal);
    assert_eq!(*open(dir.path()).await.durable().borrow(), [0, 0]);
}

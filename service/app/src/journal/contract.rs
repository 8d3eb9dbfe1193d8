//! One suite for every implementation of the port.

use super::kafka;
use super::record::{Body, Record};
use super::simulated::{Disk, SimJournal};
use super::{AppendError, DirLock, Journal, LogJournal, MemoryJournal, Partition, Wanted, samples};
use crate::traffic::dice::Dice;
use futures_util::TryStreamExt;
use std::sync::Arc;

const PARTITIONS: Partition = 3;

/// A journal under test, with what must outlive it.
struct Subject {
    journal: Arc<dyn Journal>,
    _dir: Option<tempfile::TempDir>,
}

async fn subjects() -> Vec<Subject> {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = DirLock::acquire(dir.path()).expect("free");
    let log = LogJournal::open(lock, PARTITIONS).await.expect("opens");
    vec![
        Subject { journal: Arc::new(MemoryJournal::new(PARTITIONS, true)), _dir: None },
        Subject { journal: Arc::new(SimJournal::open(Disk::new(PARTITIONS, Dice::new(0, 0, 0)))), _dir: None },
        Subject { journal: Arc::new(log), _dir: Some(dir) },
        Subject { journal: Arc::new(kafka::tests::fresh("contract", PARTITIONS).await), _dir: None },
    ]
}

pub(super) async fn replayed(journal: &dyn Journal, from: &[(Partition, u64)]) -> Vec<Record> {
    journal.replay(from.to_vec(), Wanted::Everything).try_collect().await.expect("replays")
}

/// The records in the order of their partition, which is all that a journal promises.
fn by_partition(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| record.partition);
    records
}

/// Takes over every partition; gives the epoch of each.
pub(super) async fn own(journal: &dyn Journal) -> Vec<u64> {
    let all = (0..journal.partitions()).collect();
    journal.take_over(all).await.expect("takes over").into_iter().map(|tenure| tenure.epoch).collect()
}

#[tokio::test]
async fn what_resolved_is_durable_and_comes_back_in_order() {
    for Subject { journal, _dir } in subjects().await {
        assert_eq!(journal.partitions(), PARTITIONS);
        let epochs = own(&*journal).await;
        let mut durable = journal.durable();
        assert_eq!(*durable.borrow_and_update(), [0, 0, 0]);
        let first = vec![samples::decision(1, epochs[1], 0), samples::login(0, epochs[0], 0)];
        let second = vec![samples::login(1, epochs[1], 1), samples::alert(1, epochs[1], 2, "u-1")];
        journal.append(first.clone()).await.expect("durable");
        assert!(durable.has_changed().expect("open"));
        assert_eq!(*durable.borrow_and_update(), [1, 1, 0]);
        journal.append(second.clone()).await.expect("durable");
        assert_eq!(*journal.durable().borrow(), [1, 3, 0]);

        let all: Vec<Record> = first.into_iter().chain(second).collect();
        let found = replayed(&*journal, &[(0, 0), (1, 0), (2, 0)]).await;
        assert_eq!(by_partition(found), by_partition(all.clone()));
        assert_eq!(replayed(&*journal, &[(1, 1)]).await, all[2..]);
        let found = replayed(&*journal, &[(0, 0), (1, 2)]).await;
        assert_eq!(by_partition(found), [all[1].clone(), all[3].clone()]);
        assert_eq!(replayed(&*journal, &[(1, 3), (0, 9)]).await, []);
        assert_eq!(replayed(&*journal, &[]).await, []);
    }
}

#[tokio::test]
async fn single_records_are_read() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        let records: Vec<Record> = (0..40).map(|n| samples::login(2, epochs[2], n)).collect();
        for pair in records.chunks(2) {
            journal.append(pair.to_vec()).await.expect("durable");
        }
        for record in &records {
            assert_eq!(journal.read(2, record.n).await.expect("reads").as_ref(), Some(record));
        }
        for (partition, n) in [(2, 40), (0, 0), (PARTITIONS, 0), (2, u64::MAX)] {
            assert_eq!(journal.read(partition, n).await.expect("reads"), None);
        }
    }
}

#[tokio::test]
async fn gaps_are_refused_and_end_the_epoch() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        journal.append(vec![samples::login(0, epochs[0], 0)]).await.expect("durable");
        // All or nothing: the first two would do.
        let skips = [samples::login(1, epochs[1], 0), samples::login(0, epochs[0], 1), samples::login(0, epochs[0], 3)];
        match journal.append(skips.to_vec()).await {
            Err(AppendError::Gap { partition: 0, expected: 2, found: 3 }) => {}
            other => panic!("expected a gap, found {other:?}"),
        }
        for (partition, n) in [(0, 1), (1, 0)] {
            let epoch = epochs[usize::from(partition)];
            match journal.append(vec![samples::login(partition, epoch, n)]).await {
                Err(AppendError::Fenced { .. }) => {}
                other => panic!("expected the epoch to have ended, found {other:?}"),
            }
        }
        // Others go on, and so does a new owner.
        journal.append(vec![samples::login(2, epochs[2], 0)]).await.expect("durable");
        let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
        assert_eq!(tenures.iter().map(|tenure| tenure.next_n).collect::<Vec<_>>(), [1, 0]);
        journal.append(vec![samples::login(0, tenures[0].epoch, 1)]).await.expect("durable");
        // A number that was written before is a gap too.
        let again = journal.append(vec![samples::login(0, tenures[0].epoch, 1)]).await;
        assert!(matches!(again, Err(AppendError::Gap { expected: 2, found: 1, .. })), "{again:?}");
    }
}

#[tokio::test]
async fn an_older_owner_is_fenced() {
    for Subject { journal, _dir } in subjects().await {
        let old = journal.take_over(vec![0]).await.expect("takes over")[0];
        journal.append(vec![samples::login(0, old.epoch, 0)]).await.expect("durable");
        let new = journal.take_over(vec![0]).await.expect("takes over")[0];
        assert!(new.epoch > old.epoch);
        assert_eq!(new.next_n, 1);
        let refused = journal.append(vec![samples::login(0, old.epoch, 1)]).await;
        assert!(
            matches!(refused, Err(AppendError::Fenced { partition: 0, epoch }) if epoch == old.epoch),
            "{refused:?}"
        );
        // The old owner's attempt does not harm the new one; an epoch that nobody was given is refused as well.
        journal.append(vec![samples::login(0, new.epoch, 1)]).await.expect("durable");
        let refused = journal.append(vec![samples::login(0, new.epoch + 1, 2)]).await;
        assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
        journal.append(vec![samples::login(0, new.epoch, 2)]).await.expect("durable");
        // A partition that nobody took over has no epoch to append under.
        let refused = journal.append(vec![samples::login(1, 1, 0)]).await;
        assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn partitions_that_do_not_exist_are_named() {
    for Subject { journal, _dir } in subjects().await {
        let error = journal.take_over(vec![0, PARTITIONS]).await.expect_err("refused");
        assert!(error.to_string().contains("expected a partition below 3, found 3"), "{error}");
        let error = journal.append(vec![samples::login(PARTITIONS, 1, 0)]).await.expect_err("refused");
        assert!(error.to_string().contains("expected a partition below 3, found 3"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_append_is_a_barrier() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        journal.append(Vec::new()).await.expect("nothing to wait for");
        // Queued before the futures are polled; only the barrier is awaited.
        let queued: Vec<_> = (0..100).map(|n| journal.append(vec![samples::login(0, epochs[0], n)])).collect();
        journal.append(Vec::new()).await.expect("everything before it is durable");
        assert_eq!(journal.durable().borrow()[0], 100);
        drop(queued);
        assert_eq!(replayed(&*journal, &[(0, 0)]).await.len(), 100);
    }
}

#[tokio::test]
async fn a_replay_ends_where_the_journal_ended_when_it_was_called() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        journal.append(vec![samples::login(0, epochs[0], 0)]).await.expect("durable");
        let stream = journal.replay(vec![(0, 0)], Wanted::Everything);
        journal.append(vec![samples::login(0, epochs[0], 1)]).await.expect("durable");
        let records: Vec<Record> = stream.try_collect().await.expect("replays");
        assert_eq!(records.len(), 1);
    }
}

#[tokio::test]
async fn alerts_alone_are_asked_for() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        let of = |partition: Partition, n| {
            let epoch = epochs[usize::from(partition)];
            if n % 3 == 1 { samples::alert(partition, epoch, n, "u") } else { samples::decision(partition, epoch, n) }
        };
        for n in 0..9 {
            journal.append((0..PARTITIONS).map(|partition| of(partition, n)).collect()).await.expect("durable");
        }
        // Others may come as well, but no alert may be missing, and none comes twice.
        let stream = journal.replay(vec![(0, 2), (2, 0)], Wanted::Alerts);
        let found: Vec<Record> = stream.try_collect().await.expect("replays");
        let alerts: Vec<_> = found.iter().filter(|record| record.n % 3 == 1).cloned().collect();
        assert_eq!(by_partition(alerts), [of(0, 4), of(0, 7), of(2, 1), of(2, 4), of(2, 7)]);
    }
}

#[tokio::test]
async fn what_goes_out_on_topics_is_asked_for() {
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        let of = |n| match n % 3 {
            0 => samples::dead_letter(0, epochs[0], n),
            1 => samples::alert(0, epochs[0], n, "u"),
            _ => samples::decision(0, epochs[0], n),
        };
        journal.append((0..9).map(of).collect()).await.expect("durable");
        let stream = journal.replay(vec![(0, 1)], Wanted::Published);
        let mut found: Vec<Record> = stream.try_collect().await.expect("replays");
        found.retain(|record| record.n % 3 != 2);
        assert_eq!(found, [1, 3, 4, 6, 7].map(of));
    }
}

#[tokio::test]
async fn list_changes_alone_are_asked_for() {
    let blocked = samples::one_of_each().into_iter().map(|record| record.body);
    let blocks = |body: &Body| matches!(body, Body::Decision(decided) if decided.decision.block_entry.is_some());
    let blocked = blocked.into_iter().find(blocks).expect("a sample that blocks its user");
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        let body = |n: u64| match n {
            1 | 6 => samples::list_changes().remove(0).body,
            4 => blocked.clone(),
            n => samples::decision(0, 0, n).body,
        };
        for n in 0..9 {
            let records = (0..PARTITIONS).map(|p| samples::with(p, epochs[usize::from(p)], n, body(n)));
            journal.append(records.collect()).await.expect("durable");
        }
        // Others may come as well, but no change may be missing, and none comes twice.
        let stream = journal.replay(vec![(0, 2), (2, 0)], Wanted::Lists);
        let found: Vec<Record> = stream.try_collect().await.expect("replays");
        let changes = found.iter().filter(|record| [1, 4, 6].contains(&record.n));
        let mut changes: Vec<_> = changes.map(|record| (record.partition, record.n)).collect();
        // Each partition's in order; between partitions there is none.
        changes.sort_by_key(|(partition, _)| *partition);
        assert_eq!(changes, [(0, 4), (0, 6), (2, 1), (2, 4), (2, 6)]);
    }
}

#[tokio::test]
async fn concurrent_owners_share_writes_and_keep_their_order() {
    const RECORDS: u64 = 500;
    for Subject { journal, _dir } in subjects().await {
        let epochs = own(&*journal).await;
        let threads: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let (journal, epoch) = (Arc::clone(&journal), epochs[usize::from(partition)]);
                std::thread::spawn(move || {
                    let appends: Vec<_> =
                        (0..RECORDS).map(|n| journal.append(vec![samples::decision(partition, epoch, n)])).collect();
                    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                    runtime.block_on(async {
                        for append in appends {
                            append.await.expect("durable");
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no failure");
        }
        assert_eq!(*journal.durable().borrow(), [RECORDS; PARTITIONS as usize]);
        let mut next = [0; PARTITIONS as usize];
        for record in replayed(&*journal, &[(0, 0), (1, 0), (2, 0)]).await {
            assert_eq!(record, samples::decision(record.partition, epochs[usize::from(record.partition)], record.n));
            assert_eq!(record.n, next[usize::from(record.partition)]);
            next[usize::from(record.partition)] += 1;
        }
        assert_eq!(next, [RECORDS; PARTITIONS as usize]);
    }
}

#[tokio::test]
async fn a_journal_that_retains_nothing_counts() {
    let journal = MemoryJournal::new(1, false);
    let epoch = own(&journal).await[0];
    journal.append(vec![samples::login(0, epoch, 0), samples::login(0, epoch, 1)]).await.expect("counted");
    let refused = journal.append(vec![samples::login(0, epoch, 3)]).await;
    assert!(matches!(refused, Err(AppendError::Gap { expected: 2, found: 3, .. })), "{refused:?}");
    assert_eq!(*journal.durable().borrow(), [2]);
    assert_eq!(replayed(&journal, &[(0, 0)]).await, []);
    assert_eq!(journal.read(0, 0).await.expect("reads"), None);
}

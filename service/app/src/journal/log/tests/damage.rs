//! Damage is refused with file and batch; what a crash tore is cut off, and nothing else.

use super::*;
use crate::journal::JournalObserver;
use crate::journal::contract::replayed;
use crate::journal::log::batch::{Kind, begin, finish, push_frame};
use proptest::prelude::*;

/// Opening or replaying must be refused, at this batch of this file and with these words.
async fn expect_damage(dir: &Path, file: &Path, batch: u64, what: &str) {
    let found = match LogJournal::open_now(lock(dir), 2, Layout::default()) {
        Ok(journal) => replay(&journal, &[(0, 0), (1, 0)]).await.map(|records| records.len()),
        Err(error) => Err(error),
    };
    match found {
        Err(JournalError::Damaged { file: named, batch: at, what: found }) => {
            assert_eq!((&*named, at), (file.display().to_string().as_str(), batch), "{found}");
            assert!(found.contains(what), "{found}");
        }
        other => panic!("expected damage at batch {batch}, found {other:?}"),
    }
}

#[tokio::test]
async fn a_changed_batch_is_found() {
    let dir = ten_batches().await;
    let places = batches(&segments(dir.path())[0]);
    assert_eq!(places.len(), 12);
    let (four, five, eleven) = (places[3], places[4], places[10]);
    type Harm = Box<dyn Fn(&mut Vec<u8>)>;
    let harms: Vec<(Harm, u64, &str)> = vec![
        (Box::new(move |bytes| bytes[four.0 + 100] ^= 1), 4, "expected checksum"),
        (Box::new(move |bytes| bytes[four.0 + 24] ^= 1), 4, "expected checksum"),
        (Box::new(move |bytes| bytes[four.0 + 8] ^= 64), 4, "expected checksum"),
        (Box::new(move |bytes| bytes[four.0 + 11] ^= 64), 4, "expected a whole batch, found its beginning"),
        (Box::new(move |bytes| bytes[four.0] ^= 1), 4, "expected a batch, found other bytes"),
        (Box::new(move |bytes| bytes[four.0 + 12] = 9), 4, "expected a batch, found other bytes"),
        (Box::new(move |bytes| bytes[four.0 + 16] = 5), 4, "the batch is missing, found batch 5"),
        // The last one with records: that the journal was closed behind it is what tells this from a torn write.
        (Box::new(move |bytes| bytes[eleven.0 + 100] ^= 1), 11, "expected checksum"),
        (Box::new(move |bytes| bytes[four.0..five.0].fill(0)), 4, "the batch is missing, and batch 5 follows it"),
    ];
    for (harm, batch, what) in harms {
        let harmed = copy(dir.path());
        change(&file_in(harmed.path()), harm);
        let file = file_in(harmed.path());
        expect_damage(harmed.path(), &file, batch, what).await;
    }
}

#[tokio::test]
async fn a_batch_from_elsewhere_does_not_fit() {
    let dir = ten_batches().await;
    let file = file_in(dir.path());
    let places = batches(&segments(dir.path())[0]);
    let four = places[3];
    // Number, place and checksum are right; the records do not follow batch 3.
    let mut forged = Vec::new();
    begin(&mut forged, 2);
    push_frame(&samples::decision(0, 1, 12), &mut forged).expect("encodes");
    forged.resize(four.1 - 4, 0);
    finish(&mut forged, Kind::Records, 4, &[13, 2], four.0 as u64);
    assert_eq!(forged.len(), four.1);
    change(&file, |bytes| bytes[four.0..four.0 + four.1].copy_from_slice(&forged));
    expect_damage(dir.path(), &file, 4, "expected record 6 of partition 0, found 12").await;
}

#[tokio::test]
async fn a_reader_that_needs_nothing_of_a_damaged_batch_goes_on() {
    // Damage in a segment that is not the last one is found by whoever reads it, not by the start.
    let disk = Arc::new(FaultyDisk::default());
    let layout = || Layout { segment_bytes: 40_000, ..small(&disk) };
    let dir = ten_batches_with(layout()).await;
    let journal = open_with(dir.path(), layout());
    let epochs = own(&journal).await;
    for n in 30..130 {
        journal.append(vec![samples::decision(0, epochs[0], n)]).await.expect("durable");
    }
    drop(journal);
    assert!(segments(dir.path()).len() > 1);
    let file = file_in(dir.path());
    let (offset, _) = batches(&segments(dir.path())[0])[5];
    change(&file, |bytes| bytes[offset + 200] ^= 0x20);
    let journal = open_with(dir.path(), layout());
    // Batch 6 has records 12 to 14. Who needs neither it, nor to know that the next one follows it, goes on.
    for at in [replay(&journal, &[(0, 0)]).await.map(|_| ()), journal.read(0, 13).await.map(|_| ())] {
        match at {
            Err(JournalError::Damaged { batch: 6, file: named, .. }) => assert_eq!(&*named, file.display().to_string()),
            other => panic!("expected damage, found {other:?}"),
        }
    }
    assert_eq!(replay(&journal, &[(0, 18)]).await.expect("after it").len(), 112);
    assert!(journal.read(0, 11).await.expect("before it").is_some());
    assert!(journal.read(0, 15).await.expect("after it").is_some());
    // What is good before it is given first.
    let mut stream = journal.replay(vec![(0, 0), (1, 0)], Wanted::Everything);
    let mut good = 0;
    while let Ok(Some(_)) = stream.try_next().await {
        good += 1;
    }
    assert_eq!(good, 16);
}

/// A head that says too little of its batch would have it passed over with everything that is wanted of it.
#[tokio::test]
async fn the_last_batch_of_an_older_segment_is_not_passed_over() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = ten_batches_with(small(&disk)).await;
    let found = segments(dir.path());
    let next = found[1].header.clone();
    let (offset, _) = *batches(&found[0]).last().expect("one");
    // Where the batch says how many records partition 0 has by then.
    let last = next.counts[0] - 1;
    change(&found[0].path, |bytes| bytes[offset + 24] = 0);
    let journal = open_with(dir.path(), small(&disk));
    for read in [replay(&journal, &[(0, last)]).await.map(|_| ()), journal.read(0, last).await.map(|_| ())] {
        match read {
            Err(JournalError::Damaged { file, batch, what }) => {
                assert_eq!((&*file, batch), (found[0].path.display().to_string().as_str(), next.first - 1), "{what}");
            }
            other => panic!("expected damage, found {other:?}"),
        }
    }
    assert!(replay(&journal, &[(0, last + 1)]).await.is_ok(), "nothing of it is needed");
}

#[tokio::test]
async fn a_missing_segment_is_found() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = ten_batches_with(small(&disk)).await;
    let found = segments(dir.path());
    assert!(found.len() >= 3, "{}", found.len());
    let firsts: Vec<u64> = found.iter().map(|segment| segment.header.first).collect();
    let without = |index: usize| {
        let harmed = copy(dir.path());
        let gone = Segment::path_in(&folder_in(harmed.path()), firsts[index]);
        std::fs::remove_file(&gone).expect("removes");
        harmed
    };
    let harmed = without(0);
    expect_damage(harmed.path(), &file_in(harmed.path()), 1, "the file is missing").await;
    let harmed = without(1);
    expect_damage(harmed.path(), &file_in(harmed.path()), firsts[1], "the batch is missing: the file ends").await;
    // One that is swapped for another journal's, or has lost its end, does not fit its successor.
    let harmed = copy(dir.path());
    let second = Segment::path_in(&folder_in(harmed.path()), firsts[1]);
    change(&second, |bytes| bytes.truncate(bytes.len() - 8));
    expect_damage(harmed.path(), &second, firsts[2] - 1, "expected a whole batch").await;
    change(&second, |bytes| bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0]));
    expect_damage(harmed.path(), &second, firsts[2] - 1, "expected checksum").await;
}

#[tokio::test]
async fn a_file_that_is_no_segment_is_refused() {
    let dir = ten_batches().await;
    std::fs::write(file_in(dir.path()), "not a journal, but long enough to be one. ".repeat(200)).expect("writes");
    for error in [
        LogJournal::open(lock(dir.path()), 2).await.expect_err("refused").to_string(),
        JournalObserver::open(dir.path()).await.expect_err("refused").to_string(),
    ] {
        assert!(
            error.contains("00000000000000000001.log is no journal segment of this service; restore it"),
            "{error}"
        );
    }
    // Other files do not matter.
    let dir = ten_batches().await;
    std::fs::write(folder_in(dir.path()).join("notes.txt"), "mine").expect("writes");
    assert_eq!(*open(dir.path()).await.durable().borrow(), [30, 10]);
}

/// What a power cut may leave of the last segment: any prefix of it, or a last part that is garbage.
#[tokio::test]
async fn a_torn_log_loses_what_was_never_confirmed_and_nothing_else() {
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open_with(dir.path(), Layout { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Layout::default() });
    let epoch = own(&journal).await[0];
    for n in 0..12 {
        journal.append(vec![samples::decision(0, epoch, n)]).await.expect("durable");
    }
    disk.set(|faults| faults.dead = true);
    drop(journal);
    let places = batches(&segments(dir.path())[0]);
    assert_eq!(places.len(), 13, "it was not closed");
    let end = places[12].0 + places[12].1;
    let whole = std::fs::read(file_in(dir.path())).expect("reads");
    for cut in (places[1].0..=end).step_by(97).chain(places.iter().map(|(offset, size)| offset + size)) {
        for garbage in [None, Some(0xa5), Some(0)] {
            let torn = copy(dir.path());
            change(&file_in(torn.path()), |bytes| {
                bytes.truncate(cut);
                bytes.resize(cut + garbage.map_or(0, |_| 3_000), garbage.unwrap_or(0));
            });
            // Zeros may be what was cut off.
            let left = std::fs::read(file_in(torn.path())).expect("reads");
            let is_whole = |(offset, size): &&(usize, usize)| {
                left.get(*offset..offset + size) == whole.get(*offset..offset + size)
            };
            let kept = places[1..].iter().take_while(is_whole).count() as u64;
            assert!(kept >= places[1..].iter().filter(|(offset, size)| offset + size <= cut).count() as u64);
            let seen = JournalObserver::open(torn.path()).await.expect("opens").records();
            let journal = open(torn.path()).await;
            assert_eq!((seen, &**journal.durable().borrow()), (kept, &[kept, 0][..]), "cut at {cut}");
            let records = replayed(&journal, &[(0, 0)]).await;
            assert_eq!(records.iter().map(|record| record.n).collect::<Vec<_>>(), (0..kept).collect::<Vec<_>>());
            let tenure = journal.take_over(vec![0]).await.expect("takes over")[0];
            assert_eq!(tenure.next_n, kept);
            journal.append(vec![samples::login(0, tenure.epoch, kept)]).await.expect("durable");
            drop(journal);
            assert_eq!(*open(torn.path()).await.durable().borrow(), [kept + 1, 0]);
        }
    }
}

#[tokio::test]
async fn a_batch_inside_an_event_is_no_batch() {
    // A torn write whose record holds the bytes of a good batch, aligned or not, is torn all the same.
    let disk = Arc::new(FaultyDisk::default());
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open_with(dir.path(), Layout { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..Layout::default() });
    let epoch = own(&journal).await[0];
    journal.append(vec![samples::login(0, epoch, 0)]).await.expect("durable");
    let mut inner = Vec::new();
    begin(&mut inner, 2);
    finish(&mut inner, Kind::Records, 4, &[9, 9], 4_096);
    let original: Vec<u8> = (0..8).flat_map(|shift| [vec![0; 9 - shift / 8], inner.clone()].concat()).collect();
    let original = original.into();
    let letter =
        crate::journal::record::Body::DeadLetter { reason: "X".into(), detail: "x".into(), original, cut: None };
    disk.set(|faults| (faults.write, faults.dies) = (Some(Landing::Sectors(!1)), true));
    let torn = journal.append(vec![samples::with(0, epoch, 1, letter)]).await;
    assert!(torn.is_err());
    drop(journal);
    assert_eq!(*open(dir.path()).await.durable().borrow(), [1, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_of_a_closed_journal_is_found_or_changes_nothing(
        at in any::<prop::sample::Index>(), bit in 0..8, several in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let disk = Arc::new(FaultyDisk::default());
            let layout = || if several { small(&disk) } else { Layout::default() };
            let dir = ten_batches_with(layout()).await;
            let found = segments(dir.path());
            let total: usize = found.iter().map(|segment| std::fs::metadata(&segment.path).unwrap().len() as usize).sum();
            let mut place = at.index(total);
            for segment in &found {
                let length = std::fs::metadata(&segment.path).unwrap().len() as usize;
                if place < length {
                    // Only the mark of the clean stop itself, the last batch of all, holds nothing that anybody needs.
                    let last = *batches(found.last().expect("one")).last().expect("one");
                    change(&segment.path, |bytes| bytes[place] ^= 1_u8 << bit);
                    let mark = Arc::ptr_eq(segment, found.last().expect("one")) && place >= last.0;
                    let read = match LogJournal::open_now(lock(dir.path()), 2, layout()) {
                        Ok(journal) => replay(&journal, &[(0, 0), (1, 0)]).await,
                        Err(error) => Err(error),
                    };
                    match read {
                        Ok(records) => {
                            assert!(mark || place >= last.0 && several, "byte {place} of {length} was not found");
                            assert_eq!(records.len(), 40);
                        }
                        Err(JournalError::Damaged { .. } | JournalError::Store(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                    break;
                }
                place -= length;
            }
        });
    }
}

//! The spill against a naive map, over crashes and over disks that fail.

use super::*;
use crate::journal::samples;
use proptest::prelude::*;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const TOPIC: &str = "verdict.journal";
const ROOM: usize = 1 << 20;

/// A disk whose next writes or syncs fail, so many of them.
#[derive(Debug, Default)]
struct Faulty {
    writes: AtomicUsize,
    syncs: AtomicUsize,
}

fn fails(left: &AtomicUsize) -> io::Result<()> {
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(io::Error::from_raw_os_error(28)),
        Err(_) => Ok(()),
    }
}

impl Disk for Faulty {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        // As a full disk does: some of it is there.
        let half = if fails(&self.writes).is_err() { bytes.len() / 2 } else { bytes.len() };
        RealDisk.write(file, &bytes[..half], offset)?;
        if half < bytes.len() { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        fails(&self.syncs)?;
        RealDisk.sync(file)
    }
}

fn record(n: u64) -> Record {
    samples::alert((n % 3) as Partition, 7, n, "u-7")
}

fn ids(records: &[u64]) -> Vec<RecordId> {
    records.iter().map(|n| RecordId::from(&record(*n))).collect()
}

fn open(dir: &TempDir) -> Spill {
    Spill::open(dir.path(), TOPIC, ROOM).expect("opens")
}

/// The numbers of the records that are there, in order.
fn left(spill: &Spill) -> Vec<u64> {
    let mut left: Vec<u64> = spill.left(&[0, 1, 2]).expect("decodes").iter().map(|record| record.n).collect();
    left.sort_unstable();
    left
}

async fn put(spill: &Spill, n: u64) -> Result<(), NotKept> {
    spill.put(&record(n))?.await.expect("the thread lives")
}

#[tokio::test]
async fn what_was_put_is_there_until_it_is_removed_whatever_happens_between() {
    let dir = tempfile::tempdir().expect("a directory");
    let spill = open(&dir);
    for n in 0..5 {
        put(&spill, n).await.expect("kept");
    }
    // Nothing is closed: a process that is killed closes nothing.
    let again = open(&dir);
    assert_eq!(again.left(&[0]).expect("decodes"), [record(0), record(3)]);
    assert_eq!(again.level(), spill.level());
    again.remove(ids(&[0, 2, 9]));
    assert_eq!(left(&again), [1, 3, 4]);
    again.close().await;
    assert!(again.put(&record(5)).expect("there is room").await.is_err(), "its thread has ended");
    let last = open(&dir);
    assert_eq!((left(&last), last.level().entries), (vec![1, 3, 4], 3));
    let decided = last.get(&ids(&[1])[0]).expect("it is there");
    assert!(matches!(record(1).body, Body::Decision(put) if put == decided));
    assert!(last.get(&ids(&[0])[0]).is_none());
    last.remove(ids(&[1, 3, 4]));
    last.close().await;
    assert_eq!(last.level(), Level::default());
    assert!(std::fs::metadata(dir.path().join(FILE)).expect("a file").len() < 100);
}

/// However late a put comes: it is written before the thread ends, or whoever waits for it hears that it is not.
#[tokio::test]
async fn a_put_while_it_closes_is_answered() {
    for _ in 0..200 {
        let dir = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(open(&dir));
        let putting = Arc::clone(&spill);
        let puts = std::thread::spawn(move || (0..50).map(|n| putting.put(&record(n))).collect::<Vec<_>>());
        spill.close().await;
        let mut kept = Vec::new();
        for (n, put) in (0..).zip(puts.join().expect("no panic")) {
            if matches!(put.expect("there is room").await, Ok(Ok(()))) {
                kept.push(n);
            }
        }
        assert_eq!((left(&spill), left(&open(&dir))), (kept.clone(), kept));
    }
}

#[tokio::test]
async fn it_is_bounded_and_a_record_counts_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut one = Vec::new();
    codec::encode(&record(0), &mut one).expect("encodes");
    let spill = Spill::open(dir.path(), TOPIC, 3 * (one.len() + 20)).expect("opens");
    for n in 0..3 {
        put(&spill, n).await.expect("kept");
    }
    let full = spill.put(&record(3)).expect_err("there is room for three");
    assert_eq!(full, NotKept::Full { entries: 3, bytes: spill.level().bytes });
    let (first, second) = (spill.put(&record(2)), spill.put(&record(2)));
    first.expect("it is there").await.expect("told").expect("kept");
    second.expect("it is there").await.expect("told").expect("kept");
    spill.remove(ids(&[1]));
    put(&spill, 3).await.expect("there is room again");
    assert_eq!(left(&spill), [0, 2, 3]);
    // A bound that was lowered loses nothing.
    drop(spill);
    let tight = Spill::open(dir.path(), TOPIC, 1).expect("opens");
    assert_eq!(left(&tight), [0, 2, 3]);
    assert!(tight.put(&record(4)).is_err());
}

#[tokio::test]
async fn a_disk_that_fails_keeps_what_it_kept_and_heals() {
    for (writes, syncs) in [(1, 0), (0, 1), (2, 0), (1, 1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(Faulty::default());
        let spill = Spill::open_with(dir.path(), TOPIC, ROOM, disk.clone()).expect("opens");
        put(&spill, 0).await.expect("kept");
        put(&spill, 1).await.expect("kept");
        disk.writes.store(writes, Ordering::SeqCst);
        disk.syncs.store(syncs, Ordering::SeqCst);
        for n in 2..2 + (writes + syncs) as u64 {
            let refused = put(&spill, n).await.expect_err("the disk is full");
            let NotKept::Failed(why) = refused else { panic!("{refused}") };
            assert!(why.contains(FILE) && why.contains("free some disk space"), "{why}");
            assert_eq!(spill.level().failure, Some(why));
            assert_eq!(left(&spill), [0, 1]);
        }
        assert!(left(&open(&dir)).starts_with(&[0, 1]), "a crash in between loses nothing that was kept");
        spill.remove(ids(&[0]));
        put(&spill, 9).await.expect("there is space again");
        assert_eq!((spill.level().failure, left(&open(&dir))), (None, vec![1, 9]));
    }
}

#[tokio::test]
async fn a_file_that_has_grown_is_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let spill = open(&dir);
    put(&spill, 0).await.expect("kept");
    for round in 0..40 {
        let some: Vec<u64> = (1..100).map(|n| round * 100 + n).collect();
        let kept: Vec<Kept> = some.iter().map(|n| spill.put(&record(*n)).expect("there is room")).collect();
        for kept in kept {
            kept.await.expect("told").expect("kept");
        }
        spill.remove(ids(&some));
    }
    put(&spill, 1).await.expect("kept");
    let length = std::fs::metadata(dir.path().join(FILE)).expect("a file").len();
    assert!(length < SLACK_BYTES + 200_000, "{length} bytes for two entries");
    assert_eq!(left(&open(&dir)), [0, 1]);
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_other_damage_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spill, path) = (open(&dir), dir.path().join(FILE));
    let mut ends = vec![std::fs::metadata(&path).expect("a file").len() as usize];
    for n in 0..3 {
        put(&spill, n).await.expect("kept");
        ends.push(std::fs::metadata(&path).expect("a file").len() as usize);
    }
    drop(spill);
    let whole = std::fs::read(&path).expect("a file");
    let opened = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("writes");
        Spill::open(dir.path(), TOPIC, ROOM).map(|spill| left(&spill))
    };
    // Wherever a crash tears the last frame, what was told before it is there.
    for cut in (ends[2]..whole.len()).step_by(7) {
        assert_eq!(opened(&whole[..cut]).expect("opens"), [0, 1], "{cut}");
        assert_eq!(std::fs::metadata(&path).expect("a file").len() as usize, ends[2]);
        let mut damaged = whole.clone();
        damaged[cut] ^= 0x10;
        assert_eq!(opened(&damaged).expect("opens"), [0, 1], "{cut}");
    }
    for (at, frame) in [(ends[0] / 2, 0), (ends[0] + 30, ends[0]), (ends[2] - 1, ends[1])] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let refused = opened(&damaged).expect_err("it is damaged").to_string();
        let expected = format!("{FILE} is damaged at byte {frame}: expected ");
        assert!(refused.contains(&expected) && refused.contains("restore it from a copy"), "{refused}");
    }
    for foreign in [&b"something else"[..], &b""[..]] {
        assert!(matches!(opened(foreign), Err(SpillError::Damaged { offset: 0, .. })));
    }
}

#[tokio::test]
async fn another_journals_answers_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    expect_empty(dir.path(), "the data folder").expect("there is none");
    let spill = open(&dir);
    put(&spill, 0).await.expect("kept");
    spill.close().await;
    for refused in [Spill::open(dir.path(), "eu.journal", ROOM).map(drop), expect_empty(dir.path(), "the data folder")]
    {
        let refused = refused.expect_err("it is another journal").to_string();
        assert!(refused.contains("holds 1 answers") && refused.contains("on topic verdict.journal"), "{refused}");
    }
    let spill = open(&dir);
    spill.remove(ids(&[0]));
    spill.close().await;
    expect_empty(dir.path(), "the data folder").expect("it is empty");
    assert_eq!(left(&Spill::open(dir.path(), "eu.journal", ROOM).expect("opens")), [0_u64; 0]);
}

/// What may happen to a file.
#[derive(Clone, Debug)]
enum Step {
    /// Some are put and some removed, in one write.
    Write(Vec<u64>, Vec<u64>),
    /// A write that a crash tears: so much of it is there.
    Torn(Vec<u64>, prop::sample::Index),
    /// The file is written again.
    Rewrite,
    /// The process is killed, and started again.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::vec(0_u64..12, 0..4);
    let step = prop_oneof![
        6 => (some(), some()).prop_map(|(puts, dones)| Step::Write(puts, dones)),
        2 => (prop::collection::vec(0_u64..12, 1..4), any::<prop::sample::Index>())
            .prop_map(|(puts, kept)| Step::Torn(puts, kept)),
        1 => Just(Step::Rewrite),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn stored(n: u64) -> (RecordId, Arc<[u8]>) {
    let mut bytes = Vec::new();
    codec::encode(&record(n), &mut bytes).expect("encodes");
    (RecordId::from(&record(n)), bytes.into())
}

fn reopen(path: &Path) -> (SpillFile, Stored) {
    SpillFile::open(path, TOPIC, Arc::new(RealDisk)).expect("opens")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_holds_what_a_map_holds(steps in steps()) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let (mut file, mut model) = reopen(&path);
        for step in steps {
            match step {
                Step::Write(puts, dones) => {
                    let puts: Vec<_> = puts.into_iter().map(stored).collect();
                    let dones = ids(&dones);
                    file.append(puts.iter().map(|(_, bytes)| &**bytes), dones.iter().copied()).expect("writes");
                    model.extend(puts);
                    dones.iter().for_each(|id| _ = model.remove(id));
                }
                Step::Torn(puts, kept) => {
                    let before = file.length();
                    let puts: Vec<_> = puts.into_iter().map(stored).collect();
                    file.append(puts.iter().map(|(_, bytes)| &**bytes), [].into_iter()).expect("writes");
                    let torn = before + kept.index((file.length() - before) as usize) as u64;
                    File::options().write(true).open(&path).expect("a file").set_len(torn).expect("cuts");
                    let (again, found) = reopen(&path);
                    prop_assert_eq!(&found, &model);
                    file = again;
                }
                Step::Rewrite => file.rewrite(&model).expect("writes"),
                Step::Reopen => {
                    let (again, found) = reopen(&path);
                    prop_assert_eq!(&found, &model);
                    file = again;
                }
            }
        }
        let (_, found) = reopen(&path);
        prop_assert_eq!(found, model);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame::read(&bytes, 0);
    }
}

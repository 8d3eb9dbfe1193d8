//! Random histories of appends, failures, crashes at any byte, and starts, against a model that keeps what was confirmed.

use super::*;
use crate::journal::contract::replayed;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many records of each partition.
    Append(u64, u64),
    /// A large record.
    Large(usize),
    /// The write fails, having landed like this.
    FailedWrite(u64, Landing),
    /// So many syncs fail.
    FailedSync(u64, u32),
    /// A segment that is due cannot be made.
    FailedSegment(bool),
    /// The process dies in its write.
    Crash(u64, Landing),
    /// It dies between write and sync.
    CrashUnsynced(u64),
    /// A clean stop and start.
    Restart,
    /// A new owner of one partition.
    TakeOver(Partition),
}

fn landing() -> impl Strategy<Value = Landing> {
    prop_oneof![(0..4_000_usize).prop_map(Landing::Prefix), any::<u64>().prop_map(Landing::Sectors)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u64, 0..3_u64).prop_map(|(first, second)| Step::Append(first, second)),
        1 => (1_000..20_000_usize).prop_map(Step::Large),
        2 => (1..6_u64, landing()).prop_map(|(records, landing)| Step::FailedWrite(records, landing)),
        2 => (1..6_u64, 1..4_u32).prop_map(|(records, syncs)| Step::FailedSync(records, syncs)),
        1 => any::<bool>().prop_map(Step::FailedSegment),
        2 => (1..6_u64, landing()).prop_map(|(records, landing)| Step::Crash(records, landing)),
        1 => (1..6_u64).prop_map(Step::CrashUnsynced),
        1 => Just(Step::Restart),
        1 => (0..2_u16).prop_map(Step::TakeOver),
    ]
}

/// The journal under test, and what it must hold.
struct Subject {
    dir: TempDir,
    disk: Arc<FaultyDisk>,
    segment_bytes: u64,
    journal: Option<LogJournal>,
    epochs: [u64; 2],
    confirmed: Vec<Record>,
}

impl Subject {
    async fn new(segment_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(FaultyDisk::default());
        let journal = None;
        let mut subject = Self { dir, disk, segment_bytes, journal, epochs: [0; 2], confirmed: Vec::new() };
        subject.start(&[]).await;
        subject
    }

    fn journal(&self) -> &LogJournal {
        self.journal.as_ref().expect("running")
    }

    fn next(&self, partition: Partition) -> u64 {
        self.confirmed.iter().filter(|record| record.partition == partition).count() as u64
    }

    fn records(&self, counts: [u64; 2]) -> Vec<Record> {
        let of = |partition: Partition| {
            let (from, epoch) = (self.next(partition), self.epochs[usize::from(partition)]);
            (from..from + counts[usize::from(partition)]).map(move |n| match n % 3 {
                0 => samples::alert(partition, epoch, n, "u"),
                1 => samples::decision(partition, epoch, n),
                _ => samples::login(partition, epoch, n),
            })
        };
        of(0).chain(of(1)).collect()
    }

    /// New epochs, which never go back, and next numbers as confirmed.
    async fn own(&mut self, partitions: &[Partition]) {
        for tenure in self.journal().take_over(partitions.to_vec()).await.expect("takes over") {
            assert!(tenure.epoch > self.epochs[usize::from(tenure.partition)]);
            assert_eq!(tenure.next_n, self.next(tenure.partition));
            self.epochs[usize::from(tenure.partition)] = tenure.epoch;
        }
    }

    /// Opens the journal: it holds what was confirmed, and all or nothing of what was in flight.
    async fn start(&mut self, in_flight: &[Record]) {
        self.journal = None;
        self.disk.set(|faults| *faults = Faults::default());
        self.journal =
            Some(open_with(self.dir.path(), Layout { segment_bytes: self.segment_bytes, ..small(&self.disk) }));
        let found = replayed(self.journal(), &[(0, 0), (1, 0)]).await;
        if found.len() > self.confirmed.len() {
            self.confirmed.extend_from_slice(in_flight);
        }
        assert_eq!(found, self.confirmed);
        self.own(&[0, 1]).await;
    }

    async fn append(&mut self, records: Vec<Record>) {
        self.journal().append(records.clone()).await.expect("durable");
        self.confirmed.extend(records);
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(first, second) => self.append(self.records([first, second])).await,
            Step::Large(bytes) => {
                let body = crate::journal::record::Body::DeadLetter {
                    reason: "X".into(),
                    detail: "x".into(),
                    original: vec![b'V'; bytes].into(),
                    cut: None,
                };
                let record = samples::with(0, self.epochs[0], self.next(0), body);
                self.append(vec![record]).await;
            }
            Step::FailedWrite(records, landing) => {
                self.disk.set(|faults| faults.write = Some(landing));
                let records = self.records([records, 1]);
                // It may hit the space of a new segment instead, which is not needed.
                match self.journal().append(records.clone()).await {
                    Ok(()) => self.confirmed.extend(records),
                    Err(_) => self.own(&[0, 1]).await,
                }
                self.disk.set(|faults| faults.write = None);
            }
            Step::FailedSync(records, syncs) => {
                self.append(Vec::new()).await;
                self.disk.set(|faults| faults.syncs = syncs);
                let records = self.records([records, 1]);
                match self.journal().append(records.clone()).await {
                    Ok(()) => self.confirmed.extend(records),
                    Err(_) => {
                        while self.disk.get(|faults| faults.syncs > 0) {
                            // Space ahead may take the last failure.
                            let _ = self.journal().take_over(Vec::new()).await;
                        }
                        self.own(&[0, 1]).await;
                    }
                }
                self.disk.set(|faults| faults.syncs = 0);
            }
            Step::FailedSegment(named) => {
                self.disk.set(|faults| faults.publish = Some(named));
                while self.disk.get(|faults| faults.publish.is_some()) {
                    let records = self.records([3, 1]);
                    match self.journal().append(records.clone()).await {
                        Ok(()) => self.confirmed.extend(records),
                        Err(_) => self.own(&[0, 1]).await,
                    }
                }
            }
            Step::Crash(records, landing) => {
                self.disk.set(|faults| (faults.write, faults.dies) = (Some(landing), true));
                self.crash([records, 1]).await;
            }
            Step::CrashUnsynced(records) => {
                self.disk.set(|faults| (faults.syncs, faults.dies) = (1, true));
                self.crash([records, 1]).await;
            }
            Step::Restart => self.start(&[]).await,
            Step::TakeOver(partition) => self.own(&[partition]).await,
        }
    }

    async fn crash(&mut self, counts: [u64; 2]) {
        let records = self.records(counts);
        match self.journal().append(records.clone()).await {
            Ok(()) => self.confirmed.extend(records),
            Err(_) => return self.start(&records).await,
        }
        self.start(&[]).await;
    }

    async fn check(&self) {
        let confirmed = [self.next(0), self.next(1)];
        assert_eq!(*self.journal().durable().borrow(), confirmed);
        assert_eq!(replayed(self.journal(), &[(0, 0), (1, 0)]).await, self.confirmed);
        // What was written since the start is in memory, what was written before is not.
        for from in [[0, 0], confirmed.map(|end| end / 2), [confirmed[0], 0]] {
            let alerts = self.journal().replay(vec![(0, from[0]), (1, from[1])], Wanted::Alerts);
            let wanted = |record: &&Record| is_alert(record) && record.n >= from[usize::from(record.partition)];
            let expected: Vec<Record> = self.confirmed.iter().filter(wanted).cloned().collect();
            assert_eq!(alerts.try_collect::<Vec<_>>().await.expect("replays"), expected);
        }
        if let Some(last) = self.confirmed.last() {
            let read = self.journal().read(last.partition, last.n).await.expect("reads");
            assert_eq!(read.as_ref(), Some(last));
        }
    }
}

fn is_alert(record: &Record) -> bool {
    matches!(&record.body, crate::journal::record::Body::Decision(decided) if decided.decision.alert)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_what_was_confirmed(
        steps in vec(step(), 1..40), segment_bytes in prop::sample::select(vec![5_000, 7_500, 12_000])
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut subject = Subject::new(segment_bytes).await;
            for step in steps {
                subject.take(step).await;
                subject.check().await;
            }
            subject.start(&[]).await;
        });
    }
}

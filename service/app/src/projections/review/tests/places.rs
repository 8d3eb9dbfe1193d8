//! A journal whose readers need places, and what it is told of those that were stored.

use super::*;
use crate::journal::{AppendError, Position, Tenure};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::sync::Mutex;
use tokio::sync::watch;

/// As another one, each record of which lies in a topic of its own, behind an epoch's entry.
struct Placed {
    journal: Arc<MemoryJournal>,
    heard: Mutex<Vec<Heard>>,
}

/// What it was told, and what it was asked for, in order.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Located(Vec<(Partition, Position)>),
    Read(Cursor),
}

/// Where the records from this one on are found.
fn place(n: u64) -> Position {
    Position { offset: n + 1, epoch: 0, n }
}

impl Placed {
    fn new(room: &Room) -> Arc<Self> {
        Arc::new(Self { journal: Arc::clone(&room.journal), heard: Mutex::default() })
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().expect("no holder panicked").push(heard);
    }

    /// What it heard since this was last asked.
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().expect("no holder panicked"))
    }

    fn projection(self: &Arc<Self>, room: &Room) -> ReviewProjection {
        ReviewProjection::new(Arc::clone(self) as Arc<dyn Journal>, Arc::clone(&room.subject.store) as _, 0)
    }
}

impl Journal for Placed {
    fn partitions(&self) -> Partition {
        self.journal.partitions()
    }

    fn take_over(&self, partitions: Vec<Partition>) -> BoxFuture<'_, Result<Vec<Tenure>, JournalError>> {
        self.journal.take_over(partitions)
    }

    fn append(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.journal.append(records)
    }

    fn replay(&self, from: Cursor, wanted: Wanted) -> BoxStream<'_, Result<Record, JournalError>> {
        self.hear(Heard::Read(from.clone()));
        self.journal.replay(from, wanted)
    }

    fn read(&self, partition: Partition, n: u64) -> BoxFuture<'_, Result<Option<Record>, JournalError>> {
        self.journal.read(partition, n)
    }

    fn durable(&self) -> watch::Receiver<Vec<u64>> {
        self.journal.durable()
    }

    fn position(&self, partition: Partition, n: u64) -> Option<Position> {
        Some(place(self.durable().borrow()[usize::from(partition)].min(n)))
    }

    fn locate(&self, positions: &[(Partition, Position)]) {
        self.hear(Heard::Located(positions.to_vec()));
    }
}

#[tokio::test]
async fn a_projection_that_is_behind_says_where_before_it_reads() {
    for room in rooms().await {
        room.append(0, 0, 30).await;
        let first = Placed::new(&room);
        first.projection(&room).catch_up().await.expect("catches up");
        assert_eq!(first.heard(), [Heard::Located(vec![]), Heard::Read(vec![(0, 0), (1, 0)])], "nothing is stored yet");
        room.append(0, 30, 30).await;
        room.append(1, 0, 3).await;

        let journal = Placed::new(&room);
        let mut projection = journal.projection(&room);
        projection.catch_up().await.expect("catches up");
        let told = |n| Heard::Located(vec![(0, place(n))]);
        assert_eq!(journal.heard(), [told(30), Heard::Read(vec![(0, 30), (1, 0)])]);
        // What it left itself it does not tell again.
        projection.catch_up().await.expect("nothing new");
        assert_eq!(journal.heard(), [Heard::Read(vec![(0, 60), (1, 3)])]);

        // Another one wrote on, from its own place: this one takes that up.
        room.append(0, 60, 3).await;
        Placed::new(&room).projection(&room).catch_up().await.expect("writes");
        room.append(0, 63, 3).await;
        projection.catch_up().await.expect_err("was moved");
        projection.catch_up().await.expect("goes on");
        let (read, both) = (Heard::Read(vec![(0, 63), (1, 3)]), Heard::Located(vec![(0, place(63)), (1, place(3))]));
        assert_eq!(journal.heard()[1..], [both, read]);
    }
}

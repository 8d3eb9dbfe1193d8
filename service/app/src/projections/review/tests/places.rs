//! What is stored with a position says where the journal's readers find what follows.

use super::super::super::placed::{Heard, Placed, place};
use super::*;

fn over(journal: &Arc<Placed>, room: &Room) -> ReviewProjection {
    ReviewProjection::new(Arc::clone(journal) as Arc<dyn Journal>, Arc::clone(&room.subject.store) as _, 0)
}

#[tokio::test]
async fn a_projection_that_is_behind_says_where_before_it_reads() {
    for room in rooms().await {
        room.append(0, 0, 30).await;
        let first = Placed::new(&room.journal);
        over(&first, &room).catch_up().await.expect("catches up");
        assert_eq!(first.heard(), [Heard::Located(vec![]), Heard::Read(vec![(0, 0), (1, 0)])], "nothing is stored yet");
        room.append(0, 30, 30).await;
        room.append(1, 0, 3).await;

        let journal = Placed::new(&room.journal);
        let mut projection = over(&journal, &room);
        projection.catch_up().await.expect("catches up");
        let told = |n| Heard::Located(vec![(0, place(n))]);
        assert_eq!(journal.heard(), [told(30), Heard::Read(vec![(0, 30), (1, 0)])]);
        // What it left itself it does not tell again.
        projection.catch_up().await.expect("nothing new");
        assert_eq!(journal.heard(), [Heard::Read(vec![(0, 60), (1, 3)])]);

        // Another one wrote on, from its own place: this one takes that up.
        room.append(0, 60, 3).await;
        over(&Placed::new(&room.journal), &room).catch_up().await.expect("writes");
        room.append(0, 63, 3).await;
        projection.catch_up().await.expect_err("was moved");
        projection.catch_up().await.expect("goes on");
        let (read, both) = (Heard::Read(vec![(0, 63), (1, 3)]), Heard::Located(vec![(0, place(63)), (1, place(3))]));
        assert_eq!(journal.heard()[1..], [both, read]);
    }
}

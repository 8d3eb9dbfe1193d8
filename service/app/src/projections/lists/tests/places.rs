//! What is left in the mirror says where the journal's readers find the last record that it reflects.

use super::super::super::placed::{Heard, Placed, place};
use super::*;

fn over(journal: &Arc<Placed>, bench: &Bench) -> ListProjection {
    ListProjection::new(Arc::clone(journal) as Arc<dyn Journal>, Arc::clone(&bench.saved) as _, bench.mirror(), 7)
}

#[tokio::test]
async fn a_mirror_that_is_behind_says_where_before_it_is_looked_at() {
    let bench = Bench::new().await;
    let (changed, others) = (merchant("m-1"), 5);
    let partition = partition_of_entry(&changed, PARTITIONS);
    for n in 0..others {
        bench.put(changed.clone(), &format!("old {n}")).await;
    }
    let first = Placed::new(&bench.journal);
    over(&first, &bench).catch_up().await.unwrap();
    assert_eq!(first.heard()[0], Heard::Located(vec![]), "nothing is stored yet");
    bench.pass(others).await;
    bench.put(changed.clone(), "new").await;

    let journal = Placed::new(&bench.journal);
    over(&journal, &bench).catch_up().await.unwrap();
    bench.assert_mirrored();
    let read = (0..PARTITIONS).map(|p| (p, if p == partition { others } else { 0 })).collect();
    let last = others - 1;
    assert_eq!(
        journal.heard(),
        [Heard::Located(vec![(partition, place(last))]), Heard::Looked(partition, last), Heard::Read(read)]
    );
}

#[tokio::test]
async fn a_position_without_a_place_is_as_good() {
    let bench = Bench::new().await;
    bench.put(merchant("m-1"), "old").await;
    // A journal without places leaves none.
    bench.projection().catch_up().await.unwrap();
    bench.put(merchant("m-1"), "new").await;
    let journal = Placed::new(&bench.journal);
    let mut projection = over(&journal, &bench);
    projection.catch_up().await.unwrap();
    assert_eq!((projection.rewrites, &journal.heard()[0]), (0, &Heard::Located(vec![])));
    bench.assert_mirrored();
}

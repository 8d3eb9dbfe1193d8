//! A journal whose start was trimmed.

use super::super::super::placed::Placed;
use super::*;

#[tokio::test]
async fn a_mirror_from_before_the_start_is_written_again_from_what_was_saved() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.put(merchant(&format!("m-{n}")), "old").await;
    }
    let mut behind = bench.projection();
    behind.catch_up().await.unwrap();
    let old = bench.names();
    for n in 10..30 {
        bench.put(merchant(&format!("m-{n}")), "new").await;
    }
    bench.save();
    bench.put(merchant("m-30"), "since").await;
    // One record before what was saved stays, by which the mirror's place is told.
    let firsts = bench.saved.0.lock().unwrap().values().map(|saved| saved.next_n - 1).collect();
    let journal: Arc<dyn Journal> = Placed::trimmed(&bench.journal, firsts);
    for names in [&old, &BTreeMap::new()] {
        bench.restore(names);
        let mut projection =
            ListProjection::new(Arc::clone(&journal), Arc::clone(&bench.saved) as _, bench.mirror(), 77);
        projection.catch_up().await.unwrap();
        assert_eq!(projection.rewrites, 1);
        bench.assert_mirrored();
    }
    // One that was at it all the time, and could not write for so long: it looks again.
    bench.restore(&old);
    behind.journal = journal;
    let error = behind.catch_up().await.unwrap_err();
    assert!(matches!(error, ProjectionError::Journal(JournalError::Trimmed { .. })) && error.is_transient(), "{error}");
    behind.catch_up().await.unwrap();
    bench.assert_mirrored();
}

//! Two owners of one partition: the later epoch wins, whatever the earlier owner still writes.

use super::*;
use futures_util::future::join_all;

#[tokio::test]
async fn the_later_owner_fences_the_earlier() {
    let settings = settings(Kafka::shared(), "fight", 1);
    let (first, second) = (open(&settings, 1).await, open(&settings, 1).await);
    let before = take_over(&first, 0).await.expect("takes over");
    for appended in join_all(append_all(&first, before, 0..50)).await {
        appended.expect("durable");
    }
    // Those that land before the second's epoch count, the others do not; nobody hears wrong.
    let late = append_all(&first, before, 50..3_000);
    let after = take_over(&second, 0).await.expect("takes over");
    assert!(after.epoch > before.epoch && after.next_n >= 50, "{after:?}");
    second.append(vec![login(after, after.next_n)]).await.expect("durable");
    for (n, appended) in (50..).zip(in_time("the late appends", join_all(late)).await) {
        match appended {
            Ok(()) => assert!(n < after.next_n, "{n} does not count"),
            Err(AppendError::Fenced { partition: 0, epoch }) => {
                assert!(n >= after.next_n && epoch == before.epoch, "{n} counts");
            }
            Err(other) => panic!("expected to be fenced, found {other}"),
        }
    }
    let refused = first.append(vec![login(before, after.next_n)]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");

    // What an owner that knows nothing of it writes lands, and is nothing to anybody.
    produce(&settings, &(0..20).map(|n| entry_of(&login(before, after.next_n + n))).collect::<Vec<_>>());
    second.append(vec![login(after, after.next_n + 1)]).await.expect("durable");
    let total = after.next_n + 2;
    assert_eq!(count(&second, 0).await, total);
    // So it is to one who reads for the first time.
    let reader = open(&settings, 1).await;
    assert_eq!(count(&reader, 0).await, total);
    assert_eq!(reader.read(0, total - 1).await.expect("reads"), Some(login(after, total - 1)));

    // The first comes back, behind all of that.
    let again = take_over(&first, 0).await.expect("takes over");
    assert_eq!((again.next_n, again.epoch > after.epoch), (total, true));
    first.append(vec![login(again, total)]).await.expect("durable");
    let refused = in_time("the refusal", second.append(vec![login(after, total)])).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
}

#[tokio::test]
async fn duplicates_and_gaps_on_the_topic_are_judged_alike_by_all() {
    let settings = settings(Kafka::shared(), "gaps", 1);
    let journal = open(&settings, 1).await;
    let tenure = take_over(&journal, 0).await.expect("takes over");
    journal.append(vec![login(tenure, 0), login(tenure, 1)]).await.expect("durable");
    produce(&settings, &[0, 1, 5, 2].map(|n| entry_of(&login(tenure, n))));
    // The gap ends the epoch of an owner that has lost nothing itself.
    let refused = in_time("the refusal", journal.append(vec![login(tenure, 2)])).await;
    assert!(matches!(refused, Err(AppendError::Gap { .. } | AppendError::Fenced { .. })), "{refused:?}");
    let again = take_over(&journal, 0).await.expect("takes over");
    assert_eq!(again.next_n, 2);
    journal.append(vec![login(again, 2)]).await.expect("durable");
    let reader = open(&settings, 1).await;
    assert_eq!((count(&journal, 0).await, count(&reader, 0).await), (3, 3));
}

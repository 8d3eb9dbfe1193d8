//! What a recovery takes from a checkpoint, and what it refuses.

use super::*;
use crate::actors::partition::partition_of;
use crate::actors::recovery::recover;
use crate::journal::checkpoint::{Checkpoint, CheckpointStore, Mark, Marker, ProfileSnapshot, Totals};
use crate::journal::record::Decided;
use crate::journal::{profile, samples};
use verdict_core::profile::{Change, Profile};

const USER: &str = "u-1";

/// A profile that holds one transaction, decided in this record.
fn profile_with(decided: &Decided, n: u64) -> Profile {
    let mut profile = Profile::default();
    profile.apply(Change::Decided(&decided.transaction, &decided.decision), n, &Retention::default());
    profile
}

/// A checkpoint of the profile of one user, that reflects nothing else.
async fn checkpoint_of(profile: &Profile) -> (tempfile::TempDir, Arc<CheckpointStore>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    let (partition, bytes) = (partition_of(USER, 2), profile::encode(profile));
    let snapshot = ProfileSnapshot { user_id: USER.into(), partition, n: profile.next_n(), bytes };
    let mark = |partition| Mark { partition, next_n: 0, totals: Totals::default() };
    let marker = Marker { marks: vec![mark(0), mark(1)], sources: Vec::new() };
    store.save(&Checkpoint { profiles: vec![snapshot], marker, ..Checkpoint::default() }).await.expect("saves");
    (dir, Arc::new(store))
}

/// A payment of the user, decided by a service of its own.
async fn decided(journal: &Arc<Moody>, id: &str) -> Arc<Decided> {
    let gateway = start(Arc::clone(journal), 8);
    gateway.serving().await.expect("serving");
    let answer = gateway.decide(payment(id, 100)).await.expect("an answer");
    gateway.stop().await;
    answer.decided
}

/// A folder that was copied while the service ran, a torn end, a disk that lied: the mark is not ahead, a profile is. It
/// would take the records that the journal gets next for known.
#[test]
fn a_profile_ahead_of_the_journal_is_refused() {
    actix::System::new().block_on(async {
        let (own, journal) = (partition_of(USER, 2), Moody::new());
        let profile = profile_with(&*decided(&Moody::new(), "t-1").await, 7);
        let (_dir, store) = checkpoint_of(&profile).await;
        for durable in [0, 7, 8] {
            let epoch = journal.take_over(vec![own]).await.expect("takes over")[0].epoch;
            let from = journal.durable().borrow()[usize::from(own)];
            let records = (from..durable).map(|n| samples::login(own, epoch, n)).collect();
            journal.append(records).await.expect("durable");
            let recovered = recover(&[0, 1], &*journal, Some(&*store), &Retention::default()).await;
            match recovered.err() {
                None => assert_eq!(durable, 8),
                Some(JournalError::CheckpointAhead { partition, checkpoint: 8, journal }) => {
                    assert_eq!((partition, journal), (own, durable));
                    assert!(durable < 8);
                }
                Some(error) => panic!("{error}"),
            }
        }
    });
}

/// A profile of another history names a record that is not its own.
#[test]
fn a_duplicate_is_never_answered_with_another_decision() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let known = decided(&journal, "t-1").await;
        let (_dir, store) = checkpoint_of(&profile_with(&*decided(&Moody::new(), "t-2").await, 0)).await;
        let settings = ShardSettings { checkpoints: Some(store), ..settings(Arc::clone(&journal), 8) };
        let (gateway, _) = start_with(settings, 8);
        gateway.serving().await.expect("serving");
        let refused = gateway.decide(payment("t-2", 100)).await.expect_err("its record is another's");
        assert!(matches!(refused, Refusal::ProfileUnreadable(_)), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("\"t-2\"") && said.contains("move it away") && !said.contains("t-1"), "{said}");
        assert_eq!(&*known.transaction.transaction_id, "t-1");
    });
}

//! What a recovery takes from a checkpoint, what it refuses, and panics that are followed by one.

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
    checkpoint_with(profile::encode(profile), profile.next_n()).await
}

async fn checkpoint_with(bytes: Vec<u8>, n: u64) -> (tempfile::TempDir, Arc<CheckpointStore>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::open(dir.path()).await.expect("opens");
    let snapshot = ProfileSnapshot { user_id: USER.into(), partition: partition_of(USER, 2), n, bytes };
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
        let (gateway, _) = start_with(settings);
        gateway.serving().await.expect("serving");
        let refused = gateway.decide(payment("t-2", 100)).await.expect_err("its record is another's");
        assert!(matches!(refused, Refusal::ProfileUnreadable(_)), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("\"t-2\"") && said.contains("move it away") && !said.contains("t-1"), "{said}");
        assert_eq!(&*known.transaction.transaction_id, "t-1");
    });
}

/// Another user of the same partition as the one above.
fn neighbour() -> String {
    let same = |id: &String| partition_of(id, 2) == partition_of(USER, 2);
    (2..).map(|number| format!("u-{number}")).find(same).expect("one of two")
}

#[test]
fn records_of_a_profile_that_does_not_decode_stop_nobody_else() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        decided(&journal, "t-1").await;
        // A version and a number, and then nothing that makes sense.
        let bytes = vec![2, 0, 0xff, 0xff];
        let (_dir, store) = checkpoint_with(bytes.clone(), 0).await;
        let start_again = || {
            let checkpoints: Option<Arc<dyn crate::journal::checkpoint::Checkpoints>> = Some(store.clone());
            start_with(ShardSettings { checkpoints, ..settings(Arc::clone(&journal), 8) }).0
        };
        for id in ["t-2", "t-3"] {
            let gateway = start_again();
            gateway.serving().await.expect("its neighbours are served");
            let refused = gateway.decide(payment(id, 100)).await.expect_err("unreadable").to_string();
            assert!(refused.contains("profiles.db") && refused.contains("move it away"), "{refused}");
            let mut other = payment(id, 100);
            other.event.user_id = neighbour().into();
            assert!(gateway.decide(other).await.expect("an answer").durable);
            gateway.stop().await;
            let saved: Vec<ProfileSnapshot> = store.load(&[0, 1]).try_collect().await.expect("loads");
            let kept = saved.iter().find(|row| &*row.user_id == USER).expect("still there");
            assert_eq!((kept.n, &kept.bytes), (0, &bytes), "what could not be read is not written over");
            assert_eq!(saved.len(), 2);
        }
        // Without the file, everything comes from the journal.
        let gateway = start(Arc::clone(&journal), 8);
        gateway.serving().await.expect("serving");
        assert_eq!(count(&gateway.decide(payment("t-2", 100)).await.expect("an answer")), 2.0);
    });
}

/// A wall clock that panics when told to: a user's actor asks it when it decides.
#[derive(Default)]
struct Faulty(AtomicBool);

impl clock::TimeSource for Faulty {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::SeqCst), "told to panic");
        NOON
    }

    fn instant(&self) -> std::time::Instant {
        clock::instant()
    }
}

/// What the actor of a user leaves behind when it panics is not believed, nor saved: the journal says what is so.
#[test]
fn a_user_whose_actor_panics_is_recovered_from_the_journal() {
    actix::System::new().block_on(async {
        let (journal, faulty) = (Moody::new(), Arc::new(Faulty::default()));
        let settings = ShardSettings { clock: Clock::Given(faulty.clone()), ..settings(Arc::clone(&journal), 8) };
        let readiness = settings.readiness.clone();
        let (gateway, _) = start_with(settings);
        gateway.serving().await.expect("serving");
        gateway.decide(payment("t-1", 100)).await.expect("an answer");
        for id in ["t-2", "t-3"] {
            faulty.0.store(true, Ordering::SeqCst);
            let lost = gateway.decide(payment(id, 100)).await.expect_err("its actor is gone");
            assert!(matches!(lost, Refusal::Recovering), "{lost}");
            gateway.serving().await.expect("recovered");
        }
        let answer = gateway.decide(payment("t-2", 100)).await.expect("an answer");
        assert_eq!((count(&answer), answer.duplicate), (2.0, false));
        assert!(gateway.decide(payment("t-1", 100)).await.expect("an answer").duplicate);
        assert!(readiness.is_ready());
        assert_eq!((records(&journal).await.len(), gateway.in_flight()), (2, 0));
    });
}

/// Nobody would serve its partitions again: the process must end, so that whoever watches over it starts it anew.
#[test]
fn a_shard_that_panics_is_not_ready_and_says_so() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let scorer = Fake(|_: &[&FeatureVector], _| -> Scores { panic!("told to panic") });
        let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(Box::new(scorer)));
        let settings = settings(Arc::clone(&journal), 8);
        let (readiness, lists) = (settings.readiness.clone(), Arc::clone(&settings.lists));
        let permits = settings.permits.clone();
        let (address, start) = ShardActor::prepare(settings, judge);
        start();
        let gateway = Gateway::new(vec![address], 2, permits, lists);
        gateway.serving().await.expect("serving");
        assert!(readiness.is_ready());
        let deadline = Some(clock::instant() + Duration::from_secs(60));
        gateway.decide(Submission { deadline, ..payment("t-1", 100) }).await.expect_err("nobody decides it");
        assert_eq!(readiness.lost_shard().await, 0);
        assert!(!readiness.is_ready());
        assert!(records(&journal).await.is_empty());
    });
}

/// The end of a shard that was stopped, or that nobody knows any more, is no loss.
#[test]
fn a_shard_that_ends_is_no_loss() {
    actix::System::new().block_on(async {
        let settings = settings(Moody::new(), 8);
        let readiness = settings.readiness.clone();
        let (gateway, address) = start_with(settings);
        gateway.serving().await.expect("serving");
        gateway.stop().await;
        while address.connected() {
            tokio::task::yield_now().await;
        }
        let lost = readiness.lost_shard();
        assert!(futures_util::FutureExt::now_or_never(lost).is_none());
    });
}

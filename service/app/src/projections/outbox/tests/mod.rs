//! The outbox over a journal in memory: each once through failures and restarts; on a real broker in `broker`.

mod broker;

use super::*;
use crate::journal::record::{Record, samples};
use crate::journal::{MemoryJournal, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use std::sync::{Mutex, MutexGuard};

/// What was published, all or nothing; it fails when it is told to.
#[derive(Default)]
struct Topics {
    state: Mutex<Published>,
}

#[derive(Clone, Default)]
struct Published {
    batches: Vec<Vec<Outgoing>>,
    reflected: Reflected,
    fails: Option<PublishError>,
    /// What fails has landed all the same.
    lands: bool,
    unread: u32,
}

impl Topics {
    fn state(&self) -> MutexGuard<'_, Published> {
        self.state.lock().expect("no holder panicked")
    }

    /// Values that were published, and their channels.
    fn all(&self) -> Vec<(Channel, String)> {
        let text = |outgoing: &Outgoing| {
            let alert: serde_json::Value = serde_json::from_slice(&outgoing.value).expect("JSON");
            (outgoing.channel, alert["transaction_id"].as_str().expect("an id").to_owned())
        };
        self.state().batches.iter().flatten().map(text).collect()
    }
}

impl Publisher for Topics {
    fn reflected(&self) -> BoxFuture<'_, Result<Reflected, PublishError>> {
        let mut state = self.state();
        if state.unread > 0 {
            state.unread -= 1;
            return ready(Err(PublishError::Unread("the brokers are away".into()))).boxed();
        }
        ready(Ok(state.reflected)).boxed()
    }

    fn publish(&self, messages: Vec<Outgoing>, reflected: Reflected) -> BoxFuture<'_, Result<(), PublishError>> {
        let mut state = self.state();
        let fails = state.fails.take();
        if fails.is_none() || state.lands {
            state.batches.push(messages);
            state.reflected = reflected;
        }
        ready(fails.map_or(Ok(()), Err)).boxed()
    }

    fn ended(&self) -> BoxFuture<'_, PublishError> {
        std::future::pending().boxed()
    }
}

/// A journal of two partitions, taken over.
async fn journal() -> (Arc<MemoryJournal>, u64) {
    let journal = Arc::new(MemoryJournal::new(2, true));
    let tenures = journal.take_over(vec![0, 1]).await.expect("takes over");
    (journal, tenures[0].epoch)
}

/// Record n of a partition: of every four an alert, a dead letter, and two that go nowhere.
fn record(partition: Partition, epoch: u64, n: u64) -> Record {
    match n % 4 {
        0 => samples::alert(partition, epoch, n, &format!("u-{}", n % 7)),
        1 => samples::dead_letter(partition, epoch, n),
        2 => samples::login(partition, epoch, n),
        _ => samples::decision(partition, epoch, n),
    }
}

async fn append(journal: &MemoryJournal, epoch: u64, partition: Partition, numbers: std::ops::Range<u64>) {
    journal.append(numbers.map(|n| record(partition, epoch, n)).collect()).await.expect("durable");
}

/// What these records of partition 0 send out.
fn expected(numbers: std::ops::Range<u64>) -> Vec<(Channel, String)> {
    let of = |n: u64| match n % 4 {
        0 => Some((Channel::Alerts, format!("t-0-{n}"))),
        1 => Some((Channel::DeadLetters, format!("t-{n}"))),
        _ => None,
    };
    numbers.filter_map(of).collect()
}

fn outbox(journal: &Arc<MemoryJournal>, topics: &Arc<Topics>) -> Outbox {
    Outbox::new(Arc::clone(journal) as Arc<dyn Journal>, Arc::clone(topics) as Arc<dyn Publisher>, 0)
}

#[tokio::test]
async fn each_goes_out_once_through_restarts_and_failures_whose_outcome_is_unknown() {
    let (journal, epoch) = journal().await;
    let topics = Arc::new(Topics::default());
    append(&journal, epoch, 0, 0..40).await;
    append(&journal, epoch, 1, 0..10).await;
    let mut first = outbox(&journal, &topics);
    let lag = first.lag();
    assert_eq!((lag.records(), lag.partition()), (40, 0));
    first.catch_up().await.expect("catches up");
    first.catch_up().await.expect("nothing new");
    assert_eq!((topics.all(), lag.records()), (expected(0..40), 0));
    assert_eq!(topics.state().batches.len(), 1);

    for (lands, from) in [(false, 40), (true, 60)] {
        append(&journal, epoch, 0, from..from + 20).await;
        (topics.state().fails, topics.state().lands) = (Some(PublishError::Ended("gone".into())), lands);
        let mut failing = outbox(&journal, &topics);
        let error = failing.catch_up().await.expect_err("it fails");
        assert!(!error.is_transient() && !error.is_fenced(), "{error}");
        assert_eq!(error.to_string(), "alerts and dead letters of partition 0 stand still: gone");
        outbox(&journal, &topics).catch_up().await.expect("goes on");
        assert_eq!(topics.all(), expected(0..from + 20));
    }
}

#[tokio::test]
async fn large_catch_ups_go_out_in_parts_and_nothing_to_say_is_said_seldom() {
    let (journal, epoch) = journal().await;
    let topics = Arc::new(Topics::default());
    append(&journal, epoch, 0, 0..3_000).await;
    let mut outbox = outbox(&journal, &topics);
    outbox.catch_up().await.expect("catches up");
    assert_eq!(topics.all(), expected(0..3_000));
    let sizes: Vec<usize> = topics.state().batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [512, 512, 476]);
    let silent = (3_000..3_000 + MAX_UNSAVED).map(|n| samples::decision(0, epoch, n));
    let mut silent: Vec<Record> = silent.collect();
    let last = silent.pop().expect("some");
    journal.append(silent).await.expect("durable");
    outbox.catch_up().await.expect("catches up");
    assert_eq!(topics.state().batches.len(), 3);
    journal.append(vec![last]).await.expect("durable");
    outbox.catch_up().await.expect("catches up");
    let state = topics.state();
    assert_eq!((state.batches.len(), state.batches[3].len()), (4, 0));
    assert_eq!(state.reflected.first(), Reached { n: 3_000 + MAX_UNSAVED, position: None });
}

#[tokio::test]
async fn one_channel_alone_is_written_anew() {
    let (journal, epoch) = journal().await;
    let topics = Arc::new(Topics::default());
    append(&journal, epoch, 0, 0..40).await;
    outbox(&journal, &topics).catch_up().await.expect("catches up");
    topics.state().batches.clear();
    topics.state().reflected.dead_letters = Reached::default();
    append(&journal, epoch, 0, 40..44).await;
    outbox(&journal, &topics).catch_up().await.expect("catches up");
    let mut again = expected(0..44);
    again.retain(|(channel, id)| *channel == Channel::DeadLetters || *id == "t-0-40");
    assert_eq!(topics.all(), again);
    let Reflected { alerts, dead_letters } = topics.state().reflected;
    assert_eq!((alerts.n, dead_letters.n), (44, 44));
    // Before it has caught up, the one that was further stays where it was.
    let mut behind = outbox(&journal, &topics);
    let place = |n| Reached { n, position: Some(Position { offset: n, epoch: 1, n }) };
    behind.published = Some(Reflected { alerts: place(44), dead_letters: place(0) });
    assert_eq!(behind.reached(place(20)), Reflected { alerts: place(44), dead_letters: place(20) });
}

#[tokio::test]
async fn topics_ahead_of_their_journal_are_refused_and_brokers_that_are_away_are_waited_for() {
    let (journal, epoch) = journal().await;
    let topics = Arc::new(Topics::default());
    append(&journal, epoch, 0, 0..4).await;
    topics.state().reflected.alerts.n = 9;
    let error = outbox(&journal, &topics).run().await;
    assert!(error.to_string().contains("up to record 9, but the journal ends at 4"), "{error}");
    topics.state().reflected.alerts.n = 0;
    topics.state().unread = 2;
    let running = outbox(&journal, &topics);
    let (lag, mut reflected) = (running.lag(), running.lag().reflected());
    let running = tokio::spawn(running.run());
    reflected.wait_for(|next| *next == 4).await.expect("catches up after a back-off");
    append(&journal, epoch, 0, 4..8).await;
    reflected.wait_for(|next| *next == 8).await.expect("follows");
    assert_eq!((topics.all(), lag.records()), (expected(0..8), 0));
    topics.state().fails = Some(PublishError::Fenced);
    append(&journal, epoch, 0, 8..12).await;
    let error = running.await.expect("it ends");
    assert!(error.is_fenced(), "{error}");
}

#[tokio::test]
async fn who_asks_hears_that_all_before_was_published_in_a_write_that_was_made_for_it() {
    let (journal, epoch) = journal().await;
    let topics = Arc::new(Topics::default());
    journal.append(vec![samples::login(0, epoch, 0), samples::decision(0, epoch, 1)]).await.expect("durable");
    let counted = Reflections::default();
    let running = outbox(&journal, &topics).counted_by(counted.clone());
    let (lag, mut reflected) = (running.lag(), running.lag().reflected());
    let running = tokio::spawn(running.run());
    reflected.wait_for(|next| *next == 2).await.expect("catches up");
    assert_eq!((topics.state().batches.len(), counted.total()), (0, 2), "nothing to say");
    assert!(lag.has_reflected(2) && !lag.has_reflected(3));
    assert!(lag.published(2).await);
    assert_eq!(topics.state().batches, [vec![]]);
    assert_eq!(topics.state().reflected.first().n, 2);
    assert!(lag.published(2).await && lag.published(1).await);
    assert_eq!(topics.state().batches.len(), 1, "it was stored");
    // What is asked for before it is durable is heard of when it is.
    let later = tokio::spawn({
        let lag = lag.clone();
        async move { lag.published(3).await }
    });
    journal.append(vec![samples::login(0, epoch, 2)]).await.expect("durable");
    assert!(later.await.expect("no panic"));
    topics.state().fails = Some(PublishError::Fenced);
    let (asked, error) = tokio::join!(lag.published(4), async {
        journal.append(vec![samples::alert(0, epoch, 3, "u-1")]).await.expect("durable");
        running.await.expect("it ends")
    });
    assert!(!asked && error.is_fenced(), "{error}");
}

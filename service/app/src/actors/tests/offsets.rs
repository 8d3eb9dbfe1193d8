//! Records of a source partition leave in the order of their offsets, whoever is finished first, and resume where they
//! ended (I6).

use super::*;
use crate::actors::gateway::Reply;
use crate::actors::messages::{Accepted, Settled};
use crate::actors::partition::partition_of;
use crate::actors::sources::{Left, Opening};
use crate::actors::turns::Turn;
use crate::journal::checkpoint::SourceOffset;
use crate::journal::record::Body;
use verdict_core::event::Login;

/// A source partition under a session.
struct Sender {
    gateway: Gateway,
    partition: Partition,
    opening: Opening,
    topic: &'static str,
    turn: u64,
}

impl Sender {
    async fn open(gateway: &Gateway, partition: Partition, topic: &'static str) -> Self {
        let opening = gateway.open_sources(partition).await.expect("serving");
        Self { gateway: gateway.clone(), partition, opening, topic, turn: 0 }
    }

    fn submission<E>(&self, event: impl Into<Box<E>>, offset: i64) -> Submission<E> {
        let source = Source::Topic { topic: self.topic.into(), partition: self.partition.into(), offset };
        let (started, original) = (clock::instant(), Some(b"as it came".as_slice().into()));
        let event = event.into();
        Submission { event, source, received_at: NOON, started, deadline: None, undurable: false, original }
    }

    fn next(&mut self) -> Turn {
        self.turn += 1;
        Turn { session: self.opening.session, number: self.turn - 1 }
    }

    async fn pay(&mut self, user: &str, id: &str, offset: i64) -> Reply<Settled> {
        let mut event = payment(id, 1_000).event;
        event.user_id = user.into();
        let (turn, permit) = (self.next(), self.gateway.turn().await.expect("a permit"));
        self.gateway.feed_transaction(self.partition, turn, self.submission(event, offset), permit)
    }

    async fn beat(&mut self, user: &str, id: &str, offset: i64) -> Reply<Settled> {
        let mut event = payment(id, 1).event;
        event.user_id = user.into();
        let (turn, permit) = (self.next(), self.gateway.turn().await.expect("a permit"));
        self.gateway.feed_heartbeat(self.partition, turn, self.submission(event, offset), permit)
    }

    async fn log_in(&mut self, user: &str, id: &str, offset: i64) -> Reply<Accepted> {
        let event = Login {
            login_id: id.into(),
            user_id: user.into(),
            at: NOON,
            ip_address: None,
            device_id: None,
            user_agent: None,
            location: None,
            success: true,
        };
        let (turn, permit) = (self.next(), self.gateway.turn().await.expect("a permit"));
        self.gateway.feed_login(self.partition, turn, self.submission(event, offset), permit)
    }

    async fn leave(&mut self, left: Left, offset: i64) -> Reply<Accepted> {
        let (turn, permit) = (self.next(), self.gateway.turn().await.expect("a permit"));
        self.gateway.feed_left(self.partition, turn, self.submission(left, offset), permit)
    }
}

/// So many users of one partition.
fn users(partition: Partition, count: usize) -> Vec<String> {
    let named = (0..).map(|user| format!("u-{user}"));
    named.filter(|user| partition_of(user, 2) == partition).take(count).collect()
}

fn dead_letter() -> Left {
    Left::DeadLetter { reason: "NOT_JSON", detail: "expected one JSON object".into(), cut: None }
}

/// Offsets and kinds, in the order of the journal, of what one topic left.
async fn left(journal: &Moody, wanted: &str) -> Vec<(i64, &'static str)> {
    let of_topic = |record: Record| match record.source {
        Source::Topic { topic, offset, .. } if &*topic == wanted => Some((
            offset,
            match record.body {
                Body::Decision(_) => "decision",
                Body::Login(_) => "login",
                Body::Duplicate { .. } => "duplicate",
                Body::DeadLetter { .. } => "dead letter",
                Body::Skipped { .. } => "skipped",
                Body::Answered(_) => "answered",
                Body::Label(_) | Body::List(_) => "other",
            },
        )),
        _ => None,
    };
    records(journal).await.into_iter().filter_map(of_topic).collect()
}

fn scored(journal: &Arc<Moody>) -> Gateway {
    let scorer = Box::new(Fake(|rows: &[&FeatureVector], _| Ok(vec![0.1; rows.len()])));
    let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(scorer));
    let (gateway, start) = prepare(Arc::clone(journal), 64, judge, &Metrics::new());
    start();
    gateway
}

#[test]
fn what_needs_no_model_waits_for_what_does() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = scored(&journal);
        let (users_of_other, users) = (users(0, 1), users(1, 3));
        let mut other = Sender::open(&gateway, 0, "t").await;
        let mut topic = Sender::open(&gateway, 1, "t").await;
        assert!(topic.opening.offsets.is_empty() && topic.opening.session != other.opening.session);
        let (a, b, c) = (&users[0], &users[1], &users[2]);
        // Two of one user, so that the second waits for the score of the first; others that need none, or are ready before.
        let settled = [
            topic.pay(a, "t-1", 3).await,
            topic.pay(a, "t-2", 4).await,
            topic.pay(b, "t-1", 5).await,
            topic.pay(a, "t-1", 7).await,
        ];
        let left_behind = [topic.leave(dead_letter(), 8).await, topic.leave(dead_letter(), 9).await];
        let more = [topic.pay(c, "t-1", 10).await, topic.pay(b, "t-1", 11).await, topic.pay(b, "t-3", 12).await];
        let skipped = Left::Skipped { user_id: "u".into(), moved_to: 0 };
        let last = [topic.leave(skipped, 13).await, other.log_in(&users_of_other[0], "l", 1).await];
        for reply in settled.into_iter().chain(more) {
            reply.await.expect("answered").expect("settled");
        }
        for reply in left_behind.into_iter().chain(last) {
            reply.await.expect("answered").expect("accepted");
        }
        let expected = [
            (3, "decision"),
            (4, "decision"),
            (5, "decision"),
            (7, "duplicate"),
            (8, "dead letter"),
            (9, "dead letter"),
            (10, "decision"),
            (11, "duplicate"),
            (12, "decision"),
            (13, "skipped"),
        ];
        let found = left(&journal, "t").await;
        assert_eq!(found.iter().filter(|left| left.1 != "login").copied().collect::<Vec<_>>(), expected);
        let again = Sender::open(&gateway, 1, "t").await.opening;
        assert_eq!(again.offsets, [SourceOffset { topic: "t".into(), partition: 1, next_offset: 14 }]);
    });
}

#[test]
fn two_topics_that_wait_for_each_others_users_both_go_on() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = scored(&journal);
        let (users, mut payments) = (users(1, 2), Sender::open(&gateway, 1, "t").await);
        let mut logins = Sender { turn: 0, topic: "l", ..Sender::open_like(&payments) };
        let mut replies = Vec::new();
        let mut accepted = Vec::new();
        for round in 0..10 {
            for (place, user) in users.iter().enumerate() {
                let at = round * 4 + place as i64 * 2;
                replies.push(payments.pay(user, &format!("t-{at}"), at).await);
                replies.push(payments.pay(user, &format!("t-{}", at + 1), at + 1).await);
                accepted.push(logins.log_in(&users[1 - place], &format!("l-{at}"), at).await);
                // Every second one comes again.
                accepted.push(logins.log_in(user, &format!("l-{}", at - at % 4), at + 1).await);
            }
        }
        for reply in replies {
            reply.await.expect("answered").expect("settled");
        }
        for reply in accepted {
            reply.await.expect("answered").expect("accepted");
        }
        for topic in ["t", "l"] {
            let offsets: Vec<i64> = left(&journal, topic).await.into_iter().map(|left| left.0).collect();
            assert_eq!(offsets, (0..40).collect::<Vec<_>>(), "{topic}");
        }
    });
}

impl Sender {
    /// Another topic under the same session.
    fn open_like(other: &Self) -> Self {
        let Self { gateway, partition, opening, topic, .. } = other;
        Self { gateway: gateway.clone(), partition: *partition, opening: opening.clone(), topic, turn: 0 }
    }
}

#[test]
fn after_a_failed_append_everything_is_refused_until_the_source_is_opened_again() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let gateway = scored(&journal);
        let (users, mut topic) = (users(1, 3), Sender::open(&gateway, 1, "t").await);
        topic.pay(&users[0], "t-1", 5).await.await.expect("answered").expect("settled");
        journal.fails.store(true, Ordering::SeqCst);
        let failed = topic.pay(&users[0], "t-2", 6).await;
        assert!(matches!(failed.await, Ok(Err(Refusal::JournalUnavailable(_)))));
        // It serves again, and takes nothing that goes on as if nothing had been lost.
        let again = Sender::open(&gateway, 1, "t").await;
        let late = topic.pay(&users[1], "t-1", 7).await;
        assert!(matches!(late.await, Ok(Err(Refusal::Recovering)) | Err(_)));
        assert_eq!(again.opening.offsets, [SourceOffset { topic: "t".into(), partition: 1, next_offset: 6 }]);
        let mut topic = again;
        for (user, id, offset) in [(0, "t-2", 6), (1, "t-1", 7)] {
            topic.pay(&users[user], id, offset).await.await.expect("answered").expect("settled");
        }
        let offsets: Vec<i64> = left(&journal, "t").await.into_iter().map(|left| left.0).collect();
        assert_eq!(offsets, [5, 6, 7]);
    });
}

#[test]
fn a_heartbeat_is_decided_in_its_turn_and_leaves_a_record_and_nothing_else() {
    actix::System::new().block_on(async {
        let (journal, metrics) = (Moody::new(), Metrics::new());
        // Whatever it scores, and though the rules would have the user blocked for it.
        let scorer = Box::new(Fake(|rows: &[&FeatureVector], _| Ok(vec![0.99; rows.len()])));
        let judge = judge_by(compile(RULES, "base: USD\nrates: {}\n"), Some(scorer));
        let (gateway, start) = prepare(Arc::clone(&journal), 64, judge, &metrics);
        start();
        let (users, mut topic) = (users(1, 2), Sender::open(&gateway, 1, "t").await);
        let beats = [topic.beat(&users[0], "b-1", 0).await, topic.beat(&users[0], "b-2", 1).await];
        let paid = topic.pay(&users[1], "t-1", 2).await;
        let again = topic.beat(&users[0], "b-1", 3).await;
        for beat in beats.into_iter().chain([again]) {
            let settled = beat.await.expect("answered").expect("settled");
            let Settled::Answer(answer) = settled else { panic!("expected an answer") };
            assert!(answer.durable && answer.decided.decision.score.is_some(), "by rules and model: {answer:?}");
        }
        paid.await.expect("answered").expect("settled");
        let expected = [(0, "skipped"), (1, "skipped"), (2, "decision"), (3, "skipped")];
        assert_eq!(left(&journal, "t").await, expected);
        assert!(gateway.profile(&users[0]).await.expect("serving").is_none(), "nobody was ever seen");
        let found = records(&journal).await.into_iter().find(|record| record.n == 0 && record.partition == 1);
        let stays = Body::Skipped { user_id: users[0].as_str().into(), moved_to: 1 };
        assert_eq!(found.map(|record| record.body), Some(stays));
        let text = metrics.render();
        let decided = text.lines().filter(|line| line.starts_with("verdict_decisions_total{") && !line.ends_with(" 0"));
        assert_eq!(decided.count(), 1, "the payment alone: {text}");
        for line in ["verdict_skipped_total 0", "verdict_duplicates_total 0", "verdict_decide_seconds_count 1"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    });
}

//! Payments while their shard recovers: lists and the declared policy decide, and every answer is journaled before it serves.

use super::spilled::{Stage, decided, within_time};
use super::*;
use crate::journal::record::Body;
use verdict_core::decision::{DecisionMode, Degradation};
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind, ListSource};

fn listed(kind: ListKind, value: &str) -> Submission<ListChange> {
    let key = ListKey { list: List::Block, kind, value: value.into() };
    let Submission { source, received_at, started, .. } = payment("-", 1);
    let event = ListChange {
        key,
        source: ListSource::Api,
        action: ListAction::Put { reason: "known".into(), expires_at: None },
    };
    let event = Box::new(event);
    Submission { event, source, received_at, started, deadline: None, undurable: false, original: None }
}

fn of(user_id: &str, id: &str, minor: i64) -> Submission<Transaction> {
    let mut sent = within_time(id);
    sent.event = payment(id, minor).event;
    sent.event.user_id = user_id.into();
    sent
}

impl Stage {
    /// Has the shard recover, and stay there.
    async fn lose(&self) {
        self.journal.recovery_held.send_replace(true);
        self.journal.fails.store(true, Ordering::SeqCst);
        let strict = Submission { undurable: false, ..within_time("strict") };
        let refused = self.gateway.decide(strict).await.expect_err("its append fails");
        assert!(matches!(refused, Refusal::JournalUnavailable(_)), "{refused}");
    }

    async fn recover(&self) {
        self.journal.recovery_held.send_replace(false);
        self.gateway.serving().await.expect("recovered");
    }
}

#[test]
fn lists_and_the_declared_policy_decide_while_the_shard_recovers() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        stage.gateway.change_list(listed(ListKind::Merchant, "m-bad")).await.expect("listed");
        stage.gateway.change_list(listed(ListKind::User, "u-bad")).await.expect("listed");
        stage.lose().await;
        let mut at_bad = of("u-2", "t-1", 1_000);
        at_bad.event.merchant_id = "m-bad".into();
        let cases = [
            (of("u-1", "t-1", 50_000), Outcome::Approve, None),
            (of("u-1", "t-2", 50_001), Outcome::Review, Some("FALLBACK_POLICY")),
            (at_bad, Outcome::Block, Some("LISTED")),
            (of("u-bad", "t-1", 1_000), Outcome::Block, Some("LISTED")),
        ];
        let mut given = Vec::new();
        for (sent, outcome, code) in cases {
            let answer = stage.gateway.decide(sent.clone()).await.expect("an answer");
            let decision = &answer.decided.decision;
            assert!(!answer.durable && !answer.duplicate && answer.decided.as_answered);
            assert_eq!((decision.mode(), decision.outcome), (DecisionMode::Fallback, outcome));
            assert_eq!(decision.reasons.first().map(|reason| &*reason.code), code);
            assert_eq!((decision.alert, decision.score), (outcome != Outcome::Approve, None));
            assert_eq!(decision.degraded, [Degradation::Recovering]);
            let again = stage.gateway.decide(sent.clone()).await.expect("an answer");
            assert!(again.duplicate && !again.durable);
            assert_eq!(again.decided, answer.decided);
            given.push((sent, answer));
        }
        assert_eq!((stage.spill.level().entries, stage.gateway.in_flight()), (4, 0));
        // What would be another payment, what must be durable, and what is no payment.
        let reused = stage.gateway.decide(of("u-1", "t-1", 1)).await.expect_err("another payment");
        assert!(matches!(reused, Refusal::IdReused), "{reused}");
        let strict = Submission { undurable: false, ..within_time("t-3") };
        let refused = stage.gateway.decide(strict).await.expect_err("not durable");
        assert!(matches!(refused, Refusal::Recovering), "{refused}");

        stage.recover().await;
        assert_eq!(stage.spill.level().entries, 0, "it serves once they are journaled");
        for (sent, answer) in given {
            let again = stage.gateway.decide(sent).await.expect("an answer");
            assert!(again.duplicate && again.durable);
            assert_eq!(again.decided, answer.decided);
        }
        let journaled = records(&stage.journal).await;
        let decisions = journaled.iter().filter(|record| matches!(record.body, Body::Decision(_)));
        assert_eq!(decisions.filter(|record| decided(record).as_answered).count(), 4);
        // The two of u-1 count from now on.
        assert_eq!(count(&stage.gateway.decide(of("u-1", "t-9", 1)).await.expect("an answer")), 3.0);
        for line in [
            "verdict_decisions_total{decision=\"approve\",mode=\"fallback\"} 1",
            "verdict_decisions_total{decision=\"review\",mode=\"fallback\"} 1",
            "verdict_decisions_total{decision=\"block\",mode=\"fallback\"} 2",
            "verdict_degraded_total{reason=\"RECOVERING\"} 4",
            "verdict_answers_spilled_total 8",
            "verdict_alerts_total 4",
        ] {
            stage.assert_counted(line);
        }
    });
}

#[test]
fn nothing_is_decided_before_all_lists_are_known() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        journal.recovery_held.send_replace(true);
        let folder = tempfile::tempdir().expect("a directory");
        let spill = Arc::new(crate::journal::spill::Spill::open(folder.path(), "a test", 1 << 20).expect("opens"));
        let settings = ShardSettings { spill: Some(Arc::clone(&spill)), ..settings(Arc::clone(&journal), 8) };
        let (gateway, _) = start_with(settings);
        let refused = gateway.decide(within_time("t-1")).await.expect_err("a list may name it");
        assert!(matches!(refused, Refusal::Recovering), "{refused}");
        assert_eq!(spill.level().entries, 0);
        journal.recovery_held.send_replace(false);
        gateway.serving().await.expect("serving");
        assert!(gateway.decide(within_time("t-1")).await.expect("an answer").durable);
    });
}

#[test]
fn a_decision_whose_append_fails_is_given_and_journaled_by_the_recovery() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        stage.journal.fails.store(true, Ordering::SeqCst);
        let late = stage.decide("t-1").await.expect("an answer");
        assert!(!late.durable && late.decided.decision.is_normal(), "what was computed is what is answered");
        stage.gateway.serving().await.expect("recovered");
        let again = stage.decide("t-1").await.expect("an answer");
        assert!(again.durable && again.duplicate);
        assert_eq!((&again.decided.decision, again.decided.as_answered), (&late.decided.decision, true));
        assert_eq!((records(&stage.journal).await.len(), stage.spill.level().entries), (1, 0));
    });
}

#[test]
fn another_answer_than_the_one_that_counts_leaves_a_record_of_its_own() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        assert!(stage.decide("t-1").await.expect("an answer").durable);
        stage.lose().await;
        let other = stage.decide("t-1").await.expect("an answer");
        assert!(
            !other.duplicate && other.decided.decision.mode() == DecisionMode::Fallback,
            "nobody knows of the first"
        );
        stage.recover().await;
        stage.assert_counted("verdict_answer_conflicts_total 1");
        let journaled = records(&stage.journal).await;
        assert_eq!(journaled.iter().filter(|record| matches!(record.body, Body::Answered(_))).count(), 1);
        let again = stage.decide("t-1").await.expect("an answer");
        assert!(again.durable && again.duplicate && again.decided.decision.is_normal(), "the first one counts");
        assert_eq!(count(&stage.decide("t-2").await.expect("an answer")), 2.0);
    });
}

/// Whenever an answer comes, while the shard recovers, while it looks for the last time, or while it serves: it is journaled
/// once, and as it was given.
#[test]
fn no_answer_is_lost_between_a_recovery_and_what_follows() {
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        for round in 0..20 {
            stage.lose().await;
            let ask = |number: usize| {
                let stage = &stage;
                async move {
                    for _ in 0..number {
                        tokio::task::yield_now().await;
                    }
                    if number == 30 {
                        stage.journal.recovery_held.send_replace(false);
                    }
                    let sent = of(&format!("u-{}", number % 7), &format!("t-{round}-{number}"), 1_000);
                    (sent.clone(), stage.gateway.decide(sent).await)
                }
            };
            let answers = join_all((0..60).map(ask)).await;
            stage.gateway.serving().await.expect("recovered");
            stage.until_empty().await;
            for (sent, answer) in answers {
                let answer = answer.expect("an answer");
                let again = stage.gateway.decide(sent).await.expect("an answer");
                assert!(again.duplicate && again.durable);
                assert_eq!(again.decided.decision, answer.decided.decision);
            }
        }
        let journaled = records(&stage.journal).await;
        let decisions: Vec<&Record> =
            journaled.iter().filter(|record| matches!(record.body, Body::Decision(_))).collect();
        assert_eq!(decisions.len(), 20 * 60);
        assert!(decisions.iter().any(|record| !decided(record).as_answered), "some are decided by the shard");
        stage.assert_counted("verdict_answer_conflicts_total 0");
    });
}

/// While something is answered during every look, the shard would not come to serve.
#[test]
fn payments_are_refused_where_answers_would_keep_the_shard_from_serving() {
    const MOST_ANSWERS: usize = 1_000;
    actix::System::new().block_on(async {
        let stage = Stage::fresh().await;
        stage.lose().await;
        let given = stage.decide("t-0").await.expect("an answer").decided;
        let (spill, mut number) = (Arc::clone(&stage.spill), 0);
        let partition = crate::actors::partition::partition_of("u-1", 2);
        let answering = move || {
            number += 1;
            let mut other = (*given).clone();
            other.transaction.transaction_id = format!("meanwhile-{number}").into();
            drop(spill.put_unnumbered(partition, NOON, &Arc::new(other)).expect("there is room"));
        };
        *stage.journal.on_append.lock().expect("no holder panicked") = Some(Box::new(answering));
        stage.journal.recovery_held.send_replace(false);
        let mut answered = Vec::new();
        let refused = loop {
            let id = format!("t-{}", answered.len() + 1);
            match stage.decide(&id).await {
                Ok(answer) => answered.push(answer),
                Err(refusal) => break (id, refusal),
            }
            assert!(answered.len() < MOST_ANSWERS, "none is refused");
        };
        assert!(matches!(refused.1, Refusal::Recovering), "{}", refused.1);
        assert!(answered.iter().all(|answer| answer.decided.decision.mode() == DecisionMode::Fallback));

        *stage.journal.on_append.lock().expect("no holder panicked") = None;
        stage.gateway.serving().await.expect("recovered");
        assert_eq!(stage.spill.level().entries, 0);
        for answer in answered {
            let again = stage.decide(&answer.decided.transaction.transaction_id).await.expect("an answer");
            assert!(again.durable && again.duplicate && again.decided == answer.decided);
        }
        assert!(stage.decide(&refused.0).await.expect("an answer").decided.decision.is_normal());
        stage.assert_counted("verdict_answer_conflicts_total 0");
    });
}

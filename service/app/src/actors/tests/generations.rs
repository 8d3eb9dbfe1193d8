//! Another generation of rules and model comes into force while events are in flight: no decision mixes two (I8).

use super::*;
use crate::journal::record::{Body, Decided};
use actix::Arbiter;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc;
use verdict_core::decision::ModelVerdict;
use verdict_core::features::compute;
use verdict_core::profile::Profile;

/// A generation by its number: it names itself in the reasons of its rules and of its model, converts euros at its own
/// rate, and its model gives its own score.
struct Named {
    number: u16,
    rules: Arc<RuleSet>,
}

impl Named {
    fn new(number: u16) -> Self {
        let outcome = ["approve", "challenge", "review", "block"][usize::from(number) % 4];
        let ruleset = format!(
            "
rules:
  - id: over
    version: {number}
    when: amount > 10.0
    outcome: {outcome}
    reason: {{code: RULES_{number}, message: \"{{amount}}\"}}
policy:
  model_bands: [{{above: 0.0, outcome: challenge, code: MODEL_{number}}}]
"
        );
        Self { number, rules: compile(&ruleset, &format!("base: USD\nrates: {{EUR: \"{number}.00\"}}\n")) }
    }

    fn score(&self) -> f32 {
        f32::from(self.number) / 1_000.0
    }

    fn judge(&self) -> Judge {
        let score = self.score();
        judge_by(
            Arc::clone(&self.rules),
            Some(Box::new(Fake(move |rows: &[&FeatureVector], _| Ok(vec![score; rows.len()])))),
        )
    }

    /// Everything about a decision is of this generation.
    fn check(&self, decided: &Decided) {
        let Decided { transaction, features, decision, generation, .. } = decided;
        assert_eq!(generation.ruleset_hash, self.rules.hash());
        assert_eq!(decision.score, Some(self.score()), "the score is of another model");
        let minor = transaction.amount.minor() * i64::from(self.number);
        assert_eq!(transaction.base.0, minor, "the price is of other rates");
        assert_eq!(features.named("amount"), Some(minor as f64 / 100.0));
        let mut codes: Vec<&str> = decision.reasons.iter().map(|reason| &*reason.code).collect();
        codes.sort_unstable();
        let (of_model, of_rules) = (format!("MODEL_{}", self.number), format!("RULES_{}", self.number));
        let expected: &[&str] = if minor > 1_000 { &[&of_model, &of_rules] } else { &[&of_model] };
        assert_eq!(codes, expected, "the reasons are of another generation");
    }
}

fn euros(user: &str, id: &str, minor: i64) -> Submission<Transaction> {
    let mut sent = payment(id, minor);
    sent.event.user_id = user.into();
    sent.event.amount = Money::from_minor(minor, Currency::from_code("EUR").expect("a currency"));
    sent
}

#[test]
fn what_waits_for_the_old_model_ends_with_it_and_what_comes_later_begins_with_the_new_one() {
    actix::System::new().block_on(async {
        let (old, new) = (Named::new(2), Named::new(3));
        let ((asked, asks), (give, word)) = (mpsc::channel(), mpsc::channel());
        let score = old.score();
        // The old model waits for a word at its first two batches.
        let mut batches = 0;
        let holding = Fake(move |rows: &[&FeatureVector], _: Option<Duration>| {
            batches += 1;
            if batches < 3 {
                asked.send(rows.len()).expect("the test listens");
                word.recv().expect("the test gives its word");
            }
            Ok(vec![score; rows.len()])
        });
        let judge = judge_by(Arc::clone(&old.rules), Some(Box::new(holding)));
        let (gateway, start) = prepare(Moody::new(), 1_024, judge, &Metrics::new());
        Arbiter::new().spawn_fn(start);
        gateway.serving().await.expect("serving");
        let send = |users: std::ops::Range<u32>, id: &'static str| {
            let gateway = gateway.clone();
            let users: Vec<String> = users.map(|user| format!("u-{user}")).collect();
            actix::spawn(async move { join_all(users.iter().map(|user| gateway.decide(euros(user, id, 600)))).await })
        };
        let queued = async |in_flight| {
            while gateway.in_flight() < in_flight {
                tokio::task::yield_now().await;
            }
        };
        let first = send(0..1, "t-1");
        while asks.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // Begun before the swap: more than a batch, so that most are scored after it. The second of a user waits for
        // its first, so it begins after it.
        let before = send(1..151, "t-1");
        queued(151).await;
        give.send(()).expect("the scorer listens");
        while asks.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        let behind = send(1..151, "t-2");
        queued(301).await;
        let adopting = actix::spawn({
            let (gateway, judge) = (gateway.clone(), new.judge());
            async move { gateway.adopt(vec![judge]).await }
        });
        tokio::task::yield_now().await;
        let after = send(200..250, "t-1");
        queued(351).await;
        give.send(()).expect("the scorer listens");
        adopting.await.expect("adopted");
        for (sent, expected) in [(first, Some(&old)), (before, Some(&old)), (behind, None), (after, Some(&new))] {
            for answer in sent.await.expect("joined") {
                let decided = answer.expect("an answer").decided;
                let by_new = decided.generation.ruleset_hash == new.rules.hash();
                let generation = expected.unwrap_or(if by_new { &new } else { &old });
                generation.check(&decided);
            }
        }
        let last = gateway.decide(euros("u-0", "t-2", 400)).await.expect("an answer");
        new.check(&last.decided);
        // What was decided keeps its answer.
        let again = gateway.decide(euros("u-0", "t-1", 600)).await.expect("an answer");
        assert!(again.duplicate);
        old.check(&again.decided);
    });
}

/// Decides every record of a journal again, by the generation that it names.
fn replay(records: &[Record], generations: &[Named]) {
    let by_hash: HashMap<[u8; 32], &Named> = generations.iter().map(|named| (named.rules.hash(), named)).collect();
    let mut profiles: HashMap<Box<str>, Profile> = HashMap::new();
    for record in records {
        let Body::Decision(decided) = &record.body else { panic!("{record:?}") };
        let Named { rules, .. } = by_hash[&decided.generation.ruleset_hash];
        let transaction = &decided.transaction;
        assert_eq!(rules.rates().to_base(transaction.amount), Ok(transaction.base));
        let profile = profiles.entry(transaction.user_id.clone()).or_default();
        let list_hits = profile.list_hits(&transaction.user_id, record.received_at);
        let computed = compute(profile, transaction, &list_hits, rules.rates().base());
        assert_eq!(computed.features, decided.features);
        let decision = rules.evaluate_and_decide(
            transaction,
            &computed,
            list_hits,
            ModelVerdict::Score(by_hash[&decided.generation.ruleset_hash].score()),
            record.received_at,
        );
        assert_eq!(decision, decided.decision);
        let change = verdict_core::profile::Change::Decided(transaction, &decided.decision);
        profile.apply(change, record.n, &Retention::default());
    }
}

#[test]
fn swaps_at_any_moment_mix_nothing() {
    let used = (0..20).map(|seed| actix::System::new().block_on(swap_at_random(seed))).sum::<usize>();
    assert!(used >= 40, "{used} generations decided in 20 runs: the swaps met no decisions");
}

/// Gives the number of generations that decided anything.
async fn swap_at_random(seed: u64) -> usize {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let generations: Vec<Named> = (1..6).map(Named::new).collect();
    let by_hash: HashMap<[u8; 32], &Named> = generations.iter().map(|named| (named.rules.hash(), named)).collect();
    let journal = Moody::new();
    let (gateway, start) = prepare(Arc::clone(&journal), 512, generations[0].judge(), &Metrics::new());
    // On a thread of its own, so that a swap meets decisions at every step.
    Arbiter::new().spawn_fn(start);
    gateway.serving().await.expect("serving");
    let (mut sent, mut adopted) = (Vec::new(), Vec::new());
    for number in 0..300 {
        let (user, id) = (format!("u-{}", rng.random_range(0..40)), format!("t-{number}"));
        let submission = euros(&user, &id, rng.random_range(1..1_500));
        let asked = gateway.clone();
        sent.push(actix::spawn(async move { asked.decide(submission).await }));
        for _ in 0..rng.random_range(0..3) {
            tokio::task::yield_now().await;
        }
        if rng.random_range(0..10) == 0 {
            let (asked, judge) = (gateway.clone(), generations[rng.random_range(0..generations.len())].judge());
            let adopting = actix::spawn(async move { asked.adopt(vec![judge]).await });
            // Waiting for some lets the shard catch up with the events that were sent before.
            if rng.random_range(0..3) == 0 {
                adopting.await.expect("joined");
            } else {
                adopted.push(adopting);
            }
        }
    }
    let mut used = HashSet::new();
    for answer in sent {
        let decided = answer.await.expect("joined").unwrap_or_else(|refusal| panic!("seed {seed}: {refusal}")).decided;
        by_hash[&decided.generation.ruleset_hash].check(&decided);
        used.insert(decided.generation.ruleset_hash);
    }
    join_all(adopted).await;
    replay(&records(&journal).await, &generations);
    used.len()
}

#[test]
fn a_currency_that_lost_its_rate_while_its_payment_waited_is_refused() {
    actix::System::new().block_on(async {
        let journal = Moody::new();
        let (gateway, start) = prepare(Arc::clone(&journal), 8, Named::new(2).judge(), &Metrics::new());
        start();
        gateway.serving().await.expect("serving");
        let without = judge_by(compile(RULES, "base: USD\nrates: {}\n"), None);
        gateway.adopt(vec![without]).await;
        let refused = gateway.decide(euros("u-1", "t-1", 100)).await.expect_err("no rate");
        assert_eq!(refused.code(), "UNKNOWN_CURRENCY", "{refused}");
        assert!(records(&journal).await.is_empty());
        assert!(gateway.decide(payment("t-1", 100)).await.is_ok());
    });
}

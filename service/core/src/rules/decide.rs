//! From what was found to the decision: the most severe outcome wins, every cause is named, effects are data.

use super::{Mode, Rule, RuleSet};
use crate::alert;
use crate::decision::{Decision, Degradation, ModelVerdict, Outcome, Reason, RiskLevel, RuleHit, RuleRef};
use crate::event::Transaction;
use crate::features::{Computed, FeatureVector, compute_alone, lookup};
use crate::lists::{List, ListEntry, ListHit};
use crate::money::Money;
use crate::policy::ModelBand;
use crate::time::Timestamp;

/// Everything that a decision follows from, besides the rule set.
#[derive(Clone, Debug)]
pub struct DecideInput<'a> {
    /// The payment.
    pub transaction: &'a Transaction,
    /// What rules and model saw of it.
    pub features: &'a FeatureVector,
    /// What [`RuleSet::evaluate`] found in these features.
    pub rule_hits: Vec<RuleHit>,
    /// The list entries that bind the payment.
    pub list_hits: Vec<ListHit>,
    /// What the model said.
    pub model: ModelVerdict,
    /// Whether the windows behind the features were approximate.
    pub window_approximate: bool,
    /// When the payment came in (in a backtest, its own time); an entry that a block makes expires relative to it.
    pub received_at: Timestamp,
}

/// What speaks for an outcome.
struct Cause {
    outcome: Outcome,
    /// Whether it saw something in the payment, rather than an entry that somebody had made before.
    detects: bool,
    reason: Reason,
}

impl RuleSet {
    /// Decides. Live rules and the model's band each contribute an outcome and a reason; shadow rules are recorded only.
    #[must_use]
    pub fn decide(&self, input: DecideInput<'_>) -> Decision {
        let score = match input.model {
            ModelVerdict::Score(score) => Some(score),
            ModelVerdict::Absent | ModelVerdict::Missing(_) => None,
        };
        let band = score.and_then(|score| Some((score, self.band(score)?)));
        let live: Vec<&Rule> = self.live(&input.rule_hits).collect();

        // Rules in their order, then the model; the stable sort puts the most severe first and keeps that order else.
        let mut causes: Vec<Cause> = live
            .iter()
            .map(|rule| Cause {
                outcome: rule.outcome,
                detects: !rule.reads_lists_only(),
                reason: self.rule_reason(rule, input.features),
            })
            .collect();
        causes.extend(band.map(|(score, band)| Cause {
            outcome: band.outcome,
            detects: true,
            reason: band_reason(score, band),
        }));
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.outcome));
        let outcome = causes.first().map_or(Outcome::Approve, |cause| cause.outcome);

        // The entry says what was detected, not that the user had been listed.
        let renews = causes.iter().find(|cause| cause.outcome == Outcome::Block && cause.detects);
        let block_entry = renews.zip(self.policy.block_user_ttl_ms).map(|(cause, ttl_ms)| ListEntry {
            list: List::Block,
            reason: cause.reason.message.clone(),
            alert_id: Some(alert::alert_id(input.transaction)),
            expires_at: Some(input.received_at + ttl_ms),
        });
        let reasons: Vec<Reason> = causes.into_iter().map(|cause| cause.reason).collect();
        let mut degraded = Vec::new();
        if let ModelVerdict::Missing(why) = input.model {
            degraded.push(why);
        }
        if input.window_approximate {
            degraded.push(Degradation::WindowApproximate);
        }
        Decision {
            outcome,
            score,
            risk_level: RiskLevel::from(outcome),
            reasons,
            degraded,
            alert: outcome != Outcome::Approve || !live.is_empty(),
            rule_hits: input.rule_hits,
            list_hits: input.list_hits,
            block_entry,
        }
    }

    /// Evaluates and decides in one step, for whoever has the model's word already: a replay, a case. The service asks
    /// the model in between.
    #[must_use]
    pub fn evaluate_and_decide(
        &self,
        transaction: &Transaction,
        computed: &Computed,
        list_hits: Vec<ListHit>,
        model: ModelVerdict,
        received_at: Timestamp,
    ) -> Decision {
        let mut rule_hits = Vec::new();
        self.evaluate(&computed.features, &mut rule_hits);
        self.decide(DecideInput {
            transaction,
            features: &computed.features,
            rule_hits,
            list_hits,
            model,
            window_approximate: computed.approximate,
            received_at,
        })
    }

    /// Decides without the user's profile: rules that look at lists alone, and else the declared fallback. Gives what it saw
    /// as well.
    #[must_use]
    pub fn fall_back(&self, transaction: &Transaction, list_hits: Vec<ListHit>) -> (FeatureVector, Decision) {
        let features = compute_alone(transaction, &list_hits, self.rates.base());
        let mut rule_hits = Vec::new();
        self.evaluate(&features, &mut rule_hits);
        // What another rule makes of a history that is not there means nothing.
        let of_lists = |hit: &RuleHit| self.rules.get(usize::from(hit.rule)).is_some_and(Rule::reads_lists_only);
        rule_hits.retain(of_lists);
        let live: Vec<&Rule> = self.live(&rule_hits).collect();
        let mut causes: Vec<(Outcome, Reason)> =
            live.iter().map(|rule| (rule.outcome, self.rule_reason(rule, &features))).collect();
        causes.extend(self.fallback(transaction));
        causes.sort_by_key(|(outcome, _)| std::cmp::Reverse(*outcome));
        let outcome = causes.first().map_or(Outcome::Approve, |(outcome, _)| *outcome);
        let decision = Decision {
            outcome,
            score: None,
            risk_level: RiskLevel::from(outcome),
            reasons: causes.into_iter().map(|(_, reason)| reason).collect(),
            degraded: vec![Degradation::Recovering],
            alert: outcome != Outcome::Approve || !live.is_empty(),
            rule_hits,
            list_hits,
            // Nothing was detected.
            block_entry: None,
        };
        (features, decision)
    }

    /// What the declared fallback makes of the amount, unless it approves.
    fn fallback(&self, transaction: &Transaction) -> Option<(Outcome, Reason)> {
        let policy = &self.policy.fallback;
        let shown = |minor| Money::from_minor(minor, self.rates.base());
        let (outcome, side) = if transaction.base.0 > policy.above_minor {
            (policy.outcome, "above")
        } else {
            (policy.otherwise, "at most")
        };
        let (amount, limit) = (shown(transaction.base.0), shown(policy.above_minor));
        let message = format!("Decided by the fallback policy: {amount} is {side} {limit}");
        let reason = Reason { code: "FALLBACK_POLICY".into(), message: message.into(), rule: None };
        (outcome != Outcome::Approve).then_some((outcome, reason))
    }

    /// The band that a score falls in: the highest threshold that it exceeds.
    fn band(&self, score: f32) -> Option<&ModelBand> {
        // Compared as the model gives it: as a double, the score 0.8 would lie a little above the threshold 0.8.
        self.policy.model_bands.iter().find(|band| score > band.above as f32)
    }

    fn live(&self, hits: &[RuleHit]) -> impl Iterator<Item = &Rule> {
        let rules = hits.iter().filter_map(|hit| self.rules.get(usize::from(hit.rule)));
        rules.filter(|rule| rule.mode == Mode::Live)
    }

    fn rule_reason(&self, rule: &Rule, features: &FeatureVector) -> Reason {
        Reason {
            code: rule.code.clone(),
            message: rule.message.fill(features, self.rates.base()),
            rule: Some(RuleRef { id: rule.id.clone(), version: rule.version }),
        }
    }
}

impl Rule {
    /// Whether the condition looks at list hits and nothing else: such a block does not renew the entry that it met.
    #[must_use]
    pub fn reads_lists_only(&self) -> bool {
        let list_slots = ["block_list_hits", "allow_list_hits"].map(lookup);
        let is_list = |slot| list_slots.iter().flatten().any(|(list, _)| *list == slot);
        !self.reads.is_empty() && self.reads.iter().copied().all(is_list)
    }
}

fn band_reason(score: f32, band: &ModelBand) -> Reason {
    let message = format!("Model score {} is above {}", shown_score(score, band.above), band.above);
    Reason { code: band.code.clone(), message: message.into(), rule: None }
}

/// The score with as few decimals, from two on, as show that it is above the threshold.
fn shown_score(score: f32, above: f64) -> String {
    let rounded = (2..=9).map(|decimals| format!("{score:.decimals$}"));
    rounded
        .into_iter()
        .find(|text| text.parse().is_ok_and(|shown: f64| shown > above))
        .unwrap_or_else(|| score.to_string())
}

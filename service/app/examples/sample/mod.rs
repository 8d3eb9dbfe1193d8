//! Records as live traffic makes them, for the measuring examples: most payments pass, some raise an alert.

use std::sync::Arc;
use verdict::journal::record::{Body, Decided, Generation, ModelRef, Record};
use verdict_core::decision::{Decision, Outcome, Reason, RuleHit, RuleRef};
use verdict_core::event::{Source, Transaction};
use verdict_core::features::{CATALOGUE, FeatureType, FeatureVector};
use verdict_core::geo::Coordinates;
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::Timestamp;

/// Record `n` of a partition; one in 20 is an alert.
pub(crate) fn record(generation: &Arc<Generation>, partition: u16, epoch: u64, n: u64) -> Record {
    let at = Timestamp::from_millis(1_795_435_200_000 + n as i64 * 997);
    let amount = Money::from_minor(100 + (n as i64 * 7_919) % 50_000, dollar());
    let transaction = Transaction {
        transaction_id: format!("0b9f3c52-6a1e-4d7c-9f00-{n:012x}").into(),
        user_id: format!("user-{:06}", n.wrapping_mul(2_654_435_761) % 1_000_000).into(),
        amount,
        base: BaseMinor(amount.minor()),
        merchant_id: format!("merchant-{:04}", n % 5_000).into(),
        at,
        ip_address: Some("203.0.113.7".into()),
        user_agent: None,
        device_id: Some(format!("device-{:06}", n % 100_000).into()),
        merchant_category: Some("5411".into()),
        location: Coordinates::new(40.71, -74.0).ok(),
    };
    let alert = n.is_multiple_of(20);
    let outcome = if alert { Outcome::Review } else { Outcome::Approve };
    let reason = Reason {
        code: "DAILY_SPEND".into(),
        message: "Daily spend threshold exceeded: 5,130.00 USD today".into(),
        rule: Some(RuleRef { id: "daily_spend".into(), version: 1 }),
    };
    let decision = Decision {
        outcome,
        score: Some((n % 1_000) as f32 / 1_003.0),
        risk_level: outcome.into(),
        reasons: alert.then_some(reason).into_iter().collect(),
        degraded: Vec::new(),
        rule_hits: alert.then_some(RuleHit { rule: 1, shadow: false }).into_iter().collect(),
        list_hits: Vec::new(),
        alert,
        block_entry: None,
    };
    let decided = Decided {
        transaction,
        features: features(n),
        decision,
        generation: Arc::clone(generation),
        evaluated_at: at + 3,
        latency_us: 840,
        as_answered: false,
    };
    Record { partition, epoch, n, source: Source::Http, received_at: at + 2, body: Body::Decision(Arc::new(decided)) }
}

/// Flags, counts and amounts in cents by the type of each slot; one in three users never logged in.
fn features(n: u64) -> FeatureVector {
    let value = |(slot, spec): (u64, FeatureType)| {
        let seed = n.wrapping_mul(31).wrapping_add(slot).wrapping_mul(2_654_435_761) >> 8;
        match spec {
            FeatureType::Bool => (seed % 2) as f64,
            FeatureType::Int => (seed % 40) as f64,
            FeatureType::Double if slot > 22 && n.is_multiple_of(3) => f64::NAN,
            FeatureType::Double => (seed % 500_000) as f64 / 100.0,
        }
    };
    let mut slot = 0;
    FeatureVector(CATALOGUE.map(|spec| {
        slot += 1;
        value((slot - 1, spec.kind))
    }))
}

/// What made the decisions.
pub(crate) fn generation() -> Arc<Generation> {
    let model = ModelRef { name: "default".into(), version: "2026.11.1".into(), sha256: [0xa7; 32] };
    let ruleset_name = "default".into();
    Arc::new(Generation { ruleset_name, ruleset_hash: [0x5c; 32], model: Some(model), feature_schema: [0x91; 32] })
}

fn dollar() -> Currency {
    // invariant: USD is in the tables
    Currency::from_code("USD").unwrap_or_else(|| unreachable!("USD"))
}

//! Records for the tests of the journal and of its readers: fixed ones of every kind, and strategies for any.

use super::Partition;
use super::record::{Body, Cut, Decided, Generation, ModelRef, Record};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;
use verdict_core::decision::{Decision, Degradation, Outcome, Reason, RiskLevel, RuleHit, RuleRef};
use verdict_core::event::{Label, LabelSource, Login, Source, Transaction};
use verdict_core::features::{FeatureVector, SLOTS};
use verdict_core::geo::Coordinates;
use verdict_core::lists::{List, ListAction, ListChange, ListEntry, ListHit, ListKey, ListKind, ListSource};
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::Timestamp;

/// 2026-11-23T12:00:00Z.
const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

pub(crate) fn with(partition: Partition, epoch: u64, n: u64, body: Body) -> Record {
    Record { partition, epoch, n, source: Source::Http, received_at: NOON + n as i64, body }
}

pub(crate) fn login(partition: Partition, epoch: u64, n: u64) -> Record {
    with(partition, epoch, n, Body::Login(sample_login(&format!("l-{n}"))))
}

/// A plain approval.
pub(crate) fn decision(partition: Partition, epoch: u64, n: u64) -> Record {
    let mut decided = sample_decided();
    decided.transaction.transaction_id = format!("t-{partition}-{n}").into();
    decided.decision = Decision {
        outcome: Outcome::Approve,
        score: Some(0.031),
        risk_level: RiskLevel::Normal,
        reasons: Vec::new(),
        degraded: Vec::new(),
        rule_hits: Vec::new(),
        list_hits: Vec::new(),
        alert: false,
        block_entry: None,
    };
    with(partition, epoch, n, Body::Decision(Arc::new(decided)))
}

/// A review with a rule's and a model band's reason, of this user.
pub(crate) fn alert(partition: Partition, epoch: u64, n: u64, user_id: &str) -> Record {
    let mut decided = sample_decided();
    decided.transaction.user_id = user_id.into();
    decided.transaction.transaction_id = format!("t-{partition}-{n}").into();
    decided.evaluated_at = NOON + n as i64;
    with(partition, epoch, n, Body::Decision(Arc::new(decided)))
}

/// A refused record of topic `transactions`, whose offset is its number.
pub(crate) fn dead_letter(partition: Partition, epoch: u64, n: u64) -> Record {
    let body = Body::DeadLetter {
        reason: "TOO_OLD".into(),
        detail: "expected a timestamp after 0 ms".into(),
        original: format!("{{\"transaction_id\":\"t-{n}\"}}").into_bytes().into(),
        cut: None,
    };
    let source = Source::Topic { topic: "transactions".into(), partition: partition.into(), offset: n.cast_signed() };
    Record { source, ..with(partition, epoch, n, body) }
}

/// A record of every kind and source, with every optional part once present and once absent.
pub(crate) fn one_of_each() -> Vec<Record> {
    let mut blocked = sample_decided();
    blocked.transaction.amount = Money::from_minor(1_500, Currency::from_code("JPY").expect("a currency"));
    blocked.transaction.base = BaseMinor(975);
    blocked.transaction.location = None;
    blocked.transaction.merchant_category = None;
    blocked.decision.outcome = Outcome::Block;
    blocked.decision.risk_level = RiskLevel::Highest;
    blocked.decision.score = None;
    blocked.decision.degraded = vec![Degradation::ModelTimeout, Degradation::WindowApproximate];
    blocked.decision.block_entry = Some(ListEntry {
        list: List::Block,
        reason: "Model score above 0.8".into(),
        alert_id: Some(Uuid::from_u128(7)),
        expires_at: Some(NOON + 86_400_000),
    });
    blocked.generation = Arc::new(Generation { model: None, ..(*blocked.generation).clone() });
    let label = Label {
        transaction_id: "t-81".into(),
        user_id: "u-7".into(),
        is_fraud: true,
        source: LabelSource::Chargeback,
        at: NOON,
        amount_lost: Some(BaseMinor(12_345)),
    };
    let duplicate = Body::Duplicate { user_id: "u-7".into(), event_id: "t-81".into() };
    let dead_letter = Body::DeadLetter {
        reason: "TOO_OLD".into(),
        detail: "expected a timestamp after 0 ms".into(),
        original: br#"{"transaction_id":"#.as_slice().into(),
        cut: None,
    };
    let mut records = vec![
        decision(3, 1, 0),
        alert(3, 1, 1, "u-7"),
        with(3, 1, 2, Body::Decision(Arc::new(blocked))),
        login(3, 1, 3),
        with(3, 1, 4, Body::Label(label)),
        with(3, 1, 5, duplicate),
        with(3, 2, 6, dead_letter),
    ];
    records[3].source = Source::File { line: 17 };
    records[5].source = Source::Topic { topic: "transactions".into(), partition: 4, offset: 1 << 40 };
    records
}

/// An answer that was given before it was journaled, and another one to the same transaction.
pub(crate) fn answered() -> Vec<Record> {
    let first = Decided { as_answered: true, ..sample_decided() };
    let mut second = first.clone();
    (second.decision.outcome, second.decision.reasons) = (Outcome::Approve, Vec::new());
    vec![with(3, 2, 10, Body::Decision(Arc::new(first))), with(3, 2, 11, Body::Answered(Arc::new(second)))]
}

/// What only sources with offsets leave.
pub(crate) fn of_topics() -> Vec<Record> {
    let cut = Body::DeadLetter {
        reason: "TOO_LARGE".into(),
        detail: "expected a value of at most 65536 bytes, found 2000000".into(),
        original: br#"{"transaction_id":"#.as_slice().into(),
        cut: Some(Cut { length: 2_000_000, sha256: [7; 32] }),
    };
    let mut records = vec![with(3, 2, 8, Body::Skipped { user_id: "u-7".into(), moved_to: 11 }), with(3, 2, 9, cut)];
    for (record, offset) in records.iter_mut().zip(41..) {
        record.source = Source::Topic { topic: "eu.transactions".into(), partition: 15, offset };
    }
    records
}

/// A change of every kind, list, source and action.
pub(crate) fn list_changes() -> Vec<Record> {
    let change = |list, (kind, value): (ListKind, &str), source, action| {
        Body::List(ListChange { key: ListKey { list, kind, value: value.into() }, source, action })
    };
    let put = |reason: &str, expires_at| ListAction::Put { reason: reason.into(), expires_at };
    let (block, allow, api) = (List::Block, List::Allow, ListSource::Api);
    let bodies = [
        change(block, (ListKind::User, "u-7"), api, put("chargebacks", None)),
        change(allow, (ListKind::Merchant, "m-3"), api, put("partner", Some(NOON + 86_400_000))),
        change(block, (ListKind::Device, "d-1"), ListSource::Decision, put("", Some(NOON))),
        change(allow, (ListKind::Ip, "2001:db8::1"), api, ListAction::Delete),
    ];
    (0..).zip(bodies).map(|(n, body)| with(3, 2, n, body)).collect()
}

fn sample_login(id: &str) -> Login {
    Login {
        login_id: id.into(),
        user_id: "u-7".into(),
        at: NOON,
        ip_address: Some("203.0.113.7".into()),
        device_id: None,
        user_agent: None,
        location: Some(Coordinates::new(40.71, -74.0).expect("a point")),
        success: true,
    }
}

fn sample_decided() -> Decided {
    let mut features = [0.0; SLOTS];
    features[..6].copy_from_slice(&[123.45, 12.0, -0.0, f64::NAN, 1e-300, 5_130.0]);
    Decided {
        transaction: Transaction {
            transaction_id: "t-81".into(),
            user_id: "u-7".into(),
            amount: Money::from_minor(12_345, Currency::from_code("USD").expect("a currency")),
            base: BaseMinor(12_345),
            merchant_id: "m-3".into(),
            at: NOON,
            ip_address: Some("203.0.113.7".into()),
            user_agent: Some("Mozilla/5.0".into()),
            device_id: Some("d-1".into()),
            merchant_category: Some("5411".into()),
            location: Some(Coordinates::new(40.71, -74.0).expect("a point")),
        },
        features: FeatureVector(features),
        decision: Decision {
            outcome: Outcome::Review,
            score: Some(0.62),
            risk_level: RiskLevel::Elevated,
            reasons: vec![
                Reason {
                    code: "DAILY_SPEND".into(),
                    message: "Daily spend threshold exceeded: 5,130.00 USD today".into(),
                    rule: Some(RuleRef { id: "daily_spend".into(), version: 1 }),
                },
                Reason { code: "MODEL_ELEVATED".into(), message: "Model score above 0.5".into(), rule: None },
            ],
            degraded: Vec::new(),
            rule_hits: vec![RuleHit { rule: 1, shadow: false }, RuleHit { rule: 4, shadow: true }],
            list_hits: vec![ListHit {
                list: List::Allow,
                kind: ListKind::Merchant,
                value: "m-3".into(),
                reason: "partner".into(),
            }],
            alert: true,
            block_entry: None,
        },
        generation: Arc::new(Generation {
            ruleset_name: "default".into(),
            ruleset_hash: [0x11; 32],
            model: Some(ModelRef { name: "default".into(), version: "2026.11.1".into(), sha256: [0x22; 32] }),
            feature_schema: [0x33; 32],
        }),
        evaluated_at: NOON + 1,
        latency_us: 840,
        as_answered: false,
    }
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,12}".prop_map(Into::into)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn point() -> impl Strategy<Value = Coordinates> {
    (-90.0..=90.0, -180.0..=180.0).prop_map(|(lat, lon)| Coordinates::new(lat, lon).expect("in range"))
}

fn hash() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn list() -> impl Strategy<Value = List> {
    prop::sample::select(vec![List::Block, List::Allow])
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Http),
        any::<u64>().prop_map(|line| Source::File { line }),
        (text(), any::<i32>(), any::<i64>()).prop_map(|(topic, partition, offset)| Source::Topic {
            topic,
            partition,
            offset
        }),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let money = (any::<i64>(), prop::sample::select(vec!["USD", "JPY", "KWD", "CLF"]))
        .prop_map(|(minor, code)| Money::from_minor(minor, Currency::from_code(code).expect("a currency")));
    let ids = (text(), text(), text());
    let client = (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    (ids, money, any::<i64>(), time(), client, option::of(point())).prop_map(
        |((transaction_id, user_id, merchant_id), amount, base, at, client, location)| Transaction {
            transaction_id,
            user_id,
            amount,
            base: BaseMinor(base),
            merchant_id,
            at,
            ip_address: client.0,
            user_agent: client.1,
            device_id: client.2,
            merchant_category: client.3,
            location,
        },
    )
}

fn decided_body() -> impl Strategy<Value = Body> {
    let reason = (text(), text(), option::of((text(), any::<u32>()))).prop_map(|(code, message, rule)| Reason {
        code,
        message,
        rule: rule.map(|(id, version)| RuleRef { id, version }),
    });
    let hit = (any::<u16>(), any::<bool>()).prop_map(|(rule, shadow)| RuleHit { rule, shadow });
    let kind = prop::sample::select(vec![ListKind::User, ListKind::Merchant, ListKind::Device, ListKind::Ip]);
    let list_hit =
        (list(), kind, text(), text()).prop_map(|(list, kind, value, reason)| ListHit { list, kind, value, reason });
    let entry = (list(), text(), option::of(any::<u128>()), option::of(time())).prop_map(
        |(list, reason, alert, expires_at)| ListEntry {
            list,
            reason,
            alert_id: alert.map(Uuid::from_u128),
            expires_at,
        },
    );
    let degraded =
        prop::sample::select(vec![Degradation::ModelTimeout, Degradation::ModelError, Degradation::WindowApproximate]);
    let outcome = prop::sample::select(Outcome::ALL.map(|(outcome, _)| outcome).to_vec());
    let model = (text(), text(), hash()).prop_map(|(name, version, sha256)| ModelRef { name, version, sha256 });
    let generation =
        (text(), hash(), option::of(model), hash()).prop_map(|(ruleset_name, ruleset_hash, model, feature_schema)| {
            Arc::new(Generation { ruleset_name, ruleset_hash, model, feature_schema })
        });
    let why = (vec(reason, 0..4), vec(degraded, 0..3), vec(hit, 0..4), vec(list_hit, 0..3), option::of(entry));
    let decision = (outcome, option::of(0.0_f32..=1.0), any::<bool>(), why).prop_map(|(outcome, score, alert, why)| {
        let (reasons, degraded, rule_hits, list_hits, block_entry) = why;
        let risk_level = outcome.into();
        Decision { outcome, score, risk_level, reasons, degraded, rule_hits, list_hits, alert, block_entry }
    });
    // Any bits at all: NaN with a payload, infinities, subnormals.
    let features = any::<[u64; SLOTS]>().prop_map(|bits| FeatureVector(bits.map(f64::from_bits)));
    (transaction(), features, decision, generation, time(), any::<u32>()).prop_map(
        |(transaction, features, decision, generation, evaluated_at, latency_us)| {
            let as_answered = false;
            let decided =
                Decided { transaction, features, decision, generation, evaluated_at, latency_us, as_answered };
            Body::Decision(Arc::new(decided))
        },
    )
}

fn login_body() -> impl Strategy<Value = Body> {
    let client = (option::of(text()), option::of(text()), option::of(text()));
    (text(), text(), time(), client, option::of(point()), any::<bool>()).prop_map(
        |(login_id, user_id, at, (ip_address, device_id, user_agent), location, success)| {
            Body::Login(Login { login_id, user_id, at, ip_address, device_id, user_agent, location, success })
        },
    )
}

fn label_body() -> impl Strategy<Value = Body> {
    let from = prop::sample::select(LabelSource::ALL.map(|(source, _)| source).to_vec());
    (text(), text(), any::<bool>(), from, time(), option::of(any::<i64>())).prop_map(
        |(transaction_id, user_id, is_fraud, source, at, lost)| {
            Body::Label(Label { transaction_id, user_id, is_fraud, source, at, amount_lost: lost.map(BaseMinor) })
        },
    )
}

/// Any list change.
pub(crate) fn list_body() -> impl Strategy<Value = Body> {
    let kind = prop::sample::select(ListKind::ALL.map(|(kind, _)| kind).to_vec());
    let from = prop::sample::select(vec![ListSource::Decision, ListSource::Api]);
    let action = prop_oneof![
        (text(), option::of(time())).prop_map(|(reason, expires_at)| ListAction::Put { reason, expires_at }),
        Just(ListAction::Delete)
    ];
    (list(), kind, text(), from, action).prop_map(|(list, kind, value, source, action)| {
        Body::List(ListChange { key: ListKey { list, kind, value }, source, action })
    })
}

/// The same, answered before it was journaled: as the first record of its transaction, or as another answer to it.
fn as_answered(body: &Body, first: bool) -> Body {
    let Body::Decision(decided) = body else { unreachable!("it is a decision") };
    let decided = Arc::new(Decided { as_answered: true, ..Decided::clone(decided) });
    if first { Body::Decision(decided) } else { Body::Answered(decided) }
}

/// Any record of any kind.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let later = prop_oneof![
        list_body(),
        (decided_body(), any::<bool>()).prop_map(|(body, first)| as_answered(&body, first)),
        (text(), any::<i32>()).prop_map(|(user_id, moved_to)| Body::Skipped { user_id, moved_to }),
        (text(), text(), vec(any::<u8>(), 0..300), any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(reason, detail, original, length, sha256)| Body::DeadLetter {
                reason,
                detail,
                original: original.into(),
                cut: Some(Cut { length, sha256 }),
            }
        ),
    ];
    prop_oneof![4 => record_v1(), 1 => (any::<u16>(), any::<u64>(), any::<u64>(), source(), time(), later)
    .prop_map(|(partition, epoch, n, source, received_at, body)| {
        Record { partition, epoch, n, source, received_at, body }
    })]
}

/// Any record of a kind that version 1 has a shape for.
pub(crate) fn record_v1() -> impl Strategy<Value = Record> {
    let body = prop_oneof![
        decided_body(),
        login_body(),
        label_body(),
        (text(), text()).prop_map(|(user_id, event_id)| Body::Duplicate { user_id, event_id }),
        (text(), text(), vec(any::<u8>(), 0..300)).prop_map(|(reason, detail, original)| Body::DeadLetter {
            reason,
            detail,
            original: original.into(),
            cut: None,
        }),
    ];
    (any::<u16>(), any::<u64>(), any::<u64>(), source(), time(), body).prop_map(
        |(partition, epoch, n, source, received_at, body)| Record { partition, epoch, n, source, received_at, body },
    )
}

//! Measures the stored form of a record against two others (ADR 0001): `cargo run --release --example record_encoding`.
//!
//! It prints bytes and nanoseconds a record. The other two encode a plain mirror of the record whose making is not
//! counted, which favours them.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures and prints")]
#![expect(clippy::unwrap_used, reason = "its own records encode and decode")]

mod sample;

use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::Instant;
use verdict::journal::record::{Body, Record};
use verdict::journal::record_v1::{self, Decoder};

const RECORDS: u64 = 2_000;
const ROUNDS: usize = 50;

/// The same content with a name and a plain type for every field.
#[derive(Serialize, Deserialize)]
struct Mirror {
    partition: u16,
    epoch: u64,
    n: u64,
    source: String,
    received_at_ms: i64,
    transaction_id: String,
    user_id: String,
    amount_minor: i64,
    currency: String,
    base_minor: i64,
    merchant_id: String,
    at_ms: i64,
    ip_address: Option<String>,
    user_agent: Option<String>,
    device_id: Option<String>,
    merchant_category: Option<String>,
    location: Option<(f64, f64)>,
    /// `None` for an absent value: JSON has no NaN.
    features: Vec<Option<f64>>,
    outcome: String,
    score: Option<f32>,
    reasons: Vec<MirrorReason>,
    rule_hits: Vec<(u16, bool)>,
    alert: bool,
    ruleset_name: String,
    ruleset_hash: String,
    model: Option<(String, String, String)>,
    feature_schema: String,
    evaluated_at_ms: i64,
    latency_us: u32,
}

/// Code, message, and the rule's id and version.
type MirrorReason = (String, String, Option<(String, u32)>);

fn mirror(record: &Record) -> Mirror {
    let Body::Decision(decided) = &record.body else { unreachable!("only decisions are sampled") };
    let hex = |hash: &[u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    let (event, decision, generation) = (&decided.transaction, &decided.decision, &decided.generation);
    Mirror {
        partition: record.partition,
        epoch: record.epoch,
        n: record.n,
        source: "http".into(),
        received_at_ms: record.received_at.as_millis(),
        transaction_id: event.transaction_id.to_string(),
        user_id: event.user_id.to_string(),
        amount_minor: event.amount.minor(),
        currency: event.amount.currency().to_string(),
        base_minor: event.base.0,
        merchant_id: event.merchant_id.to_string(),
        at_ms: event.at.as_millis(),
        ip_address: text(&event.ip_address),
        user_agent: text(&event.user_agent),
        device_id: text(&event.device_id),
        merchant_category: text(&event.merchant_category),
        location: event.location.map(|point| (point.latitude(), point.longitude())),
        features: decided.features.0.iter().map(|value| (!value.is_nan()).then_some(*value)).collect(),
        outcome: decision.outcome.name().into(),
        score: decision.score,
        reasons: decision
            .reasons
            .iter()
            .map(|reason| {
                let rule = reason.rule.as_ref().map(|rule| (rule.id.to_string(), rule.version));
                (reason.code.to_string(), reason.message.to_string(), rule)
            })
            .collect(),
        rule_hits: decision.rule_hits.iter().map(|hit| (hit.rule, hit.shadow)).collect(),
        alert: decision.alert,
        ruleset_name: generation.ruleset_name.to_string(),
        ruleset_hash: hex(&generation.ruleset_hash),
        model: generation.model.as_ref().map(|m| (m.name.to_string(), m.version.to_string(), hex(&m.sha256))),
        feature_schema: hex(&generation.feature_schema),
        evaluated_at_ms: decided.evaluated_at.as_millis(),
        latency_us: decided.latency_us,
    }
}

/// Encodes and decodes everything in rounds, and prints a line of the table.
fn measure<T, U>(name: &str, values: &[T], encode: impl Fn(&T, &mut Vec<u8>), mut decode: impl FnMut(&[u8]) -> U) {
    let stored: Vec<Vec<u8>> = values
        .iter()
        .map(|value| {
            let mut bytes = Vec::new();
            encode(value, &mut bytes);
            bytes
        })
        .collect();
    let bytes: usize = stored.iter().map(Vec::len).sum();
    let per_record = |start: Instant| start.elapsed().as_nanos() as f64 / (ROUNDS * values.len()) as f64;
    let mut buffer = Vec::new();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for value in values {
            buffer.clear();
            encode(black_box(value), &mut buffer);
        }
    }
    let encoding_ns = per_record(start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for bytes in &stored {
            black_box(decode(black_box(bytes)));
        }
    }
    let decoding_ns = per_record(start);
    println!("| {name} | {} | {encoding_ns:.0} | {decoding_ns:.0} |", bytes / values.len());
}

fn main() {
    let generation = sample::generation();
    let records: Vec<Record> = (0..RECORDS).map(|n| sample::record(&generation, 0, 1, n)).collect();
    let mirrors: Vec<Mirror> = records.iter().map(mirror).collect();
    println!("| encoding | bytes | encode, ns | decode, ns |\n|---|---|---|---|");
    let mut decoder = Decoder::default();
    measure(
        "record_v1",
        &records,
        |record, out| record_v1::encode(record, out).unwrap(),
        |bytes| decoder.decode(bytes).unwrap(),
    );
    measure(
        "postcard, plain mirror",
        &mirrors,
        |mirror, out| *out = postcard::to_extend(mirror, std::mem::take(out)).unwrap(),
        |bytes| postcard::from_bytes::<Mirror>(bytes).unwrap(),
    );
    measure(
        "serde_json, plain mirror",
        &mirrors,
        |mirror, out| serde_json::to_writer(out, mirror).unwrap(),
        |bytes| serde_json::from_slice::<Mirror>(bytes).unwrap(),
    );
}

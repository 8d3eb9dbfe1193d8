//! The stored shapes of version 1. The order of fields and of enum variants is the format: never change, add or remove.

use super::bytes::{Bytes, Slots};
use serde::{Deserialize, Serialize};
use verdict_core::decision::{Degradation, Outcome, RiskLevel};
use verdict_core::event::LabelSource;
use verdict_core::lists::{List, ListKind};

/// An enum stored by the place of its variant, with conversions from and to the core's.
macro_rules! mirror {
    ($name:ident = $core:ident { $($variant:ident),+ }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        pub(super) enum $name { $($variant),+ }

        impl From<$core> for $name {
            fn from(value: $core) -> Self {
                match value { $($core::$variant => Self::$variant),+ }
            }
        }

        impl From<$name> for $core {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),+ }
            }
        }
    };
}

mirror!(OutcomeV1 = Outcome { Approve, Challenge, Review, Block });
mirror!(RiskLevelV1 = RiskLevel { Normal, Elevated, Highest });
// Only decisions that were answered first, which have version 4, are of `Recovering`.
mirror!(DegradationV1 = Degradation { ModelTimeout, ModelError, WindowApproximate, Recovering });
mirror!(ListV1 = List { Block, Allow });
mirror!(ListKindV1 = ListKind { User, Merchant, Device, Ip });
mirror!(LabelSourceV1 = LabelSource { Chargeback, Analyst, Customer, Issuer });

#[derive(Serialize, Deserialize)]
pub(super) struct RecordV1<'a> {
    pub(super) partition: u16,
    pub(super) epoch: u64,
    pub(super) n: u64,
    #[serde(borrow)]
    pub(super) source: SourceV1<'a>,
    pub(super) received_at_ms: i64,
    #[serde(borrow)]
    pub(super) body: BodyV1<'a>,
}

#[derive(Serialize, Deserialize)]
pub(in crate::journal) enum SourceV1<'a> {
    Http,
    File { line: u64 },
    Topic { topic: &'a str, partition: i32, offset: i64 },
}

#[derive(Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack between the record and its bytes")]
pub(super) enum BodyV1<'a> {
    Decision(#[serde(borrow)] DecidedV1<'a>),
    Login(#[serde(borrow)] LoginV1<'a>),
    Label(#[serde(borrow)] LabelV1<'a>),
    Duplicate { user_id: &'a str, event_id: &'a str },
    DeadLetter { reason: &'a str, detail: &'a str, original: Bytes<'a> },
}

/// Latitude and longitude in degrees.
pub(super) type PointV1 = (f64, f64);

#[derive(Serialize, Deserialize)]
pub(super) struct TransactionV1<'a> {
    pub(super) transaction_id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) amount_minor: i64,
    /// ISO 4217 code in ASCII capitals.
    pub(super) currency: [u8; 3],
    pub(super) base_minor: i64,
    pub(super) merchant_id: &'a str,
    pub(super) at_ms: i64,
    #[serde(borrow)]
    pub(super) ip_address: Option<&'a str>,
    #[serde(borrow)]
    pub(super) user_agent: Option<&'a str>,
    #[serde(borrow)]
    pub(super) device_id: Option<&'a str>,
    #[serde(borrow)]
    pub(super) merchant_category: Option<&'a str>,
    pub(super) location: Option<PointV1>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LoginV1<'a> {
    pub(super) login_id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) at_ms: i64,
    #[serde(borrow)]
    pub(super) ip_address: Option<&'a str>,
    #[serde(borrow)]
    pub(super) device_id: Option<&'a str>,
    #[serde(borrow)]
    pub(super) user_agent: Option<&'a str>,
    pub(super) location: Option<PointV1>,
    pub(super) success: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LabelV1<'a> {
    pub(super) transaction_id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) is_fraud: bool,
    pub(super) source: LabelSourceV1,
    pub(super) at_ms: i64,
    pub(super) amount_lost_minor: Option<i64>,
}

#[derive(Serialize, Deserialize)]
pub(in crate::journal) struct DecidedV1<'a> {
    #[serde(borrow)]
    pub(super) transaction: TransactionV1<'a>,
    pub(super) features: Slots,
    #[serde(borrow)]
    pub(super) decision: DecisionV1<'a>,
    #[serde(borrow)]
    pub(super) generation: GenerationV1<'a>,
    pub(super) evaluated_at_ms: i64,
    pub(super) latency_us: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DecisionV1<'a> {
    pub(super) outcome: OutcomeV1,
    pub(super) score: Option<f32>,
    pub(super) risk_level: RiskLevelV1,
    #[serde(borrow)]
    pub(super) reasons: Vec<ReasonV1<'a>>,
    pub(super) degraded: Vec<DegradationV1>,
    pub(super) rule_hits: Vec<RuleHitV1>,
    #[serde(borrow)]
    pub(super) list_hits: Vec<ListHitV1<'a>>,
    pub(super) alert: bool,
    #[serde(borrow)]
    pub(super) block_entry: Option<ListEntryV1<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReasonV1<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    #[serde(borrow)]
    pub(super) rule: Option<RuleRefV1<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RuleRefV1<'a> {
    pub(super) id: &'a str,
    pub(super) version: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RuleHitV1 {
    pub(super) rule: u16,
    pub(super) shadow: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ListHitV1<'a> {
    pub(super) list: ListV1,
    pub(super) kind: ListKindV1,
    pub(super) value: &'a str,
    pub(super) reason: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ListEntryV1<'a> {
    pub(super) list: ListV1,
    pub(super) reason: &'a str,
    pub(super) alert_id: Option<[u8; 16]>,
    pub(super) expires_at_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GenerationV1<'a> {
    pub(super) ruleset_name: &'a str,
    /// 32 bytes.
    #[serde(borrow)]
    pub(super) ruleset_hash: Bytes<'a>,
    #[serde(borrow)]
    pub(super) model: Option<ModelV1<'a>>,
    /// 32 bytes.
    #[serde(borrow)]
    pub(super) feature_schema: Bytes<'a>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ModelV1<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// 32 bytes.
    #[serde(borrow)]
    pub(super) sha256: Bytes<'a>,
}

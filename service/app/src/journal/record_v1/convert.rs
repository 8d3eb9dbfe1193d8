//! Between the record that the service handles and its stored shape: borrowed on the way out, checked on the way in.

use super::bytes::{Bytes, Slots};
use super::shape::{
    BodyV1, DecidedV1, DecisionV1, GenerationV1, LabelV1, ListEntryV1, ListHitV1, LoginV1, ModelV1, PointV1, ReasonV1,
    RecordV1, RuleHitV1, RuleRefV1, SourceV1, TransactionV1,
};
use super::{DecodeError, Decoder};
use crate::journal::record::{Body, Decided, Generation, ModelRef, Record};
use std::sync::Arc;
use uuid::Uuid;
use verdict_core::decision::{Decision, Reason, RuleHit, RuleRef};
use verdict_core::event::{Label, Login, Source, Transaction};
use verdict_core::features::{FeatureVector, SLOTS};
use verdict_core::geo::Coordinates;
use verdict_core::lists::{ListEntry, ListHit};
use verdict_core::money::{BaseMinor, Currency, Money};
use verdict_core::time::Timestamp;

impl<'a> RecordV1<'a> {
    /// `None` for what this version has no shape for.
    pub(super) fn of(record: &'a Record) -> Option<Self> {
        Some(Self {
            partition: record.partition,
            epoch: record.epoch,
            n: record.n,
            source: (&record.source).into(),
            received_at_ms: record.received_at.as_millis(),
            body: match &record.body {
                Body::Decision(decided) if !decided.as_answered => BodyV1::Decision((&**decided).into()),
                Body::Login(login) => BodyV1::Login(login.into()),
                Body::Label(label) => BodyV1::Label(label.into()),
                Body::Duplicate { user_id, event_id } => BodyV1::Duplicate { user_id, event_id },
                Body::DeadLetter { reason, detail, original, cut: None } => {
                    BodyV1::DeadLetter { reason, detail, original: Bytes(original) }
                }
                Body::Decision(_)
                | Body::Answered(_)
                | Body::List(_)
                | Body::Skipped { .. }
                | Body::DeadLetter { cut: Some(_), .. } => return None,
            },
        })
    }
}

impl<'a> From<&'a Source> for SourceV1<'a> {
    fn from(source: &'a Source) -> Self {
        match source {
            Source::Http => Self::Http,
            Source::File { line } => Self::File { line: *line },
            Source::Topic { topic, partition, offset } => Self::Topic { topic, partition: *partition, offset: *offset },
        }
    }
}

impl From<SourceV1<'_>> for Source {
    fn from(stored: SourceV1<'_>) -> Self {
        match stored {
            SourceV1::Http => Self::Http,
            SourceV1::File { line } => Self::File { line },
            SourceV1::Topic { topic, partition, offset } => Self::Topic { topic: topic.into(), partition, offset },
        }
    }
}

impl RecordV1<'_> {
    pub(super) fn into_record(self, decoder: &mut Decoder) -> Result<Record, DecodeError> {
        Ok(Record {
            partition: self.partition,
            epoch: self.epoch,
            n: self.n,
            source: self.source.into(),
            received_at: Timestamp::from_millis(self.received_at_ms),
            body: match self.body {
                BodyV1::Decision(decided) => Body::Decision(Arc::new(decided.into_decided(decoder)?)),
                BodyV1::Login(login) => Body::Login(login.into_login()?),
                BodyV1::Label(label) => Body::Label(label.into_label()),
                BodyV1::Duplicate { user_id, event_id } => {
                    Body::Duplicate { user_id: user_id.into(), event_id: event_id.into() }
                }
                BodyV1::DeadLetter { reason, detail, original } => {
                    let original = original.0.into();
                    Body::DeadLetter { reason: reason.into(), detail: detail.into(), original, cut: None }
                }
            },
        })
    }
}

impl<'a> From<&'a Transaction> for TransactionV1<'a> {
    fn from(event: &'a Transaction) -> Self {
        Self {
            transaction_id: &event.transaction_id,
            user_id: &event.user_id,
            amount_minor: event.amount.minor(),
            currency: code(event.amount.currency()),
            base_minor: event.base.0,
            merchant_id: &event.merchant_id,
            at_ms: event.at.as_millis(),
            ip_address: event.ip_address.as_deref(),
            user_agent: event.user_agent.as_deref(),
            device_id: event.device_id.as_deref(),
            merchant_category: event.merchant_category.as_deref(),
            location: event.location.map(to_point),
        }
    }
}

impl TransactionV1<'_> {
    fn into_transaction(self, decoder: &mut Decoder) -> Result<Transaction, DecodeError> {
        let currency = decoder.currency(self.currency)?;
        Ok(Transaction {
            transaction_id: self.transaction_id.into(),
            user_id: self.user_id.into(),
            amount: Money::from_minor(self.amount_minor, currency),
            base: BaseMinor(self.base_minor),
            merchant_id: self.merchant_id.into(),
            at: Timestamp::from_millis(self.at_ms),
            ip_address: self.ip_address.map(Into::into),
            user_agent: self.user_agent.map(Into::into),
            device_id: self.device_id.map(Into::into),
            merchant_category: self.merchant_category.map(Into::into),
            location: self.location.map(from_point).transpose()?,
        })
    }
}

impl<'a> From<&'a Login> for LoginV1<'a> {
    fn from(event: &'a Login) -> Self {
        Self {
            login_id: &event.login_id,
            user_id: &event.user_id,
            at_ms: event.at.as_millis(),
            ip_address: event.ip_address.as_deref(),
            device_id: event.device_id.as_deref(),
            user_agent: event.user_agent.as_deref(),
            location: event.location.map(to_point),
            success: event.success,
        }
    }
}

impl LoginV1<'_> {
    fn into_login(self) -> Result<Login, DecodeError> {
        Ok(Login {
            login_id: self.login_id.into(),
            user_id: self.user_id.into(),
            at: Timestamp::from_millis(self.at_ms),
            ip_address: self.ip_address.map(Into::into),
            device_id: self.device_id.map(Into::into),
            user_agent: self.user_agent.map(Into::into),
            location: self.location.map(from_point).transpose()?,
            success: self.success,
        })
    }
}

impl<'a> From<&'a Label> for LabelV1<'a> {
    fn from(event: &'a Label) -> Self {
        Self {
            transaction_id: &event.transaction_id,
            user_id: &event.user_id,
            is_fraud: event.is_fraud,
            source: event.source.into(),
            at_ms: event.at.as_millis(),
            amount_lost_minor: event.amount_lost.map(|lost| lost.0),
        }
    }
}

impl LabelV1<'_> {
    fn into_label(self) -> Label {
        Label {
            transaction_id: self.transaction_id.into(),
            user_id: self.user_id.into(),
            is_fraud: self.is_fraud,
            source: self.source.into(),
            at: Timestamp::from_millis(self.at_ms),
            amount_lost: self.amount_lost_minor.map(BaseMinor),
        }
    }
}

impl<'a> From<&'a Decided> for DecidedV1<'a> {
    fn from(decided: &'a Decided) -> Self {
        Self {
            transaction: (&decided.transaction).into(),
            features: Slots { values: decided.features, found: SLOTS },
            decision: (&decided.decision).into(),
            generation: (&*decided.generation).into(),
            evaluated_at_ms: decided.evaluated_at.as_millis(),
            latency_us: decided.latency_us,
        }
    }
}

impl DecidedV1<'_> {
    /// As it was computed: this version has no shape for any other.
    pub(in crate::journal) fn into_decided(self, decoder: &mut Decoder) -> Result<Decided, DecodeError> {
        Ok(Decided {
            transaction: self.transaction.into_transaction(decoder)?,
            features: self.features.into_features()?,
            decision: self.decision.into_decision(),
            generation: decoder.share(&self.generation)?,
            evaluated_at: Timestamp::from_millis(self.evaluated_at_ms),
            latency_us: self.latency_us,
            as_answered: false,
        })
    }
}

impl Slots {
    fn into_features(self) -> Result<FeatureVector, DecodeError> {
        if self.found > SLOTS {
            return Err(DecodeError::Features { known: SLOTS, found: self.found });
        }
        Ok(self.values)
    }
}

impl<'a> From<&'a Decision> for DecisionV1<'a> {
    fn from(decision: &'a Decision) -> Self {
        Self {
            outcome: decision.outcome.into(),
            score: decision.score,
            risk_level: decision.risk_level.into(),
            reasons: decision.reasons.iter().map(Into::into).collect(),
            degraded: decision.degraded.iter().map(|&cause| cause.into()).collect(),
            rule_hits: decision.rule_hits.iter().map(|hit| RuleHitV1 { rule: hit.rule, shadow: hit.shadow }).collect(),
            list_hits: decision.list_hits.iter().map(Into::into).collect(),
            alert: decision.alert,
            block_entry: decision.block_entry.as_ref().map(Into::into),
        }
    }
}

impl DecisionV1<'_> {
    fn into_decision(self) -> Decision {
        Decision {
            outcome: self.outcome.into(),
            score: self.score,
            risk_level: self.risk_level.into(),
            reasons: self.reasons.into_iter().map(Into::into).collect(),
            degraded: self.degraded.into_iter().map(Into::into).collect(),
            rule_hits: self.rule_hits.iter().map(|hit| RuleHit { rule: hit.rule, shadow: hit.shadow }).collect(),
            list_hits: self.list_hits.into_iter().map(Into::into).collect(),
            alert: self.alert,
            block_entry: self.block_entry.map(Into::into),
        }
    }
}

impl<'a> From<&'a Reason> for ReasonV1<'a> {
    fn from(reason: &'a Reason) -> Self {
        let rule = reason.rule.as_ref().map(|rule| RuleRefV1 { id: &rule.id, version: rule.version });
        Self { code: &reason.code, message: &reason.message, rule }
    }
}

impl From<ReasonV1<'_>> for Reason {
    fn from(stored: ReasonV1<'_>) -> Self {
        let rule = stored.rule.map(|rule| RuleRef { id: rule.id.into(), version: rule.version });
        Self { code: stored.code.into(), message: stored.message.into(), rule }
    }
}

impl<'a> From<&'a ListHit> for ListHitV1<'a> {
    fn from(hit: &'a ListHit) -> Self {
        Self { list: hit.list.into(), kind: hit.kind.into(), value: &hit.value, reason: &hit.reason }
    }
}

impl From<ListHitV1<'_>> for ListHit {
    fn from(stored: ListHitV1<'_>) -> Self {
        let (value, reason) = (stored.value.into(), stored.reason.into());
        Self { list: stored.list.into(), kind: stored.kind.into(), value, reason }
    }
}

impl<'a> From<&'a ListEntry> for ListEntryV1<'a> {
    fn from(entry: &'a ListEntry) -> Self {
        Self {
            list: entry.list.into(),
            reason: &entry.reason,
            alert_id: entry.alert_id.map(Uuid::into_bytes),
            expires_at_ms: entry.expires_at.map(Timestamp::as_millis),
        }
    }
}

impl From<ListEntryV1<'_>> for ListEntry {
    fn from(stored: ListEntryV1<'_>) -> Self {
        Self {
            list: stored.list.into(),
            reason: stored.reason.into(),
            alert_id: stored.alert_id.map(Uuid::from_bytes),
            expires_at: stored.expires_at_ms.map(Timestamp::from_millis),
        }
    }
}

impl<'a> From<&'a Generation> for GenerationV1<'a> {
    fn from(generation: &'a Generation) -> Self {
        Self {
            ruleset_name: &generation.ruleset_name,
            ruleset_hash: Bytes(&generation.ruleset_hash),
            model: generation.model.as_ref().map(|model| ModelV1 {
                name: &model.name,
                version: &model.version,
                sha256: Bytes(&model.sha256),
            }),
            feature_schema: Bytes(&generation.feature_schema),
        }
    }
}

impl Decoder {
    /// The generation that a record names: the last one again if it is the same.
    fn share(&mut self, stored: &GenerationV1<'_>) -> Result<Arc<Generation>, DecodeError> {
        if let Some(last) = &self.generation
            && is_same(last, stored)
        {
            return Ok(Arc::clone(last));
        }
        let model = stored.model.as_ref().map(|model| {
            Ok::<_, DecodeError>(ModelRef {
                name: model.name.into(),
                version: model.version.into(),
                sha256: hash(model.sha256)?,
            })
        });
        let generation = Arc::new(Generation {
            ruleset_name: stored.ruleset_name.into(),
            ruleset_hash: hash(stored.ruleset_hash)?,
            model: model.transpose()?,
            feature_schema: hash(stored.feature_schema)?,
        });
        self.generation = Some(Arc::clone(&generation));
        Ok(generation)
    }
}

impl Decoder {
    fn currency(&mut self, code: [u8; 3]) -> Result<Currency, DecodeError> {
        if let Some((last, currency)) = self.currency
            && last == code
        {
            return Ok(currency);
        }
        let currency = std::str::from_utf8(&code)
            .ok()
            .and_then(Currency::from_code)
            .ok_or_else(|| DecodeError::Currency(String::from_utf8_lossy(&code).into()))?;
        self.currency = Some((code, currency));
        Ok(currency)
    }
}

fn is_same(known: &Generation, stored: &GenerationV1<'_>) -> bool {
    let same_model = match (&known.model, &stored.model) {
        (None, None) => true,
        (Some(a), Some(b)) => *a.name == *b.name && *a.version == *b.version && a.sha256 == b.sha256.0,
        _ => false,
    };
    same_model
        && *known.ruleset_name == *stored.ruleset_name
        && known.ruleset_hash == stored.ruleset_hash.0
        && known.feature_schema == stored.feature_schema.0
}

fn hash(stored: Bytes<'_>) -> Result<[u8; 32], DecodeError> {
    stored.0.try_into().map_err(|_| DecodeError::Hash(stored.0.len()))
}

/// The currency's code in ASCII.
fn code(currency: Currency) -> [u8; 3] {
    // invariant: every code of the core's tables has three letters
    currency.code().as_bytes().try_into().unwrap_or(*b"???")
}

fn to_point(location: Coordinates) -> PointV1 {
    (location.latitude(), location.longitude())
}

fn from_point((latitude, longitude): PointV1) -> Result<Coordinates, DecodeError> {
    Ok(Coordinates::new(latitude, longitude)?)
}

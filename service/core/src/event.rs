//! The events that change a profile. A value of these types is valid: it was parsed and checked at the edge.

use crate::geo::Coordinates;
use crate::money::{BaseMinor, Money};
use crate::time::Timestamp;
use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_64;

/// Longest id in bytes (user, transaction, merchant, device, login).
pub const MAX_ID_BYTES: usize = 128;

/// A payment that waits for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Unique per user.
    pub transaction_id: Box<str>,
    /// Whose profile this changes.
    pub user_id: Box<str>,
    /// The amount as the merchant charged it.
    pub amount: Money,
    /// The amount in the base currency, by the rates in force when it was accepted.
    pub base: BaseMinor,
    /// Who is paid.
    pub merchant_id: Box<str>,
    /// When it happened (event time).
    pub at: Timestamp,
    /// Client address, in canonical text form.
    pub ip_address: Option<Box<str>>,
    /// Client software.
    pub user_agent: Option<Box<str>>,
    /// Client device.
    pub device_id: Option<Box<str>>,
    /// ISO 18245 merchant category code.
    pub merchant_category: Option<Box<str>>,
    /// Where the customer was.
    pub location: Option<Coordinates>,
}

/// An attempt to log in.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// Unique per user.
    pub login_id: Box<str>,
    /// Whose profile this changes.
    pub user_id: Box<str>,
    /// When it happened (event time).
    pub at: Timestamp,
    /// Client address, in canonical text form.
    pub ip_address: Option<Box<str>>,
    /// Client device.
    pub device_id: Option<Box<str>>,
    /// Client software.
    pub user_agent: Option<Box<str>>,
    /// Where the customer was.
    pub location: Option<Coordinates>,
    /// Failed logins are kept but never count as "the last login".
    pub success: bool,
}

/// What somebody later learned about a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The transaction it speaks of.
    pub transaction_id: Box<str>,
    /// Whose transaction that was.
    pub user_id: Box<str>,
    /// Whether it was fraud.
    pub is_fraud: bool,
    /// Who says so.
    pub source: LabelSource,
    /// When they said it; of one (user, transaction, source) the latest wins.
    pub at: Timestamp,
    /// What was lost, in minor units of the base currency.
    pub amount_lost: Option<BaseMinor>,
}

/// Who a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelSource {
    /// The card network reversed the payment.
    Chargeback,
    /// A reviewer judged it.
    Analyst,
    /// The customer reported it.
    Customer,
    /// The issuer reported it.
    Issuer,
}

impl LabelSource {
    /// Every source, with its name on the wire.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Chargeback, "chargeback"),
        (Self::Analyst, "analyst"),
        (Self::Customer, "customer"),
        (Self::Issuer, "issuer"),
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chargeback => "chargeback",
            Self::Analyst => "analyst",
            Self::Customer => "customer",
            Self::Issuer => "issuer",
        }
    }
}

/// Where an event entered (I6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A request.
    Http,
    /// A history file, at this line (the first is 1).
    File {
        /// Line number.
        line: u64,
    },
    /// A Kafka record.
    Topic {
        /// Topic name.
        topic: Box<str>,
        /// Partition of the topic.
        partition: i32,
        /// Offset in the partition.
        offset: i64,
    },
}

/// Namespace of decision and alert ids: UUIDv5 of the DNS name `verdict.invalid` in the DNS namespace, fixed for ever.
const ID_NAMESPACE: Uuid = Uuid::from_u128(0x8f1c_0a52_6f0e_5b7c_9a35_41d6_2e9b_70c4);

/// The UUIDv5 of a name. Not by the `uuid` crate's own: this SHA-1 uses the processor's instructions for it.
pub(crate) fn uuid_v5(namespace: &Uuid, name: &[u8]) -> Uuid {
    let digest: [u8; 20] = Sha1::new().chain_update(namespace.as_bytes()).chain_update(name).finalize().into();
    let [bytes @ .., _, _, _, _] = digest;
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// A stable 64-bit fingerprint of an id inside one profile (XXH3, whose output is fixed by its specification).
///
/// Two ids of one user meet by chance with odds of about n²/2⁶⁵: 1 in 10¹³ for a thousand events.
#[must_use]
pub fn id_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

impl Transaction {
    /// The id of the decision about this transaction: UUIDv5 of the length-prefixed user id, transaction id and
    /// timestamp, so that every node and every retry derives the same one.
    #[must_use]
    pub fn decision_id(&self) -> Uuid {
        let mut name = Vec::with_capacity(self.user_id.len() + self.transaction_id.len() + 16);
        push_field(&mut name, self.user_id.as_bytes());
        push_field(&mut name, self.transaction_id.as_bytes());
        name.extend_from_slice(&self.at.as_millis().to_be_bytes());
        uuid_v5(&ID_NAMESPACE, &name)
    }

    /// Fingerprint of everything a retry must repeat; two transactions with the same id and another fingerprint differ.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let mut content = Vec::with_capacity(192);
        content.extend_from_slice(&self.amount.minor().to_be_bytes());
        push_field(&mut content, self.amount.currency().code().as_bytes());
        push_field(&mut content, self.merchant_id.as_bytes());
        content.extend_from_slice(&self.at.as_millis().to_be_bytes());
        for text in [&self.ip_address, &self.user_agent, &self.device_id, &self.merchant_category] {
            push_option(&mut content, text.as_deref());
        }
        push_location(&mut content, self.location);
        xxh3_64(&content)
    }
}

impl Login {
    /// Fingerprint of everything a retry must repeat.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let mut content = Vec::with_capacity(128);
        content.extend_from_slice(&self.at.as_millis().to_be_bytes());
        content.push(u8::from(self.success));
        for text in [&self.ip_address, &self.user_agent, &self.device_id] {
            push_option(&mut content, text.as_deref());
        }
        push_location(&mut content, self.location);
        xxh3_64(&content)
    }
}

/// Appends one field with its length before it, so that no two lists of fields give the same bytes.
fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u32).to_be_bytes());
    out.extend_from_slice(field);
}

fn push_option(out: &mut Vec<u8>, field: Option<&str>) {
    match field {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            push_field(out, text.as_bytes());
        }
    }
}

fn push_location(out: &mut Vec<u8>, location: Option<Coordinates>) {
    match location {
        None => out.push(0),
        Some(point) => {
            out.push(1);
            // 0.0 and -0.0 are the same place.
            out.extend_from_slice(&(point.latitude() + 0.0).to_bits().to_be_bytes());
            out.extend_from_slice(&(point.longitude() + 0.0).to_bits().to_be_bytes());
        }
    }
}

//! The journal record: one per event, with everything that explains its decision (I2, I8).
//!
//! This is the record as the service handles it; how it is stored is `codec`.

use super::Partition;
use std::sync::Arc;
use verdict_core::decision::Decision;
use verdict_core::event::{Label, Login, Source, Transaction};
use verdict_core::features::FeatureVector;
use verdict_core::lists::{ListChange, ListKind};
use verdict_core::profile::Change;
use verdict_core::time::Timestamp;

/// Records for the tests of whoever reads a journal.
#[cfg(test)]
pub(crate) use super::samples;

/// One record of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it was written.
    pub epoch: u64,
    /// Contiguous number in the partition.
    pub n: u64,
    /// Where the event entered.
    pub source: Source,
    /// When the service received it (in a backtest, the event's own time).
    pub received_at: Timestamp,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A transaction was decided.
    Decision(Arc<Decided>),
    /// Another answer was given to a transaction whose decision is in another record. It changes nothing, and counts no spend.
    Answered(Arc<Decided>),
    /// A login was seen.
    Login(Login),
    /// A label was learned.
    Label(Label),
    /// An entry was put on a list or taken off.
    List(ListChange),
    /// An event that was seen before came again from a topic or a file; nothing changed.
    Duplicate {
        /// Whose.
        user_id: Box<str>,
        /// Its transaction or login id.
        event_id: Box<str>,
    },
    /// An event of a topic or a file was refused.
    DeadLetter {
        /// Reason code, such as `TOO_OLD`.
        reason: Box<str>,
        /// What was expected and found, for people.
        detail: Box<str>,
        /// The bytes as they came, or the first of them.
        original: Box<[u8]>,
        /// What they were as a whole, if they were cut.
        cut: Option<Cut>,
    },
    /// A record of a topic that nothing follows from here: its user belongs to another partition, where it was sent; or it
    /// is a heartbeat (ADR 0009), which stays where it is.
    Skipped {
        /// Whose.
        user_id: Box<str>,
        /// Partition of the topic that has it now.
        moved_to: i32,
    },
}

/// What bytes were before they were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Their number.
    pub length: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
}

impl Body {
    /// What a heartbeat leaves; it is skipped, and stays in its partition.
    #[must_use]
    pub fn stays(user_id: &str, source: &Source) -> Self {
        let moved_to = match source {
            Source::Topic { partition, .. } => *partition,
            // Nothing else brings one.
            Source::Http | Source::File { .. } => -1,
        };
        Self::Skipped { user_id: user_id.into(), moved_to }
    }

    /// Whose profile this changes, and how; `None` if it changes none.
    #[must_use]
    pub fn change(&self) -> Option<(&str, Change<'_>)> {
        match self {
            Self::Decision(decided) => {
                Some((&decided.transaction.user_id, Change::Decided(&decided.transaction, &decided.decision)))
            }
            Self::Login(login) => Some((&login.user_id, Change::LoggedIn(login))),
            Self::Label(label) => Some((&label.user_id, Change::Labelled(label))),
            Self::List(change) if change.key.kind == ListKind::User => {
                Some((&change.key.value, Change::Listed(change)))
            }
            Self::List(_)
            | Self::Answered(_)
            | Self::Duplicate { .. }
            | Self::DeadLetter { .. }
            | Self::Skipped { .. } => None,
        }
    }
}

/// A decided transaction: event, features, decision, and what made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// The event.
    pub transaction: Transaction,
    /// What rules and model saw.
    pub features: FeatureVector,
    /// What came out.
    pub decision: Decision,
    /// What made it.
    pub generation: Arc<Generation>,
    /// Wall clock at the decision (in a backtest, the event's own time).
    pub evaluated_at: Timestamp,
    /// Time from receipt to decision in microseconds, before durability.
    pub latency_us: u32,
    /// Whether it was answered first and journaled later, under another epoch than that of its decision. It is folded as
    /// answered then: what it saw need not be what the records before it say, and nobody computes it again (I3).
    pub as_answered: bool,
}

/// The rule set, model and feature schema that made a decision; one decision never mixes two (I8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Name of the rule set.
    pub ruleset_name: Box<str>,
    /// SHA-256 over the rule set's files: its version.
    pub ruleset_hash: [u8; 32],
    /// The model, if one is configured.
    pub model: Option<ModelRef>,
    /// The feature-schema version.
    pub feature_schema: [u8; 32],
}

/// A model as answers and records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Name in the manifest.
    pub name: Box<str>,
    /// Version in the manifest.
    pub version: Box<str>,
    /// SHA-256 of the model file.
    pub sha256: [u8; 32],
}

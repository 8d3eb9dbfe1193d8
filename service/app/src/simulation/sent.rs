//! What is kept of everything that was sent: how things stood then, what came back, and how things stood when it did.

use super::register::{Between, Moment};
use crate::actors::messages::{Answer, ListChanged};
use std::fmt;
use std::time::Instant;
use verdict_core::lists::{ListEntry, ListKey};
use verdict_core::time::Timestamp;

/// What came back.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// A decision, as the gateway gives it.
    Decision(Answer),
    /// A decision, as HTTP prints it.
    Printed(Vec<u8>),
    /// A login or a label, and whether it was known.
    Accepted(bool),
    /// A change of a list, and what it may have been.
    Listed(&'static [ListChanged]),
    /// A line's transaction was known.
    SeenBefore,
    /// The code of a refusal, and its status over HTTP.
    Refused(String, Option<u16>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(Answer { decided, duplicate, .. }) => {
                let (outcome, degraded) = (decided.decision.outcome.name(), &decided.decision.degraded);
                write!(f, "{outcome}{}", if *duplicate { " again" } else { "" })?;
                degraded.iter().try_for_each(|why| write!(f, " {}", why.code()))
            }
            Self::Printed(body) => write!(f, "{} bytes", body.len()),
            Self::Accepted(duplicate) => write!(f, "accepted{}", if *duplicate { " again" } else { "" }),
            Self::Listed(told) => write!(f, "{told:?}"),
            Self::SeenBefore => write!(f, "seen before"),
            Self::Refused(code, status) => write!(f, "{code} {}", status.unwrap_or_default()),
        }
    }
}

/// How things stood when an event was sent, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The place of the event in the pool.
    pub(super) event: usize,
    pub(super) life: usize,
    /// When it was sent, and answered.
    pub(super) from: Moment,
    pub(super) to: Option<Moment>,
    pub(super) at: Instant,
    /// The wall clock then.
    pub(super) wall: Timestamp,
    pub(super) answered_at: Option<Timestamp>,
    pub(super) deadline: Option<Instant>,
    /// Whether every shard served.
    pub(super) ready: bool,
    /// Its line, if it came from a file.
    pub(super) line: Option<u64>,
    /// Its batch, if it came in one.
    pub(super) batch: Option<usize>,
    pub(super) outcome: Option<Outcome>,
    /// Its answer is the first to its transaction.
    pub(super) made_it: bool,
    /// Nobody waits for an answer any more: the service is gone.
    pub(super) lost: bool,
}

impl Sent {
    /// Whether it may have left a record, as far as its answer tells.
    pub(super) fn may_have_begun(&self) -> bool {
        match &self.outcome {
            Some(Outcome::Refused(code, _)) => {
                matches!(&**code, "JOURNAL_LATE" | "JOURNAL_UNAVAILABLE" | "RECOVERING" | "ORIGINAL_UNAVAILABLE")
            }
            _ => true,
        }
    }
}

/// A look at a list entry.
#[derive(Debug)]
pub(super) struct Peek {
    pub(super) key: ListKey,
    pub(super) between: Between,
    pub(super) now: Timestamp,
    pub(super) found: Option<ListEntry>,
}

/// How things stand when an answer comes.
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: Timestamp,
    pub(super) in_flight: usize,
    pub(super) limit: usize,
    pub(super) stopping: bool,
}

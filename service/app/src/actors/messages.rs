//! What goes to a shard and what comes back.

use crate::journal::record::Decided;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use verdict_core::event::{Label, Login, Source, Transaction};
use verdict_core::features::FeatureVector;
use verdict_core::lists::{List, ListEntry, ListKey, ListKind};
use verdict_core::money::ConversionError;
use verdict_core::time::Timestamp;

/// The code of a refusal, and of an answer, whose record was not durable in time.
pub const JOURNAL_LATE: &str = "JOURNAL_LATE";

/// Any event, with what came along.
#[derive(Clone, Debug)]
pub struct Submission<E> {
    /// The event, parsed and checked; in a box, as it changes hands several times.
    pub event: Box<E>,
    /// Where it entered.
    pub source: Source,
    /// When it entered (in a backtest, the event's own time).
    pub received_at: Timestamp,
    /// When it entered, for measuring.
    pub started: Instant,
    /// When an answer is of no more use; `None` waits.
    pub deadline: Option<Instant>,
    /// Whether an answer will do that is not durable by then.
    pub undurable: bool,
    /// The bytes as they came, of a source whose every record must leave one in the journal (I6); a request has none.
    pub original: Option<Box<[u8]>>,
}

/// The answer to a decided transaction.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The record's content.
    pub decided: Arc<Decided>,
    /// Whether the record is durable now (I2).
    pub durable: bool,
    /// Whether this transaction had been decided before.
    pub duplicate: bool,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub enum Settled {
    /// It is decided, now or before.
    Answer(Answer),
    /// A topic or a file brought it again; its record says so, and nobody waits for the first answer.
    SeenBefore,
}

/// The answer to a login or a label that is durable and visible to the next decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Whether it had been accepted before.
    pub duplicate: bool,
}

/// What became of a list entry; durable, and visible to the next decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListChanged {
    /// There was none, and now there is.
    Created,
    /// Another was there.
    Replaced,
    /// The same was there.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// Which entries of a list are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which list.
    pub list: List,
    /// Only of this kind.
    pub kind: Option<ListKind>,
    /// Only behind this one, in the order of kinds and values.
    pub after: Option<(ListKind, Box<str>)>,
    /// Most entries.
    pub limit: usize,
}

/// Entries of a list, by kind and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<(ListKey, ListEntry)>,
    /// The last of them, if there are more.
    pub next: Option<(ListKind, Box<str>)>,
}

/// Why a shard did not do what was asked.
#[derive(Clone, Debug, Error)]
pub enum Refusal {
    /// At or below the profile's floor, where a duplicate could no longer be told (422 `TOO_OLD`).
    #[error("expected a timestamp after {floor}, below which duplicates of this user can no longer be told")]
    TooOld {
        /// The floor.
        floor: Timestamp,
    },
    /// The same id came with other content (409 `ID_REUSED`).
    #[error("this id was used before with other content; send the original content to get its decision, or a new id")]
    IdReused,
    /// The rates changed after it was parsed, and it has no price any more (422, as if it came now).
    #[error(transparent)]
    Unpriced(ConversionError),
    /// There is no such list entry (404 `ENTRY_NOT_FOUND`).
    #[error("expected an entry of this list, found none")]
    NotListed,
    /// There are as many list entries as are allowed (422 `LISTS_FULL`).
    #[error("expected fewer than {limit} list entries, found that many; delete some, or raise data.max_list_entries")]
    ListsFull {
        /// The bound.
        limit: usize,
    },
    /// Too much is in flight (429 `OVERLOADED`, Retry-After 1).
    #[error("more than {limit} requests are in flight; retry later")]
    Overloaded {
        /// The bound.
        limit: usize,
    },
    /// Not started in time (503 `DEADLINE_EXCEEDED`, Retry-After 1); dropped without a trace, and never started later.
    #[error("the deadline passed before the request was started; it left no trace, retry it as new")]
    DeadlineExceeded,
    /// Started, but its record is not known to be durable: the disk was late (503 `JOURNAL_LATE`, Retry-After 1); a retry gets the duplicate.
    #[error("the journal did not confirm the record in time; retry to get its decision")]
    JournalLate,
    /// Its record is late, and as many answers as are allowed wait for theirs (503 `SPILL_FULL`, Retry-After 1); a retry gets
    /// the duplicate.
    #[error("the journal is late, and no more answers can be kept until it is not; retry to get this decision")]
    SpillFull,
    /// Its record is late, and the answer cannot be kept meanwhile (503 `SPILL_FAILED`, Retry-After 1); a retry gets the duplicate.
    #[error("the journal is late, and answers cannot be kept meanwhile; retry to get this decision")]
    SpillFailed,
    /// The journal failed; the shard recovers (503 `JOURNAL_UNAVAILABLE`, Retry-After 5).
    #[error("the journal cannot be written: {0}")]
    JournalUnavailable(Arc<str>),
    /// The shard loads its profiles (503 `RECOVERING`, Retry-After 1).
    #[error("the service is recovering its profiles; retry when /readyz says so")]
    Recovering,
    /// The first answer to a duplicate could not be read back in time (503 `ORIGINAL_UNAVAILABLE`, Retry-After 1).
    #[error("the first answer to this transaction could not be read back now; retry")]
    OriginalUnavailable,
    /// The user's stored profile cannot be read (503 `PROFILE_UNREADABLE`, Retry-After 60); nobody else is concerned.
    #[error("this user's profile cannot be read: {0}")]
    ProfileUnreadable(Arc<str>),
    /// The service stops (503 `STOPPING`, Retry-After 5).
    #[error("the service is stopping")]
    Stopping,
}

/// What the service knows of a user.
#[derive(Clone, Debug)]
pub struct ProfileView {
    /// The user.
    pub user_id: Box<str>,
    /// Features as a transaction of the smallest amount, now and at no place, would see them, without counting it.
    pub features: FeatureVector,
    /// The most recent transactions, newest first.
    pub recent: Vec<RecentTransaction>,
    /// Number of transactions retained.
    pub retained: usize,
    /// The last successful login.
    pub last_login: Option<LastLogin>,
    /// Number of labels retained that say fraud.
    pub fraud_labels: usize,
    /// List entries that bind now.
    pub entries: Vec<ListEntry>,
}

/// A transaction as the profile remembers it.
#[derive(Clone, Copy, Debug)]
pub struct RecentTransaction {
    /// When.
    pub at: Timestamp,
    /// How much, in minor units of the base currency.
    pub base_minor: i64,
}

/// A login as the profile remembers it.
#[derive(Clone, Copy, Debug)]
pub struct LastLogin {
    /// When.
    pub at: Timestamp,
    /// Latitude and longitude in degrees.
    pub location: Option<(f64, f64)>,
}

/// An event that a shard takes.
#[derive(Clone, Debug)]
pub enum Event {
    /// To be decided.
    Transaction(Box<Transaction>),
    /// To be remembered.
    Login(Login),
    /// To be remembered.
    Label(Label),
}

impl Refusal {
    /// Whether it concerns this event or its user, and says nothing of others'.
    #[must_use]
    pub const fn concerns_one_user(&self) -> bool {
        match self {
            Self::TooOld { .. }
            | Self::IdReused
            | Self::Unpriced(_)
            | Self::NotListed
            | Self::ListsFull { .. }
            | Self::OriginalUnavailable
            | Self::ProfileUnreadable(_) => true,
            Self::Overloaded { .. }
            | Self::DeadlineExceeded
            | Self::JournalLate
            | Self::SpillFull
            | Self::SpillFailed
            | Self::JournalUnavailable(_)
            | Self::Recovering
            | Self::Stopping => false,
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooOld { .. } => "TOO_OLD",
            Self::IdReused => "ID_REUSED",
            Self::Unpriced(ConversionError::NoRate(_)) => "UNKNOWN_CURRENCY",
            Self::Unpriced(ConversionError::TooLarge(_)) => "AMOUNT_TOO_LARGE",
            Self::NotListed => "ENTRY_NOT_FOUND",
            Self::ListsFull { .. } => "LISTS_FULL",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::JournalLate => JOURNAL_LATE,
            Self::SpillFull => "SPILL_FULL",
            Self::SpillFailed => "SPILL_FAILED",
            Self::JournalUnavailable(_) => "JOURNAL_UNAVAILABLE",
            Self::Recovering => "RECOVERING",
            Self::OriginalUnavailable => "ORIGINAL_UNAVAILABLE",
            Self::ProfileUnreadable(_) => "PROFILE_UNREADABLE",
            Self::Stopping => "STOPPING",
        }
    }
}

//! Block and allow lists: entries that live in a profile, and the hits that a decision records.

use crate::time::Timestamp;
use uuid::Uuid;

/// Which list an entry is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Payments are stopped.
    Block,
    /// Payments are let through.
    Allow,
}

impl List {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }
}

/// What a list entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListKind {
    /// A user id.
    User,
    /// A merchant id.
    Merchant,
    /// A device id.
    Device,
    /// A client address.
    Ip,
}

impl ListKind {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Merchant => "merchant",
            Self::Device => "device",
            Self::Ip => "ip",
        }
    }
}

/// An entry that names the user in whose profile it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Block or allow.
    pub list: List,
    /// Why, for people.
    pub reason: Box<str>,
    /// The alert that made it, if a decision did.
    pub alert_id: Option<Uuid>,
    /// The first instant at which it binds no more; `None` binds for ever.
    pub expires_at: Option<Timestamp>,
}

impl ListEntry {
    /// Whether the entry binds a decision made at `now`.
    #[must_use]
    pub fn binds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// An entry that a decision met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHit {
    /// Block or allow.
    pub list: List,
    /// What the entry names.
    pub kind: ListKind,
    /// The value it names.
    pub value: Box<str>,
    /// Why the entry is there.
    pub reason: Box<str>,
}

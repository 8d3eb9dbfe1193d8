//! Block and allow lists: entries, the changes that make and remove them, and the hits that a decision records.
//!
//! An entry about a user lives in that user's profile. Entries about anything else are looked up by whoever holds them;
//! here is only what an entry means.

use crate::event::Transaction;
use crate::time::Timestamp;
use uuid::Uuid;

/// Which list an entry is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// Payments are stopped.
    Block,
    /// The block list does not stop payments, as far as the rule set says so.
    Allow,
}

impl List {
    /// Both lists, with their names on the wire.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Block, "block"), (Self::Allow, "allow")];

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Every kind, with its name on the wire.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::User, "user"), (Self::Merchant, "merchant"), (Self::Device, "device"), (Self::Ip, "ip")];

    /// The kinds whose entries are in nobody's profile.
    pub const SHARED: [Self; 3] = [Self::Merchant, Self::Device, Self::Ip];

    /// What an entry of this kind must name to bind the payment; `None` where the payment does not say.
    #[must_use]
    pub fn named_by(self, transaction: &Transaction) -> Option<&str> {
        match self {
            Self::User => Some(&transaction.user_id),
            Self::Merchant => Some(&transaction.merchant_id),
            Self::Device => transaction.device_id.as_deref(),
            Self::Ip => transaction.ip_address.as_deref(),
        }
    }

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

/// Who puts an entry on a list, or takes it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListSource {
    /// A decision that blocked.
    Decision,
    /// A request.
    Api,
}

impl ListSource {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Api => "api",
        }
    }
}

/// An entry of a list; what it names is known to whoever holds it.
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

    /// Who made it: only a decision names an alert.
    #[must_use]
    pub const fn source(&self) -> ListSource {
        if self.alert_id.is_some() { ListSource::Decision } else { ListSource::Api }
    }
}

/// What identifies an entry, in the order in which a list is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// Which list.
    pub list: List,
    /// What the entry names.
    pub kind: ListKind,
    /// The value it names; an address in canonical text form.
    pub value: Box<str>,
}

/// A change that somebody asked for. Entries that a decision makes are part of that decision instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// The entry.
    pub key: ListKey,
    /// Who asked.
    pub source: ListSource,
    /// What becomes of the entry.
    pub action: ListAction,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAction {
    /// It is made, or replaced, whatever was there.
    Put {
        /// Why, for people.
        reason: Box<str>,
        /// The first instant at which it binds no more; `None` binds for ever.
        expires_at: Option<Timestamp>,
    },
    /// It is removed.
    Delete,
}

impl ListChange {
    /// What is on the list once this has happened.
    #[must_use]
    pub fn entry(&self) -> Option<ListEntry> {
        match &self.action {
            ListAction::Put { reason, expires_at } => {
                Some(ListEntry { list: self.key.list, reason: reason.clone(), alert_id: None, expires_at: *expires_at })
            }
            ListAction::Delete => None,
        }
    }
}

/// The entries about one value: at most one a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    block: Option<ListEntry>,
    allow: Option<ListEntry>,
}

impl Entries {
    /// The place of a list's entry.
    pub const fn of(&mut self, list: List) -> &mut Option<ListEntry> {
        match list {
            List::Block => &mut self.block,
            List::Allow => &mut self.allow,
        }
    }

    /// The entries, expired ones included, block before allow.
    pub fn iter(&self) -> impl Iterator<Item = &ListEntry> {
        self.block.iter().chain(&self.allow)
    }

    /// Whether neither list has an entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.block.is_none() && self.allow.is_none()
    }

    /// Adds the entries about this value that bind a decision at `now` to `hits`.
    pub fn hit(&self, (kind, value): (ListKind, &str), now: Timestamp, hits: &mut Vec<ListHit>) {
        let binding = self.iter().filter(|entry| entry.binds(now));
        hits.extend(binding.map(|entry| ListHit {
            list: entry.list,
            kind,
            value: value.into(),
            reason: entry.reason.clone(),
        }));
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_795_435_200_000);

    fn put(list: List, reason: &str, expires_at: Option<Timestamp>) -> ListChange {
        let action = ListAction::Put { reason: reason.into(), expires_at };
        let key = ListKey { list, kind: ListKind::Merchant, value: "m-3".into() };
        ListChange { key, source: ListSource::Api, action }
    }

    #[test]
    fn one_entry_a_list_and_value_binds_until_it_expires() {
        let mut entries = Entries::default();
        let hits = |entries: &Entries, now: Timestamp| {
            let mut hits = Vec::new();
            entries.hit((ListKind::Merchant, "m-3"), now, &mut hits);
            hits.iter().map(|hit| (hit.list, hit.reason.to_string())).collect::<Vec<_>>()
        };
        for change in [
            put(List::Block, "first", None),
            put(List::Block, "shorter", Some(NOON + 10)),
            put(List::Allow, "partner", Some(NOON + 5)),
        ] {
            *entries.of(change.key.list) = change.entry();
        }
        let (block, allow) = ((List::Block, "shorter".to_owned()), (List::Allow, "partner".to_owned()));
        assert_eq!(hits(&entries, NOON), [block.clone(), allow]);
        assert_eq!(hits(&entries, NOON + 5), [block], "the instant at which it expires is the first without it");
        assert_eq!(hits(&entries, NOON + 10), []);
        assert!(!entries.is_empty(), "expired ones are there until they are removed");
        let delete = ListChange { action: ListAction::Delete, ..put(List::Block, "", None) };
        *entries.of(List::Block) = delete.entry();
        *entries.of(List::Allow) = None;
        assert!(entries.is_empty());
    }

    #[test]
    fn names_are_those_of_the_tables() {
        assert!(List::ALL.iter().all(|(list, name)| list.name() == *name));
        assert!(ListKind::ALL.iter().all(|(kind, name)| kind.name() == *name));
        assert!(ListKind::ALL.iter().all(|(kind, _)| ListKind::SHARED.contains(kind) != (*kind == ListKind::User)));
    }
}

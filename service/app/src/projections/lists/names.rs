//! The names and values of the mirror: entries, which other systems read, and positions, which are this projection's own.
//!
//! A position vouches for the history behind it: it holds a fingerprint of the last record that is reflected. One that
//! another journal left, or this one before it was restored from a copy and went on otherwise, is thereby not taken for a
//! place in this journal.

use crate::actors::partition::partition_of_entry;
use crate::journal::record::{Body, Record};
use crate::journal::{Partition, Position as Found};
use sha2::{Digest, Sha256};
use std::fmt;
use verdict_core::lists::{List, ListAction, ListChange, ListKey, ListKind};

/// A pattern for every name of the mirror.
pub(super) const EVERY_NAME: &str = "verdict:*";

/// The name of an entry.
pub(super) fn entry_name(key: &ListKey) -> String {
    format!("verdict:{}:{}:{}", key.list.name(), key.kind.name(), key.value)
}

/// The name of a partition's position.
pub(super) fn position_name(partition: Partition) -> String {
    format!("verdict:position:{partition}")
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Entry(ListKey),
    Position(Partition),
}

impl Named {
    /// `None` for a name that the mirror does not use.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (first, rest) = name.strip_prefix("verdict:")?.split_once(':')?;
        if first == "position" {
            return rest.parse().ok().map(Self::Position);
        }
        let (list, _) = List::ALL.into_iter().find(|(_, name)| *name == first)?;
        let (kind, value) = rest.split_once(':')?;
        let (kind, _) = ListKind::ALL.into_iter().find(|(_, name)| *name == kind)?;
        Some(Self::Entry(ListKey { list, kind, value: value.into() }))
    }

    /// The partition among `partitions` that it belongs to; of a position, the one that it names.
    pub(super) fn partition(&self, partitions: Partition) -> Partition {
        match self {
            Self::Entry(key) => partition_of_entry(key, partitions),
            Self::Position(partition) => *partition,
        }
    }
}

/// How far a partition's entries in the mirror reflect the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The first record that is not reflected.
    pub(super) n: u64,
    /// That of the record before it.
    pub(super) fingerprint: u64,
}

impl Position {
    /// The position behind a record of a journal with so many partitions; behind none, at the start.
    pub(super) fn behind(last: Option<&Record>, partitions: Partition) -> Self {
        Self { n: last.map_or(0, |last| last.n + 1), fingerprint: fingerprint(last, partitions) }
    }
}

/// What is left in the mirror as a partition's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) position: Position,
    /// From where readers of the journal find the record before the position, which is looked at first, and those behind it; if
    /// they need to be told.
    pub(super) place: Option<Found>,
}

impl Left {
    /// `None` for any other text, as it stands there while a partition is written again.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (n, fingerprint) = (parts.next()?.parse().ok()?, u64::from_str_radix(parts.next()?, 16).ok()?);
        let place: Vec<u64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let place = match place[..] {
            [] => None,
            [offset, epoch, n] => Some(Found { offset, epoch, n }),
            _ => return None,
        };
        Some(Self { position: Position { n, fingerprint }, place })
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { n, fingerprint } = self.position;
        write!(f, "{n}:{fingerprint:016x}")?;
        match self.place {
            Some(Found { offset, epoch, n }) => write!(f, ":{offset}:{epoch}:{n}"),
            None => Ok(()),
        }
    }
}

fn fingerprint(last: Option<&Record>, partitions: Partition) -> u64 {
    let mut hash = Sha256::new();
    hash.update(partitions.to_le_bytes());
    if let Some(record) = last {
        hash.update(record.partition.to_le_bytes());
        hash.update(record.epoch.to_le_bytes());
        hash.update(record.n.to_le_bytes());
        hash.update(record.received_at.as_millis().to_le_bytes());
        let told: [&str; 4] = match &record.body {
            Body::Decision(decided) => [&decided.transaction.user_id, &decided.transaction.transaction_id, "", ""],
            Body::List(ListChange { key, action, .. }) => {
                let reason = if let ListAction::Put { reason, .. } = action { reason } else { "" };
                [key.list.name(), key.kind.name(), &key.value, reason]
            }
            other => [other.change().map_or("", |(user_id, _)| user_id), "", "", ""],
        };
        for text in told {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::samples;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_those_that_other_systems_know() {
        let key = |list, kind, value: &str| ListKey { list, kind, value: value.into() };
        for (key, name) in [
            (key(List::Block, ListKind::User, "u-7"), "verdict:block:user:u-7"),
            (key(List::Allow, ListKind::Ip, "2001:db8::1"), "verdict:allow:ip:2001:db8::1"),
            (key(List::Block, ListKind::Device, "a b:ü"), "verdict:block:device:a b:ü"),
            (key(List::Allow, ListKind::Merchant, "m-3"), "verdict:allow:merchant:m-3"),
        ] {
            assert_eq!(entry_name(&key), name);
            assert_eq!(Named::parse(name), Some(Named::Entry(key)));
        }
        assert_eq!(position_name(11), "verdict:position:11");
        assert_eq!(Named::parse("verdict:position:11"), Some(Named::Position(11)));
        for other in
            ["verdict:", "verdict:block", "verdict:block:user", "verdict:deny:user:u", "verdict:block:card:c", "x"]
        {
            assert_eq!(Named::parse(other), None, "{other}");
        }
        assert_eq!(Named::parse("verdict:position:x"), None);
    }

    #[test]
    fn an_entry_belongs_where_the_journal_has_it() {
        for body in samples::list_changes() {
            let Body::List(change) = body.body else { panic!("a list change") };
            let expected = partition_of_entry(&change.key, 12);
            assert_eq!(Named::Entry(change.key).partition(12), expected);
        }
    }

    #[test]
    fn positions_come_back_and_marks_are_none() {
        let position = Position::behind(Some(&samples::login(1, 2, 41)), 12);
        assert_eq!(position.n, 42);
        for place in [None, Some(Found { offset: 57, epoch: 1 << 40, n: 40 })] {
            let left = Left { position, place };
            assert_eq!(Left::parse(&left.to_string()), Some(left));
        }
        for other in
            ["", "42", "writing:7", ":", "x:0", "42:xyz", "42:0:", "42:0:57:2", "42:0:57:2:x", "42:0:57:2:40:1"]
        {
            assert_eq!(Left::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_record_and_every_journal_has_its_own_fingerprint() {
        let mut all = samples::one_of_each();
        all.extend(samples::list_changes());
        let seen: BTreeSet<u64> = all.iter().map(|record| fingerprint(Some(record), 12)).collect();
        assert_eq!(seen.len(), all.len());
        let login = samples::login(0, 1, 0);
        let later = Record { received_at: login.received_at + 1, ..login.clone() };
        let retried = Record { epoch: 2, ..login.clone() };
        let of = |record| fingerprint(Some(record), 12);
        assert!(of(&login) != of(&later) && of(&login) != of(&retried));
        assert_ne!(of(&login), fingerprint(Some(&login), 4));
        assert_ne!(fingerprint(None, 12), fingerprint(None, 4));
    }

    proptest! {
        #[test]
        fn any_entry_is_found_by_its_name(
            list in prop::sample::select(List::ALL.to_vec()),
            kind in prop::sample::select(ListKind::ALL.to_vec()),
            value in "\\PC{1,20}",
        ) {
            let key = ListKey { list: list.0, kind: kind.0, value: value.into() };
            prop_assert_eq!(Named::parse(&entry_name(&key)), Some(Named::Entry(key)));
        }

        #[test]
        fn any_name_is_parsed_without_a_panic(name in "\\PC{0,30}|verdict:\\PC{0,20}") {
            let _ = Named::parse(&name);
            let _ = Left::parse(&name);
        }
    }
}

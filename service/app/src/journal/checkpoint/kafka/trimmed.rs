//! Where a partition of the journal begins, and places in it with the time by which everything before them had been
//! received: the record `trimmed/P` of `verdict.profiles` (PROTOCOL, "Retention").
//!
//! It is committed before anything is deleted, so that whoever finds the start of the log gone finds where to begin, and
//! which epoch is in force there. Places are noted as time goes on, so that nothing is ever read to find out how old it is.

use super::shape;
use crate::journal::{Partition, Position};
use crate::kafka::{Message, Small};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use verdict_core::time::Timestamp;

/// Most places that are kept; when there are too many, because something holds trimming back, every second one goes.
const MAX_PLACES: usize = 128;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trimmed {
    /// Where the partition begins, if it was ever trimmed.
    pub(super) first: Option<Position>,
    /// Behind it, in order.
    pub(super) places: Vec<Place>,
}

/// Everything before `position` had been received by `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) position: Position,
}

/// Offset, epoch and n.
type Stored = (u64, u64, u64);

/// The stored form; its fields and their order are the format of version 1.
#[derive(Serialize, Deserialize)]
struct TrimmedV1 {
    first: Option<Stored>,
    /// Milliseconds since 1970, and the position.
    places: Vec<(i64, Stored)>,
}

fn key(partition: Partition) -> String {
    format!("trimmed/{partition}")
}

impl Trimmed {
    /// Number of the first record that is still there.
    pub(super) fn first_n(&self) -> u64 {
        self.first.map_or(0, |first| first.n)
    }

    /// Notes the end of the partition, unless a place was noted less than `spacing_ms` ago; whether it did.
    pub(super) fn note(&mut self, at: Timestamp, end: Position, spacing_ms: i64) -> bool {
        let known = self.places.last().map_or(self.first_n(), |last| last.position.n);
        let soon = self.places.last().is_some_and(|last| at.as_millis() - last.at.as_millis() < spacing_ms);
        if soon || end.n <= known {
            return false;
        }
        if self.places.len() >= MAX_PLACES {
            let mut at = 0;
            self.places.retain(|_| {
                at += 1;
                at % 2 == 0
            });
        }
        self.places.push(Place { at, position: end });
        true
    }

    /// The furthest place before which everything is older than this time, and none of the records from `kept_n` on.
    pub(super) fn due(&self, before: Timestamp, kept_n: u64) -> Option<Position> {
        let due = |place: &&Place| place.at < before && place.position.n <= kept_n;
        self.places.iter().rev().find(due).map(|place| place.position)
    }

    /// Makes a place the start.
    pub(super) fn begin_at(&mut self, first: Position) {
        self.first = Some(first);
        self.places.retain(|place| place.position.n > first.n);
    }

    pub(super) fn message(&self, topic: &Arc<str>, partition: Partition) -> Result<Message, Arc<str>> {
        let stored = |position: Position| (position.offset, position.epoch, position.n);
        let places = self.places.iter().map(|place| (place.at.as_millis(), stored(place.position))).collect();
        let body = postcard::to_stdvec(&TrimmedV1 { first: self.first.map(stored), places });
        let body = body.map_err(|error| Arc::from(error.to_string()))?;
        Ok(shape::checked_message(topic, partition, &key(partition), &body))
    }

    /// What the records of a partition say of its start, which is nothing where it was never trimmed; or what is wrong.
    pub(super) fn read(partition: Partition, records: &Small) -> Result<Self, String> {
        let key = key(partition);
        let Some(value) = records.get(key.as_bytes()) else { return Ok(Self::default()) };
        let named = |what: String| format!("the start of partition {partition}: {what}");
        let body = shape::checked_body(&key, value).map_err(named)?;
        let TrimmedV1 { first, places } = postcard::from_bytes(body).map_err(|error| named(error.to_string()))?;
        let position = |(offset, epoch, n): Stored| Position { offset, epoch, n };
        let place = |(at, stored): (i64, Stored)| Place { at: Timestamp::from_millis(at), position: position(stored) };
        Ok(Self { first: first.map(position), places: places.into_iter().map(place).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Position {
        Position { offset: n + 3, epoch: 2, n }
    }

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_place_is_noted_now_and_then_and_only_where_something_came() {
        let mut trimmed = Trimmed::default();
        assert!(!trimmed.note(time(0), at(0), 10), "nothing came yet");
        assert!(trimmed.note(time(5), at(7), 10));
        assert!(!trimmed.note(time(14), at(9), 10) && !trimmed.note(time(90), at(7), 10));
        assert!(trimmed.note(time(15), at(9), 10));
        let noted: Vec<(i64, u64)> =
            trimmed.places.iter().map(|place| (place.at.as_millis(), place.position.n)).collect();
        assert_eq!(noted, [(5, 7), (15, 9)]);
        for n in 10..10_000 {
            trimmed.note(time(n * 10), at(n as u64), 10);
        }
        assert!(trimmed.places.len() <= MAX_PLACES && trimmed.places.is_sorted_by_key(|place| place.position.n));
    }

    #[test]
    fn what_is_due_is_old_enough_and_needed_by_nobody() {
        let mut trimmed = Trimmed::default();
        for n in [10, 20, 30] {
            trimmed.note(time(n), at(n as u64), 1);
        }
        for (before, kept_n, expected) in [
            (10, 99, None),
            (11, 99, Some(10)),
            (99, 99, Some(30)),
            (99, 29, Some(20)),
            (99, 30, Some(30)),
            (99, 9, None),
        ] {
            assert_eq!(trimmed.due(time(before), kept_n), expected.map(at), "{before} {kept_n}");
        }
        trimmed.begin_at(at(20));
        assert_eq!((trimmed.first_n(), trimmed.places.len()), (20, 1));
        assert_eq!(trimmed.due(time(30), 99), None);
    }

    #[test]
    fn it_comes_back_and_damage_is_told() {
        let mut trimmed = Trimmed::default();
        assert_eq!(Trimmed::read(3, &Small::new()), Ok(Trimmed::default()));
        trimmed.note(time(10), at(10), 1);
        trimmed.begin_at(at(10));
        trimmed.note(time(20), at(1 << 40), 1);
        let Message { key, value, partition, .. } = trimmed.message(&"t".into(), 3).expect("encodes");
        let (key, mut value) = (key.expect("a key"), value.expect("a value"));
        assert_eq!((&*key, partition), (&b"trimmed/3"[..], Some(3)));
        assert_eq!(Trimmed::read(3, &Small::from([(key.clone(), value.clone())])), Ok(trimmed));
        // Another partition's in its place.
        let moved = Small::from([(b"trimmed/4"[..].into(), value.clone())]);
        assert!(Trimmed::read(4, &moved).expect_err("another's").contains("partition 4: expected checksum"));
        value[9] ^= 1;
        assert!(Trimmed::read(3, &Small::from([(key, value)])).expect_err("damaged").contains("expected checksum"));
    }
}

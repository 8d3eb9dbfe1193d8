//! Keeps the records of a source partition in the order of their offsets (I6).
//!
//! Events of one source partition belong to many users: one waits for the model, another is a duplicate and needs none. Left
//! to themselves their records would leave in the order in which they are finished, and a start that resumes behind the
//! last offset in the journal would skip what was not. So whoever is finished too early waits for the turn of its offset.
//! Nobody waits for ever: the first in a lane waits for nothing but earlier events of its own user, and those came to
//! the shard before it. HTTP and files have no lanes.
//!
//! A source is *opened* before it sends: it hears where to resume, and numbers what it sends from there on. What does not
//! follow is refused, and so is all behind it, so that nothing that was refused is ever overtaken.

use super::completion::Completion;
use super::user::UserActor;
use crate::journal::Partition;
use crate::journal::record::Body;
use actix::Addr;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use verdict_core::event::Source;
use verdict_core::time::Timestamp;

/// An opening of the sources of one journal partition: what was sent under another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The partition's epoch.
    pub(super) epoch: u64,
    /// Number of the opening in that epoch.
    pub(super) opening: u64,
}

/// The place of a record among those that its source partition sent under a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The session.
    pub session: Session,
    /// Contiguous number, from 0.
    pub number: u64,
}

/// A record that is ready and waits for its turn.
pub(super) struct Parked {
    pub(super) partition: Partition,
    pub(super) source: Source,
    pub(super) received_at: Timestamp,
    pub(super) body: Body,
    pub(super) completion: Completion,
}

/// Who is told that it is its turn.
pub(super) enum Waiting {
    /// A user who has something to finish.
    User(Addr<UserActor>),
    /// A record without a user.
    Record(Box<Parked>),
}

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    /// By journal partition.
    opened: RefCell<HashMap<Partition, Lanes>>,
    openings: RefCell<u64>,
}

struct Lanes {
    session: Session,
    /// By topic and partition of the topic.
    lanes: HashMap<Box<str>, HashMap<i32, Lane>>,
}

/// What one source partition sent and what has not left yet, in the order of offsets.
#[derive(Default)]
struct Lane {
    next: u64,
    inside: VecDeque<(i64, Option<Waiting>)>,
}

impl Turns {
    /// Starts a session; `None` while something of the one before is still inside.
    pub(super) fn open(&self, partition: Partition, epoch: u64) -> Option<Session> {
        let mut opened = self.opened.borrow_mut();
        let busy = |lanes: &Lanes| lanes.lanes.values().flat_map(HashMap::values).any(|lane| !lane.inside.is_empty());
        if opened.get(&partition).is_some_and(busy) {
            return None;
        }
        let mut openings = self.openings.borrow_mut();
        *openings += 1;
        let session = Session { epoch, opening: *openings };
        opened.insert(partition, Lanes { session, lanes: HashMap::new() });
        Some(session)
    }

    /// Takes a place in the lane of the source; `false` if it does not follow what came before.
    #[must_use]
    pub(super) fn enter(&self, partition: Partition, source: &Source, turn: Turn) -> bool {
        let Source::Topic { topic, partition: of_topic, offset } = source else { return false };
        let mut opened = self.opened.borrow_mut();
        let Some(Lanes { session, lanes }) = opened.get_mut(&partition) else { return false };
        if *session != turn.session {
            return false;
        }
        if !lanes.contains_key(topic) {
            lanes.insert(topic.clone(), HashMap::new());
        }
        let Some(lane) = lanes.get_mut(topic).map(|lanes| lanes.entry(*of_topic).or_default()) else { return false };
        let follows = turn.number == lane.next && lane.inside.back().is_none_or(|(last, _)| last < offset);
        if follows {
            lane.next += 1;
            lane.inside.push_back((*offset, None));
        }
        follows
    }

    /// Whether a record of this source may leave now.
    pub(super) fn is_turn(&self, partition: Partition, source: &Source) -> bool {
        let Source::Topic { offset, .. } = source else { return true };
        self.with_lane(partition, source, |lane| lane.inside.front().is_some_and(|(first, _)| first == offset))
            .unwrap_or(true)
    }

    /// Tells `waiting` when it is the source's turn.
    pub(super) fn wait(&self, partition: Partition, source: &Source, waiting: Waiting) {
        let Source::Topic { offset, .. } = source else { return };
        self.with_lane(partition, source, |lane| {
            if let Ok(at) = lane.inside.binary_search_by_key(offset, |(offset, _)| *offset) {
                lane.inside[at].1 = Some(waiting);
            }
        });
    }

    /// The record of this source has left; gives whoever waits for the next turn.
    pub(super) fn leave(&self, partition: Partition, source: &Source) -> Option<Waiting> {
        let Source::Topic { offset, .. } = source else { return None };
        self.with_lane(partition, source, |lane| {
            debug_assert!(lane.inside.front().is_some_and(|(first, _)| first == offset), "I6: offset order");
            lane.inside.pop_front();
            lane.inside.front_mut().and_then(|(_, waiting)| waiting.take())
        })?
    }

    /// Lets go of whoever waits: the epoch has ended.
    pub(super) fn close(&self) -> Vec<Completion> {
        let opened = self.opened.take();
        let inside = opened.into_values().flat_map(|lanes| lanes.lanes.into_values()).flat_map(HashMap::into_values);
        let waiting = inside.flat_map(|lane| lane.inside).filter_map(|(_, waiting)| waiting);
        waiting
            .filter_map(|waiting| match waiting {
                Waiting::Record(parked) => Some(parked.completion),
                // It is told of the end by whatever it does next; nothing of it was numbered.
                Waiting::User(_) => None,
            })
            .collect()
    }

    fn with_lane<T>(&self, partition: Partition, source: &Source, act: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        let Source::Topic { topic, partition: of_topic, .. } = source else { return None };
        let mut opened = self.opened.borrow_mut();
        Some(act(opened.get_mut(&partition)?.lanes.get_mut(topic)?.get_mut(of_topic)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(topic: &str, offset: i64) -> Source {
        Source::Topic { topic: topic.into(), partition: 3, offset }
    }

    fn record(offset: i64) -> Waiting {
        Waiting::Record(Box::new(Parked {
            partition: 3,
            source: source("t", offset),
            received_at: Timestamp::from_millis(0),
            body: Body::Duplicate { user_id: "u".into(), event_id: "e".into() },
            completion: Completion::Durable(tokio::sync::oneshot::channel().0),
        }))
    }

    fn parked(waiting: Option<Waiting>) -> Option<Source> {
        match waiting {
            Some(Waiting::Record(parked)) => Some(parked.source),
            _ => None,
        }
    }

    #[test]
    fn each_waits_for_the_one_before_it() {
        let turns = Turns::default();
        let session = turns.open(3, 7).unwrap();
        for (number, offset) in [(0, 5), (1, 6), (2, 9)] {
            assert!(turns.enter(3, &source("t", offset), Turn { session, number }));
        }
        assert!(turns.enter(3, &source("other", 0), Turn { session, number: 0 }));
        assert!(turns.is_turn(3, &source("t", 5)) && turns.is_turn(3, &source("other", 0)));
        assert!(!turns.is_turn(3, &source("t", 6)) && !turns.is_turn(3, &source("t", 9)));
        assert!(turns.is_turn(3, &Source::Http), "HTTP has no lane");
        turns.wait(3, &source("t", 9), record(9));
        turns.wait(3, &source("t", 6), record(6));
        assert_eq!(parked(turns.leave(3, &source("t", 5))), Some(source("t", 6)));
        assert_eq!(parked(turns.leave(3, &source("t", 6))), Some(source("t", 9)));
        assert!(turns.open(3, 7).is_none(), "two are inside");
        assert!(turns.leave(3, &source("t", 9)).is_none() && turns.leave(3, &source("other", 0)).is_none());
        assert!(turns.open(3, 7).is_some_and(|next| next != session));
    }

    #[test]
    fn what_does_not_follow_is_refused_and_so_is_all_behind_it() {
        let turns = Turns::default();
        let session = turns.open(3, 7).unwrap();
        let enters = |offset, session, number| turns.enter(3, &source("t", offset), Turn { session, number });
        assert!(enters(5, session, 0));
        assert!(!enters(7, session, 2), "one is missing");
        assert!(!enters(8, session, 3));
        assert!(!enters(5, session, 1), "it was there before");
        assert!(!turns.enter(4, &source("t", 6), Turn { session, number: 1 }), "not opened");
        turns.leave(3, &source("t", 5));
        let again = turns.open(3, 7).unwrap();
        assert!(!enters(6, session, 1), "of the session before");
        assert!(enters(6, again, 0));
        turns.wait(3, &source("t", 6), record(6));
        assert_eq!(turns.close().len(), 1);
        assert!(!enters(7, again, 1), "closed");
    }
}

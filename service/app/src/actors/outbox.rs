//! What a shard has for the journal and has not handed over yet, and when it is to be.

use super::completion::Completion;
use super::permits::Permits;
use crate::journal::record::Record;
use verdict_core::event::Source;

/// Most records that wait for each other.
const ENOUGH: usize = 512;

/// Fewest that do where callers wait, as long as the thread has something else to do. Each append is a wake-up of the journal's
/// thread, and on an idle disk a write and a sync.
const FEWEST: usize = 32;

/// When what waits is to be handed over; the later, the more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// In some milliseconds: nobody waits for an answer, and others may come to share the append.
    Soon,
    /// Once the thread has nothing else to do, as callers wait, and others may be about to.
    Idle,
    /// Now.
    Now,
}

/// See the module.
pub(super) struct Outbox {
    /// Tell how much is in flight.
    permits: Permits,
    /// In journal order.
    records: Vec<Record>,
    /// Told when the append is durable.
    completions: Vec<Completion>,
    /// What the shard was woken for, if it was.
    woken: Option<When>,
    /// How often it was emptied.
    emptied: u64,
    /// Whether there is something in it that nobody waits for.
    unwaited: bool,
}

impl Outbox {
    /// An empty one of a shard that has these permits.
    pub(super) const fn new(permits: Permits) -> Self {
        Self { permits, records: Vec::new(), completions: Vec::new(), woken: None, emptied: 0, unwaited: false }
    }

    /// Puts a record in, or what waits for those before it. Gives when the shard is to empty it, unless it was told so before:
    /// whatever a caller waits for takes along what could wait for longer. Where callers wait, half of what is in flight
    /// is enough, so that the disk has one half while the shard's thread works on the other; not beside topics, of whose events in
    /// flight no caller waits for any.
    pub(super) fn push(&mut self, record: Option<Record>, completion: Completion) -> Option<When> {
        let (when, enough) = match record.as_ref().map(|record| &record.source) {
            Some(Source::Topic { .. }) => (When::Soon, ENOUGH),
            Some(Source::File { .. }) => (When::Idle, ENOUGH),
            Some(Source::Http) | None if self.unwaited => (When::Idle, FEWEST),
            Some(Source::Http) | None => (When::Idle, (self.permits.in_flight_a_shard() / 2).clamp(FEWEST, ENOUGH)),
        };
        self.unwaited |= when == When::Soon;
        self.records.extend(record);
        self.completions.push(completion);
        let when = if self.completions.len() < enough { when } else { When::Now };
        if self.woken >= Some(when) {
            return None;
        }
        self.woken = Some(when);
        Some(when)
    }

    /// Empties it, and makes room for as much again.
    pub(super) fn take(&mut self) -> (Vec<Record>, Vec<Completion>) {
        self.woken = None;
        self.emptied += 1;
        self.unwaited = false;
        let (records, completions) = (self.records.len(), self.completions.len());
        (replace(&mut self.records, records), replace(&mut self.completions, completions))
    }

    /// How often it was emptied.
    pub(super) const fn emptied(&self) -> u64 {
        self.emptied
    }
}

fn replace<T>(full: &mut Vec<T>, room: usize) -> Vec<T> {
    std::mem::replace(full, Vec::with_capacity(room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Body;
    use verdict_core::time::Timestamp;

    fn record(source: Source) -> Record {
        let body = Body::Duplicate { user_id: "u".into(), event_id: "t".into() };
        Record { partition: 0, epoch: 0, n: 0, source, received_at: Timestamp::from_millis(0), body }
    }

    fn topic() -> Option<Record> {
        Some(record(Source::Topic { topic: "transactions".into(), partition: 0, offset: 0 }))
    }

    fn http() -> Option<Record> {
        Some(record(Source::Http))
    }

    fn outbox() -> Outbox {
        Outbox::new(Permits::new(1, 1))
    }

    fn woken(outbox: &mut Outbox, records: usize, record: fn() -> Option<Record>) -> Vec<When> {
        (0..records).filter_map(|_| outbox.push(record(), Completion::Nobody)).collect()
    }

    #[test]
    fn a_topic_waits_for_more_and_a_caller_takes_all_along() {
        let mut outbox = outbox();
        assert_eq!(woken(&mut outbox, 2, topic), [When::Soon]);
        assert_eq!(woken(&mut outbox, 1, http), [When::Idle]);
        assert_eq!(woken(&mut outbox, 2, topic), [], "they go along");
        assert_eq!(woken(&mut outbox, 1, http), []);
    }

    #[test]
    fn whoever_waits_for_what_came_before_does_not_wait_for_more() {
        let mut outbox = outbox();
        assert_eq!(woken(&mut outbox, 1, topic), [When::Soon]);
        assert_eq!(outbox.push(None, Completion::Nobody), Some(When::Idle));
    }

    #[test]
    fn enough_wait_no_longer() {
        let check = |record: fn() -> Option<Record>, first: When, in_flight: usize, enough: usize| {
            let permits = Permits::new(in_flight, 1);
            let _taken: Vec<_> = (0..in_flight).map(|_| permits.take().expect("a permit")).collect();
            let mut outbox = Outbox::new(permits);
            assert_eq!(woken(&mut outbox, enough - 1, record), [first], "{in_flight} in flight");
            assert_eq!(woken(&mut outbox, enough, record), [When::Now], "{in_flight} in flight");
            assert_eq!(outbox.take().0.len(), 2 * enough - 1, "none is lost");
            assert_eq!(woken(&mut outbox, 1, record), [first], "and the next begin anew");
        };
        check(topic, When::Soon, 64, ENOUGH);
        check(|| Some(record(Source::File { line: 1 })), When::Idle, 64, ENOUGH);
        // Callers: half of them, within bounds.
        check(http, When::Idle, 0, FEWEST);
        check(http, When::Idle, 64, FEWEST);
        check(http, When::Idle, 300, 150);
        check(http, When::Idle, 4_096, ENOUGH);

        // Beside a topic half of what is in flight is not theirs.
        let permits = Permits::new(4_096, 1);
        let _taken: Vec<_> = (0..4_096).map(|_| permits.take().expect("a permit")).collect();
        let mut outbox = Outbox::new(permits);
        assert_eq!(woken(&mut outbox, 1, topic), [When::Soon]);
        assert_eq!(woken(&mut outbox, FEWEST - 1, http), [When::Idle, When::Now]);
    }
}

//! The counting rule: which entries of a partition are part of its journal (PROTOCOL, "Journal"). Pure; every reader of a
//! partition applies this one rule, so that all of them agree whatever landed there, and whenever they started.
//!
//! A record counts only if it names the last epoch that began before it and its number follows its predecessor's. A number
//! that was there is ignored; a gap ends the epoch: its owner has lost a record, and nothing behind it may be believed.

use super::entry::Entry;
use crate::journal::Position;

/// What an entry is to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A record of the journal; readers may start behind it.
    Counts(Position),
    /// Nothing.
    Ignored(Reason),
    /// An epoch begins; readers may start behind its entry.
    EpochBegins(Position),
    /// A record is missing: the epoch ends here, for all readers.
    EpochEnded {
        /// The number that would follow.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Why a record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It names another epoch than the last one: its owner had lost the partition.
    OtherEpoch,
    /// Its number was there before.
    Repeated,
    /// Its epoch has ended with a gap.
    AfterGap,
}

/// A reader's place under the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    epoch: Option<u64>,
    /// Whether the epoch has ended with a gap.
    ended: bool,
    next_n: u64,
    /// The last place where a reader may start.
    safe: Option<Position>,
}

impl Counter {
    /// At the start of a partition, or where one was left.
    pub(super) fn at(position: Option<Position>) -> Self {
        let (epoch, next_n) = position.map_or((None, 0), |position| (Some(position.epoch), position.n));
        Self { epoch, ended: false, next_n, safe: position }
    }

    /// The last place where a reader may start, `None` before the first epoch: behind the last entry that counts or begins
    /// an epoch. From a place behind a gap a reader would not know of it.
    pub(super) const fn safe(&self) -> Option<Position> {
        self.safe
    }

    /// Number of the next record.
    pub(super) const fn next_n(&self) -> u64 {
        self.next_n
    }

    /// Takes the next entry, which was found at this offset.
    pub(super) fn feed(&mut self, offset: u64, entry: &Entry<'_>) -> Verdict {
        match *entry {
            Entry::Epoch { .. } => {
                (self.epoch, self.ended) = (Some(offset), false);
                Verdict::EpochBegins(self.stand_behind(offset, offset))
            }
            Entry::Record { epoch, .. } if self.epoch != Some(epoch) => Verdict::Ignored(Reason::OtherEpoch),
            Entry::Record { .. } if self.ended => Verdict::Ignored(Reason::AfterGap),
            Entry::Record { n, .. } if n < self.next_n => Verdict::Ignored(Reason::Repeated),
            Entry::Record { n, .. } if n > self.next_n => {
                self.ended = true;
                Verdict::EpochEnded { expected: self.next_n, found: n }
            }
            Entry::Record { epoch, .. } => {
                self.next_n += 1;
                Verdict::Counts(self.stand_behind(offset, epoch))
            }
        }
    }

    fn stand_behind(&mut self, offset: u64, epoch: u64) -> Position {
        let position = Position { offset: offset + 1, epoch, n: self.next_n };
        self.safe = Some(position);
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry as a test writes it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Written {
        Epoch,
        Record { epoch: u64, n: u64 },
    }

    impl Written {
        fn entry(self) -> Entry<'static> {
            match self {
                Self::Epoch => Entry::Epoch { claim: 0 },
                Self::Record { epoch, n } => Entry::Record { epoch, n, alert: false, dead_letter: false, bytes: &[] },
            }
        }
    }

    fn record(epoch: u64, n: u64) -> Written {
        Written::Record { epoch, n }
    }

    #[test]
    fn entries_are_judged_one_by_one() {
        let counts = |offset, epoch, n| Verdict::Counts(Position { offset, epoch, n });
        let begins = |offset, n| Verdict::EpochBegins(Position { offset: offset + 1, epoch: offset, n });
        let ignored = Verdict::Ignored;
        let mut counter = Counter::at(None);
        let steps = [
            (record(0, 0), ignored(Reason::OtherEpoch)),
            (Written::Epoch, begins(1, 0)),
            (record(1, 0), counts(3, 1, 1)),
            (record(1, 0), ignored(Reason::Repeated)),
            (record(1, 1), counts(5, 1, 2)),
            (record(0, 2), ignored(Reason::OtherEpoch)),
            (record(1, 3), Verdict::EpochEnded { expected: 2, found: 3 }),
            (record(1, 2), ignored(Reason::AfterGap)),
            (Written::Epoch, begins(8, 2)),
            (record(1, 2), ignored(Reason::OtherEpoch)),
            (record(8, 2), counts(11, 8, 3)),
        ];
        for (offset, (written, expected)) in steps.into_iter().enumerate() {
            assert_eq!(counter.feed(offset as u64, &written.entry()), expected, "at {offset}");
        }
    }

    #[test]
    fn nobody_starts_behind_a_gap() {
        let mut counter = Counter::at(None);
        for (offset, written) in [Written::Epoch, record(0, 0), record(0, 2)].into_iter().enumerate() {
            counter.feed(offset as u64, &written.entry());
        }
        assert_eq!(counter.safe(), Some(Position { offset: 2, epoch: 0, n: 1 }));
    }

    /// The rule once more, from its words, looking at the whole log for every entry.
    fn counting(log: &[Written]) -> Vec<usize> {
        let mut counted: Vec<usize> = Vec::new();
        for (at, written) in log.iter().enumerate() {
            let Written::Record { epoch, n } = *written else { continue };
            let Some(last) = log[..at].iter().rposition(|before| *before == Written::Epoch) else { continue };
            if epoch != last as u64 {
                continue;
            }
            // Of this epoch's records so far, one that leaves a number out behind those that count.
            let before = counted.iter().filter(|counted| **counted < last).count() as u64;
            let mut next = before;
            let mut gap = false;
            for earlier in &log[last..at] {
                if let Written::Record { epoch, n } = *earlier
                    && epoch == last as u64
                {
                    gap |= n > next;
                    next += u64::from(n == next && !gap);
                }
            }
            if !gap && n == next {
                counted.push(at);
            }
        }
        counted
    }

    /// Owners that take over, write in order, stutter, lose records, and go on after they were fenced.
    fn logs() -> impl Strategy<Value = Vec<Written>> {
        prop::collection::vec((0..10_u8, 0..4_usize, 0..4_u64), 0..120).prop_map(|steps| {
            let mut log: Vec<Written> = Vec::new();
            // Every owner with its epoch and next number, the last one current.
            let mut owners: Vec<(u64, u64)> = Vec::new();
            for (what, who, by) in steps {
                let current = owners.len().saturating_sub(1);
                let owner = if what < 7 { current } else { current.saturating_sub(who) };
                match what {
                    0 => {
                        owners.push((log.len() as u64, counting(&log).len() as u64));
                        log.push(Written::Epoch);
                    }
                    _ if owners.is_empty() => log.push(record(by, 0)),
                    1 => log.push(record(owners[owner].0, owners[owner].1.saturating_sub(by))),
                    2 => log.push(record(owners[owner].0, owners[owner].1 + by)),
                    _ => {
                        log.push(record(owners[owner].0, owners[owner].1));
                        owners[owner].1 += 1;
                    }
                }
            }
            log
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_words_of_the_rule(log in logs(), start in any::<prop::sample::Index>()) {
            let expected = counting(&log);
            let mut counter = Counter::at(None);
            let mut counted = Vec::new();
            let mut places = vec![None];
            for (offset, written) in log.iter().enumerate() {
                let verdict = counter.feed(offset as u64, &written.entry());
                if let Verdict::Counts(position) = verdict {
                    counted.push(offset);
                    prop_assert_eq!(position.n, counted.len() as u64);
                }
                places.push(counter.safe());
            }
            prop_assert_eq!(&counted, &expected);
            prop_assert_eq!(counter.next_n(), expected.len() as u64);

            // Whoever starts at a place that was saved finds the same from there on.
            let place = places[start.index(places.len())];
            let mut later = Counter::at(place);
            let from = place.map_or(0, |place| place.offset as usize);
            let rest: Vec<usize> = (from..log.len())
                .filter(|offset| matches!(later.feed(*offset as u64, &log[*offset].entry()), Verdict::Counts(_)))
                .collect();
            let expected: Vec<usize> = expected.into_iter().filter(|offset| *offset >= from).collect();
            prop_assert_eq!(rest, expected);
            prop_assert_eq!(later, counter);
        }
    }
}

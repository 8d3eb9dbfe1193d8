//! Merges the source partitions of one journal partition in event time, so that while a backlog is drained a login is seen
//! before the transaction that followed it (DESIGN 5).
//!
//! Records of a source keep their order. Of all heads the one with the least key goes first, and a source that is empty
//! but not read to its end holds the others back; one that is read to its end holds nothing back. A key is the record's
//! timestamp. Where the source's own later records show that it lies ahead by more than the source's bound, it is at most the
//! previous key and that bound, or one wrong clock would hold up all that comes behind it. Without that proof a timestamp stands:
//! a quiet hour in one topic is no fault, and must not let its next record overtake the other topics.
//!
//! Pure: it knows neither Kafka nor a clock.

use std::collections::VecDeque;
use verdict_core::time::Timestamp;

/// Sources by their place in the list of bounds that they were made of.
pub(super) struct Merge<T> {
    sources: Vec<Queue<T>>,
}

struct Queue<T> {
    /// How much later than a newer one a record comes at most.
    bound_ms: i64,
    /// Key of the last record that left.
    previous: Option<Timestamp>,
    records: VecDeque<Record<T>>,
    /// Candidates for the oldest record behind the head: numbers and timestamps, both ascending.
    oldest: VecDeque<(u64, Timestamp)>,
    /// Number of the head.
    head: u64,
    /// Nothing more was there when it was last looked at.
    at_end: bool,
}

struct Record<T> {
    /// `None` for what has no time: it is no event.
    at: Option<Timestamp>,
    content: T,
}

impl<T> Merge<T> {
    /// A merge of empty sources with these bounds, none of them read to its end.
    pub(super) fn new(bounds_ms: impl IntoIterator<Item = i64>) -> Self {
        let queue = |bound_ms| Queue {
            bound_ms,
            previous: None,
            records: VecDeque::new(),
            oldest: VecDeque::new(),
            head: 0,
            at_end: false,
        };
        Self { sources: bounds_ms.into_iter().map(queue).collect() }
    }

    /// The next record of a source. `is_last`: there was none behind it.
    pub(super) fn push(&mut self, source: usize, at: Option<Timestamp>, content: T, is_last: bool) {
        let queue = &mut self.sources[source];
        let number = queue.head + queue.records.len() as u64;
        if let Some(at) = at {
            while queue.oldest.back().is_some_and(|(_, older)| *older >= at) {
                queue.oldest.pop_back();
            }
            queue.oldest.push_back((number, at));
        }
        queue.records.push_back(Record { at, content });
        queue.at_end = is_last;
    }

    /// A source is read to its end, for now or for ever.
    pub(super) fn end(&mut self, source: usize) {
        self.sources[source].at_end = true;
    }

    /// Takes the record whose turn it is, with its source; `None` while it is not known which that is.
    pub(super) fn pop(&mut self) -> Option<(usize, T)> {
        let mut least: Option<(Timestamp, usize)> = None;
        for (source, queue) in self.sources.iter().enumerate() {
            match queue.key() {
                Some(key) if least.is_none_or(|(other, _)| key < other) => least = Some((key, source)),
                Some(_) => {}
                None if queue.at_end => {}
                None => return None,
            }
        }
        let (_, source) = least?;
        Some((source, self.sources[source].pop()?))
    }

    /// Everything that has not left, with its source.
    pub(super) fn into_rest(self) -> impl Iterator<Item = (usize, T)> {
        let each =
            |(source, queue): (usize, Queue<T>)| queue.records.into_iter().map(move |record| (source, record.content));
        self.sources.into_iter().enumerate().flat_map(each)
    }
}

impl<T> Queue<T> {
    /// The head's key; `None` without a head.
    fn key(&self) -> Option<Timestamp> {
        // What has no time goes as soon as it may.
        let at = self.records.front()?.at.unwrap_or(Timestamp::MIN);
        let behind = self.oldest.iter().find(|(number, _)| *number > self.head);
        let is_ahead = behind.is_some_and(|(_, oldest)| at > *oldest + self.bound_ms);
        match self.previous {
            Some(previous) if is_ahead => Some(at.min(previous + self.bound_ms)),
            // Nothing came before: the records behind it are what there is to go by.
            None if is_ahead => behind.map(|(_, oldest)| at.min(*oldest + self.bound_ms)),
            _ => Some(at),
        }
    }

    fn pop(&mut self) -> Option<T> {
        let key = self.key();
        let record = self.records.pop_front()?;
        if self.oldest.front().is_some_and(|(number, _)| *number == self.head) {
            self.oldest.pop_front();
        }
        self.head += 1;
        if record.at.is_some() {
            self.previous = key;
        }
        Some(record.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(ms))
    }

    fn drain(merge: &mut Merge<i64>) -> Vec<i64> {
        std::iter::from_fn(|| merge.pop().map(|(_, content)| content)).collect()
    }

    /// Two sources read to their end, with a bound of 5.
    fn merged(first: &[i64], second: &[i64]) -> Vec<i64> {
        let mut merge = Merge::new([5, 5]);
        for (source, records) in [first, second].into_iter().enumerate() {
            records.iter().for_each(|ms| merge.push(source, at(*ms), *ms, false));
            merge.end(source);
        }
        drain(&mut merge)
    }

    #[test]
    fn event_time_decides_also_after_a_quiet_hour() {
        assert_eq!(merged(&[0, 60, 120], &[30, 90]), [0, 30, 60, 90, 120]);
        assert_eq!(merged(&[0, 3600], &[1, 2]), [0, 1, 2, 3600]);
    }

    #[test]
    fn late_records_keep_their_place_and_wild_ones_hold_nothing_up() {
        assert_eq!(merged(&[10, 7, 12], &[8, 11]), [8, 10, 7, 11, 12]);
        assert_eq!(merged(&[10, 99_999, 12], &[11, 14, 30]), [10, 11, 14, 99_999, 12, 30]);
        assert_eq!(merged(&[99_999, 99_999, 12], &[11, 16, 30]), [11, 16, 99_999, 99_999, 12, 30]);
    }

    #[test]
    fn a_source_that_is_not_read_to_its_end_holds_the_others_back() {
        let mut merge = Merge::new([5, 5]);
        merge.push(0, at(1), 1, false);
        assert_eq!(merge.pop(), None);
        merge.end(1);
        assert_eq!(merge.pop(), Some((0, 1)));
        assert_eq!(merge.pop(), None);
        merge.push(1, at(2), 2, true);
        assert_eq!(merge.pop(), None, "the first may have one before it");
        merge.push(0, at(3), 3, true);
        assert_eq!(drain(&mut merge), [2, 3]);
        merge.push(1, None, 4, false);
        assert_eq!(drain(&mut merge), [4], "the first is still at its end");
        merge.push(0, at(6), 6, false);
        merge.push(1, at(5), 5, false);
        assert_eq!(merge.into_rest().collect::<Vec<_>>(), [(0, 6), (1, 5)]);
    }

    /// What the rule says, looked up anew at every step.
    fn oracle(mut sources: Vec<(Vec<Option<i64>>, i64)>) -> Vec<(usize, Option<i64>)> {
        let (mut order, mut previous) = (Vec::new(), vec![None::<i64>; sources.len()]);
        while sources.iter().any(|(records, _)| !records.is_empty()) {
            let key = |source: usize| {
                let (records, bound) = &sources[source];
                let head = records.first()?.unwrap_or(Timestamp::MIN.as_millis());
                let oldest_behind = records[1..].iter().flatten().min();
                let wild = oldest_behind.filter(|oldest| head > **oldest + bound);
                Some(wild.map_or(head, |oldest| head.min(previous[source].unwrap_or(*oldest) + bound)))
            };
            let first = (0..sources.len()).filter_map(|source| Some((key(source)?, source))).min();
            let (key, source) = first.expect("a record is left");
            let record = sources[source].0.remove(0);
            if record.is_some() {
                previous[source] = Some(key);
            }
            order.push((source, record));
        }
        order
    }

    fn sources() -> impl Strategy<Value = Vec<(Vec<Option<i64>>, i64)>> {
        let record =
            prop_oneof![8 => (0_i64..60).prop_map(Some), 1 => (1_000_i64..1_050).prop_map(Some), 1 => Just(None)];
        prop::collection::vec((prop::collection::vec(record, 0..12), 0_i64..8), 1..5)
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle(sources in sources()) {
            let mut merge = Merge::new(sources.iter().map(|(_, bound)| *bound));
            for (source, (records, _)) in sources.iter().enumerate() {
                for record in records {
                    merge.push(source, record.map(Timestamp::from_millis), *record, false);
                }
                merge.end(source);
            }
            let found: Vec<_> = std::iter::from_fn(|| merge.pop()).collect();
            prop_assert_eq!(found, oracle(sources));
        }

        /// However reading and taking alternate, every record leaves once, in its source's order, and sources in the order
        /// of time come out in the order of time.
        #[test]
        fn loses_nothing_and_keeps_order(
            sorted in any::<bool>(),
            mut sources in sources(),
            turns in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4), 0..80),
        ) {
            if sorted {
                sources.iter_mut().for_each(|(records, _)| { records.retain(Option::is_some); records.sort_unstable() });
            }
            let mut merge = Merge::new(sources.iter().map(|(_, bound)| *bound));
            let (mut read, mut found) = (vec![0; sources.len()], Vec::new());
            let mut feed = |merge: &mut Merge<Option<i64>>, source: usize| {
                let records = &sources[source].0;
                if let Some(record) = records.get(read[source]) {
                    read[source] += 1;
                    merge.push(source, record.map(Timestamp::from_millis), *record, read[source] == records.len());
                } else {
                    merge.end(source);
                }
            };
            for (source, taken) in turns {
                feed(&mut merge, source.index(sources.len()));
                found.extend(std::iter::from_fn(|| merge.pop()).take(taken));
            }
            for (source, (records, _)) in sources.iter().enumerate() {
                (0..=records.len()).for_each(|_| feed(&mut merge, source));
            }
            found.extend(std::iter::from_fn(|| merge.pop()));
            for (source, (records, _)) in sources.iter().enumerate() {
                let own: Vec<_> = found.iter().filter(|(of, _)| *of == source).map(|(_, record)| *record).collect();
                prop_assert_eq!(&own, records);
            }
            if sorted {
                prop_assert!(found.is_sorted_by_key(|(_, record)| *record));
            }
        }
    }
}

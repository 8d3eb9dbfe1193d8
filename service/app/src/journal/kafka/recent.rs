//! The last records of one partition that the tail has read, in memory: whoever follows the journal closely gets them from
//! here, in place of having a broker send them again. It saves time only, and holds a bounded number of bytes (I7). Pure.

use super::entry::Entry;
use crate::journal::Wanted;
use crate::journal::codec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that are looked at under one lock, which holds up the tail: some 10 us.
const LOOKED_AT: usize = 512;

/// A record that counts, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) offset: u64,
    pub(super) epoch: u64,
    pub(super) n: u64,
    pub(super) marks: Marks,
    /// The record, as `codec` has it.
    pub(super) bytes: Arc<[u8]>,
}

/// What an entry says of its record before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) alert: bool,
    pub(super) dead_letter: bool,
}

impl Marks {
    /// Whether a reader wants the record.
    pub(super) fn are(self, wanted: Wanted, bytes: &[u8]) -> bool {
        match wanted {
            Wanted::Everything => true,
            Wanted::Alerts => self.alert,
            Wanted::Published => self.alert || self.dead_letter,
            Wanted::Lists => self.alert || codec::may_be_list_change(bytes),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    /// Their numbers have no gap.
    kept: VecDeque<Kept>,
    bytes: usize,
    max_bytes: usize,
}

impl Recent {
    /// Keeps no more than so many bytes.
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Keeps a record that counts, which was found at this offset; the oldest go.
    pub(super) fn keep(&mut self, offset: u64, entry: &Entry<'_>) {
        let Entry::Record { epoch, n, alert, dead_letter, bytes } = *entry else { return };
        if self.kept.back().is_some_and(|last| last.n + 1 != n) {
            (self.kept, self.bytes) = (VecDeque::new(), 0);
        }
        self.bytes += bytes.len();
        self.kept.push_back(Kept { offset, epoch, n, marks: Marks { alert, dead_letter }, bytes: bytes.into() });
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Some of the wanted records from `n` on and before `end`, and the first that was not looked at; `None` where it does not
    /// go back so far.
    pub(super) fn from(&self, n: u64, end: u64, wanted: Wanted) -> Option<(Vec<Kept>, u64)> {
        let first = self.kept.front()?.n;
        let behind = first + self.kept.len() as u64;
        if !(first..behind).contains(&n) {
            return None;
        }
        let end = end.min(behind).min(n + LOOKED_AT as u64).max(n);
        // Differences of numbers that are in memory fit.
        let looked_at = self.kept.range((n - first) as usize..(end - first) as usize);
        let found = looked_at.filter(|kept| kept.marks.are(wanted, &kept.bytes)).cloned().collect();
        Some((found, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keep(recent: &mut Recent, n: u64, alert: bool) {
        recent.keep(3 * n, &Entry::Record { epoch: 7, n, alert, dead_letter: false, bytes: &[0; 10] });
    }

    fn numbers(recent: &Recent, n: u64, end: u64, wanted: Wanted) -> Option<(Vec<u64>, u64)> {
        let (found, next) = recent.from(n, end, wanted)?;
        Some((found.iter().map(|kept| kept.n).collect(), next))
    }

    #[test]
    fn only_what_is_wanted_is_given_and_no_more_than_is_there() {
        let mut recent = Recent::new(1_000);
        assert_eq!(numbers(&recent, 0, 9, Wanted::Everything), None);
        (5..9).for_each(|n| keep(&mut recent, n, n == 6));
        assert_eq!(numbers(&recent, 4, 9, Wanted::Everything), None, "it does not go back so far");
        assert_eq!(numbers(&recent, 5, 8, Wanted::Everything), Some((vec![5, 6, 7], 8)));
        assert_eq!(numbers(&recent, 5, 100, Wanted::Published), Some((vec![6], 9)));
        assert_eq!(numbers(&recent, 7, 100, Wanted::Alerts), Some((vec![], 9)));
        assert_eq!(
            numbers(&recent, 9, 100, Wanted::Everything),
            None,
            "nothing is there to say that nothing is wanted"
        );
    }

    #[test]
    fn a_long_stretch_is_given_in_parts() {
        let mut recent = Recent::new(1 << 20);
        (0..2_000).for_each(|n| keep(&mut recent, n, true));
        let (mut next, mut found) = (0, 0);
        while next < 2_000 {
            let (some, end) = recent.from(next, 2_000, Wanted::Alerts).expect("there");
            assert!(some.len() <= LOOKED_AT && end > next);
            (next, found) = (end, found + some.len());
        }
        assert_eq!(found, 2_000);
    }

    proptest! {
        /// What is there is the end of what was kept without a gap, and bounded.
        #[test]
        fn it_holds_the_end(steps in prop::collection::vec(prop_oneof![9 => Just(1_u64), 1 => 0..5_u64], 1..200)) {
            let (mut recent, mut kept, mut n) = (Recent::new(200), Vec::new(), 0);
            for step in steps {
                if step != 1 {
                    kept.clear();
                }
                n += step;
                keep(&mut recent, n, false);
                kept.push(n);
            }
            let from = kept.len().saturating_sub(20);
            let expected: Vec<u64> = kept[from..].to_vec();
            prop_assert_eq!(numbers(&recent, expected[0], n + 1, Wanted::Everything), Some((expected.clone(), n + 1)));
            if expected[0] > 0 {
                prop_assert_eq!(numbers(&recent, expected[0] - 1, n + 1, Wanted::Everything), None);
            }
        }
    }
}

//! Where the records of one partition lie: a sparse index from numbers to offsets. Pure.
//!
//! It saves time only: whoever knows no place nearer starts at the beginning of the partition. It holds a bounded number
//! of places (I7): when there are too many, every second one goes.

use crate::journal::Position;

/// Records between two places, to begin with: a reader passes over some 32 KiB.
const STRIDE: u64 = 64;
/// Most places, of 24 bytes each: those of 4 million records before the first are dropped.
const MAX_PLACES: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    /// By offset, and so by number.
    sorted: Vec<Position>,
    stride: u64,
    /// How far the partition was read here.
    reached: Option<Position>,
    /// Where it begins, if what lies before was trimmed.
    first: Option<Position>,
}

/// Where to look for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nearest {
    /// The last known position at or before it, `None` for the start of the partition.
    pub(super) position: Option<Position>,
    /// Whether every entry from there up to it counts, so that its offset is known.
    pub(super) dense: bool,
}

impl Nearest {
    /// The position in front of a record where that is known, else the one before it.
    pub(super) fn exact(self, n: u64) -> Option<Position> {
        let place = self.position?;
        let by = if self.dense { n.saturating_sub(place.n) } else { 0 };
        Some(Position { offset: place.offset + by, n: place.n + by, ..place })
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { sorted: Vec::new(), stride: STRIDE, reached: None, first: None }
    }
}

impl Places {
    /// How far the partition was read here; everything before is durable.
    pub(super) const fn reached(&self) -> Option<Position> {
        self.reached
    }

    /// Remembers how far the partition was read, and keeps it as a place if it is far enough behind the last one, or an
    /// epoch began there.
    pub(super) fn reach(&mut self, position: Position) {
        self.reached = Some(position);
        let far = self.sorted.last().is_none_or(|last| {
            position.offset > last.offset && (position.n >= last.n + self.stride || position.epoch != last.epoch)
        });
        if far {
            self.sorted.push(position);
            self.thin();
        }
    }

    /// Where the partition begins, if it was trimmed.
    pub(super) const fn first(&self) -> Option<Position> {
        self.first
    }

    /// Learns where the partition begins: no place before it is of any use.
    pub(super) fn begin_at(&mut self, first: Position) {
        if self.first.is_none_or(|before| before.offset < first.offset) {
            self.first = Some(first);
            self.sorted.retain(|place| place.offset >= first.offset);
            self.insert(first);
        }
    }

    /// Learns a position that was saved. One that contradicts what is known here was saved for something else, and would
    /// lead every reader astray.
    pub(super) fn learn(&mut self, position: Position) {
        if self.first.is_some_and(|first| position.offset < first.offset) {
            return;
        }
        let behind = self.sorted.partition_point(|place| place.offset <= position.offset);
        let around = [behind.checked_sub(1).and_then(|before| self.sorted.get(before)), self.sorted.get(behind)];
        let fits = |known: Position| position.may_precede(known) || known.may_precede(position);
        if around.into_iter().flatten().copied().chain(self.reached).all(fits) {
            self.insert(position);
        }
    }

    /// Whether it would save a reader much to know this position.
    pub(super) fn lacks(&self, position: Position) -> bool {
        let trimmed = self.first.is_some_and(|first| position.offset < first.offset);
        let known = self.nearest(position.n).position;
        !trimmed && known.is_none_or(|known| known.n.saturating_add(self.stride) < position.n)
    }

    fn insert(&mut self, position: Position) {
        if let Err(at) = self.sorted.binary_search_by_key(&position.offset, |known| known.offset) {
            self.sorted.insert(at, position);
            self.thin();
        }
    }

    fn thin(&mut self) {
        if self.sorted.len() > MAX_PLACES {
            self.stride *= 2;
            // The last one stays: it may have been saved, and is where a reader is likely to start.
            let (last, mut at) = (self.sorted.len() - 1, 0);
            self.sorted.retain(|_| {
                at += 1;
                at - 1 == last || (at - 1) % 2 == 0
            });
        }
    }

    /// The last position that is known.
    pub(super) fn last(&self) -> Option<Position> {
        [self.reached, self.sorted.last().copied()].into_iter().flatten().max_by_key(|place| place.offset)
    }

    /// Where to look for a record.
    pub(super) fn nearest(&self, n: u64) -> Nearest {
        if let Some(reached) = self.reached
            && n >= reached.n
        {
            return Nearest { position: Some(reached), dense: false };
        }
        let behind = self.sorted.partition_point(|place| place.n <= n);
        let Some(before) = behind.checked_sub(1).and_then(|at| self.sorted.get(at)).copied() else {
            return Nearest { position: None, dense: false };
        };
        let next = self.sorted.get(behind).copied().or(self.reached);
        let dense = next.is_some_and(|next| next.offset.wrapping_sub(before.offset) == next.n.wrapping_sub(before.n));
        Nearest { position: Some(before), dense }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(offset: u64, epoch: u64, n: u64) -> Position {
        Position { offset, epoch, n }
    }

    #[test]
    fn the_start_is_known_without_a_place() {
        let mut places = Places::default();
        assert_eq!((places.last(), places.reached()), (None, None));
        assert_eq!(places.nearest(7), Nearest { position: None, dense: false });
        places.learn(at(90, 5, 40));
        assert_eq!(places.last(), Some(at(90, 5, 40)));
        assert!(places.lacks(at(50, 5, 39)) && places.lacks(at(200, 5, 105)) && !places.lacks(at(200, 5, 104)));
        assert_eq!(places.nearest(39).position, None);
        assert_eq!(places.nearest(41), Nearest { position: Some(at(90, 5, 40)), dense: false });
    }

    #[test]
    fn no_place_lies_before_the_start() {
        let mut places = Places::default();
        [at(10, 1, 5), at(30, 1, 20), at(90, 5, 40)].into_iter().for_each(|place| places.learn(place));
        places.begin_at(at(50, 5, 30));
        [at(10, 1, 5), at(49, 5, 29), at(60, 5, 35)].into_iter().for_each(|place| places.learn(place));
        // An older start, as a reader of long ago may know it.
        places.begin_at(at(30, 1, 20));
        assert_eq!(places.first(), Some(at(50, 5, 30)));
        assert_eq!(places.nearest(29).position, None);
        assert_eq!(places.nearest(30), Nearest { position: Some(at(50, 5, 30)), dense: false });
        assert_eq!(places.nearest(37).position, Some(at(60, 5, 35)));
        assert_eq!(places.last(), Some(at(90, 5, 40)));
    }

    #[test]
    fn a_place_of_something_else_is_not_learned() {
        let known = [at(10, 1, 5), at(90, 50, 40)];
        for (foreign, why) in [
            (at(10, 1, 6), "another number there"),
            (at(10, 2, 5), "another epoch there"),
            (at(20, 1, 4), "numbers do not fall"),
            (at(20, 1, 41), "nor pass the next one"),
            (at(20, 1, 16), "a record takes an offset"),
            (at(20, 0, 9), "epochs do not fall"),
            (at(20, 51, 9), "nor pass the next one"),
            (at(99, 1, 45), "an epoch that has ended"),
            (at(99, 50, 50), "too many records"),
        ] {
            let mut places = Places::default();
            places.learn(known[0]);
            places.reach(known[1]);
            let before = places.sorted.clone();
            places.learn(foreign);
            assert_eq!(places.sorted, before, "{foreign:?}: {why}");
        }
        let mut places = Places::default();
        places.reach(known[1]);
        places.learn(known[0]);
        assert!(!places.lacks(at(20, 1, 15)) && !places.lacks(at(91, 50, 41)), "there is one nearby");
        places.learn(at(20, 1, 15));
        assert_eq!(places.nearest(16).position, Some(at(20, 1, 15)));
    }

    #[test]
    fn places_stay_bounded_and_ordered() {
        let mut places = Places::default();
        places.reach(at(1, 0, 0));
        for n in 1..=10 * MAX_PLACES as u64 * STRIDE {
            places.reach(at(n + 1, 0, n));
        }
        assert!(places.sorted.len() <= MAX_PLACES && places.stride == 16 * STRIDE, "{}", places.stride);
        assert!(places.sorted.is_sorted_by_key(|place| place.offset));
        let nearest = places.nearest(1_000_003);
        let place = nearest.position.expect("a place");
        assert!(nearest.dense && place.n <= 1_000_003 && place.n + 16 * STRIDE > 1_000_003, "{place:?}");
    }

    proptest! {
        /// Steps: a record that counts, one that does not, or an epoch, many times each.
        #[test]
        fn what_is_found_is_at_or_before_and_dense_means_exact(
            steps in prop::collection::vec((0..3_u8, 1..200_u64), 1..60), saved in any::<prop::sample::Index>()
        ) {
            let (mut places, mut offsets, mut safe) = (Places::default(), Vec::new(), Vec::new());
            let (mut offset, mut epoch) = (0, 0);
            for (what, times) in steps {
                for _ in 0..if what == 1 { 1 } else { times } {
                    match what {
                        0 => offsets.push(offset),
                        1 => epoch = offset,
                        _ => {}
                    }
                    offset += 1;
                    if what < 2 {
                        safe.push(at(offset, epoch, offsets.len() as u64));
                        places.reach(at(offset, epoch, offsets.len() as u64));
                    }
                }
            }
            if !safe.is_empty() {
                places.learn(safe[saved.index(safe.len())]);
            }
            for (n, offset) in offsets.iter().enumerate() {
                let Nearest { position, dense } = places.nearest(n as u64);
                let place = position.unwrap_or(at(0, 0, 0));
                prop_assert!(place.n <= n as u64 && place.offset <= *offset);
                prop_assert!(!dense || place.offset + (n as u64 - place.n) == *offset);
            }
            prop_assert_eq!(places.nearest(u64::MAX).position, safe.last().copied());
        }
    }
}

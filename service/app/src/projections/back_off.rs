//! How long to wait before trying again: twice as long each time up to a bound, less a share that differs from service to
//! service, so that those that failed together do not come back together. Reads no randomness: the seed is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(10);

/// The waits of one reader.
#[derive(Clone, Debug)]
pub(super) struct BackOff {
    next: Duration,
    state: u64,
}

impl BackOff {
    pub(super) const fn new(seed: u64) -> Self {
        Self { next: FIRST, state: seed }
    }

    /// It worked: the next wait is a short one.
    pub(super) const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait: between three quarters of the bound that grows, and all of it.
    pub(super) fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LAST);
        // Knuth's MMIX generator; its high bits are good enough to spread waits.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (self.state >> 48) as u32;
        full - full / 4 * share / u32::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let waits = |seed| {
            let mut back_off = BackOff::new(seed);
            (0..12).map(|_| back_off.wait()).collect::<Vec<_>>()
        };
        let (one, other) = (waits(1), waits(2));
        let mut full = FIRST;
        for wait in &one {
            assert!(*wait <= full && *wait >= full * 3 / 4, "{one:?}");
            full = (full * 2).min(LAST);
        }
        assert!(one.iter().zip(&other).all(|(one, other)| one != other), "{one:?} {other:?}");
        let mut back_off = BackOff::new(3);
        for _ in 0..9 {
            back_off.wait();
        }
        back_off.reset();
        assert!(back_off.wait() <= FIRST);
    }
}

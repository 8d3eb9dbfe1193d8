//! Who gets an event that waits: the shard, which begins it, or its caller, who gives up. Whoever is first has it for
//! good, so that what was answered as dropped is never begun, and what was begun is never said to be dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;
const DECIDED_BEFORE: u8 = 3;

/// One side's hold on an event; the clone is the other's.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<AtomicU8>);

impl Claim {
    /// The shard begins the event; `false` when its caller has given it up.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.take(BEGUN)
    }

    /// The shard has found that its record was durable before it came: all that may be late now is the answer.
    pub fn was_decided_before(&self) {
        self.0.store(DECIDED_BEFORE, Ordering::Release);
    }

    /// Whether the shard has found that.
    #[must_use]
    pub fn is_decided_before(&self) -> bool {
        self.0.load(Ordering::Acquire) == DECIDED_BEFORE
    }

    /// The caller gives the event up; `false` when it has been begun, and leaves a record.
    #[must_use]
    pub fn give_up(&self) -> bool {
        self.take(GIVEN_UP)
    }

    fn take(&self, state: u8) -> bool {
        self.0.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_has_it_for_good() {
        let (shard, other) = (Claim::default(), Claim::default());
        let caller = shard.clone();
        assert!(shard.begin());
        assert!(!caller.give_up() && !shard.begin() && !caller.is_decided_before());
        shard.was_decided_before();
        assert!(!caller.give_up() && !shard.begin() && caller.is_decided_before());
        assert!(other.clone().give_up());
        assert!(!other.begin() && !other.give_up());
    }

    #[test]
    fn of_two_threads_exactly_one_has_it() {
        for _ in 0..200 {
            let shard = Claim::default();
            let caller = shard.clone();
            let begun = std::thread::spawn(move || shard.begin());
            let given_up = caller.give_up();
            assert_ne!(begun.join().expect("no panic"), given_up);
        }
    }
}

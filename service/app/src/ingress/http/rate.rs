//! How fast a key may call: a token bucket in whole numbers, with the time passed in.
//!
//! Every key has a bucket of its own, so that a key can use up nobody's rate but its own. Reads no clock and never waits:
//! who has no token is told when there will be one.

use crate::config::RateConfig;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One token, in billionths: a nanosecond at one request a second fills in exactly one.
const TOKEN: u64 = 1_000_000_000;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct TokenBucket {
    rate: RateConfig,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// What is in the bucket, in billionths of a token.
    level: u64,
    /// When that was; `None` before the first call, when the bucket is full.
    as_of: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(rate: RateConfig) -> Self {
        Self { rate, state: Mutex::new(State { level: u64::from(rate.burst) * TOKEN, as_of: None }) }
    }

    /// Takes a token, or says how long it is until there is one. A time before the last one counts as that one: threads
    /// may come here in another order than they read their clock.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        // The state is whole at every step, so a panic elsewhere leaves it usable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.as_of.unwrap_or(now);
        let elapsed = u64::try_from(now.saturating_duration_since(before).as_nanos()).unwrap_or(u64::MAX);
        let filled = elapsed.saturating_mul(self.rate.per_sec.into());
        state.level = state.level.saturating_add(filled).min(u64::from(self.rate.burst) * TOKEN);
        state.as_of = Some(before.max(now));
        match state.level.checked_sub(TOKEN) {
            Some(left) => {
                state.level = left;
                Ok(())
            }
            None => Err(Duration::from_nanos((TOKEN - state.level).div_ceil(self.rate.per_sec.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock::instant as start;
    use proptest::prelude::*;

    fn bucket(per_sec: u32, burst: u32) -> TokenBucket {
        TokenBucket::new(RateConfig { per_sec, burst })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (bucket, start) = (bucket(2, 3), start());
        let at = |ms: u64| bucket.take(start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(Duration::from_millis(500)));
        assert_eq!(at(499), Err(Duration::from_millis(1)));
        assert_eq!(at(500), Ok(()));
        assert_eq!(at(500), Err(Duration::from_millis(500)));
        // A long pause fills no more than the burst, and a clock that seems to go back fills nothing.
        assert_eq!(
            [at(3_600_000), at(3_600_000), at(10), at(3_600_000)],
            [Ok(()), Ok(()), Ok(()), Err(Duration::from_millis(500))]
        );
    }

    #[test]
    fn the_longest_pause_at_the_highest_rate_does_not_overflow() {
        let (bucket, start) = (bucket(1_000_000, 1_000_000), start());
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start + Duration::from_secs(100 * 365 * 86_400)), Ok(()));
    }

    proptest! {
        /// Over any span, what is let through is at most the burst and what the rate gives; and after the wait that was
        /// named, there is a token.
        #[test]
        fn never_more_than_burst_and_rate(
            per_sec in 1_u32..2_000, burst in 1_u32..50, gaps in prop::collection::vec(0_u64..5_000_000_000, 1..200),
        ) {
            let (bucket, start) = (bucket(per_sec, burst), start());
            let (mut now, mut passed) = (start, 0_u128);
            for gap in gaps {
                now += Duration::from_nanos(gap / u64::from(per_sec));
                match bucket.take(now) {
                    Ok(()) => passed += 1,
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= Duration::from_nanos(TOKEN.div_ceil(per_sec.into())));
                        now += wait;
                        prop_assert_eq!(bucket.take(now), Ok(()));
                        passed += 1;
                    }
                }
                let most = u128::from(burst) * u128::from(TOKEN) + (now - start).as_nanos() * u128::from(per_sec);
                prop_assert!(passed * u128::from(TOKEN) <= most);
            }
        }
    }
}

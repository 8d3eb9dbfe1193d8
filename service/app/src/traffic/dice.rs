//! Seeded randomness: the same seed gives the same draws on every run. It never reads entropy or a clock.
//!
//! The generator is one whose output its authors promise to keep; the draws on top of it are written out here, because
//! the distributions of a library may change with any release of it.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// A source of random draws.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Draws for one purpose (`stream`) and one subject (`index`), independent of those of any other pair.
    pub(crate) fn new(seed: u64, stream: u64, index: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(mix(mix(mix(seed) ^ stream) ^ index)))
    }

    /// Uniform in [0, 1), with 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * SCALE
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Uniform in 0..n; 0 when n is 0.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u32
    }

    /// Uniform in low..=high.
    pub(crate) fn count(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True with probability p.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Exponential with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal with median 1: e to the power of a normal draw with this standard deviation (Box-Muller).
    pub(crate) fn log_normal(&mut self, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        (sigma * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }

    /// Milliseconds, uniform between two durations in seconds.
    pub(crate) fn seconds_ms(&mut self, low: f64, high: f64) -> i64 {
        (self.between(low, high) * 1000.0) as i64
    }

    /// An index drawn in proportion to the weights.
    pub(crate) fn weighted<T>(&mut self, items: &[T], weight: impl Fn(&T) -> f64) -> usize {
        let total: f64 = items.iter().map(&weight).sum();
        let mut left = self.unit() * total;
        for (index, item) in items.iter().enumerate() {
            left -= weight(item);
            if left < 0.0 {
                return index;
            }
        }
        items.len().saturating_sub(1)
    }
}

/// SplitMix64's finaliser: spreads neighbouring seeds over all 64 bits.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_promised_means() {
        let mut dice = Dice::new(7, 1, 2);
        let n = 200_000;
        let mean = |mut draw: Box<dyn FnMut() -> f64 + '_>| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(Box::new(|| dice.unit())) - 0.5).abs() < 0.01);
        assert!((mean(Box::new(|| f64::from(dice.below(10)))) - 4.5).abs() < 0.05);
        assert!((mean(Box::new(|| dice.exponential(3.0))) - 3.0).abs() < 0.05);
        // The mean of a log-normal is e^(sigma²/2).
        assert!((mean(Box::new(|| dice.log_normal(0.5))) - 0.125_f64.exp()).abs() < 0.01);
        assert!((mean(Box::new(|| dice.weighted(&[1.0, 3.0], |w| *w) as f64)) - 0.75).abs() < 0.01);
    }

    #[test]
    fn streams_are_fixed_and_differ() {
        let first = |seed, stream, index| Dice::new(seed, stream, index).0.next_u64();
        assert_eq!(first(1, 0, 0), first(1, 0, 0));
        assert_ne!(first(1, 0, 0), first(2, 0, 0));
        assert_ne!(first(1, 0, 0), first(1, 1, 0));
        assert_ne!(first(1, 0, 0), first(1, 0, 1));
    }
}

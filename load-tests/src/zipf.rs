//! Users as busy as Zipf's law says: the k-th most active one sends a share proportional to 1/k^s.
//!
//! Drawn from a table of cumulative shares: exact for any exponent, and drawn before the clock starts.

use rand::{Rng, RngExt};

/// A table of cumulative shares.
#[derive(Clone, Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// A law over `ranks` ranks (at least one) with exponent `s`.
    #[must_use]
    pub fn new(ranks: u32, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-s);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|share| *share /= sum);
        Self { cumulative }
    }

    /// A rank from 0, the most frequent one.
    pub fn draw(&self, random: &mut impl Rng) -> u32 {
        let at: f64 = random.random();
        let rank = self.cumulative.partition_point(|share| *share <= at).min(self.cumulative.len() - 1);
        u32::try_from(rank).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    #[test]
    fn shares_follow_the_law() {
        let zipf = Zipf::new(1_000, 1.0);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut seen = vec![0_u32; 1_000];
        for _ in 0..200_000 {
            seen[zipf.draw(&mut random) as usize] += 1;
        }
        let harmonic: f64 = (1..=1_000).map(|k| 1.0 / f64::from(k)).sum();
        for rank in [0_usize, 1, 9] {
            let expected = 200_000.0 / (rank as f64 + 1.0) / harmonic;
            let found = f64::from(seen[rank]);
            // Five standard deviations of a binomial count.
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {found}, expected {expected}");
        }
        assert!(seen.iter().filter(|count| **count > 0).count() > 950);
    }
}

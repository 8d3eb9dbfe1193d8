//! A bounded histogram of latencies: exact to 1 us below 100 ms, to 1 ms above. It refuses to average percentiles:
//! histograms of several runs are not merged, the runner reports the median over rounds.

use serde::Serialize;
use std::time::Duration;

const FINE_BUCKETS: usize = 100_000;
const COARSE_BUCKETS: usize = 65_536;

/// Counts of latencies by bucket.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// One bucket a microsecond.
    fine: Box<[u32]>,
    /// One bucket a millisecond; the last also holds everything longer.
    coarse: Box<[u32]>,
    count: u64,
    max: Duration,
}

/// Percentiles in microseconds, rounded up to the bucket's upper edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            fine: vec![0; FINE_BUCKETS].into_boxed_slice(),
            coarse: vec![0; COARSE_BUCKETS].into_boxed_slice(),
            count: 0,
            max: Duration::ZERO,
        }
    }
}

impl Latencies {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let micros = usize::try_from(latency.as_micros()).unwrap_or(usize::MAX);
        let bucket = match self.fine.get_mut(micros) {
            Some(bucket) => bucket,
            None => &mut self.coarse[(micros / 1_000).min(COARSE_BUCKETS - 1)],
        };
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// How many were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The percentiles; all zero when nothing was counted.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let max_us = u64::try_from(self.max.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let at = |per_mille: u64| self.at(per_mille).min(max_us);
        Percentiles { p50_us: at(500), p90_us: at(900), p99_us: at(990), p999_us: at(999), max_us }
    }

    /// The upper edge of the bucket that holds the latency at `per_mille` thousandths, in microseconds.
    fn at(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1_000);
        let fine = self.fine.iter().zip(1_u64..);
        let coarse = self.coarse.iter().zip((1_u64..).map(|millis| millis * 1_000));
        let mut seen = 0;
        for (count, upper_us) in fine.chain(coarse) {
            seen += u64::from(*count);
            if seen >= rank && seen > 0 {
                return upper_us;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_where_it_matters() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), Percentiles { p50_us: 0, p90_us: 0, p99_us: 0, p999_us: 0, max_us: 0 });
        for micros in 0..1_000 {
            latencies.record(Duration::from_micros(micros));
        }
        let found = latencies.percentiles();
        assert_eq!(found, Percentiles { p50_us: 500, p90_us: 900, p99_us: 990, p999_us: 999, max_us: 999 });
        latencies.record(Duration::from_micros(250_400));
        latencies.record(Duration::from_secs(100));
        let found = latencies.percentiles();
        assert_eq!((found.p50_us, found.p999_us, found.max_us), (501, 251_000, 100_000_000));
        assert_eq!(latencies.count(), 1_002);
    }
}

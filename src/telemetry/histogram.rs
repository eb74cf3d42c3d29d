//! Counters and histograms of our own: relaxed atomics behind methods, resolved once per snapshot, so
//! that the path pays for the additions alone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the buckets in nanoseconds, included; what is longer falls into one more bucket.
pub const BOUNDS: [u64; 16] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// The bucket that a time falls into.
pub(super) fn bucket_of(nanoseconds: u64) -> usize {
    // From the shortest on: most durations fall into one of the first buckets.
    let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound);
    bucket.unwrap_or(BOUNDS.len())
}

/// How durations are spread. The count is the sum of the buckets, so that an observation is two
/// additions and a reader never sees a count that disagrees with the buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Observations in each bucket, not cumulated; the last one has no upper bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all observations in nanoseconds.
    pub sum: u64,
}

impl Histogram {
    /// Adds a duration.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanoseconds)].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanoseconds, Relaxed);
    }

    /// The state now.
    pub fn read(&self) -> Spread {
        Spread {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// The duration in nanoseconds that this share of the observations does not pass, as Prometheus reads
/// it from buckets: evenly spread within one. `None`: there are none. What is over the last bound counts
/// as that bound.
pub fn quantile(buckets: &[u64; BOUNDS.len() + 1], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let mut below = 0.0;
    let mut from = 0.0;
    for (bound, own) in BOUNDS.iter().zip(buckets) {
        let (bound, own) = (*bound as f64, *own as f64);
        if own > 0.0 && below + own >= rank {
            return Some(from + (bound - from) * (rank - below).max(0.0) / own);
        }
        (below, from) = (below + own, bound);
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_nanos(500_001));
        histogram.observe(Duration::from_secs(60));
        histogram.observe(Duration::from_secs(61));
        let spread = histogram.read();
        assert_eq!(spread.buckets[0], 2);
        assert_eq!(spread.buckets[1], 1);
        assert_eq!(spread.buckets[15], 1);
        assert_eq!(spread.buckets[16], 1);
        assert_eq!(spread.sum, 121_001_000_001);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket_and_never_over_the_last_bound() {
        let mut buckets = [0; BOUNDS.len() + 1];
        assert_eq!(quantile(&buckets, 0.5), None);
        buckets[2] = 100;
        assert_eq!(quantile(&buckets, 0.5), Some(1_750_000.0));
        assert_eq!(quantile(&buckets, 1.0), Some(2_500_000.0));
        buckets[16] = 100;
        assert_eq!(quantile(&buckets, 0.5), Some(2_500_000.0));
        assert_eq!(quantile(&buckets, 0.99), Some(60e9));
    }
}

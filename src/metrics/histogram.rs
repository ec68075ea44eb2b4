//! Histograms made of atomics, and the bounds of their buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of buckets, each as counted and as written.
pub(super) type Bounds<const N: usize> = [(u64, &'static str); N];
/// Counted in nanoseconds, written in milliseconds.
pub(super) const LATENCY_MS: Bounds<14> = [
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (20_000_000, "20"),
    (50_000_000, "50"),
    (100_000_000, "100"),
    (200_000_000, "200"),
    (500_000_000, "500"),
    (1_000_000_000, "1000"),
    (2_000_000_000, "2000"),
    (5_000_000_000, "5000"),
    (10_000_000_000, "10000"),
];
/// Counted in nanoseconds, written in seconds.
pub(super) const DURATION_SECONDS: Bounds<14> = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_000_000_000, "2"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];
/// Counted in nanoseconds, written in seconds.
pub(super) const COMMIT_SECONDS: Bounds<12> = [
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (1_000_000_000, "1"),
    (5_000_000_000, "5"),
];
pub(super) const BATCH: Bounds<10> = [
    (1, "1"),
    (2, "2"),
    (4, "4"),
    (8, "8"),
    (16, "16"),
    (32, "32"),
    (64, "64"),
    (128, "128"),
    (256, "256"),
    (512, "512"),
];

/// Counts in buckets with an upper bound each.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: Bounds<N>,
    /// Observations in each bucket; made cumulative on the page.
    buckets: [AtomicU64; N],
    /// Observations above all bounds.
    over: AtomicU64,
    sum: AtomicU64,
    /// The unit of the metric is 10 to this power of the units that are counted.
    decimals: u32,
}

/// A value that a histogram can observe.
pub trait Observed {
    /// The size of the value: nanoseconds of a duration, or a count.
    fn units(self) -> u64;
}

impl Observed for Duration {
    fn units(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Observed for usize {
    fn units(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: Bounds<N>, decimals: u32) -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, buckets, over: AtomicU64::new(0), sum: AtomicU64::new(0), decimals }
    }

    /// Counts one observation.
    pub fn observe(&self, value: impl Observed) {
        let units = value.units();
        let bucket = self.bounds.iter().zip(&self.buckets).find(|((bound, _), _)| units <= *bound);
        bucket.map_or(&self.over, |(_, bucket)| bucket).fetch_add(1, Relaxed);
        self.sum.fetch_add(units, Relaxed);
    }

    /// Each bound and the observations up to it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.bounds.iter().zip(&self.buckets);
        counts.scan(0, |total, ((_, bound), count)| {
            *total += count.load(Relaxed);
            Some((*bound, *total))
        })
    }

    /// The number of observations.
    pub(super) fn total(&self) -> u64 {
        self.buckets.iter().chain([&self.over]).map(|count| count.load(Relaxed)).sum()
    }

    /// The sum of the observations in the unit of the metric.
    pub(super) fn sum(&self) -> String {
        let (sum, unit) = (self.sum.load(Relaxed), 10_u64.pow(self.decimals));
        if self.decimals == 0 {
            return sum.to_string();
        }
        format!("{}.{:0width$}", sum / unit, sum % unit, width = usize::try_from(self.decimals).unwrap_or(0))
    }
}

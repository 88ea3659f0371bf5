//! The buckets of durations, which all histograms of the crate share.

use std::borrow::Cow;

use super::{MetricHistogram, MetricValue};
use crate::stats::HistogramSnapshot;

/// The bounds in microseconds: powers of two from 1 us to 1 s, then 4 s and 17 s. Each is an edge of the internal
/// histogram's buckets, so no count has to be divided between two buckets.
const BOUNDS_US: [u64; 23] = {
    let mut bounds = [0; 23];
    let mut at = 0;
    while at < 21 {
        bounds[at] = 1 << at;
        at += 1;
    }
    bounds[21] = 1 << 22;
    bounds[22] = 1 << 24;
    bounds
};

/// The upper bounds of the buckets of durations, in seconds: powers of two of a microsecond, from 1 us to 1.05 s, then
/// 4.2 s and 16.8 s. The counts are exact, since the internal histogram has an edge at each bound.
pub const DURATION_BOUNDS: &[f64] = &{
    let mut bounds = [0.0; BOUNDS_US.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = BOUNDS_US[at] as f64 / 1e6;
        at += 1;
    }
    bounds
};

/// Returns the bucket of a duration in whole microseconds. A duration is cut to whole microseconds when it is counted: 3
/// stands for 3 to just below 4, and belongs to the bucket that ends at 4.
pub(super) fn bucket_of(us: u64) -> usize {
    BOUNDS_US.partition_point(|bound| *bound <= us)
}

/// Converts a histogram of microseconds to one of seconds.
pub(super) fn durations(snapshot: &HistogramSnapshot) -> MetricValue {
    let mut counts = vec![0; BOUNDS_US.len() + 1];
    for (top, count) in snapshot.buckets() {
        counts[bucket_of(top)] += count;
    }
    MetricValue::Histogram(MetricHistogram::new(
        Cow::Borrowed(DURATION_BOUNDS),
        counts,
        snapshot.sum as f64 / 1e6,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Histogram;

    /// Returns the count of each bucket after one value was counted.
    fn counts_of(us: u32) -> Vec<u64> {
        let (histogram, mut snapshot) = (Histogram::new(), HistogramSnapshot::default());
        histogram.record(us);
        histogram.add_to(&mut snapshot);
        let MetricValue::Histogram(histogram) = durations(&snapshot) else { panic!("not a histogram") };
        histogram.counts
    }

    #[test]
    fn every_bound_is_an_edge_of_the_internal_buckets() {
        for (at, bound) in BOUNDS_US.into_iter().enumerate() {
            let bound = u32::try_from(bound).unwrap();
            // Up to one microsecond below the bound (and so any fraction of that microsecond): this bucket; from it: a later.
            assert_eq!(counts_of(bound - 1)[at], 1, "{bound}");
            assert_eq!(counts_of(bound)[at + 1], 1, "{bound}");
        }
        assert_eq!(counts_of(u32::MAX)[BOUNDS_US.len()], 1);
        assert_eq!(counts_of(0)[0], 1);
    }

    #[test]
    fn bounds_and_sums_are_in_seconds() {
        assert_eq!((DURATION_BOUNDS[0], DURATION_BOUNDS[10]), (0.000_001, 0.001_024));
        let (histogram, mut snapshot) = (Histogram::new(), HistogramSnapshot::default());
        histogram.record_n(250_000, 3);
        histogram.add_to(&mut snapshot);
        let MetricValue::Histogram(histogram) = durations(&snapshot) else { panic!("not a histogram") };
        assert_eq!((histogram.sum, histogram.count()), (0.75, 3));
    }
}

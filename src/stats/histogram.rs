//! A histogram of microseconds with one writer: eight buckets per octave, so the error of a value is at most 12.5 %.
//!
//! The idea of log-linear buckets is HdrHistogram's (Tene). Its histogram cannot be read while another thread writes
//! it; the load generator, which needs the precision, uses it. A server needs a rough distribution of its time for
//! the cost of one store.

use super::Counter;

/// Buckets per octave: values below twice this are exact.
const SUB: usize = 8;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Octaves above the exact values, up to `u32::MAX`.
const BUCKETS: usize = SUB + (32 - SUB_BITS as usize) * SUB;

/// Counts of values by bucket.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Counter]>,
    max: Counter,
    sum: Counter,
}

#[inline]
fn bucket_of(value: u32) -> usize {
    if value < SUB as u32 {
        return value as usize;
    }
    let octave = 31 - value.leading_zeros();
    let sub = (value >> (octave - SUB_BITS)) as usize & (SUB - 1);
    SUB + (octave - SUB_BITS) as usize * SUB + sub
}

/// Returns the largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let octave = (bucket - SUB) / SUB;
    let sub = (bucket - SUB) % SUB;
    (((SUB + sub) as u64 + 1) << octave) - 1
}

impl Histogram {
    /// Creates an empty histogram.
    pub fn new() -> Histogram {
        Histogram {
            buckets: (0..BUCKETS).map(|_| Counter::default()).collect(),
            max: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts one value, in microseconds. Only the owning thread may call it.
    #[inline]
    pub fn record(&self, value: u32) {
        self.record_n(value, 1);
    }

    /// Counts the same value `n` times. Only the owning thread may call it.
    #[inline]
    pub fn record_n(&self, value: u32, n: u64) {
        self.buckets[bucket_of(value)].add(n);
        self.sum.add(u64::from(value) * n);
        if u64::from(value) > self.max.value() {
            self.max.set(u64::from(value));
        }
    }

    /// Adds this histogram to a snapshot.
    pub fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        snapshot.counts.resize(BUCKETS, 0);
        for (count, bucket) in snapshot.counts.iter_mut().zip(&self.buckets) {
            *count += bucket.value();
        }
        snapshot.max = snapshot.max.max(self.max.value());
        snapshot.sum += self.sum.value();
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

/// The sum of histograms at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
    /// The largest value, exact.
    pub max: u64,
    /// The sum of all values.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the value that a share `quantile` (0 to 1) of the values does not exceed, at most 12.5 % too high; 0
    /// if there are no values.
    pub fn at_quantile(&self, quantile: f64) -> u64 {
        let wanted = ((self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return top_of(bucket).min(self.max);
            }
        }
        0
    }

    /// Returns the arithmetic mean; 0 if there are no values.
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// Returns each non-empty bucket: its largest value and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(at, count)| (top_of(at), *count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_meet_without_gaps() {
        for bucket in 0..BUCKETS - 1 {
            let top = top_of(bucket);
            assert_eq!(bucket_of(top as u32), bucket);
            assert_eq!(bucket_of((top + 1) as u32), bucket + 1);
        }
        assert_eq!(bucket_of(u32::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_an_eighth_of_the_sorted_list(mut values in proptest::collection::vec(any::<u32>(), 1..200), quantile in 0.0..1.0f64) {
            let histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record(*value));
            let mut snapshot = HistogramSnapshot::default();
            histogram.add_to(&mut snapshot);
            values.sort_unstable();
            let at = ((values.len() as f64 * quantile).ceil() as usize).max(1) - 1;
            let exact = u64::from(values[at]);
            let found = snapshot.at_quantile(quantile);
            prop_assert!(found >= exact && found <= exact + exact / 8 + 1, "{} for {}", found, exact);
            prop_assert_eq!(snapshot.max, u64::from(*values.last().unwrap()));
            prop_assert_eq!(snapshot.count(), values.len() as u64);
        }
    }
}

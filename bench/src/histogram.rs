//! A log-linear histogram of nanoseconds: 128 steps per doubling, so the error is below 0.8 %; fixed in size.
//!
//! Recording is an index and three additions; nothing is allocated after the start. The crate hdrhistogram takes
//! about twice as long per value (10 ns instead of 5, for values in a cache), and each call records four or five
//! values. So hdrhistogram is the oracle of the tests, and this one records.

const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

/// Counts per bucket, the exact maximum, and the exact sum.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    max: u64,
    sum: u128,
}

/// The nonempty buckets of a histogram: what one thread reports to another for an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    buckets: Vec<(u16, u64)>,
    max: u64,
    sum: u128,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0, sum: 0 }
    }
}

impl Histogram {
    /// Adds one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
        self.sum += u128::from(value);
    }

    /// Adds all values of another histogram.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// Adds the values of a [`Sparse`].
    pub fn add_sparse(&mut self, sparse: &Sparse) {
        for &(bucket, more) in &sparse.buckets {
            self.counts[usize::from(bucket)] += more;
            self.count += more;
        }
        self.max = self.max.max(sparse.max);
        self.sum += sparse.sum;
    }

    /// Takes the recorded values and leaves the histogram empty.
    pub fn take_sparse(&mut self) -> Sparse {
        let mut sparse = Sparse { buckets: Vec::new(), max: self.max, sum: self.sum };
        if self.count > 0 {
            for (bucket, count) in self.counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                // There are 7 424 buckets, so a bucket's number fits in a u16.
                sparse.buckets.push((bucket as u16, std::mem::take(count)));
            }
        }
        (self.count, self.max, self.sum) = (0, 0, 0);
        sparse
    }

    /// Returns the exact mean; 0 without values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Returns the number of recorded values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the exact maximum.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns the value that the share `quantile` (0 to 1) of all values does not exceed, as the upper end of its
    /// bucket.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - STEP_BITS).saturating_sub(value.leading_zeros()).saturating_sub(1);
    // Below two times STEPS a value is its own bucket; above, the bucket holds the top bits after the leading one.
    shift as usize * STEPS + (value >> shift) as usize
}

fn upper_end(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let top = (bucket - shift * STEPS) as u64;
    // Not `(top + 1) << shift`: that overflows in the last bucket.
    (top << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_value_and_contain_it() {
        let mut last = 0;
        for exponent in 0..64 {
            for part in [0, 1, 3, 7] {
                let value = (1_u64 << exponent).saturating_add(part * ((1_u64 << exponent) / 8));
                let bucket = bucket_of(value);
                assert!(bucket >= last && bucket < BUCKETS, "{value}");
                last = bucket;
                let end = upper_end(bucket);
                assert!(end >= value && end - value <= value / 100, "{value} in a bucket up to {end}");
            }
        }
        assert_eq!(upper_end(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for value in 1..=1000 {
            histogram.record(value * 1000);
        }
        let near = |quantile: f64, want: f64| (histogram.quantile(quantile) as f64 / want - 1.0).abs() < 0.01;
        assert!(near(0.5, 500e3) && near(0.99, 990e3) && near(0.999, 999e3));
        assert_eq!(histogram.max(), 1_000_000);
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.mean(), 500_500.0);
    }

    #[test]
    fn values_taken_and_added_elsewhere_are_complete() {
        let mut whole = Histogram::default();
        let mut parts = Histogram::default();
        let mut sum = Histogram::default();
        for value in [0, 1, 77, 77, 1 << 20, u64::MAX] {
            whole.record(value);
            parts.record(value);
            if value == 77 {
                sum.add_sparse(&parts.take_sparse());
                assert_eq!((parts.count(), parts.max(), parts.mean()), (0, 0, 0.0));
            }
        }
        sum.add(&parts);
        assert_eq!(
            (sum.counts, sum.count, sum.max, sum.sum),
            (whole.counts, whole.count, whole.max, whole.sum)
        );
        assert_eq!(Histogram::default().take_sparse(), Sparse::default());
    }

    proptest::proptest! {
        #[test]
        fn percentiles_match_the_sorted_list_and_hdrhistogram(
            // Values of any magnitude, not mostly huge ones.
            values in proptest::collection::vec((0_u32..40, proptest::num::u64::ANY), 1..300),
            percent in 0_u32..=1000,
        ) {
            let mut values: Vec<u64> = values.iter().map(|(bits, value)| value & ((1 << bits) - 1)).collect();
            let mut histogram = Histogram::default();
            let mut oracle = hdrhistogram::Histogram::<u64>::new(3).expect("three digits");
            for value in &values {
                histogram.record(*value);
                oracle.record(*value).expect("it resizes");
            }
            values.sort_unstable();
            let quantile = f64::from(percent) / 1000.0;
            let rank = ((values.len() as f64 * quantile).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let ours = histogram.quantile(quantile);
            proptest::prop_assert!(ours >= exact && (ours - exact) as f64 <= exact as f64 * 0.008, "{ours} for {exact}");
            let theirs = oracle.value_at_quantile(quantile);
            proptest::prop_assert!(ours.abs_diff(theirs) as f64 <= exact as f64 * 0.009, "{ours} beside {theirs}");
        }
    }
}

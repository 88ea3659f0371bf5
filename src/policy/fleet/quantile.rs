//! A quantile of recent durations, from a histogram of fixed size.

/// Buckets for each doubling: the estimate is above the true value by at most a quarter.
const PER_DOUBLING: u32 = 4;

/// Up to about 67 s; longer durations count in the last bucket.
const BUCKETS: usize = 25 * PER_DOUBLING as usize;

/// At this number of durations all counts are halved, so that recent ones prevail.
const COUNT_MAX: u32 = 2048;

/// The estimate is computed again after this number of durations.
const REFRESH_EVERY: u32 = 32;

/// A histogram of durations in microseconds, and a quantile of it.
#[derive(Clone, Debug)]
pub(super) struct Quantile {
    counts: [u16; BUCKETS],
    count: u32,
    /// Durations since the estimate was made.
    since: u32,
    estimate_us: u64,
}

fn bucket_of(us: u64) -> usize {
    let us = us.max(u64::from(PER_DOUBLING));
    let doublings = us.ilog2();
    let part = (us >> (doublings - 2)) & 3;
    ((doublings as usize - 2) * PER_DOUBLING as usize + part as usize).min(BUCKETS - 1)
}

/// Returns the smallest duration that is above every one in the bucket.
fn end_of(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    (4 + next % 4) << (next / 4)
}

impl Quantile {
    pub fn new() -> Quantile {
        Quantile { counts: [0; BUCKETS], count: 0, since: 0, estimate_us: 0 }
    }

    /// Adds a duration; `percent` is the quantile that is estimated.
    pub fn add(&mut self, us: u64, percent: u32) {
        self.counts[bucket_of(us)] += 1;
        self.count += 1;
        self.since += 1;
        if self.count >= COUNT_MAX {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.count = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        if self.since >= REFRESH_EVERY || self.estimate_us == 0 {
            self.since = 0;
            self.estimate_us = self.compute(percent);
        }
    }

    fn compute(&self, percent: u32) -> u64 {
        let rank = (u64::from(self.count) * u64::from(percent)).div_ceil(100).max(1);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                return end_of(bucket);
            }
        }
        end_of(BUCKETS - 1)
    }

    /// Returns the number of durations that count.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the estimate in microseconds, at most [`REFRESH_EVERY`] durations old.
    pub fn estimate_us(&self) -> u64 {
        self.estimate_us
    }
}

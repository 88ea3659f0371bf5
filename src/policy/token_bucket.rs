//! A token bucket as one number: how many calls per second, and how many at once.
//!
//! The bucket is full at first. It is kept as the time at which it will be full again (the theoretical arrival time of
//! the generic cell rate algorithm, ITU-T I.371): one number, which can be exchanged atomically.

use std::time::Duration;

/// The rate and the size of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSize {
    /// Nanoseconds in which one token is added.
    interval_ns: u64,
    /// Nanoseconds in which an empty bucket becomes full.
    full_ns: u64,
}

impl BucketSize {
    /// Creates buckets of `burst` tokens, to which `per_second` tokens are added in a second, evenly. Values below one
    /// in about three centuries, and bursts that take longer than that, are raised or lowered to it.
    pub fn new(per_second: f64, burst: u32) -> BucketSize {
        const LONGEST_NS: u64 = u64::MAX / 4;
        let interval_ns = (1e9 / per_second).clamp(1.0, LONGEST_NS as f64) as u64;
        let full_ns = interval_ns.saturating_mul(u64::from(burst.max(1))).min(LONGEST_NS);
        BucketSize { interval_ns, full_ns }
    }

    /// Takes one token at `now_ns` from a bucket that will be full at `full_at_ns`. Returns the time at which the bucket
    /// will be full then.
    ///
    /// # Errors
    ///
    /// There is no token; the time until there is one.
    pub fn take(self, full_at_ns: u64, now_ns: u64) -> Result<u64, Duration> {
        let full_at_ns = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        let over_ns = (full_at_ns - now_ns).saturating_sub(self.full_ns);
        if over_ns == 0 { Ok(full_at_ns) } else { Err(Duration::from_nanos(over_ns)) }
    }

    /// Returns whether a bucket is full: it is as good as a new one.
    pub fn is_full(full_at_ns: u64, now_ns: u64) -> bool {
        full_at_ns <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_its_tokens_at_once_and_then_one_at_a_time() {
        let size = BucketSize::new(10.0, 3);
        let second = 1_000_000_000;
        let mut full_at = 0;
        for _ in 0..3 {
            full_at = size.take(full_at, second).unwrap();
        }
        assert_eq!(size.take(full_at, second), Err(Duration::from_millis(100)));
        assert_eq!(size.take(full_at, second + 60_000_000), Err(Duration::from_millis(40)));
        full_at = size.take(full_at, second + 100_000_000).unwrap();
        assert_eq!(size.take(full_at, second + 100_000_000), Err(Duration::from_millis(100)));
        assert!(!BucketSize::is_full(full_at, second + 300_000_000));
        assert!(BucketSize::is_full(full_at, second + 400_000_000));
    }

    #[test]
    fn extreme_rates_and_bursts_are_bounded() {
        for (per_second, burst) in
            [(0.0, 1), (-1.0, 0), (f64::NAN, 1), (f64::INFINITY, u32::MAX), (1e-300, u32::MAX), (1e300, 0)]
        {
            let size = BucketSize::new(per_second, burst);
            let mut full_at = 0;
            for now in [0, 1, u64::MAX / 4, u64::MAX / 2, u64::MAX] {
                full_at = size.take(full_at, now).unwrap_or(full_at);
            }
        }
    }

    /// The same bucket in the plain way: a number of tokens, in nanoseconds of their interval.
    struct Plain {
        filled_ns: u64,
        at_ns: u64,
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_counter_of_tokens(
            interval_us in 1_u64..1_000_000,
            burst in 1_u32..50,
            gaps_ns in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let size = BucketSize::new(1e6 / interval_us as f64, burst);
            let mut plain = Plain { filled_ns: size.full_ns, at_ns: 1 };
            let (mut full_at, mut now) = (0, 1);
            let mut taken: Vec<u64> = Vec::new();
            for gap in gaps_ns {
                now += gap;
                plain.filled_ns = (plain.filled_ns + now - plain.at_ns).min(size.full_ns);
                plain.at_ns = now;
                match size.take(full_at, now) {
                    Ok(next) => {
                        prop_assert!(plain.filled_ns >= size.interval_ns);
                        plain.filled_ns -= size.interval_ns;
                        full_at = next;
                        taken.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(plain.filled_ns < size.interval_ns);
                        prop_assert_eq!(wait.as_nanos() as u64, size.interval_ns - plain.filled_ns);
                        // It tells the truth: after that time there is a token, and not before.
                        let wait = wait.as_nanos() as u64;
                        prop_assert!(size.take(full_at, now + wait).is_ok());
                        prop_assert!(size.take(full_at, now + wait - 1).is_err());
                    }
                }
            }
            // Over any time, at most the burst and what is added in that time.
            for (first, begin) in taken.iter().enumerate() {
                for (last, end) in taken.iter().enumerate().skip(first) {
                    let most = u64::from(burst) + (end - begin) / size.interval_ns;
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }
}

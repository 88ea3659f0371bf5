//! The delay before the next attempt: exponential backoff with full jitter.
//!
//! A new delay is drawn for each attempt, uniformly between zero and a bound that doubles with each failure, so that
//! clients that lost the same server do not reconnect all at once (Marc Brooker, "Exponential Backoff And Jitter",
//! AWS Architecture Blog, 2015). Clock and randomness are the caller's.

use std::time::Duration;

/// The bounds of the delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound after the first failure, in milliseconds. Default 50. Too small: a restarting server gets connection
    /// attempts all the time. Too large: its return is noticed late.
    pub base_ms: u64,
    /// The maximum of the bound, in milliseconds. Default 10 000.
    pub max_ms: u64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { base_ms: 50, max_ms: 10_000 }
    }
}

impl Backoff {
    /// Returns the longest delay after this number of consecutive failures (at least one).
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(32);
        let bound = u128::from(self.base_ms) << doublings;
        Duration::from_millis(bound.min(u128::from(self.max_ms)) as u64)
    }

    /// Returns the delay after this number of consecutive failures; `random` is any 64 bits.
    ///
    /// ```
    /// use coreloop::client::Backoff;
    /// use std::time::Duration;
    /// let backoff = Backoff { base_ms: 100, max_ms: 1000 };
    /// assert_eq!(backoff.delay(1, 0), Duration::ZERO);
    /// assert_eq!(backoff.delay(1, u64::MAX), Duration::from_millis(100));
    /// assert_eq!(backoff.delay(9, u64::MAX), Duration::from_millis(1000));
    /// ```
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let bound_ns = self.bound(failures).as_nanos();
        Duration::from_nanos(((bound_ns * u128::from(random)).div_ceil(u128::from(u64::MAX))) as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bound_doubles_until_it_is_the_largest() {
        let backoff = Backoff { base_ms: 50, max_ms: 300 };
        let bounds: Vec<u128> = (0..6).map(|failures| backoff.bound(failures).as_millis()).collect();
        assert_eq!(bounds, [50, 50, 100, 200, 300, 300]);
        assert_eq!(backoff.bound(u32::MAX).as_millis(), 300);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_over_its_bound(failures in any::<u32>(), random in any::<u64>(), base_ms in 0..u64::MAX, max_ms in 0..1_000_000_u64) {
            let backoff = Backoff { base_ms, max_ms };
            prop_assert!(backoff.delay(failures, random) <= backoff.bound(failures));
        }

        #[test]
        fn more_randomness_is_more_delay(failures in 1..20_u32, a in any::<u64>(), b in any::<u64>()) {
            let backoff = Backoff::default();
            let (less, more) = (a.min(b), a.max(b));
            prop_assert!(backoff.delay(failures, less) <= backoff.delay(failures, more));
        }
    }
}

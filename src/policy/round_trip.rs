//! The least round trip of a connection: what a caller must keep of a call's time for the way to the server and back.
//!
//! The least of a sliding window is kept, in two halves: a longer way is noticed after ten seconds at the latest, and
//! what was once measured does not last. The part of a round trip that the server has reported as its own is not counted.

use std::time::{Duration, Instant};

/// Half of the window.
const HALF: Duration = Duration::from_secs(5);
/// Nothing was measured.
const NONE: u32 = u32::MAX;

/// The least round trip over the last five to ten seconds.
#[derive(Clone, Copy, Debug)]
pub struct MinRoundTrip {
    /// The least of the current half, in microseconds.
    current_us: u32,
    /// The least of the half before.
    previous_us: u32,
    /// The end of the current half.
    until: Instant,
}

impl MinRoundTrip {
    /// Creates the state of a new connection, without a measurement.
    pub fn new(now: Instant) -> MinRoundTrip {
        MinRoundTrip { current_us: NONE, previous_us: NONE, until: now }
    }

    /// Takes note of a call that was answered at `now`, `took_us` after it was sent, of which the server used
    /// `server_us`.
    #[inline]
    pub fn record(&mut self, now: Instant, took_us: u32, server_us: u32) {
        if now >= self.until {
            self.begin_half(now);
        }
        self.current_us = self.current_us.min(took_us.saturating_sub(server_us));
    }

    #[cold]
    fn begin_half(&mut self, now: Instant) {
        (self.previous_us, self.until) =
            if now < self.until + HALF { (self.current_us, self.until + HALF) } else { (NONE, now + HALF) };
        self.current_us = NONE;
    }

    /// Returns the least round trip in microseconds; `None` if none was measured in the window.
    #[inline]
    pub fn least_us(&self, now: Instant) -> Option<u32> {
        let least_us = if now < self.until {
            self.current_us.min(self.previous_us)
        } else if now < self.until + HALF {
            self.current_us
        } else {
            NONE
        };
        (least_us != NONE).then_some(least_us)
    }

    /// Returns the time that the server has for a call whose caller has `left_us`: without the round trip, but at least
    /// 1. No time limit (0) stays none.
    #[inline]
    pub fn time_left_us(&self, now: Instant, left_us: u32) -> u32 {
        match self.least_us(now) {
            Some(least_us) if left_us > 0 => left_us.saturating_sub(least_us).max(1),
            _ => left_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_of_the_window_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut least = MinRoundTrip::new(start);
        assert_eq!((least.least_us(at(0)), least.time_left_us(at(0), 1000)), (None, 1000));
        least.record(at(0), 500, 100);
        least.record(at(1), 900, 100);
        least.record(at(2), 450, 100);
        assert_eq!(least.least_us(at(4_999)), Some(350));
        // The second half: the first still counts, as long as it is not over.
        least.record(at(5_000), 700, 0);
        assert_eq!(least.least_us(at(9_999)), Some(350));
        least.record(at(10_000), 800, 0);
        assert_eq!(least.least_us(at(10_000)), Some(700));
    }

    #[test]
    fn what_was_measured_does_not_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut least = MinRoundTrip::new(start);
        least.record(at(0), 100, 0);
        least.record(at(5_000), 300, 0);
        assert_eq!(least.least_us(at(9_999)), Some(100));
        assert_eq!(least.least_us(at(10_000)), Some(300), "the first half is over");
        assert_eq!(least.least_us(at(15_000)), None);
        least.record(at(15_000), 900, 0);
        assert_eq!(least.least_us(at(15_000)), Some(900));
    }

    #[test]
    fn some_time_is_left_as_long_as_the_caller_has_some() {
        let now = Instant::now();
        let mut least = MinRoundTrip::new(now);
        least.record(now, 400, 0);
        let left = |left_us| least.time_left_us(now, left_us);
        assert_eq!([0, 1, 399, 400, 401, 402, 1000].map(left), [0, 1, 1, 1, 1, 2, 600]);
        // A server that claims more time than the call took.
        least.record(now, 400, 401);
        assert_eq!(least.time_left_us(now, 1000), 1000);
    }

    proptest! {
        #[test]
        fn it_is_the_least_of_some_last_seconds(
            samples in proptest::collection::vec((0..4_000_u64, 0..1_000_u32), 1..40),
            after_ms in 0..20_000_u64,
        ) {
            let start = Instant::now();
            let (mut least, mut taken, mut ms) = (MinRoundTrip::new(start), Vec::new(), 0);
            for (gap_ms, us) in samples {
                ms += gap_ms;
                least.record(start + Duration::from_millis(ms), us, 0);
                taken.push((ms, us));
            }
            let now_ms = ms + after_ms;
            let of_last = |window_ms: u64| {
                let is_recent = |(at, _): &&(u64, u32)| now_ms - at < window_ms;
                taken.iter().filter(is_recent).map(|(_, us)| *us).min()
            };
            let found = least.least_us(start + Duration::from_millis(now_ms)).unwrap_or(u32::MAX);
            // It forgets nothing of the last 5 seconds, and remembers nothing older than 10.
            prop_assert!(found <= of_last(5_000).unwrap_or(u32::MAX));
            prop_assert!(found >= of_last(10_000).unwrap_or(u32::MAX));
        }
    }
}

//! How inline calls are timed: one by one, or, once a method is known to be quicker than the clock is worth,
//! together.
//!
//! Reading the clock takes some 25 ns, a twentieth of a whole call at full load. So the calls of a method that
//! takes less than a microsecond, which is what the wire and the histograms count in, share two readings for all
//! that one read brought; when their mean says otherwise they are timed one by one again.

use std::time::{Duration, Instant};

use crate::message::Request;
use crate::stats::{MethodStats, micros};

/// After so many exact timings a method's mean is believed.
const EXACT_CALLS: u32 = 64;
/// A method with a mean below this is quick.
const QUICK: Duration = Duration::from_micros(1);
/// A call with less time left than this is looked at by itself: quick calls before it could use that up.
const TIME_LEFT_US_MIN: u32 = 10_000;

/// The pace of each method, and the calls that are being timed together.
pub(super) struct Timing {
    methods: Vec<Pace>,
    /// The method whose calls are being timed together.
    pub(super) method: u32,
    /// How many of them there were; 0 is that none are being timed.
    pub(super) calls: u32,
    /// How many of them were answered ok.
    pub(super) ok: u32,
    /// When the first of them began.
    pub(super) began: Instant,
    /// How long they were queued, in microseconds.
    pub(super) queue_us: u32,
}

#[derive(Clone, Copy)]
struct Pace {
    /// Calls to be timed one by one before the mean is looked at; 0: quick.
    exact_left: u32,
    sum: Duration,
}

const UNKNOWN: Pace = Pace { exact_left: EXACT_CALLS, sum: Duration::ZERO };

impl Timing {
    pub(super) fn new(methods: usize) -> Timing {
        Timing {
            methods: vec![UNKNOWN; methods],
            method: 0,
            calls: 0,
            ok: 0,
            began: Instant::now(),
            queue_us: 0,
        }
    }

    /// Whether the call may be timed together with others.
    #[inline]
    pub(super) fn is_quick(&self, method: u32, request: &Request) -> bool {
        let has_time = request.time_left_us == 0 || request.time_left_us >= TIME_LEFT_US_MIN;
        self.methods[method as usize].exact_left == 0 && has_time && !request.one_way
    }

    /// Whether calls of that method are being timed.
    #[inline]
    pub(super) fn is_timing(&self, method: u32) -> bool {
        self.calls > 0 && self.method == method
    }

    /// From here on calls of that method are timed together; they arrived at `arrived`.
    pub(super) fn begin(&mut self, method: u32, now: Instant, arrived: Instant) {
        self.method = method;
        self.calls = 0;
        self.ok = 0;
        self.began = now;
        self.queue_us = micros(now.saturating_duration_since(arrived));
    }

    /// The calls that were timed together are over: each is counted with the mean.
    pub(super) fn end(&mut self, now: Instant, stats: &MethodStats) {
        let mean = now.saturating_duration_since(self.began) / self.calls;
        if mean >= QUICK {
            self.methods[self.method as usize] = UNKNOWN;
        }
        stats.answers[0].add(u64::from(self.ok));
        stats.queue_us.record_n(self.queue_us, u64::from(self.calls));
        stats.handler_us.record_n(micros(mean), u64::from(self.calls));
        self.calls = 0;
    }

    /// A call was timed by itself.
    pub(super) fn note_exact(&mut self, method: u32, took: Duration) {
        let pace = &mut self.methods[method as usize];
        pace.sum += took;
        pace.exact_left = pace.exact_left.saturating_sub(1);
        if pace.exact_left == 0 {
            let is_quick = pace.sum / EXACT_CALLS < QUICK;
            *pace = if is_quick { Pace { exact_left: 0, sum: Duration::ZERO } } else { UNKNOWN };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Span;

    fn request(time_left_us: u32) -> Request {
        Request {
            id: 1,
            method: 2,
            name: None,
            codec: 1,
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us,
            metadata: Span::default(),
            body: Span::default(),
        }
    }

    fn quick() -> Timing {
        let mut timing = Timing::new(1);
        for _ in 0..EXACT_CALLS {
            assert!(!timing.is_quick(0, &request(0)));
            timing.note_exact(0, Duration::from_nanos(300));
        }
        timing
    }

    #[test]
    fn a_method_is_quick_once_its_mean_says_so_and_no_longer_than_that() {
        let mut timing = quick();
        assert!(timing.is_quick(0, &request(0)));
        let stats = MethodStats::new();
        let now = Instant::now();
        timing.begin(0, now, now);
        (timing.calls, timing.ok) = (4, 4);
        timing.end(now + Duration::from_micros(40), &stats);
        assert!(!timing.is_quick(0, &request(0)), "a mean of 10 us is not quick");
        assert_eq!(stats.answers[0].value(), 4);
    }

    #[test]
    fn a_method_with_a_slow_mean_is_timed_call_by_call() {
        let mut timing = Timing::new(1);
        for _ in 0..10 * EXACT_CALLS {
            timing.note_exact(0, Duration::from_micros(5));
            assert!(!timing.is_quick(0, &request(0)));
        }
    }

    #[test]
    fn a_call_with_little_time_left_is_looked_at_by_itself() {
        let timing = quick();
        assert!(!timing.is_quick(0, &request(TIME_LEFT_US_MIN - 1)));
        assert!(timing.is_quick(0, &request(TIME_LEFT_US_MIN)));
    }
}

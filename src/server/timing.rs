//! Inline calls that are timed together: the calls of one quick method from one read, with two readings of the clock
//! for all of them. [`Paces`] records which methods are quick.

use std::time::{Duration, Instant};

use crate::message::Request;
#[cfg(feature = "bench-internals")]
use crate::stats::{EXACT_CALLS, QUICK};
use crate::stats::{MethodStats, Paces, micros};

/// A call with less time left than this is checked individually: quick calls before it could use up that time.
const TIME_LEFT_US_MIN: u32 = 10_000;

/// The calls that are being timed together.
pub(super) struct Timing {
    paces: Paces,
    /// The method of these calls.
    pub(super) method: u32,
    /// The number of these calls; 0 if none are being timed.
    pub(super) calls: u32,
    /// How many of them were answered ok.
    pub(super) ok: u32,
    /// When the first of them began.
    pub(super) began: Instant,
    /// How long they were queued, in microseconds.
    pub(super) queue_us: u32,
}

impl Timing {
    pub(super) fn new(methods: usize) -> Timing {
        Timing { paces: Paces::new(methods), method: 0, calls: 0, ok: 0, began: Instant::now(), queue_us: 0 }
    }

    /// Returns whether the call may be timed together with others.
    #[inline]
    pub(super) fn is_quick(&self, method: u32, request: &Request) -> bool {
        let has_time = request.time_left_us == 0 || request.time_left_us >= TIME_LEFT_US_MIN;
        self.paces.is_quick(method) && has_time && !request.one_way
    }

    /// Returns whether calls of that method are being timed.
    #[inline]
    pub(super) fn is_timing(&self, method: u32) -> bool {
        self.calls > 0 && self.method == method
    }

    /// Starts to time calls of a method together; they arrived at `arrived`.
    pub(super) fn begin(&mut self, method: u32, now: Instant, arrived: Instant) {
        self.method = method;
        self.calls = 0;
        self.ok = 0;
        self.began = now;
        self.queue_us = micros(now.saturating_duration_since(arrived));
    }

    /// Ends the timing: each of the calls is counted with the mean.
    pub(super) fn end(&mut self, now: Instant, stats: &MethodStats) {
        let mean = now.saturating_duration_since(self.began) / self.calls;
        self.paces.note_mean(self.method, mean);
        stats.answers[0].add(u64::from(self.ok));
        stats.queue_us.record_n(self.queue_us, u64::from(self.calls));
        stats.handler_us.record_n(micros(mean), u64::from(self.calls));
        self.calls = 0;
    }

    /// Counts the method as quick until it is timed again.
    #[cfg(feature = "bench-internals")]
    pub(super) fn hold_quick(&mut self, method: u32) {
        if self.paces.is_quick(method) {
            return;
        }
        self.hold_exact(method);
        (0..EXACT_CALLS).for_each(|_| self.paces.note_exact(method, Duration::ZERO));
    }

    /// Forgets the method's pace.
    #[cfg(feature = "bench-internals")]
    pub(super) fn hold_exact(&mut self, method: u32) {
        self.paces.note_mean(method, QUICK);
    }

    /// Takes note of the duration of a call that was timed individually.
    pub(super) fn note_exact(&mut self, method: u32, took: Duration) {
        self.paces.note_exact(method, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Span;

    fn request(time_left_us: u32, one_way: bool) -> Request {
        Request {
            id: 1,
            method: 2,
            name: None,
            codec: 1,
            compressed: false,
            one_way,
            schema: 0,
            time_left_us,
            metadata: Span::default(),
            body: Span::default(),
        }
    }

    fn quick() -> Timing {
        let mut timing = Timing::new(1);
        while !timing.is_quick(0, &request(0, false)) {
            timing.note_exact(0, Duration::from_nanos(300));
        }
        timing
    }

    #[test]
    fn calls_timed_together_are_counted_with_their_mean() {
        let mut timing = quick();
        let stats = MethodStats::new();
        let now = Instant::now();
        timing.begin(0, now, now - Duration::from_micros(7));
        (timing.calls, timing.ok) = (4, 3);
        timing.end(now + Duration::from_micros(40), &stats);
        assert_eq!(stats.answers[0].value(), 3);
        let mut handler = crate::stats::HistogramSnapshot::default();
        stats.handler_us.add_to(&mut handler);
        assert_eq!((handler.count(), handler.sum), (4, 40));
        assert!(!timing.is_quick(0, &request(0, false)), "a mean of 10 us is not quick");
    }

    #[test]
    fn a_near_deadline_or_one_way_call_is_timed_alone() {
        let timing = quick();
        assert!(!timing.is_quick(0, &request(TIME_LEFT_US_MIN - 1, false)));
        assert!(timing.is_quick(0, &request(TIME_LEFT_US_MIN, false)));
        assert!(!timing.is_quick(0, &request(0, true)));
    }
}

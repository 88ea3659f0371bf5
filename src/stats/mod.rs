//! Counters: plain numbers with one writer each, summed up when they are read.
//!
//! A counter belongs to one thread, so counting is a load and a store of a cache line that no other thread writes.
//! Lower layers return facts; only reactors, and the worker pools for their threads, count them. Operators read the
//! [`Snapshot`].

mod histogram;
mod own_time;
mod pace;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use histogram::{Histogram, HistogramSnapshot};
pub use pace::Paces;
#[cfg(feature = "bench-internals")]
pub(crate) use pace::{EXACT_CALLS, QUICK};
pub use snapshot::{MethodSnapshot, PoolSnapshot, ReactorSnapshot, Snapshot, WorkersSnapshot};

use crate::status::Code;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it: with two writers, counts get lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n`, for gauges. Only the owning thread may call it.
    #[inline]
    pub fn subtract(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Sets the number, for gauges. Only the owning thread may call it.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Returns the current number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The stages of a turn, in order.
pub const STAGES: [&str; 7] = ["wait", "accept", "read", "mail", "timers", "schedule", "flush"];

/// The reasons for closing connections, by the names of their counters. The connection (two layers up) determines
/// which of them applies.
pub const CLOSE_REASONS: [&str; 14] = [
    "peer_closed",
    "reset",
    "broken",
    "first_bytes_late",
    "frame_late",
    "idle",
    "write_stalled",
    "drained",
    "app",
    "too_many_silent",
    "aged",
    "tls",
    "proxy_header",
    "proxy_unlisted",
];

/// The reasons for shedding calls, by the names of their counters. The run queue (a layer up) determines which of them
/// applies.
pub const SHED_REASONS: [&str; 8] = [
    "queue_full",
    "expected_late",
    "too_late_to_start",
    "queue_delay",
    "concurrency",
    "method_limit",
    "connection_limit",
    "async_limit",
];

/// One turn in this many is sampled: its length and the time in each stage are measured.
pub const SAMPLE_TURNS: u64 = 16;

/// The counters of one reactor.
#[derive(Debug)]
pub struct ReactorStats {
    /// Connections accepted or adopted.
    pub accepted: Counter,
    /// Connections refused by `connections_max`.
    pub refused: Counter,
    /// Times that accepting paused because no descriptor was free.
    pub accept_pauses: Counter,
    /// Connections open now.
    pub connections: Counter,
    /// Connections closed, by reason ([`CLOSE_REASONS`]).
    pub closed: [Counter; CLOSE_REASONS.len()],
    /// Turns of the loop.
    pub turns: Counter,
    /// Events handled in these turns.
    pub events: Counter,
    /// Messages from other threads.
    pub letters: Counter,
    /// Reads from sockets.
    pub reads: Counter,
    /// Bytes read.
    pub read_bytes: Counter,
    /// Writes to sockets.
    pub writes: Counter,
    /// Bytes written.
    pub written_bytes: Counter,
    /// Times that reading from a connection was stopped by a limit.
    pub pauses: Counter,
    /// Naps that let calls gather.
    pub naps: Counter,
    /// Nanoseconds in each stage ([`STAGES`]), over the sampled turns.
    pub stage_ns: [Counter; STAGES.len()],
    /// Turns whose stages were measured.
    pub sampled_turns: Counter,
    /// Microseconds in which a sampled turn kept the loop from polling its sockets.
    pub lag_us: Histogram,
    /// The counters of the buffer pool, as of the last update.
    pub pool: PoolGauges,
}

/// The counters of a reactor's buffer pool.
#[derive(Debug, Default)]
pub struct PoolGauges {
    /// Buffers lent from a free list.
    pub hits: Counter,
    /// Buffers that had to be allocated.
    pub misses: Counter,
    /// Buffers lent and not returned yet.
    pub outstanding: Counter,
    /// Bytes in the free lists.
    pub retained_bytes: Counter,
}

impl ReactorStats {
    /// Creates the counters, all zero.
    pub fn new() -> ReactorStats {
        ReactorStats {
            accepted: Counter::default(),
            refused: Counter::default(),
            accept_pauses: Counter::default(),
            connections: Counter::default(),
            closed: Default::default(),
            turns: Counter::default(),
            events: Counter::default(),
            letters: Counter::default(),
            reads: Counter::default(),
            read_bytes: Counter::default(),
            writes: Counter::default(),
            written_bytes: Counter::default(),
            pauses: Counter::default(),
            naps: Counter::default(),
            stage_ns: Default::default(),
            sampled_turns: Counter::default(),
            lag_us: Histogram::new(),
            pool: PoolGauges::default(),
        }
    }
}

impl Default for ReactorStats {
    fn default() -> Self {
        ReactorStats::new()
    }
}

/// The counters of one reactor for one method.
#[derive(Debug)]
pub struct MethodStats {
    /// Answers by the number of their status code; with `one_way`, every accepted call except dropped ones.
    pub answers: [Counter; Code::ALL.len()],
    /// One-way calls that have ended; they have no answer.
    pub one_way: Counter,
    /// Calls that were refused or dropped before they ran so that others end in time, by reason ([`SHED_REASONS`]).
    pub shed: [Counter; SHED_REASONS.len()],
    /// Microseconds that calls waited in the queue.
    pub queue_us: Histogram,
    /// Microseconds that handlers ran.
    pub handler_us: Histogram,
}

impl MethodStats {
    /// Creates the counters, all zero.
    pub fn new() -> MethodStats {
        MethodStats {
            answers: Default::default(),
            one_way: Counter::default(),
            shed: Default::default(),
            queue_us: Histogram::new(),
            handler_us: Histogram::new(),
        }
    }
}

impl Default for MethodStats {
    fn default() -> Self {
        MethodStats::new()
    }
}

/// The counters of one reactor for calls of all methods.
#[derive(Debug, Default)]
pub struct CallStats {
    /// Calls whose connection closed before they ended.
    pub dropped: Counter,
    /// Work that ended after its call was answered (cancelled, or past the deadline).
    pub late: Counter,
    /// Calls whose deadline had passed when they were decoded.
    pub late_at_decode: Counter,
    /// Calls whose deadline had passed when a worker took them.
    pub late_at_dequeue: Counter,
    /// Calls whose deadline passed while they ran or before their answer was encoded.
    pub late_at_answer: Counter,
    /// Queued work dropped before it started, because it was cancelled or its connection closed.
    pub removed: Counter,
    /// Cancel frames that named a call in flight.
    pub cancelled: Counter,
    /// Calls cancelled because the drain took too long.
    pub drain_cancelled: Counter,
    /// Calls that arrived after reading had stopped for a drain that their protocol cannot announce.
    pub drain_unread: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Calls in flight now, without streaming calls.
    pub in_flight: Counter,
    /// Streaming calls now.
    pub streams: Counter,
    /// Requests refused before they were run, by the number of their status code.
    pub refused: [Counter; Code::ALL.len()],
}

/// Converts a duration to whole microseconds, saturating at the 32 bits of the protocol's fields.
#[inline]
pub fn micros(duration: Duration) -> u32 {
    // In 64 bits: `as_micros` counts in 128 bits, which costs measurably at a million calls a second.
    let micros =
        duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()));
    micros.min(u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_and_wraps_rather_than_panics() {
        let counter = Counter::default();
        counter.set(u64::MAX);
        counter.add(2);
        assert_eq!(counter.value(), 1);
    }

    #[test]
    fn microseconds_saturate() {
        assert_eq!(micros(Duration::from_nanos(1_999)), 1);
        assert_eq!(micros(Duration::from_secs(10_000)), u32::MAX);
    }
}

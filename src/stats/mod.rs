//! What is counted: plain numbers with one writer each, added up when they are read.
//!
//! A counter belongs to one thread, so counting is a load and a store of a line that no other thread writes.
//! Lower floors return facts; only reactors, and the pools for their threads, count them here. The snapshot that
//! operators read is the [`Snapshot`].

mod histogram;
mod pace;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use histogram::{Histogram, HistogramSnapshot};
pub use pace::Paces;
#[cfg(feature = "bench-internals")]
pub(crate) use pace::{EXACT_CALLS, QUICK};
pub use snapshot::{
    MethodSnapshot, PoolSnapshot, ReactorSnapshot, RecordSnapshot, Snapshot, WorkersSnapshot,
};

use crate::status::Code;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the one thread that owns the counter may: two would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets the number, for gauges.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The stages of a turn, in their order.
pub const STAGES: [&str; 7] = ["wait", "accept", "read", "hand_off", "mail", "timers", "flush"];

/// Why connections close, by the names that counters go by. Which of them a connection's end is, the connection
/// says, two floors up.
pub const CLOSE_REASONS: [&str; 10] = [
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
];

/// The time in each stage and the turn's length are taken on one turn in this many.
pub const SAMPLE_TURNS: u64 = 16;

/// What one reactor counts.
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
    /// Turns.
    pub turns: Counter,
    /// Events that they handled.
    pub events: Counter,
    /// Letters from other threads.
    pub letters: Counter,
    /// Reads, and bytes read.
    pub reads: Counter,
    /// Bytes read.
    pub read_bytes: Counter,
    /// Writes.
    pub writes: Counter,
    /// Bytes written.
    pub written_bytes: Counter,
    /// Times that reading from a connection was stopped by a limit.
    pub pauses: Counter,
    /// Naps that let calls gather.
    pub naps: Counter,
    /// Nanoseconds in each stage ([`STAGES`]), over the sampled turns.
    pub stage_ns: [Counter; STAGES.len()],
    /// Turns of which the stages were timed.
    pub sampled_turns: Counter,
    /// How long a turn kept the loop from looking at its sockets, in microseconds, of the sampled turns.
    pub lag_us: Histogram,
    /// The pool's numbers, as of the last turn that looked.
    pub pool: PoolGauges,
}

/// The numbers of a reactor's buffer pool.
#[derive(Debug, Default)]
pub struct PoolGauges {
    /// Buffers lent from stock.
    pub hits: Counter,
    /// Buffers that had to be made.
    pub misses: Counter,
    /// Buffers lent and not home yet.
    pub outstanding: Counter,
    /// Bytes kept in stock.
    pub retained_bytes: Counter,
}

impl ReactorStats {
    /// All zero.
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

/// What one reactor counts of the calls to one method.
#[derive(Debug)]
pub struct MethodStats {
    /// Answers by the number of their status code; with `one_way`, every call that was accepted.
    pub answers: [Counter; Code::ALL.len()],
    /// One-way calls, which have no answer.
    pub one_way: Counter,
    /// Microseconds that calls were queued.
    pub queue_us: Histogram,
    /// Microseconds that handlers took.
    pub handler_us: Histogram,
}

impl MethodStats {
    /// All zero.
    pub fn new() -> MethodStats {
        MethodStats {
            answers: Default::default(),
            one_way: Counter::default(),
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

/// What one reactor counts of its calls beside the methods.
#[derive(Debug, Default)]
pub struct CallStats {
    /// Answers that found their connection closed.
    pub dropped: Counter,
    /// Work that ended after its call was answered (cancelled, or late).
    pub late: Counter,
    /// Calls whose deadline had passed when they were decoded.
    pub late_at_decode: Counter,
    /// Calls whose deadline had passed when a worker took them.
    pub late_at_dequeue: Counter,
    /// Calls whose deadline had passed when their answer was to be encoded, or while they ran.
    pub late_at_answer: Counter,
    /// Queued work that was dropped before it started, since it was cancelled or its connection gone.
    pub removed: Counter,
    /// Cancel frames that named a call in flight.
    pub cancelled: Counter,
    /// Calls cancelled since the drain took too long.
    pub drain_cancelled: Counter,
    /// Requests refused since the work queue was full.
    pub queue_full: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Requests that were refused before a method was found for them, by the number of their status code.
    pub refused: [Counter; Code::ALL.len()],
}

/// A duration in whole microseconds, as the wire's 32-bit fields carry it.
#[inline]
pub fn micros(duration: Duration) -> u32 {
    // In 64 bits: `as_micros` counts in 128, which is felt at a million calls a second.
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

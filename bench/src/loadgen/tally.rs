//! The counts of one thread. A call allocates nothing; each interval's counts are handed over as a whole.

use std::sync::Arc;
use std::time::Instant;

use super::protocol::Reply;
use super::streams::counts::StreamCounts;
use super::trace::TraceTally;
use crate::histogram::{Histogram, Sparse};

/// Number of statuses with names; higher ones count as `unknown`.
pub const STATUSES: usize = 17;
const UNKNOWN: usize = 2;
/// Status of a call that the server answered after its deadline.
pub const DEADLINE_EXCEEDED: usize = 4;
/// Status of a call that the server refused.
pub const RESOURCE_EXHAUSTED: usize = 8;
/// Status of a call whose connection was lost.
pub const UNAVAILABLE: usize = 14;
/// Maximum characters that are kept of an error's message.
const MESSAGE_CHARS: usize = 200;

/// The timeline of a run, in ns from its beginning: warm-up, measured window, outstanding answers.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// The start of the run.
    pub began: Instant,
    /// The start of the measured window.
    pub from_ns: u64,
    /// The end of the measured window.
    pub end_ns: u64,
    /// Length of an interval of the series.
    pub interval_ns: u64,
}

impl Timeline {
    /// Returns the current time.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

/// A call in flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// When it was due; in a closed loop, when it was sent.
    pub intended_ns: u64,
    /// When it was handed to the socket.
    pub sent_ns: u64,
    /// Its index in the mix.
    pub method: u16,
    /// The index of the request; in a mix the same as `method`.
    pub request: u32,
    /// Whether it was due in the measured window.
    pub counts: bool,
    /// Its trace, see [`trace`](super::trace); 0: it is not traced.
    pub trace: u64,
}

/// The counts of one method, for the calls due in the measured window.
#[derive(Clone, Default)]
pub struct MethodTally {
    /// Latency of ok answers from the intended time.
    pub latency: Histogram,
    /// How long the calls without an answer had waited at the end of the run, from the intended time.
    pub waited: Histogram,
    /// Latency of ok answers from the time of sending. Empty in a closed loop, where it would be the same.
    pub uncorrected: Histogram,
    /// The part of it outside queue and handler.
    pub wire: Histogram,
    /// Time in the server's queue, as the server reports it.
    pub queue: Histogram,
    /// Time in the handler, as the server reports it.
    pub handler: Histogram,
    /// Latency of calls answered with an error or lost with their connection, from the intended time.
    pub failed: Histogram,
    /// The part of `failed` that was answered with `resource_exhausted`.
    pub refused: Histogram,
    /// Number of answers by status; lost calls count as `unavailable`.
    pub statuses: [u64; STATUSES],
    /// Ok answers within the deadline of their call; all of them if it states none.
    pub in_time: u64,
    /// Calls lost with their connection.
    pub lost: u64,
    /// Calls in flight when the run ended.
    pub unanswered: u64,
    /// Calls that were due but never sent.
    pub never_sent: u64,
}

impl MethodTally {
    /// Adds another thread's counts.
    pub fn add(&mut self, other: &MethodTally) {
        self.latency.add(&other.latency);
        self.waited.add(&other.waited);
        self.uncorrected.add(&other.uncorrected);
        self.wire.add(&other.wire);
        self.queue.add(&other.queue);
        self.handler.add(&other.handler);
        self.failed.add(&other.failed);
        self.refused.add(&other.refused);
        for (count, more) in self.statuses.iter_mut().zip(other.statuses) {
            *count += more;
        }
        self.in_time += other.in_time;
        self.lost += other.lost;
        self.unanswered += other.unanswered;
        self.never_sent += other.never_sent;
    }

    /// Returns the latency of ok answers together with that of calls never answered, as long as they waited.
    pub fn latency_with_waiting(&self) -> Histogram {
        let mut all = self.latency.clone();
        all.add(&self.waited);
        all
    }

    /// Returns the number of calls that ended in an error.
    pub fn errors(&self) -> u64 {
        self.statuses[1..].iter().sum()
    }
}

/// One thread's part of one interval. Events count when they happened, not when their calls were due.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Its index: 0 is the first of the measured window, negative ones are the warm-up.
    pub index: i64,
    /// Ok answers.
    pub ok: u64,
    /// Ok answers within their deadline.
    pub in_time: u64,
    /// Answers with an error, and lost calls.
    pub failed: u64,
    /// Calls due in the schedule; in a closed loop, calls sent.
    pub due: u64,
    /// Calls sent.
    pub sent: u64,
    /// Calls in flight at its end.
    pub in_flight: u64,
    /// Latencies of the ok answers, from the intended time.
    pub latencies: Sparse,
}

/// Connection counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Connections {
    /// Requested connections.
    pub wanted: u64,
    /// Open when the run began.
    pub opened: u64,
    /// Attempts that failed, at the beginning or later.
    pub attempts_failed: u64,
    /// Connections lost: during the run, and at the beginning before the first answer.
    pub lost: u64,
    /// Those of them on which no call had been answered. Of runs of calls.
    pub lost_unanswered: u64,
    /// Those of them that had an answer and then no call in flight. Of runs of calls.
    pub lost_at_rest: u64,
    /// Connections closed because the server requested it.
    pub drained: u64,
    /// Connections reopened after they were lost or closed.
    pub reopened: u64,
    /// The reason of the first failure or loss.
    pub first_trouble: Option<String>,
}

impl Connections {
    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Connections) {
        self.wanted += other.wanted;
        self.opened += other.opened;
        self.attempts_failed += other.attempts_failed;
        self.lost += other.lost;
        self.lost_unanswered += other.lost_unanswered;
        self.lost_at_rest += other.lost_at_rest;
        self.drained += other.drained;
        self.reopened += other.reopened;
        if self.first_trouble.is_none() {
            self.first_trouble.clone_from(&other.first_trouble);
        }
    }
}

/// All counts of one thread.
pub struct Tally {
    /// The counts of each method, by index in the mix.
    pub methods: Vec<MethodTally>,
    /// Delay of the calls as far as the generator alone caused it.
    pub late: Histogram,
    /// Calls that waited because no connection had room for them.
    pub held: u64,
    /// The connection counts.
    pub connections: Connections,
    /// The first message of each status.
    pub messages: [Option<String>; STATUSES],
    /// Ok answers so far, including the warm-up.
    pub answered_ok: u64,
    /// Ok answers within their deadline so far, including the warm-up.
    pub answered_in_time: u64,
    /// Failed calls so far, including the warm-up.
    pub answered_failed: u64,
    /// The counts of streams; zero in a run of calls.
    pub streams: StreamCounts,
    /// The traced calls.
    pub traces: TraceTally,
    open_loop: bool,
    /// Deadlines by request, in ns; empty if no call states one.
    deadlines_ns: Arc<[u64]>,
    in_interval: Histogram,
    interval: Interval,
}

impl Tally {
    /// Creates empty counts for this number of methods, with the deadline of each request (empty: none has one).
    pub fn new(methods: usize, open_loop: bool, deadlines_ns: Arc<[u64]>) -> Tally {
        Tally {
            methods: vec![MethodTally::default(); methods],
            late: Histogram::default(),
            held: 0,
            connections: Connections::default(),
            messages: Default::default(),
            answered_ok: 0,
            answered_in_time: 0,
            answered_failed: 0,
            streams: StreamCounts::default(),
            traces: TraceTally::default(),
            open_loop,
            deadlines_ns,
            in_interval: Histogram::default(),
            interval: Interval::default(),
        }
    }

    /// Records sent calls.
    #[inline]
    pub fn on_sent(&mut self, calls: u32) {
        self.interval.sent += u64::from(calls);
    }

    /// Records an answered call.
    #[inline]
    pub fn on_reply(&mut self, call: &Call, reply: &Reply<'_>, now_ns: u64) {
        if reply.status != 0 {
            return self.on_error(call, reply, now_ns);
        }
        let latency_ns = now_ns.saturating_sub(call.intended_ns);
        // Measured at the caller: an answer in transit at the deadline is late.
        let deadline_ns = self.deadlines_ns.get(call.request as usize);
        let is_in_time = deadline_ns.is_none_or(|deadline_ns| latency_ns <= *deadline_ns);
        self.answered_ok += 1;
        self.answered_in_time += u64::from(is_in_time);
        self.in_interval.record(latency_ns);
        if !call.counts {
            return;
        }
        let method = &mut self.methods[usize::from(call.method)];
        let total_ns = now_ns.saturating_sub(call.sent_ns);
        let (queue_ns, handler_ns) = (u64::from(reply.queue_us) * 1000, u64::from(reply.handler_us) * 1000);
        method.statuses[0] += 1;
        method.in_time += u64::from(is_in_time);
        method.latency.record(latency_ns);
        if self.open_loop {
            method.uncorrected.record(total_ns);
        }
        method.queue.record(queue_ns);
        method.handler.record(handler_ns);
        method.wire.record(total_ns.saturating_sub(queue_ns + handler_ns));
        if call.trace != 0 {
            self.traces.on_ended(call, Some(0), latency_ns, (queue_ns, handler_ns));
        }
    }

    #[cold]
    fn on_error(&mut self, call: &Call, reply: &Reply<'_>, now_ns: u64) {
        let status =
            usize::try_from(reply.status).ok().filter(|number| *number < STATUSES).unwrap_or(UNKNOWN);
        if self.messages[status].is_none() {
            let text = String::from_utf8_lossy(&reply.body[..reply.body.len().min(4 * MESSAGE_CHARS)]);
            let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            self.messages[status] = Some(shown.take(MESSAGE_CHARS).collect());
        }
        self.on_failed(call, status, now_ns);
    }

    fn on_failed(&mut self, call: &Call, status: usize, now_ns: u64) {
        self.answered_failed += 1;
        if call.counts {
            let method = &mut self.methods[usize::from(call.method)];
            method.statuses[status] += 1;
            let latency_ns = now_ns.saturating_sub(call.intended_ns);
            method.failed.record(latency_ns);
            if status == RESOURCE_EXHAUSTED {
                method.refused.record(latency_ns);
            }
            if call.trace != 0 {
                self.traces.on_ended(call, Some(status), latency_ns, (0, 0));
            }
        }
    }

    /// Records a call that was lost with its connection.
    #[cold]
    pub fn on_lost(&mut self, call: &Call, now_ns: u64) {
        self.on_failed(call, UNAVAILABLE, now_ns);
        if call.counts {
            self.methods[usize::from(call.method)].lost += 1;
        }
    }

    /// Records a call without an answer at the end of the run: it has waited at least this long.
    pub fn on_unanswered(&mut self, call: &Call, now_ns: u64) {
        if call.counts {
            let method = &mut self.methods[usize::from(call.method)];
            method.unanswered += 1;
            let waited_ns = now_ns.saturating_sub(call.intended_ns);
            method.waited.record(waited_ns);
            if call.trace != 0 {
                self.traces.on_ended(call, None, waited_ns, (0, 0));
            }
        }
    }

    /// Records a call that was never sent.
    pub fn on_never_sent(&mut self, method: usize, intended_ns: u64, now_ns: u64) {
        let method = &mut self.methods[method];
        method.never_sent += 1;
        method.waited.record(now_ns.saturating_sub(intended_ns));
    }

    /// Takes the counts of an interval and begins the next. `due` is `None` in a closed loop.
    pub fn take_interval(&mut self, index: i64, due: Option<u64>, in_flight: u64) -> Interval {
        let next = Interval {
            ok: self.answered_ok,
            in_time: self.answered_in_time,
            failed: self.answered_failed,
            ..Interval::default()
        };
        // While an interval runs, these three fields hold the totals at its start.
        let mut ended = std::mem::replace(&mut self.interval, next);
        ended.index = index;
        ended.ok = self.answered_ok - ended.ok;
        ended.in_time = self.answered_in_time - ended.in_time;
        ended.failed = self.answered_failed - ended.failed;
        ended.due = due.unwrap_or(ended.sent);
        ended.in_flight = in_flight;
        ended.latencies = self.in_interval.take_sparse();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u32, body: &[u8]) -> Reply<'_> {
        Reply { id: 1, status, queue_us: 10, handler_us: 20, body, len: 32 }
    }

    const CALL: Call =
        Call { intended_ns: 1_000, sent_ns: 41_000, method: 0, request: 0, counts: true, trace: 0 };

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut tally = Tally::new(1, true, Arc::from([]));
        tally.on_reply(&CALL, &reply(0, b""), 101_000);
        let method = &tally.methods[0];
        assert_eq!((method.latency.max(), method.uncorrected.max()), (100_000, 60_000));
        assert_eq!((method.wire.max(), method.queue.max(), method.handler.max()), (30_000, 10_000, 20_000));
    }

    #[test]
    fn deadlines_count_from_the_intended_time() {
        let mut tally = Tally::new(1, true, Arc::from([100_000, u64::MAX]));
        for (request, now_ns) in [(0, 101_000), (0, 101_001), (1, 1 << 40)] {
            tally.on_reply(&Call { request, ..CALL }, &reply(0, b""), now_ns);
        }
        tally.on_reply(&CALL, &reply(4, b""), 2_000);
        assert_eq!((tally.methods[0].statuses[0], tally.methods[0].in_time), (3, 2));
        let interval = tally.take_interval(0, None, 0);
        assert_eq!((interval.ok, interval.in_time, interval.failed), (3, 2, 1));
    }

    #[test]
    fn errors_do_not_count_in_the_latency() {
        let mut tally = Tally::new(1, false, Arc::from([]));
        tally.on_reply(&CALL, &reply(12, b"no such\nmethod"), 2_000);
        tally.on_reply(&CALL, &reply(4_000_000_000, b"?"), 3_000);
        tally.on_lost(&CALL, 4_000);
        let method = &tally.methods[0];
        assert_eq!((method.latency.count(), method.failed.count(), method.lost), (0, 3, 1));
        assert_eq!((method.statuses[12], method.statuses[UNKNOWN], method.statuses[UNAVAILABLE]), (1, 1, 1));
        assert_eq!((method.errors(), method.refused.count()), (3, 0));
        tally.on_reply(&CALL, &reply(RESOURCE_EXHAUSTED as u32, b"busy"), 5_000);
        assert_eq!((tally.methods[0].failed.count(), tally.methods[0].refused.max()), (4, 4_000));
        assert_eq!(tally.messages[12].as_deref(), Some("no such method"));
    }

    #[test]
    fn warm_up_counts_only_in_intervals() {
        let mut tally = Tally::new(1, false, Arc::from([]));
        tally.on_sent(1);
        tally.on_reply(&Call { counts: false, ..CALL }, &reply(0, b""), 2_000);
        tally.on_unanswered(&Call { counts: false, ..CALL }, 3_000);
        assert_eq!(tally.methods[0].latency.count(), 0);
        let interval = tally.take_interval(-1, None, 0);
        assert_eq!((interval.ok, interval.sent, interval.due, interval.failed), (1, 1, 1, 0));
        let next = tally.take_interval(0, Some(5), 2);
        assert_eq!((next.ok, next.sent, next.due, next.in_flight), (0, 0, 5, 2));
    }

    #[test]
    fn unanswered_calls_count_with_their_waiting_time() {
        let mut tally = Tally::new(1, true, Arc::from([]));
        tally.on_unanswered(&CALL, 5_001_000);
        tally.on_never_sent(0, 1_000, 9_001_000);
        let method = &tally.methods[0];
        assert_eq!((method.unanswered, method.never_sent, method.waited.max()), (1, 1, 9_000_000));
        assert_eq!((method.latency.count(), method.uncorrected.count()), (0, 0));
        assert_eq!(method.latency_with_waiting().max(), 9_000_000);
    }
}

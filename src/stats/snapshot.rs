//! The statistics of a server at one moment, summed over its reactors, for pages and tests.

use std::time::Duration;

use super::{
    CLOSE_REASONS, CallStats, HistogramSnapshot, MethodStats, ReactorStats, SAMPLE_TURNS, SHED_REASONS,
    STAGES,
};
use crate::status::Code;
use crate::tls::TlsSnapshot;

/// The statistics of a server at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// One entry per reactor.
    pub reactors: Vec<ReactorSnapshot>,
    /// One entry per method, in the order of registration.
    pub methods: Vec<MethodSnapshot>,
    /// The worker pools.
    pub workers: WorkersSnapshot,
    /// Requests refused before they were run: code name and count; no zeros.
    pub refused: Vec<(&'static str, u64)>,
    /// Calls whose connection closed before they ended.
    pub dropped: u64,
    /// Work that ended after its call was answered.
    pub late: u64,
    /// Calls whose deadline had passed at decode, at dequeue, and before the answer was encoded.
    pub deadlines: [u64; 3],
    /// Queued work dropped before it started.
    pub removed: u64,
    /// Cancel frames that named a call in flight.
    pub cancelled: u64,
    /// Calls cancelled because the drain took too long.
    pub drain_cancelled: u64,
    /// Calls that arrived after reading had stopped for a drain that their protocol cannot announce (gob, JSON-RPC), of the
    /// server or of a connection that had become too old. They were not run.
    pub drain_unread: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Calls without streams that were accepted and whose work has not ended. Inline calls are never among them: they are
    /// answered as soon as they are read.
    pub in_flight: u64,
    /// Streaming calls whose work has not ended.
    pub streams: u64,
    /// The numbers of TLS; `None` if the server has none.
    pub tls: Option<TlsSnapshot>,
    /// Connections by protocol: its name, and how many were recognized and how many of these have closed.
    pub protocols: Vec<(&'static str, u64, u64)>,
    /// Futures of async methods that have not been dropped, of calls in flight and of calls that were answered.
    pub async_in_flight: usize,
    /// Response headers, trailers and details of a status that were not sent, because the protocol of the caller has no
    /// place for them or they are not valid in it.
    pub response_entries_dropped: u64,
}

/// The statistics of one reactor.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReactorSnapshot {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted or adopted so far.
    pub accepted: u64,
    /// Connections refused by `connections_max`.
    pub refused: u64,
    /// Times that accepting paused because no descriptor was free.
    pub accept_pauses: u64,
    /// Connections closed so far: reason and count; no zeros.
    pub closed: Vec<(&'static str, u64)>,
    /// Turns of the loop.
    pub turns: u64,
    /// Events handled; divided by `turns`, the events per turn.
    pub events: u64,
    /// Messages from other threads.
    pub letters: u64,
    /// Reads from sockets.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Times that reading from a connection was stopped by a limit.
    pub pauses: u64,
    /// Naps that let calls gather.
    pub naps: u64,
    /// Mean microseconds of a turn in each stage: name and time.
    pub stages_us: Vec<(&'static str, f64)>,
    /// Turns whose stages were measured.
    pub sampled_turns: u64,
    /// The time in each stage so far, by name: that of the sampled turns, as often as one turn is sampled in. It is an
    /// estimate, and never falls.
    pub stages: Vec<(&'static str, Duration)>,
    /// Microseconds in which a turn kept the loop from polling its sockets.
    pub lag_us: HistogramSnapshot,
    /// The buffer pool.
    pub pool: PoolSnapshot,
}

/// The statistics of a reactor's buffer pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// Buffers lent from a free list.
    pub hits: u64,
    /// Buffers that had to be allocated.
    pub misses: u64,
    /// Buffers lent and not returned yet.
    pub outstanding: u64,
    /// Bytes in the free lists.
    pub retained_bytes: u64,
}

/// The statistics of one method.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MethodSnapshot {
    /// `Service.Method`; of a route `GET /path`.
    pub name: String,
    /// Calls answered, whatever the outcome, and one-way calls.
    pub calls: u64,
    /// Answers by code: name and count; no zeros.
    pub answers: Vec<(&'static str, u64)>,
    /// Calls that were refused or dropped before they ran so that others end in time: reason
    /// ([`SHED_REASONS`](super::SHED_REASONS)) and count; no zeros. They are not in `calls`.
    pub shed: Vec<(&'static str, u64)>,
    /// Microseconds in the queue.
    pub queue_us: HistogramSnapshot,
    /// Microseconds in the handler.
    pub handler_us: HistogramSnapshot,
}

/// The statistics of the worker pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkersSnapshot {
    /// Threads for CPU work.
    pub workers: usize,
    /// Current threads for blocking methods.
    pub blocking_threads: usize,
    /// The highest number of these threads so far.
    pub blocking_threads_peak: usize,
    /// Requests queued now, for either pool.
    pub queued: usize,
    /// The time in which the threads for CPU work ran calls. A call counts when it ends.
    pub cpu_busy: Duration,
    /// The time in which the threads for blocking methods ran calls. A call counts when it ends.
    pub blocking_busy: Duration,
}

fn by_name<'a>(
    names: impl Iterator<Item = &'static str>,
    counts: impl Iterator<Item = &'a super::Counter>,
) -> Vec<(&'static str, u64)> {
    names.zip(counts.map(super::Counter::value)).filter(|(_, count)| *count > 0).collect()
}

impl ReactorSnapshot {
    /// Returns the current numbers of one reactor.
    pub(crate) fn of(stats: &ReactorStats) -> ReactorSnapshot {
        let mut lag_us = HistogramSnapshot::default();
        stats.lag_us.add_to(&mut lag_us);
        let sampled = stats.sampled_turns.value().max(1) as f64;
        let stage = |(name, ns): (&&'static str, &super::Counter)| (*name, ns.value() as f64 / 1e3 / sampled);
        let estimate = |(name, ns): (&'static str, &super::Counter)| {
            (name, Duration::from_nanos(ns.value().saturating_mul(SAMPLE_TURNS)))
        };
        ReactorSnapshot {
            connections: stats.connections.value(),
            accepted: stats.accepted.value(),
            refused: stats.refused.value(),
            accept_pauses: stats.accept_pauses.value(),
            closed: by_name(CLOSE_REASONS.into_iter(), stats.closed.iter()),
            turns: stats.turns.value(),
            events: stats.events.value(),
            letters: stats.letters.value(),
            reads: stats.reads.value(),
            read_bytes: stats.read_bytes.value(),
            writes: stats.writes.value(),
            written_bytes: stats.written_bytes.value(),
            pauses: stats.pauses.value(),
            naps: stats.naps.value(),
            stages_us: STAGES.iter().zip(&stats.stage_ns).map(stage).collect(),
            sampled_turns: stats.sampled_turns.value(),
            stages: STAGES.into_iter().zip(&stats.stage_ns).map(estimate).collect(),
            lag_us,
            pool: PoolSnapshot {
                hits: stats.pool.hits.value(),
                misses: stats.pool.misses.value(),
                outstanding: stats.pool.outstanding.value(),
                retained_bytes: stats.pool.retained_bytes.value(),
            },
        }
    }

    /// Returns the time in all stages except the wait, estimated as [`ReactorSnapshot::stages`] is.
    pub fn busy(&self) -> Duration {
        self.stages.iter().filter(|(stage, _)| *stage != STAGES[0]).map(|(_, time)| *time).sum()
    }
}

impl MethodSnapshot {
    /// Returns the numbers of one method, summed over the threads that counted them.
    pub(crate) fn of<'a>(name: &str, parts: impl Iterator<Item = &'a MethodStats>) -> MethodSnapshot {
        let mut snapshot = MethodSnapshot { name: name.to_owned(), ..MethodSnapshot::default() };
        let mut answers = [0; Code::ALL.len()];
        let mut shed = [0; SHED_REASONS.len()];
        for part in parts {
            part.queue_us.add_to(&mut snapshot.queue_us);
            part.handler_us.add_to(&mut snapshot.handler_us);
            snapshot.calls += part.one_way.value();
            for (sum, counter) in answers.iter_mut().zip(&part.answers) {
                *sum += counter.value();
            }
            for (sum, counter) in shed.iter_mut().zip(&part.shed) {
                *sum += counter.value();
            }
        }
        snapshot.shed = SHED_REASONS.into_iter().zip(shed).filter(|(_, count)| *count > 0).collect();
        snapshot.calls += answers.iter().sum::<u64>();
        snapshot.answers =
            Code::ALL.iter().map(|code| code.name()).zip(answers).filter(|(_, count)| *count > 0).collect();
        snapshot
    }

    /// Returns the number of calls that were shed for that reason ([`SHED_REASONS`]).
    pub fn shed(&self, reason: &str) -> u64 {
        self.shed.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
    }

    /// Returns the number of answers with that code.
    pub fn answered(&self, code: Code) -> u64 {
        self.answers.iter().find(|(name, _)| *name == code.name()).map_or(0, |(_, count)| *count)
    }
}

impl Snapshot {
    /// Adds the counters of one reactor for calls of all methods.
    pub(crate) fn add_calls(&mut self, calls: &CallStats) {
        self.dropped += calls.dropped.value();
        self.late += calls.late.value();
        self.deadlines[0] += calls.late_at_decode.value();
        self.deadlines[1] += calls.late_at_dequeue.value();
        self.deadlines[2] += calls.late_at_answer.value();
        self.removed += calls.removed.value();
        self.cancelled += calls.cancelled.value();
        self.drain_cancelled += calls.drain_cancelled.value();
        self.drain_unread += calls.drain_unread.value();
        self.panics += calls.panics.value();
        self.in_flight += calls.in_flight.value();
        self.streams += calls.streams.value();
        for (code, counter) in Code::ALL.iter().zip(&calls.refused) {
            match self.refused.iter_mut().find(|(name, _)| *name == code.name()) {
                Some((_, count)) => *count += counter.value(),
                None if counter.value() > 0 => self.refused.push((code.name(), counter.value())),
                None => {}
            }
        }
    }

    /// Returns the method with that name.
    pub fn method(&self, name: &str) -> Option<&MethodSnapshot> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Returns the number of open connections, on all reactors.
    pub fn connections(&self) -> u64 {
        self.reactors.iter().map(|reactor| reactor.connections).sum()
    }

    /// Returns the number of connections closed for that reason, on all reactors.
    pub fn closed(&self, reason: &str) -> u64 {
        self.reactors
            .iter()
            .flat_map(|reactor| &reactor.closed)
            .filter(|(name, _)| *name == reason)
            .map(|(_, n)| n)
            .sum()
    }
}

//! The families of a server's connections, reactors and workers.

use std::time::Duration;

use super::{counter, gauge};
use crate::metrics::buckets::durations;
use crate::metrics::{MetricFamily, MetricKind, MetricSample, MetricValue};
use crate::stats::{ReactorSnapshot, Snapshot};

/// Returns the families of connections, by protocol and by reactor.
pub(super) fn connection_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut open = gauge(
        "coreloop_server_connections",
        "Open connections by protocol; undecided before its first bytes have arrived.",
    );
    let mut recognized = counter(
        "coreloop_server_connections_recognized",
        "Connections whose protocol was recognized, by protocol.",
    );
    let mut known = 0;
    for (protocol, begun, ended) in &snapshot.protocols {
        // The three are not read at one moment.
        let now = begun.saturating_sub(*ended);
        known += now;
        open = open.count([("protocol", protocol)], now);
        recognized = recognized.count([("protocol", protocol)], *begun);
    }
    open = open.count([("protocol", "undecided")], snapshot.connections().saturating_sub(known));
    let mut closed =
        counter("coreloop_server_connections_closed", "Connections that were closed, by reason.");
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for (reason, count) in snapshot.reactors.iter().flat_map(|reactor| &reactor.closed) {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => reasons.push((reason, *count)),
        }
    }
    for (reason, count) in reasons {
        closed = closed.count([("reason", reason)], count);
    }
    let of_reactors = [
        per_reactor(
            snapshot,
            counter(
                "coreloop_server_connections_accepted",
                "Connections that were accepted or adopted, by reactor.",
            ),
            |reactor| MetricValue::Count(reactor.accepted),
        ),
        per_reactor(
            snapshot,
            counter("coreloop_server_connections_refused", "Connections that a limit refused, by reactor."),
            |reactor| MetricValue::Count(reactor.refused),
        ),
        per_reactor(
            snapshot,
            counter(
                "coreloop_server_accept_pauses",
                "Times that accepting paused because no descriptor was free, by reactor.",
            ),
            |reactor| MetricValue::Count(reactor.accept_pauses),
        ),
    ];
    [open, recognized, closed].into_iter().chain(of_reactors).collect()
}

/// Returns the families of reactors.
pub(super) fn reactor_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    type Count = fn(&ReactorSnapshot) -> u64;
    let simple: [(MetricFamily, Count); 15] = [
        (gauge("coreloop_reactor_connections", "Open connections of a reactor."), |reactor| {
            reactor.connections
        }),
        (counter("coreloop_reactor_turns", "Turns of the event loop."), |reactor| reactor.turns),
        (counter("coreloop_reactor_events", "Events that were handled."), |reactor| reactor.events),
        (counter("coreloop_reactor_messages", "Messages from other threads."), |reactor| reactor.letters),
        (counter("coreloop_reactor_reads", "Reads from sockets."), |reactor| reactor.reads),
        (bytes("coreloop_reactor_read_bytes", "Bytes that were read."), |reactor| reactor.read_bytes),
        (counter("coreloop_reactor_writes", "Writes to sockets."), |reactor| reactor.writes),
        (bytes("coreloop_reactor_written_bytes", "Bytes that were written."), |reactor| {
            reactor.written_bytes
        }),
        (
            counter("coreloop_reactor_read_pauses", "Times that a limit stopped reading from a connection."),
            |reactor| reactor.pauses,
        ),
        (counter("coreloop_reactor_naps", "Naps that let calls gather."), |reactor| reactor.naps),
        (counter("coreloop_reactor_turns_sampled", "Turns whose stages were measured."), |reactor| {
            reactor.sampled_turns
        }),
        (counter("coreloop_pool_hits", "Buffers that came from a free list."), |reactor| reactor.pool.hits),
        (counter("coreloop_pool_misses", "Buffers that had to be allocated."), |reactor| reactor.pool.misses),
        (gauge("coreloop_pool_outstanding", "Buffers that are in use."), |reactor| reactor.pool.outstanding),
        (
            MetricFamily::new(
                "coreloop_pool_retained_bytes",
                "bytes",
                MetricKind::Gauge,
                "Bytes in the free lists.",
            ),
            |reactor| reactor.pool.retained_bytes,
        ),
    ];
    let simple = simple
        .into_iter()
        .map(|(family, count)| per_reactor(snapshot, family, |reactor| MetricValue::Count(count(reactor))));
    let mut families: Vec<MetricFamily> = simple.collect();
    let mut stages = MetricFamily::new(
        "coreloop_reactor_stage_seconds",
        "seconds",
        MetricKind::Counter,
        "Time in each stage of the turn, estimated from one turn in sixteen.",
    );
    let mut busy = MetricFamily::new(
        "coreloop_reactor_busy_seconds",
        "seconds",
        MetricKind::Counter,
        "Time in all stages but the wait, estimated from one turn in sixteen.",
    );
    let mut lag = MetricFamily::new(
        "coreloop_reactor_lag_seconds",
        "seconds",
        MetricKind::Histogram,
        "Time in which a turn kept the loop from polling its sockets, of one turn in sixteen.",
    );
    for (index, reactor) in snapshot.reactors.iter().enumerate() {
        let label = || ("reactor", index.to_string());
        let seconds = |time: Duration| MetricValue::Number(time.as_secs_f64());
        for (stage, time) in &reactor.stages {
            stages = stages.sample([label(), ("stage", (*stage).to_owned())], seconds(*time));
        }
        busy = busy.sample([label()], seconds(reactor.busy()));
        lag.samples.push(MetricSample::new([label()], durations(&reactor.lag_us)));
    }
    families.extend([stages, busy, lag]);
    families
}

/// Returns the families of the worker pools.
pub(super) fn worker_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let workers = &snapshot.workers;
    let busy = MetricFamily::new(
        "coreloop_workers_busy_seconds",
        "seconds",
        MetricKind::Counter,
        "Time in which the threads of a pool ran calls; a call counts when it ends.",
    );
    let seconds = |time: Duration| MetricValue::Number(time.as_secs_f64());
    vec![
        gauge("coreloop_workers_threads", "Threads of a pool now.")
            .count([("pool", "cpu")], workers.workers as u64)
            .count([("pool", "blocking")], workers.blocking_threads as u64),
        gauge(
            "coreloop_workers_blocking_threads_peak",
            "The highest number of threads of the blocking pool so far.",
        )
        .count([], workers.blocking_threads_peak as u64),
        gauge("coreloop_workers_queued", "Calls that wait for a thread of either pool.")
            .count([], workers.queued as u64),
        busy.sample([("pool", "cpu".to_owned())], seconds(workers.cpu_busy))
            .sample([("pool", "blocking".to_owned())], seconds(workers.blocking_busy)),
    ]
}

fn bytes(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(name, "bytes", MetricKind::Counter, help)
}

fn per_reactor(
    snapshot: &Snapshot,
    mut family: MetricFamily,
    value: impl Fn(&ReactorSnapshot) -> MetricValue,
) -> MetricFamily {
    for (index, reactor) in snapshot.reactors.iter().enumerate() {
        family = family.sample([("reactor", index.to_string())], value(reactor));
    }
    family
}

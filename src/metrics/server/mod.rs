//! The families of a server, from its counters: those of calls here, those of connections and threads in `reactors`.

mod reactors;

use super::buckets::durations;
use super::{MetricFamily, MetricKind, MetricSample, MetricValue};
#[cfg(feature = "log")]
use crate::log_events::{LogCounts, log_counts};
use crate::stats::{MethodSnapshot, Snapshot};
use crate::tls::{TlsFailureKind, TlsSnapshot};
use crate::trace::TraceStats;

/// Returns the families of a server's counters. Their number of series is bounded by what the program registers, never by
/// what peers send (docs/observability.md): a call of an unknown method is counted without its name.
pub fn server_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut families = call_families(snapshot);
    families.extend(method_histograms(snapshot));
    families.extend(reactors::connection_families(snapshot));
    families.extend(reactors::reactor_families(snapshot));
    families.extend(reactors::worker_families(snapshot));
    if let Some(tls) = &snapshot.tls {
        families.extend(tls_families(tls));
    }
    families
}

fn tls_families(tls: &TlsSnapshot) -> Vec<MetricFamily> {
    let mut failures = counter("coreloop_tls_failures", "TLS sessions that failed, by reason.");
    for kind in TlsFailureKind::ALL {
        failures = failures.count([("reason", kind.name())], tls.failed(kind));
    }
    let mut alerts = counter(
        "coreloop_tls_alerts",
        "Alerts that ended a TLS session, by name, sent by the server or received from the peer.",
    );
    for (direction, counts) in [("sent", &tls.alerts_sent), ("received", &tls.alerts_received)] {
        for (name, count) in counts {
            alerts = alerts.count([("direction", direction), ("alert", name)], *count);
        }
    }
    let mut expiry = MetricFamily::new(
        "coreloop_tls_certificate_expiry_timestamp_seconds",
        "seconds",
        MetricKind::Gauge,
        "When each certificate expires, in seconds since 1970.",
    );
    for (file, not_after) in &tls.certificates {
        expiry = expiry.count([("file", file)], u64::try_from(*not_after).unwrap_or(0));
    }
    let mut families = vec![
        counter("coreloop_tls_handshakes", "TLS handshakes that were completed, full or resumed.")
            .count([("kind", "full")], tls.full_handshakes)
            .count([("kind", "resumed")], tls.resumed_handshakes),
        failures,
        gauge("coreloop_tls_handshakes_in_progress", "TLS handshakes in progress.")
            .count([], tls.handshakes_in_progress as u64),
        expiry,
    ];
    if !tls.alerts_sent.is_empty() || !tls.alerts_received.is_empty() {
        families.push(alerts);
    }
    families
}

/// Returns the families of a tracer.
pub fn trace_families(stats: &TraceStats) -> Vec<MetricFamily> {
    vec![
        counter("coreloop_trace_spans", "Spans that were made.").count([], stats.spans),
        counter(
            "coreloop_trace_spans_dropped",
            "Spans that were not exported, because the export was behind.",
        )
        .count([], stats.dropped),
    ]
}

/// Returns the family of the events for the log, of the whole process.
#[cfg(feature = "log")]
pub(crate) fn log_family() -> MetricFamily {
    let LogCounts { logged, suppressed, dropped } = log_counts();
    counter("coreloop_log_events", "Events for the log, by what became of them.")
        .count([("outcome", "logged")], logged)
        .count([("outcome", "suppressed")], suppressed)
        .count([("outcome", "dropped")], dropped)
}

fn call_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut calls = counter("coreloop_server_calls", "Calls that were answered, by method and status code.");
    let mut one_way =
        counter("coreloop_server_one_way_calls", "One-way calls that have ended; they have no answer.");
    let mut shed = counter(
        "coreloop_server_calls_shed",
        "Calls that were not run so that others end in time, by reason. They are among those refused.",
    );
    for method in &snapshot.methods {
        for (code, count) in &method.answers {
            calls = calls.count([("method", &method.name), ("code", code)], *count);
        }
        let answered: u64 = method.answers.iter().map(|(_, count)| count).sum();
        // The two are not read at one moment.
        let without_answer = method.calls.saturating_sub(answered);
        if without_answer > 0 {
            one_way = one_way.count([("method", &method.name)], without_answer);
        }
        for (reason, count) in &method.shed {
            shed = shed.count([("method", &method.name), ("reason", reason)], *count);
        }
    }
    let mut refused = counter(
        "coreloop_server_calls_refused",
        "Calls that were refused before they ran, by status code: unknown methods, calls that are not valid, limits.",
    );
    for (code, count) in &snapshot.refused {
        refused = refused.count([("code", code)], *count);
    }
    let mut deadlines =
        counter("coreloop_server_deadlines_missed", "Calls whose deadline passed, by where it was noticed.");
    for (place, count) in ["decode", "dequeue", "answer"].into_iter().zip(snapshot.deadlines) {
        deadlines = deadlines.count([("place", place)], count);
    }
    vec![
        calls,
        one_way,
        refused,
        shed,
        counter("coreloop_server_calls_dropped", "Calls whose connection closed before they ended.")
            .count([], snapshot.dropped),
        counter("coreloop_server_calls_cancelled", "Calls that ended early, by what cancelled them.")
            .count([("by", "caller")], snapshot.cancelled)
            .count([("by", "drain")], snapshot.drain_cancelled),
        counter(
            "coreloop_server_calls_unread",
            "Calls that arrived after reading had stopped for a drain that their protocol cannot announce.",
        )
        .count([], snapshot.drain_unread),
        deadlines,
        counter("coreloop_server_work_late", "Handlers that ended after their call was answered.")
            .count([], snapshot.late),
        counter("coreloop_server_work_removed", "Queued work that was dropped before it started.")
            .count([], snapshot.removed),
        counter("coreloop_server_panics", "Handlers, interceptors and futures that panicked.")
            .count([], snapshot.panics),
        counter(
            "coreloop_server_response_entries_dropped",
            "Response headers, trailers and status details that a protocol had no place for.",
        )
        .count([], snapshot.response_entries_dropped),
        gauge(
            "coreloop_server_calls_in_flight",
            "Calls without streams that were accepted and have not ended; inline calls are never among them.",
        )
        .count([], snapshot.in_flight),
        gauge("coreloop_server_streams_in_flight", "Streaming calls that have not ended.")
            .count([], snapshot.streams),
        gauge("coreloop_server_async_in_flight", "Futures of async methods that were not dropped yet.")
            .count([], snapshot.async_in_flight as u64),
    ]
}

/// Returns the histograms by method, of methods that were called.
fn method_histograms(snapshot: &Snapshot) -> [MetricFamily; 2] {
    let mut queue = MetricFamily::new(
        "coreloop_server_queue_seconds",
        "seconds",
        MetricKind::Histogram,
        "Time from the read of a call to the start of its handler.",
    );
    let mut handler = MetricFamily::new(
        "coreloop_server_handler_seconds",
        "seconds",
        MetricKind::Histogram,
        "Time in handlers, with the decoding of the argument and the encoding of the result.",
    );
    for method in snapshot.methods.iter().filter(|method| method.handler_us.count() > 0) {
        let MethodSnapshot { name, queue_us, handler_us, .. } = method;
        queue.samples.push(MetricSample::new([("method", name.clone())], durations(queue_us)));
        handler.samples.push(MetricSample::new([("method", name.clone())], durations(handler_us)));
    }
    [queue, handler]
}

fn counter(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(name, "", MetricKind::Counter, help)
}

fn gauge(name: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily::new(name, "", MetricKind::Gauge, help)
}

impl MetricFamily {
    /// Adds a sample with a count.
    fn count<const N: usize>(self, labels: [(&'static str, &str); N], count: u64) -> MetricFamily {
        let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned()));
        self.sample(labels, MetricValue::Count(count))
    }
}

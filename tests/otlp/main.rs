//! Traces beside other SDKs of OpenTelemetry, and the export by OTLP: to a real Collector, by the official definitions, and to
//! peers that fail.

#![allow(missing_docs)]
#![cfg(all(feature = "otlp", feature = "demo"))]

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
mod bad_days;
mod chain;
mod collector;
#[path = "../common/mod.rs"]
mod common;
mod official;
mod peer;
mod process;
mod propagation;
mod scripted;
mod secured;
mod stopped;

use std::time::{Duration, Instant};

use coreloop::config::{OtlpConfig, TraceConfig};
use coreloop::trace::{FinishedSpan, SpanId, SpanKind, SpanWriter, TraceContext, TraceId, Tracer};

/// Longer than anything here takes; a wait of this length has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns a tracer whose queues have room for this number of spans, and a writer of it.
fn tracer(spans_max: usize) -> (Tracer, SpanWriter) {
    let mut config = TraceConfig::default();
    config.ring_spans_max = spans_max;
    let tracer = Tracer::new(&config);
    let writer = tracer.writer();
    (tracer, writer)
}

/// Returns the settings of an export to that URL, without metrics.
fn config(endpoint: &str) -> OtlpConfig {
    let mut config = OtlpConfig::default();
    config.endpoint = endpoint.to_owned();
    config.interval_ms = 10;
    config.metrics_interval_ms = 0;
    config
}

/// Returns a span with that number as its id.
fn span(number: u64) -> FinishedSpan {
    let context = TraceContext::new(TraceId::new(0xfeed).unwrap(), SpanId::new(number).unwrap(), true);
    let mut span = FinishedSpan::new(context, SpanKind::Server, "Shop.Price");
    span.start_unix_ns = 1_700_000_000_000_000_000 + number;
    span.duration = Duration::from_micros(250);
    span
}

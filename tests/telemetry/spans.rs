//! Traces: which calls get spans, what the spans say, and how they belong together over several servers.

mod attempts;
mod clients;
mod headers;
mod kept;
mod streams;

use std::sync::Arc;

use coreloop::config::TraceConfig;
use coreloop::trace::{FinishedSpan, SpanKind, Tracer};

use crate::common::eventually;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn tracer(change: impl FnOnce(&mut TraceConfig)) -> Tracer {
    let mut config = TraceConfig::default();
    (config.sample_one_in, config.kept_per_second_max) = (0, 0);
    change(&mut config);
    Tracer::new(&config)
}

/// Waits for this number of spans, and returns them in the order in which their calls have begun.
#[track_caller]
fn spans(tracer: &Tracer, count: usize) -> Vec<Arc<FinishedSpan>> {
    eventually("the spans are made", || tracer.recent().len() >= count);
    let mut spans = tracer.recent();
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans.sort_by_key(|span| (span.start_unix_ns, span.kind == SpanKind::Server));
    spans
}

fn attribute<'a>(span: &'a FinishedSpan, key: &str) -> Option<&'a coreloop::trace::AttributeValue> {
    span.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

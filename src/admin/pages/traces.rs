//! `/traces`: the latest spans as traces, and one trace as a waterfall.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Console, Page, Params};
use crate::admin::view::{Block, Cell, Fact, FilterField, Table, Tone, View, bytes, count, time_ns, time_us};
use crate::status::{Code, Status};
use crate::trace::{AttributeValue, FinishedSpan, SpanKind};

/// The most traces of a list.
const TRACES_MAX: usize = 200;
/// The most spans of a trace.
const SPANS_MAX: usize = 500;

#[derive(Serialize)]
struct TracesModel {
    is_tracing: bool,
    /// Spans made, and spans that the export has lost.
    spans: u64,
    dropped: u64,
    listed: usize,
    traces: Vec<ShownTrace>,
}

#[derive(Serialize)]
struct ShownTrace {
    trace_id: String,
    /// The span without a parent here.
    name: String,
    start_unix_ns: u64,
    duration_ns: u64,
    spans: usize,
    /// The status of that span.
    code: &'static str,
    failed_spans: usize,
}

#[derive(Serialize)]
struct TraceModel {
    trace_id: String,
    duration_ns: u64,
    spans: Vec<ShownSpan>,
}

#[derive(Serialize)]
struct ShownSpan {
    span_id: String,
    parent_id: String,
    /// Spans between this one and the first.
    depth: usize,
    kind: &'static str,
    name: String,
    start_unix_ns: u64,
    duration_ns: u64,
    queue_us: u32,
    handler_us: u32,
    code: &'static str,
    message: String,
    end_place: &'static str,
    protocol: &'static str,
    request_bytes: u64,
    reply_bytes: u64,
    peer: String,
    attempt: u32,
    /// Nanoseconds after the start, and text.
    events: Vec<(u64, String)>,
    attributes: Vec<(String, String)>,
}

pub(super) fn page(console: &Console, params: &Params) -> Result<Page, Status> {
    let spans = console.inspector.tracer().map(|tracer| tracer.recent()).unwrap_or_default();
    match params.get("id") {
        Some(id) => one_trace(id, &spans),
        None => list(console, params, &spans),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn end_of(span: &FinishedSpan) -> u64 {
    span.start_unix_ns.saturating_add(nanos(span.duration))
}

fn list(console: &Console, params: &Params, spans: &[Arc<FinishedSpan>]) -> Result<Page, Status> {
    let (method, code) = (params.get("method"), params.get("status"));
    let least = params.number::<f64>("min_ms")?.map_or(0, |ms| (ms.max(0.0) * 1e6) as u64);
    let mut traces: HashMap<u128, Vec<&FinishedSpan>> = HashMap::new();
    for span in spans {
        traces.entry(span.trace_id().bits()).or_default().push(span);
    }
    let mut shown: Vec<ShownTrace> = traces
        .into_values()
        .filter(|spans| method.is_none_or(|text| spans.iter().any(|span| span.name.contains(text))))
        .filter_map(|spans| {
            let first = spans.iter().min_by_key(|span| (span.parent.is_some(), span.start_unix_ns))?;
            let end = spans.iter().map(|span| end_of(span)).max()?;
            let start = spans.iter().map(|span| span.start_unix_ns).min()?;
            Some(ShownTrace {
                trace_id: first.trace_id().to_string(),
                name: first.name.to_string(),
                start_unix_ns: start,
                duration_ns: end - start,
                spans: spans.len(),
                code: first.code.name(),
                failed_spans: spans.iter().filter(|span| span.code != Code::Ok).count(),
            })
        })
        .filter(|trace| trace.duration_ns >= least)
        .filter(|trace| match code {
            None => true,
            Some("failed") => trace.failed_spans > 0,
            Some(code) => trace.code == code,
        })
        .collect();
    match params.get("order") {
        Some("slowest") => shown.sort_by_key(|trace| std::cmp::Reverse(trace.duration_ns)),
        _ => shown.sort_by_key(|trace| std::cmp::Reverse(trace.start_unix_ns)),
    }
    let stats = console.inspector.tracer().map(|tracer| tracer.stats()).unwrap_or_default();
    let listed = shown.len();
    shown.truncate(TRACES_MAX);
    let model = TracesModel {
        is_tracing: console.inspector.tracer().is_some(),
        spans: stats.spans,
        dropped: stats.dropped,
        listed,
        traces: shown,
    };
    let view = list_view(&model, params);
    Page::of(&model, view)
}

fn list_view(model: &TracesModel, params: &Params) -> View {
    let longest = model.traces.iter().map(|trace| trace.duration_ns).max().unwrap_or(0).max(1) as f64;
    let mut table = Table::new("", "No trace fits.")
        .text("begun")
        .text("first span")
        .wide("duration")
        .number("spans")
        .text("status")
        .text("trace");
    let now = coreloop_poller::os::unix_seconds();
    for trace in &model.traces {
        let tone = if trace.failed_spans > 0 { Tone::Bad } else { Tone::Plain };
        table.row(vec![
            Cell::text(ago(now, trace.start_unix_ns)),
            Cell::code(&trace.name),
            Cell::Bar(trace.duration_ns as f64 / longest, tone, time_ns(trace.duration_ns)),
            Cell::number(count(trace.spans as u64)),
            code_tag(trace.code),
            Cell::Link { href: format!("/traces?id={}", trace.trace_id), text: trace.trace_id.clone() },
        ]);
    }
    table.note = super::left_out(model.traces.len(), model.listed, false);
    let field = |name, label, options: Vec<(&str, &str)>| FilterField {
        name,
        label,
        value: params.get(name).unwrap_or_default().to_owned(),
        options: options.into_iter().map(|(value, text)| (value.to_owned(), text.to_owned())).collect(),
    };
    let codes = Code::ALL.iter().map(|code| (code.name(), code.name()));
    let statuses = [("", "any"), ("failed", "any failed span")].into_iter().chain(codes).collect();
    let filter = vec![
        field("method", "Method", Vec::new()),
        field("min_ms", "At least, in ms", Vec::new()),
        field("status", "Status", statuses),
        field("order", "Order", vec![("", "latest first"), ("slowest", "slowest first")]),
    ];
    let mut blocks = vec![
        Block::Filter(filter),
        Block::Facts(vec![
            Fact::new("spans made", count(model.spans)),
            Fact::new("not exported in time", count(model.dropped)),
            Fact::new("traces that fit", count(model.listed as u64)),
        ]),
    ];
    if !model.is_tracing {
        let text = "The server does not trace: set trace.enabled = true, and trace.sample_one_in (docs/observability.md).";
        blocks.push(Block::Note(Tone::Warn, text.to_owned()));
    }
    blocks.push(Block::Table(table));
    View {
        title: "Traces",
        lead: "The latest sampled calls of this process, and slow and failed ones that were kept.".to_owned(),
        blocks,
    }
}

fn ago(now_seconds: u64, unix_ns: u64) -> String {
    let seconds = now_seconds.saturating_sub(unix_ns / 1_000_000_000);
    if seconds == 0 {
        "now".to_owned()
    } else {
        format!("{} ago", time_us(seconds.saturating_mul(1_000_000)))
    }
}

fn code_tag(code: &str) -> Cell {
    let tone = if code == Code::Ok.name() { Tone::Good } else { Tone::Bad };
    Cell::Tag(tone, code.to_owned())
}

fn one_trace(id: &str, spans: &[Arc<FinishedSpan>]) -> Result<Page, Status> {
    let mut spans: Vec<&FinishedSpan> =
        spans.iter().map(|span| &**span).filter(|span| span.trace_id().to_string() == id).collect();
    if spans.is_empty() {
        return Err(Status::not_found("the trace is not among the latest ones any more, or was not sampled"));
    }
    spans.sort_by_key(|span| span.start_unix_ns);
    let by_id: HashMap<u64, usize> =
        spans.iter().enumerate().map(|(at, span)| (span.context.span_id.bits(), at)).collect();
    let parent_of = |at: usize| {
        let parent = spans[at].parent?;
        by_id.get(&parent.bits()).copied().filter(|parent| *parent != at)
    };
    // The children of each span, in the order of their beginnings; spans whose parent is not here come first.
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut stack = Vec::new();
    for at in 0..spans.len() {
        match parent_of(at) {
            Some(parent) => children[parent].push(at),
            None => stack.push((at, 0)),
        }
    }
    stack.reverse();
    let mut shown = Vec::new();
    let mut is_shown = vec![false; spans.len()];
    while let Some((at, depth)) = stack.pop() {
        if std::mem::replace(&mut is_shown[at], true) || shown.len() >= SPANS_MAX {
            continue;
        }
        shown.push(shown_span(spans[at], depth));
        stack.extend(children[at].iter().rev().map(|child| (*child, depth + 1)));
    }
    let start = spans.iter().map(|span| span.start_unix_ns).min().unwrap_or(0);
    let end = spans.iter().map(|span| end_of(span)).max().unwrap_or(0);
    let model = TraceModel { trace_id: id.to_owned(), duration_ns: end - start, spans: shown };
    let view = trace_view(&model, start, spans.len());
    Page::of(&model, view)
}

fn shown_span(span: &FinishedSpan, depth: usize) -> ShownSpan {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Text(text) => text.to_string(),
        AttributeValue::Int(number) => number.to_string(),
        AttributeValue::Float(number) => number.to_string(),
        AttributeValue::Bool(is_true) => is_true.to_string(),
    };
    ShownSpan {
        span_id: span.context.span_id.to_string(),
        parent_id: span.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        depth,
        kind: match span.kind {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
        },
        name: span.name.to_string(),
        start_unix_ns: span.start_unix_ns,
        duration_ns: nanos(span.duration),
        queue_us: span.queue_us,
        handler_us: span.handler_us,
        code: span.code.name(),
        message: span.message.as_deref().unwrap_or_default().to_owned(),
        end_place: span.end_place,
        protocol: span.protocol,
        request_bytes: span.request_bytes,
        reply_bytes: span.reply_bytes,
        peer: span.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        attempt: span.attempt,
        events: span
            .events
            .iter()
            .map(|event| {
                let attributes = event.attributes.iter().map(|(name, one)| format!(" {name}={}", value(one)));
                let text = event.name.to_string() + &attributes.collect::<String>();
                (event.at_unix_ns.saturating_sub(span.start_unix_ns), text)
            })
            .collect(),
        attributes: span.attributes.iter().map(|(name, one)| (name.to_string(), value(one))).collect(),
    }
}

fn trace_view(model: &TraceModel, start: u64, spans: usize) -> View {
    let all = model.duration_ns.max(1) as f64;
    let mut table = Table::new("Waterfall", "")
        .text("span")
        .text("side")
        .wide("time")
        .text("status")
        .number("queue")
        .number("handler")
        .text("peer");
    let mut details = Table::new("What was noted", "No span has events, attributes or an error text.")
        .text("span")
        .number("at")
        .wide("what");
    for span in &model.spans {
        let tone = match (span.code == Code::Ok.name(), span.kind) {
            (false, _) => Tone::Bad,
            (true, "client") => Tone::Good,
            (true, _) => Tone::Plain,
        };
        let attempt =
            if span.attempt > 0 { format!(" (attempt {})", span.attempt + 1) } else { String::new() };
        let indent = "\u{2003}".repeat(span.depth.min(12));
        let is_server = span.kind == "server";
        table.row(vec![
            Cell::code(format!("{indent}{}{attempt}", span.name)),
            Cell::text(span.kind),
            Cell::Time {
                begin: span.start_unix_ns.saturating_sub(start) as f64 / all,
                length: span.duration_ns as f64 / all,
                tone,
                text: time_ns(span.duration_ns),
            },
            code_tag(span.code),
            Cell::number(if is_server { time_us(span.queue_us.into()) } else { String::new() }),
            Cell::number(if is_server { time_us(span.handler_us.into()) } else { String::new() }),
            Cell::code(&span.peer),
        ]);
        if !span.message.is_empty() {
            details.row(vec![Cell::code(&span.name), Cell::number(""), Cell::text(&span.message)]);
        }
        for (at, text) in &span.events {
            details.row(vec![Cell::code(&span.name), Cell::number(time_ns(*at)), Cell::text(text)]);
        }
        for (name, value) in &span.attributes {
            details.row(vec![
                Cell::code(&span.name),
                Cell::number(""),
                Cell::text(format!("{name} = {value}")),
            ]);
        }
        let sizes =
            format!("{} in, {} out, {}", bytes(span.request_bytes), bytes(span.reply_bytes), span.protocol);
        details.row(vec![Cell::code(&span.name), Cell::number(""), Cell::text(sizes)]);
    }
    table.note = super::left_out(model.spans.len(), spans, false);
    View {
        title: "Trace",
        lead: format!("Trace {}: {} spans in {}.", model.trace_id, spans, time_ns(model.duration_ns)),
        blocks: vec![Block::Table(table), Block::Table(details)],
    }
}

//! The body of an `ExportTraceServiceRequest` (opentelemetry-proto, `trace/v1`), from finished spans.
//!
//! Attributes have the names of OpenTelemetry's semantic conventions for RPC; those that only coreloop has begin with
//! `coreloop.`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::resource::Resource;
use super::writer::{BodyFormat, Field, MessageWriter, field};
use crate::context::Peer;
use crate::status::Code;
use crate::trace::{AttributeValue, FinishedSpan, SpanEvent, SpanKind};

/// The name of the instrumentation scope.
pub(super) const SCOPE: &str = "coreloop";

const SPANS: Field = field(2, "spans");

/// The flags of a span beside those of W3C (`SpanFlags`): whether its parent is remote is known, and that it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Returns the body of a request with as many of the spans as fit into `bytes_max` (at least one), in their order, and
/// removes those. Returns their number too; a request without spans is empty.
pub(super) fn take_body(
    spans: &mut VecDeque<Arc<FinishedSpan>>,
    resource: &Resource,
    format: BodyFormat,
    bytes_max: usize,
) -> (Vec<u8>, u64) {
    let mut items = MessageWriter::new(format);
    let mut count = 0;
    while let Some(span) = spans.front() {
        let before = items.len();
        items.item(SPANS, |writer| write_span(writer, span));
        if items.len() > bytes_max && count > 0 {
            items.truncate(before);
            break;
        }
        spans.pop_front();
        count += 1;
    }
    let items = items.into_parts();
    let mut body = MessageWriter::new(format);
    body.list(field(1, "resourceSpans"), [()], |writer, ()| {
        write_resource(writer, resource);
        writer.list(field(2, "scopeSpans"), [()], |writer, ()| {
            write_scope(writer);
            writer.list_of(SPANS, &items);
        });
    });
    (body.into_body(), count)
}

/// Writes the field `resource`.
pub(super) fn write_resource(writer: &mut MessageWriter, resource: &Resource) {
    writer.message(field(1, "resource"), |writer| {
        writer.list(field(1, "attributes"), resource, |writer, (key, value)| {
            key_value(writer, key, Value::of(value));
        });
    });
}

/// Writes the field `scope`.
pub(super) fn write_scope(writer: &mut MessageWriter) {
    writer.message(field(1, "scope"), |writer| {
        writer.text(field(1, "name"), SCOPE);
        writer.text(field(2, "version"), env!("CARGO_PKG_VERSION"));
    });
}

fn write_span(writer: &mut MessageWriter, span: &FinishedSpan) {
    writer.id(field(1, "traceId"), &span.context.trace_id.bits().to_be_bytes());
    writer.id(field(2, "spanId"), &span.context.span_id.bits().to_be_bytes());
    writer.text(field(3, "traceState"), span.context.state.as_deref().unwrap_or_default());
    if let Some(parent) = span.parent {
        writer.id(field(4, "parentSpanId"), &parent.bits().to_be_bytes());
    }
    writer.text(field(5, "name"), &span.name);
    writer.uint32(
        field(6, "kind"),
        match span.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
    );
    let duration_ns = u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX);
    writer.fixed64(field(7, "startTimeUnixNano"), span.start_unix_ns);
    writer.fixed64(field(8, "endTimeUnixNano"), span.start_unix_ns.saturating_add(duration_ns));
    let attributes = attributes(span);
    writer.list(field(9, "attributes"), attributes, |writer, (key, value)| key_value(writer, &key, value));
    writer.uint32(field(10, "droppedAttributesCount"), span.dropped_attributes);
    writer.list(field(11, "events"), &span.events, write_event);
    writer.uint32(field(12, "droppedEventsCount"), span.dropped_events);
    writer.message(field(15, "status"), |writer| {
        if is_error(span) {
            writer.text(field(2, "message"), span.message.as_deref().unwrap_or_default());
            writer.uint32(field(3, "code"), 2);
        }
    });
    let remote = if span.is_parent_remote { IS_REMOTE } else { 0 };
    writer.fixed32(field(16, "flags"), u32::from(span.context.is_sampled) | HAS_IS_REMOTE | remote);
}

fn write_event(writer: &mut MessageWriter, event: &SpanEvent) {
    writer.fixed64(field(1, "timeUnixNano"), event.at_unix_ns);
    writer.text(field(2, "name"), &event.name);
    writer.list(field(3, "attributes"), &event.attributes, |writer, (key, value)| {
        key_value(writer, key, Value::of(value));
    });
}

/// The value of an attribute.
enum Value<'a> {
    Text(&'a str),
    Owned(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Value<'_> {
    fn of(value: &AttributeValue) -> Value<'_> {
        match value {
            AttributeValue::Text(text) => Value::Text(text),
            AttributeValue::Int(number) => Value::Int(*number),
            AttributeValue::Float(number) => Value::Float(*number),
            AttributeValue::Bool(is_it) => Value::Bool(*is_it),
        }
    }

    fn unsigned(number: u64) -> Value<'static> {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Writes the fields of a `KeyValue` whose value is a text.
pub(super) fn text_attribute(writer: &mut MessageWriter, key: &str, value: &str) {
    key_value(writer, key, Value::Text(value));
}

fn key_value(writer: &mut MessageWriter, key: &str, value: Value<'_>) {
    writer.text(field(1, "key"), key);
    writer.message(field(2, "value"), |writer| match value {
        Value::Text(text) => writer.text_always(field(1, "stringValue"), text),
        Value::Owned(text) => writer.text_always(field(1, "stringValue"), &text),
        Value::Bool(is_it) => writer.bool(field(2, "boolValue"), is_it),
        Value::Int(number) => writer.int64(field(3, "intValue"), number),
        Value::Float(number) => writer.double(field(4, "doubleValue"), number),
    });
}

/// Whether the status of the span is an error, by the conventions for gRPC: on a server, only what is the server's fault.
fn is_error(span: &FinishedSpan) -> bool {
    match span.kind {
        SpanKind::Client => span.code != Code::Ok,
        SpanKind::Server => matches!(
            span.code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ),
    }
}

/// Returns the value of `rpc.system` for a protocol.
fn system_of(protocol: &str) -> Option<&str> {
    match protocol {
        "" => None,
        "grpc" => Some("grpc"),
        "http" => Some("connect_rpc"),
        "jsonrpc" => Some("jsonrpc"),
        "gob" => Some("go_net_rpc"),
        _ => Some("coreloop"),
    }
}

fn attributes(span: &FinishedSpan) -> Vec<(Cow<'_, str>, Value<'_>)> {
    let mut all: Vec<(Cow<'_, str>, Value<'_>)> = Vec::with_capacity(16 + span.attributes.len());
    let mut add = |key: &'static str, value| all.push((Cow::Borrowed(key), value));
    if let Some(system) = system_of(span.protocol) {
        add("rpc.system", Value::Text(system));
        add("coreloop.protocol", Value::Text(span.protocol));
    }
    if let Some((service, method)) = span.name.rsplit_once('.') {
        add("rpc.service", Value::Text(service));
        add("rpc.method", Value::Text(method));
    }
    match span.protocol {
        "grpc" => add("rpc.grpc.status_code", Value::Int(span.code.number().into())),
        "http" if span.code != Code::Ok => {
            add("rpc.connect_rpc.error_code", Value::Text(span.code.connect_name()));
        }
        _ => {}
    }
    add("coreloop.code", Value::Text(span.code.name()));
    if is_error(span) {
        add("error.type", Value::Text(span.code.name()));
    }
    if let Some(address) = span.peer.and_then(|peer| peer.address()) {
        add("network.peer.address", Value::Owned(address.ip().to_string()));
        add("network.peer.port", Value::Int(address.port().into()));
        add("network.transport", Value::Text("tcp"));
    }
    match span.peer {
        Some(Peer::Unix) => add("network.transport", Value::Text("unix")),
        Some(Peer::Memory) => add("network.transport", Value::Text("memory")),
        Some(_) | None => {}
    }
    if span.kind == SpanKind::Server {
        add("coreloop.queue_us", Value::Int(span.queue_us.into()));
        add("coreloop.handler_us", Value::Int(span.handler_us.into()));
    }
    if !span.end_place.is_empty() {
        add("coreloop.end_place", Value::Text(span.end_place));
    }
    add("coreloop.request_bytes", Value::unsigned(span.request_bytes));
    add("coreloop.reply_bytes", Value::unsigned(span.reply_bytes));
    if span.attempt > 0 {
        add("coreloop.attempt", Value::Int(span.attempt.into()));
    }
    if !span.context.is_sampled {
        add("coreloop.is_kept", Value::Bool(true));
    }
    // A key exists once: what the handler has set takes precedence.
    all.retain(|(key, _)| span.attributes.iter().all(|(own, _)| own != key));
    all.extend(span.attributes.iter().map(|(key, value)| (Cow::Borrowed(&**key), Value::of(value))));
    all
}

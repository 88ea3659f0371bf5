//! What is recorded of a call.

use std::borrow::Cow;
use std::time::Duration;

use super::{SpanId, TraceContext, TraceId};
use crate::context::Peer;
use crate::error_text::beginning;
use crate::status::Code;

/// The longest text of a status in a span, in bytes, and the longest name.
const MESSAGE_BYTES_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 256;

/// The side of a call that made a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpanKind {
    /// The server that ran the call.
    Server,
    /// The client that made it.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttributeValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> AttributeValue {
        AttributeValue::Text(Cow::Borrowed(text))
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> AttributeValue {
        AttributeValue::Text(Cow::Owned(text))
    }
}

impl From<i64> for AttributeValue {
    fn from(number: i64) -> AttributeValue {
        AttributeValue::Int(number)
    }
}

impl From<i32> for AttributeValue {
    fn from(number: i32) -> AttributeValue {
        AttributeValue::Int(number.into())
    }
}

impl From<u32> for AttributeValue {
    fn from(number: u32) -> AttributeValue {
        AttributeValue::Int(number.into())
    }
}

/// A number above the largest `i64` becomes that.
impl From<u64> for AttributeValue {
    fn from(number: u64) -> AttributeValue {
        AttributeValue::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A number above the largest `i64` becomes that.
impl From<usize> for AttributeValue {
    fn from(number: usize) -> AttributeValue {
        AttributeValue::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for AttributeValue {
    fn from(number: f64) -> AttributeValue {
        AttributeValue::Float(number)
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> AttributeValue {
        AttributeValue::Bool(value)
    }
}

/// Something that happened during a call, at a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanEvent {
    /// Nanoseconds since the Unix epoch.
    pub at_unix_ns: u64,
    /// What happened.
    pub name: Cow<'static, str>,
    /// Further values.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
}

impl SpanEvent {
    /// Creates an event without attributes.
    pub fn new(at_unix_ns: u64, name: impl Into<Cow<'static, str>>) -> SpanEvent {
        SpanEvent { at_unix_ns, name: name.into(), attributes: Vec::new() }
    }
}

/// What is recorded of a call that has ended. Names and meanings of its attributes in an export are those of
/// OpenTelemetry's semantic conventions for RPC.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedSpan {
    /// Trace, span, `tracestate`, and whether the span was sampled. A span that was kept because its call was slow or
    /// has failed is not.
    pub context: TraceContext,
    /// The span that caused this one; `None` at the beginning of a trace.
    pub parent: Option<SpanId>,
    /// The parent belongs to another process: it came with the call.
    pub is_parent_remote: bool,
    /// The side.
    pub kind: SpanKind,
    /// `Service.Method`, or the route.
    pub name: Box<str>,
    /// The beginning, in nanoseconds since the Unix epoch: when the request was read, or the call was made.
    pub start_unix_ns: u64,
    /// From the beginning to the end.
    pub duration: Duration,
    /// Of a server: microseconds in the queue.
    pub queue_us: u32,
    /// Of a server: microseconds in the handler.
    pub handler_us: u32,
    /// How the call ended.
    pub code: Code,
    /// Where the call ended ([`EndPlace::name`](crate::interceptor::EndPlace::name)), of a server.
    pub end_place: &'static str,
    /// The protocol of the connection (`native`, `http`, …); empty if it is not known.
    pub protocol: &'static str,
    /// Bytes of the argument.
    pub request_bytes: u64,
    /// Bytes of the reply.
    pub reply_bytes: u64,
    /// The peer.
    pub peer: Option<Peer>,
    /// Of a client: the number of the attempt, from 0; more than 0 is a repetition.
    pub attempt: u32,
    /// The text of the status, if the call has failed.
    pub message: Option<Box<str>>,
    /// What the handler has noted.
    pub events: Vec<SpanEvent>,
    /// What the handler has set.
    pub attributes: Vec<(Cow<'static, str>, AttributeValue)>,
    /// Events that were dropped, because a span has at most 4 KiB.
    pub dropped_events: u32,
    /// Attributes that were dropped for the same reason.
    pub dropped_attributes: u32,
}

impl FinishedSpan {
    /// Creates the span of a call that began and ended at one moment, with status `ok` and nothing else; set the fields.
    pub fn new(context: TraceContext, kind: SpanKind, name: &str) -> FinishedSpan {
        FinishedSpan {
            context,
            parent: None,
            is_parent_remote: false,
            kind,
            name: beginning(name, NAME_BYTES_MAX).into(),
            start_unix_ns: 0,
            duration: Duration::ZERO,
            queue_us: 0,
            handler_us: 0,
            code: Code::Ok,
            end_place: "",
            protocol: "",
            request_bytes: 0,
            reply_bytes: 0,
            peer: None,
            attempt: 0,
            message: None,
            events: Vec::new(),
            attributes: Vec::new(),
            dropped_events: 0,
            dropped_attributes: 0,
        }
    }

    /// Sets the text of a failure: its first 512 bytes.
    pub(crate) fn set_message(&mut self, text: &str) {
        let text = beginning(text, MESSAGE_BYTES_MAX);
        self.message = (!text.is_empty()).then(|| text.into());
    }

    /// Returns the id of the trace.
    pub fn trace_id(&self) -> TraceId {
        self.context.trace_id
    }
}

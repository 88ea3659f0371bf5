//! Traces: the identity of a call among the calls that it belongs to, and what is recorded of it.
//!
//! A [`TraceContext`] travels with a call, in the metadata of every protocol that has some (`propagation`). What a
//! sampled call did is a [`FinishedSpan`], made when the call ends. A [`Tracer`] keeps finished spans in bounded queues,
//! one for each thread that makes them, until the export or the console takes them. Nothing here does I/O.

#[cfg_attr(
    not(all(feature = "server", feature = "client")),
    allow(dead_code, reason = "servers and clients use different parts")
)]
mod call;
#[cfg_attr(
    not(all(feature = "server", feature = "client")),
    allow(dead_code, reason = "servers and clients use different parts")
)]
pub(crate) mod propagation;
#[cfg_attr(
    not(all(feature = "server", feature = "client")),
    allow(dead_code, reason = "servers and clients use different parts")
)]
pub(crate) mod sampling;
mod span;
mod tracer;

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use crate::message::{Metadata, MetadataBuf};

pub use call::CallSpan;
#[allow(unused_imports, reason = "servers and clients use different parts")]
pub(crate) use call::{CallTrace, unix_ns};
pub use span::{AttributeValue, FinishedSpan, SpanEvent, SpanKind};
#[allow(unused_imports, reason = "neither a server nor a client")]
pub(crate) use tracer::TraceEvent;
pub use tracer::{SpanWriter, TraceStats, Tracer};

/// Identifies a trace: all calls that one request from outside has caused. 128 bits, not zero; printed as 32
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// Creates an id; `None` for zero, which is no id.
    pub fn new(bits: u128) -> Option<TraceId> {
        NonZeroU128::new(bits).map(TraceId)
    }

    /// Returns the bits.
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identifies a span of a trace. 64 bits, not zero; printed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// Creates an id; `None` for zero, which is no id.
    pub fn new(bits: u64) -> Option<SpanId> {
        NonZeroU64::new(bits).map(SpanId)
    }

    /// Returns the bits.
    pub fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The position of a call in a trace: what travels to the calls that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span of the call.
    pub span_id: SpanId,
    /// Whether the span is recorded; the calls that it makes are then recorded too.
    pub is_sampled: bool,
    /// The trace id is random (the flag of W3C Trace Context level 2): passed on as the caller has set it.
    pub is_random: bool,
    /// The caller's `tracestate`, which is passed on unchanged (W3C Trace Context section 3.3).
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Creates a context without `tracestate`.
    pub fn new(trace_id: TraceId, span_id: SpanId, is_sampled: bool) -> TraceContext {
        TraceContext { trace_id, span_id, is_sampled, is_random: false, state: None }
    }

    /// Reads the context of a caller from the metadata of its call: `traceparent` and `tracestate`, else `b3`, else
    /// `X-B3-*`. A broken header counts as absent. `None` if there is no context.
    pub fn extract(metadata: Metadata<'_>) -> Option<TraceContext> {
        propagation::receive(metadata).parent
    }

    /// Sets `traceparent` and `tracestate` in the metadata of a call, and `b3` if `sends_b3`, in place of others. If they
    /// do not fit beside the other entries, they are left out.
    pub fn inject(&self, metadata: &mut MetadataBuf, sends_b3: bool) {
        propagation::send(self, sends_b3, metadata);
    }
}

/// Writes the value of a `traceparent` (version 00).
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled) | u8::from(self.is_random) << 1;
        write!(f, "00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

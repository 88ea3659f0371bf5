//! Traces of a client's calls: which calls get spans, what is sent of the trace, and the span of each attempt.
//!
//! An attempt that repeats a call, or hedges it, has a span of its own: its siblings have the same parent. A call that a
//! traced call has made carries its context in its metadata (`nested.rs`), and so does one whose program has set
//! `traceparent` itself: that is the parent. Without the feature `trace`, `untraced.rs` is in the place of this file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::context::Peer;
use crate::message::MetadataBuf;
use crate::status::Code;
use crate::trace::sampling::{CallSampler, TraceIds};
use crate::trace::{FinishedSpan, SpanId, SpanKind, TraceContext, TraceEvent, Tracer, unix_ns};
use crate::wire::Scheme;

/// The tracer of a client.
pub(super) struct ClientTracing {
    tracer: Tracer,
    /// Callers are many threads; the lock is held for a few instructions.
    state: Mutex<(CallSampler, TraceIds)>,
}

impl ClientTracing {
    pub(super) fn new(tracer: &Tracer) -> ClientTracing {
        let sampler = CallSampler::new(tracer.config().sample_one_in);
        ClientTracing { tracer: tracer.clone(), state: Mutex::new((sampler, TraceIds::new())) }
    }

    fn with<R>(&self, part: impl FnOnce(&mut CallSampler, &mut TraceIds) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (sampler, ids) = &mut *state;
        part(sampler, ids)
    }
}

/// The trace of a call: nothing, if the call gets no spans.
#[derive(Default)]
pub(super) struct CallAttemptTrace(Option<Box<AttemptTrace>>);

/// The trace of a call, and the span of its current attempt.
struct AttemptTrace {
    tracing: Arc<ClientTracing>,
    /// The span of the attempt.
    context: TraceContext,
    parent: Option<SpanId>,
    attempt: u32,
    began: Instant,
    /// The span of the attempt is not written yet.
    is_open: bool,
    carries_metadata: bool,
    protocol: &'static str,
    peer: Option<Peer>,
}

/// The end of an attempt.
pub(super) struct AttemptSpan<'a> {
    pub(super) method: &'a str,
    /// The address of the client.
    pub(super) address: &'a str,
    pub(super) code: Code,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
}

impl CallAttemptTrace {
    /// Begins the trace of a call, if it gets spans: its parent is sampled, or it has none and is one of those that are
    /// sampled here.
    pub(super) fn begin(
        tracing: &Arc<ClientTracing>,
        scheme: Scheme,
        metadata: &mut Option<Arc<MetadataBuf>>,
    ) -> CallAttemptTrace {
        CallAttemptTrace(begin(tracing, scheme, metadata))
    }

    /// Begins an attempt, unless it is the first one, whose span has begun with the call. `attempt` counts from 0.
    #[inline]
    pub(super) fn begin_attempt(&mut self, attempt: usize, metadata: &mut Option<Arc<MetadataBuf>>) {
        if let Some(trace) = &mut self.0 {
            trace.begin_attempt(attempt, metadata);
        }
    }

    /// Returns the trace of a copy of the call, for one of its attempts: the spans are those of the copies from here on.
    pub(super) fn copy(
        &mut self,
        attempt: usize,
        metadata: &mut Option<Arc<MetadataBuf>>,
    ) -> CallAttemptTrace {
        let Some(own) = &mut self.0 else { return CallAttemptTrace(None) };
        own.is_open = false;
        let AttemptTrace { tracing, context, parent, .. } = &**own;
        let mut copy = Box::new(AttemptTrace {
            tracing: tracing.clone(),
            context: context.clone(),
            parent: *parent,
            ..**own
        });
        copy.begin_attempt(attempt, metadata);
        CallAttemptTrace(Some(copy))
    }

    /// Takes note of the peer that the attempt is sent to.
    #[inline]
    pub(super) fn set_peer(&mut self, peer: impl FnOnce() -> Peer) {
        if let Some(trace) = &mut self.0 {
            trace.peer = Some(peer());
        }
    }

    /// Returns whether the span of an attempt is to be written.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|trace| trace.is_open)
    }

    /// Writes the span of the attempt, which has ended. `message` is the text of a failure.
    pub(super) fn end_attempt(&mut self, ended: &AttemptSpan<'_>, message: impl FnOnce() -> String) {
        let Some(trace) = self.0.as_mut().filter(|trace| trace.is_open) else { return };
        trace.is_open = false;
        let mut span = FinishedSpan::new(trace.context.clone(), SpanKind::Client, ended.method);
        span.parent = trace.parent;
        span.start_unix_ns = unix_ns(trace.began);
        span.duration = trace.began.elapsed();
        span.code = ended.code;
        span.protocol = trace.protocol;
        span.request_bytes = ended.request_bytes as u64;
        span.reply_bytes = ended.reply_bytes as u64;
        span.peer = trace.peer;
        span.attempt = trace.attempt;
        if ended.code != Code::Ok {
            span.set_message(&message());
        }
        let address = crate::error_text::beginning(ended.address, 256).to_owned();
        span.attributes.push(("server.address".into(), address.into()));
        trace.tracing.tracer.client_writer().write(span);
    }
}

#[inline(never)]
fn begin(
    tracing: &Arc<ClientTracing>,
    scheme: Scheme,
    metadata: &mut Option<Arc<MetadataBuf>>,
) -> Option<Box<AttemptTrace>> {
    let parent = metadata.as_ref().and_then(|metadata| TraceContext::extract(metadata.view()));
    if parent.as_ref().is_some_and(|parent| !parent.is_sampled) {
        return None;
    }
    let (context, parent) = tracing.with(|sampler, ids| match parent {
        Some(parent) => {
            let span_id = parent.span_id;
            Some((TraceContext { span_id: ids.span_id(), ..parent }, Some(span_id)))
        }
        None => sampler.select().then(|| (TraceContext::new(ids.trace_id(), ids.span_id(), true), None)),
    })?;
    tracing.tracer.client_writer().count(TraceEvent::Sampled, 1);
    let trace = AttemptTrace {
        tracing: tracing.clone(),
        context,
        parent,
        attempt: 0,
        began: Instant::now(),
        is_open: true,
        carries_metadata: scheme.carries_metadata(),
        protocol: scheme.name(),
        peer: None,
    };
    trace.send(metadata);
    Some(Box::new(trace))
}

impl AttemptTrace {
    #[cold]
    fn begin_attempt(&mut self, attempt: usize, metadata: &mut Option<Arc<MetadataBuf>>) {
        self.attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        if self.is_open {
            return;
        }
        self.context.span_id = self.tracing.with(|_, ids| ids.span_id());
        self.began = Instant::now();
        self.is_open = true;
        self.peer = None;
        self.send(metadata);
    }

    /// Puts the context of the attempt into the metadata.
    fn send(&self, metadata: &mut Option<Arc<MetadataBuf>>) {
        if self.carries_metadata {
            let sends_b3 = self.tracing.tracer.config().send_b3;
            self.context.inject(Arc::make_mut(metadata.get_or_insert_default()), sends_b3);
        }
    }
}

impl fmt::Debug for CallAttemptTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallAttemptTrace").field(&self.0.as_ref().map(|trace| &trace.context)).finish()
    }
}

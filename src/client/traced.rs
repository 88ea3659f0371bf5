//! Traces of a client's calls: which calls get spans, what is sent of the trace, and the span of each attempt.
//!
//! An attempt that repeats a call, or hedges it, has a span of its own: its siblings have the same parent. A call that a
//! traced call has made carries its context in its metadata (`nested.rs`), and so does one whose program has set
//! `traceparent` itself: that is the parent. Without the feature `trace`, `untraced.rs` is in the place of this file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::call_slot::AttemptSpan;
use crate::context::Peer;
use crate::discovery::Target;
use crate::error_text::beginning;
use crate::message::MetadataBuf;
use crate::status::Code;
use crate::trace::sampling::{CallSampler, TraceIds};
use crate::trace::{FinishedSpan, SpanId, SpanKind, TraceContext, TraceEvent, Tracer, unix_ns};
use crate::wire::Scheme;

/// The most bytes of the address in a span.
const ADDRESS_BYTES_MAX: usize = 256;

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
        let (server, port) = server_of(ended.address);
        span.attributes.push(("server.address".into(), server.into()));
        span.attributes.extend(port.map(|port| ("server.port".into(), u32::from(port).into())));
        trace.tracing.tracer.client_writer().write(span);
    }
}

/// Returns host and port of a client's address; of a Unix socket, its path; of the URL of a resolver, the URL without
/// parameters and user information, which may be secrets.
fn server_of(address: &str) -> (String, Option<u16>) {
    let (_, plain) = Scheme::split(address);
    let host_and_port = || {
        let (host, port) = plain.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some((host.to_owned(), Some(port.parse().ok()?)))
    };
    let bounded = |text: &str| beginning(text, ADDRESS_BYTES_MAX).to_owned();
    if let Some(path) = plain.strip_prefix("unix:") {
        return (bounded(path), None);
    }
    if plain.starts_with("memory:") {
        return (bounded(plain), None);
    }
    if Target::scheme_of(plain).is_none() {
        return host_and_port().unwrap_or_else(|| (bounded(plain), None));
    }
    let url = plain.split('?').next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            (bounded(&format!("{scheme}://{host}{path}")), None)
        }
        None => (bounded(url), None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_server_has_no_secrets() {
        for (address, server, port) in [
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("http:shop.example:8080", "shop.example", Some(8080)),
            ("[::1]:6550", "::1", Some(6550)),
            ("gob:unix:/run/a:1", "/run/a:1", None),
            ("memory:7", "memory:7", None),
            ("static:a:1,b:2", "static:a:1,b:2", None),
            ("consul://me:hidden@h:8500/shop?token=hidden", "consul://h:8500/shop", None),
            ("dns://h", "dns://h", None),
        ] {
            assert_eq!(server_of(address), (server.to_owned(), port), "{address}");
        }
        assert_eq!(server_of(&format!("static:{}", "x".repeat(1000))).0.len(), ADDRESS_BYTES_MAX);
    }
}

//! Traces of a server's calls: which calls get a span, and the span of a call that ends.
//!
//! A call that is sampled, or whose caller has sent trace headers, has a [`CallTrace`] attached, like what interceptors
//! attach; all others have nothing, and cost a countdown. Every span is made in [`CallTracing::end`], which the function
//! calls in which all calls end. Without the feature `trace`, `untraced.rs` is in the place of this file.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::end::EndedSpan;
use crate::config::TraceConfig;
use crate::extensions::{CallExtensions, Extensions};
use crate::message::{Metadata, SendBody};
use crate::service::interceptor::EndPlace;
use crate::stats::micros;
use crate::status::Code;
pub(super) use crate::trace::CallTrace;
use crate::trace::propagation::{self, ReceivedTrace};
use crate::trace::sampling::{CallSampler, KeepBudget, TraceIds};
use crate::trace::{
    AttributeValue, FinishedSpan, SpanKind, SpanWriter, TraceContext, TraceEvent, Tracer, unix_ns,
};

/// Why a call has a [`CallTrace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TraceStart {
    /// It is one of those that are sampled here.
    Sampled,
    /// Its caller has sent trace headers.
    Headers,
}

type Attribute = (Cow<'static, str>, AttributeValue);

/// The traces of the calls of one reactor.
pub(in crate::server) struct CallTracing(Option<Box<ReactorTracing>>);

struct ReactorTracing {
    writer: SpanWriter,
    ids: TraceIds,
    sampler: CallSampler,
    budget: KeepBudget,
    /// Calls that take so long are kept.
    slow: Option<Duration>,
    keeps_denied: bool,
    sends_b3: bool,
}

impl CallTracing {
    /// Creates what the reactor of a server with this tracer needs; without one, no call is traced.
    pub(in crate::server) fn new(tracer: Option<&Tracer>) -> CallTracing {
        let mut tracing = CallTracing(tracer.map(|tracer| {
            Box::new(ReactorTracing {
                writer: tracer.writer(),
                ids: TraceIds::new(),
                sampler: CallSampler::new(0),
                budget: KeepBudget::new(0),
                slow: None,
                keeps_denied: false,
                sends_b3: tracer.config().send_b3,
            })
        }));
        if let Some(tracer) = tracer {
            tracing.configure(tracer.config());
        }
        tracing
    }

    /// Takes over which calls are sampled and kept.
    pub(super) fn configure(&mut self, config: &TraceConfig) {
        let Some(tracing) = &mut self.0 else { return };
        tracing.sampler = CallSampler::new(config.sample_one_in);
        tracing.budget = KeepBudget::new(config.kept_per_second_max);
        tracing.slow = (config.slow_ms > 0).then(|| Duration::from_millis(config.slow_ms));
        tracing.keeps_denied = config.always_keep_unsampled;
    }

    /// Returns whether calls are traced.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Decides whether a call with these metadata gets a [`CallTrace`]. Asked once for each call.
    #[inline]
    pub(super) fn look(&mut self, metadata: &[u8]) -> Option<TraceStart> {
        let tracing = self.0.as_mut()?;
        if !metadata.is_empty() && has_headers(metadata) {
            return Some(TraceStart::Headers);
        }
        tracing.sampler.select().then_some(TraceStart::Sampled)
    }

    /// Begins the trace of a call that has arrived at that time.
    #[inline(never)]
    pub(super) fn begin(
        &mut self,
        start: TraceStart,
        metadata: Metadata<'_>,
        arrived: Instant,
    ) -> Option<CallTrace> {
        self.0.as_mut()?.begin(start, metadata, arrived)
    }

    /// Makes the span of a call that ends, if it is sampled, or is to be kept.
    #[inline(never)]
    pub(super) fn end(&mut self, ended: &EndedSpan<'_>, extensions: Option<&CallExtensions>) {
        let Some(tracing) = &mut self.0 else { return };
        let extensions = Extensions::of(extensions);
        let trace = extensions.get::<CallTrace>();
        if trace.is_some_and(|trace| trace.context.is_sampled) || tracing.keeps(ended, trace) {
            let principal = extensions.principal().map(|name| ("enduser.id".into(), name.to_owned().into()));
            tracing.write(ended, trace, principal);
        }
    }

    /// Takes note of inline calls of a method that were timed together. If that took long, one of them was slow: which one
    /// is not known, so one span stands for all.
    #[inline]
    pub(super) fn end_group(&mut self, name: &str, calls: u32, began: Instant, now: Instant) {
        let Some(tracing) = &mut self.0 else { return };
        let took = now.saturating_duration_since(began);
        if tracing.slow.is_some_and(|slow| took >= slow) {
            tracing.end_slow_group(name, calls, took);
        }
    }
}

#[cold]
fn has_headers(metadata: &[u8]) -> bool {
    propagation::has_any(Metadata::checked_before(metadata))
}

impl ReactorTracing {
    fn begin(&mut self, start: TraceStart, metadata: Metadata<'_>, arrived: Instant) -> Option<CallTrace> {
        let received = match start {
            TraceStart::Sampled => ReceivedTrace { decision: Some(true), ..ReceivedTrace::default() },
            TraceStart::Headers => propagation::receive(metadata),
        };
        let ReceivedTrace { parent, decision, broken, is_conflicting, is_baggage_dropped } = received;
        let counts = [
            (TraceEvent::BrokenHeader, u64::from(broken)),
            (TraceEvent::ConflictingHeaders, u64::from(is_conflicting)),
            (TraceEvent::BaggageDropped, u64::from(is_baggage_dropped)),
        ];
        counts.iter().filter(|(_, number)| *number > 0).for_each(|(event, number)| {
            self.writer.count(*event, *number);
        });
        let is_sampled = decision.unwrap_or_else(|| self.sampler.select());
        if !is_sampled && parent.is_none() && decision.is_none() {
            return None;
        }
        if is_sampled {
            self.writer.count(TraceEvent::Sampled, 1);
        }
        let mut context = match &parent {
            Some(parent) => TraceContext { span_id: self.ids.span_id(), ..parent.clone() },
            None => self.root(),
        };
        context.is_sampled = is_sampled;
        let mut trace = CallTrace::new(context, arrived);
        trace.parent = parent.map(|parent| parent.span_id);
        trace.is_denied = decision == Some(false);
        trace.sends_b3 = self.sends_b3;
        Some(trace)
    }

    /// Returns the context of a call that begins a trace.
    fn root(&mut self) -> TraceContext {
        TraceContext::new(self.ids.trace_id(), self.ids.span_id(), false)
    }

    /// Decides whether a call that was not sampled is kept.
    #[inline]
    fn keeps(&mut self, ended: &EndedSpan<'_>, trace: Option<&CallTrace>) -> bool {
        let took = Duration::from_micros(u64::from(ended.queue_us) + u64::from(ended.handler_us));
        let is_slow = self.slow.is_some_and(|slow| took >= slow);
        if ended.code == Code::Ok && !is_slow {
            return false;
        }
        let is_denied = trace.is_some_and(|trace| trace.is_denied) && !self.keeps_denied;
        !is_denied && self.takes(ended.code != Code::Ok)
    }

    /// Takes one call out of the budget.
    #[cold]
    fn takes(&mut self, is_failed: bool) -> bool {
        let may_keep = self.budget.take(Instant::now());
        let event = match (may_keep, is_failed) {
            (false, _) => TraceEvent::OverBudget,
            (true, true) => TraceEvent::KeptFailed,
            (true, false) => TraceEvent::KeptSlow,
        };
        self.writer.count(event, 1);
        may_keep
    }

    #[cold]
    fn end_slow_group(&mut self, name: &str, calls: u32, took: Duration) {
        if !self.takes(false) {
            return;
        }
        let ended = EndedSpan {
            name,
            peer: None,
            protocol: "",
            place: EndPlace::Inline,
            code: Code::Ok,
            queue_us: 0,
            handler_us: micros(took),
            request_bytes: 0,
            reply_bytes: 0,
            body: &SendBody::Bytes(&[]),
        };
        let calls = (calls > 1).then(|| ("coreloop.calls_timed_together".into(), calls.into()));
        self.write(&ended, None, calls);
    }

    #[inline(never)]
    fn write(&mut self, ended: &EndedSpan<'_>, trace: Option<&CallTrace>, attribute: Option<Attribute>) {
        let EndedSpan { queue_us, handler_us, code, .. } = *ended;
        let now = Instant::now();
        let in_server = Duration::from_micros(u64::from(queue_us) + u64::from(handler_us));
        let arrived = trace.map_or_else(|| now.checked_sub(in_server), |trace| Some(trace.arrived));
        let arrived = arrived.unwrap_or(now);
        let context = trace.map_or_else(|| self.root(), |trace| trace.context.clone());
        let name = if ended.name.is_empty() { "unknown method" } else { ended.name };
        let mut span = FinishedSpan::new(context, SpanKind::Server, name);
        span.parent = trace.and_then(|trace| trace.parent);
        span.is_parent_remote = span.parent.is_some();
        span.start_unix_ns = unix_ns(arrived);
        span.duration = now.saturating_duration_since(arrived);
        (span.queue_us, span.handler_us, span.code) = (queue_us, handler_us, code);
        span.end_place = ended.place.name();
        span.protocol = ended.protocol;
        span.request_bytes = ended.request_bytes as u64;
        span.reply_bytes = ended.reply_bytes as u64;
        span.peer = ended.peer;
        if code != Code::Ok {
            let text = match ended.body {
                SendBody::Bytes(bytes) => bytes,
                SendBody::Chunk(chunk) => &chunk[..],
            };
            span.set_message(&String::from_utf8_lossy(text));
        }
        if let Some(trace) = trace {
            trace.finish(&mut span);
        }
        span.attributes.extend(attribute);
        self.writer.write(span);
    }
}

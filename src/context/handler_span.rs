//! The span of the `tracing` crate that a handler runs in, with the feature `tracing`; without it, nothing.
//!
//! What handlers log with `tracing`, or start with its `Instrument`, belongs to that span: its fields are the method and, of a
//! call that has a trace, the ids of trace and span. With no subscriber for it the span costs the reading of one atomic.

use std::sync::Arc;

use crate::extensions::CallExtensions;

/// The span of one call.
pub(crate) struct HandlerSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl HandlerSpan {
    /// Creates the span of a call of that method, with what is attached to the call.
    #[inline(always)]
    pub(crate) fn new(method: &str, extensions: Option<&Arc<CallExtensions>>) -> HandlerSpan {
        #[cfg(feature = "tracing")]
        {
            let span = tracing::info_span!(
                target: "coreloop",
                "call",
                method,
                trace_id = tracing::field::Empty,
                span_id = tracing::field::Empty,
            );
            if !span.is_disabled() {
                record_ids(&span, extensions);
            }
            HandlerSpan { span }
        }
        #[cfg(not(feature = "tracing"))]
        {
            let _ = (method, extensions);
            HandlerSpan {}
        }
    }

    /// Runs a part of the handler inside the span.
    #[inline(always)]
    pub(crate) fn in_scope<R>(&self, part: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tracing")]
        let _entered = self.span.enter();
        part()
    }
}

#[cfg(feature = "tracing")]
fn record_ids(span: &tracing::Span, extensions: Option<&Arc<CallExtensions>>) {
    use crate::extensions::Extensions;
    use crate::trace::CallTrace;

    let extensions = Extensions::of(extensions.map(|extensions| &**extensions));
    if let Some(trace) = extensions.get::<CallTrace>() {
        span.record("trace_id", tracing::field::display(trace.context.trace_id));
        span.record("span_id", tracing::field::display(trace.context.span_id));
    }
}

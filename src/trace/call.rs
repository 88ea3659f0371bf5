//! The trace of one call of a server while it runs, and its handler's access to it.
//!
//! The state is attached to the call like what interceptors attach, so a call without it costs nothing. Handlers run on
//! other threads than the reactor that ends the call: what they note is behind a lock, which only calls that are recorded
//! have use for.

use std::borrow::Cow;
use std::fmt;
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{AttributeValue, FinishedSpan, SpanEvent, SpanId, TraceContext};
use crate::context::{Context, OwnedContext};
use crate::error_text::beginning;

/// The most bytes of a name, a key or a text of an event or an attribute: more is cut off.
const TEXT_BYTES_MAX: usize = 256;
/// The most bytes of all events and attributes of a span: what exceeds them is dropped and counted. With the other fields
/// a span has at most 4 KiB.
const NOTES_BYTES_MAX: usize = 2048;

/// The trace of a call.
pub(crate) struct CallTrace {
    /// The call's own span. It is sampled if the span is recorded.
    pub(crate) context: TraceContext,
    /// The caller's span.
    pub(crate) parent: Option<SpanId>,
    /// The caller has decided against a span.
    pub(crate) is_denied: bool,
    /// When the call has arrived.
    pub(crate) arrived: Instant,
    /// Nested calls send `b3` too.
    pub(crate) sends_b3: bool,
    notes: Mutex<SpanNotes>,
}

/// What the handler has noted.
#[derive(Default)]
struct SpanNotes {
    /// Their times are since the arrival of the call, until the span is finished.
    events: Vec<SpanEvent>,
    attributes: Vec<(Cow<'static, str>, AttributeValue)>,
    bytes: usize,
    dropped_events: u32,
    dropped_attributes: u32,
}

impl SpanNotes {
    /// Takes room for that many bytes more. Returns false if there is none.
    fn take_room(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= NOTES_BYTES_MAX;
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl CallTrace {
    pub(crate) fn new(context: TraceContext, arrived: Instant) -> CallTrace {
        CallTrace {
            context,
            parent: None,
            is_denied: false,
            arrived,
            sends_b3: false,
            notes: Mutex::default(),
        }
    }

    /// Moves what the handler has noted into the span of the call, which ends. The span has its times.
    pub(crate) fn finish(&self, span: &mut FinishedSpan) {
        let notes = std::mem::take(&mut *self.notes());
        let SpanNotes { mut events, mut attributes, bytes: _, dropped_events, dropped_attributes } = notes;
        let duration_ns = nanos(span.duration);
        for event in &mut events {
            // Relative to the begin of the span, since the clock of the system may be set meanwhile.
            event.at_unix_ns = span.start_unix_ns.saturating_add(event.at_unix_ns.min(duration_ns));
        }
        // Nothing is noted from here on.
        self.notes().bytes = NOTES_BYTES_MAX;
        events.shrink_to_fit();
        attributes.shrink_to_fit();
        (span.events, span.attributes) = (events, attributes);
        (span.dropped_events, span.dropped_attributes) = (dropped_events, dropped_attributes);
    }

    fn notes(&self) -> MutexGuard<'_, SpanNotes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CallTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallTrace({})", self.context)
    }
}

/// Returns the nanoseconds since the Unix epoch of a time on the monotonic clock.
pub(crate) fn unix_ns(at: Instant) -> u64 {
    let ago = Instant::now().saturating_duration_since(at);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    nanos(now.saturating_sub(ago))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the first [`TEXT_BYTES_MAX`] bytes of a text.
fn bounded(text: Cow<'static, str>) -> Cow<'static, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(beginning(text, TEXT_BYTES_MAX)),
        Cow::Owned(mut text) => {
            text.truncate(beginning(&text, TEXT_BYTES_MAX).len());
            text.shrink_to_fit();
            Cow::Owned(text)
        }
    }
}

/// The span of a call, for its handler: notes events and attributes. Without a recorded span it does nothing.
///
/// ```
/// use coreloop::{Context, Server, Status};
///
/// struct Shop;
///
/// #[coreloop::service]
/// impl Shop {
///     fn price(&self, cx: &Context, count: u32) -> Result<u64, Status> {
///         cx.span().attribute("shop.count", count);
///         cx.span().event("price list read");
///         Ok(40 * u64::from(count))
///     }
/// }
/// # let _ = Server::builder().service(Shop);
/// ```
#[derive(Clone, Copy)]
pub struct CallSpan<'a> {
    /// `None`: the span is not recorded.
    trace: Option<&'a CallTrace>,
}

impl<'a> CallSpan<'a> {
    fn of(trace: Option<&'a CallTrace>) -> CallSpan<'a> {
        CallSpan { trace: trace.filter(|trace| trace.context.is_sampled) }
    }

    /// Returns whether the span is recorded: costly texts need not be made otherwise.
    pub fn is_recorded(&self) -> bool {
        self.trace.is_some()
    }

    /// Returns the position of the call in its trace; `None` if the span is not recorded.
    pub fn context(&self) -> Option<&'a TraceContext> {
        self.trace.map(|trace| &trace.context)
    }

    /// Notes that something has happened, now. A span holds 2 KiB of events and attributes, with names and texts of up to
    /// 256 bytes; what does not fit is dropped and counted ([`FinishedSpan::dropped_events`]).
    pub fn event(&self, name: impl Into<Cow<'static, str>>) {
        let Some(trace) = self.trace else { return };
        let name = bounded(name.into());
        let at_unix_ns = nanos(trace.arrived.elapsed());
        let mut notes = trace.notes();
        if notes.take_room(size_of::<SpanEvent>() + name.len()) {
            notes.events.push(SpanEvent::new(at_unix_ns, name));
        } else {
            notes.dropped_events = notes.dropped_events.saturating_add(1);
        }
    }

    /// Sets an attribute, in place of one with the same key.
    pub fn attribute(&self, key: impl Into<Cow<'static, str>>, value: impl Into<AttributeValue>) {
        let Some(trace) = self.trace else { return };
        let (key, value) = (bounded(key.into()), value.into());
        let value = match value {
            AttributeValue::Text(text) => AttributeValue::Text(bounded(text)),
            other => other,
        };
        let text_bytes = match &value {
            AttributeValue::Text(text) => text.len(),
            _ => 0,
        };
        let entry_bytes = size_of::<(Cow<'static, str>, AttributeValue)>();
        let mut notes = trace.notes();
        // An attribute that is replaced keeps its room: a loop that sets one attribute runs out of it.
        if notes.take_room(entry_bytes + key.len() + text_bytes) {
            notes.attributes.retain(|(other, _)| *other != key);
            notes.attributes.push((key, value));
        } else {
            notes.dropped_attributes = notes.dropped_attributes.saturating_add(1);
        }
    }
}

impl fmt::Debug for CallSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSpan").field("context", &self.context()).finish()
    }
}

impl Context<'_> {
    /// Returns the call's span, for events and attributes (feature `trace`). If the call is not sampled, it does nothing.
    pub fn span(&self) -> CallSpan<'_> {
        CallSpan::of(self.extensions().get())
    }

    /// Returns the call's trace.
    #[cfg(feature = "client")]
    pub(crate) fn call_trace(&self) -> Option<&CallTrace> {
        self.extensions().get()
    }
}

impl OwnedContext {
    /// Returns the call's span, for events and attributes (feature `trace`). If the call is not sampled, or has ended, it
    /// does nothing.
    pub fn span(&self) -> CallSpan<'_> {
        CallSpan::of(self.extensions().get())
    }

    /// Returns the call's trace.
    #[cfg(feature = "client")]
    pub(crate) fn call_trace(&self) -> Option<&CallTrace> {
        self.extensions().get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanKind, TraceId};

    fn trace(is_sampled: bool) -> CallTrace {
        let context = TraceContext::new(TraceId::new(1).unwrap(), SpanId::new(2).unwrap(), is_sampled);
        CallTrace::new(context, Instant::now())
    }

    fn finished(trace: &CallTrace) -> FinishedSpan {
        let mut span = FinishedSpan::new(trace.context.clone(), SpanKind::Server, "A.B");
        trace.finish(&mut span);
        span
    }

    #[test]
    fn events_and_attributes_are_bounded_and_the_rest_is_counted() {
        let trace = trace(true);
        let span = CallSpan::of(Some(&trace));
        assert!(span.is_recorded());
        span.attribute("n", 1_i64);
        span.attribute("n", 2_i64);
        span.event("é".repeat(500));
        for n in 0..1000 {
            span.event(format!("event {n}"));
            span.attribute(format!("key {n}"), "x".repeat(1000));
        }
        let span = finished(&trace);
        assert_eq!(span.attributes[0], ("n".into(), AttributeValue::Int(2)));
        assert!(span.events[0].name.len() <= TEXT_BYTES_MAX, "{}", span.events[0].name.len());
        assert!(span.events.len() > 5 && span.attributes.len() > 2);
        let noted = 2003;
        let kept = span.events.len() + span.attributes.len() + 1;
        assert_eq!(kept + (span.dropped_events + span.dropped_attributes) as usize, noted);
        assert_eq!(span.dropped_events as usize, 1001 - span.events.len());
        let bytes = span.events.iter().map(|event| size_of::<SpanEvent>() + event.name.len()).sum::<usize>();
        assert!(bytes <= NOTES_BYTES_MAX);
    }

    #[test]
    fn events_are_between_the_begin_and_the_end_of_their_span() {
        let trace = trace(true);
        let span = CallSpan::of(Some(&trace));
        span.event("first");
        span.event("second");
        let mut finished = FinishedSpan::new(trace.context.clone(), SpanKind::Server, "A.B");
        (finished.start_unix_ns, finished.duration) = (1_000_000_007, Duration::from_nanos(1));
        trace.finish(&mut finished);
        let times: Vec<u64> = finished.events.iter().map(|event| event.at_unix_ns).collect();
        assert!(times.iter().all(|at| (1_000_000_007..=1_000_000_008).contains(at)), "{times:?}");
        assert!(times[0] <= times[1]);
    }

    #[test]
    fn nothing_is_noted_without_a_span_or_after_its_end() {
        let not_sampled = trace(false);
        let span = CallSpan::of(Some(&not_sampled));
        span.event("x");
        assert!(!span.is_recorded() && span.context().is_none());
        assert!(finished(&not_sampled).events.is_empty());
        CallSpan::of(None).attribute("x", true);
        let ended = trace(true);
        finished(&ended);
        CallSpan::of(Some(&ended)).event("late");
        assert!(ended.notes().events.is_empty());
    }
}

//! Keeps finished spans until they are exported, and the latest ones for people to look at.
//!
//! Each thread that makes spans writes through a [`SpanWriter`] of its own, and never waits: what does not fit is dropped
//! and counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::FinishedSpan;
use crate::config::TraceConfig;

/// Collects the spans of a program. Clones are handles of the same tracer.
#[derive(Clone)]
pub struct Tracer {
    inner: Arc<TracerInner>,
}

struct TracerInner {
    config: TraceConfig,
    queues: Mutex<Vec<Arc<SpanQueue>>>,
    /// An exporter takes the spans: what it does not take in time is a loss.
    is_exported: Arc<AtomicBool>,
    /// What was counted by writers that are gone.
    past: Mutex<TraceStats>,
    /// The writer of all clients.
    clients: OnceLock<SpanWriter>,
}

/// The spans of one thread.
struct SpanQueue {
    export: (Sender<Arc<FinishedSpan>>, Receiver<Arc<FinishedSpan>>),
    recent: Mutex<VecDeque<Arc<FinishedSpan>>>,
    recent_max: usize,
    dropped: AtomicU64,
    /// By [`TraceEvent`].
    counts: [AtomicU64; TraceEvent::COUNT],
    /// That of the tracer.
    is_exported: Arc<AtomicBool>,
}

/// What a tracer has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceStats {
    /// Spans that were made.
    pub spans: u64,
    /// Spans that were not exported because the export was behind.
    pub dropped: u64,
    /// Calls that were sampled, by their caller's decision or this side's.
    pub sampled: u64,
    /// Slow calls that were kept although they were not sampled.
    pub kept_slow: u64,
    /// Failed calls that were kept although they were not sampled.
    pub kept_failed: u64,
    /// Slow and failed calls that were not kept, because of `trace.kept_per_second_max`.
    pub over_budget: u64,
    /// Trace headers of callers that break a rule. They count as absent.
    pub broken_headers: u64,
    /// Calls whose trace headers contradict each other.
    pub conflicting_headers: u64,
    /// Calls whose baggage is too large. It is not passed on to nested calls.
    pub baggage_dropped: u64,
}

/// What a [`SpanWriter`] counts.
#[allow(dead_code, reason = "servers count more than clients")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceEvent {
    Span,
    Sampled,
    KeptSlow,
    KeptFailed,
    OverBudget,
    BrokenHeader,
    ConflictingHeaders,
    BaggageDropped,
}

impl TraceEvent {
    const COUNT: usize = 8;
}

impl TraceStats {
    fn add(&mut self, queue: &SpanQueue) {
        let count = |event: TraceEvent| queue.counts[event as usize].load(Ordering::Relaxed);
        self.spans += count(TraceEvent::Span);
        self.dropped += queue.dropped.load(Ordering::Relaxed);
        self.sampled += count(TraceEvent::Sampled);
        self.kept_slow += count(TraceEvent::KeptSlow);
        self.kept_failed += count(TraceEvent::KeptFailed);
        self.over_budget += count(TraceEvent::OverBudget);
        self.broken_headers += count(TraceEvent::BrokenHeader);
        self.conflicting_headers += count(TraceEvent::ConflictingHeaders);
        self.baggage_dropped += count(TraceEvent::BaggageDropped);
    }
}

impl Tracer {
    /// Creates a tracer without spans.
    pub fn new(config: &TraceConfig) -> Tracer {
        Tracer {
            inner: Arc::new(TracerInner {
                config: config.clone(),
                queues: Mutex::default(),
                is_exported: Arc::default(),
                past: Mutex::default(),
                clients: OnceLock::new(),
            }),
        }
    }

    /// Returns the settings.
    pub fn config(&self) -> &TraceConfig {
        &self.inner.config
    }

    /// Returns a writer for a thread that makes spans.
    pub fn writer(&self) -> SpanWriter {
        let spans_max = self.inner.config.ring_spans_max;
        let queue = Arc::new(SpanQueue {
            export: bounded(spans_max),
            recent: Mutex::default(),
            recent_max: spans_max,
            dropped: AtomicU64::new(0),
            counts: Default::default(),
            is_exported: self.inner.is_exported.clone(),
        });
        let mut queues = self.queues();
        // Those of servers that have ended, when all their spans are exported.
        queues.retain(|queue| {
            let is_kept = Arc::strong_count(queue) > 1 || !queue.export.1.is_empty();
            if !is_kept {
                self.past().add(queue);
            }
            is_kept
        });
        queues.push(queue.clone());
        SpanWriter { queue }
    }

    /// Returns the writer that all clients share.
    pub(crate) fn client_writer(&self) -> &SpanWriter {
        self.inner.clients.get_or_init(|| self.writer())
    }

    /// Takes finished spans for the export, at most `max`. From the first call on, spans that are not taken in time are
    /// counted as dropped.
    pub fn take(&self, max: usize) -> Vec<Arc<FinishedSpan>> {
        self.inner.is_exported.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        let mut queues = self.queues();
        // Another thread's spans are first each time: one that makes many does not hold back the others.
        if !queues.is_empty() {
            queues.rotate_left(1);
        }
        for queue in queues.iter() {
            taken.extend(queue.export.1.try_iter().take(max - taken.len()));
        }
        taken
    }

    /// Returns the latest spans of all threads, in no order. They stay.
    pub fn recent(&self) -> Vec<Arc<FinishedSpan>> {
        let mut spans = Vec::new();
        for queue in self.queues().iter() {
            spans.extend(queue.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        spans
    }

    /// Returns what was counted.
    pub fn stats(&self) -> TraceStats {
        let queues = self.queues();
        let mut stats = *self.past();
        queues.iter().for_each(|queue| stats.add(queue));
        stats
    }

    fn past(&self) -> std::sync::MutexGuard<'_, TraceStats> {
        self.inner.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Vec<Arc<SpanQueue>>> {
        self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Writes the spans of one thread.
pub struct SpanWriter {
    queue: Arc<SpanQueue>,
}

impl SpanWriter {
    /// Keeps a span. Never waits.
    pub fn write(&self, span: FinishedSpan) {
        let span = Arc::new(span);
        let queue = &self.queue;
        self.count(TraceEvent::Span, 1);
        // A reader that has the lock copies handles; this span is missing among the latest then.
        if let Ok(mut recent) = queue.recent.try_lock() {
            if recent.len() == queue.recent_max {
                recent.pop_front();
            }
            recent.push_back(span.clone());
        }
        if queue.is_exported.load(Ordering::Relaxed)
            && let Err(TrySendError::Full(_)) = queue.export.0.try_send(span)
        {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SpanWriter {
    /// Counts what has happened.
    pub(crate) fn count(&self, event: TraceEvent, number: u64) {
        self.queue.counts[event as usize].fetch_add(number, Ordering::Relaxed);
    }
}

impl fmt::Debug for SpanWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanWriter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanId, SpanKind, TraceContext, TraceId};

    fn span(id: u64) -> FinishedSpan {
        let context = TraceContext::new(TraceId::new(1).unwrap(), SpanId::new(id).unwrap(), true);
        FinishedSpan::new(context, SpanKind::Server, "A.B")
    }

    #[test]
    fn spans_are_taken_once_and_the_latest_stay() {
        let tracer = Tracer::new(&TraceConfig { ring_spans_max: 2, ..TraceConfig::default() });
        let writer = tracer.writer();
        assert!(tracer.take(10).is_empty());
        (1..=3).for_each(|id| writer.write(span(id)));
        let ids = |spans: Vec<Arc<FinishedSpan>>| -> Vec<u64> {
            spans.iter().map(|span| span.context.span_id.bits()).collect()
        };
        assert_eq!(ids(tracer.recent()), [2, 3]);
        assert_eq!(ids(tracer.take(1)), [1]);
        assert_eq!(ids(tracer.take(10)), [2]);
        assert!(tracer.take(10).is_empty());
        assert_eq!(tracer.stats(), TraceStats { spans: 3, dropped: 1, ..TraceStats::default() });
        assert_eq!(ids(tracer.recent()), [2, 3]);
    }

    #[test]
    fn an_export_takes_turns_and_includes_threads_that_come_later() {
        let tracer = Tracer::new(&TraceConfig { ring_spans_max: 8, ..TraceConfig::default() });
        assert!(tracer.take(10).is_empty());
        let writers = [tracer.writer(), tracer.writer()];
        for (id, writer) in (1..=4).flat_map(|id| [(id, &writers[0]), (id + 10, &writers[1])]) {
            writer.write(span(id));
        }
        let mut turns = [tracer.take(2), tracer.take(2)].map(|spans| spans[0].context.span_id.bits());
        turns.sort_unstable();
        assert_eq!(turns, [1, 11]);
        assert_eq!(tracer.take(10).len(), 4);
    }

    #[test]
    fn without_an_export_nothing_counts_as_dropped() {
        let tracer = Tracer::new(&TraceConfig { ring_spans_max: 2, ..TraceConfig::default() });
        let writer = tracer.writer();
        (1..=5).for_each(|id| writer.write(span(id)));
        assert_eq!(tracer.stats(), TraceStats { spans: 5, ..TraceStats::default() });
    }

    #[test]
    fn counts_of_writers_that_are_gone_stay_and_their_spans_are_exported() {
        let tracer = Tracer::new(&TraceConfig::default());
        let writer = tracer.writer();
        assert!(tracer.take(10).is_empty());
        writer.write(span(1));
        writer.count(TraceEvent::BrokenHeader, 2);
        drop(writer);
        drop(tracer.writer());
        assert_eq!(tracer.queues().len(), 2, "the first has a span that is not exported");
        assert_eq!(tracer.take(10).len(), 1);
        let _writer = tracer.writer();
        assert_eq!(tracer.queues().len(), 1);
        let expected = TraceStats { spans: 1, broken_headers: 2, ..TraceStats::default() };
        assert_eq!(tracer.stats(), expected);
    }
}

//! Keeps finished spans until they are exported, and the latest ones for people to look at.
//!
//! Each thread that makes spans writes through a [`SpanWriter`] of its own, and never waits: what does not fit is dropped
//! and counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
}

/// The spans of one thread.
struct SpanQueue {
    export: (Sender<Arc<FinishedSpan>>, Receiver<Arc<FinishedSpan>>),
    recent: Mutex<VecDeque<Arc<FinishedSpan>>>,
    recent_max: usize,
    written: AtomicU64,
    dropped: AtomicU64,
    /// An exporter takes the spans: what it does not take in time is a loss.
    is_exported: AtomicU64,
}

/// What a tracer has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceStats {
    /// Spans that were made.
    pub spans: u64,
    /// Spans that were not exported because the export was behind.
    pub dropped: u64,
}

impl Tracer {
    /// Creates a tracer without spans.
    pub fn new(config: &TraceConfig) -> Tracer {
        Tracer { inner: Arc::new(TracerInner { config: config.clone(), queues: Mutex::default() }) }
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
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            is_exported: AtomicU64::new(0),
        });
        self.queues().push(queue.clone());
        SpanWriter { queue }
    }

    /// Takes finished spans for the export, at most `max`. From the first call on, spans that are not taken in time are
    /// counted as dropped.
    pub fn take(&self, max: usize) -> Vec<Arc<FinishedSpan>> {
        let mut taken = Vec::new();
        for queue in self.queues().iter() {
            queue.is_exported.store(1, Ordering::Relaxed);
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
        let mut stats = TraceStats::default();
        for queue in self.queues().iter() {
            stats.spans += queue.written.load(Ordering::Relaxed);
            stats.dropped += queue.dropped.load(Ordering::Relaxed);
        }
        stats
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
        queue.written.fetch_add(1, Ordering::Relaxed);
        // A reader that has the lock copies handles; this span is missing among the latest then.
        if let Ok(mut recent) = queue.recent.try_lock() {
            if recent.len() == queue.recent_max {
                recent.pop_front();
            }
            recent.push_back(span.clone());
        }
        if queue.is_exported.load(Ordering::Relaxed) != 0
            && let Err(TrySendError::Full(_)) = queue.export.0.try_send(span)
        {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
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
        assert_eq!(tracer.stats(), TraceStats { spans: 3, dropped: 1 });
        assert_eq!(ids(tracer.recent()), [2, 3]);
    }

    #[test]
    fn without_an_export_nothing_counts_as_dropped() {
        let tracer = Tracer::new(&TraceConfig { ring_spans_max: 2, ..TraceConfig::default() });
        let writer = tracer.writer();
        (1..=5).for_each(|id| writer.write(span(id)));
        assert_eq!(tracer.stats(), TraceStats { spans: 5, dropped: 0 });
    }
}

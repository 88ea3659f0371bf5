//! Where requests come from: the spans of a tracer, and families of metrics.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::counters::{ExportCounters, SignalCounters};
use super::environment::SignalSettings;
use super::points::{self, PointTimes};
use super::resource::Resource;
use super::sender::{BODY_BYTES_MAX, Batch, BatchSource};
use super::spans;
use super::writer::BodyFormat;
use crate::metrics::{MetricFamily, MetricSource};
use crate::trace::{FinishedSpan, Tracer};

/// The most spans of a request.
pub(super) const SPANS_MAX: usize = 512;
/// The least pause between two requests that are not full.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The spans of a tracer.
pub(super) struct SpanSource {
    tracer: Tracer,
    format: BodyFormat,
    resource: Resource,
    interval: Duration,
    /// Taken from the tracer, and larger together than a request may be.
    held: VecDeque<Arc<FinishedSpan>>,
    taken_at: Instant,
    pause: Duration,
}

impl SpanSource {
    pub(super) fn new(
        tracer: Tracer,
        settings: &SignalSettings,
        resource: Resource,
        now: Instant,
    ) -> SpanSource {
        let SignalSettings { format, interval, .. } = *settings;
        SpanSource {
            tracer,
            format,
            resource,
            interval,
            held: VecDeque::new(),
            taken_at: now,
            pause: interval,
        }
    }
}

impl BatchSource for SpanSource {
    const NAME: &'static str = "spans";

    fn counters(all: &ExportCounters) -> &SignalCounters {
        &all.spans
    }

    fn next(&mut self, now: Instant, _is_last: bool) -> Option<Batch> {
        let before = self.held.len();
        self.held.extend(self.tracer.take(SPANS_MAX - before));
        self.pause = pause(self.interval, now - self.taken_at, self.held.len() - before);
        self.taken_at = now;
        if self.held.is_empty() {
            return None;
        }
        let is_full = self.held.len() == SPANS_MAX;
        let (body, items) = spans::take_body(&mut self.held, &self.resource, self.format, BODY_BYTES_MAX);
        if is_full || !self.held.is_empty() {
            self.pause = Duration::ZERO;
        }
        Some(Batch { body, items })
    }

    fn pause(&self) -> Duration {
        self.pause
    }

    fn waiting(&self) -> u64 {
        self.held.len() as u64
    }

    fn give_up(&mut self) -> u64 {
        let mut lost = self.held.drain(..).count();
        loop {
            let spans = self.tracer.take(SPANS_MAX).len();
            lost += spans;
            if spans == 0 {
                return lost as u64;
            }
        }
    }
}

/// Returns the pause after which a request is expected to be full, at the rate of the last spans; at most the interval.
fn pause(interval: Duration, time: Duration, spans: usize) -> Duration {
    match spans {
        0 => interval,
        spans => time.mul_f64(SPANS_MAX as f64 / spans as f64).clamp(PAUSE_MIN.min(interval), interval),
    }
}

/// Families of metrics.
pub(super) struct PointSource {
    sources: Vec<Arc<dyn MetricSource>>,
    format: BodyFormat,
    resource: Resource,
    interval: Duration,
    start_unix_ns: u64,
    /// The requests of the last collection that are not sent.
    bodies: VecDeque<(Vec<u8>, u64)>,
    due: Instant,
    now: Instant,
    /// The last collection was made.
    is_over: bool,
}

impl PointSource {
    pub(super) fn new(
        sources: Vec<Arc<dyn MetricSource>>,
        settings: &SignalSettings,
        resource: Resource,
        now: Instant,
    ) -> PointSource {
        let SignalSettings { format, interval, .. } = *settings;
        PointSource {
            sources,
            format,
            resource,
            interval,
            start_unix_ns: unix_ns(),
            bodies: VecDeque::new(),
            due: now + interval,
            now,
            is_over: false,
        }
    }

    fn collect(&mut self) {
        // A source of the program's own may panic, which must not end the export.
        let collect = |source: &Arc<dyn MetricSource>| catch_unwind(AssertUnwindSafe(|| source.families()));
        let families: Vec<MetricFamily> =
            self.sources.iter().filter_map(|source| collect(source).ok()).flatten().collect();
        let times = PointTimes { start_unix_ns: self.start_unix_ns, unix_ns: unix_ns() };
        self.bodies =
            points::bodies(&families, times, &self.resource, self.format, BODY_BYTES_MAX / 2).into();
    }
}

impl BatchSource for PointSource {
    const NAME: &'static str = "metrics";

    fn counters(all: &ExportCounters) -> &SignalCounters {
        &all.metrics
    }

    fn next(&mut self, now: Instant, is_last: bool) -> Option<Batch> {
        self.now = now;
        // The numbers at the end are sent too, once.
        let is_final = is_last && !self.is_over;
        if self.bodies.is_empty() && (now >= self.due || is_final) {
            self.is_over |= is_final;
            self.due = now + self.interval;
            self.collect();
        }
        self.bodies.pop_front().map(|(body, items)| Batch { body, items })
    }

    fn pause(&self) -> Duration {
        if self.bodies.is_empty() { self.due.saturating_duration_since(self.now) } else { Duration::ZERO }
    }

    fn waiting(&self) -> u64 {
        self.bodies.iter().map(|(_, items)| items).sum()
    }

    fn give_up(&mut self) -> u64 {
        self.bodies.drain(..).map(|(_, items)| items).sum()
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_the_time_in_which_a_request_becomes_full() {
        let (interval, second) = (Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(pause(interval, second, 0), interval);
        assert_eq!(pause(interval, second, 100), interval);
        assert_eq!(pause(interval, second, 1024), second / 2);
        assert_eq!(pause(interval, second, 1 << 20), PAUSE_MIN);
        assert_eq!(pause(Duration::from_millis(5), second, 1 << 20), Duration::from_millis(5));
    }
}

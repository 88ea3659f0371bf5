//! What the export counts.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{MetricFamily, MetricKind, MetricSource, MetricValue};

/// The kinds of problems that are reported, each once.
const PROBLEMS_MAX: usize = 64;

/// What was exported of one signal, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignalStats {
    /// Spans, or samples of metrics, that the collector has accepted.
    pub exported: u64,
    /// Those that were given up: the collector refused them, or did not take them in time. Spans for which the tracer had no
    /// room are in [`TraceStats::dropped`](crate::trace::TraceStats::dropped).
    pub dropped: u64,
    /// Requests that were answered with success.
    pub requests_ok: u64,
    /// Requests that failed: no connection, no answer in time, or a status that is not success. Each try counts.
    pub requests_failed: u64,
    /// Spans, or samples, that wait in the exporter: in the request that is sent or tried again, or for the next one.
    pub waiting: u64,
}

/// What was exported, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStats {
    /// Spans.
    pub spans: SignalStats,
    /// Samples of metrics.
    pub metrics: SignalStats,
}

/// The counters of one signal. The export's thread writes them.
#[derive(Debug, Default)]
pub(super) struct SignalCounters {
    pub(super) exported: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) requests_ok: AtomicU64,
    pub(super) requests_failed: AtomicU64,
    pub(super) waiting: AtomicU64,
}

impl SignalCounters {
    fn stats(&self) -> SignalStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SignalStats {
            exported: read(&self.exported),
            dropped: read(&self.dropped),
            requests_ok: read(&self.requests_ok),
            requests_failed: read(&self.requests_failed),
            waiting: read(&self.waiting),
        }
    }
}

/// A function that receives a text for people.
type Report = Box<dyn Fn(&str) + Send + Sync>;

/// The counters of an export, and where its problems are reported.
#[derive(Default)]
pub(crate) struct ExportCounters {
    pub(super) spans: SignalCounters,
    pub(super) metrics: SignalCounters,
    report: Mutex<Option<Report>>,
    reported: Mutex<Vec<String>>,
}

impl ExportCounters {
    pub(super) fn stats(&self) -> ExportStats {
        ExportStats { spans: self.spans.stats(), metrics: self.metrics.stats() }
    }

    pub(super) fn set_report(&self, report: Report) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// Reports a problem, once for each kind.
    pub(super) fn problem(&self, kind: &str, text: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= PROBLEMS_MAX || reported.iter().any(|other| other == kind) {
            return;
        }
        reported.push(kind.to_owned());
        drop(reported);
        if let Some(report) = &*self.report.lock().unwrap_or_else(PoisonError::into_inner) {
            report(text);
        }
    }
}

impl MetricSource for ExportCounters {
    fn families(&self) -> Vec<MetricFamily> {
        let ExportStats { spans, metrics } = self.stats();
        let family = |name: &'static str, kind, help: &'static str, value: fn(&SignalStats) -> u64| {
            let family = MetricFamily::new(name, "", kind, help);
            [("spans", &spans), ("metrics", &metrics)].into_iter().fold(family, |family, (signal, stats)| {
                family.sample([("signal", signal.to_owned())], MetricValue::Count(value(stats)))
            })
        };
        let mut requests = MetricFamily::new(
            "coreloop_export_requests",
            "",
            MetricKind::Counter,
            "Requests to the collector, by their outcome; each try counts.",
        );
        for (signal, stats) in [("spans", &spans), ("metrics", &metrics)] {
            for (outcome, count) in [("ok", stats.requests_ok), ("failed", stats.requests_failed)] {
                let labels = [("signal", signal.to_owned()), ("outcome", outcome.to_owned())];
                requests = requests.sample(labels, MetricValue::Count(count));
            }
        }
        let counter = MetricKind::Counter;
        vec![
            family(
                "coreloop_export_items",
                counter,
                "Spans, and samples of metrics, that the collector has accepted.",
                |stats| stats.exported,
            ),
            family(
                "coreloop_export_dropped",
                counter,
                "Spans, and samples of metrics, that the exporter has given up.",
                |stats| stats.dropped,
            ),
            requests,
            family(
                "coreloop_export_waiting",
                MetricKind::Gauge,
                "Spans, and samples of metrics, that wait in the exporter.",
                |stats| stats.waiting,
            ),
        ]
    }
}

impl std::fmt::Debug for ExportCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportCounters").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

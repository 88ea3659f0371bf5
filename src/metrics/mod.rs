//! Metrics: families of samples with names and units by the Prometheus conventions, and where they come from.
//!
//! A source returns its families when it is asked; nothing is kept in between. A [`MetricSet`] merges the families of
//! several sources, and leaves out what is not valid. The `/metrics` page writes them as text ([`MetricsFormat`]), the OTLP
//! export as protobuf. The families of a server are made of counters that are always counted (`stats`), so that metrics cost
//! a call nothing.

mod buckets;
mod encode;
mod exemplars;
mod format;
mod merge;
mod number;
mod process;
mod recorders;
mod server;

use std::borrow::Cow;
use std::sync::Arc;

pub use buckets::DURATION_BOUNDS;
pub use exemplars::add_exemplars;
pub use format::MetricsFormat;
pub use merge::{MetricSet, SERIES_MAX};
pub use process::process_families;
pub use recorders::{CounterMetric, GaugeMetric, HistogramMetric};
#[cfg(feature = "log")]
pub(crate) use server::log_family;
pub use server::{server_families, trace_families};

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// A count of events that never falls. Its name has no `_total`; that is added where a format has it.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Constant labels, with the value 1. Its name has no `_info`.
    Info,
}

/// A recorded trace that belongs to a bucket of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The trace.
    pub trace_id: crate::trace::TraceId,
    /// The span.
    pub span_id: crate::trace::SpanId,
    /// The value, in the unit of the family.
    pub value: f64,
    /// When, in nanoseconds since the Unix epoch.
    pub at_unix_ns: u64,
}

/// Counts by size.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MetricHistogram {
    /// The upper bounds of the buckets, inclusive, rising, in the unit of the family. A last bucket without a bound
    /// follows.
    pub bounds: Cow<'static, [f64]>,
    /// The count of each bucket, not cumulative: one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
    /// At most one for each bucket, by its index.
    pub exemplars: Vec<(usize, Exemplar)>,
}

impl MetricHistogram {
    /// Creates a histogram without exemplars. `counts` has one count for each bucket, and one more for values above the
    /// last bound.
    pub fn new(bounds: impl Into<Cow<'static, [f64]>>, counts: Vec<u64>, sum: f64) -> MetricHistogram {
        MetricHistogram { bounds: bounds.into(), counts, sum, exemplars: Vec::new() }
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a counter or a gauge, exactly.
    Count(u64),
    /// Of a histogram.
    Histogram(MetricHistogram),
}

/// One series of a family, at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricSample {
    /// Names and values of the labels.
    pub labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The value.
    pub value: MetricValue,
}

impl MetricSample {
    /// Creates a sample.
    pub fn new(labels: impl IntoIterator<Item = (&'static str, String)>, value: MetricValue) -> MetricSample {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        MetricSample { labels, value }
    }
}

/// Samples with one name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricFamily {
    /// The name, as `coreloop_calls`; with its unit at the end, as `coreloop_handler_seconds`.
    pub name: Cow<'static, str>,
    /// What it counts, in one line.
    pub help: Cow<'static, str>,
    /// The unit: `seconds`, `bytes`, `ratio`; empty if it has none. The name ends with it.
    pub unit: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The series.
    pub samples: Vec<MetricSample>,
}

impl MetricFamily {
    /// Creates a family without samples.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        kind: MetricKind,
        help: impl Into<Cow<'static, str>>,
    ) -> MetricFamily {
        MetricFamily { name: name.into(), help: help.into(), unit, kind, samples: Vec::new() }
    }

    /// Adds a sample.
    pub fn sample(
        mut self,
        labels: impl IntoIterator<Item = (&'static str, String)>,
        value: MetricValue,
    ) -> MetricFamily {
        self.samples.push(MetricSample::new(labels, value));
        self
    }
}

/// Returns families when it is asked: what a program adds to the metrics of its server.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use coreloop::metrics::{MetricFamily, MetricKind, MetricSource, MetricValue};
///
/// static ORDERS: AtomicU64 = AtomicU64::new(0);
///
/// struct Orders;
///
/// impl MetricSource for Orders {
///     fn families(&self) -> Vec<MetricFamily> {
///         let count = MetricValue::Count(ORDERS.load(Ordering::Relaxed));
///         vec![MetricFamily::new("shop_orders", "", MetricKind::Counter, "Orders so far.").sample([], count)]
///     }
/// }
/// ```
pub trait MetricSource: Send + Sync {
    /// Returns the current families. Called from any thread, for each scrape.
    fn families(&self) -> Vec<MetricFamily>;
}

impl<S: MetricSource + ?Sized> MetricSource for Arc<S> {
    fn families(&self) -> Vec<MetricFamily> {
        (**self).families()
    }
}

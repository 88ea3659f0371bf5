//! Metrics of a program's own: a counter, a gauge and a histogram that any thread may write without a lock.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    DURATION_BOUNDS, MetricFamily, MetricHistogram, MetricKind, MetricSample, MetricSource, MetricValue,
};

/// Name, help and constant labels.
#[derive(Debug)]
struct MetricHead {
    name: Cow<'static, str>,
    unit: &'static str,
    help: Cow<'static, str>,
    labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl MetricHead {
    fn new(
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        help: impl Into<Cow<'static, str>>,
    ) -> MetricHead {
        MetricHead { name: name.into(), unit, help: help.into(), labels: Vec::new() }
    }

    fn family(&self, kind: MetricKind, value: MetricValue) -> Vec<MetricFamily> {
        let mut family = MetricFamily::new(self.name.clone(), self.unit, kind, self.help.clone());
        family.samples.push(MetricSample { labels: self.labels.clone(), value });
        vec![family]
    }
}

macro_rules! with_labels {
    ($type:ty) => {
        impl $type {
            /// Adds a constant label. Several metrics with one name and different labels are one family.
            pub fn label(
                mut self,
                name: impl Into<Cow<'static, str>>,
                value: impl Into<Cow<'static, str>>,
            ) -> Self {
                self.head.labels.push((name.into(), value.into()));
                self
            }
        }
    };
}

/// A count of events that never falls, written by any number of threads.
///
/// ```
/// use std::sync::Arc;
///
/// use coreloop::Server;
/// use coreloop::metrics::CounterMetric;
///
/// # fn main() -> Result<(), coreloop::Error> {
/// let gifts = Arc::new(CounterMetric::new("shop_orders", "Orders so far.").label("kind", "gift"));
/// let server = Server::in_memory().metrics(gifts.clone()).start()?;
/// gifts.add(1); // `shop_orders_total{kind="gift"} 1`
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CounterMetric {
    head: MetricHead,
    count: AtomicU64,
}

impl CounterMetric {
    /// Creates a counter at 0. The name has no `_total`.
    pub fn new(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> CounterMetric {
        CounterMetric { head: MetricHead::new(name, "", help), count: AtomicU64::new(0) }
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.count.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

with_labels!(CounterMetric);

impl MetricSource for CounterMetric {
    fn families(&self) -> Vec<MetricFamily> {
        self.head.family(MetricKind::Counter, MetricValue::Count(self.value()))
    }
}

/// A number that rises and falls, written by any number of threads.
#[derive(Debug)]
pub struct GaugeMetric {
    head: MetricHead,
    /// The bits of the float.
    bits: AtomicU64,
}

impl GaugeMetric {
    /// Creates a gauge at 0. The name ends with the unit, if it has one: `shop_stock_bytes` and `bytes`.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        help: impl Into<Cow<'static, str>>,
    ) -> GaugeMetric {
        GaugeMetric { head: MetricHead::new(name, unit, help), bits: AtomicU64::new(0f64.to_bits()) }
    }

    /// Sets the number.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to the number; a negative number subtracts.
    pub fn add(&self, value: f64) {
        add_float(&self.bits, value);
    }

    /// Returns the number.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}

with_labels!(GaugeMetric);

impl MetricSource for GaugeMetric {
    fn families(&self) -> Vec<MetricFamily> {
        self.head.family(MetricKind::Gauge, MetricValue::Number(self.value()))
    }
}

/// Counts values by size, written by any number of threads.
#[derive(Debug)]
pub struct HistogramMetric {
    head: MetricHead,
    bounds: Cow<'static, [f64]>,
    counts: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
}

impl HistogramMetric {
    /// Creates an empty histogram. The bounds are the inclusive upper ends of the buckets, rising; values above the last are
    /// counted in one more bucket.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        help: impl Into<Cow<'static, str>>,
        bounds: impl Into<Cow<'static, [f64]>>,
    ) -> HistogramMetric {
        let bounds = bounds.into();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        HistogramMetric {
            head: MetricHead::new(name, unit, help),
            bounds,
            counts,
            sum_bits: AtomicU64::new(0),
        }
    }

    /// Creates an empty histogram of seconds, with the buckets of the server's own ([`DURATION_BOUNDS`]). The name ends with
    /// `_seconds`.
    pub fn durations(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> HistogramMetric {
        HistogramMetric::new(name, "seconds", help, DURATION_BOUNDS)
    }

    /// Counts a value. One that is no number is ignored.
    pub fn record(&self, value: f64) {
        if !value.is_nan() {
            let bucket = self.bounds.partition_point(|bound| *bound < value);
            self.counts[bucket].fetch_add(1, Ordering::Relaxed);
            add_float(&self.sum_bits, value);
        }
    }
}

with_labels!(HistogramMetric);

impl MetricSource for HistogramMetric {
    fn families(&self) -> Vec<MetricFamily> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = f64::from_bits(self.sum_bits.load(Ordering::Relaxed));
        let histogram = MetricHistogram::new(self.bounds.clone(), counts, sum);
        self.head.family(MetricKind::Histogram, MetricValue::Histogram(histogram))
    }
}

fn add_float(bits: &AtomicU64, value: f64) {
    let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{MetricSet, MetricsFormat};

    #[test]
    fn nothing_is_lost_between_threads() {
        let counter = CounterMetric::new("a", "");
        let gauge = GaugeMetric::new("b", "", "");
        let histogram = HistogramMetric::new("c", "", "", &[0.5, 1.0][..]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.add(1);
                        gauge.add(0.5);
                        histogram.record(1.0);
                    }
                });
            }
        });
        assert_eq!((counter.value(), gauge.value()), (4000, 2000.0));
        let families = histogram.families();
        let MetricValue::Histogram(histogram) = &families[0].samples[0].value else {
            panic!("not a histogram")
        };
        assert_eq!((&histogram.counts[..], histogram.sum), (&[0, 4000, 0][..], 4000.0));
    }

    #[test]
    fn metrics_with_one_name_are_one_family() {
        let of = |kind: &'static str| CounterMetric::new("a", "A.").label("kind", kind);
        let mut set = MetricSet::new();
        set.add_source(&of("x"));
        set.add_source(&of("y"));
        let text = MetricsFormat::Prometheus.write(&set.finish());
        assert!(text.starts_with(
            "# HELP a_total A.\n# TYPE a_total counter\na_total{kind=\"x\"} 0\na_total{kind=\"y\"} 0\n# HELP "
        ));
    }

    #[test]
    fn a_value_on_a_bound_is_below_it_and_no_number_is_ignored() {
        let histogram = HistogramMetric::new("a", "", "", &[1.0][..]);
        [1.0, 1.5, f64::NAN].into_iter().for_each(|value| histogram.record(value));
        let families = histogram.families();
        let MetricValue::Histogram(histogram) = &families[0].samples[0].value else {
            panic!("not a histogram")
        };
        assert_eq!((&histogram.counts[..], histogram.sum), (&[1, 1][..], 2.5));
    }
}

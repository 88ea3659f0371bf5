//! The body of an `ExportMetricsServiceRequest` (opentelemetry-proto, `metrics/v1`), from families of metrics.
//!
//! Counters are cumulative monotonic sums, and histograms are cumulative with explicit bounds: the same numbers as at
//! `/metrics`. The unit of a family is the one in the conventions of OpenTelemetry (UCUM), and its name keeps the unit.

use super::resource::Resource;
use super::spans::{text_attribute, write_resource, write_scope};
use super::writer::{BodyFormat, Field, MessageWriter, field};
use crate::metrics::{Exemplar, MetricFamily, MetricHistogram, MetricKind, MetricSample, MetricValue};

const METRICS: Field = field(2, "metrics");
const DATA_POINTS: Field = field(1, "dataPoints");
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u32 = 2;

/// When the counts began, and when they were taken, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct PointTimes {
    pub(super) start_unix_ns: u64,
    pub(super) unix_ns: u64,
}

/// Returns the bodies of requests with all samples of the families, each of at most about `bytes_max`, and the number of
/// samples of each.
pub(super) fn bodies(
    families: &[MetricFamily],
    times: PointTimes,
    resource: &Resource,
    format: BodyFormat,
    bytes_max: usize,
) -> Vec<(Vec<u8>, u64)> {
    let mut bodies = Vec::new();
    let mut items = MessageWriter::new(format);
    let mut count = 0;
    for family in families {
        let mut samples = &family.samples[..];
        while !samples.is_empty() {
            // A family may be larger than a request: the rest of its samples is in the next one, under the same name.
            let (now, rest) = samples.split_at(samples.len().min(SAMPLES_AT_ONCE));
            samples = rest;
            items.item(METRICS, |writer| write_metric(writer, family, now, times));
            count += now.len() as u64;
            if items.len() > bytes_max {
                bodies.push((
                    body(std::mem::replace(&mut items, MessageWriter::new(format)), resource, format),
                    count,
                ));
                count = 0;
            }
        }
    }
    if count > 0 {
        bodies.push((body(items, resource, format), count));
    }
    bodies
}

/// The samples that are written before the size of the body is looked at. One has at most about 8 KiB.
const SAMPLES_AT_ONCE: usize = 16;

fn body(items: MessageWriter, resource: &Resource, format: BodyFormat) -> Vec<u8> {
    let items = items.into_parts();
    let mut body = MessageWriter::new(format);
    body.list(field(1, "resourceMetrics"), [()], |writer, ()| {
        write_resource(writer, resource);
        writer.list(field(2, "scopeMetrics"), [()], |writer, ()| {
            write_scope(writer);
            writer.list_of(METRICS, &items);
        });
    });
    body.into_body()
}

fn write_metric(
    writer: &mut MessageWriter,
    family: &MetricFamily,
    samples: &[MetricSample],
    times: PointTimes,
) {
    writer.text(field(1, "name"), &family.name);
    writer.text(field(2, "description"), &family.help);
    writer.text(field(3, "unit"), unit(family.unit));
    let numbers = |writer: &mut MessageWriter| {
        let samples = samples.iter().filter(|sample| !matches!(sample.value, MetricValue::Histogram(_)));
        writer.list(DATA_POINTS, samples, |writer, sample| write_number(writer, sample, times));
    };
    match family.kind {
        MetricKind::Gauge | MetricKind::Info => writer.message(field(5, "gauge"), numbers),
        MetricKind::Counter => writer.message(field(7, "sum"), |writer| {
            numbers(writer);
            writer.uint32(field(2, "aggregationTemporality"), CUMULATIVE);
            writer.bool(field(3, "isMonotonic"), true);
        }),
        MetricKind::Histogram => writer.message(field(9, "histogram"), |writer| {
            let histograms = samples.iter().filter_map(|sample| match &sample.value {
                MetricValue::Histogram(histogram) => Some((sample, histogram)),
                MetricValue::Number(_) | MetricValue::Count(_) => None,
            });
            writer.list(DATA_POINTS, histograms, |writer, (sample, histogram)| {
                write_histogram(writer, sample, histogram, times);
            });
            writer.uint32(field(2, "aggregationTemporality"), CUMULATIVE);
        }),
    }
}

/// Returns a unit in the notation of OpenTelemetry.
fn unit(unit: &str) -> &str {
    match unit {
        "seconds" => "s",
        "bytes" => "By",
        "ratio" => "1",
        other => other,
    }
}

fn write_times(writer: &mut MessageWriter, times: PointTimes) {
    writer.fixed64(field(2, "startTimeUnixNano"), times.start_unix_ns);
    writer.fixed64(field(3, "timeUnixNano"), times.unix_ns);
}

fn write_labels(writer: &mut MessageWriter, number: u32, sample: &MetricSample) {
    writer.list(field(number, "attributes"), &sample.labels, |writer, (name, value)| {
        text_attribute(writer, name, value);
    });
}

fn write_number(writer: &mut MessageWriter, sample: &MetricSample, times: PointTimes) {
    write_times(writer, times);
    match sample.value {
        MetricValue::Number(number) => writer.double(field(4, "asDouble"), number),
        // Above 2⁶³ only a floating-point number can be written.
        MetricValue::Count(count) => match i64::try_from(count) {
            Ok(count) => writer.sfixed64(field(6, "asInt"), count),
            Err(_) => writer.double(field(4, "asDouble"), count as f64),
        },
        MetricValue::Histogram(_) => {}
    }
    write_labels(writer, 7, sample);
}

fn write_histogram(
    writer: &mut MessageWriter,
    sample: &MetricSample,
    histogram: &MetricHistogram,
    times: PointTimes,
) {
    write_times(writer, times);
    writer.fixed64(field(4, "count"), histogram.counts.iter().sum());
    writer.double(field(5, "sum"), histogram.sum);
    writer.fixed64s(field(6, "bucketCounts"), &histogram.counts);
    writer.doubles(field(7, "explicitBounds"), &histogram.bounds);
    writer.list(field(8, "exemplars"), &histogram.exemplars, |writer, (_, exemplar)| {
        write_exemplar(writer, exemplar);
    });
    write_labels(writer, 9, sample);
}

fn write_exemplar(writer: &mut MessageWriter, exemplar: &Exemplar) {
    writer.fixed64(field(2, "timeUnixNano"), exemplar.at_unix_ns);
    writer.double(field(3, "asDouble"), exemplar.value);
    writer.id(field(4, "spanId"), &exemplar.span_id.bits().to_be_bytes());
    writer.id(field(5, "traceId"), &exemplar.trace_id.bits().to_be_bytes());
}

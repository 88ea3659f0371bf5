//! Families as text: Prometheus 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats) and OpenMetrics 1.0
//! (the specification of that name).

use std::borrow::Cow;

use super::number::{write_count, write_float};
use super::{Exemplar, MetricFamily, MetricHistogram, MetricKind, MetricSample, MetricValue, MetricsFormat};

/// Writes all families.
pub(super) fn encode(families: &[MetricFamily], format: MetricsFormat) -> String {
    let mut text = TextWriter { out: String::with_capacity(64 * 1024), format, labels: String::new() };
    for family in families {
        text.family(family);
    }
    if format == MetricsFormat::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

struct TextWriter {
    out: String,
    format: MetricsFormat,
    /// The labels of the current sample, without braces.
    labels: String,
}

impl TextWriter {
    fn family(&mut self, family: &MetricFamily) {
        let is_open = self.format == MetricsFormat::OpenMetrics;
        let (kind, suffix) = match family.kind {
            MetricKind::Counter => ("counter", "_total"),
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Histogram => ("histogram", ""),
            MetricKind::Info if is_open => ("info", "_info"),
            MetricKind::Info => ("gauge", "_info"),
        };
        // The older format names the samples, the newer one the family.
        let of_family = if is_open { "" } else { suffix };
        self.put(&["# HELP ", &family.name, of_family, " "]);
        escape(&family.help, is_open, &mut self.out);
        self.put(&["\n# TYPE ", &family.name, of_family, " ", kind, "\n"]);
        if is_open && !family.unit.is_empty() {
            self.put(&["# UNIT ", &family.name, " ", family.unit, "\n"]);
        }
        let mut bounds = BoundTexts::default();
        for sample in &family.samples {
            self.labels.clear();
            write_labels(&sample.labels, &mut self.labels);
            match &sample.value {
                MetricValue::Histogram(histogram) => self.histogram(&family.name, histogram, &mut bounds),
                MetricValue::Number(_) | MetricValue::Count(_) => self.simple(family, suffix, sample),
            }
        }
    }

    fn simple(&mut self, family: &MetricFamily, suffix: &str, sample: &MetricSample) {
        self.name(&family.name, suffix, "");
        match sample.value {
            MetricValue::Count(count) => write_count(count, &mut self.out),
            MetricValue::Number(number) => write_float(number, &mut self.out),
            MetricValue::Histogram(_) => unreachable!("the caller has matched"),
        }
        self.out.push('\n');
    }

    fn histogram(&mut self, name: &str, histogram: &MetricHistogram, bounds: &mut BoundTexts) {
        bounds.set(&histogram.bounds);
        let mut sum = 0u64;
        for (at, count) in histogram.counts.iter().enumerate() {
            sum = sum.wrapping_add(*count);
            self.name(name, "_bucket", bounds.text(at));
            write_count(sum, &mut self.out);
            if self.format == MetricsFormat::OpenMetrics {
                let exemplar = histogram.exemplars.iter().find(|(bucket, _)| *bucket == at);
                if let Some((_, exemplar)) = exemplar {
                    self.exemplar(exemplar);
                }
            }
            self.out.push('\n');
        }
        self.name(name, "_count", "");
        write_count(sum, &mut self.out);
        self.out.push('\n');
        self.name(name, "_sum", "");
        write_float(histogram.sum, &mut self.out);
        self.out.push('\n');
    }

    /// Writes the name of a sample, its labels, perhaps one more, and a space.
    fn name(&mut self, name: &str, suffix: &str, more: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !self.labels.is_empty() || !more.is_empty() {
            let comma = if self.labels.is_empty() || more.is_empty() { "" } else { "," };
            self.out.push('{');
            self.out.push_str(&self.labels);
            self.out.push_str(comma);
            self.out.push_str(more);
            self.out.push('}');
        }
        self.out.push(' ');
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let Exemplar { trace_id, span_id, value, at_unix_ns } = exemplar;
        self.put(&[" # {trace_id=\"", &trace_id.to_string(), "\",span_id=\"", &span_id.to_string(), "\"} "]);
        write_float(*value, &mut self.out);
        self.out.push(' ');
        // Whole milliseconds: a float of the nanoseconds would show its rounding.
        let ms = at_unix_ns / 1_000_000;
        self.put(&[&format!("{}.{:03}", ms / 1000, ms % 1000)]);
    }

    fn put(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.push_str(part));
    }
}

/// The labels `le="…"` of a histogram's buckets. The histograms of a family have the same bounds as a rule, so their texts are
/// kept from one to the next.
#[derive(Default)]
struct BoundTexts {
    bounds: Vec<f64>,
    texts: Vec<String>,
}

impl BoundTexts {
    fn set(&mut self, bounds: &[f64]) {
        if !self.texts.is_empty() && self.bounds == bounds {
            return;
        }
        self.bounds = bounds.to_vec();
        self.texts = bounds.iter().chain([&f64::INFINITY]).map(bound_text).collect();
    }

    fn text(&self, bucket: usize) -> &str {
        self.texts.get(bucket).map_or("le=\"+Inf\"", String::as_str)
    }
}

fn bound_text(bound: &f64) -> String {
    let mut text = "le=\"".to_owned();
    write_float(*bound, &mut text);
    text.push('"');
    text
}

fn write_labels(labels: &[(Cow<'static, str>, Cow<'static, str>)], out: &mut String) {
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(value, true, out);
        out.push('"');
    }
}

/// Appends text with backslashes and line feeds escaped, and quotes if wanted. Nothing else is special in these formats:
/// other control characters and markup are written as they are.
fn escape(text: &str, escapes_quotes: bool, out: &mut String) {
    let is_special = |letter: char| matches!(letter, '\\' | '\n') || escapes_quotes && letter == '"';
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\n' => "\\n",
            b'\\' => "\\\\",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanId, TraceId};

    fn histogram() -> MetricFamily {
        let mut histogram = MetricHistogram::new(&[0.5, 1.0][..], vec![1, 0, 2], 7.25);
        histogram.exemplars.push((
            2,
            Exemplar {
                trace_id: TraceId::new(0xab).unwrap(),
                span_id: SpanId::new(0xcd).unwrap(),
                value: 3.5,
                at_unix_ns: 1_700_000_000_012_999_999,
            },
        ));
        MetricFamily::new("a_seconds", "seconds", MetricKind::Histogram, "How \"long\".\nOr \\ not.")
            .sample([("m", "x".to_owned())], MetricValue::Histogram(histogram))
    }

    #[test]
    fn a_histogram_in_both_formats() {
        let samples = "a_seconds_bucket{m=\"x\",le=\"0.5\"} 1\na_seconds_bucket{m=\"x\",le=\"1.0\"} 1\na_seconds_bucket{m=\"x\",le=\"+Inf\"} 3";
        let ends = "\na_seconds_count{m=\"x\"} 3\na_seconds_sum{m=\"x\"} 7.25\n";
        assert_eq!(
            MetricsFormat::Prometheus.write(&[histogram()]),
            format!(
                "# HELP a_seconds How \"long\".\\nOr \\\\ not.\n# TYPE a_seconds histogram\n{samples}{ends}"
            )
        );
        let exemplar = " # {trace_id=\"000000000000000000000000000000ab\",span_id=\"00000000000000cd\"} 3.5 1700000000.012";
        assert_eq!(
            MetricsFormat::OpenMetrics.write(&[histogram()]),
            format!(
                "# HELP a_seconds How \\\"long\\\".\\nOr \\\\ not.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n{samples}{exemplar}{ends}# EOF\n"
            )
        );
    }

    #[test]
    fn each_kind_has_its_suffix() {
        let families = [
            MetricFamily::new("a", "", MetricKind::Counter, "A.").sample([], MetricValue::Count(u64::MAX)),
            MetricFamily::new("b", "", MetricKind::Gauge, "B.").sample([], MetricValue::Number(-0.5)),
            MetricFamily::new("c", "", MetricKind::Info, "C.")
                .sample([("v", "1".to_owned())], MetricValue::Count(1)),
        ];
        assert_eq!(
            MetricsFormat::Prometheus.write(&families),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 18446744073709551615\n# HELP b B.\n# TYPE b gauge\nb -0.5\n\
             # HELP c_info C.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n"
        );
        assert_eq!(
            MetricsFormat::OpenMetrics.write(&families),
            "# HELP a A.\n# TYPE a counter\na_total 18446744073709551615\n# HELP b B.\n# TYPE b gauge\nb -0.5\n\
             # HELP c C.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn no_label_value_can_end_its_line() {
        let odd = "a\"b\\c\nd\re<f>é世\u{0}}, x=\"";
        let family = MetricFamily::new("a", "", MetricKind::Gauge, "A.")
            .sample([("l", odd.to_owned())], MetricValue::Count(1));
        let text = MetricsFormat::Prometheus.write(&[family]);
        assert_eq!(text.matches('\n').count(), 3);
        assert!(text.ends_with("a{l=\"a\\\"b\\\\c\\nd\re<f>é世\u{0}}, x=\\\"\"} 1\n"), "{text:?}");
    }
}

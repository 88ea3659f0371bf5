//! Exemplars: the latest recorded span of each bucket of the histograms by method. They are looked up when the metrics are
//! read, among the latest spans that the tracer keeps, so they cost a call nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::buckets::bucket_of;
use super::{DURATION_BOUNDS, Exemplar, MetricFamily, MetricValue};
use crate::trace::{FinishedSpan, SpanKind};

/// Adds exemplars to the histograms of a server's families, from the latest spans of its tracer: to
/// `coreloop_server_handler_seconds` and `coreloop_server_queue_seconds`. A span's times are cut to whole microseconds; the
/// value of its exemplar is the next one above, so that it lies in its bucket.
pub fn add_exemplars(families: &mut [MetricFamily], spans: &[Arc<FinishedSpan>]) {
    let mut by_method: HashMap<&str, Vec<&FinishedSpan>> = HashMap::new();
    for span in spans.iter().filter(|span| span.kind == SpanKind::Server) {
        by_method.entry(&span.name).or_default().push(span);
    }
    for family in families {
        let time: fn(&FinishedSpan) -> u32 = match &*family.name {
            "coreloop_server_handler_seconds" => |span| span.handler_us,
            "coreloop_server_queue_seconds" => |span| span.queue_us,
            _ => continue,
        };
        for sample in &mut family.samples {
            let method = sample.labels.iter().find(|(name, _)| name == "method").map(|(_, value)| &**value);
            let spans = method.and_then(|method| by_method.get(method));
            let (Some(spans), MetricValue::Histogram(histogram)) = (spans, &mut sample.value) else {
                continue;
            };
            let mut latest: [Option<(u64, &FinishedSpan)>; DURATION_BOUNDS.len() + 1] =
                [None; DURATION_BOUNDS.len() + 1];
            for span in spans {
                let end = span.start_unix_ns.saturating_add(span.duration.as_nanos() as u64);
                let latest = &mut latest[bucket_of(u64::from(time(span)))];
                if latest.is_none_or(|(before, _)| before <= end) {
                    *latest = Some((end, span));
                }
            }
            for (bucket, latest) in latest.into_iter().enumerate() {
                let Some((at_unix_ns, span)) = latest else { continue };
                let (trace_id, span_id) = (span.context.trace_id, span.context.span_id);
                let value = (f64::from(time(span)) + 1.0) / 1e6;
                histogram.exemplars.push((bucket, Exemplar { trace_id, span_id, value, at_unix_ns }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{MetricHistogram, MetricKind};
    use crate::trace::{SpanId, TraceContext, TraceId};

    fn span(id: u64, name: &str, kind: SpanKind, handler_us: u32, start_unix_ns: u64) -> Arc<FinishedSpan> {
        let context = TraceContext::new(TraceId::new(7).unwrap(), SpanId::new(id).unwrap(), true);
        let mut span = FinishedSpan::new(context, kind, name);
        (span.handler_us, span.start_unix_ns, span.duration) =
            (handler_us, start_unix_ns, Duration::from_nanos(1));
        Arc::new(span)
    }

    #[test]
    fn each_bucket_has_the_latest_span_of_its_method() {
        let counts = vec![0; DURATION_BOUNDS.len() + 1];
        let histogram = MetricValue::Histogram(MetricHistogram::new(DURATION_BOUNDS, counts, 0.0));
        let family =
            MetricFamily::new("coreloop_server_handler_seconds", "seconds", MetricKind::Histogram, "")
                .sample([("method", "A.B".to_owned())], histogram.clone())
                .sample([("method", "A.C".to_owned())], histogram);
        let mut families = [family];
        let spans = [
            span(1, "A.B", SpanKind::Server, 3, 20),
            span(2, "A.B", SpanKind::Server, 2, 10),
            span(3, "A.B", SpanKind::Client, 2, 30),
            span(4, "A.B", SpanKind::Server, 4, 5),
            span(5, "A.D", SpanKind::Server, 4, 50),
        ];
        add_exemplars(&mut families, &spans);
        let found: Vec<Vec<(usize, u64, f64, u64)>> = families[0]
            .samples
            .iter()
            .map(|sample| {
                let MetricValue::Histogram(histogram) = &sample.value else { panic!("not a histogram") };
                let exemplar = |(at, exemplar): &(usize, Exemplar)| {
                    (*at, exemplar.span_id.bits(), exemplar.value, exemplar.at_unix_ns)
                };
                histogram.exemplars.iter().map(exemplar).collect()
            })
            .collect();
        // 3 us stands for 3 to 4: the bucket from 2 to 4. 4 us stands for 4 to 5: the next one.
        assert_eq!(found, [vec![(2, 1, 4e-6, 21), (3, 4, 5e-6, 6)], vec![]]);
        for (at, _, value, _) in &found[0] {
            assert!(*value <= DURATION_BOUNDS[*at] && *value > DURATION_BOUNDS[at - 1]);
        }
    }
}

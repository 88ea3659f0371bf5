//! The encoders against definitions of the messages that `prost` reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};

use super::points::{PointTimes, bodies};
use super::spans::take_body;
use super::writer::BodyFormat;
use crate::context::Peer;
use crate::metrics::{Exemplar, MetricFamily, MetricHistogram, MetricKind, MetricValue};
use crate::status::Code;
use crate::trace::{AttributeValue, FinishedSpan, SpanEvent, SpanId, SpanKind, TraceContext, TraceId};

/// Declares a message by its fields.
macro_rules! messages {
    ($($name:ident { $($field:ident: $type:ty = [$($attribute:tt)*];)* })*) => {
        $(#[derive(Clone, PartialEq, Message)] struct $name { $(#[prost($($attribute)*)] $field: $type,)* })*
    };
}

// opentelemetry-proto 1.9: common/v1, resource/v1, trace/v1, metrics/v1.
messages! {
    AnyValue {
        string_value: Option<String> = [string, optional, tag = "1"];
        bool_value: Option<bool> = [bool, optional, tag = "2"];
        int_value: Option<i64> = [int64, optional, tag = "3"];
        double_value: Option<f64> = [double, optional, tag = "4"];
    }
    KeyValue {
        key: String = [string, tag = "1"];
        value: Option<AnyValue> = [message, optional, tag = "2"];
    }
    Attributes { attributes: Vec<KeyValue> = [message, repeated, tag = "1"]; }
    Scope {
        name: String = [string, tag = "1"];
        version: String = [string, tag = "2"];
    }
    Event {
        time_unix_nano: u64 = [fixed64, tag = "1"];
        name: String = [string, tag = "2"];
        attributes: Vec<KeyValue> = [message, repeated, tag = "3"];
    }
    SpanStatus {
        message: String = [string, tag = "2"];
        code: i32 = [int32, tag = "3"];
    }
    Span {
        trace_id: Vec<u8> = [bytes = "vec", tag = "1"];
        span_id: Vec<u8> = [bytes = "vec", tag = "2"];
        trace_state: String = [string, tag = "3"];
        parent_span_id: Vec<u8> = [bytes = "vec", tag = "4"];
        name: String = [string, tag = "5"];
        kind: i32 = [int32, tag = "6"];
        start: u64 = [fixed64, tag = "7"];
        end: u64 = [fixed64, tag = "8"];
        attributes: Vec<KeyValue> = [message, repeated, tag = "9"];
        dropped_attributes_count: u32 = [uint32, tag = "10"];
        events: Vec<Event> = [message, repeated, tag = "11"];
        dropped_events_count: u32 = [uint32, tag = "12"];
        status: Option<SpanStatus> = [message, optional, tag = "15"];
        flags: u32 = [fixed32, tag = "16"];
    }
    ScopeSpans {
        scope: Option<Scope> = [message, optional, tag = "1"];
        spans: Vec<Span> = [message, repeated, tag = "2"];
    }
    ResourceSpans {
        resource: Option<Attributes> = [message, optional, tag = "1"];
        scope_spans: Vec<ScopeSpans> = [message, repeated, tag = "2"];
    }
    TraceRequest { resource_spans: Vec<ResourceSpans> = [message, repeated, tag = "1"]; }
    PointExemplar {
        time: u64 = [fixed64, tag = "2"];
        as_double: f64 = [double, tag = "3"];
        span_id: Vec<u8> = [bytes = "vec", tag = "4"];
        trace_id: Vec<u8> = [bytes = "vec", tag = "5"];
    }
    NumberPoint {
        start: u64 = [fixed64, tag = "2"];
        time: u64 = [fixed64, tag = "3"];
        as_double: Option<f64> = [double, optional, tag = "4"];
        as_int: Option<i64> = [sfixed64, optional, tag = "6"];
        attributes: Vec<KeyValue> = [message, repeated, tag = "7"];
    }
    HistogramPoint {
        start: u64 = [fixed64, tag = "2"];
        time: u64 = [fixed64, tag = "3"];
        count: u64 = [fixed64, tag = "4"];
        sum: Option<f64> = [double, optional, tag = "5"];
        bucket_counts: Vec<u64> = [fixed64, repeated, tag = "6"];
        explicit_bounds: Vec<f64> = [double, repeated, tag = "7"];
        exemplars: Vec<PointExemplar> = [message, repeated, tag = "8"];
        attributes: Vec<KeyValue> = [message, repeated, tag = "9"];
    }
    Gauge { points: Vec<NumberPoint> = [message, repeated, tag = "1"]; }
    Sum {
        points: Vec<NumberPoint> = [message, repeated, tag = "1"];
        temporality: i32 = [int32, tag = "2"];
        is_monotonic: bool = [bool, tag = "3"];
    }
    Histogram {
        points: Vec<HistogramPoint> = [message, repeated, tag = "1"];
        temporality: i32 = [int32, tag = "2"];
    }
    Metric {
        name: String = [string, tag = "1"];
        description: String = [string, tag = "2"];
        unit: String = [string, tag = "3"];
        gauge: Option<Gauge> = [message, optional, tag = "5"];
        sum: Option<Sum> = [message, optional, tag = "7"];
        histogram: Option<Histogram> = [message, optional, tag = "9"];
    }
    ScopeMetrics {
        scope: Option<Scope> = [message, optional, tag = "1"];
        metrics: Vec<Metric> = [message, repeated, tag = "2"];
    }
    ResourceMetrics {
        resource: Option<Attributes> = [message, optional, tag = "1"];
        scope_metrics: Vec<ScopeMetrics> = [message, repeated, tag = "2"];
    }
    MetricsRequest { resource_metrics: Vec<ResourceMetrics> = [message, repeated, tag = "1"]; }
}

fn resource() -> super::resource::Resource {
    vec![
        ("process.pid".into(), AttributeValue::Int(-3)),
        ("service.name".into(), AttributeValue::Text("shop \"1\"\\\n\u{1}ü".into())),
    ]
}

fn span(id: u64) -> Arc<FinishedSpan> {
    let mut context =
        TraceContext::new(TraceId::new(0xab << 120 | 1).unwrap(), SpanId::new(id).unwrap(), true);
    context.state = Some("a=b".into());
    let mut span = FinishedSpan::new(context, SpanKind::Server, "shop.v1.Orders.Price");
    span.parent = SpanId::new(9);
    span.is_parent_remote = true;
    span.start_unix_ns = 1_700_000_000_123_456_789;
    span.duration = Duration::from_nanos(1_000_000_001);
    span.queue_us = 12;
    span.code = Code::Unavailable;
    span.message = Some("away".into());
    span.protocol = "grpc";
    span.peer = Some(Peer::Tcp("[::1]:80".parse().unwrap()));
    let mut event = SpanEvent::new(5, "cache miss");
    event.attributes.push(("ratio".into(), AttributeValue::Float(0.5)));
    span.events.push(event);
    span.attributes.push(("is_new".into(), AttributeValue::Bool(false)));
    (span.dropped_attributes, span.dropped_events) = (3, 4);
    Arc::new(span)
}

/// Returns the value of an attribute.
fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a AnyValue {
    attributes.iter().find(|attribute| attribute.key == key).unwrap().value.as_ref().unwrap()
}

#[test]
fn a_span_has_its_fields_in_protobuf() {
    let (body, count) = take_body(&mut VecDeque::from([span(7)]), &resource(), BodyFormat::Protobuf, 1000);
    let request = TraceRequest::decode(&body[..]).unwrap();
    let scope = &request.resource_spans[0].scope_spans[0];
    assert_eq!((count, scope.spans.len()), (1, 1));
    assert_eq!(scope.scope.as_ref().unwrap().name, "coreloop");
    let attributes = &request.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(attribute(attributes, "process.pid").int_value, Some(-3));
    assert_eq!(attribute(attributes, "service.name").string_value.as_deref(), Some("shop \"1\"\\\n\u{1}ü"));
    let span = &scope.spans[0];
    assert_eq!((span.trace_id[0], span.trace_id[15], span.trace_id.len()), (0xab, 1, 16));
    assert_eq!((&*span.span_id, &*span.parent_span_id), (&7_u64.to_be_bytes()[..], &9_u64.to_be_bytes()[..]));
    assert_eq!((&*span.trace_state, &*span.name, span.kind), ("a=b", "shop.v1.Orders.Price", 2));
    assert_eq!((span.start, span.end - span.start), (1_700_000_000_123_456_789, 1_000_000_001));
    assert_eq!(span.flags, 0x301);
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (2, "away"));
    assert_eq!((span.events[0].time_unix_nano, &*span.events[0].name), (5, "cache miss"));
    assert_eq!(attribute(&span.events[0].attributes, "ratio").double_value, Some(0.5));
    let text = |key| attribute(&span.attributes, key).string_value.as_deref();
    let int = |key| attribute(&span.attributes, key).int_value;
    assert_eq!((text("rpc.system"), text("rpc.service")), (Some("grpc"), Some("shop.v1.Orders")));
    assert_eq!((text("rpc.method"), int("rpc.grpc.status_code")), (Some("Price"), Some(14)));
    assert_eq!((text("network.peer.address"), int("network.peer.port")), (Some("::1"), Some(80)));
    assert_eq!((int("coreloop.queue_us"), text("coreloop.code")), (Some(12), Some("unavailable")));
    assert_eq!(attribute(&span.attributes, "is_new").bool_value, Some(false));
    assert_eq!((span.dropped_attributes_count, span.dropped_events_count), (3, 4));
}

#[test]
fn a_span_has_its_fields_in_json() {
    let (body, _) = take_body(&mut VecDeque::from([span(7), span(8)]), &resource(), BodyFormat::Json, 10_000);
    let request: Value = serde_json::from_slice(&body).unwrap();
    let attributes = &request["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(attributes[0], json!({"key": "process.pid", "value": {"intValue": "-3"}}));
    assert_eq!(attributes[1]["value"]["stringValue"], "shop \"1\"\\\n\u{1}ü");
    let spans = &request["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 2);
    let span = &spans[0];
    assert_eq!(span["traceId"], "ab000000000000000000000000000001");
    assert_eq!(
        (&span["spanId"], &spans[1]["spanId"]),
        (&json!("0000000000000007"), &json!("0000000000000008"))
    );
    assert_eq!((&span["startTimeUnixNano"], &span["kind"]), (&json!("1700000000123456789"), &json!(2)));
    assert_eq!(span["status"], json!({"message": "away", "code": 2}));
    assert_eq!(span["flags"], 0x301);
    assert_eq!((&span["droppedAttributesCount"], &span["droppedEventsCount"]), (&json!(3), &json!(4)));
    let ratio = json!({"key": "ratio", "value": {"doubleValue": 0.5}});
    assert_eq!(span["events"][0], json!({"timeUnixNano": "5", "name": "cache miss", "attributes": [ratio]}));
}

#[test]
fn a_request_has_as_many_spans_as_fit_and_one_at_least() {
    for format in [BodyFormat::Protobuf, BodyFormat::Json] {
        let mut spans: VecDeque<_> = (1..=100).map(span).collect();
        let (mut bodies, mut taken) = (0, 0);
        while !spans.is_empty() {
            let (body, count) = take_body(&mut spans, &resource(), format, 16_000);
            assert!(body.len() < 17_000 && count > 1, "{} bytes, {count} spans", body.len());
            if format == BodyFormat::Protobuf {
                let request = TraceRequest::decode(&body[..]).unwrap();
                let spans = &request.resource_spans[0].scope_spans[0].spans;
                let ids = spans.iter().map(|span| u64::from_be_bytes(span.span_id[..].try_into().unwrap()));
                assert!(ids.eq(taken + 1..=taken + count));
            } else {
                serde_json::from_slice::<Value>(&body).unwrap();
            }
            taken += count;
            bodies += 1;
        }
        assert!(taken == 100 && bodies > 1);
        assert_eq!(take_body(&mut VecDeque::from([span(1)]), &resource(), format, 10).1, 1);
    }
}

fn families() -> Vec<MetricFamily> {
    let exemplar = Exemplar {
        trace_id: TraceId::new(3).unwrap(),
        span_id: SpanId::new(4).unwrap(),
        value: 0.25,
        at_unix_ns: 6,
    };
    let histogram = MetricHistogram {
        bounds: vec![0.1, 1.0].into(),
        counts: vec![5, 0, u64::MAX >> 1],
        sum: 2.5,
        exemplars: vec![(1, exemplar)],
    };
    let label = || [("method", "A.B".to_owned())];
    vec![
        MetricFamily::new("calls", "", MetricKind::Counter, "Calls.")
            .sample(label(), MetricValue::Count(1 << 60)),
        MetricFamily::new("lag_ratio", "ratio", MetricKind::Gauge, "Lag.")
            .sample([], MetricValue::Number(f64::NAN)),
        MetricFamily::new("time_seconds", "seconds", MetricKind::Histogram, "Time.")
            .sample(label(), MetricValue::Histogram(histogram)),
    ]
}

const TIMES: PointTimes = PointTimes { start_unix_ns: 10, unix_ns: 20 };

#[test]
fn metrics_have_their_fields_in_protobuf() {
    let all = bodies(&families(), TIMES, &resource(), BodyFormat::Protobuf, 10_000);
    assert_eq!((all.len(), all[0].1), (1, 3));
    let request = MetricsRequest::decode(&all[0].0[..]).unwrap();
    let [calls, lag, time] = &request.resource_metrics[0].scope_metrics[0].metrics[..] else { panic!() };
    let sum = calls.sum.as_ref().unwrap();
    assert_eq!(
        (&*calls.name, &*calls.description, sum.temporality, sum.is_monotonic),
        ("calls", "Calls.", 2, true)
    );
    let point = &sum.points[0];
    assert_eq!((point.start, point.time, point.as_int, point.as_double), (10, 20, Some(1 << 60), None));
    assert_eq!(attribute(&point.attributes, "method").string_value.as_deref(), Some("A.B"));
    assert_eq!(lag.unit, "1");
    assert!(lag.gauge.as_ref().unwrap().points[0].as_double.unwrap().is_nan());
    let histogram = &time.histogram.as_ref().unwrap();
    let point = &histogram.points[0];
    assert_eq!((&*time.unit, histogram.temporality, point.sum), ("s", 2, Some(2.5)));
    assert_eq!((&point.bucket_counts[..], point.count), (&[5, 0, u64::MAX >> 1][..], 5 + (u64::MAX >> 1)));
    assert_eq!(point.explicit_bounds, [0.1, 1.0]);
    let exemplar = &point.exemplars[0];
    assert_eq!((exemplar.time, exemplar.as_double), (6, 0.25));
    assert_eq!((exemplar.trace_id[15], exemplar.span_id[7]), (3, 4));
}

#[test]
fn metrics_have_their_fields_in_json() {
    let all = bodies(&families(), TIMES, &resource(), BodyFormat::Json, 10_000);
    let request: Value = serde_json::from_slice(&all[0].0).unwrap();
    let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    let point = &metrics[0]["sum"]["dataPoints"][0];
    assert_eq!((&point["asInt"], &point["timeUnixNano"]), (&json!("1152921504606846976"), &json!("20")));
    assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asDouble"], "NaN");
    let point = &metrics[2]["histogram"]["dataPoints"][0];
    assert_eq!(point["bucketCounts"], json!(["5", "0", "9223372036854775807"]));
    assert_eq!(point["explicitBounds"], json!([0.1, 1.0]));
    assert_eq!(point["exemplars"][0]["traceId"], "00000000000000000000000000000003");
}

#[test]
fn many_samples_are_several_requests() {
    let many = (0..1000)
        .fold(MetricFamily::new("calls", "", MetricKind::Counter, "Calls."), |family, number| {
            family.sample([("method", format!("A.B{number}"))], MetricValue::Count(number))
        });
    let all = bodies(&[many, families().remove(0)], TIMES, &resource(), BodyFormat::Protobuf, 10_000);
    assert!(all.len() > 3 && all.iter().all(|(body, _)| body.len() < 13_000));
    assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 1001);
    let mut values: Vec<i64> = Vec::new();
    for (body, _) in &all {
        let request = MetricsRequest::decode(&body[..]).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let points = metrics.iter().flat_map(|metric| &metric.sum.as_ref().unwrap().points);
        values.extend(points.map(|point| point.as_int.unwrap()));
    }
    assert!(values[..1000].iter().copied().eq(0..1000));
}

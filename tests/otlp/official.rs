//! What is exported, decoded with the official definitions by a program that refuses what breaks a rule of them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::metrics::{MetricFamily, MetricKind, MetricSource, MetricValue};
use coreloop::service::Kind;
use coreloop::{Context, Server, Status};
use serde_json::{Value, json};

use super::eventually;
use super::peer::{Collector, attribute};

/// Metrics of a program, with what JSON and labels have difficulties with.
struct OddMetrics;

impl MetricSource for OddMetrics {
    fn families(&self) -> Vec<MetricFamily> {
        let gauge = MetricFamily::new("odd_ratio", "ratio", MetricKind::Gauge, "A \"gauge\" \\ é.");
        let numbers = [("nan", f64::NAN), ("up", f64::INFINITY), ("down", f64::NEG_INFINITY), ("zero", -0.0)];
        let gauge = numbers.into_iter().fold(gauge, |gauge, (name, number)| {
            gauge.sample([("which", format!("{name} \"\\\n\u{1}é"))], MetricValue::Number(number))
        });
        let counter = MetricFamily::new("odd_counts", "", MetricKind::Counter, "Large counts.");
        let large = counter
            .sample([("which", "i64".to_owned())], MetricValue::Count(i64::MAX as u64))
            .sample([("which", "u64".to_owned())], MetricValue::Count(u64::MAX));
        vec![gauge, large]
    }
}

fn noted(cx: &Context<'_>, number: i64) -> Result<i64, Status> {
    let span = cx.span();
    span.event("begun \"\\\n\u{1}é");
    span.attribute("text", "\"\\\n\u{1}é".to_owned());
    span.attribute("int", i64::MIN);
    span.attribute("float", -0.5);
    span.attribute("nan", f64::NAN);
    span.attribute("is_odd", number % 2 == 1);
    // The conventions' own keys, which the export writes too.
    span.attribute("rpc.method", "mine");
    span.event("ended");
    Ok(2 * number)
}

fn server(collector: &Collector, is_json: bool, gzip: bool) -> Server {
    let fail = |code: coreloop::Code| {
        move |_cx: &Context<'_>, number: i64| -> Result<i64, Status> {
            Err(Status::new(code, format!("no \"{number}\" \\ \u{1} é")))
        }
    };
    Server::builder()
        .cores(2)
        .configure(|config| {
            config.otlp.endpoint = collector.url();
            (config.otlp.json, config.otlp.gzip) = (is_json, gzip);
            (config.otlp.interval_ms, config.otlp.metrics_interval_ms) = (10, 20);
            config.otlp.service_name = "shop \"1\" é".to_owned();
            (config.trace.enabled, config.trace.sample_one_in) = (true, 1);
        })
        .metrics(OddMetrics)
        .method_of_kind("shop.v1.Orders.Inline", Kind::Inline, noted)
        .method_of_kind("shop.v1.Orders.Pooled", Kind::Pooled, noted)
        .method_of_kind("shop.v1.Orders.Blocking", Kind::Blocking, noted)
        .method_of_kind("Fail.Internal", Kind::Inline, fail(coreloop::Code::Internal))
        .method_of_kind("Fail.NotFound", Kind::Pooled, fail(coreloop::Code::NotFound))
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

const ORDERS: [&str; 3] = ["shop.v1.Orders.Inline", "shop.v1.Orders.Pooled", "shop.v1.Orders.Blocking"];
const SCHEMES: [&str; 3] = ["native", "http", "jsonrpc"];
/// The calls of each method over each protocol.
const CALLS: usize = 20;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Makes the calls, and returns the number of spans: on both sides of each call.
fn call_all(server: &Server) -> usize {
    let inspector = server.inspector();
    let tracer = inspector.tracer().unwrap();
    let mut calls = 0;
    for scheme in SCHEMES {
        let address = format!("{scheme}:{}", server.addresses()[0]);
        let client = Client::builder(address).tracer(tracer).build().unwrap();
        // JSON-RPC over a socket has no metadata.
        let client = if scheme == "jsonrpc" {
            client
        } else {
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
            let client = client.with_metadata("traceparent", parent.as_bytes()).unwrap();
            client.with_metadata("tracestate", b"a=1,b=x \"y").unwrap()
        };
        for _ in 0..CALLS {
            for method in ORDERS {
                assert_eq!(client.call_bytes(method, Codec::Json, b"3").unwrap(), b"6");
            }
            // Over HTTP, an unknown method is refused before it is a call: not each has a span.
            let failing = ["Fail.Internal", "Fail.NotFound", "No.Method"];
            let failing = if scheme == "native" { &failing[..] } else { &failing[..2] };
            for method in failing {
                client.call_bytes(method, Codec::Json, b"3").unwrap_err();
            }
            calls += ORDERS.len() + failing.len();
        }
    }
    2 * calls
}

/// What the spans of an export have in common with those of another of the same calls.
fn summary(spans: &[(Value, Value)]) -> BTreeSet<String> {
    let of_span = |(resource, span): &(Value, Value)| {
        let mut attributes = span["attributes"].as_array().unwrap().clone();
        let varies = |key: &str| key.ends_with("_us") || ["network.peer.port", "server.port"].contains(&key);
        attributes.retain(|attribute| !varies(attribute["key"].as_str().unwrap()));
        let events: Vec<_> =
            span["events"].as_array().into_iter().flatten().map(|event| &event["name"]).collect();
        let service = attribute(resource, "service.name");
        json!([service, span["name"], span["kind"], span["status"], span["traceState"], attributes, events])
            .to_string()
    };
    spans.iter().map(of_span).collect()
}

#[test]
fn what_is_exported_obeys_the_official_definitions_in_both_formats() {
    let mut summaries = Vec::new();
    for (is_json, gzip) in [(false, false), (false, true), (true, false), (true, true)] {
        let Some(mut collector) = Collector::start_strict() else { return };
        let server = server(&collector, is_json, gzip);
        eventually("the export has begun", || server.export_stats().unwrap().metrics.requests_ok > 0);
        let expected = call_all(&server);
        let inspector = server.inspector();
        let tracer = inspector.tracer().unwrap();
        eventually("the spans are made", || tracer.stats().spans as usize >= expected);
        // Exemplars are in the metrics that follow.
        eventually("the spans are exported", || {
            let spans = server.export_stats().unwrap().spans;
            (spans.exported + spans.dropped) as usize >= expected
        });
        // Fails if the receiver has refused something.
        collector.received();
        let samples = server.export_stats().unwrap().metrics.requests_ok;
        eventually("the metrics are exported again", || {
            server.export_stats().unwrap().metrics.requests_ok > samples + 1
        });
        let stats = server.export_stats().unwrap();
        assert_eq!((stats.spans.requests_failed, stats.metrics.requests_failed), (0, 0), "{stats:?}");
        server.shutdown();
        collector.stop();

        let spans = collector.spans();
        assert_eq!(spans.len(), expected);
        assert!(spans.iter().any(|(_, span)| span["traceId"] == TRACE));
        summaries.push(summary(&spans));
        are_the_metrics(&collector.metrics());
    }
    // The formats differ in their bytes only.
    for other in &summaries[1..] {
        let different: Vec<_> = summaries[0].symmetric_difference(other).collect();
        assert!(different.is_empty(), "{different:#?}");
    }
}

/// Asserts that the latest metrics have the calls, histograms with exemplars, and the odd numbers.
#[track_caller]
fn are_the_metrics(metrics: &[Value]) {
    let points = |name: &str, data: &str| -> Vec<Value> {
        let of_name = metrics.iter().filter(|metric| metric["name"] == name);
        of_name.flat_map(|metric| metric[data]["dataPoints"].as_array().unwrap().clone()).collect()
    };
    let latest = |points: Vec<Value>, key: &str, value: &str| {
        let mut found: Vec<_> =
            points.into_iter().filter(|point| *attribute(point, key) == json!(value)).collect();
        found.sort_by_key(|point| point["timeUnixNano"].as_str().unwrap().parse::<u64>().unwrap());
        found.pop().unwrap()
    };
    let calls = (SCHEMES.len() * CALLS) as u64;
    for method in ORDERS {
        let point = latest(points("coreloop_server_calls", "sum"), "method", method);
        assert_eq!(point["asInt"], calls.to_string(), "{method}");
        let all = points("coreloop_server_handler_seconds", "histogram");
        assert!(all.iter().any(|point| {
            *attribute(point, "method") == json!(method) && point["exemplars"][0]["traceId"].is_string()
        }));
        assert_eq!(latest(all, "method", method)["count"], calls.to_string(), "{method}");
    }
    let odd = points("odd_ratio", "gauge");
    let of = |name: &str| latest(odd.clone(), "which", &format!("{name} \"\\\n\u{1}é"))["asDouble"].clone();
    assert_eq!((of("nan"), of("up"), of("down")), (json!("NaN"), json!("Infinity"), json!("-Infinity")));
    let odd = points("odd_counts", "sum");
    assert_eq!(latest(odd.clone(), "which", "i64")["asInt"], i64::MAX.to_string());
    assert_eq!(latest(odd, "which", "u64")["asDouble"].as_f64(), Some(u64::MAX as f64));
}

/// Sends a request, and returns the answer.
fn post(collector: &Collector, content_type: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(collector.url().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_strict_receiver_refuses_what_breaks_a_rule() {
    let Some(collector) = Collector::start_strict() else { return };
    let good = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "a"}}]},
        "scopeSpans": [{"scope": {"name": "s"}, "spans": [{
            "traceId": TRACE, "spanId": "00f067aa0ba902b7", "name": "n", "kind": 2,
            "startTimeUnixNano": "5", "endTimeUnixNano": "6",
            "attributes": [{"key": "k", "value": {"intValue": "1"}}],
            "events": [{"name": "e", "timeUnixNano": "6"}],
        }]}],
    }]});
    let ask = |body: &Value| post(&collector, "application/json", body.to_string().as_bytes());
    assert!(ask(&good).starts_with("HTTP/1.1 200"), "{}", ask(&good));
    let span = "/resourceSpans/0/scopeSpans/0/spans/0";
    for (path, value, fault) in [
        ("/traceId", json!("00"), "expected 16 bytes"),
        ("/traceId", json!(TRACE.to_uppercase()), "hexadecimal digits in lower case"),
        ("/traceId", json!("0".repeat(32)), "expected 16 bytes"),
        ("/spanId", json!(""), "expected 8 bytes"),
        ("/kind", json!("SPAN_KIND_SERVER"), "expected a number"),
        ("/kind", json!(9), "unknown value 9"),
        ("/endTimeUnixNano", json!("4"), "from 5 to 4"),
        ("/endTimeUnixNano", json!(6), "expected a string"),
        ("/events/0/timeUnixNano", json!("7"), "outside"),
        ("/attributes/0/value", json!({}), "k has no value"),
        ("/attributes/0", json!({"other": 1}), "other"),
        ("/name", json!(""), "without a name"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(&format!("{span}{path}")).unwrap() = value;
        let answer = ask(&bad);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(fault), "{path}: {answer}");
    }
    // Field 15, which a request has not.
    let answer = post(&collector, "application/x-protobuf", &[0x7a, 0]);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("2 bytes of unknown fields"), "{answer}");
}

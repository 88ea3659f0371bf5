//! The metrics that a program adds, and those of its clients.

use std::sync::Arc;

use coreloop::Server;
use coreloop::client::{Client, ClientMetrics};
use coreloop::codec::Codec;
use coreloop::config::TraceConfig;
use coreloop::metrics::{
    CounterMetric, GaugeMetric, HistogramMetric, MetricFamily, MetricKind, MetricSource, MetricValue,
};
use coreloop::trace::{FinishedSpan, SpanId, SpanKind, TraceContext, TraceId, Tracer};

use super::{OPEN_METRICS, TEXT, builder, check_with_promtool, parse_strictly, scrape, sum};
use crate::common::{Frame, Peer};

#[test]
fn odd_label_values_arrive_as_they_are() {
    let _turn = crate::common::shared();
    let values = [
        "",
        " ",
        "\"quoted\" \\ back\\\\slash\\n",
        "two\nlines\r\nand\ttabs",
        "<script>alert('x')</script>&amp;",
        "é世🦀\u{202e}",
        "} 1\ncoreloop_server_calls_total{method=\"forged\"} 7",
        "\u{0}\u{1}\u{7f}",
    ];
    let mut builder = builder();
    for value in values {
        builder = builder
            .metrics(CounterMetric::new("shop_orders", "Odd \"labels\"\nand \\ help.").label("kind", value));
    }
    let server = builder.start().unwrap();
    let text = scrape(&server, TEXT);
    assert_eq!(text.lines().filter(|line| line.starts_with("shop_orders_total{")).count(), values.len());
    assert!(!text.contains("\ncoreloop_server_calls_total{method=\"forged\""), "{text}");
    check_with_promtool(&text);
    if let Some(samples) = parse_strictly(&scrape(&server, OPEN_METRICS)) {
        let orders = samples.iter().filter(|sample| sample["name"] == "shop_orders_total");
        let found: Vec<&str> = orders.map(|sample| sample["labels"]["kind"].as_str().unwrap()).collect();
        assert_eq!(found, values);
    }
    server.shutdown();
}

struct BadFamilies;

impl MetricSource for BadFamilies {
    fn families(&self) -> Vec<MetricFamily> {
        let one = || MetricValue::Count(1);
        vec![
            MetricFamily::new("bad name", "", MetricKind::Gauge, "").sample([], one()),
            MetricFamily::new("coreloop_server_calls", "", MetricKind::Gauge, "").sample([], one()),
            MetricFamily::new("coreloop_build_info", "", MetricKind::Gauge, "").sample([], one()),
            MetricFamily::new("shop_stock", "", MetricKind::Gauge, "Items.")
                .sample([], one())
                .sample([], one()),
        ]
    }
}

#[test]
fn families_that_would_break_the_page_are_left_out_and_counted() {
    let _turn = crate::common::shared();
    let stock = Arc::new(GaugeMetric::new("shop_weight_bytes", "bytes", "Weight."));
    let times = Arc::new(HistogramMetric::durations("shop_packing_seconds", "Time to pack."));
    let server =
        builder().metrics(BadFamilies).metrics(stock.clone()).metrics(times.clone()).start().unwrap();
    stock.set(-1.5);
    times.record(0.001);
    let text = scrape(&server, TEXT);
    let rejected = |reason: &str| sum(&text, "coreloop_metrics_rejected", &format!("reason=\"{reason}\""));
    assert_eq!(
        (rejected("invalid_name"), rejected("clash"), rejected("invalid_sample")),
        (1, 2, 1),
        "{text}"
    );
    assert_eq!((rejected("too_many"), rejected("panicked")), (0, 0));
    assert!(text.contains("\nshop_stock 1\n") && text.contains("\nshop_weight_bytes -1.5\n"), "{text}");
    assert!(text.contains("\nshop_packing_seconds_bucket{le=\"0.001024\"} 1\n"), "{text}");
    check_with_promtool(&text);
    parse_strictly(&scrape(&server, OPEN_METRICS));
    server.shutdown();
}

#[test]
fn a_client_shows_its_calls_and_servers() {
    let _turn = crate::common::shared();
    let stock = builder().start().unwrap();
    let address = stock.addresses()[0].to_string();
    let one = Client::connect(&address).unwrap();
    let fleet = Client::connect(format!("static:{address}")).unwrap();
    let server = Server::in_memory()
        .configure(|config| config.admin.listen = "127.0.0.1:0".to_owned())
        .metrics(ClientMetrics::new("one", &one))
        .metrics(ClientMetrics::new("fleet", &fleet))
        .start()
        .unwrap();
    for client in [&one, &fleet] {
        for _ in 0..3 {
            client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#).unwrap();
        }
        client.call_bytes("Echo.Fail", Codec::Json, br#"{"Code":13,"Message":"m"}"#).unwrap_err();
    }
    let text = scrape(&server, TEXT);
    let of = |name: &str, label: &str| sum(&text, name, label);
    assert_eq!(of("coreloop_client_answered_total", "client=\"one\""), 4, "{text}");
    assert_eq!(of("coreloop_client_calls_total", "client=\"fleet\""), 4, "{text}");
    assert_eq!(of("coreloop_client_endpoints", "client=\"fleet\""), 1, "{text}");
    let outcome = |outcome: &str| {
        let label = format!("client=\"fleet\",endpoint=\"{address}\",outcome=\"{outcome}\"");
        of("coreloop_client_endpoint_attempts_total", &label)
    };
    assert_eq!((outcome("success"), outcome("failure")), (3, 1), "{text}");
    let breaker = |state: &str| {
        let label = format!("client=\"fleet\",endpoint=\"{address}\",state=\"{state}\"");
        of("coreloop_client_endpoint_breaker", &label)
    };
    assert_eq!((breaker("closed"), breaker("open"), breaker("half-open")), (1, 0, 0));
    assert_eq!(of("coreloop_client_endpoint_connected", "client=\"one\""), 1);
    check_with_promtool(&text);
    parse_strictly(&scrape(&server, OPEN_METRICS));
    server.shutdown();
    stock.shutdown();
}

#[test]
fn a_bucket_shows_the_trace_of_its_latest_span() {
    let _turn = crate::common::shared();
    let tracer = Tracer::new(&TraceConfig::default());
    let server = builder().tracer(tracer.clone()).start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    // A method has histograms once it was called.
    peer.ask(&Frame::request(1, "Arith.Multiply", Codec::Json, r#"{"A":6,"B":7}"#));
    let context = TraceContext::new(TraceId::new(0xabc).unwrap(), SpanId::new(0xdef).unwrap(), true);
    let mut span = FinishedSpan::new(context, SpanKind::Server, "Arith.Multiply");
    (span.handler_us, span.queue_us, span.start_unix_ns) = (100, 3, 1_700_000_000_000_000_000);
    tracer.writer().write(span);
    let text = scrape(&server, OPEN_METRICS);
    let exemplar = "# {trace_id=\"00000000000000000000000000000abc\",span_id=\"0000000000000def\"} 0.000101 1700000000.000";
    let found: Vec<&str> = text.lines().filter(|line| line.ends_with(exemplar)).collect();
    assert_eq!(found.len(), 1, "{text}");
    let bucket = "coreloop_server_handler_seconds_bucket{method=\"Arith.Multiply\",le=\"0.000128\"} ";
    assert!(found[0].starts_with(bucket), "{found:?}");
    assert!(!scrape(&server, TEXT).contains("trace_id"));
    if let Some(samples) = parse_strictly(&text) {
        let with_exemplar = samples.iter().filter(|sample| !sample["exemplar"].is_null());
        assert_eq!(with_exemplar.count(), 2, "one of each histogram");
    }
    server.shutdown();
}

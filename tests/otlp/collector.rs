//! A real Collector receives what is exported.

use std::time::Duration;

use coreloop::client::Client;
use coreloop::otlp::Exporter;
use coreloop::{Context, Server};
use serde_json::json;

use super::peer::{Collector, attribute};
use super::{config, eventually, span, tracer};

#[test]
fn a_collector_receives_each_span_once_in_both_formats() {
    let Some(mut collector) = Collector::start() else { return };
    let mut first = 1;
    for (is_json, gzip) in [(false, true), (false, false), (true, false), (true, true)] {
        let (tracer, writer) = tracer(4096);
        let mut config = config(&collector.url());
        (config.json, config.gzip, config.service_name) = (is_json, gzip, format!("shop \"{is_json}\" ü"));
        let exporter = Exporter::builder().config(config).tracer(&tracer).start().unwrap();
        // Spans are kept for the export once it has begun.
        eventually("the export has begun", || {
            writer.write(span(1 << 40));
            exporter.stats().spans.exported > 0
        });
        (first..first + 1500).for_each(|number| writer.write(span(number)));
        // The end has two seconds for the rest.
        eventually("most are exported", || exporter.stats().spans.exported > 1024);
        let stats = exporter.shutdown().spans;
        assert_eq!((stats.dropped, stats.requests_failed, stats.waiting), (0, 0, 0));
        assert_eq!(tracer.stats().dropped, 0);
        first += 1500;
    }
    collector.stop();
    let mut ids = Vec::new();
    for (resource, span) in collector.spans() {
        let id = u64::from_str_radix(span["spanId"].as_str().unwrap(), 16).unwrap();
        if id != 1 << 40 {
            ids.push(id);
            assert_eq!(span["traceId"], "0000000000000000000000000000feed");
            assert_eq!(span["name"], "Shop.Price");
            assert_eq!(span["startTimeUnixNano"], json!((1_700_000_000_000_000_000 + id).to_string()));
            let is_json = id > 3000;
            assert_eq!(*attribute(&resource, "service.name"), json!(format!("shop \"{is_json}\" ü")));
            assert_eq!(*attribute(&span, "rpc.method"), json!("Price"));
        }
    }
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(1..=6000), "{} spans", ids.len());
}

#[test]
fn a_server_exports_its_metrics_and_the_last_ones_at_the_end_of_a_drain() {
    let Some(mut collector) = Collector::start() else { return };
    for is_json in [false, true] {
        let server = Server::builder()
            .configure(|config| {
                config.otlp.endpoint = collector.url();
                config.otlp.json = is_json;
            })
            .method("Greeter.Greet", |_cx: &Context, name: String| Ok(format!("hello, {name}")))
            .listen("127.0.0.1:0")
            .start()
            .unwrap();
        let client = Client::connect(server.addresses()[0].to_string()).unwrap();
        for _ in 0..3 {
            let _: String = client.call_value("Greeter.Greet", &"Ann").unwrap();
        }
        drop(client);
        server.shutdown();
    }
    collector.stop();
    let metrics = collector.metrics();
    let calls: Vec<_> = metrics.iter().filter(|metric| metric["name"] == "coreloop_server_calls").collect();
    assert_eq!(calls.len(), 2, "{metrics:?}");
    for calls in calls {
        let points = calls["sum"]["dataPoints"].as_array().unwrap();
        let greet =
            points.iter().find(|point| *attribute(point, "method") == json!("Greeter.Greet")).unwrap();
        assert_eq!((&greet["asInt"], attribute(greet, "code")), (&json!("3"), &json!("ok")));
        assert_eq!(calls["sum"]["isMonotonic"], json!(true));
        assert_eq!(calls["sum"]["aggregationTemporality"], json!(2));
    }
    assert!(metrics.iter().any(|metric| metric["name"] == "coreloop_export_dropped"));
}

#[test]
fn a_collector_that_starts_late_receives_what_waited() {
    let Some(mut collector) = Collector::prepare() else { return };
    let (tracer, writer) = tracer(4096);
    let exporter = Exporter::builder().config(config(&collector.url())).tracer(&tracer).start().unwrap();
    let mut written = 0;
    eventually("a request has failed", || {
        written += 1;
        writer.write(span(written));
        exporter.stats().spans.requests_failed > 0
    });
    assert!(collector.run());
    eventually("all are exported", || {
        exporter.stats().spans.exported > 0 && exporter.stats().spans.waiting == 0
    });
    writer.write(span(written + 1));
    let stats = exporter.shutdown().spans;
    assert_eq!((stats.dropped, tracer.stats().dropped), (0, 0));
    collector.stop();
    let spans = collector.spans();
    assert_eq!(spans.len() as u64, stats.exported);
    let last = format!("{:016x}", written + 1);
    assert!(spans.iter().any(|(_, span)| span["spanId"] == last.as_str()));
}

#[test]
fn a_collector_that_is_stopped_costs_spans_and_the_end_is_bounded() {
    let Some(mut collector) = Collector::start() else { return };
    let (tracer, writer) = tracer(1000);
    let exporter = Exporter::builder().config(config(&collector.url())).tracer(&tracer).start().unwrap();
    let mut written = 0_u64;
    let mut write = |count: u64| {
        (written..written + count).for_each(|number| writer.write(span(number + 1)));
        written += count;
    };
    eventually("the export has begun", || {
        write(1);
        exporter.stats().spans.exported > 0
    });
    collector.signal("STOP");
    // One request is on its way, and 1,000 spans wait: the rest is dropped.
    eventually("spans are dropped", || {
        write(1000);
        tracer.stats().dropped > 10_000
    });
    assert!(exporter.stats().spans.waiting <= 512);
    let begun = std::time::Instant::now();
    let stats = exporter.shutdown().spans;
    // A bound on what the exporter itself allows, with room for a machine that is busy.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(stats.dropped > 0 && stats.waiting == 0, "{stats:?}");
    // Each span was exported, given up, dropped by the queue, or written before the export took notice of the queue.
    let counted = stats.exported + stats.dropped + tracer.stats().dropped;
    assert!(counted <= written, "{counted} of {written}");
    collector.signal("CONT");
    collector.stop();
}

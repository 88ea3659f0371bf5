//! Peers that refuse, delay, or answer nonsense.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coreloop::client::Client;
use coreloop::otlp::{ExportError, Exporter};
use coreloop::{Context, Error, Server};

use super::scripted::Scripted;
use super::{config, eventually, span, tracer};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Exports spans to a peer, until the exporter's numbers are as the test wants; returns the problems.
fn export(peer: &Scripted, until: impl Fn(&Exporter) -> bool) -> (Exporter, Vec<String>) {
    let (tracer, writer) = tracer(100);
    let problems: Arc<Mutex<Vec<String>>> = Arc::default();
    let reported = problems.clone();
    let exporter = Exporter::builder()
        .config(config(&peer.url()))
        .tracer(&tracer)
        .on_problem(move |text| reported.lock().unwrap().push(text.to_owned()))
        .start()
        .unwrap();
    eventually("the export is as the test wants it", || {
        writer.write(span(1));
        until(&exporter)
    });
    let problems = problems.lock().unwrap().clone();
    (exporter, problems)
}

#[test]
fn a_request_that_is_answered_503_is_sent_again() {
    let peer = Scripted::start(|number| match number {
        0 | 1 => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_vec(),
        _ => OK.to_vec(),
    });
    let (exporter, problems) = export(&peer, |exporter| exporter.stats().spans.exported > 0);
    let stats = exporter.stats().spans;
    assert_eq!((stats.requests_failed, stats.dropped), (2, 0));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("spans are not exported: ") && problems[0].ends_with("status 503: busy"));
    assert!(peer.requests() >= 3);
}

#[test]
fn the_pause_that_a_peer_demands_is_kept() {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = times.clone();
    let peer = Scripted::start(move |number| {
        seen.lock().unwrap().push(Instant::now());
        match number {
            0 => b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => OK.to_vec(),
        }
    });
    let (exporter, _) = export(&peer, |exporter| exporter.stats().spans.exported > 0);
    assert_eq!(exporter.stats().spans.requests_failed, 1);
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(990), "{:?}", times[1] - times[0]);
}

#[test]
fn a_request_that_is_refused_is_counted_and_reported_once() {
    let peer = Scripted::start(|_| b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec());
    let (exporter, problems) = export(&peer, |exporter| exporter.stats().spans.requests_failed >= 5);
    assert!(exporter.stats().spans.dropped >= 5);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_partial_success_is_counted() {
    let peer = Scripted::start(|_| {
        // `partial_success { rejected_spans: 1, error_message: "no" }`
        [b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", &b"\x0a\x06\x08\x01\x12\x02no"[..]].concat()
    });
    let (_exporter, problems) = export(&peer, |exporter| exporter.stats().spans.dropped > 0);
    assert!(problems[0].contains("has rejected 1 spans: no"), "{problems:?}");
}

#[test]
fn answers_that_are_nonsense_or_endless_are_failures() {
    let endless = [b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", &[b'x'; 100_000][..]].concat();
    let chunks = {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        (0..200).for_each(|_| bytes.extend([&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat()));
        bytes
    };
    for answer in [b"\x00\xffnonsense\r\n\r\n".to_vec(), endless, chunks, Vec::new()] {
        let peer = Scripted::start(move |_| answer.clone());
        let (exporter, problems) = export(&peer, |exporter| exporter.stats().spans.requests_failed >= 2);
        assert_eq!(exporter.stats().spans.exported, 0);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn a_peer_that_never_answers_delays_no_call_and_no_drain_for_long() {
    // It accepts connections and reads nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let server = Server::builder()
        .configure(|config| {
            config.otlp.endpoint = url;
            config.otlp.metrics_interval_ms = 20;
        })
        .method("Greeter.Greet", |_cx: &Context, name: String| Ok(format!("hello, {name}")))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    eventually("metrics wait", || server.export_stats().unwrap().metrics.waiting > 0);
    for _ in 0..1000 {
        let reply: String = client.call_value("Greeter.Greet", &"Ann").unwrap();
        assert_eq!(reply, "hello, Ann");
    }
    drop(client);
    server.shutdown();
}

#[test]
fn a_server_does_not_start_with_a_url_that_is_not_valid() {
    for (url, text) in [
        ("ftp://collector:4318", "otlp.endpoint: expected http://HOST:PORT or https://HOST:PORT; found"),
        (
            "collector:4318",
            "otlp.endpoint: expected http://HOST:PORT or https://HOST:PORT; found \"collector:4318\"",
        ),
    ] {
        let started = Server::in_memory().configure(|config| config.otlp.endpoint = url.to_owned()).start();
        let error = started.err().unwrap();
        assert!(matches!(error, Error::Export(_)) && error.to_string().starts_with(text), "{error}");
    }
    // Without a collector in the environment either.
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        assert!(matches!(Exporter::builder().start(), Err(ExportError::NoEndpoint)));
        let server = Server::in_memory().start().unwrap();
        assert!(server.export_stats().is_none());
    }
}

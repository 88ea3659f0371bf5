//! Peers cannot make series: what they send is counted, and never becomes a label.

use std::io::{Read, Write};

use coreloop::codec::Codec;

use super::{OPEN_METRICS, TEXT, builder, check_with_promtool, parse_strictly, scrape, sum};
use crate::common::{Frame, Peer, eventually};

/// The bound in docs/observability.md: for each method, each reactor, and once.
fn series_max(methods: usize, reactors: usize) -> usize {
    78 * methods + 52 * reactors + 88
}

const NAMES: usize = 10_000;
const AT_ONCE: usize = 100;

/// Reads a response of HTTP.
fn read_response(peer: &Peer) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"\r\n\r\n") {
        peer.tcp().read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let head = String::from_utf8(seen).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let mut body = vec![0; length.parse().unwrap()];
    peer.tcp().read_exact(&mut body).unwrap();
    head
}

#[test]
fn ten_thousand_names_of_peers_make_no_series() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let address = &server.addresses()[0];
    // Methods that do not exist, by the hashes of their names.
    let mut native = Peer::connect(address);
    for first in (0..NAMES).step_by(AT_ONCE) {
        let frames: Vec<Frame> = (first..first + AT_ONCE)
            .map(|at| Frame::request(at as u64 + 1, &format!("Peer{at}.Do{at}"), Codec::Json, "1"))
            .collect();
        native.send_all(&frames);
        (0..AT_ONCE).for_each(|_| assert_eq!(native.answer().status, 12));
    }
    // Names as text, in JSON-RPC.
    let json = Peer::connect(address);
    for at in 0..1000 {
        let request =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{at},\"method\":\"Peer{at}\\\"\\n.Do\",\"params\":[]}}\n");
        json.tcp().write_all(request.as_bytes()).unwrap();
        let mut byte = [0];
        let mut seen = Vec::new();
        while !seen.ends_with(b"}}") {
            json.tcp().read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    }
    // Header fields and user agents of calls that succeed, and of calls that fail in various ways.
    let http = Peer::connect(address);
    for at in 0..1000 {
        let body = format!("{{\"A\":{at},\"B\":{}}}", at % 2);
        let request = format!(
            "POST /Arith/Divide HTTP/1.1\r\nHost: h{at}\r\nUser-Agent: u{at}\r\nX-Label{at}: \"v{at}\\\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        http.tcp().write_all(request.as_bytes()).unwrap();
        read_response(&http);
    }
    let codes = 1000;
    for at in 0..codes {
        let body = format!("{{\"Code\":{},\"Message\":\"m{at}\"}}", at % 17);
        let request = format!(
            "POST /Echo/Fail HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        http.tcp().write_all(request.as_bytes()).unwrap();
        read_response(&http);
    }
    let sent = (NAMES + 1000 + 1000) as u64 + codes;
    // The end of a call is counted before its answer is written, but the histograms of a group of inline calls after it.
    let ended = |text: &str| {
        ["calls_total", "one_way_calls_total", "calls_refused_total", "calls_dropped_total"]
            .iter()
            .map(|name| sum(text, &format!("coreloop_server_{name}"), ""))
            .sum::<u64>()
    };
    eventually("every call is counted", || ended(&scrape(&server, TEXT)) >= sent);
    let text = scrape(&server, TEXT);
    assert_eq!(ended(&text), sent, "{text}");
    assert_eq!(
        sum(&text, "coreloop_server_calls_refused_total", "code=\"unimplemented\""),
        NAMES as u64 + 1000
    );
    assert_eq!(sum(&text, "coreloop_server_handler_seconds_count", "Arith.Divide"), 1000);
    assert_eq!(sum(&text, "coreloop_server_calls_total", "method=\"Echo.Fail\""), codes);
    let snapshot = server.stats();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    let series_max = series_max(snapshot.methods.len(), snapshot.reactors.len());
    assert!(series <= series_max, "{series} of {series_max}");
    assert!(!text.contains("Peer") && !text.contains("X-Label"), "{text}");
    check_with_promtool(&text);
    parse_strictly(&scrape(&server, OPEN_METRICS));
    server.shutdown();
}

/// What the bound adds up: each method and each reactor that the bound allows has all of its series.
#[test]
fn the_bound_of_series_is_that_of_its_parts() {
    use coreloop::metrics::{DURATION_BOUNDS, server_families, trace_families};
    let histogram = DURATION_BOUNDS.len() + 3;
    let (codes, sheds) = (coreloop::Code::ALL.len(), coreloop::stats::SHED_REASONS.len());
    let of_method = codes + 1 + sheds + 2 * histogram;
    assert_eq!(series_max(1, 0) - series_max(0, 0), of_method);
    let mut snapshot = coreloop::stats::Snapshot::default();
    let count = |snapshot: &coreloop::stats::Snapshot| -> usize {
        server_families(snapshot)
            .iter()
            .flat_map(|family| &family.samples)
            .map(|sample| match &sample.value {
                coreloop::metrics::MetricValue::Histogram(histogram) => histogram.counts.len() + 2,
                _ => 1,
            })
            .sum()
    };
    let without = count(&snapshot);
    let server = builder().start().unwrap();
    snapshot.reactors.push(server.stats().reactors[0].clone());
    assert_eq!(count(&snapshot) - without, series_max(0, 1) - series_max(0, 0));
    // Once: without codes of refusals, reasons of closing, and protocols that an empty snapshot has not.
    let (closes, protocols) =
        (coreloop::stats::CLOSE_REASONS.len(), coreloop::wire::ProtocolId::ALL.len() + 2);
    let traces = trace_families(&Default::default()).len();
    // The process has 8, what is left out 5, events for the log 3, reloads 2, their files 2.
    let once = without + codes + closes + 2 * protocols + traces + 8 + 5 + 3 + 2 + 2;
    assert_eq!(once, series_max(0, 0));
    server.shutdown();
}

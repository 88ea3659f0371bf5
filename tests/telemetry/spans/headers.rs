//! The trace headers of callers, over every protocol that has some.

use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::codec::Codec;
use coreloop::message::MetadataBuf;
use coreloop::trace::{SpanKind, Tracer};
use coreloop::wire::http2::hpack::{HpackEncoder, Indexing};
use coreloop::wire::http2::{Http2Frame, PREFACE, SettingEntries};
use coreloop::{Code, Server};

use super::{SPAN, TRACE, attribute, spans, tracer};
use crate::common::{Frame, PATIENCE, Peer, shared};

struct Shop;

#[coreloop::service]
impl Shop {
    #[rpc(inline)]
    fn price(&self, cx: &coreloop::Context, count: u32) -> Result<u32, coreloop::Status> {
        cx.span().event("priced");
        cx.span().attribute("count", count);
        Ok(40 * count)
    }
}

fn server(tracer: &Tracer) -> Server {
    Server::builder().cores(1).service(Shop).tracer(tracer.clone()).listen("127.0.0.1:0").start().unwrap()
}

type Header<'a> = (&'a str, &'a str);

fn native(server: &Server, headers: &[Header<'_>]) {
    let mut metadata = MetadataBuf::new();
    headers.iter().for_each(|(key, value)| metadata.push(key, value.as_bytes()).unwrap());
    let mut frame = Frame::call(1, "Shop.Price", 2);
    frame.metadata = metadata.as_bytes().to_vec();
    assert_eq!(Peer::connect(&server.addresses()[0]).ask(&frame).number(), 80);
}

/// Sends a request, and returns the answer up to the end of the connection.
fn http_request(server: &Server, path: &str, headers: &[Header<'_>], body: &str) -> String {
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn http(server: &Server, headers: &[Header<'_>]) {
    let answer = http_request(server, "/Shop/Price", headers, "2");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("80"), "{answer}");
}

fn json_rpc_over_http(server: &Server, headers: &[Header<'_>]) {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"Shop.Price","params":[2]}"#;
    let answer = http_request(server, "/", headers, body);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"result\":80"), "{answer}");
}

/// Sends one call, and reads until the trailers may have come: the span says whether it was understood.
fn grpc(server: &Server, headers: &[Header<'_>]) {
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = PREFACE.to_vec();
    let mut encoder = HpackEncoder::new(1024, 4096, true);
    let mut block = Vec::new();
    encoder.begin(&mut block);
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/Shop/Price"),
        ("content-type", "application/grpc+json"),
        ("te", "trailers"),
    ];
    let lower: Vec<(String, &str)> =
        headers.iter().map(|(key, value)| (key.to_ascii_lowercase(), *value)).collect();
    let all = call.into_iter().chain(lower.iter().map(|(key, value)| (&**key, *value)));
    for (name, value) in all {
        encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut block);
    }
    let (stream_id, message) = (1, [0, 0, 0, 0, 1, b'2']);
    for frame in [
        Http2Frame::Settings(SettingEntries::new(&[]).unwrap()),
        Http2Frame::SettingsAck,
        Http2Frame::Headers {
            stream: stream_id,
            priority: None,
            fragment: &block,
            padding: None,
            is_last: false,
            is_end_of_block: true,
        },
        Http2Frame::Data { stream: stream_id, data: &message, padding: None, is_last: true },
    ] {
        frame.print(&mut bytes);
    }
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // The reply is in a data frame: its length, then the number.
    while !answer.windows(7).any(|part| part == b"\0\0\0\0\x0280") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "{answer:?}");
        answer.extend_from_slice(&part[..count]);
    }
}

type Caller = fn(&Server, &[Header<'_>]);

const PROTOCOLS: [(&str, Caller); 4] =
    [("native", native), ("http", http), ("http", json_rpc_over_http), ("grpc", grpc)];

#[test]
fn a_sampled_call_belongs_to_the_trace_of_its_caller_over_every_protocol() {
    let _turn = shared();
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{TRACE}-{SPAN}-1");
    let contexts: [&[Header<'_>]; 3] = [
        &[("traceparent", &w3c), ("tracestate", "a=1,b=2")],
        &[("b3", &b3)],
        &[("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN), ("X-B3-Sampled", "1")],
    ];
    for (protocol, call) in PROTOCOLS {
        for headers in contexts {
            let tracer = tracer(|_| {});
            let server = server(&tracer);
            call(&server, headers);
            let spans = spans(&tracer, 1);
            let span = &spans[0];
            assert_eq!(span.trace_id().to_string(), TRACE, "{protocol} {headers:?}");
            assert_eq!(span.parent.unwrap().to_string(), SPAN);
            assert_ne!(span.context.span_id.to_string(), SPAN);
            assert!(span.is_parent_remote && span.context.is_sampled);
            assert_eq!(
                span.context.state.as_deref(),
                headers.get(1).filter(|h| h.0 == "tracestate").map(|h| h.1)
            );
            assert_eq!((&*span.name, span.kind, span.code), ("Shop.Price", SpanKind::Server, Code::Ok));
            assert_eq!((span.protocol, span.end_place), (protocol, "inline"));
            assert_eq!(span.events[0].name, "priced");
            assert_eq!(attribute(span, "count"), Some(&2_u32.into()));
            assert!(span.start_unix_ns > 1_600_000_000_000_000_000 && span.peer.is_some());
            server.shutdown();
        }
    }
}

#[test]
fn broken_trace_headers_are_counted_and_no_error() {
    let _turn = shared();
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let other = format!("{TRACE}-{SPAN}-0");
    let long = "x".repeat(8193);
    for (protocol, call) in PROTOCOLS {
        let tracer = tracer(|_| {});
        let server = server(&tracer);
        call(&server, &[("traceparent", "00-nonsense")]);
        call(&server, &[("b3", &long[..300]), ("X-B3-TraceId", "1")]);
        call(&server, &[("traceparent", &w3c), ("tracestate", "=")]);
        call(&server, &[("traceparent", &w3c), ("b3", &other)]);
        let spans = spans(&tracer, 2);
        assert!(
            spans.iter().all(|span| span.trace_id().to_string() == TRACE && span.context.state.is_none())
        );
        let stats = tracer.stats();
        assert_eq!((stats.broken_headers, stats.conflicting_headers), (4, 1), "{protocol}");
        assert_eq!((stats.sampled, stats.baggage_dropped), (2, 0), "{protocol}");
        server.shutdown();
    }
    let tracer = tracer(|_| {});
    let server = server(&tracer);
    native(&server, &[("baggage", &long)]);
    assert_eq!((tracer.stats().baggage_dropped, tracer.recent().len()), (1, 0));
}

#[test]
fn the_decision_of_the_caller_counts() {
    let _turn = shared();
    let tracer = tracer(|config| config.sample_one_in = 1);
    let server = server(&tracer);
    let denied = format!("00-{TRACE}-{SPAN}-00");
    let undecided = format!("{TRACE}-{SPAN}");
    native(&server, &[("traceparent", &denied)]);
    native(&server, &[("b3", "0")]);
    native(&server, &[("b3", &undecided)]);
    native(&server, &[("b3", "1")]);
    native(&server, &[]);
    let spans = spans(&tracer, 3);
    let parents: Vec<_> = spans.iter().map(|span| span.parent.map(|id| id.to_string())).collect();
    assert_eq!(parents, [Some(SPAN.to_owned()), None, None]);
    assert!(spans[1].trace_id() != spans[2].trace_id());
}

#[test]
fn without_a_tracer_headers_have_no_effect_and_codecs_too() {
    let _turn = shared();
    let server = Server::builder().cores(1).service(Shop).listen("127.0.0.1:0").start().unwrap();
    native(&server, &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    let client = coreloop::client::Client::connect(server.addresses()[0].to_string()).unwrap();
    assert_eq!(client.call_bytes("Shop.Price", Codec::Json, b"2").unwrap(), b"80");
    assert!(server.inspector().tracer().is_none());
}

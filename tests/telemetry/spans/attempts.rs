//! Spans of attempts: hedges and calls that are sent again; the address of the server in them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::trace::{AttributeValue, FinishedSpan, SpanKind, Tracer};
use coreloop::{Code, Context, Server, Status};

use super::{SPAN, TRACE, attribute, spans, tracer};
use crate::common::{PATIENCE, shared};

/// Returns a client whose calls have spans of the trace [`TRACE`].
fn in_trace(client: &Client) -> Client {
    client.with_metadata("traceparent", format!("00-{TRACE}-{SPAN}-01").as_bytes()).unwrap()
}

fn of_kind(spans: &[Arc<FinishedSpan>], kind: SpanKind) -> Vec<Arc<FinishedSpan>> {
    let mut found: Vec<_> = spans.iter().filter(|span| span.kind == kind).cloned().collect();
    found.sort_by_key(|span| span.attempt);
    found
}

/// The marks of the attempts that servers have received.
type Marks = Arc<Mutex<Vec<Option<String>>>>;

/// A server that keeps the first call with `true` of all servers until it is cancelled.
fn slow_once(tracer: &Tracer, is_kept: &Arc<AtomicBool>, marks: &Marks) -> Server {
    let (is_kept, marks) = (is_kept.clone(), marks.clone());
    let method = move |cx: &Context<'_>, keeps: bool| -> Result<u32, Status> {
        if keeps {
            let mark = cx.metadata().find("attempt").map(|mark| String::from_utf8(mark.to_vec()).unwrap());
            marks.lock().unwrap().push(mark);
            if !is_kept.swap(true, Ordering::SeqCst) {
                cx.sleep(Duration::MAX)?;
            }
        }
        Ok(7)
    };
    let builder = Server::builder().cores(1).tracer(tracer.clone());
    builder.method_of_kind("Slow.Call", Kind::Blocking, method).listen("127.0.0.1:0").start().unwrap()
}

#[test]
fn a_hedged_call_has_a_span_for_each_attempt_and_the_loser_is_cancelled() {
    let _turn = shared();
    let tracer = tracer(|_| {});
    let (is_kept, marks) = (Arc::new(AtomicBool::new(false)), Marks::default());
    let servers = [slow_once(&tracer, &is_kept, &marks), slow_once(&tracer, &is_kept, &marks)];
    let address = format!("static:{},{}", servers[0].addresses()[0], servers[1].addresses()[0]);
    let client = Client::builder(&address)
        .tracer(&tracer)
        .fleet(|fleet| {
            fleet.hedge.is_on = true;
            fleet.hedge.samples_min = 10;
        })
        .build()
        .unwrap()
        .with_idempotent(true);
    // The method's usual time must be known. These calls have no spans.
    for _ in 0..30 {
        client.call_bytes("Slow.Call", Codec::Json, b"false").unwrap();
    }
    assert_eq!(in_trace(&client).call_bytes("Slow.Call", Codec::Json, b"true").unwrap(), b"7");
    let spans = spans(&tracer, 4);
    let [loser, winner] = &of_kind(&spans, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!((loser.attempt, winner.attempt), (0, 1));
    assert_eq!((loser.code, winner.code), (Code::Cancelled, Code::Ok));
    assert!(loser.peer != winner.peer && loser.context.span_id != winner.context.span_id);
    for span in &spans {
        assert_eq!(span.trace_id().to_string(), TRACE);
    }
    for client in [loser, winner] {
        assert_eq!(client.parent.unwrap().to_string(), SPAN, "siblings");
        assert!(client.start_unix_ns > 0 && client.duration > Duration::ZERO);
        // The span of the server that has received this attempt.
        let of_server = of_kind(&spans, SpanKind::Server);
        let server = of_server.iter().find(|span| span.parent == Some(client.context.span_id)).unwrap();
        assert_eq!(server.code, client.code);
    }
    assert!(winner.start_unix_ns > loser.start_unix_ns);
    assert_eq!(*marks.lock().unwrap(), [None, Some("2".to_owned())]);
}

/// Reads a request of HTTP, and returns its trace header; `None` at the end of the connection.
fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut length, mut parent) = (0, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match &*name.to_lowercase() {
            "content-length" => length = value.parse().unwrap(),
            "traceparent" => parent = value.to_owned(),
            _ => {}
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(parent)
}

#[test]
fn a_call_that_is_sent_again_over_http_has_a_span_for_each_time() {
    let _turn = shared();
    let tracer = tracer(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Answers the first request of each connection, but closes the first connection in place of its second answer.
    let server = thread::spawn(move || {
        let mut parents = Vec::new();
        while parents.len() < 3 {
            let stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = BufReader::new(stream);
            while let Some(parent) = request(&mut stream) {
                parents.push(parent);
                if parents.len() == 2 {
                    break;
                }
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n7";
                stream.get_mut().write_all(answer).unwrap();
                if parents.len() == 3 {
                    break;
                }
            }
        }
        parents
    });
    let client = Client::builder(format!("http:{address}")).tracer(&tracer).build().unwrap();
    let client = client.with_idempotent(true);
    client.call_bytes("Back.Echo", Codec::Json, b"1").unwrap();
    assert_eq!(in_trace(&client).call_bytes("Back.Echo", Codec::Json, b"22").unwrap(), b"7");
    let parents = server.join().unwrap();
    let spans = spans(&tracer, 2);
    let [lost, answered] = &spans[..] else { unreachable!() };
    assert_eq!((lost.attempt, answered.attempt), (0, 1));
    assert_eq!((lost.code, answered.code), (Code::Unavailable, Code::Ok));
    assert!(
        lost.message.as_deref().is_some_and(|text| text.contains("before the server had answered")),
        "{lost:?}"
    );
    for (span, parent) in spans.iter().zip(&parents[1..]) {
        assert_eq!((span.kind, span.protocol, span.request_bytes), (SpanKind::Client, "http", 2));
        assert_eq!(*parent, format!("00-{TRACE}-{}-01", span.context.span_id));
        assert_eq!(span.parent.unwrap().to_string(), SPAN);
        assert_eq!(attribute(span, "server.address"), Some(&AttributeValue::from("127.0.0.1")));
        assert_eq!(attribute(span, "server.port"), Some(&AttributeValue::from(u32::from(address.port()))));
    }
    assert_eq!((lost.reply_bytes, answered.reply_bytes), (0, 1));
}

//! Spans of clients, and traces over several servers.

use std::sync::{Arc, Mutex};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::trace::{FinishedSpan, SpanKind, Tracer};
use coreloop::{Code, Context, OwnedContext, Server, Status};

use super::{SPAN, TRACE, attribute, spans, tracer};
use crate::common::raw_server::unused_address;
use crate::common::shared;

/// The metadata that the last server has received.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A server that notes the metadata of its calls.
fn back(tracer: &Tracer, seen: &Seen) -> Server {
    let seen = seen.clone();
    Server::builder()
        .cores(1)
        .tracer(tracer.clone())
        .method("Back.Echo", move |cx: &Context<'_>, n: i64| {
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            *seen.lock().unwrap() =
                cx.metadata().iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
            Ok(n)
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

struct Front {
    back: Client,
}

#[coreloop::service]
impl Front {
    #[rpc(blocking)]
    fn go(&self, cx: &Context, n: i64) -> Result<i64, Status> {
        cx.span().event("calls the next");
        cx.client(&self.back).call_bytes("Back.Echo", Codec::Json, n.to_string().as_bytes())?;
        Ok(n)
    }

    async fn go_async(&self, cx: OwnedContext, n: i64) -> Result<i64, Status> {
        cx.span().event("calls the next");
        let call = cx.client(&self.back).start_bytes("Back.Echo", Codec::Json, n.to_string().as_bytes());
        call.await?;
        Ok(n)
    }
}

fn front(tracer: &Tracer, back: Client) -> Server {
    Server::builder()
        .cores(1)
        .tracer(tracer.clone())
        .executor(|future| {
            // Each call on a thread of its own: what runs it does not matter here.
            std::thread::spawn(move || smol::block_on(future));
        })
        .service(Front { back })
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

fn client(scheme: &str, server: &Server, tracer: &Tracer) -> Client {
    Client::builder(format!("{scheme}:{}", server.addresses()[0])).tracer(tracer).connect().unwrap()
}

fn names(spans: &[Arc<FinishedSpan>]) -> Vec<(SpanKind, &str)> {
    spans.iter().map(|span| (span.kind, &*span.name)).collect()
}

/// Asserts that each span is the parent of the next.
#[track_caller]
fn are_one_chain(spans: &[Arc<FinishedSpan>]) {
    for pair in spans.windows(2) {
        assert_eq!(pair[1].parent, Some(pair[0].context.span_id), "{spans:#?}");
        assert_eq!(pair[1].trace_id(), pair[0].trace_id());
    }
}

#[test]
fn a_chain_of_two_servers_is_one_trace() {
    let _turn = shared();
    for scheme in ["native", "http"] {
        for method in ["Front.Go", "Front.GoAsync"] {
            let tracer = tracer(|config| config.sample_one_in = 1);
            let seen = Seen::default();
            let back = back(&tracer, &seen);
            let front = front(&tracer, client(scheme, &back, &tracer));
            let client = client(scheme, &front, &tracer);
            assert_eq!(client.call_bytes(method, Codec::Json, b"3").unwrap(), b"3");
            let spans = spans(&tracer, 4);
            let (client, server) = (SpanKind::Client, SpanKind::Server);
            let expected = [(client, method), (server, method), (client, "Back.Echo"), (server, "Back.Echo")];
            assert_eq!(names(&spans), expected, "{scheme}");
            are_one_chain(&spans);
            assert_eq!(spans[0].parent, None);
            assert_eq!(spans[1].events[0].name, "calls the next");
            assert!(spans.iter().all(|span| span.code == Code::Ok && span.peer.is_some()));
            assert!(spans[0].duration >= spans[1].duration && spans[1].duration >= spans[2].duration);
            assert_eq!((spans[0].protocol, spans[0].request_bytes, spans[0].reply_bytes), (scheme, 1, 1));
            assert!(attribute(&spans[2], "server.address").is_some());
        }
    }
}

#[test]
fn a_client_without_a_tracer_passes_on_the_span_of_the_server() {
    let _turn = shared();
    let tracer = tracer(|config| config.send_b3 = true);
    let seen = Seen::default();
    let back = back(&tracer, &seen);
    let plain = Client::connect(back.addresses()[0].to_string()).unwrap();
    let front = front(&tracer, plain);
    let caller = Client::connect(front.addresses()[0].to_string()).unwrap();
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let caller = caller
        .with_metadata("traceparent", parent.as_bytes())
        .and_then(|caller| caller.with_metadata("tracestate", b"a=1"))
        .and_then(|caller| caller.with_metadata("X-B3-TraceId", b"is replaced"))
        .and_then(|caller| caller.with_metadata("baggage", b"user=7"))
        .and_then(|caller| caller.with_metadata("tenant", b"9"))
        .unwrap();
    caller.call_bytes("Front.Go", Codec::Json, b"3").unwrap();
    let spans = spans(&tracer, 2);
    are_one_chain(&spans);
    assert_eq!(spans[0].parent.unwrap().to_string(), SPAN);
    let span = spans[0].context.span_id;
    let mut expected = [
        ("baggage", "user=7".to_owned()),
        ("tenant", "9".to_owned()),
        ("traceparent", format!("00-{TRACE}-{span}-01")),
        ("tracestate", "a=1".to_owned()),
        ("b3", format!("{TRACE}-{span}-1")),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    expected.sort();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_call_that_is_not_sampled_passes_on_what_its_caller_has_sent() {
    let _turn = shared();
    let tracer = tracer(|_| {});
    let seen = Seen::default();
    let back = back(&tracer, &seen);
    let front = front(&tracer, client("native", &back, &tracer));
    let caller = Client::connect(front.addresses()[0].to_string()).unwrap();
    let parent = format!("00-{TRACE}-{SPAN}-00");
    let caller = caller.with_metadata("traceparent", parent.as_bytes()).unwrap();
    let too_much = caller.with_metadata("baggage", "x".repeat(9000).as_bytes()).unwrap();
    too_much.call_bytes("Front.Go", Codec::Json, b"3").unwrap();
    assert_eq!(*seen.lock().unwrap(), [("traceparent".to_owned(), parent)]);
    assert!(tracer.recent().is_empty());
    assert_eq!(tracer.stats().baggage_dropped, 1, "the second server has not received it");
}

#[test]
fn each_attempt_of_a_call_has_a_span_and_they_are_siblings() {
    let _turn = shared();
    let tracer = tracer(|config| config.sample_one_in = 1);
    let which = |answer: Result<i64, Status>| {
        Server::builder()
            .cores(1)
            .tracer(tracer.clone())
            .method("Which.Server", move |_cx: &Context<'_>, _n: i64| answer.clone())
            .listen("127.0.0.1:0")
            .start()
            .unwrap()
    };
    let (bad, good) = (which(Err(Status::unavailable("not now"))), which(Ok(1)));
    let address = format!("static:{},{}", bad.addresses()[0], good.addresses()[0]);
    let client = Client::builder(address).tracer(&tracer).build().unwrap().with_idempotent(true);
    // A call that is sent to the bad server first is attempted again. Which one is first is random.
    let mut calls = 0;
    while bad.stats().method("Which.Server").unwrap().calls == 0 {
        assert!(calls < 1000, "the bad server is never asked");
        calls += 1;
        assert_eq!(client.call_bytes("Which.Server", Codec::Json, b"1").unwrap(), b"1");
    }
    let spans = spans(&tracer, 2 * calls + 2);
    let failed = spans.iter().find(|span| span.kind == SpanKind::Client && span.code != Code::Ok).unwrap();
    let of_trace: Vec<_> =
        spans.iter().filter(|span| span.trace_id() == failed.trace_id()).cloned().collect();
    let (clients, servers): (Vec<_>, Vec<_>) =
        of_trace.into_iter().partition(|span| span.kind == SpanKind::Client);
    assert_eq!((clients.len(), servers.len()), (2, 2));
    for (attempt, (client, server)) in clients.iter().zip(&servers).enumerate() {
        assert_eq!(client.attempt, attempt as u32);
        assert_eq!(client.parent, None, "siblings");
        assert_eq!(server.parent, Some(client.context.span_id));
        assert_eq!(server.code, client.code);
    }
    assert_eq!(clients[0].message.as_deref(), Some("not now"));
    assert!(clients[0].peer != clients[1].peer);
}

#[test]
fn a_call_that_does_not_reach_a_server_has_a_span_with_the_error() {
    let _turn = shared();
    let tracer = tracer(|config| config.sample_one_in = 1);
    let client = Client::builder(unused_address()).tracer(&tracer).build().unwrap();
    client.call_bytes("No.Body", Codec::Json, b"1").unwrap_err();
    let spans = spans(&tracer, 1);
    let span = &spans[0];
    assert_eq!((span.kind, &*span.name, span.code), (SpanKind::Client, "No.Body", Code::Unavailable));
    assert!(span.message.is_some() && span.peer.is_none());
}

#[test]
fn one_way_calls_and_streams_have_one_span_on_each_side() {
    let _turn = shared();
    let tracer = tracer(|config| config.sample_one_in = 1);
    let seen = Seen::default();
    let back = back(&tracer, &seen);
    let client = client("native", &back, &tracer);
    client.send_bytes("Back.Echo", Codec::Json, b"1").unwrap();
    let spans = spans(&tracer, 2);
    assert_eq!(names(&spans), [(SpanKind::Client, "Back.Echo"), (SpanKind::Server, "Back.Echo")]);
    are_one_chain(&spans);
    assert_eq!(spans[1].reply_bytes, 0);
}

//! Spans of streaming calls: one on each side, from the begin to the end of the call.

use std::sync::Arc;

use coreloop::client::{Client, MethodId, StreamCaller};
use coreloop::codec::Plain;
use coreloop::service::{Kind, Method};
use coreloop::stream::StreamEvent;
use coreloop::trace::{FinishedSpan, SpanKind, Tracer};
use coreloop::{Code, Server, Status};

use super::{spans, tracer};
use crate::common::shared;

static COUNT: MethodId = MethodId::new("Stream.Count");
static SUM: MethodId = MethodId::new("Stream.Sum");
static CHAT: MethodId = MethodId::new("Stream.Chat");

type Numbers = Plain<i64>;
type Text = Plain<String>;

fn server(tracer: &Tracer) -> Server {
    let count = Method::server_stream::<Numbers, Numbers>("Stream.Count", |cx, to, sink| {
        cx.span().event("counts");
        for number in 1..=to.abs() {
            sink.send(&number)?;
        }
        if to < 0 { Err(Status::out_of_range("n out of range")) } else { Ok(()) }
    });
    let sum = Method::client_stream::<Numbers, Numbers>("Stream.Sum", |_cx, numbers| numbers.sum());
    let chat = Method::bidirectional::<Text, Text>("Stream.Chat", |_cx, messages, sink| {
        messages.for_each_message_into(sink, |sink, event| match event {
            StreamEvent::Message(text) => {
                if let Err(error) = sink.try_send(&text) {
                    sink.finish(Err(error.into()));
                }
            }
            StreamEvent::End(result) => sink.finish(result),
        });
        Ok(())
    });
    Server::builder()
        .cores(1)
        .tracer(tracer.clone())
        .method_of(count.unwrap().kind(Kind::Blocking))
        .method_of(sum.unwrap().kind(Kind::Blocking))
        .method_of(chat.unwrap().kind(Kind::Inline))
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

/// Makes one call that is sampled, and returns the spans of the client and of the server.
#[track_caller]
fn both_spans(call: impl FnOnce(&Client)) -> [Arc<FinishedSpan>; 2] {
    let tracer = tracer(|config| config.sample_one_in = 1);
    let server = server(&tracer);
    let client = Client::builder(server.addresses()[0].to_string()).tracer(&tracer).build().unwrap();
    call(&client);
    let spans = spans(&tracer, 2);
    let [client, server] = &spans[..] else { unreachable!() };
    assert_eq!((client.kind, server.kind), (SpanKind::Client, SpanKind::Server));
    assert_eq!((client.parent, server.parent), (None, Some(client.context.span_id)));
    assert_eq!((&client.name, client.code), (&server.name, server.code));
    // A client that cancels a call has done with it before the server hears of it.
    let is_longer = client.duration >= server.duration;
    assert!(is_longer || client.code == Code::Cancelled, "{client:?} {server:?}");
    spans.try_into().unwrap()
}

#[test]
fn a_stream_of_the_server_has_one_span_on_each_side() {
    let _turn = shared();
    let [client, server] = both_spans(|client| {
        let numbers = client.server_stream::<Numbers, Numbers>(&COUNT, &300).unwrap();
        assert_eq!(numbers.map(Result::unwrap).sum::<i64>(), 300 * 301 / 2);
    });
    assert_eq!((&*server.name, server.code), ("Stream.Count", Code::Ok));
    assert_eq!(server.events[0].name, "counts");
    // The argument is counted (in the compact codec), and the messages are not.
    assert_eq!((client.request_bytes, server.request_bytes), (2, 2));
    assert_eq!((client.reply_bytes, server.reply_bytes), (0, 0));
}

#[test]
fn a_stream_that_fails_after_messages_has_the_failure_on_both_sides() {
    let _turn = shared();
    let [client, server] = both_spans(|client| {
        let numbers: Vec<_> = client.server_stream::<Numbers, Numbers>(&COUNT, &-2).unwrap().collect();
        assert!(numbers.len() == 3 && numbers[1].is_ok() && numbers[2].is_err());
    });
    assert_eq!(server.code, Code::OutOfRange);
    for span in [client, server] {
        assert_eq!(span.message.as_deref(), Some("n out of range"));
    }
}

#[test]
fn a_stream_of_the_client_has_one_span_on_each_side() {
    let _turn = shared();
    let [client, server] = both_spans(|client| {
        let upload = client.client_stream::<Numbers, Numbers>(&SUM).unwrap();
        for number in 1..=4 {
            upload.messages().send(&number).unwrap();
        }
        assert_eq!(upload.finish().unwrap(), 10);
    });
    assert_eq!((&*server.name, server.code), ("Stream.Sum", Code::Ok));
    assert_eq!((client.request_bytes, server.request_bytes), (0, 0));
    assert_eq!((client.reply_bytes, server.reply_bytes), (1, 1));
}

#[test]
fn streams_in_both_directions_have_one_span_on_each_side() {
    let _turn = shared();
    let [client, server] = both_spans(|client| {
        let (sink, mut replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
        for text in ["one", "two"] {
            sink.send(&text.to_owned()).unwrap();
            assert_eq!(replies.next().unwrap().unwrap(), text);
        }
        sink.finish(Ok(()));
        assert!(replies.next().is_none());
    });
    assert_eq!((&*server.name, server.code), ("Stream.Chat", Code::Ok));
    assert!(client.peer.is_some() && server.peer.is_some());
}

#[test]
fn a_stream_that_its_caller_drops_is_cancelled_on_both_sides() {
    let _turn = shared();
    let [client, server] = both_spans(|client| {
        let (sink, mut replies) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
        sink.send(&"one".to_owned()).unwrap();
        assert_eq!(replies.next().unwrap().unwrap(), "one");
        drop((sink, replies));
    });
    assert_eq!((client.code, server.code), (Code::Cancelled, Code::Cancelled));
}

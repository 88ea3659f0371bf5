//! Streaming calls of a client against a server that the test plays: what the client sends, and what it does when a rule
//! of the protocol is broken (docs/wire.md, "Streams").

use coreloop::client::{CallError, Client, InFlight, MethodId, StreamCaller};
use coreloop::codec::{Codec, Plain};
use coreloop::message::MetadataBuf;
use coreloop::stream::{Sink, SinkError, Stream};
use coreloop::{Code, Status};

use crate::common::raw_server::{ClientFrame, RawServer, Side, assert_works, connected, end, start};
use crate::common::{Frame, PATIENCE, eventually, kind};

static CHAT: MethodId = MethodId::new("Raw.Chat");
static COUNT: MethodId = MethodId::new("Raw.Count");

type Text = Plain<String>;

fn pair() -> (RawServer, Client, Side) {
    let server = RawServer::start();
    let client = server.client();
    let side = connected(&client, &server);
    (server, client.with_codec(Codec::Json), side)
}

/// Starts a call whose result is a stream.
fn watch(client: &Client, side: &mut Side) -> (Stream<String>, ClientFrame) {
    let stream = client.server_stream::<Text, Text>(&COUNT, &String::new()).unwrap();
    (stream, side.next_of(kind::REQUEST))
}

fn chat(client: &Client, side: &mut Side) -> (Sink<String>, Stream<String>, ClientFrame) {
    let (sink, stream) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    (sink, stream, side.next_of(kind::REQUEST))
}

fn window(id: u64, bytes: u32) -> Frame {
    let mut frame = Frame::of_kind(kind::WINDOW, id);
    frame.body = bytes.to_le_bytes().to_vec();
    frame
}

fn credit(frame: &ClientFrame) -> (u64, u32) {
    assert_eq!(frame.kind, kind::WINDOW, "{frame:?}");
    (frame.id, u32::from_le_bytes(frame.body[..].try_into().unwrap()))
}

#[test]
fn a_call_grants_its_windows_and_ends_its_messages() {
    let (_server, client, mut side) = pair();
    let (sink, stream) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    let request = side.next().unwrap();
    // Bit 1: messages follow.
    assert_eq!((request.kind, request.flags, request.body.len()), (kind::REQUEST, 2, 0));
    assert_eq!(credit(&side.next().unwrap()), (request.id, (256 << 10) - 65_536));
    assert_eq!(credit(&side.next().unwrap()), (0, 15 << 20));
    sink.send(&"one".to_owned()).unwrap();
    sink.finish(Ok(()));
    let data = side.next().unwrap();
    assert_eq!((data.kind, data.id, &data.body[..]), (kind::DATA, request.id, &b"\"one\""[..]));
    let end = side.next().unwrap();
    assert_eq!((end.kind, end.id, end.body.len()), (kind::END, request.id, 0));
    side.peer.send(&request.data("\"two\""));
    side.peer.send(&request.reply(""));
    assert_eq!(stream.collect::<Result<Vec<_>, _>>().unwrap(), ["two"]);
    // The server streaming form sends its argument in the request, and no end.
    let (stream, request) = watch(&client, &mut side);
    assert_eq!((request.flags, &request.body[..]), (0, &b"\"\""[..]));
    side.peer.send(&request.reply(""));
    assert_eq!(stream.count(), 0);
    assert_works(&client, &mut side);
}

#[test]
fn open_streams_end_when_the_server_closes_its_sending_half() {
    let server = RawServer::start();
    // No ping notices the end before it is read.
    let builder =
        Client::builder(&server.address).configure(|config| (config.ping_ms, config.idle_ms) = (0, 0));
    let client = builder.build().unwrap().with_codec(Codec::Json);
    let (sink, mut stream) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    let mut side = server.accept();
    let request = side.next_of(kind::REQUEST);
    side.peer.send(&request.data("\"one\""));
    side.peer.half_close();
    assert_eq!(stream.next(), Some(Ok("one".to_owned())));
    let mut end = std::task::Poll::Pending;
    eventually("the stream ends", || {
        end = stream.try_next();
        end.is_ready()
    });
    let std::task::Poll::Ready(Some(Err(status))) = end else { panic!("{end:?}") };
    assert_eq!(status.code, Code::Unavailable, "{status}");
    assert_eq!(sink.ended().unwrap().code, Code::Unavailable);
    eventually("no call is left", || client.in_flight() == 0);
}

#[test]
fn messages_wait_for_credit_and_their_end_after_them() {
    let (_server, client, mut side) = pair();
    let (sink, _stream, request) = chat(&client, &mut side);
    let large = "x".repeat(65_536);
    sink.try_send(&large).unwrap();
    assert_eq!(sink.try_send(&"more".to_owned()), Err(SinkError::NotReady));
    assert_eq!(side.next_of(kind::DATA).body.len(), large.len() + 2);
    // The window is negative by the header and the quotes; one byte more than that makes it positive.
    side.peer.send(&window(request.id, 34));
    side.peer.send(&window(request.id, 1));
    sink.send(&"more".to_owned()).unwrap();
    assert_eq!(side.next_of(kind::DATA).body, b"\"more\"");
    sink.finish(Ok(()));
    side.next_of(kind::END);

    // The connection's window: messages are held although their stream has credit, and the end follows them.
    let mut sinks = Vec::new();
    let mut left = (1 << 20) - (65_536 + 34) - 38;
    while left > 0 {
        let (sink, stream, request) = chat(&client, &mut side);
        side.peer.send(&window(request.id, 1 << 20));
        let bytes = left.min(100_000);
        sink.send(&"x".repeat(bytes)).unwrap();
        side.next_of(kind::DATA);
        left -= (bytes + 34).min(left);
        sinks.push((sink, stream));
    }
    let (sink, _stream, request) = chat(&client, &mut side);
    sink.send(&"held".to_owned()).unwrap();
    sink.finish(Ok(()));
    // A unary call passes by.
    assert_works(&client, &mut side);
    side.peer.send(&window(0, 1 << 20));
    let data = side.next_of(kind::DATA);
    assert_eq!((data.id, &data.body[..]), (request.id, &b"\"held\""[..]));
    assert_eq!(side.next_of(kind::END).id, request.id);
}

#[test]
fn a_hello_enlarges_the_windows() {
    let server = RawServer::start();
    let client = server.client().with_codec(Codec::Json);
    let call = start(&client, "hello");
    let mut side = server.accept();
    let mut metadata = MetadataBuf::new();
    for (key, value) in [("stream-window", "200000"), ("connection-window", "3000000"), ("features", "x")] {
        metadata.push(key, value.as_bytes()).unwrap();
    }
    let mut hello = Frame::of_kind(kind::HELLO, 0);
    hello.metadata = metadata.as_bytes().to_vec();
    side.peer.send(&hello);
    side.echo();
    end(call).unwrap();
    let mut open = Vec::new();
    // 2.6 MiB in all, and 150,000 bytes of each stream before its last message, without any credit.
    for _ in 0..18 {
        let (sink, stream, _) = chat(&client, &mut side);
        for bytes in [100_000, 49_000, 1000] {
            sink.send(&"x".repeat(bytes)).unwrap();
            side.next_of(kind::DATA);
        }
        open.push((sink, stream));
    }
}

#[test]
fn a_hello_that_comes_late_enlarges_the_windows_of_open_streams() {
    let server = RawServer::start();
    let client = server.client().with_codec(Codec::Json);
    let (sink, _stream) = client.bidirectional::<Text, Text>(&CHAT).unwrap().split();
    let mut side = server.accept();
    side.next_of(kind::REQUEST);
    for bytes in [60_000, 10_000] {
        sink.send(&"x".repeat(bytes)).unwrap();
        side.next_of(kind::DATA);
    }
    assert_eq!(sink.try_send(&"more".to_owned()), Err(SinkError::NotReady));
    let (ready, is_ready) = std::sync::mpsc::channel();
    sink.on_ready(move || ready.send(()).unwrap());
    let mut metadata = MetadataBuf::new();
    metadata.push("stream-window", b"200000").unwrap();
    let mut hello = Frame::of_kind(kind::HELLO, 0);
    hello.metadata = metadata.as_bytes().to_vec();
    side.peer.send(&hello);
    is_ready.recv_timeout(PATIENCE).expect("the sink is ready");
    for bytes in [100_000, 20_000, 20_000] {
        sink.try_send(&"x".repeat(bytes)).unwrap();
        side.next_of(kind::DATA);
    }
    assert_eq!(sink.try_send(&"more".to_owned()), Err(SinkError::NotReady));
}

/// Plays `answer` to a call whose result is a stream; returns how the stream ended. The call is cancelled.
#[track_caller]
fn breaks(answer: impl FnOnce(&ClientFrame) -> Vec<Frame>) -> (Vec<String>, Status) {
    let (_server, client, mut side) = pair();
    let (stream, request) = watch(&client, &mut side);
    for frame in answer(&request) {
        side.peer.send(&frame);
    }
    let (mut messages, mut end) = (Vec::new(), None);
    for item in stream {
        match item {
            Ok(message) => messages.push(message),
            Err(status) => end = Some(status),
        }
    }
    assert_eq!(side.next_of(kind::CANCEL).id, request.id);
    // The connection lives, and so do its windows.
    assert_works(&client, &mut side);
    (messages, end.expect("the call fails"))
}

fn headers(request: &ClientFrame) -> Frame {
    let mut frame = Frame::of_kind(kind::HEADERS, request.id);
    frame.codec = request.codec;
    frame
}

#[test]
fn a_server_that_breaks_a_rule_fails_its_call() {
    let (messages, status) = breaks(|request| vec![headers(request), headers(request)]);
    assert_eq!((messages.len(), status), (0, Status::internal("the server sent headers twice")));
    let (messages, status) = breaks(|request| vec![request.data("\"a\""), headers(request)]);
    assert_eq!(messages, ["a"]);
    assert_eq!(status, Status::internal("the server sent headers after a message"));
    let (_, status) = breaks(|request| vec![request.reply("\"a\"")]);
    let text = "the server sent a result in the reply of a call whose result is a stream";
    assert_eq!(status, Status::internal(text));
    let (_, status) = breaks(|request| vec![request.data("no JSON")]);
    assert_eq!(status.code, Code::InvalidArgument);
    let (_, status) = breaks(|request| {
        let mut frame = request.data("\"a\"");
        frame.codec = Codec::Compact.number();
        vec![frame]
    });
    let text = "the server sent a data frame in codec 4; the request is in codec 2";
    assert_eq!(status, Status::internal(text));
    let (_, status) = breaks(|request| {
        let mut frame = request.data("\"a\"");
        frame.flags = 4;
        vec![frame]
    });
    assert_eq!(status.code, Code::Internal, "{status}");
    let (_, status) = breaks(|request| vec![request.data("x".repeat(17 << 20))]);
    assert_eq!(status.code, Code::ResourceExhausted, "{status}");
}

#[test]
fn credit_that_is_too_large_ends_its_stream_or_the_connection() {
    let (_server, client, mut side) = pair();
    // A direction that does not stream takes no credit.
    let (stream, request) = watch(&client, &mut side);
    side.peer.send(&window(request.id, u32::MAX));
    side.peer.send(&request.reply(""));
    assert_eq!(stream.count(), 0);
    let (sink, stream, request) = chat(&client, &mut side);
    side.peer.send(&window(request.id, u32::MAX));
    assert_eq!(side.next_of(kind::CANCEL).id, request.id);
    let status = stream.last().unwrap().unwrap_err();
    assert_eq!((status.code, sink.ended().unwrap().code), (Code::ResourceExhausted, Code::ResourceExhausted));
    assert_works(&client, &mut side);
    let (_sink, stream, _) = chat(&client, &mut side);
    side.peer.send(&window(0, u32::MAX));
    assert_eq!(stream.last().unwrap().unwrap_err().code, Code::Unavailable);
    side.ends();
}

#[test]
fn data_beyond_the_window_fails_its_call() {
    let (_server, client, mut side) = pair();
    let (stream, request) = watch(&client, &mut side);
    let body = format!("\"{}\"", "x".repeat(150_000));
    for _ in 0..3 {
        side.peer.send(&request.data(body.clone()));
    }
    assert_eq!(side.next_of(kind::CANCEL).id, request.id);
    let items: Vec<_> = stream.collect();
    let status = items.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code, Code::Internal);
    assert!(status.message.contains("beyond its stream's window of 262144 bytes"), "{status}");
    assert_works(&client, &mut side);
}

#[test]
fn frames_that_concern_no_stream_fail_a_unary_call() {
    let (_server, client, mut side) = pair();
    let call = start(&client, "one");
    let request = side.request();
    side.peer.send(&request.data("x"));
    let error = end(call).unwrap_err();
    assert!(matches!(&error, CallError::ReplyRefused(status) if status.code == Code::Internal), "{error}");
    assert!(error.to_string().contains("a data frame for a call without a stream"), "{error}");
    side.next_of(kind::CANCEL);
    // Headers may precede any reply, once.
    let call = start(&client, "two");
    let request = side.request();
    side.peer.send(&headers(&request));
    side.peer.send(&request.reply("two"));
    assert_eq!(end(call).unwrap(), b"two");
    // Frames for a call that is over are dropped.
    side.peer.send(&request.data("late"));
    side.peer.send(&window(request.id, 5));
    side.peer.send(&headers(&request));
    assert_works(&client, &mut side);
}

#[test]
fn late_messages_of_a_cancelled_call_return_their_credit() {
    let (_server, client, mut side) = pair();
    // Each call gets a message that is not taken; together they are more than the connection's window.
    let body = format!("\"{}\"", "x".repeat(200_000));
    let mut granted: i64 = 1 << 20;
    let mut sent: i64 = 0;
    for _ in 0..120 {
        let stream = client.server_stream::<Text, Text>(&COUNT, &String::new()).unwrap();
        let request = loop {
            let frame = side.next().unwrap();
            match frame.kind {
                kind::WINDOW if frame.id == 0 => granted += i64::from(credit(&frame).1),
                kind::WINDOW => {}
                kind::REQUEST => break frame,
                _ => panic!("{frame:?}"),
            }
        };
        drop(stream);
        loop {
            let frame = side.next().unwrap();
            match frame.kind {
                kind::WINDOW if frame.id == 0 => granted += i64::from(credit(&frame).1),
                kind::WINDOW => {}
                kind::CANCEL => break,
                _ => panic!("{frame:?}"),
            }
        }
        assert!(granted > sent, "the credit does not come back: {sent} of {granted}");
        side.peer.send(&request.data(body.clone()));
        sent += 32 + body.len() as i64;
        side.peer.send(&request.failure(Code::Cancelled, "cancelled"));
    }
}

#[test]
fn messages_that_wait_when_the_call_ends_hold_their_credit_until_they_are_taken() {
    let (_server, client, mut side) = pair();
    let body = format!("\"{}\"", "x".repeat(200_000));
    let mut ended = Vec::new();
    // The whole window of the connection, in messages of calls that have ended.
    for _ in 0..84 {
        let (stream, request) = watch(&client, &mut side);
        side.peer.send(&request.data(body.clone()));
        side.peer.send(&request.reply(""));
        ended.push(stream);
    }
    eventually("all calls have ended", || client.in_flight() == 0);
    // One more breaks the window's rule.
    let (stream, request) = watch(&client, &mut side);
    side.peer.send(&request.data(body.clone()));
    side.next_of(kind::CANCEL);
    let status = stream.last().unwrap().unwrap_err();
    assert!(status.message.contains("beyond the connection's window"), "{status}");
    // Taken messages make room.
    for stream in ended {
        assert_eq!(stream.map(Result::unwrap).map(|text| text.len()).sum::<usize>(), 200_000);
    }
    let frame = side.next().unwrap();
    assert_eq!(credit(&frame).0, 0);
    let (stream, request) = watch(&client, &mut side);
    side.peer.send(&request.data(body));
    side.peer.send(&request.reply(""));
    assert_eq!(stream.count(), 1);
}

#[test]
fn a_drain_lets_open_streams_finish() {
    let (server, client, mut side) = pair();
    let (sink, mut stream, request) = chat(&client, &mut side);
    side.peer.send(&Frame::of_kind(kind::DRAIN, 0));
    side.peer.send(&request.data("\"a\""));
    assert_eq!(stream.next(), Some(Ok("a".to_owned())));
    // New calls go to a new connection; the stream goes on here.
    let call: InFlight<Vec<u8>> = start(&client, "new");
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(call).unwrap(), b"new");
    sink.send(&"b".to_owned()).unwrap();
    assert_eq!(side.next_of(kind::DATA).body, b"\"b\"");
    side.peer.send(&request.reply(""));
    assert_eq!(stream.next(), None);
    side.ends();
}

#[test]
fn a_silent_server_is_pinged_while_a_stream_is_open() {
    let server = RawServer::start();
    let client = Client::builder(&server.address).configure(|config| config.ping_ms = 50).build().unwrap();
    let mut side = connected(&client, &server);
    let client = client.with_codec(Codec::Json);
    let (mut stream, request) = watch(&client, &mut side);
    let ping = side.next_of(kind::PING);
    let mut pong = Frame::of_kind(kind::PONG, ping.id);
    pong.codec = ping.codec;
    side.peer.send(&pong);
    side.peer.send(&request.data("\"a\""));
    assert_eq!(stream.next(), Some(Ok("a".to_owned())));
    // Without an answer to the next one, the connection and its streams end.
    let status = stream.next().unwrap().unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
}

//! Streaming calls over raw native frames, against a running server.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coreloop::codec::{Codec, Plain};
use coreloop::config::Limits;
use coreloop::server::Server;
use coreloop::service::{Kind, Method};
use coreloop::stream::{SinkError, StreamEvent};
use coreloop::{Code, Context, Sink, Status, Stream};

use crate::common::{Answer, Frame, Peer, eventually, kind, shared};

/// Sends what it receives, with callbacks: no thread waits.
fn echo(_cx: &Context<'_>, messages: Stream<String>, sink: Sink<String>) -> Result<(), Status> {
    let waiting: Arc<Mutex<Vec<String>>> = Arc::default();
    messages.for_each_message(move |event| match event {
        StreamEvent::Message(text) => {
            // The caller of these tests reads, so credit is there.
            if let Err(error) = sink.try_send(&text) {
                waiting.lock().unwrap().push(error.to_string());
            }
        }
        StreamEvent::End(result) => sink.finish(result),
    });
    Ok(())
}

fn server(change: impl FnOnce(&mut Limits)) -> Server {
    let mut builder = Server::builder().cores(1).workers(1).configure(|config| change(&mut config.limits));
    for (name, kind) in [("Inline", Kind::Inline), ("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)] {
        let count =
            Method::server_stream::<Plain<u32>, Plain<u32>>(format!("{name}.Count"), |_cx, to, sink| {
                for number in 1..=to {
                    sink.try_send(&number)?;
                }
                Ok(())
            });
        let sum = Method::client_stream_deferring::<Plain<i64>, Plain<i64>>(
            format!("{name}.Sum"),
            |_cx, numbers, reply| {
                let (mut sum, mut reply) = (0, Some(reply));
                numbers.for_each_message(move |event| match event {
                    StreamEvent::Message(number) => sum += number,
                    StreamEvent::End(result) => {
                        if let Some(reply) = reply.take() {
                            reply.send(result.map(|()| sum));
                        }
                    }
                });
            },
        );
        let chat = Method::bidirectional::<Plain<String>, Plain<String>>(format!("{name}.Chat"), echo);
        let into = Method::bidirectional::<Plain<String>, Plain<String>>(
            format!("{name}.Into"),
            |_cx, messages, sink| {
                messages.for_each_message_into(sink, |sink, event| match event {
                    StreamEvent::Message(text) => {
                        if let Err(error) = sink.try_send(&text) {
                            sink.finish(Err(error.into()));
                        }
                    }
                    StreamEvent::End(result) => sink.finish(result),
                });
                Ok(())
            },
        );
        let endless = Method::server_stream::<Plain<u32>, Plain<String>>(
            format!("{name}.SendsBlocking"),
            |_cx, _, sink| {
                sink.send(&"one".to_owned())?;
                Ok(())
            },
        );
        let panics =
            Method::server_stream::<Plain<u32>, Plain<u32>>(format!("{name}.Panic"), |_cx, how, sink| {
                sink.try_send(&how)?;
                panic!("on purpose");
            });
        let fails =
            Method::server_stream::<Plain<u32>, Plain<u32>>(format!("{name}.Fail"), |_cx, how, sink| {
                sink.try_send(&how)?;
                Err(Status::not_found("nothing more"))
            });
        for method in [count, sum, chat, into, endless, panics, fails] {
            builder = builder.method_of(method.unwrap().kind(kind));
        }
    }
    let collect = Method::client_stream::<Plain<i64>, Plain<Vec<i64>>>("Blocking.Collect", |_cx, numbers| {
        numbers.collect()
    });
    let flood = Method::server_stream::<Plain<u32>, Plain<String>>("Blocking.Flood", |_cx, bytes, sink| {
        let text = "x".repeat(bytes as usize);
        loop {
            sink.send(&text)?;
        }
    });
    let leave = Method::server_stream::<Plain<u32>, Plain<u32>>("Blocking.Leave", |_cx, how, sink| {
        sink.try_send(&how)?;
        thread::spawn(move || drop(sink)).join().unwrap();
        Ok(())
    });
    let later = Method::server_stream::<Plain<u32>, Plain<u32>>("Pooled.Later", |_cx, to, sink| {
        thread::spawn(move || {
            for number in 1..=to {
                sink.send(&number).unwrap();
            }
            sink.finish(Err(Status::aborted("enough")));
            sink.finish(Ok(()));
        });
        Ok(())
    });
    builder
        .method_of(collect.unwrap().kind(Kind::Blocking))
        .method_of(flood.unwrap().kind(Kind::Blocking))
        .method_of(leave.unwrap().kind(Kind::Blocking))
        .method_of(later.unwrap())
        .method_of_kind("Inline.Double", Kind::Inline, |_cx, number: i64| Ok(number * 2))
        .method_of_kind("Blocking.Sleep", Kind::Blocking, |cx: &Context<'_>, ms: u64| {
            cx.sleep(Duration::from_millis(ms)).map(|()| 0)
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

fn peer(server: &Server) -> Peer {
    Peer::connect(&server.addresses()[0])
}

pub fn open(id: u64, method: &str) -> Frame {
    let mut frame = Frame::request(id, method, Codec::Json, []);
    frame.flags = 2;
    frame
}

pub fn data(id: u64, body: &str) -> Frame {
    let mut frame = Frame::of_kind(kind::DATA, id);
    frame.codec = Codec::Json.number();
    frame.body = body.into();
    frame
}

pub fn end(id: u64) -> Frame {
    Frame::of_kind(kind::END, id)
}

pub fn credit(id: u64, bytes: u32) -> Frame {
    let mut frame = Frame::of_kind(kind::WINDOW, id);
    frame.body = bytes.to_le_bytes().to_vec();
    frame
}

/// Returns the next frame that is not credit.
pub fn next(peer: &mut Peer) -> Answer {
    loop {
        let answer = peer.answer();
        if answer.kind != kind::WINDOW {
            return answer;
        }
    }
}

/// Reads the messages of a stream up to its reply.
fn stream(peer: &mut Peer, id: u64) -> (Vec<String>, Answer) {
    let mut messages = Vec::new();
    loop {
        let answer = next(peer);
        assert_eq!(answer.id, id);
        if answer.kind == kind::REPLY {
            return (messages, answer);
        }
        assert_eq!((answer.kind, answer.codec), (kind::DATA, Codec::Json.number()));
        messages.push(answer.text());
    }
}

#[test]
fn a_stream_of_results_precedes_its_reply() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    for (id, method) in ["Inline.Count", "Pooled.Count", "Blocking.Count"].into_iter().enumerate() {
        let id = id as u64 + 1;
        peer.send(&Frame::request(id, method, Codec::Json, *b"100"));
        let (messages, reply) = stream(&mut peer, id);
        assert_eq!(messages, (1..=100).map(|number| number.to_string()).collect::<Vec<_>>(), "{method}");
        reply.is(id, Code::Ok, "");
        assert!(reply.body.is_empty());
        peer.send(&Frame::request(id, method, Codec::Json, *b"0"));
        assert_eq!(stream(&mut peer, id).0.len(), 0);
    }
}

#[test]
fn a_stream_of_arguments_has_one_result() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    for (id, method) in ["Inline.Sum", "Pooled.Sum", "Blocking.Sum"].into_iter().enumerate() {
        let id = id as u64 + 1;
        peer.send(&open(id, method));
        for number in 1..=100 {
            peer.send(&data(id, &number.to_string()));
        }
        peer.send(&end(id));
        assert_eq!(next(&mut peer).number(), 5050, "{method}");
    }
    peer.send_all([&open(9, "Blocking.Collect"), &data(9, "1"), &data(9, "2"), &end(9)]);
    assert_eq!(next(&mut peer).text(), "[1,2]");
}

#[test]
fn messages_go_both_ways() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    for (id, method) in ["Inline.Chat", "Pooled.Chat", "Blocking.Chat"].into_iter().enumerate() {
        let id = id as u64 + 1;
        peer.send(&open(id, method));
        for at in 0..50 {
            peer.send(&data(id, &format!("\"message {at}\"")));
            assert_eq!(next(&mut peer).text(), format!("\"message {at}\""), "{method}");
        }
        peer.send(&end(id));
        next(&mut peer).is(id, Code::Ok, "");
    }
}

#[test]
fn the_streams_of_the_demo_go_on_when_the_caller_reads() {
    let _turn = shared();
    let server = coreloop::demo::services(Server::builder().cores(1).workers(1))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let mut peer = peer(&server);
    peer.ask(&Frame::request(1, "Users.Watch", Codec::Json, *b"-1")).is(
        1,
        Code::OutOfRange,
        "n out of range",
    );
    peer.send(&Frame::request(1, "Users.Watch", Codec::Json, *b"5000"));
    let mut users = 0;
    loop {
        let answer = next(&mut peer);
        if answer.kind == kind::REPLY {
            answer.is(1, Code::Ok, "");
            break;
        }
        users += 1;
        assert!(answer.text().contains(&format!("\"ID\":{users},")), "{}", answer.text());
        let bytes = 32 + answer.body.len() as u32;
        peer.send_all([&credit(1, bytes), &credit(0, bytes)]);
    }
    assert_eq!(users, 5000);
    peer.send(&open(2, "Users.Import"));
    let user = r#"{"ID":1,"Name":"a","Age":2,"Email":"e","Tags":[],"Scores":{}}"#;
    for _ in 0..10 {
        peer.send(&data(2, user));
    }
    peer.send(&end(2));
    assert_eq!(next(&mut peer).number(), 10);
    // Messages beyond the window of the caller wait in the chat.
    peer.send(&open(3, "Echo.Chat"));
    let text = format!("\"{}\"", "x".repeat(30_000));
    for _ in 0..6 {
        peer.send(&data(3, &text));
    }
    peer.send(&end(3));
    for _ in 0..3 {
        assert_eq!(next(&mut peer).body.len(), 30_002);
    }
    peer.send(&Frame::request(4, "Arith.Add", Codec::Json, *b"{\"A\":1,\"B\":2}"));
    assert_eq!(next(&mut peer).number(), 3);
    peer.send(&credit(3, 200_000));
    for _ in 0..3 {
        assert_eq!(next(&mut peer).body.len(), 30_002);
    }
    next(&mut peer).is(3, Code::Ok, "");
}

#[test]
fn many_streams_of_one_connection_complete() {
    let _turn = shared();
    let server = server(|_| {});
    let mut reader = peer(&server);
    // Both threads write whole frames.
    let writer = Arc::new(Mutex::new(reader.duplicate()));
    let granting = writer.clone();
    let text = format!("\"{}\"", "x".repeat(8 * 1024));
    let expected = text.clone();
    let reading = thread::spawn(move || {
        let (mut messages, mut ends) = (0, 0);
        while ends < 1024 {
            let answer = reader.answer();
            match answer.kind {
                kind::DATA => {
                    assert_eq!(answer.text(), expected);
                    messages += 1;
                    // What was taken is granted again.
                    granting.lock().unwrap().send(&credit(0, 32 + answer.body.len() as u32));
                }
                kind::REPLY => {
                    assert_eq!(answer.code(), Code::Ok, "{}", answer.text());
                    ends += 1;
                }
                other => assert_eq!(other, kind::WINDOW),
            }
        }
        messages
    });
    for id in 1..=1024 {
        writer.lock().unwrap().send_all([&open(id, "Inline.Chat"), &data(id, &text)]);
    }
    for id in 1..=1024 {
        writer.lock().unwrap().send(&end(id));
    }
    assert_eq!(reading.join().unwrap(), 1024);
}

/// A caller that writes 64 MiB in 1,024 streams before it takes anything back: beyond all windows.
fn write_before_reading(method: &str) {
    const STREAMS: u64 = 1024;
    let server = server(|_| {});
    let mut reader = peer(&server);
    // Both threads write whole frames.
    let writer = Arc::new(Mutex::new(reader.duplicate()));
    let granting = writer.clone();
    let (granted, grants) = mpsc::channel();
    let (answered, answer) = mpsc::channel();
    let (take, takes) = mpsc::channel::<()>();
    let text = format!("\"{}\"", "x".repeat(64 * 1024));
    let frame_bytes = 32 + text.len() as u32;
    let expected = text.len();
    let reading = thread::spawn(move || {
        let (mut echoed, mut ends, mut is_taking) = (0, 0, false);
        let mut untaken = Vec::new();
        while ends < STREAMS {
            let frame = reader.answer();
            match frame.kind {
                kind::WINDOW if frame.id == 0 => {
                    granted.send(i64::from(u32::from_le_bytes(frame.body.try_into().unwrap()))).unwrap();
                }
                kind::WINDOW => {}
                kind::DATA => {
                    assert_eq!(frame.body.len(), expected);
                    echoed += 1;
                    untaken.push(frame.id);
                }
                _ if frame.id > STREAMS => answered.send(frame.number()).unwrap(),
                _ => {
                    assert_eq!(frame.code(), Code::Ok, "{}", frame.text());
                    ends += 1;
                }
            }
            is_taking |= takes.try_recv().is_ok();
            if is_taking {
                for id in untaken.drain(..) {
                    let credits = [credit(id, frame_bytes), credit(0, frame_bytes)];
                    granting.lock().unwrap().send_all(&credits);
                }
            }
        }
        echoed
    });
    for id in 1..=STREAMS {
        writer.lock().unwrap().send(&open(id, method));
    }
    let mut window = 1_i64 << 20;
    let mut is_first_wait = true;
    for id in 1..=STREAMS {
        while window <= 0 {
            match grants.recv_timeout(Duration::from_millis(if is_first_wait { 500 } else { 20_000 })) {
                Ok(bytes) => window += bytes,
                // The server has used up its windows: a call without streams is answered all the same.
                Err(_) if is_first_wait => {
                    is_first_wait = false;
                    writer.lock().unwrap().send(&Frame::call(STREAMS + 1, "Inline.Double", 4));
                    assert_eq!(answer.recv_timeout(Duration::from_secs(20)), Ok(8));
                    take.send(()).unwrap();
                    // A frame that lets the reader look.
                    writer.lock().unwrap().send(&Frame::call(STREAMS + 1, "Inline.Double", 4));
                }
                Err(error) => panic!("{id}: {error}"),
            }
        }
        window -= i64::from(frame_bytes);
        writer.lock().unwrap().send_all([&data(id, &text), &end(id)]);
    }
    assert!(!is_first_wait, "64 MiB exceed the windows");
    assert_eq!(reading.join().unwrap(), STREAMS);
}

#[test]
fn a_caller_that_writes_beyond_all_windows_waits_and_completes_inline() {
    let _turn = shared();
    write_before_reading("Inline.Into");
}

#[test]
fn a_caller_that_writes_beyond_all_windows_waits_and_completes_pooled() {
    let _turn = shared();
    write_before_reading("Pooled.Into");
}

#[test]
fn a_stream_over_the_limit_is_refused() {
    let _turn = shared();
    let server = server(|limits| limits.streams_max = 2);
    let mut peer = peer(&server);
    peer.send_all([&open(1, "Inline.Chat"), &open(2, "Pooled.Chat"), &open(3, "Inline.Chat")]);
    next(&mut peer).is(3, Code::ResourceExhausted, "2 open streams (streams_max)");
    peer.send(&end(1));
    next(&mut peer).is(1, Code::Ok, "");
    peer.send_all([&open(3, "Inline.Chat"), &end(3)]);
    next(&mut peer).is(3, Code::Ok, "");
}

#[test]
fn a_sink_ends_as_it_is_left() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    peer.send(&Frame::request(1, "Blocking.Leave", Codec::Json, *b"7"));
    let (messages, reply) = stream(&mut peer, 1);
    assert_eq!(messages, ["7"]);
    reply.is(1, Code::Internal, "the sink was dropped before the stream was finished");
    for name in ["Inline", "Pooled", "Blocking"] {
        peer.send(&Frame::request(2, &format!("{name}.Panic"), Codec::Json, *b"7"));
        let (messages, reply) = stream(&mut peer, 2);
        assert_eq!(messages, ["7"]);
        reply.is(2, Code::Internal, "the handler panicked");
        peer.send(&Frame::request(2, &format!("{name}.Fail"), Codec::Json, *b"8"));
        let (messages, reply) = stream(&mut peer, 2);
        assert_eq!(messages, ["8"]);
        reply.is(2, Code::NotFound, "nothing more");
    }
    peer.send(&Frame::request(3, "Pooled.Later", Codec::Json, *b"30"));
    let (messages, reply) = stream(&mut peer, 3);
    assert_eq!(messages.len(), 30);
    reply.is(3, Code::Aborted, "enough");
}

#[test]
fn only_methods_that_may_block_wait_for_the_caller() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    for name in ["Inline", "Pooled"] {
        peer.send(&Frame::request(1, &format!("{name}.SendsBlocking"), Codec::Json, *b"1"));
        next(&mut peer).is(1, Code::Internal, "declare the method blocking");
    }
    peer.send(&Frame::request(1, "Blocking.SendsBlocking", Codec::Json, *b"1"));
    assert_eq!(stream(&mut peer, 1).0, ["\"one\""]);
    assert!(SinkError::MustNotBlock.to_string().contains("use try_send"));
}

#[test]
fn each_broken_rule_ends_only_its_call() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    let mut wrong_codec = data(1, "1");
    wrong_codec.codec = Codec::Gob.number();
    let long = data(1, &"1".repeat(100_000));
    for (frames, code, text) in [
        (vec![end(1), data(1, "1")], Code::InvalidArgument, "after the end frame"),
        (vec![end(1), end(1)], Code::InvalidArgument, "a second end frame"),
        (vec![wrong_codec], Code::InvalidArgument, "in codec 3; the request is in codec 2"),
        (vec![data(1, "x")], Code::InvalidArgument, ""),
        (vec![Frame::of_kind(kind::CANCEL, 1)], Code::Cancelled, "cancelled"),
    ] {
        peer.send(&open(1, "Blocking.Collect"));
        // The method reads a message before it can fail on the next.
        peer.send_all(&frames);
        let reply = next(&mut peer);
        if reply.code() == Code::Ok {
            // The call had ended before the frame came.
            continue;
        }
        reply.is(1, code, text);
        assert_eq!(peer.ask(&Frame::call(99, "Inline.Double", 4)).number(), 8);
    }
    // Two messages beyond the first window of 64 KiB, for a method that takes none of them.
    let server = self::server(|limits| limits.stream_window_bytes = 1);
    let mut peer = self::peer(&server);
    peer.send(&Frame::request(1, "Blocking.Sleep", Codec::Json, *b"10000"));
    peer.send(&open(2, "Blocking.Collect"));
    for _ in 0..20 {
        peer.send(&data(2, &long_number(200_000)));
    }
    peer.send_all([&long, &Frame::of_kind(kind::CANCEL, 1)]);
    let mut codes = [next(&mut peer), next(&mut peer)];
    codes.sort_by_key(|answer| answer.id);
    codes[1].is(2, Code::ResourceExhausted, "beyond its stream's window of 65536 bytes");
}

/// A number that no integer type holds.
fn long_number(digits: usize) -> String {
    "1".repeat(digits)
}

#[test]
fn methods_and_flags_must_agree() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    peer.ask(&Frame::call(1, "Inline.Sum", 1)).is(1, Code::InvalidArgument, "has no flag that says so");
    peer.ask(&Frame::call(1, "Pooled.Sum", 1)).is(1, Code::InvalidArgument, "has no flag that says so");
    peer.ask(&open(1, "Inline.Count")).is(1, Code::InvalidArgument, "is one message in the request");
    peer.send(&Frame::call(1, "Inline.Count", 1).one_way());
    assert_eq!(peer.ask(&Frame::call(99, "Inline.Double", 4)).number(), 8, "a one-way call has no answer");
}

#[test]
fn a_caller_that_reads_nothing_stops_the_sink_and_no_one_else() {
    let _turn = shared();
    let server = server(|limits| {
        limits.write_queue_high_bytes = 1 << 20;
        limits.write_queue_low_bytes = 256 << 10;
    });
    let mut greedy = peer(&server);
    greedy.send(&Frame::request(1, "Blocking.Flood", Codec::Json, *b"10000"));
    greedy.send_all([&credit(1, 1 << 30), &credit(0, 1 << 30)]);
    let mut other = peer(&server);
    for at in 0..100 {
        assert_eq!(other.ask(&Frame::call(at, "Inline.Double", 4)).number(), 8);
    }
    // After a pause, the caller reads again, and everything that was sent is there.
    for _ in 0..2_000 {
        assert_eq!(next(&mut greedy).body.len(), 10_002);
    }
    greedy.send(&Frame::of_kind(kind::CANCEL, 1));
    loop {
        let answer = next(&mut greedy);
        if answer.kind == kind::REPLY {
            answer.is(1, Code::Cancelled, "");
            break;
        }
    }
    assert_eq!(greedy.ask(&Frame::call(2, "Inline.Double", 4)).number(), 8);
}

#[test]
fn a_callback_that_sends_keeps_the_order_whatever_the_credit() {
    let _turn = shared();
    let builder = coreloop::demo::services(Server::builder().cores(1).workers(1));
    let server = builder.listen("127.0.0.1:0").start().unwrap();
    let mut peer = peer(&server);
    let request = Frame::request(1, "Users.Watch", Codec::Json, *b"20000");
    peer.send_all([&credit(0, 1 << 30), &request, &credit(1, 1 << 30)]);
    for id in 1..=20_000 {
        assert!(next(&mut peer).text().starts_with(&format!("{{\"ID\":{id},")), "{id}");
    }
    next(&mut peer).is(1, Code::Ok, "");
}

#[test]
fn a_sink_waits_for_credit() {
    let _turn = shared();
    let server = server(|_| {});
    let mut peer = peer(&server);
    peer.send(&Frame::request(1, "Blocking.Flood", Codec::Json, *b"10000"));
    // The window of 65,536 bytes admits messages of 10,034 bytes until it is used up.
    for _ in 0..7 {
        assert_eq!(next(&mut peer).body.len(), 10_002);
    }
    assert_eq!(peer.ask(&Frame::call(2, "Inline.Double", 4)).number(), 8, "no message came in between");
    peer.send(&credit(1, 30_000));
    for _ in 0..3 {
        assert_eq!(next(&mut peer).body.len(), 10_002);
    }
    assert_eq!(peer.ask(&Frame::call(2, "Inline.Double", 4)).number(), 8);
    // A stream ends with its deadline, too.
    let deadline =
        Frame::request(3, "Blocking.Flood", Codec::Json, *b"10000").time_left(Duration::from_millis(100));
    peer.send(&deadline);
    loop {
        let answer = next(&mut peer);
        if answer.kind == kind::REPLY {
            answer.is(3, Code::DeadlineExceeded, "");
            break;
        }
    }
}

#[test]
fn the_window_of_arguments_is_returned_as_they_are_taken() {
    let _turn = shared();
    let server = server(|_| {});
    let mut writer = peer(&server);
    let mut reader = writer.duplicate();
    let (granted, grants) = mpsc::channel();
    let reading = thread::spawn(move || {
        loop {
            let answer = reader.answer();
            match answer.kind {
                kind::WINDOW => {
                    let bytes = u32::from_le_bytes(answer.body.try_into().unwrap());
                    granted.send((answer.id, i64::from(bytes))).unwrap();
                }
                _ => return answer,
            }
        }
    });
    writer.send(&open(1, "Inline.Sum"));
    let (mut stream_window, mut connection_window) = (65_536_i64, 1_i64 << 20);
    for at in 0..40_000 {
        while stream_window <= 0 || connection_window <= 0 {
            match grants.recv_timeout(Duration::from_secs(20)).expect("credit comes") {
                (0, bytes) => connection_window += bytes,
                (id, bytes) => {
                    assert_eq!(id, 1);
                    stream_window += bytes;
                }
            }
        }
        let frame = data(1, format!("{at:0>1000}").replace(' ', "0").trim_start_matches('0'));
        let frame = if frame.body.is_empty() { data(1, "0") } else { frame };
        stream_window -= 32 + frame.body.len() as i64;
        connection_window -= 32 + frame.body.len() as i64;
        writer.send(&frame);
    }
    writer.send(&end(1));
    assert_eq!(reading.join().unwrap().number(), (0..40_000).sum::<i64>());
}

#[test]
fn a_connection_that_ends_ends_its_streams() {
    let _turn = shared();
    let server = server(|_| {});
    for how in 0..3 {
        let mut peer = peer(&server);
        peer.send_all([&open(1, "Inline.Chat"), &open(2, "Pooled.Chat"), &open(3, "Blocking.Collect")]);
        peer.send(&Frame::request(4, "Blocking.Flood", Codec::Json, *b"1000"));
        peer.send(&data(1, "\"x\""));
        while next(&mut peer).id != 1 {}
        match how {
            0 => drop(peer),
            1 => peer.reset(),
            _ => {
                // The calls whose argument has not ended are cancelled, and the flood when it needs credit.
                peer.half_close();
                let mut ended = Vec::new();
                while let Some(answer) = peer.next() {
                    if answer.kind == kind::REPLY {
                        answer.is(answer.id, Code::Cancelled, "");
                        ended.push(answer.id);
                    }
                }
                ended.sort_unstable();
                assert_eq!(ended, [1, 2, 3, 4]);
            }
        }
    }
    eventually("all connections have closed", || server.stats().connections() == 0);
}

#[test]
fn a_drain_waits_for_streams_and_then_ends_them() {
    let _turn = shared();
    let server = server(|limits| limits.drain_ms = 300);
    let mut peer = peer(&server);
    peer.send_all([&open(1, "Inline.Chat"), &open(2, "Inline.Chat")]);
    peer.send(&data(1, "\"x\""));
    assert_eq!(next(&mut peer).text(), "\"x\"");
    let stopping = thread::spawn(move || server.shutdown());
    assert_eq!(next(&mut peer).kind, kind::DRAIN);
    // A stream goes on and may finish.
    peer.send_all([&data(1, "\"y\""), &end(1)]);
    assert_eq!(next(&mut peer).text(), "\"y\"");
    next(&mut peer).is(1, Code::Ok, "");
    next(&mut peer).is(2, Code::Unavailable, "drain_ms");
    peer.ends();
    stopping.join().unwrap();
}

#[test]
fn a_silent_peer_with_open_streams_is_pinged_and_closed() {
    let _turn = shared();
    let server = server(|limits| {
        limits.stream_keepalive_ms = 100;
        limits.stream_keepalive_timeout_ms = 200;
    });
    let mut peer = peer(&server);
    peer.send(&open(1, "Inline.Chat"));
    for _ in 0..3 {
        let ping = next(&mut peer);
        assert_eq!((ping.kind, ping.id), (kind::PING, 0));
        peer.send(&Frame::of_kind(kind::PONG, 0));
    }
    assert_eq!(next(&mut peer).kind, kind::PING);
    // No pong: the connection ends.
    while peer.try_send(&[]).is_ok() && peer.next().is_some() {}
    eventually("the connection has closed", || server.stats().connections() == 0);
}

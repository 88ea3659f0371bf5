//! The shared client against a server that violates the protocol: garbage, frames of another version, replies to
//! unknown calls, duplicate replies, replies that are too large. The affected call fails with a precise error;
//! other calls and connections are not affected.

use std::time::Duration;

use crate::common::raw_server::{RawServer, Side, assert_works, connected, end, start};
use crate::common::{Frame, MIB, eventually, kind};
use coreloop::Code;
use coreloop::client::{CallError, Client};

/// Returns a server and a client with a connection that has completed a call.
fn pair() -> (RawServer, Client, Side) {
    let server = RawServer::start();
    let client = server.client();
    let side = connected(&client, &server);
    (server, client, side)
}

/// Sends an answer that the client cannot interpret. Asserts that the call fails and the client closes, and that
/// its next call has a new connection, although the server keeps the old one open.
#[track_caller]
fn ends_the_connection(answer: impl FnOnce(u64) -> Vec<u8>) -> CallError {
    let (server, client, mut side) = pair();
    let call = start(&client, "one");
    let request = side.request();
    side.peer.send_bytes(&answer(request.id));
    // The client sends nothing more, whether the server closes or not.
    side.ends();
    let next = start(&client, "two");
    let error = end(call).unwrap_err();
    assert!(error.may_have_run());
    assert_eq!(error.code(), Code::Unavailable);
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(next).unwrap(), b"two");
    assert_eq!((client.stats().connects, client.in_flight()), (2, 0));
    error
}

#[test]
fn garbage_ends_the_connection_and_its_calls() {
    let error = ends_the_connection(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    assert!(matches!(error, CallError::Broken(_)), "{error:?}");
}

#[test]
fn another_version_ends_the_connection_and_its_calls() {
    let error = ends_the_connection(|id| {
        let mut frame = Frame::of_kind(kind::REPLY, id);
        frame.version = 2;
        frame.bytes()
    });
    assert!(matches!(error, CallError::Broken(_)), "{error:?}");
    assert!(error.to_string().contains("found 2"), "{error}");
}

#[test]
fn a_frame_that_only_clients_send_ends_the_connection() {
    for kind in [kind::REQUEST, kind::ONE_WAY, kind::CANCEL] {
        let error = ends_the_connection(|id| Frame::of_kind(kind, id).bytes());
        assert!(matches!(error, CallError::Broken(_)), "{error:?}");
    }
}

#[test]
fn a_body_over_the_limit_fails_its_call_alone() {
    let server = RawServer::start();
    let client =
        Client::builder(&server.address).configure(|config| config.frame_bytes_max = 1000).build().unwrap();
    let mut side = connected(&client, &server);
    for bytes in [1001, 2001, 1_000_000] {
        let (large, small) = (start(&client, "large"), start(&client, "small"));
        let (of_large, of_small) = (side.request(), side.request());
        side.peer.send_all(&[of_large.reply(vec![1; bytes]), of_small.reply("fits")]);
        let error = end(large).unwrap_err();
        assert!(matches!(&error, CallError::ReplyRefused(_)), "{error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::ResourceExhausted, true));
        assert!(error.to_string().contains("limit of 1000 (frame_bytes_max)"), "{error}");
        assert_eq!(end(small).unwrap(), b"fits");
    }
    assert_works(&client, &mut side);
}

#[test]
fn invalid_flags_or_metadata_of_a_reply_fail_only_its_call() {
    let (_server, client, mut side) = pair();
    for change in [|frame: &mut Frame| frame.flags = 0x80, |frame: &mut Frame| frame.metadata = vec![0; 9]] {
        let call = start(&client, "odd");
        let mut frame = side.request().reply("what?");
        change(&mut frame);
        side.peer.send(&frame);
        let error = end(call).unwrap_err();
        assert!(matches!(error, CallError::ReplyRefused(_)), "{error:?}");
        assert!(error.may_have_run());
        assert_works(&client, &mut side);
    }
    assert_eq!((client.stats().connects, client.in_flight()), (1, 0));
}

#[test]
fn a_frame_of_an_unknown_kind_is_skipped() {
    let (_server, client, mut side) = pair();
    let call = start(&client, "one");
    let request = side.request();
    let mut unknown = Frame::of_kind(13, request.id);
    unknown.body = vec![0x19; 3 * MIB];
    side.peer.send_all(&[unknown, request.reply("one")]);
    assert_eq!(end(call).unwrap(), b"one");
    assert_works(&client, &mut side);
}

#[test]
fn a_reply_to_an_unknown_call_is_counted() {
    let (_server, client, mut side) = pair();
    for id in [0, 1, u64::MAX, 1 << 63] {
        side.peer.send(&Frame::of_kind(kind::REPLY, id));
    }
    assert_works(&client, &mut side);
    assert_eq!((client.stats().unknown_replies, client.stats().late_replies), (4, 0));
    assert_eq!(client.stats().answered, 2);
}

#[test]
fn a_second_reply_is_counted_as_late() {
    let (_server, client, mut side) = pair();
    let call = start(&client, "one");
    let request = side.request();
    side.peer.send_all(&[request.reply("first"), request.reply("second")]);
    assert_eq!(end(call).unwrap(), b"first");
    assert_works(&client, &mut side);
    let stats = client.stats();
    assert_eq!((stats.late_replies, stats.unknown_replies, stats.answered), (1, 0, 3));
}

#[test]
fn replies_in_any_order_find_their_calls() {
    let (_server, client, mut side) = pair();
    let calls: Vec<_> = (0..50).map(|number| (number, start(&client, &number.to_string()))).collect();
    let mut requests: Vec<_> = calls.iter().map(|_| side.request()).collect();
    let mut dice = crate::common::Dice(7);
    for at in (1..requests.len()).rev() {
        requests.swap(at, dice.below(at + 1));
    }
    let replies: Vec<Frame> = requests.iter().map(|request| request.reply(request.body.clone())).collect();
    side.peer.send_all(&replies);
    for (number, call) in calls {
        assert_eq!(end(call).unwrap(), number.to_string().as_bytes());
    }
}

#[test]
fn a_reply_may_be_split_at_every_byte() {
    let (_server, client, mut side) = pair();
    let call = start(&client, "dribble");
    let bytes = side.request().reply("a body with some bytes").bytes();
    for byte in &bytes {
        side.peer.send_bytes(std::slice::from_ref(byte));
    }
    assert_eq!(end(call).unwrap(), b"a body with some bytes");
    // Also at each place when the client has read what came before the split: it answers a ping that precedes it.
    for at in 1..bytes.len() {
        let call = start(&client, "split");
        let reply = side.request().reply("a body with some bytes").bytes();
        let (front, rest) = reply.split_at(at);
        side.peer.send_bytes(&[&Frame::of_kind(kind::PING, at as u64).bytes(), front].concat());
        let pong = side.next().unwrap();
        assert_eq!((pong.kind, pong.id), (kind::PONG, at as u64));
        side.peer.send_bytes(rest);
        assert_eq!(end(call).unwrap(), b"a body with some bytes");
    }
    assert_eq!(client.stats().connects, 1);
}

#[test]
fn absurd_times_are_reported_unchanged() {
    let (_server, client, mut side) = pair();
    let mut call = start(&client.with_timeout(Duration::from_secs(600)), "how long?");
    let mut frame = side.request().reply("ages");
    (frame.words[1], frame.words[2]) = (u32::MAX, u32::MAX);
    side.peer.send(&frame);
    let reply = call.wait_timeout(crate::common::PATIENCE).unwrap();
    assert_eq!(reply.unwrap(), b"ages");
    assert_eq!((call.times().queue_us, call.times().handler_us), (u32::MAX, u32::MAX));
    assert_works(&client, &mut side);
}

#[test]
fn unknown_statuses_and_codecs_fail_only_their_call() {
    let (_server, client, mut side) = pair();
    let call = start(&client, "status");
    let mut frame = side.request().reply(b"\xff not text \xff".to_vec());
    frame.words[0] = 4_000_000_000;
    side.peer.send(&frame);
    let error = end(call).unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert!(error.to_string().contains("4000000000"), "{error}");

    let call = start(&client, "codec");
    let mut frame = side.request().reply("?");
    frame.codec = 200;
    side.peer.send(&frame);
    let error = end(call).unwrap_err();
    assert!(matches!(error, CallError::Reply(_)), "{error:?}");

    let call = start(&client, "compressed");
    let mut frame = side.request().reply(b"\x10\0\0\0 nothing that LZ4 made".to_vec());
    frame.flags = 1;
    side.peer.send(&frame);
    let error = end(call).unwrap_err();
    assert!(matches!(error, CallError::Reply(_)), "{error:?}");

    // A reply that is over the limit after decompression.
    let call = start(&client, "large");
    let mut frame = side.request().reply(b"\xff\xff\xff\xff".to_vec());
    frame.flags = 1;
    side.peer.send(&frame);
    let error = end(call).unwrap_err();
    assert!(matches!(error, CallError::ReplyRefused(_)), "{error:?}");
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_works(&client, &mut side);
    assert_eq!(client.stats().connects, 1);
}

#[test]
fn pongs_to_a_server_that_never_reads_are_bounded() {
    const PINGS: usize = 1_000_000;
    let (_server, client, mut side) = pair();
    let call = start(&client, "while you wait");
    let request = side.request();
    let burst: Vec<u8> = (0..1_000).flat_map(|id| Frame::of_kind(kind::PING, id).bytes()).collect();
    for _ in 0..PINGS / 1_000 {
        side.peer.send_bytes(&burst);
    }
    side.peer.send(&request.reply("done"));
    assert_eq!(end(call).unwrap(), b"done", "it has read all of the pings");
    drop(client);
    let mut pongs = 0;
    while let Some(frame) = side.next() {
        assert_eq!(frame.kind, kind::PONG);
        pongs += 1;
    }
    // The capacity of the sockets and the client's limit: far fewer than one pong per ping.
    assert!(pongs < PINGS / 2, "{pongs} answers to {PINGS} pings were kept for a server that did not read");
}

#[test]
fn frames_before_the_first_call_are_harmless() {
    let server = RawServer::start();
    let client = server.client();
    let ready = client.ready();
    let mut side = server.accept();
    side.peer.send_all(&[
        Frame::of_kind(kind::PONG, 5),
        Frame::of_kind(kind::REPLY, 9),
        Frame::of_kind(kind::PING, 3),
    ]);
    let pong = side.next().unwrap();
    assert_eq!((pong.kind, pong.id), (kind::PONG, 3));
    end(ready).unwrap();
    assert_works(&client, &mut side);
    eventually("nothing is left", || client.in_flight() == 0);
    assert_eq!(client.stats().unknown_replies, 1);
}

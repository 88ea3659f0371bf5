//! Requests that are refused, one rule each.

use super::*;

/// Sends a request that is refused, and asserts its status and that the connection continues.
fn refused(fields: &[(&str, &str)], body: &[u8], code: Code, expected: &str) -> Answer {
    let mut rig = Rig::new();
    let answer = rig.exchange(1, fields, body);
    assert_eq!(answer.status(), Some((code as u32).to_string().as_str()), "{answer:?}");
    let message = answer.field("grpc-message").unwrap_or_default();
    assert!(message.contains(expected), "{message}");
    assert!(answer.is_ended && answer.data.is_empty());
    assert!(rig.received.iter().all(|found| matches!(found.message, Message::Refused(_))));
    rig.assert_serves(3);
    answer
}

#[test]
fn unknown_methods_and_services_are_unimplemented() {
    for (path, expected) in [
        ("/Echo/Nothing", "there is no method Echo.Nothing"),
        ("/Nothing/Echo", "there is no service Nothing"),
        ("/Echo", "there is nothing at /Echo"),
        ("/Echo.Echo", "there is nothing at /Echo.Echo"),
        ("/a/b/c", "there is nothing at /a/b/c"),
        ("/Echo/Echo?x", "there is nothing at /Echo/Echo?x"),
        ("/%ff/Echo", "there is nothing at /%25ff/Echo"),
    ] {
        refused(&with(":path", path), &message(b"x"), Code::Unimplemented, expected);
    }
}

#[test]
fn streaming_methods_are_refused_before_their_messages_arrive() {
    let mut rig = Rig::new();
    let head = rig.head(1, &with(":path", "/Echo/Chat"), false);
    rig.feed(&head);
    let answer = rig.answer(1);
    assert_eq!((answer.status(), answer.reset), (Some("12"), Some(Http2Code::NO_ERROR)));
    assert!(answer.field("grpc-message").unwrap().contains("unary calls only"));
    // What was on its way is no fault.
    rig.feed(&print(&[data(1, &message(b"x"), false), data(1, b"", true)]));
    assert!(rig.sent().is_empty());
    rig.assert_serves(3);
}

#[test]
fn a_unary_call_has_exactly_one_message() {
    refused(&CALL, b"", Code::Unimplemented, "found none");
    refused(&CALL, &[message(b"x"), message(b"y")].concat(), Code::Unimplemented, "found a second");
    refused(&CALL, &[message(b"x"), vec![0]].concat(), Code::Unimplemented, "found a second");
    let mut rig = Rig::new();
    let head = rig.head(1, &CALL, false);
    rig.feed(&head);
    rig.feed(&print(&[data(1, b"", true)]));
    assert_eq!(rig.answer(1).status(), Some("12"));
    // A second message is refused as soon as it begins.
    let head = rig.head(3, &CALL, false);
    rig.feed(&head);
    rig.feed(&print(&[data(3, &message(b"x"), false)]));
    assert!(rig.sent().is_empty());
    rig.feed(&print(&[data(3, b"\0", false)]));
    let answer = rig.answer(3);
    assert_eq!((answer.status(), answer.reset), (Some("12"), Some(Http2Code::NO_ERROR)));
    rig.assert_serves(5);
}

#[test]
fn messages_are_framed_by_their_prefix() {
    let cut = &message(b"hello")[..7];
    refused(&CALL, cut, Code::Internal, "ends inside its message");
    refused(&CALL, &cut[..3], Code::Internal, "ends inside its message");
    let compressed = [&[1], &message(b"x")[1..]].concat();
    refused(&CALL, &compressed, Code::Internal, "compressed message without grpc-encoding");
    let unknown = [&[2], &message(b"x")[1..]].concat();
    refused(&CALL, &unknown, Code::Internal, "expected 0, found 2");
    let long = [&[0], &(MESSAGE_MAX as u32 + 1).to_be_bytes()[..], b"x"].concat();
    refused(&CALL, &long, Code::ResourceExhausted, "over the limit of 100000 (frame_bytes_max)");
    let longest = [&[0], &u32::MAX.to_be_bytes()[..]].concat();
    refused(&CALL, &longest, Code::ResourceExhausted, "4294967295");
}

#[test]
fn a_message_of_the_largest_size_arrives_in_many_frames() {
    let mut rig = Rig::new();
    let head = rig.head(1, &CALL, false);
    rig.feed(&head);
    let sent = message(&vec![9; MESSAGE_MAX]);
    for (i, part) in sent.chunks(16_384).enumerate() {
        rig.feed(&print(&[data(1, part, i == MESSAGE_MAX / 16_384)]));
    }
    assert_eq!(rig.last().body.len(), MESSAGE_MAX);
    rig.ok(1, b"");
    assert_eq!(rig.answer(1).status(), Some("0"));
    // Its memory is not kept for the next call.
    rig.call(3, b"");
    assert!(rig.wire.allocated_bytes() < 4096, "{}", rig.wire.allocated_bytes());
}

#[test]
fn invalid_timeouts_encodings_and_binary_metadata_are_refused() {
    let body = message(b"x");
    for timeout in ["", "5", "123456789S", "1s", "-1S", "+1S", "1.0S", "S"] {
        refused(&with("grpc-timeout", timeout), &body, Code::InvalidArgument, "grpc-timeout: expected");
    }
    let answer = refused(&with("grpc-encoding", "gzip"), &body, Code::Unimplemented, "found gzip");
    assert_eq!(answer.field("grpc-accept-encoding"), Some("identity"));
    refused(&with("x-bin", "a*"), &body, Code::InvalidArgument, "metadata x-bin: expected base64");
    refused(&with(&"k".repeat(256), ""), &body, Code::ResourceExhausted, "256 bytes");
}

#[test]
fn connection_faults_end_with_goaway() {
    let even = Http2Frame::WindowUpdate { stream: 0, increment: 0x7fff_ffff };
    for (bytes, code) in [
        (print(&[data(1, b"x", false)]), Http2Code::PROTOCOL_ERROR),
        (print(&[even]), Http2Code::FLOW_CONTROL_ERROR),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01".to_vec(), Http2Code::FRAME_SIZE_ERROR),
    ] {
        let mut rig = Rig::new();
        rig.feed(&bytes);
        assert!(rig.broken.is_some());
        let sent = rig.sent();
        let (head, payload) = sent.last().expect("a GOAWAY");
        let frame = Http2Frame::parse(*head, payload).unwrap();
        assert!(matches!(frame, Http2Frame::GoAway { code: found, .. } if found == code), "{frame:?}");
    }
    let mut rig = Rig::fresh(limits());
    rig.feed(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(rig.broken.is_some() && rig.sent().is_empty());
}

#[test]
fn a_late_request_is_told_so() {
    let mut rig = Rig::new();
    let head = rig.head(1, &CALL, false);
    rig.feed(&head);
    rig.with_out(|wire, out| wire.send_late(out));
    let sent = rig.sent();
    let frame = Http2Frame::parse(sent[0].0, &sent[0].1).unwrap();
    assert!(matches!(frame, Http2Frame::GoAway { last_stream: 1, .. }), "{frame:?}");
}

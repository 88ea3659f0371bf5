//! The client's side: what it sends, how it reads replies, and both sides together.

use proptest::prelude::*;

use super::*;
use crate::message::{IncomingReply, JsonDialect, MetadataBuf, OutgoingCall};
use crate::wire::Broken;
use crate::wire::testing::Decode;

impl Rig<HttpClient> {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while let Some(received) = self.next() {
            self.received.push(received);
        }
    }

    fn call(&mut self, id: u64, name: &str, metadata: &[u8], body: &[u8], one_way: bool) {
        self.write_response(Outgoing::Request(OutgoingCall {
            id,
            name,
            method: method_hash(name),
            codec: JSON,
            compressed: false,
            one_way,
            schema: 7,
            time_left_us: 1500,
            metadata,
            body: SendBody::Bytes(body),
        }));
    }
}

fn client(calls: u64) -> Rig<HttpClient> {
    let mut rig = Rig::new(HttpClient::new("localhost:80".into(), BODY_MAX));
    for id in 0..calls {
        rig.call(id + 10, "Arith.Multiply", &[], b"[1]", false);
    }
    rig
}

/// The id, status and body of each reply.
fn replies(rig: &Rig<HttpClient>) -> Vec<(u64, u32, String)> {
    let response = |received: &ReceivedMessage| match &received.message {
        Message::Reply(IncomingReply { id, status, .. }) => {
            Some((*id, *status, String::from_utf8(received.body.clone()).unwrap()))
        }
        _ => None,
    };
    rig.received.iter().filter_map(response).collect()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[1]";

fn ok(id: u64) -> (u64, u32, String) {
    (id, 0, "[1]".into())
}

#[test]
fn a_call_is_a_connect_request() {
    let mut rig = client(1);
    let mut metadata = MetadataBuf::new();
    for (name, value) in [
        ("b3", &b"0"[..]),
        ("authorization", b"Bearer x"),
        // None of these may be written: they would change the framing, or end the field.
        ("content-length", b"7"),
        ("Transfer-Encoding", b"chunked"),
        ("host", b"b"),
        ("connection", b"close"),
        ("connect-timeout-ms", b"1"),
        ("te", b"trailers"),
        ("bad name", b"x"),
        ("x-a", b"y\r\nX-B: z"),
        ("x-nul", b"\0"),
    ] {
        metadata.push(name, value).unwrap();
    }
    rig.written();
    rig.call(1, "a.b.C.Do", metadata.as_bytes(), br#"{"A":1}"#, false);
    let sent = String::from_utf8(rig.written()).unwrap();
    assert_eq!(
        sent,
        "POST /a.b.C/Do HTTP/1.1\r\nHost: localhost:80\r\nContent-Type: application/json\r\n\
         Connect-Protocol-Version: 1\r\nConnect-Timeout-Ms: 2\r\nb3: 0\r\nauthorization: Bearer x\r\n\
         Content-Length: 7\r\n\r\n{\"A\":1}"
    );
    rig.call(2, "A b/\r\n.é", &[], b"", false);
    assert!(
        String::from_utf8(rig.written()).unwrap().starts_with("POST /A%20b%2F%0D%0A/%C3%A9 HTTP/1.1\r\n")
    );
    let mut rig = Rig::new(HttpClient::new("a\r\nX: y".into(), BODY_MAX));
    rig.call(1, "A.B", &[], b"", false);
    assert!(String::from_utf8(rig.written()).unwrap().contains("\r\nHost: \r\nContent-Type"));
}

#[test]
fn replies_are_matched_in_order_and_ignored_ones_dropped() {
    let mut rig = client(2);
    rig.call(20, "Arith.Multiply", &[], b"[1]", true);
    rig.call(21, "Arith.Multiply", &[], b"[1]", false);
    rig.write_response(Outgoing::Cancel { id: 11 });
    rig.write_response(Outgoing::Cancel { id: 99 });
    let stream = OK.repeat(4);
    rig.feed(&stream.as_bytes()[..stream.len() - 1]);
    assert_eq!(replies(&rig), [ok(10)]);
    rig.feed(b"]");
    assert_eq!(replies(&rig), [ok(10), ok(21)]);
    assert!(!rig.ended && rig.broken.is_none());
}

#[test]
fn a_reply_is_read_in_every_framing_and_every_split() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer-Timing: queue;dur=0.012, handler;dur=3\r\n";
    for (stream, is_last) in [
        (format!("{head}Content-Length: 3\r\n\r\n[1]"), false),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x\r\n[1\r\n1\r\n]\r\n0\r\nX: y\r\n\r\n"), false),
        (
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\n{head}Content-Length: 3\r\n\r\n[1]"
            ),
            false,
        ),
        (format!("{head}Connection: close\r\nContent-Length: 3\r\n\r\n[1]"), true),
        (format!("{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n"), true),
        (format!("{head}Content-Length: 3\r\n\r\n[1]").replace("HTTP/1.1", "HTTP/1.0"), true),
        (format!("{head}\r\n[1]").replace("HTTP/1.1", "HTTP/1.0"), true),
        (format!("{head}\r\n[1]"), true),
    ] {
        let stream = stream.as_bytes();
        for cut in 0..=stream.len() {
            let mut rig = client(2);
            rig.feed(&stream[..cut]);
            rig.feed(&stream[cut..]);
            if rig.wire.on_end() {
                rig.bytes_min = 0;
                rig.feed(b"");
            }
            assert_eq!(replies(&rig), [ok(10)], "{} cut at {cut}", stream.escape_ascii());
            let Message::Reply(IncomingReply { queue_us, handler_us, codec, .. }) = rig.received[0].message
            else {
                panic!()
            };
            assert_eq!((queue_us, handler_us, codec), (12, 3000, JsonDialect::Connect.codec_number()));
            let drained = rig.received.iter().any(|received| received.message == Message::Drain);
            assert_eq!((drained, rig.ended), (is_last, is_last), "{}", stream.escape_ascii());
        }
    }
}

#[test]
fn an_error_is_read_from_body_or_status() {
    let error = |status: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let inferred = |status: u16| format!("the server answered with HTTP status {status}");
    for (stream, code, message) in [
        (error("404 Not Found", r#"{"code":"not_found","message":"é"}"#), Code::NotFound, "é".to_owned()),
        (error("499 x", r#"{"code":"canceled"}"#), Code::Cancelled, String::new()),
        (error("404 Not Found", "<html>"), Code::Unimplemented, inferred(404)),
        (error("502 Bad Gateway", ""), Code::Unavailable, inferred(502)),
        (error("301 Moved", ""), Code::Unknown, inferred(301)),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), Code::Unknown, inferred(204)),
        (
            OK.replace("application/json", "text/html"),
            Code::Unknown,
            "the reply's Content-Type is not application/json".into(),
        ),
        (
            OK.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n"),
            Code::Internal,
            "the reply has a Content-Encoding that was not asked for".into(),
        ),
    ] {
        let mut rig = client(2);
        rig.feed(stream.as_bytes());
        rig.feed(OK.as_bytes());
        assert_eq!(replies(&rig), [(10, code.number(), message), ok(11)], "{stream}");
    }
}

#[test]
fn an_error_in_chunks_is_read_too() {
    let mut rig = client(1);
    rig.feed(
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n{\"code\":\"unavailable\"}\r\n0\r\n\r\n",
    );
    assert_eq!(replies(&rig), [(10, Code::Unavailable.number(), String::new())]);
}

#[test]
fn a_reply_over_the_limit_fails_its_call_alone() {
    let of = |bytes: usize| {
        OK.replace("Length: 3", &format!("Length: {bytes}")).replace("[1]", &"1".repeat(bytes))
    };
    let chunked = |chunks: usize| {
        let chunks = format!("{:x}\r\n{}\r\n", BODY_MAX, "1".repeat(BODY_MAX)).repeat(chunks);
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    for stream in [of(BODY_MAX + 1), of(2 * BODY_MAX + 1), of(100 * BODY_MAX), chunked(2), chunked(50)] {
        for step in [7, 1 << 20] {
            let mut rig = client(2);
            (stream.clone() + OK).as_bytes().chunks(step).for_each(|piece| rig.feed(piece));
            let Message::Refused(refusal) = &rig.received[0].message else {
                panic!("{:?}", rig.received[0].message)
            };
            assert_eq!((refusal.id, refusal.code), (10, Code::ResourceExhausted));
            let limit = format!("over the limit of {BODY_MAX} (frame_bytes_max)");
            assert!(refusal.message.ends_with(&limit), "{}", refusal.message);
            assert_eq!((replies(&rig), rig.broken), (vec![ok(11)], None));
        }
    }
    // A body that ends with the connection is not read to its end: no call can follow it.
    let mut rig = client(2);
    rig.feed(format!("HTTP/1.1 200 OK\r\n\r\n{}", "1".repeat(BODY_MAX + 1)).as_bytes());
    assert!(matches!(&rig.received[0].message, Message::Refused(refusal) if refusal.id == 10));
    assert_eq!((&rig.received[1].message, rig.ended, rig.broken), (&Message::Drain, true, None));
}

#[test]
fn the_refusal_of_a_reply_does_not_depend_on_how_it_was_read() {
    let head = "HTTP/1.1 200 OK\r\n";
    let body = "1".repeat(3 * BODY_MAX);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for stream in [chunked, format!("{head}\r\n{body}")] {
        for step in [1, 7, BODY_MAX, stream.len()] {
            let mut rig = client(1);
            stream.as_bytes().chunks(step).for_each(|piece| rig.feed(piece));
            let Message::Refused(refusal) = &rig.received[0].message else {
                panic!("{:?}", rig.received[0].message)
            };
            let text =
                format!("a body of unannounced length is over the limit of {BODY_MAX} (frame_bytes_max)");
            assert_eq!(refusal.message, text, "in pieces of {step} bytes");
        }
    }
}

#[test]
fn an_ambiguous_reply_breaks_the_connection() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    for stream in [
        format!("{head}Content-Length: 3\r\nContent-Length: 3\r\n\r\n[1]"),
        format!("{head}Content-Length: +3\r\n\r\n[1]"),
        format!("{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n+1\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n1\n"),
        format!("{head}Content-Length : 3\r\n\r\n[1]"),
        format!("{head}X: y\r\n z\r\n\r\n"),
        format!("{head}X: y\nZ: a\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n").replace("200", "204"),
        head.replace("HTTP/1.1", "HTTP/2.0") + "\r\n",
        head.replace("200", "2000") + "\r\n",
        head.replace("200", "099") + "\r\n",
        format!("\r\n{OK}"),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(17),
        format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(257)),
        OK.repeat(2),
    ] {
        let mut rig = client(1);
        rig.feed(stream.as_bytes());
        assert!(rig.broken.is_some(), "{}", stream.escape_debug());
        assert_eq!(replies(&rig).len(), usize::from(stream.starts_with(OK)));
        assert!(matches!(rig.wire.decode(b""), Received::Broken(_)), "it stays so");
    }
}

#[test]
fn a_server_may_give_up_an_idle_connection() {
    let mut rig = client(0);
    rig.feed(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!((rig.received[0].message.clone(), rig.ended), (Message::Drain, true));
    // A call that crossed it was not read, and has no answer.
    let mut rig = client(1);
    rig.feed(b"HTTP/1.0 408 Request Time-out\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>");
    assert_eq!((replies(&rig), rig.received[0].message.clone(), rig.ended), (vec![], Message::Drain, true));
}

#[test]
fn no_call_follows_the_last_reply() {
    for (stream, takes_calls) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        let mut rig = client(1);
        assert!(rig.wire.takes_calls());
        rig.feed(stream.as_bytes());
        assert_eq!(rig.wire.takes_calls(), takes_calls, "{stream}");
    }
}

#[test]
fn another_protocol_is_recognized_by_its_first_bytes() {
    use crate::wire::ForeignProtocol as Met;
    for (bytes, met) in [
        (&b"\x19\x96\x01\x01"[..], Met::Native),
        (b"SSH-2.0-OpenSSH\r\n", Met::Ssh),
        (b"\x15\x03\x01\0\x02\x02\x46", Met::Tls),
        (b"-ERR unknown command\r\n", Met::Redis),
        (br#"{"id":1}"#, Met::Json),
        (b"220 mail.example ESMTP\r\n", Met::Greeting),
    ] {
        for step in [1, 100] {
            let mut rig = client(1);
            bytes.chunks(step).for_each(|piece| rig.feed(piece));
            assert_eq!(rig.broken, Some(Broken::Foreign(met)), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_reply_may_end_with_the_connection() {
    let mut rig = client(1);
    rig.feed(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[1");
    assert_eq!(replies(&rig), []);
    rig.feed(b"]");
    assert!(rig.wire.is_inside_message() && rig.wire.on_end());
    rig.bytes_min = 0;
    rig.feed(b"");
    assert_eq!(replies(&rig), [ok(10)]);
    // A truncated body is not a reply.
    let mut rig = client(1);
    rig.feed(&OK.as_bytes()[..OK.len() - 1]);
    assert!(!rig.wire.on_end());
}

proptest! {
    /// Calls reach the server, are answered in any order, and the answers return to their callers.
    #[test]
    fn client_and_server_agree(
        calls in proptest::collection::vec((any::<u32>(), 0..3usize, "[ -~é]{0,20}", 0..17u32), 1..12),
        step in 1..200usize,
    ) {
        let (mut client, mut server) = (client(0), super::server());
        for (at, (_, name, body, _)) in calls.iter().enumerate() {
            let mut metadata = MetadataBuf::new();
            metadata.push("x-body", &at.to_string().into_bytes()).unwrap();
            let name = ["Arith.Multiply", "Users.Get", "No.Body"][*name];
            client.call(at as u64 * 3, name, metadata.as_bytes(), body.as_bytes(), false);
        }
        let mut expected: Vec<_> = Vec::new();
        let mut work = Vec::new();
        for piece in client.written().chunks(step) {
            server.held.extend_from_slice(piece);
            while let Some(received) = server.next() {
                let at = expected.len();
                let (order, _, body, code) = &calls[at];
                let (id, code, response) = match &received.message {
                    Message::Request(request) => {
                        prop_assert_eq!(&received.body, body.as_bytes());
                        prop_assert_eq!(request.time_left_us, 2000);
                        let metadata = Metadata::check(&received.metadata).unwrap();
                        let place = at.to_string();
                        prop_assert_eq!(metadata.find("x-body"), Some(place.as_bytes()));
                        (request.id, Code::from_number(*code).unwrap(), body.clone())
                    }
                    Message::Refused(refusal) => (refusal.id, refusal.code, refusal.message.clone()),
                    other => panic!("{other:?}"),
                };
                work.push((*order, id, code, response.clone()));
                expected.push((at as u64 * 3, code.number(), response));
            }
        }
        prop_assert_eq!(work.len(), calls.len());
        work.sort();
        let mut back = Vec::new();
        for (_, id, code, response) in work {
            server.write_response(reply(id, code, response.as_bytes()));
            back.extend(server.written());
        }
        for piece in back.chunks(step) {
            client.feed(piece);
        }
        prop_assert_eq!(replies(&client), expected);
        prop_assert_eq!(server.wire.held_bytes(), 0);
    }
}

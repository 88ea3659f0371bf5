//! Trailers of an answer: fields of its head, and the metadata of the client's reply.

use super::*;
use crate::message::{IncomingReply, ReplyExtras};
use crate::status::Detail;

fn with_extras<'a>(id: u64, code: Code, extras: &'a ReplyExtras, body: &'a [u8]) -> Outgoing<'a> {
    let Outgoing::Reply(reply) = reply(id, code, body) else { unreachable!("it is a reply") };
    Outgoing::Reply(OutgoingReply { extras: Some(extras), ..reply })
}

fn busy() -> ReplyExtras {
    ReplyExtras { load_us: Some(7), ..ReplyExtras::retry_after(1001) }
}

fn refused(id: u64, extras: &ReplyExtras) -> Outgoing<'_> {
    with_extras(id, Code::ResourceExhausted, extras, b"full")
}

/// Returns a server with this many calls in flight.
fn calls(calls: usize) -> Rig<Http> {
    let mut rig = server();
    rig.held = post("", "1").repeat(calls).into_bytes();
    assert_eq!(std::iter::from_fn(|| rig.next()).count(), calls);
    rig
}

const REFUSED: &str = "HTTP/1.1 429 Too Many Requests\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 48\r\n\
    Server-Timing: queue;dur=0.012, handler;dur=34.567\r\n\
    Retry-After: 2\r\nretry-after-ms: 1001\r\nload: 7\r\n\r\n\
    {\"code\":\"resource_exhausted\",\"message\":\"full\"}";

#[test]
fn a_refusal_states_when_to_call_again_in_both_units() {
    let mut rig = calls(1);
    rig.write_response(refused(0, &busy()));
    let sent = String::from_utf8(rig.written()).unwrap();
    assert_eq!(sent, REFUSED.replace("48", &(sent.len() - sent.find('{').unwrap()).to_string()));
}

#[test]
fn trailers_wait_with_their_answer_for_its_turn() {
    let mut rig = calls(2);
    rig.write_response(refused(1, &busy()));
    assert!(rig.queue.is_empty() && rig.wire.held_bytes() > 0);
    rig.write_response(reply(0, Code::Ok, b"0"));
    let answers = rig.answers();
    assert_eq!((answers[0].field("Retry-After"), answers[1].field("Retry-After")), (None, Some("2")));
    assert_eq!(rig.wire.held_bytes(), 0);
}

#[test]
fn an_entry_that_is_no_field_is_left_out_and_counted() {
    let mut extras = ReplyExtras::default();
    for (key, value) in [
        ("content-length", &b"1000"[..]),
        ("transfer-encoding", b"chunked"),
        ("Connection", b"close"),
        ("date", b"today"),
        ("trailer-x", b"x"),
        ("access-control-allow-origin", b"*"),
        ("connect-x", b"x"),
        ("a b", b"x"),
        (":status", b"500"),
        ("x-a", b"y\r\nX-B: z"),
        ("x-c", b"kept"),
    ] {
        extras.set_header(key, value).unwrap();
        extras.set_trailer(key, value).unwrap();
    }
    for code in [Code::Ok, Code::Aborted] {
        let side = side_with(&[]);
        let mut rig = Rig::new(Http::server(side.clone()));
        rig.held = post("", "1").into_bytes();
        assert!(rig.next().is_some());
        rig.write_response(with_extras(0, code, &extras, b"1"));
        let answer = rig.answers().remove(0);
        assert_eq!((answer.field("x-c"), answer.field("Trailer-x-c")), (Some("kept"), Some("kept")));
        let ours =
            ["Date: ", "Content-Type: ", "Content-Length: ", "Server-Timing: ", "x-c: ", "Trailer-x-c: "];
        for line in answer.head.lines().skip(1) {
            assert!(line.is_empty() || ours.iter().any(|name| line.starts_with(name)), "{line}");
        }
        assert_eq!(side.entries_dropped.load(std::sync::atomic::Ordering::Relaxed), 20);
    }
}

#[test]
fn details_of_an_error_are_in_its_body() {
    let detail = Detail::new("a.B").form(2, br#"{"x":1}"#.to_vec()).form(6, vec![8, 1]);
    let extras = ReplyExtras { details: vec![detail.clone()], ..ReplyExtras::default() };
    let mut rig = calls(1);
    rig.write_response(with_extras(0, Code::NotFound, &extras, b"no"));
    let sent = rig.written();
    let body =
        r#"{"code":"not_found","message":"no","details":[{"type":"a.B","value":"CAE","debug":{"x":1}}]}"#;
    assert!(String::from_utf8_lossy(&sent).ends_with(&format!("\r\n\r\n{body}")));
    // The client reads them, wherever the bytes are split.
    for cut in 0..=sent.len() {
        let reply = read_raw(&sent, cut);
        let metadata = Metadata::check(&reply.metadata).unwrap();
        assert_eq!(Detail::decode_all(metadata.find("details").unwrap()), std::slice::from_ref(&detail));
        assert_eq!(reply.body, b"no");
    }
}

#[test]
fn headers_of_a_stream_that_has_no_message_are_in_its_head() {
    let mut extras = ReplyExtras::default();
    extras.set_header("h", b"1").unwrap();
    extras.set_trailer("t", b"2").unwrap();
    let side = side_with(&[]);
    let mut rig = Rig::new(Http::server(side.clone()));
    rig.held = post("", "1").replace("/Arith/Multiply", "/Users/Watch").into_bytes();
    assert!(rig.next().is_some());
    rig.write_response(with_extras(0, Code::Ok, &extras, b""));
    let sent = String::from_utf8(rig.written()).unwrap();
    assert!(
        sent.contains("\r\nh: 1\r\n") && !sent.contains("railer-t") && sent.ends_with("0\r\n\r\n"),
        "{sent}"
    );
    assert_eq!(side.entries_dropped.load(std::sync::atomic::Ordering::Relaxed), 1, "trailers have no place");
}

#[test]
fn a_stream_that_is_refused_states_when_to_call_again() {
    let mut rig = server();
    rig.held = post("", "1").replace("/Arith/Multiply", "/Users/Watch").into_bytes();
    assert!(rig.next().is_some());
    rig.write_response(refused(0, &busy()));
    assert_eq!(rig.answers()[0].field("Retry-After"), Some("2"));
}

/// The metadata of a client's only reply, and its body.
fn read(stream: &[u8], cut: usize) -> (Vec<(String, String)>, Vec<u8>) {
    let reply = read_raw(stream, cut);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let metadata = Metadata::check(&reply.metadata).unwrap();
    (metadata.iter().map(|(key, value)| (key.to_owned(), text(value))).collect(), reply.body)
}

/// A client's only reply.
fn read_raw(stream: &[u8], cut: usize) -> ReceivedMessage {
    let mut rig = Rig::new(HttpClient::new("localhost".into(), BODY_MAX));
    rig.write_response(Outgoing::Request(crate::message::OutgoingCall {
        id: 1,
        name: "A.B",
        method: 0,
        codec: JSON,
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(b"1"),
    }));
    rig.feed(&stream[..cut]);
    rig.feed(&stream[cut..]);
    if rig.wire.on_end() {
        rig.bytes_min = 0;
        rig.feed(b"");
    }
    let is_reply =
        |received: &&ReceivedMessage| matches!(received.message, Message::Reply(IncomingReply { .. }));
    rig.received.iter().find(is_reply).expect("a reply").clone()
}

#[test]
fn fields_of_a_reply_are_its_metadata_in_every_framing_and_every_split() {
    let error = r#"{"code":"resource_exhausted","message":"full"}"#;
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: today\r\nX-A: b\r\nLoad: 7\r\n";
    let busy = "HTTP/1.1 429 No\r\nX-A: b\r\nLoad: 7\r\nServer-Timing: queue;dur=1\r\n";
    for (head, body, expected) in
        [(ok, "[1]", "[1]"), (busy, error, "full"), (busy, "", "the server answered with HTTP status 429")]
    {
        let (first, rest) = body.split_at(body.len() / 2);
        let chunk = |part: &str| {
            if part.is_empty() { String::new() } else { format!("{:x}\r\n{part}\r\n", part.len()) }
        };
        for stream in [
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(first), chunk(rest)),
            format!("HTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\n{head}\r\n{body}"),
        ] {
            for cut in 0..=stream.len() {
                let (metadata, body) = read(stream.as_bytes(), cut);
                let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
                assert_eq!(metadata, [pair("x-a", "b"), pair("load", "7")], "{stream:?} cut at {cut}");
                assert_eq!(String::from_utf8(body).unwrap(), expected, "{stream:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn the_standard_field_counts_where_the_exact_one_is_missing() {
    let retry = |fields: &str| {
        let stream = format!("HTTP/1.1 503 No\r\n{fields}Content-Length: 0\r\n\r\n");
        let (metadata, _) = read(stream.as_bytes(), stream.len());
        metadata.into_iter().find(|(key, _)| key == "retry-after-ms").map(|(_, value)| value)
    };
    assert_eq!(retry("Retry-After: 2\r\n").as_deref(), Some("2000"));
    assert_eq!(retry("Retry-After: 2\r\nRetry-After-Ms: 1001\r\n").as_deref(), Some("1001"));
    assert_eq!(retry("retry-after-ms: 1\r\nretry-after: 9\r\n").as_deref(), Some("1"));
    assert_eq!(retry("Retry-After: 9999999999\r\n").as_deref(), Some("4294967295"));
    assert_eq!(retry("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"), None);
    assert_eq!(retry(""), None);
}

//! The result does not depend on how the bytes are split, for valid and invalid bytes.

use proptest::prelude::*;

use super::*;
use crate::wire::Broken;
use crate::wire::testing::Decode;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// All observable results of a connection. 100 (Continue) is left out, since it depends on which bytes have arrived.
#[derive(Debug, PartialEq)]
struct HttpTrace {
    received: Vec<ReceivedMessage>,
    out: Vec<u8>,
    ended: bool,
    broken: Option<Broken>,
    becomes_go_rpc: bool,
}

fn trace<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> HttpTrace {
    let (mut rig, mut out) = (server(), Vec::new());
    for piece in pieces {
        rig.feed(piece);
        let written = rig.written();
        out.extend_from_slice(&written);
        let scratch = rig.wire.0.scratch().len();
        assert!(scratch <= 400 + 8 * 8 + BODY_MAX, "{scratch} bytes of scratch");
    }
    let mut received = rig.received;
    let mut at = 0;
    while let Some(found) = out[at..].windows(CONTINUE.len()).position(|window| window == CONTINUE) {
        out.drain(at + found..at + found + CONTINUE.len());
        at += found;
    }
    // Their ids count the interim responses.
    for received in &mut received {
        match &mut received.message {
            Message::Request(request) => request.id = 0,
            Message::Refused(refusal) => refusal.id = 0,
            _ => {}
        }
    }
    let becomes_go_rpc = rig.wire.becomes_go_rpc();
    HttpTrace { received, out, ended: rig.ended, broken: rig.broken, becomes_go_rpc }
}

#[test]
fn a_repeated_head_has_the_same_meaning() {
    let heads = ["X-A: b\r\n", "X-A: c\r\nConnect-Timeout-Ms: 5\r\n", ""];
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let calls: Vec<String> = heads.iter().flat_map(|head| [post(head, "1"), post(head, "[2,3]")]).collect();
    let others = [
        page,
        post("", "123").replace("Multiply", "Halve"),
        post("X-A: b\r\n", "").replace("Content-Length: 0", "Transfer-Encoding: chunked")
            + "1\r\n7\r\n0\r\n\r\n",
        post("Expect: 100-continue\r\n", "4"),
        post("", "1").replace("POST", "GET"),
        post("X-A: b\r\n", "1").replace("Arith/Multiply", "route/a?b=c"),
        "GET /route/b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for call in &calls {
        let alone = trace([call.as_bytes()]);
        for between in calls.iter().chain(&others).chain([&String::new()]) {
            let stream = [call, call, between, call, call].map(String::as_bytes).concat();
            let (whole, between) = (trace([&stream[..]]), trace([between.as_bytes()]));
            assert!(!whole.ended && whole.broken.is_none());
            let mut want = vec![alone.received[0].clone(); 2];
            want.extend(between.received);
            want.extend(vec![alone.received[0].clone(); 2]);
            assert_eq!(whole.received, want);
            for at in [1, call.len() - 1, call.len() + 1, call.len() + 20] {
                assert_eq!(trace([&stream[..at], &stream[at..]]), whole);
            }
        }
    }
}

fn streams() -> Vec<String> {
    let chunked = |body: &str| post("", "").replace("Content-Length: 0", "Transfer-Encoding: chunked") + body;
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        post("X-A: b\r\nConnect-Timeout-Ms: 5\r\n", "[1,2]") + page + &post("", ""),
        chunked("3;a=\"b\\\"\"\r\n[1,\r\n02\r\n2]\r\n0\r\nX: y\r\n\r\n") + &post("", "3"),
        format!("\r\n{page}\r\n{page}\r\n\r\n"),
        post("", &"1".repeat(BODY_MAX + 50)) + page,
        post("", &"1".repeat(3 * BODY_MAX)) + page,
        post("", "12345").replace("Multiply", "Halve") + page,
        chunked("5\r\n12345\r\n0\r\n\r\n").replace("Multiply", "Halve") + page,
        chunked("zz\r\n").replace("Multiply", "Halve") + page,
        chunked("5\r\n123456\r\n0\r\n\r\n"),
        chunked("ff\r\n"),
        chunked(&format!("1;{}\r\n", "x".repeat(500))),
        post("Expect: 100-continue\r\n", "123") + page,
        post("Expect: 100-continue\r\n", "123").replace("json\r", "text\r") + page,
        post("Connection: close\r\n", "1") + page,
        "GET /Users/Get?message=%5B1%5D HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n".to_owned() + page,
        "CONNECT /_goRPC_ HTTP/1.0\n\ngob".to_owned(),
        "CONNECT /_goRPC_ HTTP/1.0\nX".to_owned(),
        "CONNECT /_goRPC_ HTTP/1.0\r\n\r\ngob".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(500)),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(500)),
        "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(),
        post("Content-Length: 1\r\n", "1"),
        post("X-A: b\r\n", "[1,2]").replace("Arith/Multiply", "route/a?b=c") + page,
        chunked("3\r\n[1]\r\n0\r\n\r\n").replace("Arith/Multiply", "route/a") + page,
        "GET http://a/route/b?c HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n".to_owned() + page,
        post("", &"1".repeat(BODY_MAX + 50)).replace("Arith/Multiply", "route/a") + page,
        "PUT /route/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab".to_owned() + page,
    ]
}

#[test]
fn every_split_gives_the_same_result() {
    for stream in streams() {
        let stream = stream.as_bytes();
        let whole = trace([stream]);
        assert!(!whole.out.is_empty(), "{}", stream.escape_ascii());
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(trace([a, b]), whole, "{} cut at {cut}", stream.escape_ascii());
        }
        assert_eq!(trace(stream.chunks(1)), whole, "{} byte by byte", stream.escape_ascii());
        assert_eq!(trace(stream.chunks(7)), whole, "{} in sevens", stream.escape_ascii());
    }
}

/// Pieces of requests, valid and invalid, in any order.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        4 => proptest::sample::select(streams()).prop_map(String::into_bytes),
        4 => proptest::sample::select(vec![
            "POST /Arith/Multiply HTTP/1.1\r\n", "GET /Users/Get?message=1 HTTP/1.1\r\n", "HEAD /page HTTP/1.0\r\n",
            "Host: a\r\n", "Content-Type: application/json\r\n", "Content-Length: 3\r\n", "Content-Length: 103\r\n",
            "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
            "Expect: 100-continue\r\n", "\r\n", "[1]", "3\r\n[1]\r\n", "0\r\n\r\n", "\n", "\r", " ", ":", "\0",
        ]).prop_map(|bit| bit.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(bit, 1..8).prop_map(|bits| bits.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_split_give_one_result(stream in any_stream(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let whole = trace([&stream[..]]);
        let split = trace(cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]));
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn a_client_never_panics(stream in proptest::collection::vec(any::<u8>(), 0..200), step in 1..50usize) {
        let mut client = Rig::new(HttpClient::new("a".into(), BODY_MAX));
        for piece in [&b"HTTP/1.1 200 OK\r\n"[..]].into_iter().chain(stream.chunks(step)) {
            client.feed(piece);
        }
    }
}

#[test]
fn a_head_in_pieces_is_read_once() {
    let limits = Limits { http_head_bytes_max: 512 * 1024, ..Limits::default() };
    let side = Arc::new(ServerContext { site: Box::new(HttpTestDirectory), ..ServerContext::bare(limits) });
    let mut http = Http::server(side);
    let head = format!("GET /page HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(60_000)).into_bytes();
    let long = format!("GET /page HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(50)).into_bytes();
    for len in 0..head.len() {
        assert_eq!(http.decode(&head[..len]), Received::NeedMore { bytes_min: len + 1 });
    }
    let mut rig = Rig::new(http);
    for page in [head, long] {
        rig.feed(&page);
        assert_eq!((rig.held.len(), rig.answers()[0].status), (0, 200));
    }
}

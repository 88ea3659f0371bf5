//! Answers in the order of their requests, and the end of a connection.

use coreloop_bufpool::Chunk;

use super::*;

fn calls(count: usize) -> Rig<Http> {
    let mut rig = server();
    rig.held.extend_from_slice(post("", "1").repeat(count).as_bytes());
    let received = std::iter::from_fn(|| rig.next()).count();
    assert_eq!(received, count);
    rig
}

fn bodies(rig: &mut Rig<Http>) -> Vec<String> {
    rig.answers().into_iter().map(|answer| answer.body).collect()
}

#[test]
fn answers_keep_the_order_of_the_requests() {
    let mut rig = calls(4);
    rig.write_response(reply(2, Code::Ok, b"two"));
    rig.write_response(reply(3, Code::Ok, b"three"));
    assert!(rig.queue.is_empty());
    assert!(rig.wire.held_bytes() > 8, "what waits is counted");
    rig.write_response(reply(0, Code::Ok, b"zero"));
    assert_eq!(bodies(&mut rig), ["zero"]);
    rig.write_response(reply(1, Code::Ok, b"one"));
    assert_eq!(
        (bodies(&mut rig), rig.wire.held_bytes()),
        (vec!["one".into(), "two".into(), "three".into()], 0)
    );
}

#[test]
fn unknown_and_second_answers_are_dropped() {
    let mut rig = calls(2);
    for id in [1, 1, 2, u64::MAX] {
        rig.write_response(reply(id, Code::Ok, b"x"));
    }
    rig.write_response(reply(0, Code::Ok, b"0"));
    assert_eq!((bodies(&mut rig), rig.wire.held_bytes()), (vec!["0".into(), "x".into()], 0));
    rig.write_response(reply(0, Code::Ok, b"0"));
    assert!(rig.queue.is_empty());
}

#[test]
fn pages_refusals_and_continues_keep_the_order() {
    let mut rig = server();
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = post("", "1").replace("Multiply", "Halve");
    let expecting = post("Expect: 100-continue\r\n", "1");
    let head = &expecting[..expecting.len() - 1];
    rig.held.extend_from_slice(format!("{}{page}{refused}{head}", post("", "1")).as_bytes());
    let received: Vec<_> = std::iter::from_fn(|| rig.next()).map(|received| received.message).collect();
    assert!(matches!(received[..], [Message::Request(_), Message::Request(_), Message::Refused(_)]));
    rig.write_response(reply(2, Code::Unimplemented, b"no"));
    rig.answer_page(1, 200);
    assert!(rig.queue.is_empty());
    rig.write_response(reply(0, Code::Ok, b"0"));
    let statuses: Vec<u16> = rig.answers().iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 404, 100]);
    rig.feed(b"1");
    assert_eq!(bodies(&mut rig), ["1"]);
}

#[test]
fn large_bodies_are_linked_and_small_ones_copied() {
    let mut rig = calls(2);
    let chunk = |bytes: usize| {
        let body = SendBody::Chunk(Chunk::from(vec![b'x'; 100_000]).slice(0..bytes));
        OutgoingReply {
            id: 1,
            codec: JSON,
            compressed: false,
            code: Code::Ok,
            queue_us: 0,
            handler_us: 0,
            extras: None,
            body,
        }
    };
    rig.write_response(Outgoing::Reply(chunk(10_000)));
    rig.write_response(reply(0, Code::Ok, b"0"));
    assert!(rig.queue.segments() > 1);
    assert_eq!(bodies(&mut rig)[1].len(), 10_000);
    let mut rig = calls(2);
    rig.write_response(Outgoing::Reply(chunk(10)));
    rig.write_response(reply(0, Code::NotFound, b"0"));
    assert_eq!(bodies(&mut rig)[1], "x".repeat(10));
}

#[test]
fn a_drain_closes_with_the_last_accepted_request() {
    let mut rig = calls(2);
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    rig.feed(post("", "2").as_bytes());
    assert!(rig.ended && rig.received.is_empty());
    rig.write_response(reply(1, Code::Ok, b"1"));
    rig.write_response(reply(0, Code::Ok, b"0"));
    let closes: Vec<bool> = rig.answers().iter().map(TestAnswer::closes).collect();
    assert_eq!(closes, [false, true], "what came after a close would be lost on the peer");
}

#[test]
fn an_idle_drain_serves_one_more_request() {
    let mut rig = server();
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    assert!(rig.queue.is_empty());
    let stream = post("", "1").repeat(2);
    rig.feed(stream.as_bytes());
    let answers = rig.answers();
    assert!(rig.ended && answers.len() == 1 && answers[0].closes());
    // A body that was requested with 100 (Continue) is awaited.
    let mut rig = server();
    let expecting = post("Expect: 100-continue\r\n", "1");
    rig.held.extend_from_slice(&expecting.as_bytes()[..expecting.len() - 1]);
    assert!(rig.next().is_none());
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    rig.feed(b"1");
    let answers = rig.answers();
    assert_eq!(
        answers.iter().map(|answer| (answer.status, answer.closes())).collect::<Vec<_>>(),
        [(100, false), (200, true)]
    );
    // A page may be the last answer, too.
    let mut rig = server();
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    rig.feed(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.ended && rig.answers()[0].closes());
}

#[test]
fn a_late_request_gets_408_unless_an_answer_is_outstanding() {
    let late = |rig: &mut Rig<Http>| {
        rig.wire.send_late(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
        let response =
            rig.answers().iter().map(|answer| (answer.status, answer.closes())).collect::<Vec<_>>();
        rig.feed(b"GET");
        assert!(rig.ended);
        response
    };
    let stream = post("", "123");
    for cut in [1, 30, stream.len() - 3, stream.len() - 1] {
        let mut rig = server();
        rig.feed(&stream.as_bytes()[..cut]);
        assert_eq!(rig.wire.is_in_head(), cut < stream.len() - 3, "cut at {cut}");
        assert_eq!(late(&mut rig), [(408, true)], "cut at {cut}");
    }
    let chunked =
        stream.replace("Content-Length: 3", "Transfer-Encoding: chunked").replace("\r\n123", "\r\n3\r\n1");
    let mut rig = server();
    rig.feed(chunked.as_bytes());
    assert!(!rig.wire.is_in_head() && rig.wire.is_inside_message());
    assert_eq!(late(&mut rig), [(408, true)]);
    // Nothing has begun; an answer is outstanding; the answer was written before the body arrived.
    assert_eq!(late(&mut server()), []);
    let mut rig = calls(1);
    rig.feed(b"POST");
    assert_eq!(late(&mut rig), []);
    let mut rig = server();
    rig.feed(stream[..stream.len() - 1].replace("Multiply", "Halve").as_bytes());
    assert_eq!(rig.answers().len(), 1);
    assert_eq!(late(&mut rig), []);
}

#[test]
fn go_rpc_is_granted_to_a_connect() {
    for stream in [
        &b"CONNECT /_goRPC_ HTTP/1.0\n\n"[..],
        b"CONNECT /_goRPC_ HTTP/1.0\r\n\r\n",
        b"CONNECT /_goRPC_ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut rig = server();
        for byte in stream {
            assert!(!rig.wire.becomes_go_rpc());
            rig.held.push(*byte);
            assert!(rig.next().is_none());
        }
        assert!(rig.wire.becomes_go_rpc());
        assert_eq!(rig.written(), b"HTTP/1.0 200 Connected to Go RPC\n\n");
        // The bytes that follow are not touched.
        rig.held.extend_from_slice(b"gob");
        assert_eq!((rig.next(), &rig.held[..]), (None, &b"gob"[..]));
    }
    let mut rig = server();
    rig.held.extend_from_slice(b"CONNECT /_goRPC_ HTTP/1.0\n\ngob");
    assert!(rig.next().is_none());
    assert_eq!(rig.held, b"gob");
}

#[test]
fn go_rpc_is_granted_in_no_other_way() {
    for (stream, status) in [
        ("CONNECT /_goRPC_ HTTP/1.0\nX", 400),
        ("CONNECT /_goRPC_ HTTP/1.1\n\n", 400),
        ("CONNECT /_goRPC_ HTTP/1.1\r\n\r\n", 400),
        ("CONNECT /_goRPC_ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ] {
        assert_eq!(statuses(stream), (vec![status], true), "{}", stream.escape_debug());
    }
    let mut rig = calls(1);
    rig.feed(b"CONNECT /_goRPC_ HTTP/1.0\n\n");
    assert!(rig.ended && !rig.wire.becomes_go_rpc());
    rig.write_response(reply(0, Code::Ok, b"0"));
    assert_eq!(rig.answers().iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 400]);
}

#[test]
fn memory_of_one_large_request_is_not_kept() {
    let mut rig = server();
    let body: String = (0..BODY_MAX / 10).map(|_| "a\r\n1234567890\r\n").collect();
    let chunked =
        post("", "").replace("Content-Length: 0", "Transfer-Encoding: chunked") + &body + "0\r\n\r\n";
    rig.feed(chunked.as_bytes());
    assert_eq!(rig.answers()[0].body.len(), BODY_MAX);
    assert!(rig.wire.0.scratch().is_empty() || rig.wire.0.scratch().len() <= KEEP_BYTES_MAX);
    let mut rig = Rig::new(Http::server(Arc::new(ServerContext {
        site: Box::new(HttpTestDirectory),
        ..ServerContext::bare(Limits::default())
    })));
    rig.feed(post(&format!("X: {}\r\n", "y".repeat(10_000)), &"1".repeat(100)).as_bytes());
    assert_eq!(rig.wire.0.scratch(), b"");
}

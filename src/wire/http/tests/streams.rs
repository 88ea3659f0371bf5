//! Answers that are streams: lines of JSON in chunks, in the order of the requests, complete only with the last chunk.

use coreloop_bufpool::Chunk;

use super::*;
use crate::message::{MetadataBuf, OutgoingData};

const HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";

fn watch(fields: &str) -> String {
    post(fields, "1").replace("/Arith/Multiply", "/Users/Watch")
}

fn get(method: &str, version: &str, query: &str) -> String {
    format!("{method} /Users/Watch{query} HTTP/{version}\r\nHost: a\r\n\r\n")
}

impl Rig<Http> {
    /// Feeds bytes, and returns how many requests they contain.
    fn requests(&mut self, stream: &str) -> usize {
        self.held.extend_from_slice(stream.as_bytes());
        std::iter::from_fn(|| self.next()).count()
    }

    fn message(&mut self, id: u64, message: &[u8]) {
        let data = OutgoingData { id, codec: JSON, compressed: false, body: SendBody::Bytes(message) };
        self.write_response(Outgoing::Data(data));
    }

    fn end(&mut self, id: u64, code: Code) {
        self.write_response(reply(id, code, b"why"));
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.written()).unwrap()
    }

    fn has_ended(&self) -> bool {
        self.wire.has_ended()
    }

    /// Takes what follows an answer, as a connection does once it reads again.
    fn go_on(&mut self) -> usize {
        self.bytes_min = 0;
        self.requests("")
    }
}

fn watching(fields: &str) -> Rig<Http> {
    let mut rig = server();
    assert_eq!(rig.wire.stream_support(), StreamSupport::Unary);
    assert_eq!(rig.requests(&watch(fields)), 1);
    assert_eq!(rig.wire.stream_support(), StreamSupport::ResultOnly);
    rig
}

#[test]
fn each_message_is_a_line_in_a_chunk() {
    for request in [watch(""), get("GET", "1.1", "?message=1")] {
        let mut rig = server();
        assert_eq!(rig.requests(&request), 1);
        rig.message(0, b"1");
        assert_eq!(rig.text(), format!("{HEAD}\r\n2\r\n1\n\r\n"), "a message does not wait for others");
        rig.message(0, &[b'7'; 300]);
        rig.message(0, b"");
        rig.end(0, Code::Ok);
        assert_eq!(rig.text(), format!("12d\r\n{}\n\r\n1\r\n\n\r\n0\r\n\r\n", "7".repeat(300)));
        assert_eq!((rig.wire.stream_support(), rig.has_ended()), (StreamSupport::Unary, false));
        // The connection stays open; late messages and answers are dropped.
        rig.message(0, b"1");
        rig.end(0, Code::Ok);
        assert_eq!(rig.go_on() + rig.requests(&post("", "1")), 1);
        rig.write_response(reply(1, Code::Ok, b"2"));
        assert_eq!(rig.answers()[0].body, "2");
    }
}

#[test]
fn large_messages_are_linked_and_line_feeds_between_tokens_become_spaces() {
    let mut rig = watching("");
    let mut chunk = |text: &[u8]| {
        let body = SendBody::Chunk(Chunk::from(text.to_vec()));
        rig.write_response(Outgoing::Data(OutgoingData { id: 0, codec: JSON, compressed: false, body }));
        let is_linked = rig.queue.segments() > 1;
        (rig.text().rsplit_once(HEAD).map_or(0, |_| 1), is_linked)
    };
    assert_eq!(chunk(&[b'7'; 50_000]), (1, true));
    assert_eq!(chunk(&[&[b'7'; 50_000][..], b"\n"].concat()), (0, true));
    rig.message(0, b"{\"a\":\n \"\\n\"}\n");
    assert_eq!(rig.text(), "e\r\n{\"a\":  \"\\n\"} \n\r\n");
}

#[test]
fn a_stream_without_messages_is_complete() {
    let mut rig = watching("");
    rig.end(0, Code::Ok);
    assert_eq!(rig.text(), format!("{HEAD}\r\n0\r\n\r\n"));
}

#[test]
fn an_error_before_the_first_message_is_an_ordinary_answer() {
    let mut rig = watching("");
    rig.end(0, Code::OutOfRange);
    let answers = rig.answers();
    assert_eq!((answers[0].status, answers[0].closes()), (400, false));
    assert_eq!(answers[0].body, r#"{"code":"out_of_range","message":"why"}"#);
    assert_eq!(rig.requests(&watch("")), 1, "the connection stays open");
    assert!(!rig.has_ended());
}

#[test]
fn an_error_after_the_first_message_ends_the_connection_without_the_last_chunk() {
    let mut rig = watching("");
    rig.message(0, b"1");
    rig.text();
    assert!(!rig.has_ended());
    rig.end(0, Code::Internal);
    assert_eq!((rig.text(), rig.has_ended()), (String::new(), true));
    // Nothing that follows could be taken for a part of the body.
    rig.message(0, b"1");
    rig.end(0, Code::Ok);
    assert_eq!((rig.go_on() + rig.requests(&post("", "1")), rig.ended, rig.text()), (0, true, String::new()));
}

#[test]
fn requests_after_a_stream_wait_for_its_end() {
    let mut rig = server();
    assert_eq!(rig.requests(&(watch("") + &watch("") + &post("", "1"))), 1);
    rig.message(0, b"1");
    assert_eq!(rig.go_on(), 0);
    rig.end(0, Code::Ok);
    rig.text();
    assert_eq!(rig.go_on(), 1, "the second stream");
    rig.end(1, Code::Aborted);
    assert_eq!((rig.go_on(), rig.answers()[0].status), (1, 409));
}

#[test]
fn a_stream_waits_for_earlier_answers() {
    let earlier = post("", "1").repeat(2);
    for has_ended_before in [false, true] {
        let mut rig = server();
        assert_eq!(rig.requests(&(earlier.clone() + &watch(""))), 3);
        rig.message(2, b"1");
        rig.message(2, b"22");
        assert!(rig.queue.is_empty() && rig.wire.held_bytes() >= 3, "what waits is counted");
        if has_ended_before {
            rig.end(2, Code::Ok);
            rig.message(2, b"333");
            rig.end(2, Code::Internal);
        }
        rig.write_response(reply(1, Code::Ok, b"one"));
        assert!(rig.queue.is_empty());
        rig.write_response(reply(0, Code::Ok, b"zero"));
        if !has_ended_before {
            rig.end(2, Code::Ok);
        }
        let text = rig.text();
        let (before, stream) = text.split_once(HEAD).unwrap();
        assert_eq!(stream, "\r\n2\r\n1\n\r\n3\r\n22\n\r\n0\r\n\r\n");
        let bodies: Vec<String> = answers(before.as_bytes()).into_iter().map(|answer| answer.body).collect();
        assert_eq!((bodies, rig.wire.held_bytes()), (vec!["zero".into(), "one".into()], 0));
        assert_eq!((rig.go_on(), rig.has_ended()), (0, false));
    }
    // Messages that were not written when the call failed are dropped: the error is an ordinary answer.
    let mut rig = server();
    assert_eq!(rig.requests(&(earlier + &watch(""))), 3);
    rig.message(2, b"1");
    rig.end(2, Code::DataLoss);
    assert_eq!(rig.wire.stream_support(), StreamSupport::ResultOnly, "its answer is not written");
    rig.end(0, Code::Ok);
    rig.end(1, Code::Ok);
    let statuses: Vec<u16> = rig.answers().iter().map(|answer| answer.status).collect();
    assert_eq!((statuses, rig.wire.held_bytes()), (vec![200, 200, 500], 0));
    assert_eq!(rig.wire.stream_support(), StreamSupport::Unary);
}

#[test]
fn the_head_contains_metadata_that_precedes_the_messages() {
    let mut rig = watching("");
    let mut metadata = MetadataBuf::new();
    for (name, value) in [("x-version", "7"), ("content-length", "1"), ("x-split", "a\r\nb")] {
        metadata.push(name, value.as_bytes()).unwrap();
    }
    let headers = |metadata| Outgoing::Headers { id: 0, codec: JSON, metadata };
    rig.write_response(headers(metadata.as_bytes()));
    assert!(rig.queue.is_empty() && rig.wire.held_bytes() > 0);
    rig.message(0, b"1");
    rig.write_response(headers(metadata.as_bytes()));
    assert_eq!(rig.text(), format!("{HEAD}x-version: 7\r\n\r\n2\r\n1\n\r\n"));
    assert_eq!(rig.wire.held_bytes(), 0);
}

#[test]
fn a_stream_may_be_the_last_answer() {
    for drains in [false, true] {
        let mut rig = watching(if drains { "" } else { "Connection: close\r\n" });
        if drains {
            rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
        }
        rig.message(0, b"1");
        assert_eq!(rig.text(), format!("{HEAD}Connection: close\r\n\r\n2\r\n1\n\r\n"));
        assert!(!rig.has_ended());
        rig.end(0, Code::Ok);
        assert_eq!((rig.text().as_str(), rig.has_ended()), ("0\r\n\r\n", true));
    }
    // A drain that begins after the head.
    let mut rig = watching("");
    rig.message(0, b"1");
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    rig.end(0, Code::Ok);
    assert!(rig.text().ends_with("0\r\n\r\n") && rig.has_ended());
    // A drain while the answer waits for an earlier one.
    let mut rig = server();
    assert_eq!(rig.requests(&(post("", "1") + &watch(""))), 2);
    rig.end(1, Code::Ok);
    rig.wire.send_drain(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    assert!(!rig.has_ended());
    rig.end(0, Code::Ok);
    assert!(rig.text().contains("Connection: close\r\n\r\n0\r\n\r\n") && rig.has_ended());
}

#[test]
fn a_late_request_is_not_answered_within_a_stream() {
    let mut rig = watching("");
    rig.message(0, b"1");
    rig.text();
    rig.wire.send_late(&mut Out { queue: &mut rig.queue, pool: &mut rig.pool });
    rig.end(0, Code::Ok);
    assert_eq!(rig.text(), "0\r\n\r\n");
}

#[test]
fn head_has_no_body_and_does_not_run_the_method() {
    let mut rig = server();
    assert_eq!(rig.requests(&get("HEAD", "1.1", "?message=1")), 0);
    assert_eq!(rig.text(), format!("{HEAD}\r\n"));
    assert_eq!(rig.wire.stream_support(), StreamSupport::Unary);
    assert_eq!(rig.requests(&get("HEAD", "1.1", "?message=1&message=2")), 1, "refused");
}

#[test]
fn http_1_0_has_no_streams() {
    let old_post = watch("Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
    for (request, is_open) in [
        (old_post, true),
        (get("GET", "1.0", "?message=1"), false),
        (get("HEAD", "1.0", "?message=1").replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n"), true),
    ] {
        let mut rig = server();
        rig.feed(request.as_bytes());
        let text = rig.text();
        assert!(text.starts_with("HTTP/1.1 505 "), "{text}");
        assert_eq!(text.contains("requires HTTP/1.1"), !request.starts_with("HEAD"), "{text}");
        assert_eq!(rig.ended, !is_open);
    }
}

#[test]
fn a_refused_request_for_a_stream_is_an_ordinary_request() {
    let chunked = |body: &str| {
        let chunked = watch("").replace("Content-Length: 1", "Transfer-Encoding: chunked");
        chunked.strip_suffix('1').unwrap().to_owned() + body
    };
    for (request, status) in [
        (watch("Content-Encoding: gzip\r\n"), 415),
        (watch("Connect-Timeout-Ms: x\r\n"), 400),
        (get("GET", "1.1", "?message=1&message=2"), 400),
        (get("DELETE", "1.1", ""), 405),
        (chunked("x"), 400),
    ] {
        let mut rig = server();
        assert_eq!(rig.requests(&(post("", "1") + &request)), 2, "{request}");
        assert_eq!(rig.wire.stream_support(), StreamSupport::Unary);
        rig.end(1, Code::InvalidArgument);
        rig.end(0, Code::Ok);
        let answers = rig.answers();
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, status]);
        assert_eq!(rig.requests(&post("", "2")), usize::from(!answers[1].closes()), "{request}");
    }
    // The body may come in chunks, too.
    let mut rig = server();
    assert_eq!(rig.requests(&chunked("1\r\n1\r\n0\r\n\r\n")), 1);
    assert_eq!(rig.wire.stream_support(), StreamSupport::ResultOnly);
}

#[test]
fn a_repeated_head_is_that_of_a_stream_again() {
    let mut rig = server();
    for id in 0..3 {
        assert_eq!((rig.go_on(), rig.requests(&watch(""))), (0, 1));
        rig.message(id, b"1");
        rig.end(id, Code::Ok);
        assert_eq!(rig.text(), format!("{HEAD}\r\n2\r\n1\n\r\n0\r\n\r\n"));
    }
}

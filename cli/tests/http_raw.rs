//! The served binary over HTTP, byte for byte: refusals, answers in order, timeouts, ends.

mod common;

use std::fmt::Write as _;
use std::io::Read;
use std::net::Shutdown;

use common::Served;
use common::http::{Raw, post};

const BODY: &str = r#"{"A":6,"B":7}"#;

fn multiply(fields: &str) -> String {
    post("/Arith/Multiply", fields, BODY)
}

#[test]
fn answers_come_in_request_order() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    let mut stream = post("/Echo/Sleep", "", "200");
    for number in 0..20 {
        write!(stream, "{}", post("/Arith/Add", "", &format!(r#"{{"A":{number},"B":0}}"#))).unwrap();
    }
    stream += "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    stream += "GET /Users/List?message=0 HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(stream);
    assert_eq!(raw.next(false).body, "200");
    for number in 0..20 {
        assert_eq!(raw.next(false).body, number.to_string());
    }
    assert_eq!((raw.next(false).status, raw.next(false).body.as_str()), (404, "[]"));
}

#[test]
fn an_answer_has_date_and_timing_headers() {
    let server = Served::start(&[]);
    let answer = Raw::connect(&server).ask(multiply(""));
    assert_eq!((answer.status, answer.body.as_str()), (200, "42"));
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert!(answer.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
    let timing = answer.field("Server-Timing").expect("it is said where the time went");
    let parts: Vec<f64> =
        timing.split(", ").map(|part| part.split_once(";dur=").unwrap().1.parse().unwrap()).collect();
    assert!(
        timing.starts_with("queue;dur=") && timing.contains("handler;dur=") && parts.len() == 2,
        "{timing}"
    );
}

#[test]
fn each_refusal_has_its_status_and_connection_header() {
    let limits =
        ["limits.frame_bytes_max=1KiB", "limits.http_head_bytes_max=1KiB", "limits.http_headers_max=8"];
    let server = Served::start(&limits.map(|limit| ["--set", limit]).concat());
    let bare = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let long = "x".repeat(1100);
    for (what, request, status, ends) in [
        ("two lengths", multiply("Content-Length: 13\r\n"), 400, true),
        ("a length and chunks", multiply("Transfer-Encoding: chunked\r\n"), 400, true),
        ("no host", multiply("").replace("Host: a\r\n", ""), 400, true),
        ("two hosts", multiply("Host: b\r\n"), 400, true),
        ("a space before the colon", multiply("X : y\r\n"), 400, true),
        ("a folded field", multiply("X: y\r\n z\r\n"), 400, true),
        ("lines that end in LF", multiply("").replace("\r\n", "\n"), 400, true),
        ("no such method", post("/Arith/Halve", "", BODY), 404, false),
        ("another way to ask", bare("DELETE /Arith/Multiply HTTP/1.1"), 405, false),
        ("GET of what may change", bare("GET /Arith/Multiply HTTP/1.1"), 405, false),
        (
            "no length",
            "POST /Arith/Multiply HTTP/1.0\r\nContent-Type: application/json\r\n\r\n".into(),
            411,
            true,
        ),
        ("a large body", post("/Echo/Echo", "", &"x".repeat(1025)), 413, false),
        ("a long target", bare(&format!("GET /{long} HTTP/1.1")), 414, true),
        ("another type", multiply("").replace("application/json", "text/plain"), 415, false),
        ("a content coding", multiply("Content-Encoding: gzip\r\n"), 415, false),
        ("an expectation", multiply("Expect: wonders\r\n"), 417, true),
        ("a long head", multiply(&format!("X: {long}\r\n")), 431, true),
        ("many fields", multiply(&"X: y\r\n".repeat(8)), 431, true),
        ("another verb", bare("PATCH /Arith/Multiply HTTP/1.1").replace("PATCH", "PUT"), 405, false),
        ("another version", multiply("").replace("HTTP/1.1", "HTTP/3.0"), 505, true),
    ] {
        let mut raw = Raw::connect(&server);
        let answer = raw.ask(&request);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.field("Connection") == Some("close"), ends, "{what}: {answer:?}");
        assert_eq!(status == 405, answer.field("Allow").is_some(), "{what}: {answer:?}");
        if ends {
            assert!(raw.has_ended(), "{what}");
        } else {
            assert_eq!(raw.ask(multiply("")).body, "42", "{what}");
        }
    }
    // A method that the first bytes do not distinguish from other protocols comes second.
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.ask(multiply("")).status, 200);
    assert_eq!(raw.ask(bare("BREW /Arith/Multiply HTTP/1.1")).status, 501);
    assert_eq!(raw.ask(multiply("")).body, "42");
}

#[test]
fn a_head_answer_has_no_body() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    raw.send("HEAD /Users/Get?message=5 HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    raw.send(multiply(""));
    let (user, page) = (raw.next(true), raw.next(true));
    assert!(
        user.field("Content-Length").is_some_and(|length| length.parse::<usize>().unwrap() > 100),
        "{user:?}"
    );
    assert!(page.field("Content-Type").is_some_and(|media| media.starts_with("text/html")), "{page:?}");
    assert_eq!(raw.next(false).body, "42");
}

#[test]
fn chunks_with_extensions_and_trailers_are_one_body() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    let head = "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    raw.send(format!(
        "{head}6;a=\"b\"\r\n{{\"A\":6\r\n7\r\n,\"B\":7}}\r\n0\r\nX-Sum: 1\r\n\r\n{}",
        multiply("")
    ));
    assert_eq!((raw.next(false).body.as_str(), raw.next(false).body.as_str()), ("42", "42"));
    let answer = raw.ask(format!("{head}6\r\n{{\"A\":6,\r\n0\r\n\r\n"));
    assert_eq!((answer.status, answer.field("Connection")), (400, Some("close")));
    assert!(raw.has_ended());
}

#[test]
fn slow_requests_time_out() {
    let server = Served::start(&["--set", "limits.head_ms=50", "--set", "limits.frame_ms=50"]);
    for (what, begun) in [
        ("a head", "POST /Arith/Multiply HTTP/1.1\r\nHost:".to_owned()),
        ("a body", multiply("").replace(BODY, "{")),
    ] {
        let mut raw = Raw::connect(&server);
        // An earlier answered request does not matter.
        assert_eq!(raw.ask(multiply("")).status, 200);
        let answer = raw.ask(begun);
        assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")), "{what}");
        assert!(answer.body.contains("deadline_exceeded"), "{what}: {answer:?}");
        assert!(raw.has_ended(), "{what}");
    }
}

#[test]
fn a_half_closed_peer_is_answered_and_resets_are_harmless() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    raw.send(post("/Echo/Sleep", "", "50") + &multiply(""));
    raw.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!((raw.next(false).body.as_str(), raw.next(false).body.as_str()), ("50", "42"));
    assert!(raw.has_ended());
    for _ in 0..20 {
        let mut raw = Raw::connect(&server);
        raw.send(multiply("") + &post("/Echo/Sleep", "", "60000") + &multiply("") + "POST /Ari");
        // Unread answers in the socket turn the close into a reset.
        assert_eq!(raw.0.peek(&mut [0]).unwrap(), 1);
        drop(raw);
    }
    assert_eq!(Raw::connect(&server).ask(multiply("")).body, "42");
    let ended = server.stop();
    assert_eq!((ended.code, ended.summary("drain-cancelled")), (Some(0), 0), "{ended:?}");
}

#[test]
fn a_drain_answers_calls_in_flight_and_closes() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.ask(multiply("")).field("Connection"), None);
    let mut idle = Raw::connect(&server);
    assert_eq!(idle.ask(multiply("")).status, 200);
    // `100 Continue` is sent once the head has been read, so the call is in flight before the signal.
    let sleep = post("/Echo/Sleep", "Expect: 100-continue\r\n", "300");
    let head = sleep.find("\r\n\r\n").unwrap() + 4;
    raw.send(&sleep[..head]);
    assert_eq!(raw.next(true).status, 100);
    server.signal("TERM");
    raw.send(&sleep[head..]);
    let last = raw.next(false);
    assert_eq!((last.body.as_str(), last.field("Connection")), ("300", Some("close")));
    assert!(raw.has_ended() && idle.has_ended());
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn unknown_first_bytes_close_the_connection() {
    let server = Served::start(&[]);
    for stranger in [
        &b"SSH-2.0-x\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"EHLO mail.example\r\n",
        b"USER me\r\n",
        b"HELP\r\n",
        b"\0",
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(stranger);
        let mut rest = Vec::new();
        // Unread bytes turn the close into a reset; either way nothing is sent.
        let _ = raw.0.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{stranger:?}");
    }
    let ended = server.stop();
    assert_eq!((ended.code, ended.summary("calls")), (Some(0), 0), "{ended:?}");
}

//! The requirements of RFC 9112 for a server, and streams that two readers could read in two ways.

use super::*;

/// A GET with these fields instead of only Host.
fn get(fields: &str) -> String {
    format!("GET /page HTTP/1.1\r\n{fields}\r\n")
}

#[test]
fn the_rules_of_rfc_9112_hold() {
    let plain = get("Host: a\r\n");
    let chunked = |body: &str| {
        format!(
            "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    // Section, rule, stream, status of each answer, whether the connection has ended.
    let table: &[(&str, &str, String, &[u16], bool)] = &[
        ("2.2", "an empty line before a request is ignored", format!("\r\n{plain}"), &[200], false),
        ("2.2", "and one before the next", format!("{plain}\r\n{plain}"), &[200, 200], false),
        ("2.2", "not two", format!("\r\n\r\n{plain}"), &[400], true),
        ("2.2", "a line ends in CR and LF", plain.replace("\r\n", "\n"), &[400], true),
        ("2.2", "a bare CR is no end", plain.replace("Host: a\r\n", "Host: a\r"), &[400], true),
        ("2.2", "white space before the first field", get(" Host: a\r\n"), &[400], true),
        ("2.3", "another major version", plain.replace("1.1", "2.0"), &[505], true),
        ("2.3", "the name of the protocol is in capitals", plain.replace("HTTP", "http"), &[400], true),
        ("3", "one space between the parts", plain.replace("GET /", "GET  /"), &[400], true),
        ("3", "no tab for it", plain.replace("GET /", "GET\t/"), &[400], true),
        ("3", "nothing behind the version", plain.replace("1.1", "1.1 "), &[400], true),
        ("3", "a method that is not known", plain.replace("GET", "FETCH"), &[501], false),
        ("3", "a target too long", format!("GET /{} HTTP/1.1\r\n", "x".repeat(500)), &[414], true),
        ("3.2", "a target with white space", plain.replace("/page", "/pa ge"), &[400], true),
        ("3.2", "a target with a fragment", plain.replace("/page", "/page#x"), &[400], true),
        ("3.2", "a target that is not ASCII", plain.replace("/page", "/pagé"), &[400], true),
        ("3.2", "no Host", get(""), &[400], true),
        ("3.2", "two Hosts", get("Host: a\r\nHost: a\r\n"), &[400], true),
        ("3.2", "a Host that is none", get("Host: a b\r\n"), &[400], true),
        ("3.2", "a Host with a path", get("Host: a/b\r\n"), &[400], true),
        ("3.2", "an empty Host", get("Host:\r\n"), &[200], false),
        ("3.2", "a Host with a port", get("Host: [::1]:80\r\n"), &[200], false),
        ("3.2", "HTTP/1.0 needs no Host", "GET /page HTTP/1.0\r\n\r\n".into(), &[200], true),
        ("3.2.1", "origin-form", plain.clone(), &[200], false),
        ("3.2.2", "absolute-form", plain.replace("/page", "http://a/page"), &[200], false),
        ("3.2.2", "its host counts, not Host", plain.replace("/page", "HTTP://b:80/page?x"), &[200], false),
        (
            "3.2.2",
            "Host is still required",
            plain.replace("/page", "http://a/page").replace("Host", "X"),
            &[400],
            true,
        ),
        ("3.2.2", "without a path it is /", plain.replace("/page", "https://a"), &[404], false),
        ("3.2.2", "without a path, with a query", plain.replace("/page", "https://a?b"), &[404], false),
        ("3.2.2", "without a host", plain.replace("/page", "http:///page"), &[400], true),
        ("3.2.2", "with a user", plain.replace("/page", "http://u@a/page"), &[400], true),
        ("3.2.2", "of another scheme", plain.replace("/page", "ftp://a/page"), &[400], true),
        ("3.2.3", "authority-form is for CONNECT", plain.replace("/page", "a:80"), &[400], true),
        ("3.2.3", "CONNECT is not for this", plain.replace("GET /page", "CONNECT a:80"), &[405], true),
        ("3.2.4", "asterisk-form", plain.replace("GET /page", "OPTIONS *"), &[204], false),
        ("3.2.4", "asterisk-form is for OPTIONS", plain.replace("/page", "*"), &[400], true),
        ("5.1", "white space before the colon", get("Host : a\r\n"), &[400], true),
        ("5.1", "white space around a value", get("Host:\t a \t\r\n"), &[200], false),
        ("5.1", "a field without a name", get("Host: a\r\n: b\r\n"), &[400], true),
        ("5.1", "a field without a colon", get("Host: a\r\nX\r\n"), &[400], true),
        ("5.1", "a name that is no token", get("Host: a\r\nX(: b\r\n"), &[400], true),
        ("5.2", "a folded line", get("Host: a\r\nX: b\r\n c\r\n"), &[400], true),
        ("5.5 of 9110", "NUL in a value", get("Host: a\r\nX: \0\r\n"), &[400], true),
        ("5.5 of 9110", "DEL in a value", get("Host: a\r\nX: \x7f\r\n"), &[400], true),
        ("5.5 of 9110", "obs-text in a value", get("Host: a\r\nX: é\r\n"), &[200], false),
        (
            "6.1",
            "chunked, whatever the case",
            chunked("1\r\n1\r\n0\r\n\r\n").replace("chunked", "Chunked"),
            &[200],
            false,
        ),
        ("6.1", "a coding that is not known", chunked("").replace("chunked", "gzip"), &[400], true),
        ("6.1", "chunked is the last", chunked("").replace("chunked", "chunked, gzip"), &[400], true),
        ("6.1", "in HTTP/1.0", chunked("0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"), &[400], true),
        ("6.2", "a length that is no number", get("Host: a\r\nContent-Length: a\r\n"), &[400], true),
        (
            "6.3",
            "both framings",
            chunked("0\r\n\r\n").replace("Host", "Content-Length: 5\r\nHost"),
            &[400],
            true,
        ),
        ("6.3", "two lengths", post("Content-Length: 2\r\n", "1"), &[400], true),
        ("6.3", "two equal lengths", post("Content-Length: 1\r\n", "1"), &[400], true),
        ("6.3", "a list of lengths", post("", "1").replace("Length: 1", "Length: 1, 1"), &[400], true),
        ("6.3", "no length is no body", post("", "").replace("Content-Length: 0\r\n", ""), &[200], false),
        (
            "7.1",
            "sizes in both cases of hex",
            chunked("A\r\n1234567890\r\nb\r\n12345678901\r\n0\r\n\r\n"),
            &[200],
            false,
        ),
        ("7.1", "a size too large to count", chunked("fffffffffffffffff\r\n"), &[400], true),
        ("7.1", "a size over the limit", chunked("ffffffffffffffff\r\n"), &[413], true),
        ("7.1.1", "extensions are passed over", chunked("1;a=b;c=\"d;\"\r\n1\r\n0;e\r\n\r\n"), &[200], false),
        ("7.1.1", "extensions that are none", chunked("1;=\r\n1\r\n0\r\n\r\n"), &[400], true),
        ("7.1.1", "too much of them", chunked(&format!("1;a={}\r\n", "b".repeat(500))), &[413], true),
        ("7.1.2", "trailers are dropped", chunked("0\r\nContent-Length: 5\r\n\r\n"), &[200], false),
        ("7.1.2", "trailers that are none", chunked("0\r\nX : y\r\n\r\n"), &[400], true),
        (
            "9.3",
            "HTTP/1.0 with keep-alive",
            "GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(),
            &[200],
            false,
        ),
        ("9.3.2", "answers in the order of requests", plain.repeat(3), &[200, 200, 200], false),
        (
            "9.6",
            "nothing is taken after close",
            get("Host: a\r\nConnection: close\r\n") + &plain,
            &[200],
            true,
        ),
        ("10.1.1 of 9110", "another expectation", post("Expect: x\r\n", "1"), &[417], true),
    ];
    for (section, what, stream, expected, is_ended) in table {
        let got = statuses(stream);
        assert_eq!(
            got,
            (expected.to_vec(), *is_ended),
            "section {section}: {what}: {}",
            stream.escape_debug()
        );
    }
}

/// Each hides a second request from one of two readers.
#[test]
fn an_ambiguous_request_is_400_and_a_close() {
    let hidden = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for (fields, body) in [
        // Two framings.
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\nG"),
        ("Content-Length: 6\r\nContent-Length: 5\r\n", "12345G"),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Content-Length: -1\r\n", ""),
        ("Content-Length: 0x5\r\n", "12345"),
        ("Content-Length: 5_0\r\n", "12345"),
        ("Content-Length: 5 \t5\r\n", "12345"),
        ("Content-Length: 5,\r\n", "12345"),
        ("Content-Length: \"5\"\r\n", "12345"),
        ("Content-Length:\r\n", ""),
        ("Content-Length: 99999999999999999999\r\n", ""),
        ("Content-Length : 5\r\n", "12345"),
        ("Content-Length\t: 5\r\n", "12345"),
        ("Content\\Length: 5\r\n: x\r\n", "12345"),
        // Transfer codings that only some readers take for chunked.
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "12345"),
        ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked;x\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: y\0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer\u{2010}Encoding: chunked\r\n", "0\r\n\r\n"),
        // Chunks.
        ("Transfer-Encoding: chunked\r\n", "+5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n12345\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;\0\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\n123456\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "10000000000000005\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "\r\n5\r\n12345\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\nX: y\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\n"),
        // The head.
        ("Content-Length: 0\r\nHost: b\r\n", ""),
        ("Content-Length: 0\r\nX: y\r\n\t folded\r\n", ""),
        ("Content-Length: 0\r\nConnection: clo se\r\n", ""),
    ] {
        let stream = format!("{head}{fields}\r\n{body}{hidden}");
        assert_eq!(statuses(&stream), (vec![400], true), "{}", stream.escape_debug());
    }
}

#[test]
fn a_skipped_body_is_not_read_as_a_request() {
    let inner = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let next = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = |body: &str| format!("Transfer-Encoding: chunked\r\n\r\n{body}");
    let plain = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
    let in_chunks = chunked(&format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()));
    for body in [plain, in_chunks] {
        for (line, status) in [
            ("POST /none", 404),
            ("PUT /Arith/Multiply", 405),
            ("POST /Arith/Multiply", 415),
            ("OPTIONS *", 204),
            ("BREW /page", 501),
        ] {
            let stream = format!("{line} HTTP/1.1\r\nHost: a\r\n{body}{next}");
            assert_eq!(statuses(&stream), (vec![status, 204], false), "{}", stream.escape_debug());
        }
    }
    // In chunks that are invalid, or never end.
    for body in ["x\r\n", "65\r\n", "1;\n"] {
        let (answers, ended) = ask(format!("POST /none HTTP/1.1\r\nHost: a\r\n{}{next}", chunked(body)));
        assert!(ended && answers.len() == 1 && answers[0].status == 404);
    }
}

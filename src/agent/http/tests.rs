use proptest::prelude::*;

use super::*;

/// What was read of a response: the head, the body, and its end (whether the connection can be used again).
type Whole = (Option<ReceivedHead>, Vec<u8>, Option<bool>);

/// Reads a response in pieces; the connection ends after them. The bytes after the response are ignored.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, body_bytes_max: u64) -> Result<Whole, HttpFault> {
    let mut reader = HttpReader::new(body_bytes_max);
    let (mut head, mut body) = (None, Vec::new());
    for mut input in pieces {
        loop {
            let (consumed, piece) = reader.next(input)?;
            assert!(consumed <= input.len());
            input = &input[consumed..];
            match piece {
                Some(HttpPiece::Head(found)) => assert!(head.replace(found).is_none(), "one head"),
                Some(HttpPiece::Body(bytes)) => body.extend_from_slice(bytes),
                Some(HttpPiece::End { keeps }) => return Ok((head, body, Some(keeps))),
                None if input.is_empty() => break,
                None => assert!(consumed > 0, "no progress"),
            }
        }
    }
    reader.on_end().map(|is_end| (head, body, is_end.then_some(false)))
}

/// Reads a response as a whole and at every split; the result is the same.
fn verdict(response: &str) -> Result<(u16, String, bool), HttpFault> {
    let bytes = response.as_bytes();
    let whole = read([bytes], 1000);
    for split in 0..=bytes.len() {
        assert_eq!(read([&bytes[..split], &bytes[split..]], 1000), whole, "{response:?} at {split}");
    }
    assert_eq!(read(bytes.chunks(1), 1000), whole, "{response:?} byte by byte");
    whole.map(|(head, body, end)| {
        (head.unwrap().status, String::from_utf8(body).unwrap(), end.expect("an end"))
    })
}

#[test]
fn a_body_ends_by_length_by_chunks_or_with_the_connection() {
    let ok = |body: &str, keeps| Ok((200, body.to_owned(), keeps));
    assert_eq!(verdict("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"), ok("[]", true));
    assert_eq!(verdict("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ok("", true));
    assert_eq!(
        verdict("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"),
        ok("[]", false)
    );
    assert_eq!(verdict("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]"), ok("[]", false));
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;a=b\r\n]\r\n0\r\nX: y\r\n\r\n";
    assert_eq!(verdict(chunked), ok("[]", true));
    assert_eq!(verdict("HTTP/1.1 200 OK\r\n\r\nall of it"), ok("all of it", false));
    assert_eq!(
        verdict("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
        Ok((204, String::new(), true))
    );
}

#[test]
fn fields_are_found_without_case() {
    let (head, ..) =
        read([&b"HTTP/1.1 200 OK\r\nx-consul-INDEX: 17\r\nContent-Length: 0\r\n\r\n"[..]], 0).unwrap();
    assert_eq!(head.unwrap().field("X-Consul-Index"), Some(&b"17"[..]));
}

#[test]
fn an_ambiguous_or_malformed_response_is_refused() {
    for response in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(matches!(verdict(response), Err(HttpFault::Malformed(_))), "{response:?}");
    }
    let interims = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17);
    assert!(matches!(verdict(&interims), Err(HttpFault::Malformed(_))));
}

#[test]
fn heads_and_bodies_have_limits() {
    assert_eq!(
        verdict("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"),
        Err(HttpFault::BodyTooLarge(1000))
    );
    assert_eq!(
        verdict("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"),
        Err(HttpFault::BodyTooLarge(1000))
    );
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1001));
    assert_eq!(read([endless.as_bytes()], 1000), Err(HttpFault::BodyTooLarge(1000)));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(read(long.as_bytes().chunks(1000), 1000), Err(HttpFault::HeadTooLarge));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
    assert_eq!(read([many.as_bytes()], 1000), Err(HttpFault::HeadTooLarge));
}

#[test]
fn a_connection_that_ends_early_is_seen() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
    for end in 0..response.len() {
        assert_eq!(read([&response.as_bytes()[..end]], 1000), Err(HttpFault::Incomplete), "{end}");
    }
}

#[test]
fn a_request_has_a_length_if_it_has_a_body() {
    let request = HttpRequest {
        method: "PUT",
        target: "/v1/a",
        fields: &[("X-Consul-Token", "s")],
        content_type: "application/json",
        body: b"{}",
    };
    let text = String::from_utf8(request.to_bytes("h:1")).unwrap();
    assert_eq!(
        text,
        "PUT /v1/a HTTP/1.1\r\nHost: h:1\r\nAccept: application/json\r\nX-Consul-Token: s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    );
    let empty =
        HttpRequest { method: "GET", target: "/", fields: &[], content_type: "application/json", body: b"" };
    assert!(!String::from_utf8(empty.to_bytes("h")).unwrap().contains("Content-Length"));
    assert_eq!(encode("a b/ü?&=~-._"), "a%20b%2F%C3%BC%3F%26%3D~-._");
    assert!(
        is_field_value("a-b c") && !is_field_value("a\r\nb") && !is_field_value(" a") && !is_field_value("ü")
    );
}

proptest! {
    /// Responses that are nearly valid, in any pieces: the result is that of the whole.
    #[test]
    fn the_result_does_not_depend_on_the_split(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 No\r\n", "HTTP/1.1 100 Go on\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n", "X: y\r\n", "\r\n", "5\r\nhello\r\n", "0\r\n\r\n", "hello", "\r", "\n", ":", "\u{0}",
        ]), 0..12),
        cuts in proptest::collection::vec(0..200_usize, 0..6),
    ) {
        let bytes = parts.concat().into_bytes();
        let whole = read([&bytes[..]], 1000);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|two| &bytes[two[0]..two[1]]);
        prop_assert_eq!(read(pieces, 1000), whole);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read([&bytes[..]], 1000);
    }
}

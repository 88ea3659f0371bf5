//! Fields of requests and trailers that are malformed, and header lists over the limit.

use super::*;

fn request_with(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&REQUEST[..], fields].concat()
}

#[test]
fn malformed_requests_are_reset_and_not_delivered() {
    let without = |name: &str| REQUEST.into_iter().filter(|field| field.0 != name).collect::<Vec<_>>();
    let changed = |name: &str, value: &'static str| {
        REQUEST.map(|field| if field.0 == name { (field.0, value) } else { field }).to_vec()
    };
    for fields in [
        without(":method"),
        without(":path"),
        without(":scheme"),
        changed(":path", ""),
        changed(":path", "no-slash"),
        changed(":path", "*"),
        changed(":path", "/a b"),
        changed(":path", "/a#b"),
        changed(":path", "/a\tb"),
        changed(":method", "PO ST"),
        changed(":authority", "me@localhost"),
        changed(":method", "CONNECT"),
        request_with(&[(":path", "/late")]),
        [&REQUEST[..4], &[(":path", "/twice")]].concat(),
        [&REQUEST[..4], &[(":status", "200")]].concat(),
        [&REQUEST[..4], &[(":unknown", "x")]].concat(),
        request_with(&[("Upper", "x")]),
        request_with(&[("", "x")]),
        request_with(&[("a b", "x")]),
        request_with(&[("a:b", "x")]),
        request_with(&[("a", "x\r\ny: z")]),
        request_with(&[("a", "x\0")]),
        request_with(&[("a", " x")]),
        request_with(&[("a", "x\t")]),
        request_with(&[("connection", "close")]),
        request_with(&[("keep-alive", "1")]),
        request_with(&[("proxy-connection", "x")]),
        request_with(&[("transfer-encoding", "chunked")]),
        request_with(&[("upgrade", "h2c")]),
        request_with(&[("te", "gzip")]),
        request_with(&[("te", "trailers, gzip")]),
        request_with(&[("host", "elsewhere")]),
        request_with(&[("host", "localhost"), ("host", "localhost")]),
        request_with(&[("content-length", "+5")]),
        request_with(&[("content-length", "5"), ("content-length", "5")]),
        request_with(&[("content-length", "99999999999999999999")]),
        request_with(&[("content-length", "5")]),
    ] {
        let mut peer = Peer::new();
        // The last one announces a body and has none.
        assert_eq!(peer.headers(1, &fields, true), [], "{fields:?}");
        peer.assert_reset(1, Http2Code::PROTOCOL_ERROR);
        assert_eq!(peer.connection.streams(), 0, "{fields:?}");
        // The table is right: the next request is understood.
        peer.open(3, true);
    }
}

#[test]
fn well_formed_requests_are_delivered() {
    for fields in [
        REQUEST.to_vec(),
        request_with(&[("te", "trailers"), ("host", "LOCALHOST"), ("x", ""), ("y", "a b")]),
        request_with(&[("content-length", "0")]),
        vec![(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "x")],
        vec![(":method", "CONNECT"), (":authority", "x:1")],
    ] {
        let mut peer = Peer::new();
        let events = peer.headers(1, &fields, true);
        let [Http2Event::Head { stream: 1, head, is_last: true }] = &events[..] else {
            panic!("{fields:?}: {events:?}")
        };
        let found = head::value_at(peer.connection.fields(), Some(head.method));
        assert_eq!(found, fields[0].1.as_bytes());
    }
}

#[test]
fn malformed_trailers_reset_the_stream() {
    for fields in [
        &[(":path", "/smuggled")][..],
        &[(":status", "200")],
        &[("a", "b"), ("Upper", "c")],
        &[("connection", "close")],
        &[("content-length", "0")],
        &[("te", "trailers")],
    ] {
        let mut peer = Peer::new();
        peer.open(1, false);
        let events = peer.headers(1, fields, true);
        let code = Http2Code::PROTOCOL_ERROR;
        assert_eq!(events, [Http2Event::Reset { stream: 1, code, is_by_peer: false }], "{fields:?}");
        peer.assert_reset(1, code);
    }
    let mut peer = Peer::new();
    peer.open(1, false);
    assert_eq!(peer.headers(1, &[("sum", "7")], true), [Http2Event::Trailers { stream: 1 }]);
    assert_eq!(peer.connection.fields().len(), 1);
}

#[test]
fn the_body_has_its_announced_length() {
    let five = request_with(&[("content-length", "5")]);
    for parts in [&[(&b"123456"[..], false)][..], &[(b"1234", true)], &[(b"123", false), (b"123", true)]] {
        let mut peer = Peer::new();
        peer.headers(1, &five, false);
        for (data, is_last) in parts {
            peer.data(1, data, *is_last);
        }
        peer.assert_reset(1, Http2Code::PROTOCOL_ERROR);
    }
    let mut peer = Peer::new();
    peer.headers(1, &five, false);
    peer.data(1, b"123", false);
    peer.headers(1, &[("a", "b")], true);
    peer.assert_reset(1, Http2Code::PROTOCOL_ERROR);
    let mut peer = Peer::new();
    peer.headers(1, &five, false);
    assert_eq!(peer.data(1, b"123", false).len(), 1);
    assert_eq!(peer.data(1, b"45", true).len(), 1);
    peer.assert_continues();
}

#[test]
fn a_header_list_over_the_limit_is_an_event_of_its_own() {
    let mut peer = Peer::new();
    let large = "x".repeat(16 << 10);
    let mut fields = REQUEST.to_vec();
    fields.push(("x-large", &large));
    let block = peer.block(&fields);
    let (begin, end) = block.split_at(8000);
    let events = peer.frames(&[
        Http2Frame::Headers {
            stream: 1,
            priority: None,
            fragment: begin,
            padding: None,
            is_last: true,
            is_end_of_block: false,
        },
        Http2Frame::Continuation { stream: 1, fragment: end, is_end_of_block: true },
    ]);
    assert_eq!(events, [Http2Event::HeadTooLarge { stream: 1, is_last: true }]);
    peer.with_out(|connection, out| connection.send_head(1, &[field(":status", "431")], true, out));
    peer.sent();
    peer.assert_continues();
    peer.open(3, true);
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    for block in [&b"\x80"[..], b"\xff\xff\xff\xff\xff\xff", b"\x82\x20", b"\x04\x81\xff"] {
        let mut peer = Peer::with(Http2Limits { header_table_bytes: 4096, ..Http2Limits::default() });
        peer.frames(&[headers(1, block, true)]);
        peer.assert_failed(Http2Code::COMPRESSION_ERROR);
    }
}

#[test]
fn a_peer_need_not_confirm_the_lowered_size_of_the_table() {
    let mut peer = Peer::new();
    let events = peer.frames(&[headers(1, b"\x82\x84\x86", true)]);
    assert!(matches!(&events[..], [Http2Event::Head { .. }]), "{events:?} {:?}", peer.failed);
}

#[test]
fn long_answers_are_split_into_continuations() {
    let mut peer = Peer::new();
    peer.open(1, true);
    let long = vec![b'v'; 40_000];
    peer.with_out(|connection, out| {
        let long = OutField { name: b"x-long", value: &long, indexing: hpack::Indexing::Omit };
        connection.send_head(1, &[field(":status", "200"), long], true, out);
    });
    let sent = peer.sent();
    assert_eq!(sent.iter().map(|sent| sent.head.kind).collect::<Vec<_>>(), [1, 9, 9]);
    assert_eq!(sent.iter().map(|sent| sent.head.flags).collect::<Vec<_>>(), [1, 0, 4]);
    let block: Vec<u8> = sent.into_iter().flat_map(|sent| sent.payload).collect();
    assert_eq!(peer.fields(&block)[1].1.len(), 40_000);
}

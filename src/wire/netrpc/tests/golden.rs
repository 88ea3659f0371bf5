//! Bytes of Go's own client and server (net/rpc of Go 1.27), captured on a pipe between the two by tests/go/interop,
//! in processes whose gob had used no types before, or many, since ids are counted per process.

use super::*;
use crate::codec::gob::stream::{self, SplitItem, split};
use crate::wire::sniff::{Sniffed, sniff};
use crate::wire::testing::Decode;
use crate::wire::{ProtocolId, ProtocolSet, ServerProtocol};

const CAPTURED: [(&str, &str); 4] = [
    ("no types", include_str!("captured/after-0-types.hex")),
    ("61 types", include_str!("captured/after-61-types.hex")),
    ("300 types", include_str!("captured/after-300-types.hex")),
    ("9000 types", include_str!("captured/after-9000-types.hex")),
];

/// The client's bytes, and the server's answers.
fn captured() -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>)> {
    let bytes = |line: &str| {
        let digits = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<_>>()
    };
    CAPTURED.into_iter().map(move |(name, text)| {
        let mut lines = text.lines().map(bytes);
        (name, lines.next().unwrap(), lines.next().unwrap())
    })
}

fn args(a: i64, b: i64) -> GoArgs {
    GoArgs { a, b }
}

fn user(id: u64, tags: &[&str]) -> GoUser {
    GoUser {
        id,
        name: format!("user-{id} é世"),
        age: id as u8,
        email: format!("u{id}@example.com"),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        scores: BTreeMap::from([("s0".to_owned(), id as f64 * 0.5)]),
    }
}

/// Checks the messages that a server reads from the client's stream.
fn check_requests(parsed: &[ReceivedMessage]) {
    let calls: Vec<&ReceivedMessage> =
        parsed.iter().filter(|(message, _)| matches!(message, Message::Request(_))).collect();
    let methods: Vec<u32> = calls.iter().map(|parsed| request_of(parsed).method).collect();
    let names = [
        "Arith.Add",
        "Arith.Add",
        "Arith.Divide",
        "Arith.Divide",
        "Arith.Add",
        "Echo.Echo",
        "Echo.Bytes",
        "Users.Get",
        "Users.List",
        "Arith.Add",
    ];
    assert_eq!(methods, names.map(method_hash));
    let arguments = [(0, 6, 7), (1, 0, 0), (2, 17, 5), (3, 1, 0), (4, 6, 7), (9, 20, 22)];
    for (at, a, b) in arguments {
        assert_eq!(gob::decode::<GoArgs>(&calls[at].1), Ok(args(a, b)), "call {at}");
    }
    assert_eq!(gob::decode::<String>(&calls[5].1), Ok("é世".to_owned()));
    assert_eq!(gob::decode::<Vec<u8>>(&calls[6].1), Ok(vec![0, 1, 254, 255]));
    assert_eq!(gob::decode::<u64>(&calls[7].1), Ok(7));
    assert_eq!(gob::decode::<i64>(&calls[8].1), Ok(1));
    let refused: Vec<_> = parsed
        .iter()
        .filter(|(message, _)| matches!(message, Message::Refused(_)))
        .map(|parsed| (refusal_of(parsed).code, &refusal_of(parsed).message[..]))
        .collect();
    assert_eq!(
        refused,
        [
            "rpc: can't find service Nobody.Add",
            "rpc: can't find method Arith.Nothing",
            "rpc: service/method request ill-formed: NoDot",
        ]
        .map(|text| (Code::Unimplemented, text))
    );
}

/// Checks the messages that a client reads from the server's stream.
fn check_answers(parsed: &[ReceivedMessage]) {
    let ids: Vec<u64> = parsed.iter().map(|parsed| answer_of(parsed).id).collect();
    assert_eq!(ids, Vec::from_iter(0..13));
    let failed: Vec<_> = parsed
        .iter()
        .filter(|parsed| answer_of(parsed).status != 0)
        .map(|parsed| {
            (answer_of(parsed).id, answer_of(parsed).status, std::str::from_utf8(&parsed.1).unwrap())
        })
        .collect();
    let unimplemented = Code::Unimplemented.number();
    let unknown = Code::Unknown.number();
    assert_eq!(
        failed,
        [
            (3, unknown, "divide by zero"),
            (9, unimplemented, "rpc: can't find service Nobody.Add"),
            (10, unimplemented, "rpc: can't find method Arith.Nothing"),
            (11, unknown, "rpc: service/method request ill-formed: NoDot"),
        ]
    );
    for (at, sum) in [(0, 13), (1, 0), (4, 13), (12, 42)] {
        assert_eq!(gob::decode::<i64>(&parsed[at].1), Ok(sum));
    }
    assert_eq!(gob::decode::<String>(&parsed[5].1), Ok("é世".to_owned()));
    assert_eq!(gob::decode::<GoUser>(&parsed[7].1), Ok(user(7, &["tag0", "tag1", "tag2"])));
    assert_eq!(gob::decode::<Vec<GoUser>>(&parsed[8].1), Ok(vec![user(1, &["tag0"])]));
}

#[test]
fn the_stream_of_gos_client_is_read_at_every_split() {
    for (_, requests, _) in captured() {
        each_split(&requests, |pieces, _| {
            let mut server = server();
            let parsed: Vec<ReceivedMessage> = pieces.flat_map(|piece| server.receive(piece)).collect();
            assert_eq!(server.broken, None);
            assert!(!server.wire.is_inside_message() && server.held.is_empty());
            check_requests(&parsed);
        });
    }
}

#[test]
fn the_stream_of_gos_server_is_read_at_every_split() {
    for (_, _, answered) in captured() {
        each_split(&answered, |pieces, _| {
            let mut client = client();
            let parsed: Vec<ReceivedMessage> = pieces.flat_map(|piece| client.receive(piece)).collect();
            assert_eq!(client.broken, None);
            assert!(!client.wire.is_inside_message() && client.held.is_empty());
            check_answers(&parsed);
        });
    }
}

#[test]
fn gos_streams_are_recognized_by_their_first_bytes() {
    for (name, requests, _) in captured() {
        let parsed = (0..requests.len()).find(|len| sniff(&requests[..*len]) != Sniffed::NeedMore).unwrap();
        assert!(parsed <= 4, "{name}: {parsed} bytes");
        assert!(
            (parsed..=requests.len()).all(|len| sniff(&requests[..len]) == Sniffed::Is(ProtocolId::NetRpc))
        );
        each_split(&requests, |pieces, cut| {
            let mut server =
                NetRpcEnd::of(ServerProtocol::undecided(ProtocolSet::SERVED, side(Limits::default())));
            let parsed: Vec<ReceivedMessage> = pieces.flat_map(|piece| server.receive(piece)).collect();
            assert!(matches!(server.wire, ServerProtocol::NetRpc(_)), "{name} cut at {cut}");
            check_requests(&parsed);
        });
    }
}

#[test]
fn a_connect_of_gos_client_continues_in_gob() {
    let granted = b"HTTP/1.0 200 Connected to Go RPC\n\n";
    for (_, requests, _) in captured() {
        let stream = [b"CONNECT /_goRPC_ HTTP/1.0\n\n", &requests[..]].concat();
        each_split(&stream, |pieces, _| {
            let mut server =
                NetRpcEnd::of(ServerProtocol::undecided(ProtocolSet::SERVED, side(Limits::default())));
            let mut parsed = Vec::new();
            for piece in pieces {
                server.held.extend_from_slice(piece);
                while let Some(message) = server.next() {
                    parsed.push(message);
                }
            }
            assert_eq!(server.output(), granted);
            check_requests(&parsed);
        });
    }
}

#[test]
fn a_listener_without_gob_grants_no_connect() {
    for protocols in [ProtocolSet::only(ProtocolId::Http), ProtocolSet::only(ProtocolId::NetRpc)] {
        for (_, requests, _) in captured() {
            let connect = &b"CONNECT /_goRPC_ HTTP/1.0\n\n"[..];
            let mut server = NetRpcEnd::of(ServerProtocol::undecided(protocols, side(Limits::default())));
            let parsed = server.receive(connect);
            if protocols.contains(ProtocolId::Http) {
                assert_eq!(refusal_of(&parsed[0]).code, Code::Unimplemented);
                let (id, text) = (refusal_of(&parsed[0]).id, refusal_of(&parsed[0]).message.clone());
                server.reply(id, Code::Unimplemented, SendBody::Bytes(text.as_bytes()));
                let output = String::from_utf8(server.output()).unwrap();
                assert!(
                    output.starts_with("HTTP/1.1 405 ") && output.contains("Connection: close"),
                    "{output}"
                );
                assert_eq!(server.wire.decode(&requests), Received::End);
                let mut server = NetRpcEnd::of(ServerProtocol::undecided(protocols, side(Limits::default())));
                let parsed = server.receive(b"GET /_goRPC_ HTTP/1.1\r\nHost: a\r\n\r\n");
                server.reply(refusal_of(&parsed[0]).id, Code::Unimplemented, SendBody::Bytes(b"no"));
                let output = String::from_utf8(server.output()).unwrap();
                assert!(output.starts_with("HTTP/1.1 404 ") && !output.contains("Allow"), "{output}");
            } else {
                assert_eq!(server.broken, Some(Broken::NotSpoken("http")));
            }
            let mut server = NetRpcEnd::of(ServerProtocol::undecided(protocols, side(Limits::default())));
            let parsed = server.receive(&requests);
            match protocols.contains(ProtocolId::NetRpc) {
                true => check_requests(&parsed),
                false => assert_eq!(server.broken, Some(Broken::NotSpoken("gob"))),
            }
        }
    }
}

/// The messages of a stream.
fn messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Ok(SplitItem::Message(message)) = split(stream, usize::MAX) {
        all.push(message.whole());
        stream = &stream[message.whole().len()..];
    }
    assert!(stream.is_empty());
    all
}

#[test]
fn definitions_and_headers_are_gos_to_the_byte() {
    for (name, requests, answered) in captured() {
        for (kind, goes, title, count) in [
            (head::HeaderKind::Request, &requests, "Request", 2),
            (head::HeaderKind::Response, &answered, "Response", 3),
        ] {
            let goes = messages(goes);
            let Ok(SplitItem::Message(first)) = split(goes[0], usize::MAX) else { panic!() };
            let (id, _) = first.definition().unwrap();
            let fields =
                [("ServiceMethod", stream::STRING), ("Seq", stream::UINT), ("Error", stream::STRING)];
            let mut ours = Vec::new();
            stream::put_struct_definition(&mut ours, id, title, &fields[..count]);
            assert_eq!(ours, goes[0], "{name}");
            if id == stream::HEADER_ID {
                ours.clear();
                kind.define(&mut ours);
                assert_eq!(ours, goes[0]);
                ours.clear();
                kind.put(&head::RpcHeader { method: b"Arith.Add", seq: 0, error: b"" }, &mut ours);
                assert_eq!(ours, goes[1]);
            }
        }
        // The body of an error answer.
        let (mut definition, mut value) = (Vec::new(), Vec::new());
        let nothing = messages(&answered).into_iter().find_map(|message| {
            let Ok(SplitItem::Message(message)) = split(message, usize::MAX) else { return None };
            let (id, definition) = message.definition().ok()?;
            (definition.form == stream::DefinedType::Struct { fields: Vec::new() }).then_some(id)
        });
        stream::put_struct_definition(&mut definition, nothing.unwrap(), "", &[]);
        stream::StructWriter::new(&mut value, nothing.unwrap()).end();
        let at = messages(&answered).iter().position(|message| *message == definition).unwrap();
        assert_eq!(messages(&answered)[at + 1], value, "{name}");
    }
}

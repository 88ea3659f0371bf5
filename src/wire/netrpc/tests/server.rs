//! The server's side: the calls it reads, refuses and answers.

use super::*;
use crate::codec::gob::stream::{self, Definitions, HEADER_ID, StructWriter, put_struct_definition};
use crate::wire::testing::Decode;

/// The stream of these calls, each with its number and argument.
fn requests(calls: &[(&str, u64, Vec<u8>)]) -> Vec<u8> {
    let mut client = client();
    for (name, id, body) in calls {
        client.call(*id, name, false, body);
    }
    client.output()
}

/// Returns the server's answers as a client reads them.
fn answers(server: &mut NetRpcEnd<NetRpc>) -> Vec<(u64, u32, Vec<u8>)> {
    let mut client = client();
    let parsed = client.receive(&server.output());
    assert_eq!((client.broken, client.held.len()), (None, 0));
    parsed.iter().map(|parsed| (answer_of(parsed).id, answer_of(parsed).status, parsed.1.clone())).collect()
}

#[test]
fn each_type_is_defined_once_in_each_direction() {
    let args = body_of(&GoArgs { a: 6, b: 7 });
    let (mut client, mut server) = (client(), server());
    let mut lengths = Vec::new();
    for id in 0..3 {
        client.call(id, "Arith.Add", false, &args);
        let requests = client.output();
        let parsed = server.receive(&requests);
        assert_eq!(gob::decode::<GoArgs>(&parsed[0].1), Ok(GoArgs { a: 6, b: 7 }));
        echo(&mut server, &parsed[0]);
        let answered = server.output();
        let parsed = client.receive(&answered);
        assert_eq!(gob::decode::<GoArgs>(&parsed[0].1), Ok(GoArgs { a: 6, b: 7 }));
        lengths.push((requests.len(), answered.len()));
    }
    assert!(lengths[0].0 > lengths[1].0 + 60 && lengths[0].1 > lengths[1].1 + 60, "{lengths:?}");
    // The first number is zero and omitted; the second and third are written.
    assert_eq!(lengths[1], lengths[2]);
}

#[test]
fn a_body_of_a_built_in_type_is_in_place() {
    let stream = requests(&[
        ("Echo.Echo", 1, body_of(&"text".to_owned())),
        ("Arith.Add", 2, body_of(&GoArgs { a: 1, b: 2 })),
    ]);
    let mut server = NetRpc::server(side(Limits::default()));
    let Received::Message { message: Message::Request(first), consumed } = server.decode(&stream) else {
        panic!()
    };
    assert!(!first.body.is_scratch());
    assert_eq!(gob::decode::<String>(&stream[first.body.range()]), Ok("text".to_owned()));
    let rest = &stream[consumed..];
    let Received::Message { message: Message::Request(second), consumed } = server.decode(rest) else {
        panic!()
    };
    assert!(second.body.is_scratch());
    assert_eq!(consumed, rest.len());
    assert_eq!(gob::decode::<GoArgs>(&server.scratch()[second.body.range()]), Ok(GoArgs { a: 1, b: 2 }));
    assert_eq!(server.decode(&[]), Received::NeedMore { bytes_min: 1 });
}

#[test]
fn answers_in_any_order_have_the_callers_numbers() {
    // The caller may use the same number for two calls.
    let numbers = [7, u64::MAX, 7, 0];
    let calls: Vec<_> =
        numbers.iter().map(|seq| ("Echo.Echo", *seq, body_of(&format!("for {seq}")))).collect();
    let mut server = server();
    let parsed = server.receive(&requests(&calls));
    for parsed in parsed.iter().rev() {
        echo(&mut server, parsed);
    }
    // A second answer, and one without a call, are not written.
    echo(&mut server, &parsed[0]);
    server.reply(12345, Code::Ok, SendBody::Bytes(&parsed[0].1));
    let parsed = answers(&mut server);
    let expected: Vec<_> =
        numbers.iter().rev().map(|seq| (*seq & !(1 << 63), body_of(&format!("for {seq}")))).collect();
    // The client takes the answer with the highest bit for that of a one-way call.
    let expected: Vec<_> = expected.into_iter().filter(|(seq, _)| *seq != u64::MAX >> 1).collect();
    assert_eq!(parsed.into_iter().map(|(id, _, body)| (id, body)).collect::<Vec<_>>(), expected);
}

#[test]
fn an_unknown_method_is_refused_with_gos_text() {
    let args = body_of(&GoArgs { a: 1, b: 2 });
    let long = format!("Arith.{}", "x".repeat(300));
    for (name, text) in [
        ("Nobody.Add", "rpc: can't find service Nobody.Add".to_owned()),
        ("Arith.add", "rpc: can't find method Arith.add".to_owned()),
        ("Arith.", "rpc: can't find method Arith.".to_owned()),
        (".Add", "rpc: can't find service .Add".to_owned()),
        ("Arith.Add.More", "rpc: can't find service Arith.Add.More".to_owned()),
        ("NoDot", "rpc: service/method request ill-formed: NoDot".to_owned()),
        (&long, format!("rpc: can't find method {long}")),
    ] {
        let mut server = server();
        let parsed = server.receive(&requests(&[(name, 1, args.clone()), ("Arith.Add", 2, args.clone())]));
        assert_eq!((refusal_of(&parsed[0]).message.as_str(), parsed.len()), (text.as_str(), 2));
        assert_eq!(gob::decode::<GoArgs>(&parsed[1].1), Ok(GoArgs { a: 1, b: 2 }));
        parsed.iter().for_each(|parsed| echo(&mut server, parsed));
        let parsed = answers(&mut server);
        assert_eq!(parsed[0].2, text.as_bytes());
        assert_eq!((parsed[1].0, parsed[1].1), (2, 0));
    }
}

#[test]
fn a_failed_call_has_a_text_and_an_empty_struct() {
    let mut server = server();
    let body = body_of(&"x".to_owned());
    let parsed = server.receive(&requests(&[
        ("Echo.Echo", 1, body.clone()),
        ("Echo.Echo", 2, body.clone()),
        ("Echo.Echo", 3, body.clone()),
    ]));
    let ids: Vec<u64> = parsed.iter().map(|parsed| request_of(parsed).id).collect();
    server.reply(ids[0], Code::InvalidArgument, SendBody::Bytes(b"divide by zero"));
    // Go takes an answer without an error text for a success.
    server.reply(ids[1], Code::Internal, SendBody::Bytes(b""));
    // An invalid body cannot be written to the stream.
    server.reply(ids[2], Code::Ok, SendBody::Bytes(b"{}"));
    let output = server.output();
    let mut definitions = Definitions::new(Default::default());
    let (mut rest, mut bodies) = (&output[..], Vec::new());
    while !rest.is_empty() {
        let bytes = match definitions.take(rest, 1000).unwrap() {
            stream::ReceivedItem::Definition { bytes } => bytes,
            stream::ReceivedItem::Value { id, bytes, definitions } => {
                bodies.push((id, [&definitions[..], &rest[..bytes]].concat()));
                bytes
            }
            stream::ReceivedItem::NeedMore { .. } => panic!(),
        };
        rest = &rest[bytes..];
    }
    assert_eq!(bodies.len(), 6);
    assert!(bodies.iter().skip(1).step_by(2).all(|(_, body)| gob::decode::<GoEmpty>(body) == Ok(GoEmpty {})));
    let mut client = client();
    let texts: Vec<String> =
        client.receive(&output).iter().map(|parsed| String::from_utf8(parsed.1.clone()).unwrap()).collect();
    assert_eq!(texts[..2], ["divide by zero", "internal"]);
    assert!(texts[2].starts_with("the reply cannot be sent: "), "{}", texts[2]);
}

#[test]
fn a_large_result_is_linked() {
    let large = body_of(&"x".repeat(100_000));
    let mut server = server();
    let parsed = server.receive(&requests(&[("Echo.Echo", 1, body_of(&String::new()))]));
    server.reply(request_of(&parsed[0]).id, Code::Ok, SendBody::Chunk(large.clone().into()));
    assert_eq!(answers(&mut server), [(1, 0, large)]);
    let users = body_of(&vec![GoArgs { a: 1, b: 2 }; 10_000]);
    let parsed = server.receive(&requests(&[("Echo.Echo", 2, body_of(&String::new()))])[0x2e + 1..]);
    server.reply(request_of(&parsed[0]).id, Code::Ok, SendBody::Chunk(users.into()));
    let mut client = client();
    let first = client.receive(&server.output());
    assert!(first.is_empty() && client.broken.is_some(), "the header's type was defined before");
}

/// A header of a custom type.
fn header(fields: &[(&str, i32)], write: impl FnOnce(&mut StructWriter<'_>)) -> Vec<u8> {
    let mut stream = Vec::new();
    put_struct_definition(&mut stream, HEADER_ID, "Anything", fields);
    let mut writer = StructWriter::new(&mut stream, HEADER_ID);
    write(&mut writer);
    writer.end();
    stream
}

#[test]
fn a_header_is_read_by_the_names_of_its_fields() {
    let fields = [
        ("Trace", stream::BYTES),
        ("Seq", stream::UINT),
        ("Deadline", stream::INT),
        ("ServiceMethod", stream::STRING),
    ];
    let stream = header(&fields, |writer| {
        writer.text(b"\x01\x02");
        writer.uint(300);
        writer.uint(8);
        writer.text(b"Echo.Echo");
    });
    let mut server = server();
    let parsed = server.receive(&[&stream[..], &body_of(&"x".to_owned())].concat());
    echo(&mut server, &parsed[0]);
    assert_eq!(answers(&mut server), [(300, 0, body_of(&"x".to_owned()))]);
}

#[test]
fn a_header_that_cannot_be_read_ends_the_connection() {
    let number = |writer: &mut StructWriter<'_>| writer.uint(1);
    for (why, stream) in [
        ("no struct", body_of(&"text".to_owned())),
        ("none of the fields", header(&[("Other", stream::UINT)], number)),
        ("a number for a name", header(&[("ServiceMethod", stream::UINT)], number)),
        ("a signed number", header(&[("Seq", stream::INT)], number)),
        ("not defined", vec![4, 0xff, 0x84, 0, 0]),
        (
            "defined twice",
            [
                header(&[("Seq", stream::UINT)], |_| ()),
                body_of(&1i64),
                header(&[("Seq", stream::UINT)], |_| ()),
            ]
            .concat(),
        ),
        ("an empty message", vec![0]),
    ] {
        let mut server = server();
        server.receive(&stream);
        assert!(matches!(server.broken, Some(Broken::Other(_))), "{why}: {:?}", server.broken);
    }
}

#[test]
fn limits_end_the_connection() {
    let limits =
        Limits { gob_types_max: 3, gob_type_bytes_max: 100, frame_bytes_max: 1000, ..Limits::default() };
    let define = |id: i32, name: &str| {
        let mut stream = Vec::new();
        put_struct_definition(&mut stream, id, name, &[("A", stream::INT)]);
        stream
    };
    let mut server = server_with(limits.clone());
    let parsed = server.receive(&(0..4).flat_map(|n| define(70 + n, "T")).collect::<Vec<u8>>());
    assert!(parsed.is_empty() && matches!(server.broken, Some(Broken::Other(_))));
    let mut server = server_with(limits.clone());
    server.receive(&define(70, &"T".repeat(100)));
    assert!(server.broken.is_some());
    // A length is checked against the limits as soon as it is read.
    for announced in [
        &[0xfe, 0x03, 0xe9][..],
        &[0xfc, 0x7f, 0xff, 0xff, 0xff],
        &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255],
    ] {
        let mut server = server_with(limits.clone());
        server.receive(announced);
        assert!(
            matches!(server.broken, Some(Broken::TooLarge { bytes_max: 1000, .. })),
            "{:?}",
            server.broken
        );
    }
}

#[test]
fn an_oversized_argument_is_answered_and_the_last() {
    let limits = Limits { frame_bytes_max: 1000, ..Limits::default() };
    let stream =
        requests(&[("Echo.Echo", 5, body_of(&"x".repeat(1000))), ("Echo.Echo", 6, body_of(&String::new()))]);
    each_split(&stream, |pieces, _| {
        let mut server = server_with(limits.clone());
        let parsed: Vec<ReceivedMessage> = pieces.flat_map(|piece| server.receive(piece)).collect();
        assert_eq!((refusal_of(&parsed[0]).code, parsed.len()), (Code::ResourceExhausted, 1));
        assert!(matches!(server.broken, Some(Broken::TooLarge { bytes_max: 1000, .. })));
        echo(&mut server, &parsed[0]);
        let parsed = answers(&mut server);
        assert_eq!((parsed[0].0, parsed.len()), (5, 1));
    });
}

#[test]
fn a_header_without_its_argument_is_inside_a_message() {
    let stream = requests(&[("Echo.Echo", 1, body_of(&"text".to_owned()))]);
    let body = body_of(&"text".to_owned()).len();
    let mut server = server();
    server.receive(&stream[..0x2e + 1]);
    assert!(!server.wire.is_inside_message(), "definitions belong to no call");
    server.receive(&stream[0x2e + 1..stream.len() - body]);
    assert!(server.wire.is_inside_message() && server.held.is_empty());
    assert_eq!(server.receive(&stream[stream.len() - body..]).len(), 1);
    assert!(!server.wire.is_inside_message());
}

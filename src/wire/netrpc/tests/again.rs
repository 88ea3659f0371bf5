//! Fast paths for repeated headers and body types give the same result as a full parse.

use super::*;
use crate::codec::gob::stream::{STRING, SplitItem, StructWriter, UINT, parts, put_struct_definition, split};

/// Calls of `Echo.Echo` whose headers have one more field, after the usual ones or between them.
fn with_trace(id: i32, is_behind: bool, calls: &[(u64, u64)]) -> Vec<u8> {
    let mut fields = [("ServiceMethod", STRING), ("Trace", UINT), ("Seq", UINT)];
    if is_behind {
        fields.swap(1, 2);
    }
    let mut stream = Vec::new();
    put_struct_definition(&mut stream, id, "Request", &fields);
    for (seq, trace) in calls {
        let mut writer = StructWriter::new(&mut stream, id);
        writer.text(b"Echo.Echo");
        for number in if is_behind { [seq, trace] } else { [trace, seq] } {
            writer.uint(*number);
        }
        writer.end();
        stream.extend_from_slice(&body_of(&seq.to_string()));
    }
    stream
}

/// The sequence numbers of the answers, in order, and their texts.
fn answered(server: &mut NetRpcEnd<NetRpc>, requests: &[u8]) -> Vec<(u64, String)> {
    for parsed in server.receive(requests) {
        echo(server, &parsed);
    }
    assert_eq!(server.broken, None);
    let parsed = client().receive(&server.output());
    parsed.iter().map(|parsed| (answer_of(parsed).id, gob::decode(&parsed.1).unwrap())).collect()
}

#[test]
fn a_sequence_number_is_read_beside_any_fields() {
    let mut caller = client();
    let mut usual = |ids: &[u64]| {
        for id in ids {
            caller.call(*id, "Echo.Echo", false, &body_of(&id.to_string()));
        }
        caller.output()
    };
    let requests = [
        usual(&[1, 2]),
        // Numbers that could be confused, and missing fields.
        with_trace(70, true, &[(5, 5), (6, 5), (5, 6), (7, 0), (0, 7)]),
        usual(&[3]),
        with_trace(71, false, &[(5, 5), (6, 5), (5, 6), (7, 0), (0, 7)]),
        usual(&[4, 0, 300]),
    ]
    .concat();
    let seqs = [1, 2, 5, 6, 5, 7, 0, 3, 5, 6, 5, 7, 0, 4, 0, 300];
    let expected: Vec<_> = seqs.iter().map(|seq| (*seq, seq.to_string())).collect();
    assert_eq!(answered(&mut server(), &requests), expected);
    each_split(&requests, |pieces, cut| {
        let mut server = server();
        let parsed: Vec<_> = pieces.flat_map(|piece| server.receive(piece)).collect();
        parsed.iter().for_each(|parsed| echo(&mut server, parsed));
        let parsed = client().receive(&server.output());
        let seqs_heard: Vec<u64> = parsed.iter().map(|parsed| answer_of(parsed).id).collect();
        assert_eq!(seqs_heard, seqs, "{cut}");
    });
}

/// The messages of a body: its definitions, which may be in any order, and the value.
fn without_order(body: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (definitions, value) = parts(body).unwrap();
    let (mut messages, mut rest) = (Vec::new(), definitions);
    while let Ok(SplitItem::Message(message)) = split(rest, usize::MAX) {
        messages.push(message.whole().to_vec());
        rest = &rest[message.whole().len()..];
    }
    messages.sort();
    (messages, value.to_vec())
}

#[test]
fn bodies_of_several_types_round_trip() {
    let user = |id| GoUser {
        id,
        name: "x".repeat(id as usize % 7_000),
        age: 3,
        email: String::new(),
        tags: vec!["a".into(); 3],
        scores: BTreeMap::new(),
    };
    let args = |a| body_of(&GoArgs { a, b: -a });
    // Includes long ones, whose memory is released, and types that only later ones define.
    let bodies = [
        args(1),
        args(1 << 40),
        body_of(&user(1)),
        args(2),
        body_of(&"text".to_owned()),
        body_of(&"another".to_owned()),
        args(3),
        body_of(&user(6_999)),
        body_of(&user(6_998)),
        args(4),
        body_of(&vec![1_i64, 2]),
        body_of(&user(2)),
        body_of(&GoEmpty {}),
        body_of(&vec![3_i64]),
    ];
    let (mut caller, mut server) = (client(), server());
    for (id, body) in bodies.iter().enumerate() {
        caller.call(id as u64, "Echo.Echo", false, body);
        let parsed = server.receive(&caller.output());
        assert_eq!(parsed.len(), 1);
        assert_eq!(without_order(&parsed[0].1), without_order(body), "{id}");
        echo(&mut server, &parsed[0]);
        let parsed = caller.receive(&server.output());
        assert_eq!(answer_of(&parsed[0]).id, id as u64);
        assert_eq!(without_order(&parsed[0].1), without_order(body), "{id}");
    }
    // The same in one piece, through a server that already knows other types.
    let mut caller = client();
    bodies.iter().for_each(|body| caller.call(7, "Echo.Echo", false, body));
    let parsed = self::server().receive(&caller.output());
    let parsed: Vec<_> = parsed.iter().map(|parsed| without_order(&parsed.1)).collect();
    assert_eq!(parsed, bodies.each_ref().map(|body| without_order(body)));
}

#[test]
fn an_oversized_body_of_a_known_type_is_refused() {
    let limits = Limits { frame_bytes_max: 100, ..Limits::default() };
    let mut server = server_with(limits);
    let mut caller = client();
    for (id, len) in [(1, 90), (2, 90), (3, 96)] {
        caller.call(id, "Echo.Echo", false, &body_of(&"x".repeat(len)));
    }
    let parsed = server.receive(&caller.output());
    assert_eq!(
        parsed.iter().map(|parsed| matches!(parsed.0, Message::Request(_))).collect::<Vec<_>>(),
        [true, true, true]
    );
    caller.call(4, "Echo.Echo", false, &body_of(&"x".repeat(98)));
    let parsed = server.receive(&caller.output());
    assert_eq!(refusal_of(&parsed[0]).code, Code::ResourceExhausted);
    assert!(matches!(server.broken, Some(Broken::TooLarge { .. })), "{:?}", server.broken);
}

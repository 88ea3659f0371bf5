//! Properties that hold for any bytes, in any split.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::IgnoredAny;

use super::super::escape::put_string;
use super::*;
use crate::json_text::{FoundValue, JsonReader, ValueSearch, plain_len, unescape};
use crate::message::OutgoingCall;

/// The result of a stream: the messages, the output, and the end.
type Trace = (Vec<ReceivedMessage>, String, bool, Option<Broken>);

fn limits() -> Limits {
    Limits { frame_bytes_max: 200, in_flight_max: 4, depth_max: 6, ..Limits::default() }
}

fn server_trace<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut server = server_with(limits());
    let mut response = Vec::new();
    for piece in pieces {
        response.extend(server.receive_and_echo(piece));
    }
    (response.into_iter().map(without_places).collect(), server.output(), server.is_over, server.broken)
}

fn client_trace<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut client = JsonRpcEnd::of(JsonRpcClient::new(200));
    let mut response = Vec::new();
    for piece in pieces {
        response.extend(client.receive(piece));
    }
    let broken = client.broken.map(|why| match why {
        // The number of received bytes depends on the split.
        Broken::TooLarge { bytes_max, .. } => Broken::TooLarge { bytes: 0, bytes_max },
        why => why,
    });
    (response.into_iter().map(without_places).collect(), String::new(), client.is_over, broken)
}

/// Removes positions: a span's start depends on the white space that arrived with it.
fn without_places((mut message, body): ReceivedMessage) -> ReceivedMessage {
    match &mut message {
        Message::Request(request) => request.body = Span::default(),
        Message::Reply(reply) => reply.body = Span::default(),
        _ => {}
    }
    (message, body)
}

/// Whole messages and pieces of them, so that streams are often nearly valid.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        r#"{"method":"Echo.Echo","params":[{"A":1}],"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Arith.Add","params":{"B":[2]},"id":"x"}"#,
        r#"{"jsonrpc":"2.0","method":"Arith\u002eAdd"}"#,
        r#"{"jsonrpc":"2.0","method":"No.Such","id":null}"#,
        r#"{"method":"Echo.Echo","params":[1],"id":1e3756501519}"#,
        r#"{"jsonrpc":"1.0","method":"Echo.Echo","params":[1],"id":["\ud800"]}"#,
        r#"{"id":3,"result":[1],"error":null}"#,
        r#"{"id":4,"error":"no \"such\""}"#,
        r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"\u0061"},"id":5}"#,
        "\"x\\\"\\\\\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"id\":",
        "\"params\":",
        "7",
        "null",
        " \n",
        "é",
        "\u{1}",
        "?",
    ];
    let part = prop_oneof![9 => select(parts.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
                           1 => vec(any::<u8>(), 0..4)];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Removes the id of the message.
fn without_id((mut message, body): ReceivedMessage) -> ReceivedMessage {
    match &mut message {
        Message::Request(request) => request.id = 0,
        Message::Refused(refusal) => refusal.id = 0,
        _ => {}
    }
    (message, body)
}

/// A request with its members in any order, some repeated or missing, some in an unusual form.
fn request() -> impl Strategy<Value = String> {
    let of = |often: &'static [&'static str], seldom: &'static [&'static str]| prop_oneof![4 => select(often).prop_map(Some), 1 => select(seldom).prop_map(Some), 1 => Just(None)];
    let methods = of(
        &[r#""method":"Arith.Add""#, r#""method":"Echo.Echo""#],
        &[r#""method" : "Arith\u002eAdd""#, r#""meth\u006fd":"No.Such""#, r#""method":null"#],
    );
    let params = of(
        &[r#""params":[{"A":1}]"#, r#""params":{"B":[2]}"#, r#""params":[]"#],
        &[r#""params" :[1,2]"#, r#""params":7"#, r#""params":[{"A":01}]"#, r#""params":[[[[[[[[1]]]]]]]]"#],
    );
    let ids = of(&[r#""id":1"#, r#""id":"x""#], &[r#""id":null"#, r#""i\u0064" :[7]"#]);
    let versions = of(&[r#""jsonrpc":"2.0""#], &[r#""jsonrpc":"1.0""#, r#""jsonrpc": "2.\u0030""#]);
    let more = of(
        &[r#""more":{"method":"Echo.Echo"}"#],
        &[r#""method":"Echo.Echo""#, r#""id":2"#, r#""params":[]"#],
    );
    let members = (methods, params, ids, versions, prop_oneof![3 => Just(None), 1 => more]);
    members.prop_flat_map(|(method, params, id, version, more)| {
        let members: Vec<&str> = [version, method, params, id, more].into_iter().flatten().collect();
        let any_order = Just(members.clone()).prop_shuffle();
        prop_oneof![Just(members), any_order].prop_map(|members| format!("{{{}}}", members.join(",")))
    })
}

/// A text that may be JSON.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"\\u00e9\\n\"",
        "\"\\ud800\"",
        "\\u12",
        "0",
        "-0",
        "-",
        "1",
        "12",
        ".5",
        "e3",
        "E-1",
        "true",
        "nul",
        "null",
        "false",
        " ",
        "\t",
        "\n",
        "\r",
        "\u{b}",
        "é",
        "\u{7f}",
        "[1,2]",
        "{\"b\":{}}",
    ];
    let token = prop_oneof![19 => select(tokens.to_vec()).prop_map(|token| token.as_bytes().to_vec()),
                            1 => vec(any::<u8>(), 1..3)];
    vec(token, 0..10).prop_map(|tokens| tokens.concat())
}

/// A value as serde_json writes it.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn is_json(text: &[u8]) -> bool {
    let mut reader = JsonReader::new(text, 128);
    reader.value().is_ok() && reader.next().is_none()
}

fn cuts_of<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut from = 0;
    cuts.into_iter().map(|cut| &stream[std::mem::replace(&mut from, cut)..cut]).collect()
}

#[test]
fn the_result_is_the_same_at_every_split() {
    let server = concat!(
        " \r\n",
        r#"{"method":"Echo.Echo","params":[{"A":"\\\"}]"}],"id":1}"#,
        "\n",
        r#"{"jsonrpc":"2.0","method":"Arith\u002eAdd","params":{"B":[2]},"id":"x\"y"}  {"a"}"#,
        r#"[ {"jsonrpc":"2.0","method":"Arith.Add","params":["]"],"id":1.5}, 7 ,{"jsonrpc":"2.0","method":"Echo.Echo"} ]"#,
        "\t",
        r#"[]{"method":"No.Such","id":[1, 2]}?{"#,
    );
    let client = concat!(
        r#"{"id":3,"result":{"a":"}\\\""},"error":null}"#,
        "\n",
        r#"{"id":null,"result":1}{"id":4,"error":"no \"such\""} {"error":{"code":-32601,"message":"\u0061"},"id":5}]"#,
    );
    for (trace, stream) in [
        (server_trace as fn(Vec<&'static [u8]>) -> Trace, server.as_bytes()),
        (client_trace as fn(Vec<&'static [u8]>) -> Trace, client.as_bytes()),
    ] {
        let whole = trace(vec![stream]);
        assert!(whole.0.len() >= 3 && (whole.2 || whole.3.is_some()), "{whole:?}");
        for cut in 0..=stream.len() {
            assert_eq!(trace(vec![&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(trace(stream.chunks(1).collect()), whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_in_any_split_give_one_result(stream in stream(), cuts in vec(any::<prop::sample::Index>(), 0..6)) {
        let pieces = cuts_of(&stream, &cuts);
        let server = server_trace([&stream[..]]);
        prop_assert_eq!(server_trace(pieces.clone()), server.clone());
        prop_assert_eq!(server_trace(stream.chunks(1)), server);
        let client = client_trace([&stream[..]]);
        prop_assert_eq!(client_trace(pieces), client.clone());
        prop_assert_eq!(client_trace(stream.chunks(1)), client);
    }

    #[test]
    fn a_request_does_not_depend_on_the_previous_one(
        first in request(), second in request(), (cut, junk) in (any::<prop::sample::Index>(), text()),
    ) {
        // A complete request, and one with the same start and a different rest.
        let bent = [&first.as_bytes()[..cut.index(first.len() + 1)], &junk].concat();
        for later in [first.as_bytes(), second.as_bytes(), &bent] {
            let mut server = server_with(limits());
            let before = server.receive_and_echo(first.as_bytes());
            server.output();
            if before.is_empty() || server.is_over {
                continue;
            }
            let response: Vec<ReceivedMessage> = server.receive_and_echo(later).into_iter().map(without_places).collect();
            let (mut alone, output) = (server_with(limits()), server.output());
            let expected: Vec<ReceivedMessage> = alone.receive_and_echo(later).into_iter().map(without_places).collect();
            // The ids of messages are consecutive.
            let anonymous = |response: Vec<ReceivedMessage>| response.into_iter().map(without_id).collect::<Vec<_>>();
            prop_assert_eq!(anonymous(response), anonymous(expected));
            prop_assert_eq!(server.is_over, alone.is_over);
            // Unreadable input is answered in the dialect of the previous request.
            if !output.contains("parse error") {
                prop_assert_eq!(output, alone.output());
            }
        }
    }

    #[test]
    fn all_output_of_a_server_is_json(stream in stream()) {
        let (_, output, _, _) = server_trace([&stream[..]]);
        for line in output.lines() {
            // The value is not ignored: the reader checks each number and each string.
            prop_assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{}", line);
        }
    }

    #[test]
    fn any_noise_is_handled_without_a_panic(noise in vec(any::<u8>(), 0..64)) {
        server_trace([&noise[..]]);
        client_trace([&[b"{", &noise[..]].concat()[..]]);
        server_trace([&[b"[{", &noise[..], b"}]"].concat()[..]]);
    }

    #[test]
    fn the_reader_accepts_what_serde_json_accepts(text in text()) {
        let expected = std::str::from_utf8(&text).is_ok() && serde_json::from_slice::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(is_json(&text), expected, "{}", text.escape_ascii());
    }

    #[test]
    fn plain_bytes_are_counted_up_to_the_first_other(bytes in vec(prop_oneof![3 => 0x20_u8..0x7f, 1 => any::<u8>()], 0..40)) {
        let plain = |byte: &u8| (0x20..0x80).contains(byte) && !matches!(byte, b'"' | b'\\');
        let first = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
        let counted = plain_len(&bytes);
        prop_assert!(counted == first || counted < first && first - counted < 8 && bytes.len() - counted < 8);
    }

    #[test]
    fn values_are_found_whole(value in value(), pretty in any::<bool>(), rest in text()) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert!(is_json(&text));
        if matches!(text[0], b'{' | b'[') {
            let stream = [&text[..], &rest].concat();
            prop_assert_eq!(ValueSearch::default().look(&stream, 128), FoundValue::End(text.len()));
            prop_assert_eq!(JsonReader::new(&stream, 128).value().unwrap(), 0..text.len());
        }
    }

    #[test]
    fn written_strings_round_trip(text in any::<String>()) {
        let mut written = Vec::new();
        put_string(&mut written, text.as_bytes());
        prop_assert_eq!(&serde_json::from_slice::<String>(&written).unwrap(), &text);
        for source in [written, serde_json::to_vec(&text).unwrap()] {
            let mut read = String::new();
            unescape(&source[1..source.len() - 1], &mut read);
            prop_assert_eq!(&read, &text);
        }
    }

    #[test]
    fn a_call_and_its_answer_round_trip(
        calls in vec((any::<u64>(), select(&METHODS[..]), value(), any::<bool>(), 0_u32..17, any::<String>()), 1..6),
        backwards in any::<bool>(),
    ) {
        let (mut client, mut server) = (client(), server());
        for (id, name, argument, one_way, ..) in &calls {
            let body = serde_json::to_vec(argument).unwrap();
            client.say(Outgoing::Request(OutgoingCall {
                id: *id, name, method: method_hash(name), codec: 2, compressed: false, one_way: *one_way, schema: 0,
                time_left_us: 0, metadata: &[], body: SendBody::Bytes(&body),
            }));
        }
        let judged = server.receive(client.output().as_bytes());
        prop_assert_eq!(judged.len(), calls.len());
        let mut order: Vec<usize> = (0..calls.len()).collect();
        if backwards {
            order.reverse();
        }
        let mut expected = Vec::new();
        for at in order {
            let (id, name, argument, one_way, code, text) = &calls[at];
            let request = request_of(&judged[at]);
            prop_assert_eq!((request.method, request.one_way), (method_hash(name), *one_way));
            prop_assert_eq!(&judged[at].1, &serde_json::to_vec(argument).unwrap());
            if *one_way {
                continue;
            }
            let code = Code::from_number(*code).unwrap();
            let body = if code == Code::Ok { judged[at].1.clone() } else { text.clone().into_bytes() };
            server.reply(request.id, code, &body);
            // 1.0 has no codes; an empty text becomes the name of the code.
            expected.push(match code {
                Code::Ok => (*id, Code::Ok, body),
                _ if text.is_empty() => (*id, Code::Unknown, code.name().into()),
                _ => (*id, Code::Unknown, body),
            });
        }
        let answers = client.receive(server.output().as_bytes());
        let answers: Vec<(u64, Code, Vec<u8>)> = answers
            .into_iter()
            .map(|(message, body)| match message {
                Message::Reply(reply) => (reply.id, Code::from_number(reply.status).unwrap(), body),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(answers, expected);
    }
}

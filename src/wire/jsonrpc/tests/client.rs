//! The client's side.

use coreloop_bufpool::Chunk;

use super::*;
use crate::message::OutgoingCall;

fn call(id: u64, one_way: bool, body: SendBody<'_>) -> Outgoing<'_> {
    Outgoing::Request(OutgoingCall {
        id,
        name: "Arith.Add",
        method: method_hash("Arith.Add"),
        codec: 2,
        compressed: false,
        one_way,
        schema: 7,
        time_left_us: 1000,
        metadata: b"\x01k\x01\0v\0\0\0",
        body,
    })
}

/// The id, status and body of an answer.
fn judged(stream: &str) -> (u64, Code, String) {
    let mut client = client();
    let response = client.receive(stream.as_bytes());
    assert_eq!((response.len(), client.broken), (1, None), "{stream}");
    let Message::Reply(reply) = response[0].0 else { panic!("{:?}", response[0].0) };
    assert_eq!((reply.codec, reply.compressed, reply.queue_us, reply.handler_us), (128, false, 0, 0));
    assert!(reply.metadata.is_empty());
    (reply.id, Code::from_number(reply.status).unwrap(), String::from_utf8(response[0].1.clone()).unwrap())
}

fn broken(stream: &str) -> String {
    let mut client = client();
    assert!(client.receive(stream.as_bytes()).is_empty(), "{stream}");
    client.broken.expect(stream).to_string()
}

#[test]
fn calls_and_notifications_have_their_forms() {
    let mut client = client();
    client.say(call(0, false, SendBody::Bytes(b"{\"A\":1}")));
    client.say(call(u64::MAX, false, SendBody::Bytes(b"")));
    client.say(call(3, true, SendBody::Bytes(b"2")));
    client.say(call(4, true, SendBody::Chunk(Chunk::from(b"3".to_vec()))));
    client.say(Outgoing::Cancel { id: 0 });
    client.say(Outgoing::Ping { id: 0 });
    assert_eq!(
        client.output(),
        "{\"method\":\"Arith.Add\",\"params\":[{\"A\":1}],\"id\":0}\n\
         {\"method\":\"Arith.Add\",\"params\":[null],\"id\":18446744073709551615}\n\
         {\"jsonrpc\":\"2.0\",\"method\":\"Arith.Add\",\"params\":[2]}\n\
         {\"jsonrpc\":\"2.0\",\"method\":\"Arith.Add\",\"params\":[3]}\n"
    );
}

#[test]
fn results_are_read_in_place() {
    for (stream, id, body) in [
        (r#"{"id":7,"result":{"A": 1},"error":null}"#, 7, r#"{"A": 1}"#),
        (r#"{"jsonrpc":"2.0","result":[1],"id":18446744073709551615}"#, u64::MAX, "[1]"),
        (r#"{"result":null,"error":null,"id":0}"#, 0, "null"),
        // Our server's form of null in 1.0, and similar answers of other servers.
        (r#"{"id":1,"result":{},"error":null,"null":true}"#, 1, "null"),
        (r#"{"null":true,"id":1,"result":{}}"#, 1, "null"),
        (r#"{"id":1,"result":{},"error":null}"#, 1, "{}"),
        (r#"{"id":1,"result":{},"null":false}"#, 1, "{}"),
        (r#" {"re\u0073ult":"x","id":3} "#, 3, "\"x\""),
    ] {
        assert_eq!(judged(stream), (id, Code::Ok, body.to_owned()));
    }
}

#[test]
fn errors_become_statuses() {
    for (error, code, text) in [
        (r#""divide by zero""#, Code::Unknown, "divide by zero"),
        (r#""rpc: can't find service X.Y""#, Code::Unimplemented, "rpc: can't find service X.Y"),
        (r#""rpc: can\u0027t find method X.Y""#, Code::Unimplemented, "rpc: can't find method X.Y"),
        (r#""a \"b\"\n\u00e9""#, Code::Unknown, "a \"b\"\né"),
        (r#""""#, Code::Unknown, "unspecified error"),
        (r#"{"code":-32601,"message":"no"}"#, Code::Unimplemented, "no"),
        (r#"{"message":"n\u006f","code":-32602,"data":[1]}"#, Code::InvalidArgument, "no"),
        (r#"{"code":-32603,"message":""}"#, Code::Internal, "unspecified error"),
        (r#"{"code":-32700,"message":"x"}"#, Code::InvalidArgument, "x"),
        (r#"{"code":-32005,"message":"x"}"#, Code::NotFound, "x"),
        (r#"{"code":-32000,"message":"x"}"#, Code::Unknown, "x"),
        (r#"{"code":7,"message":"x"}"#, Code::Unknown, "x"),
        (r#"{"code":-99999999999999999999999,"message":"x"}"#, Code::Unknown, "x"),
        (r#"{"code":"c","message":"x"}"#, Code::Unknown, "x"),
        (r#"{"code":-32005}"#, Code::NotFound, r#"{"code":-32005}"#),
        (r#"{"code":-32005,"message":5}"#, Code::NotFound, r#"{"code":-32005,"message":5}"#),
        ("{}", Code::Unknown, "{}"),
        ("true", Code::Unknown, "true"),
        ("[1]", Code::Unknown, "[1]"),
        ("0", Code::Unknown, "0"),
    ] {
        for stream in [
            format!(r#"{{"id":4,"result":null,"error":{error}}}"#),
            format!(r#"{{"jsonrpc":"2.0","error":{error},"id":4}}"#),
        ] {
            assert_eq!(judged(&stream), (4, code, text.to_owned()), "{stream}");
        }
    }
}

#[test]
fn answers_to_one_way_calls_are_skipped() {
    let mut client = client();
    let response = client.receive(
        br#"{"id":null,"result":3,"error":null}{"id":null,"result":null,"error":"rpc: can't find service X"}
            {"jsonrpc":"2.0","error":{"code":-32601,"message":"x"},"id":null}{"result":1}{"id":2,"result":1}"#,
    );
    assert_eq!((response.len(), client.broken), (1, None));
}

#[test]
fn a_server_that_could_not_read_a_call_ends_the_connection() {
    assert_eq!(
        broken(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what \"is\" this"}}"#),
        "the server reports an unreadable request: what \"is\" this"
    );
    assert_eq!(
        broken(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#),
        "the server reports an unreadable request: no"
    );
}

#[test]
fn an_invalid_answer_breaks_the_connection() {
    for (stream, why) in [
        ("x", "an answer is an object"),
        ("[]", "an answer is an object"),
        ("{]", "in an answer a bracket closes what is not open"),
        ("{nonsense}", "an answer is not JSON: expected a member's name at byte 1"),
        ("{}", "an answer has neither a result nor an error"),
        (r#"{"id":1,"error":null}"#, "an answer has neither a result nor an error"),
        (r#"{"jsonrpc":"2.0","method":"x","params":[]}"#, "an answer has neither a result nor an error"),
        (r#"{"id":1,"result":1,"id":2}"#, "the member id occurs twice in an answer"),
        (r#"{"id":1,"null":true}"#, "an answer has neither a result nor an error"),
        (r#"{"id":1,"result":{},"null":true,"null":true}"#, "the member null occurs twice in an answer"),
        (r#"{"id":1,"result":1,"result":2}"#, "the member result occurs twice in an answer"),
        (r#"{"id":"1","result":1}"#, "the id of an answer belongs to no call"),
        (r#"{"id":-1,"result":1}"#, "the id of an answer belongs to no call"),
        (r#"{"id":1.0,"result":1}"#, "the id of an answer belongs to no call"),
        (r#"{"id":18446744073709551616,"result":1}"#, "the id of an answer belongs to no call"),
        (r#"{"id":true,"result":1}"#, "the id of an answer belongs to no call"),
    ] {
        assert_eq!(broken(stream), why, "{stream}");
    }
    assert_eq!(broken(&"{\"a\":[".repeat(200)), "an answer is nested deeper than 128");
}

#[test]
fn an_answer_over_the_limit_fails_only_its_call() {
    let next = r#"{"id":2,"result":3}"#;
    for (answer, id) in [
        (r#"{"id":1,"result":"xxxxxxxxxxxxxx"}"#, Some(1)),
        (r#"{"result":{"id":9,"x":["}\\\"",{"id":8}],"y":"id"}, "i" : [], "id" : 17 }"#, Some(17)),
        (r#"{"error":"xxxxxxxxxxxxxxxxxxxxx","result":null,"id":18446744073709551615}"#, Some(u64::MAX)),
        (r#"{"result":[1,2,3,4,5,6,7,8,9],"id":null}"#, None),
    ] {
        for pieces in [1, 7, 100] {
            let mut client = JsonRpcEnd::of(JsonRpcClient::new(24));
            let judged: Vec<_> = format!("{answer}\n{next}")
                .as_bytes()
                .chunks(pieces)
                .flat_map(|piece| client.receive(piece))
                .map(|response| response.0)
                .collect();
            assert_eq!(client.broken, None, "{answer}");
            let (refused, rest) = judged.split_at(usize::from(id.is_some()));
            assert!(matches!(rest, [Message::Reply(reply)] if reply.id == 2), "{answer}: {judged:?}");
            let Some(id) = id else { continue };
            let [Message::Refused(refusal)] = refused else { panic!("{answer}: {judged:?}") };
            let why = Broken::TooLarge { bytes: answer.len() as u64, bytes_max: 24 };
            assert_eq!((refusal.id, refusal.code), (id, Code::ResourceExhausted), "{answer}");
            assert_eq!(refusal.message, why.to_string());
        }
    }
}

#[test]
fn an_oversized_answer_without_a_call_breaks_the_connection() {
    let answer = r#"{"id":"1","result":"xxxxxxxx"}"#;
    for pieces in [1, answer.len()] {
        let mut client = JsonRpcEnd::of(JsonRpcClient::new(answer.len() - 1));
        for piece in answer.as_bytes().chunks(pieces) {
            assert!(client.receive(piece).is_empty());
        }
        let bytes_max = answer.len() as u64 - 1;
        assert_eq!(client.broken, Some(Broken::TooLarge { bytes: bytes_max + 1, bytes_max }));
    }
}

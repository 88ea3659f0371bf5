//! Methods with several arguments: a struct on the wire, in every codec and protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use coreloop::client::{CallError, Client, Direct};
use coreloop::codec::{Codec, UserCodec};
use coreloop::{Bytes, Code, Context, Reply, Server, Sink, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::codecs::Marked;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
}

struct Desk;

#[coreloop::service(codecs(Marked))]
impl Desk {
    fn repeat(&self, _cx: &Context, text: String, times: u32) -> Result<String, Status> {
        Ok(text.repeat(times as usize))
    }

    /// The names are those of the generated code.
    fn odd_names(
        &self,
        _cx: &Context,
        r#type: u8,
        _method: u8,
        then: u8,
        argument: u8,
    ) -> Result<u32, Status> {
        Ok([r#type, _method, then, argument].into_iter().fold(0, |sum, digit| sum * 10 + u32::from(digit)))
    }

    fn maybe(&self, _cx: &Context, first: Item, second: Option<Item>) -> Result<Vec<Item>, Status> {
        Ok([Some(first), second].into_iter().flatten().collect())
    }

    fn later(&self, _cx: &Context, a: i64, b: i64, reply: Reply<i64>) {
        reply.send(Ok(a - b));
    }

    #[rpc(blocking)]
    fn count(&self, _cx: &Context, from: u32, to: u32, numbers: Sink<u32>) -> Result<(), Status> {
        for number in from..to {
            numbers.send(&number)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn eight(
        &self,
        _cx: &Context,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: bool,
        f: String,
        g: Vec<u32>,
        h: Bytes,
    ) -> Result<String, Status> {
        Ok(format!("{a} {b} {c} {d} {e} {f} {g:?} {h:?}"))
    }
}

struct Go;

#[coreloop::service(rename_all = "PascalCase")]
impl Go {
    fn divide(
        &self,
        _cx: &Context,
        dividend: i64,
        #[rpc(rename = "by")] divisor: i64,
    ) -> Result<i64, Status> {
        dividend.checked_div(divisor).ok_or_else(|| Status::invalid_argument("divide by zero"))
    }
}

fn serve() -> (Server, String) {
    let server = Server::builder().service(Desk).service(Go).cores(1).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    (server, address)
}

#[test]
fn several_arguments_are_called_in_every_codec_by_every_client() {
    let (_server, address) = serve();
    let mut desk = DeskClient::new(Direct::connect(&address).unwrap());
    let client = Client::connect(&address).unwrap();
    let (text, item) = ("ab".to_owned(), Item { name: "pen".to_owned() });
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack, Codec::Gob, Codec::Protobuf, Marked::CODEC]
    {
        desk.caller_mut().set_codec(codec);
        assert_eq!(desk.repeat(&text, &3).unwrap(), "ababab", "{codec}");
        assert_eq!(desk.odd_names(&1, &2, &3, &4).unwrap(), 1234, "{codec}");
        assert_eq!(desk.later(&50, &8).unwrap(), 42, "{codec}");
        // An option has no message: this method is called in a codec that the types have.
        assert_eq!(desk.maybe(&item, &None).unwrap(), std::slice::from_ref(&item), "{codec}");
        assert_eq!(desk.maybe(&item, &Some(item.clone())).unwrap().len(), 2, "{codec}");
        let eight = desk.eight(&1, &2, &3, &4, &true, &text, &vec![7, 8], &Bytes::from(&b"x"[..])).unwrap();
        assert_eq!(eight, format!("1 2 3 4 true ab [7, 8] {:?}", Bytes::from(&b"x"[..])), "{codec}");

        let desk = DeskClient::new(client.with_codec(codec));
        assert_eq!(desk.repeat_start(&text, &2).wait().unwrap(), "abab");
        let (send, receive) = std::sync::mpsc::channel();
        desk.odd_names_then(&5, &6, &7, &8, move |number| send.send(number.unwrap()).unwrap());
        assert_eq!(receive.recv().unwrap(), 5678);
        desk.repeat_one_way(&text, &1).unwrap();
        let numbers: Vec<u32> = desk.count(&3, &6).unwrap().map(Result::unwrap).collect();
        assert_eq!(numbers, [3, 4, 5], "{codec}");
    }
    let batch = client.batch();
    let repeated = DeskClient::new(&batch).repeat_start(&text, &4);
    batch.send();
    assert_eq!(repeated.wait().unwrap(), "abababab");
    let go = GoClient::new(Direct::connect(&address).unwrap());
    assert_eq!(go.divide(&84, &2).unwrap(), 42);
}

#[test]
fn other_protocols_call_them_too() {
    let (_server, address) = serve();
    for scheme in ["http", "jsonrpc", "gob"] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        let desk = DeskClient::new(client.clone());
        assert_eq!(desk.repeat(&"x".to_owned(), &3).unwrap(), "xxx", "{scheme}");
        assert_eq!(desk.repeat(&String::new(), &0).unwrap(), "", "{scheme}: zeros");
        assert_eq!(GoClient::new(client).divide(&9, &3).unwrap(), 3, "{scheme}");
    }
}

fn refused(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Status(status)) if status.code == Code::InvalidArgument => status.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_fields_have_the_names_of_the_parameters() {
    let (_server, address) = serve();
    let direct = Direct::connect(&address).unwrap();
    let call = |method: &str, body: &str| direct.call_bytes(method, Codec::Json, body.as_bytes());
    assert_eq!(call("Desk.Repeat", r#"{"times": 2, "other": [], "text": "a"}"#).unwrap(), b"\"aa\"");
    assert_eq!(call("Desk.OddNames", r#"{"type":1,"method":2,"then":3,"argument":4}"#).unwrap(), b"1234");
    assert_eq!(call("Go.Divide", r#"{"Dividend":7,"by":2}"#).unwrap(), b"3");
    assert_eq!(call("Desk.Maybe", r#"{"first":{"name":"a"}}"#).unwrap(), br#"[{"name":"a"}]"#);

    let missing = refused(call("Desk.Repeat", r#"{"text": "a"}"#));
    assert_eq!(missing, "argument of Desk.Repeat: missing field \"times\" (missing_fields = \"error\")");
    let inner = refused(call("Desk.Maybe", r#"{"first": {}}"#));
    assert_eq!(inner, "argument of Desk.Maybe: missing field \"name\" (missing_fields = \"error\")");
    let twice = refused(call("Desk.Repeat", r#"{"text": "a", "text": "b", "times": 1}"#));
    assert!(twice.contains("duplicate field `text`"), "{twice}");
    let list = refused(call("Desk.Repeat", r#"["a", 2]"#));
    assert!(list.contains("invalid type: sequence, expected the arguments text, times"), "{list}");
    let scalar = refused(call("Desk.Repeat", "7"));
    assert!(scalar.contains("invalid type: integer `7`, expected the arguments text, times"), "{scalar}");
}

/// Sends JSON-RPC messages on one connection and returns the answers.
fn json_rpc(address: &str, requests: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let answer = |request: &serde_json::Value| {
        stream.write_all(request.to_string().as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    requests.iter().map(answer).collect()
}

#[test]
fn json_rpc_takes_them_by_name_and_by_position() {
    let (_server, address) = serve();
    let request = |method: &str, params: serde_json::Value| {
        // Each form twice: the second time the prefix is known.
        let two = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let one = json!({"method": method, "params": params, "id": 2});
        json_rpc(&address, &[two.clone(), two, one.clone(), one])
    };
    for params in [json!(["ab", 2]), json!([{"text": "ab", "times": 2}])] {
        for answer in request("Desk.Repeat", params) {
            assert_eq!(answer["result"], "abab", "{answer}");
        }
    }
    let named =
        json!({"jsonrpc": "2.0", "method": "Desk.Repeat", "params": {"times": 1, "text": "x"}, "id": 1});
    assert_eq!(json_rpc(&address, &[named])[0]["result"], "x");
    for answer in request("Desk.Maybe", json!([{"name": "a"}, {"name": "b"}])) {
        assert_eq!(answer["result"], json!([{"name": "a"}, {"name": "b"}]), "{answer}");
    }
    // In one batch, and over HTTP.
    let batch = json!([
        {"jsonrpc": "2.0", "method": "Desk.Repeat", "params": ["ab", 3], "id": 1},
        {"jsonrpc": "2.0", "method": "Go.Divide", "params": [9, 3], "id": 2},
    ]);
    let answers = json_rpc(&address, std::slice::from_ref(&batch)).remove(0);
    let mut results: Vec<String> =
        answers.as_array().unwrap().iter().map(|answer| answer["result"].to_string()).collect();
    results.sort();
    assert_eq!(results, ["\"ababab\"", "3"]);
    let body = batch[0].to_string();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "POST /rpc HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.ends_with(r#""result":"ababab"}"#) || response.contains(r#""ababab""#), "{response}");

    // Too few, too many, and a list for a method with one argument.
    let error = |answer: &serde_json::Value| {
        let error = &answer["error"];
        error["message"].as_str().or(error.as_str()).unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    for answer in request("Desk.Repeat", json!(["ab", 2, 3])) {
        assert!(error(&answer).contains("expected 2 arguments (text, times)"), "{answer}");
    }
    let few = request("Go.Divide", json!([1]));
    assert!(error(&few[0]).contains("missing field \"by\""), "{}", few[0]);
    let single = json_rpc(
        &address,
        &[json!({"jsonrpc": "2.0", "method": "Meta.Methods", "params": ["a", "b"], "id": 1})],
    );
    assert!(error(&single[0]).contains("the method takes one argument, not 2"), "{}", single[0]);
}

#[test]
fn their_message_in_protobuf_has_a_field_for_each() {
    let (_server, address) = serve();
    let direct = Direct::connect(&address).unwrap();
    let call = |method: &str, body: &[u8]| direct.call_bytes(method, Codec::Protobuf, body);
    // Field 1: StringValue "ab"; field 2: UInt32Value 2.
    let both = b"\x0a\x04\x0a\x02ab\x12\x02\x08\x02";
    assert_eq!(call("Desk.Repeat", both).unwrap(), b"\x0a\x04abab");
    // Any order, with an unknown field between; the last of a field counts.
    let other = b"\x12\x02\x08\x07\x1a\x01x\x0a\x04\x0a\x02ab\x12\x02\x08\x01";
    assert_eq!(call("Desk.Repeat", other).unwrap(), b"\x0a\x02ab");
    assert_eq!(call("Desk.Repeat", b"").unwrap(), b"", "zeros");
    let short = refused(call("Desk.Repeat", b"\x0a\x09\x0a"));
    assert!(short.contains("expected 9 bytes in field 1, found 1"), "{short}");
    let wrong = refused(call("Desk.Repeat", b"\x08\x01"));
    assert!(wrong.contains("wire type"), "{wrong}");
    let inside = refused(call("Desk.Repeat", b"\x12\x01\x08"));
    assert!(inside.contains("field 2: "), "{inside}");
}

#[test]
fn the_openapi_document_has_an_object_with_a_property_for_each() {
    let (_server, address) = serve();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let document: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let resolved = |schema: &serde_json::Value| match schema["$ref"].as_str() {
        None => schema.clone(),
        Some(target) => document.pointer(target.strip_prefix('#').unwrap()).unwrap().clone(),
    };
    let body = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"];
        assert_eq!(body["required"], true, "{path}");
        resolved(&body["content"]["application/json"]["schema"])
    };
    let repeat = body("/Desk/Repeat");
    assert_eq!(repeat["type"], "object");
    assert_eq!(repeat["properties"]["text"], json!({ "type": "string" }));
    assert_eq!(repeat["properties"]["times"]["type"], "integer");
    assert_eq!(repeat["required"], json!(["text", "times"]));
    // Names are those of the wire; a struct among the arguments is a component of its own.
    assert_eq!(body("/Go/Divide")["required"], json!(["Dividend", "by"]));
    let maybe = body("/Desk/Maybe");
    assert_eq!(maybe["required"], json!(["first"]));
    assert_eq!(resolved(&maybe["properties"]["first"])["required"], json!(["name"]));
    let eight = body("/Desk/Eight");
    assert_eq!(eight["properties"].as_object().unwrap().len(), 8);
    assert_eq!(eight["properties"]["h"], json!({ "type": "string", "contentEncoding": "base64" }));
    // Two methods with several arguments have two types.
    assert_ne!(
        document["paths"]["/Desk/Repeat"]["post"]["requestBody"],
        document["paths"]["/Desk/Eight"]["post"]["requestBody"]
    );
    let count = &document["paths"]["/Desk/Count"]["post"];
    assert!(count["responses"]["200"]["content"]["application/x-ndjson"].is_object(), "{count}");
    let signature = document["paths"]["/Desk/Repeat"]["post"]["description"].as_str().unwrap();
    assert!(signature.contains("{text: string, times: u32} -> string"), "{signature}");
}

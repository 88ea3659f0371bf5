//! Values that protocols and codecs represent differently: missing, null, not a number, nothing, dynamic.

use std::io::Read;

use crate::common::{Frame, Peer, shared};
use coreloop::client::{Caller, Client, MethodId};
use coreloop::codec::{Codec, Plain};
use coreloop::config::MissingFields;
use coreloop::reactor::Address;
use coreloop::{Code, Context, Reply, Server, Status};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    lines: Vec<Line>,
    gift: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Line {
    sku: String,
    price: f64,
}

struct Orders;

#[coreloop::service]
impl Orders {
    fn price(&self, _cx: &Context, order: Order) -> Result<Order, Status> {
        Ok(order)
    }

    #[rpc(inline)]
    fn count(&self, _cx: &Context, order: Order) -> Result<u32, Status> {
        Ok(order.count)
    }

    #[rpc(inline)]
    fn mean(&self, _cx: &Context, list: Vec<f64>) -> Result<Line, Status> {
        Ok(Line { sku: "mean".into(), price: list.iter().sum::<f64>() / list.len() as f64 })
    }

    fn later(&self, _cx: &Context, number: f32, reply: Reply<f32>) {
        std::thread::spawn(move || reply.send(Ok(number / 0.0)));
    }

    #[rpc(idempotent)]
    fn nothing(&self, _cx: &Context, _nothing: ()) -> Result<(), Status> {
        Ok(())
    }
}

struct Strict;

#[coreloop::service(missing_fields = "error")]
impl Strict {
    fn count(&self, _cx: &Context, order: Order) -> Result<u32, Status> {
        Ok(order.count)
    }
}

struct Lenient;

#[coreloop::service(missing_fields = "zero")]
impl Lenient {
    fn count(&self, _cx: &Context, order: Order) -> Result<u32, Status> {
        Ok(order.count)
    }
}

fn server(rule: MissingFields) -> Server {
    let builder = Server::builder().service(Orders).service(Strict).service(Lenient).cores(1);
    builder.configure(|config| config.missing_fields = rule).listen("127.0.0.1:0").start().unwrap()
}

/// Returns status and body of a POST with additional header fields.
fn post(address: &Address, path: &str, fields: &str, body: &str) -> (u16, String) {
    let length = body.len();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn ask(address: &Address, request: &str) -> (u16, String) {
    let mut peer = Peer::connect(address);
    peer.send_bytes(request.as_bytes());
    let mut answer = String::new();
    peer.tcp().read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Returns the line that answers a line of JSON-RPC.
fn line(address: &Address, text: &str) -> String {
    let mut peer = Peer::connect(address);
    peer.send_bytes(format!("{text}\n").as_bytes());
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut byte = [0];
        peer.tcp().read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn native(address: &Address, method: &str, codec: Codec, body: &[u8]) -> (Code, String) {
    let mut peer = Peer::connect(address);
    let mut frame = Frame::call(1, method, 0);
    frame.codec = codec.number();
    frame.body = body.to_vec();
    let answer = peer.ask(&frame);
    (answer.code(), String::from_utf8_lossy(&answer.body).into_owned())
}

const CONNECT: &str = "Connect-Protocol-Version: 1\r\n";
const MISSING: &str = r#"argument of Orders.Count: missing field "item" (missing_fields = "error")"#;

#[test]
fn missing_fields_are_zero_where_clients_omit_them() {
    let _turn = shared();
    let server = server(MissingFields::ByProtocol);
    let at = &server.addresses()[0];
    let body = r#"{"count":7,"lines":[{"sku":null}]}"#;
    let filled = r#"{"item":"","count":7,"lines":[{"sku":"","price":0.0}],"gift":false}"#;
    assert_eq!(post(at, "/Orders/Price", CONNECT, body), (200, filled.into()));
    assert_eq!(post(at, "/Orders/Count", CONNECT, "{}"), (200, "0".into()));
    assert_eq!(post(at, "/Orders/Count", CONNECT, ""), (200, "0".into()));
    let reply = line(at, &format!(r#"{{"id":1,"method":"Orders.Price","params":[{body}]}}"#));
    assert!(reply.contains(filled), "{reply}");
    let reply = line(at, r#"{"id":1,"method":"Orders.Count","params":[null]}"#);
    assert!(reply.contains(r#""result":0"#), "{reply}");

    let (status, reply) = post(at, "/Orders/Count", "", "{}");
    assert_eq!(status, 400);
    assert!(reply.contains(&MISSING.replace('"', "\\\"")), "{reply}");
    let reply = line(at, r#"{"jsonrpc":"2.0","id":1,"method":"Orders.Count","params":{}}"#);
    assert!(reply.contains("-32602") && reply.contains(&MISSING.replace('"', "\\\"")), "{reply}");
    assert_eq!(native(at, "Orders.Count", Codec::Json, b"{}"), (Code::InvalidArgument, MISSING.into()));
    let list = native(at, "Orders.Count", Codec::Json, br#"["a",1,[],true]"#);
    assert!(list.0 == Code::InvalidArgument && list.1.contains("sequence"), "{list:?}");
    server.shutdown();
}

#[test]
fn a_server_or_a_service_may_have_one_rule_for_all_protocols() {
    let _turn = shared();
    for (rule, orders) in [
        (MissingFields::ByProtocol, [400, 200]),
        (MissingFields::Zero, [200, 200]),
        (MissingFields::Error, [400, 400]),
    ] {
        let server = server(rule);
        let at = &server.addresses()[0];
        for (path, expected) in
            [("/Orders/Count", orders), ("/Lenient/Count", [200, 200]), ("/Strict/Count", [400, 400])]
        {
            let found = ["", CONNECT].map(|fields| post(at, path, fields, "{}").0);
            assert_eq!(found, expected, "{path} {rule:?}");
        }
        server.shutdown();
    }
}

#[test]
fn a_result_that_is_no_number_fails_and_names_the_field() {
    let _turn = shared();
    let server = server(MissingFields::ByProtocol);
    let at = &server.addresses()[0];
    let what = r#"reply of Orders.Mean: the value cannot be written as json: field "price" is NaN, which JSON has no number for"#;
    let escaped = what.replace('"', "\\\"");
    let (status, body) = post(at, "/Orders/Mean", "", "[]");
    assert!(status == 500 && body.contains(&escaped), "{status} {body}");
    assert_eq!(post(at, "/Orders/Mean", CONNECT, "[]"), (200, r#"{"sku":"mean","price":"NaN"}"#.into()));
    assert_eq!(
        post(at, "/Orders/Mean", CONNECT, r#"["Infinity"]"#).1,
        r#"{"sku":"mean","price":"Infinity"}"#
    );
    let reply = line(at, r#"{"id":1,"method":"Orders.Mean","params":[[]]}"#);
    assert!(reply.contains(r#""error":""#) && reply.contains(&escaped), "{reply}");
    let reply = line(at, r#"{"jsonrpc":"2.0","id":1,"method":"Orders.Mean","params":[[]]}"#);
    assert!(reply.contains(r#""error":{"#) && reply.contains(&escaped), "{reply}");
    assert_eq!(native(at, "Orders.Mean", Codec::Json, b"[]"), (Code::Internal, what.into()));
    // A deferred reply from another thread is written by the same rules.
    assert_eq!(post(at, "/Orders/Later", CONNECT, "-1"), (200, r#""-Infinity""#.into()));
    assert_eq!(post(at, "/Orders/Later", "", "1").0, 500);
    server.shutdown();
}

#[test]
fn our_client_sends_nan_by_http_and_refuses_it_elsewhere() {
    let _turn = shared();
    static ECHO: MethodId = MethodId::new("Echo.Numbers");
    let server = Server::builder().cores(1);
    let server = server.method("Echo.Numbers", |_: &Context<'_>, list: Vec<f64>| Ok(list));
    let server = server.listen("127.0.0.1:0").start().unwrap();
    let at = server.addresses()[0].to_string();
    let list = vec![1.5, f64::INFINITY, f64::NEG_INFINITY];
    let call = |scheme: &str| {
        let client = Client::connect(format!("{scheme}:{at}")).unwrap();
        client.call::<Plain<Vec<f64>>, Plain<Vec<f64>>>(&ECHO, &list)
    };
    assert_eq!(call("http").unwrap(), list);
    assert_eq!(call("gob").unwrap(), list);
    let error = call("jsonrpc").unwrap_err().to_string();
    assert!(error.contains("is inf, which JSON has no number for"), "{error}");
    server.shutdown();
}

#[test]
fn unit_is_an_object_in_connect_and_null_elsewhere() {
    let _turn = shared();
    let server = server(MissingFields::ByProtocol);
    let at = &server.addresses()[0];
    for body in ["{}", "", "null"] {
        assert_eq!(post(at, "/Orders/Nothing", CONNECT, body), (200, "{}".into()), "{body:?}");
        assert_eq!(post(at, "/Orders/Nothing", "", body), (200, "null".into()), "{body:?}");
    }
    let get = |query: &str| {
        ask(at, &format!("GET /Orders/Nothing{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).1
    };
    assert_eq!(get("?connect=v1&encoding=json&message=%7B%7D"), "{}");
    assert_eq!(get(""), "null");
    let reply = line(at, r#"{"jsonrpc":"2.0","id":1,"method":"Orders.Nothing"}"#);
    assert!(reply.contains(r#""result":null"#), "{reply}");
    server.shutdown();
}

#[test]
fn a_frame_cannot_select_a_protocols_dialect() {
    let _turn = shared();
    let server = server(MissingFields::ByProtocol);
    let mut peer = Peer::connect(&server.addresses()[0]);
    for codec in [7, 63, 128, 129, 255] {
        let mut frame = Frame::call(1, "Orders.Count", 0);
        (frame.codec, frame.body) = (codec, b"{}".to_vec());
        peer.ask(&frame).is(1, Code::Unimplemented, &format!("codec {codec} is not known"));
    }
    server.shutdown();
}

mod dynamic {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Name { name: String },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Event {
        Opened { id: Id },
        Closed,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        A(u8),
        B,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: Line,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Free {
        name: String,
        extra: serde_json::Value,
    }

    fn server() -> Server {
        let builder = Server::builder()
            .method("Dyn.Id", |_: &Context<'_>, id: Id| Ok(id))
            .method("Dyn.Event", |_: &Context<'_>, events: Vec<Event>| Ok(events))
            .method("Dyn.Adjacent", |_: &Context<'_>, value: Adjacent| Ok(value))
            .method("Dyn.Flat", |_: &Context<'_>, value: Flat| Ok(value))
            .method("Dyn.Free", |_: &Context<'_>, value: Free| Ok(value))
            .method("Dyn.Plain", |_: &Context<'_>, value: u8| Ok(value));
        builder.cores(1).listen("127.0.0.1:0").start().unwrap()
    }

    #[test]
    fn types_described_while_reading_work_in_self_describing_codecs() {
        let _turn = shared();
        let server = server();
        let at = &server.addresses()[0];
        for (method, bodies) in [
            ("Id", &["7", r#"{"name":"x"}"#][..]),
            ("Event", &[r#"[{"type":"opened","id":7},{"type":"closed"}]"#]),
            ("Adjacent", &[r#"{"t":"A","c":1}"#, r#"{"t":"B"}"#]),
            ("Flat", &[r#"{"a":1,"sku":"s","price":1.5}"#]),
            ("Free", &[r#"{"name":"n","extra":{"any":[1,null,"x"]}}"#]),
        ] {
            for body in bodies {
                let path = format!("/Dyn/{method}");
                assert_eq!(post(at, &path, "", body), (200, (*body).into()));
                assert_eq!(post(at, &path, CONNECT, body), (200, (*body).into()));
                let name = format!("Dyn.{method}");
                assert_eq!(native(at, &name, Codec::Json, body.as_bytes()), (Code::Ok, (*body).into()));
            }
        }
        #[cfg(feature = "messagepack")]
        {
            let mut body = Vec::new();
            coreloop::codec::encode(Codec::MessagePack, &Id::Name { name: "x".into() }, &mut body).unwrap();
            let mut peer = Peer::connect(at);
            let mut frame = Frame::call(1, "Dyn.Id", 0);
            (frame.codec, frame.body) = (Codec::MessagePack.number(), body.clone());
            assert_eq!(peer.ask(&frame).body, body);
        }
        server.shutdown();
    }

    #[test]
    fn other_codecs_are_refused_with_the_reason() {
        let _turn = shared();
        let server = server();
        let at = &server.addresses()[0];
        let warnings = server.warnings();
        let of = |method: &str| warnings.iter().filter(|line| line.starts_with(method)).count();
        assert_eq!((warnings.len(), of("Dyn.Id "), of("Dyn.Free "), of("Dyn.Plain ")), (5, 1, 1, 0));
        assert!(warnings[0].contains("can be called in json") && warnings[0].contains("Id"), "{warnings:?}");
        let (code, message) = native(at, "Dyn.Id", Codec::Gob, b"\x03\x04\x00\x06");
        assert_eq!(code, Code::Unimplemented);
        assert!(message.starts_with("Dyn.Id takes json") && message.contains("not gob"), "{message}");
        assert!(message.contains("it asks the format what comes next"), "{message}");
        let (_, page) = ask(at, "GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let schema =
            &page["paths"]["/Dyn/Id"]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(*schema, serde_json::json!({}));
        let free = &page["components"]["schemas"]["Free"]["properties"];
        assert_eq!(*free, serde_json::json!({ "name": { "type": "string" }, "extra": {} }));
        let (_, methods) = post(at, "/Meta/Methods", "", "\"Dyn\"");
        assert!(methods.contains(r#""Types":"any->any""#), "{methods}");
        server.shutdown();
    }
}

//! Bytes of Go's own client and server (net/rpc/jsonrpc of Go 1.27), captured on a pipe between the two.

use super::*;
use crate::message::OutgoingCall;

/// The client's bytes, the method and argument of the call, and the server's bytes.
const CALLS: [(&str, &str, &str, &str); 9] = [
    (
        "{\"method\":\"Arith.Add\",\"params\":[{\"A\":7,\"B\":8}],\"id\":0}\n",
        "Arith.Add",
        "{\"A\":7,\"B\":8}",
        "{\"id\":0,\"result\":15,\"error\":null}\n",
    ),
    (
        "{\"method\":\"Arith.Divide\",\"params\":[{\"A\":7,\"B\":2}],\"id\":1}\n",
        "Arith.Divide",
        "{\"A\":7,\"B\":2}",
        "{\"id\":1,\"result\":{\"Quo\":3,\"Rem\":1},\"error\":null}\n",
    ),
    (
        "{\"method\":\"Arith.Divide\",\"params\":[{\"A\":7,\"B\":0}],\"id\":2}\n",
        "Arith.Divide",
        "{\"A\":7,\"B\":0}",
        "{\"id\":2,\"result\":null,\"error\":\"divide by zero\"}\n",
    ),
    (
        "{\"method\":\"Echo.Echo\",\"params\":[\"é世\\\"\\\\\\n\\u003c\\u0026\\u003e\\u2028\"],\"id\":3}\n",
        "Echo.Echo",
        "\"é世\\\"\\\\\\n\\u003c\\u0026\\u003e\\u2028\"",
        "{\"id\":3,\"result\":\"é世\\\"\\\\\\n\\u003c\\u0026\\u003e\\u2028\",\"error\":null}\n",
    ),
    (
        "{\"method\":\"Arith.Nope\",\"params\":[{\"A\":7,\"B\":0}],\"id\":5}\n",
        "Arith.Nope",
        "{\"A\":7,\"B\":0}",
        "{\"id\":5,\"result\":null,\"error\":\"rpc: can't find method Arith.Nope\"}\n",
    ),
    (
        "{\"method\":\"Nope.Add\",\"params\":[{\"A\":7,\"B\":0}],\"id\":6}\n",
        "Nope.Add",
        "{\"A\":7,\"B\":0}",
        "{\"id\":6,\"result\":null,\"error\":\"rpc: can't find service Nope.Add\"}\n",
    ),
    (
        "{\"method\":\"Nope\",\"params\":[{\"A\":7,\"B\":0}],\"id\":7}\n",
        "Nope",
        "{\"A\":7,\"B\":0}",
        "{\"id\":7,\"result\":null,\"error\":\"rpc: service/method request ill-formed: Nope\"}\n",
    ),
    (
        "{\"method\":\"A.B.C\",\"params\":[{\"A\":7,\"B\":0}],\"id\":8}\n",
        "A.B.C",
        "{\"A\":7,\"B\":0}",
        "{\"id\":8,\"result\":null,\"error\":\"rpc: can't find service A.B.C\"}\n",
    ),
    (
        "{\"method\":\"Arith.A\\u003cb\\u003e\\\"\",\"params\":[null],\"id\":9}\n",
        "Arith.A<b>\"",
        "",
        "{\"id\":9,\"result\":null,\"error\":\"rpc: can't find method Arith.A\\u003cb\\u003e\\\"\"}\n",
    ),
];

/// An error text with every character that Go escapes, and one byte that is not UTF-8.
const ODD: &[u8] = b"\xc3\xa9\xe4\xb8\x96\"\\\n\r\t\x08\x0c\x00\x1f\x7f<&>\xe2\x80\xa8\xe2\x80\xa9\xff/";
const ODD_IN_GO: &str = "{\"id\":4,\"result\":null,\"error\":\"é世\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f\x7f\\u003c\\u0026\
                         \\u003e\\u2028\\u2029\u{fffd}/\"}\n";

fn call<'a>(id: u64, name: &'a str, body: &'a str) -> OutgoingCall<'a> {
    OutgoingCall {
        id,
        name,
        method: method_hash(name),
        codec: 2,
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(body.as_bytes()),
    }
}

fn id_in(line: &str, in_front: &str) -> u64 {
    let rest = line.split_once(in_front).unwrap().1;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

#[test]
fn a_call_is_written_as_by_gos_client() {
    let mut client = client();
    for (line, name, argument, _) in CALLS {
        client.say(Outgoing::Request(call(id_in(line, "],\"id\":"), name, argument)));
        assert_eq!(client.output(), line);
    }
}

/// A directory that includes Go's methods; only the answers matter.
struct GoDirectory;

impl MethodDirectory for GoDirectory {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let known = ["Arith.Add", "Arith.Divide", "Echo.Echo", "Echo.Fail"].contains(&name);
        known.then_some(DirectoryEntry {
            hash: method_hash(name),
            takes_several: false,
            is_idempotent: false,
            streams: StreamSupport::Unary,
        })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Arith" || service == "Echo"
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

fn go_server() -> JsonRpcEnd<JsonRpc> {
    let side = ServerContext { site: Box::new(GoDirectory), ..ServerContext::bare(Limits::default()) };
    JsonRpcEnd::of(JsonRpc::server(Arc::new(side)))
}

#[test]
fn a_call_is_answered_as_by_gos_server() {
    let mut server = go_server();
    for (line, name, argument, answer) in CALLS {
        let response = server.receive(line.as_bytes()).remove(0);
        match &response.0 {
            Message::Refused(_) => server.echo(&response),
            Message::Request(request) => {
                assert_eq!((request.method, &response.1[..]), (method_hash(name), argument.as_bytes()));
                if let Some((_, text)) = answer.split_once("null,\"error\":\"") {
                    let text = text.strip_suffix("\"}\n").unwrap();
                    server.reply(request.id, Code::InvalidArgument, text.as_bytes());
                } else {
                    let result = answer.split_once("\"result\":").unwrap().1;
                    let result = result.strip_suffix(",\"error\":null}\n").unwrap();
                    server.reply(request.id, Code::Ok, result.as_bytes());
                }
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.output(), answer);
    }
}

#[test]
fn gos_client_accepts_an_empty_result() {
    for result in [&b""[..], b"null", b" null\n", b" "] {
        let mut server = go_server();
        let id = request_of(&server.receive(b"{\"method\":\"Arith.Add\",\"params\":[1],\"id\":7}")[0]).id;
        server.reply(id, Code::Ok, result);
        assert_eq!(server.output(), "{\"id\":7,\"result\":{},\"error\":null,\"null\":true}\n");
        // 2.0 can express null.
        let two = b"{\"jsonrpc\":\"2.0\",\"method\":\"Arith.Add\",\"params\":[1],\"id\":7}";
        let id = request_of(&server.receive(two)[0]).id;
        server.reply(id, Code::Ok, result);
        assert!(server.output().starts_with("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":"));
    }
    for text in ["nul", "\"null\"", "{}", "[null]", "0"] {
        let mut server = go_server();
        let id = request_of(&server.receive(b"{\"method\":\"Arith.Add\",\"params\":[1],\"id\":7}")[0]).id;
        server.reply(id, Code::Ok, text.as_bytes());
        assert_eq!(server.output(), format!("{{\"id\":7,\"result\":{text},\"error\":null}}\n"));
    }
}

#[test]
fn error_texts_are_escaped_as_in_go() {
    let mut server = go_server();
    let response = server.receive(b"{\"method\":\"Echo.Fail\",\"params\":[\"\"],\"id\":4}\n");
    server.reply(request_of(&response[0]).id, Code::Unknown, ODD);
    assert_eq!(server.output(), ODD_IN_GO);
}

#[test]
fn an_answer_of_gos_server_is_read() {
    let mut client = client();
    for (_, _, _, line) in CALLS {
        let (message, body) = client.receive(line.as_bytes()).remove(0);
        let Message::Reply(reply) = message else { panic!("{message:?}") };
        assert_eq!(reply.id, id_in(line, "\"id\":"));
        let status = if line.contains("can't find") {
            Code::Unimplemented
        } else if line.contains("\"error\":null") {
            Code::Ok
        } else {
            Code::Unknown
        };
        assert_eq!(reply.status, status.number(), "{line}");
        if status == Code::Ok {
            assert!(line.contains(&format!("\"result\":{},\"error\"", std::str::from_utf8(&body).unwrap())));
        }
    }
    let (_, body) = client.receive(ODD_IN_GO.as_bytes()).remove(0);
    assert_eq!(String::from_utf8(body).unwrap(), String::from_utf8_lossy(ODD));
}

/// Raw requests to Go's server, and its answers. `{}` represents the result of a method that returns its argument.
const RAW: [(&str, &str); 17] = [
    (
        r#"{"method":"Arith.Add","params":null,"id":1}"#,
        r#"{"id":1,"result":null,"error":"jsonrpc: request body missing params"}"#,
    ),
    (
        r#"{"method":"Arith.Add","id":1}"#,
        r#"{"id":1,"result":null,"error":"jsonrpc: request body missing params"}"#,
    ),
    // Here Go writes null, which its own client does not accept.
    (r#"{"method":"Arith.Add","params":[],"id":1}"#, r#"{"id":1,"result":{},"error":null,"null":true}"#),
    (r#"{"method":"Arith.Add","params":[null],"id":1}"#, r#"{"id":1,"result":{},"error":null,"null":true}"#),
    (r#"{"method":"Arith.Add","params":[3,5],"id":1}"#, r#"{"id":1,"result":3,"error":null}"#),
    (
        r#"{"method":"Arith.Add","params":{"A":1,"B":2},"id":1}"#,
        r#"{"id":1,"result":null,"error":"json: cannot unmarshal object into Go value of type [1]interface {}"}"#,
    ),
    (
        r#"{"method":"Arith.Add","params":"x","id":1}"#,
        r#"{"id":1,"result":null,"error":"json: cannot unmarshal string into Go value of type [1]interface {}"}"#,
    ),
    (
        r#"{"method":"Arith.Add","params":7,"id":1}"#,
        r#"{"id":1,"result":null,"error":"json: cannot unmarshal number into Go value of type [1]interface {}"}"#,
    ),
    (
        r#"{"method":"Arith.Add","params":true,"id":1}"#,
        r#"{"id":1,"result":null,"error":"json: cannot unmarshal bool into Go value of type [1]interface {}"}"#,
    ),
    (r#"{"method":"Arith.Add","params":[3],"id":null}"#, r#"{"id":null,"result":3,"error":null}"#),
    (r#"{"method":"Arith.Add","params":[3]}"#, r#"{"id":null,"result":3,"error":null}"#),
    (r#"{"method":"Arith.Add","params":[3],"id":"a b"}"#, r#"{"id":"a b","result":3,"error":null}"#),
    (
        r#"{"method":"Arith.Add","params":[3],"id":{"x":[1,2]}}"#,
        r#"{"id":{"x":[1,2]},"result":3,"error":null}"#,
    ),
    (r#"{"method":"Arith.Add","params":[3],"id":-1.50e3}"#, r#"{"id":-1.50e3,"result":3,"error":null}"#),
    (
        r#"{"method":"Arith\u002eAdd","params":[3],"id":123456789012345678901234567890}"#,
        r#"{"id":123456789012345678901234567890,"result":3,"error":null}"#,
    ),
    (
        r#"{"method":null,"params":[1],"id":1}"#,
        r#"{"id":1,"result":null,"error":"rpc: service/method request ill-formed: "}"#,
    ),
    (r#"{}"#, r#"{"id":null,"result":null,"error":"rpc: service/method request ill-formed: "}"#),
];

#[test]
fn odd_requests_of_1_0_are_answered_as_by_gos_server() {
    for (request, answer) in RAW {
        assert_eq!(answers(request), format!("{answer}\n"), "{request}");
    }
}

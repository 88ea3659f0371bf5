//! JSON-RPC as Go's net/rpc/jsonrpc writes it (1.0). Answers of 2.0 are accepted too, in any order.
//!
//! A request has the same text each time, except for the id. The end of an answer is found by counting brackets, each
//! byte scanned once, however the answer is split; then its members are parsed and the result is skipped.

use std::borrow::Cow;
use std::sync::Arc;

use coreloop::Code;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Body, Decoded, Protocol, Reply, Text};
use crate::frame::BODY_BYTES_MAX;

/// The client's side of JSON-RPC on one connection.
#[derive(Clone)]
pub struct JsonRpc {
    /// The text before the id, for each request.
    requests: Arc<[Vec<u8>]>,
    scan: Scan,
}

impl JsonRpc {
    /// Creates the protocol with the bodies of the mix, in its order.
    pub fn new(bodies: &[Body]) -> JsonRpc {
        let request = |body: &Body| {
            let name = serde_json::Value::from(body.method.as_str());
            [format!("{{\"method\":{name},\"params\":[").as_bytes(), &body.bytes, b"],\"id\":"].concat()
        };
        JsonRpc { requests: bodies.iter().map(request).collect(), scan: Scan::default() }
    }
}

impl Protocol for JsonRpc {
    #[inline]
    fn append(&mut self, method: usize, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.requests[method]);
        put_decimal(id, out);
        out.extend_from_slice(b"}\n");
    }

    #[inline]
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        match bytes.first() {
            None => return Decoded::NeedMore(1),
            Some(b'{') => {}
            Some(b' ' | b'\t' | b'\r' | b'\n') => {
                let space = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                return Decoded::Skip(space);
            }
            Some(_) => return Decoded::Broken("the server does not speak JSON-RPC"),
        }
        let Some(len) = self.scan.end_in(bytes) else {
            if bytes.len() > BODY_BYTES_MAX {
                return Decoded::Broken("an answer larger than 16 MiB");
            }
            return Decoded::NeedMore(bytes.len() + 1);
        };
        self.scan = Scan::default();
        let message = &bytes[..len];
        let Ok(answer) = serde_json::from_slice::<Answer<'a>>(message) else {
            return Decoded::Broken("an answer is no JSON-RPC");
        };
        let Some(id) = answer.id else {
            return Decoded::Broken("the server could not read what it was sent: an answer without an id");
        };
        let (status, body) = match answer.error {
            None => (0, message),
            Some(error) => failed(error, message),
        };
        Decoded::Reply(Reply { id, status, queue_us: 0, handler_us: 0, body, len })
    }

    fn reset(&mut self) {
        self.scan = Scan::default();
    }
}

/// How far the message at the front has been scanned.
#[derive(Clone, Copy, Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Returns where the object at the front ends. Bytes scanned before are not scanned again.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    // The message began with an opening bracket and ends with its closing one.
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow, default)]
    error: Option<Failed<'a>>,
}

/// An error: in 1.0 any value, from Go a string; in 2.0 an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Failed<'a> {
    Text(#[serde(borrow)] Text<'a>),
    Object {
        code: i64,
        #[serde(borrow, default)]
        message: Option<Text<'a>>,
    },
    Other(#[allow(dead_code, reason = "it is only told from the others")] IgnoredAny),
}

/// Returns the status, and the message if it appears unescaped in the answer; otherwise the whole answer.
#[cold]
fn failed<'a>(error: Failed<'a>, answer: &'a [u8]) -> (u32, &'a [u8]) {
    let (code, message) = match error {
        Failed::Text(text) => (code_of(text.0.as_bytes()), Some(text)),
        Failed::Object { code, message } => (Code::from_jsonrpc_number(code), message),
        Failed::Other(_) => (Code::Unknown, None),
    };
    match message {
        Some(Text(Cow::Borrowed(text))) => (code.number(), text.as_bytes()),
        _ => (code.number(), answer),
    }
}

/// Maps the error text of Go's server to a status: errors of the server itself, unlike those of methods, have known
/// prefixes.
pub(super) fn code_of(text: &[u8]) -> Code {
    let is_unknown =
        text.starts_with(b"rpc: can't find ") || text.starts_with(b"rpc: service/method request");
    if is_unknown { Code::Unimplemented } else { Code::Unknown }
}

#[inline]
fn put_decimal(number: u64, out: &mut Vec<u8>) {
    let (mut text, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return out.extend_from_slice(&text[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::at_every_split;
    use super::*;

    fn jsonrpc() -> JsonRpc {
        JsonRpc::new(&[Body {
            method: "Arith.Add".into(),
            bytes: br#"{"A":6,"B":7}"#.to_vec(),
            time_left_us: 0,
        }])
    }

    #[test]
    fn request_is_that_of_gos_client() {
        let mut out = Vec::new();
        jsonrpc().append(0, 0, &mut out);
        jsonrpc().append(0, u64::MAX, &mut out);
        let text = "{\"method\":\"Arith.Add\",\"params\":[{\"A\":6,\"B\":7}],\"id\":0}\n\
            {\"method\":\"Arith.Add\",\"params\":[{\"A\":6,\"B\":7}],\"id\":18446744073709551615}\n";
        assert_eq!(String::from_utf8(out).expect("text"), text);
    }

    #[test]
    fn split_answers_are_read_when_complete() {
        let bytes = concat!(
            "{\"id\":5,\"result\":13,\"error\":null}\n",
            " {\"id\":3,\"result\":{\"a\":[\"}]\\\\\\\"{\"]},\"error\":null}",
            "{\"id\":4,\"result\":null,\"error\":\"rpc: can't find method Arith.Modulo\"}\n",
            "{\"error\":\"a \\\"b\\\"\",\"id\":6,\"result\":null}\r\n",
            "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32602,\"message\":\"no é\"},\"id\":7}",
            "{\"jsonrpc\":\"2.0\",\"result\":null,\"id\":8}",
            "{\"id\":9,\"result\":null,\"error\":[1]}",
        );
        let seen = at_every_split(jsonrpc, bytes.as_bytes());
        let want = [
            "5 0 0 0 {\"id\":5,\"result\":13,\"error\":null}",
            "3 0 0 0 {\"id\":3,\"result\":{\"a\":[\"}]\\\\\\\"{\"]},\"error\":null}",
            "4 12 0 0 rpc: can't find method Arith.Modulo",
            "6 2 0 0 {\"error\":\"a \\\"b\\\"\",\"id\":6,\"result\":null}",
            "7 3 0 0 no é",
            "8 0 0 0 {\"jsonrpc\":\"2.0\",\"result\":null,\"id\":8}",
            "9 2 0 0 {\"id\":9,\"result\":null,\"error\":[1]}",
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn undecodable_answers_break() {
        for (bytes, why) in [
            ("HTTP/1.1 400 Bad Request\r\n", "does not speak JSON-RPC"),
            ("[{}]", "does not speak JSON-RPC"),
            ("{]", "no JSON-RPC"),
            ("{\"id\":\"a\",\"result\":1}", "no JSON-RPC"),
            ("{\"id\":null,\"error\":\"what?\"}", "without an id"),
        ] {
            let Decoded::Broken(said) = jsonrpc().decode(bytes.as_bytes()) else { panic!("{bytes}") };
            assert!(said.contains(why), "{bytes}: {said}");
        }
    }
}

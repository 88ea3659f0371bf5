//! A single client that checks the answers of a server, and holds idle connections.
//!
//! The load generator counts answers without reading their contents, so this client checks each server before it is
//! measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use coreloop::codec::{self, Codec};
use coreloop::demo::User;
use serde_json::Value;

use super::peer::Kind;
use super::subject::Subject;
use crate::loadgen::mix::{Call, Content};
use crate::loadgen::protocol::{Body, Decoded, Native, Protocol, gob::Gob, http::Http, jsonrpc::JsonRpc};
use crate::loadgen::speech::AddressProtocol;

const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The delay that the calls of `Echo.Sleep` request.
const SLEEP: Duration = Duration::from_millis(20);

/// One connection with one kind of call.
pub trait Caller {
    /// Makes the call `id`, and waits for the body of its answer.
    fn call(&mut self, id: u64) -> Result<Vec<u8>, String>;
}

struct Connection<P> {
    stream: TcpStream,
    protocol: P,
    input: Vec<u8>,
}

/// Connects a client for that call.
pub fn connect(address: SocketAddr, speaks: AddressProtocol, call: &Call) -> Result<Box<dyn Caller>, String> {
    let told = |error: std::io::Error| format!("connecting: {error}");
    let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT).map_err(told)?;
    stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(told)?;
    stream.set_write_timeout(Some(ANSWER_WAIT)).map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let body =
        |bytes: &Vec<u8>| [Body { method: call.method.clone(), bytes: bytes.clone(), time_left_us: 0 }];
    Ok(match (&call.content, speaks) {
        (Content::Frame(request), _) => Connection::boxed(stream, Native::new(vec![request.clone()])),
        (Content::Body(bytes), AddressProtocol::Gob) => Connection::boxed(stream, Gob::new(&body(bytes))?),
        (Content::Body(bytes), AddressProtocol::JsonRpc) => {
            Connection::boxed(stream, JsonRpc::new(&body(bytes)))
        }
        (Content::Body(_), AddressProtocol::Native | AddressProtocol::GobHttp | AddressProtocol::Grpc) => {
            return Err(format!("{speaks}: is not how a peer is asked"));
        }
        (Content::Body(bytes), AddressProtocol::Http) => {
            Connection::boxed(stream, Http::new(&body(bytes), &address.to_string(), &[]))
        }
    })
}

impl<P: Protocol> Connection<P> {
    fn boxed(stream: TcpStream, mut protocol: P) -> Box<dyn Caller> {
        protocol.reset();
        Box::new(Connection { stream, protocol, input: Vec::new() })
    }
}

impl<P: Protocol> Caller for Connection<P> {
    fn call(&mut self, id: u64) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        self.protocol.append(0, id, &mut out);
        self.stream.write_all(&out).map_err(|error| format!("a call could not be written: {error}"))?;
        let mut chunk = vec![0; 64 << 10];
        loop {
            let used = match self.protocol.decode(&self.input) {
                Decoded::Reply(reply) if reply.status == 0 => {
                    let (body, len) = (reply.body.to_vec(), reply.len);
                    self.input.drain(..len);
                    return Ok(body);
                }
                Decoded::Reply(reply) => {
                    let text: String = String::from_utf8_lossy(reply.body).chars().take(200).collect();
                    return Err(format!("status {}: {text}", reply.status));
                }
                Decoded::Broken(why) => return Err(why.into()),
                Decoded::Skip(len) | Decoded::Drain(len) | Decoded::Greeted(len) => len,
                Decoded::NeedMore(_) => 0,
            };
            if used > 0 {
                self.input.drain(..used);
                continue;
            }
            match self.stream.read(&mut chunk).map_err(|error| format!("no answer: {error}"))? {
                0 => return Err("the server closed the connection".into()),
                read => self.input.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

/// Makes one call, or as many as the check requires, and returns what is wrong with the answer.
pub fn check(
    subject: &Subject,
    address: SocketAddr,
    speaks: AddressProtocol,
    kind: Kind,
) -> Result<(), String> {
    let kind = if kind == Kind::Add { subject.first_kind() } else { kind };
    let call = subject.call(speaks, kind, 1)?;
    let mut caller = connect(address, speaks, &call)?;
    let began = Instant::now();
    let mut body = caller.call(5)?;
    if speaks == AddressProtocol::JsonRpc {
        let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        body = answer["result"].to_string().into_bytes();
    }
    match kind {
        Kind::Ping | Kind::Static => Ok(()),
        Kind::Sleep if began.elapsed() < SLEEP => {
            Err(format!("it slept {:?}, not {SLEEP:?}", began.elapsed()))
        }
        Kind::Sleep => Ok(()),
        _ if speaks == AddressProtocol::Gob => check_gob(kind, &body),
        // One operand is the id.
        Kind::Add if call.codec == "fixed" => {
            let second = caller.call(12)?;
            match (i64_of(&body), i64_of(&second)) {
                (Some(first), Some(second)) if second.wrapping_sub(first) == 7 => Ok(()),
                _ => Err(wrong("a sum", &body)),
            }
        }
        Kind::Add => {
            let want = if call.method == "Arith.Multiply" { 42 } else { 13 };
            let got: Result<i64, _> = codec::decode(codec_of(&call)?, &body);
            if got == Ok(want) { Ok(()) } else { Err(wrong(&want.to_string(), &body)) }
        }
        Kind::Users100 => {
            let want: Vec<User> = (1..=100).map(User::new).collect();
            let got = users(codec_of(&call)?, &body)?;
            if got == want { Ok(()) } else { Err(wrong("the users 1 to 100", &body)) }
        }
        Kind::Echo1k | Kind::Echo256k => {
            if body == sent(&call) {
                Ok(())
            } else {
                Err(wrong("what was sent", &body))
            }
        }
    }
}

/// Checks the last message of a gob answer. Type definitions arrive in earlier messages, so the end of the message is
/// enough to compare.
fn check_gob(kind: Kind, body: &[u8]) -> Result<(), String> {
    let is_right = match kind {
        // Three bytes: the type int, no skipped field, then 13 as a signed integer.
        Kind::Add => body == [3, 4, 0, 26],
        Kind::Echo1k => body.ends_with(&[b'A'; 1 << 10]),
        Kind::Echo256k => body.ends_with(&[b'A'; 256 << 10]),
        Kind::Users100 => contains(body, b"u100@example.com"),
        Kind::Sleep | Kind::Ping | Kind::Static => true,
    };
    if is_right { Ok(()) } else { Err(wrong("what it should", body)) }
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

fn codec_of(call: &Call) -> Result<Codec, String> {
    let codec = crate::request::codec_number(&call.codec).and_then(Codec::from_number);
    codec.ok_or(format!("no codec {}", call.codec))
}

/// The argument as sent.
fn sent(call: &Call) -> Vec<u8> {
    match &call.content {
        Content::Body(bytes) => bytes.clone(),
        Content::Frame(request) => {
            let mut frame = Vec::new();
            request.append(0, &mut frame);
            frame.split_off(crate::frame::HEADER_BYTES)
        }
    }
}

fn i64_of(body: &[u8]) -> Option<i64> {
    body.try_into().ok().map(i64::from_le_bytes)
}

/// Decodes users. In JSON an empty list or map may be null, as Go writes it.
fn users(codec: Codec, body: &[u8]) -> Result<Vec<User>, String> {
    let told = |error: String| format!("no users: {error}");
    if codec != Codec::Json {
        return codec::decode(codec, body).map_err(|error| told(error.to_string()));
    }
    let mut value: Value = serde_json::from_slice(body).map_err(|error| told(error.to_string()))?;
    for user in value.as_array_mut().into_iter().flatten() {
        for (name, empty) in [("Tags", serde_json::json!([])), ("Scores", serde_json::json!({}))] {
            if user[name].is_null() && user.is_object() {
                user[name] = empty;
            }
        }
    }
    serde_json::from_value(value).map_err(|error| told(error.to_string()))
}

fn wrong(want: &str, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(80).collect();
    format!("it answered {text:?}, not {want}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use coreloop::{Server, demo};

    use super::super::subject::{self, Client};
    use super::*;

    #[test]
    fn coreloop_answers_every_kind_of_call_rightly() {
        let server = demo::services(Server::builder()).listen("127.0.0.1:0").start().expect("it serves");
        let address = server.addresses()[0].to_string().parse().expect("an address of TCP");
        let mut asked = 0;
        for subject in subject::coreloop(Path::new("coreloop"), &[]) {
            let Client::Loadgen(native_or_http) = subject.client else { continue };
            for speaks in [native_or_http, AddressProtocol::Gob, AddressProtocol::JsonRpc] {
                for kind in &subject.calls {
                    check(&subject, address, speaks, *kind)
                        .unwrap_or_else(|why| panic!("{speaks} {kind}: {why}"));
                    asked += 1;
                }
            }
        }
        assert!(asked > 20, "{asked}");
        server.shutdown();
    }

    #[test]
    fn users_may_have_null_for_empty_collections() {
        let mut value = serde_json::to_value([User::new(4), User::new(5)]).expect("plain");
        assert_eq!(value[0]["Tags"], serde_json::json!([]));
        value[0]["Tags"] = Value::Null;
        let read = users(Codec::Json, value.to_string().as_bytes());
        assert_eq!(read, Ok(vec![User::new(4), User::new(5)]));
        assert!(users(Codec::Json, b"[1]").is_err());
        assert!(users(Codec::Json, b"{").is_err());
        assert!(users(Codec::Gob, b"\x01").is_err());
    }
}

//! net/rpc on both sides: Go's own bytes, every split, every false length, and each type defined once.

mod again;
mod client;
mod golden;
mod properties;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::codec::gob;
use crate::config::Limits;
use crate::message::{
    IncomingReply, Message, Outgoing, OutgoingCall, OutgoingReply, Refusal, Request, SendBody, Span,
    method_hash,
};
use crate::status::Code;
use crate::wire::{
    Broken, DirectoryEntry, MethodDirectory, Out, Protocol, Received, ServerContext, StreamSupport,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoArgs {
    a: i64,
    b: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoUser {
    #[serde(rename = "ID")]
    id: u64,
    name: String,
    age: u8,
    email: String,
    tags: Vec<String>,
    scores: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct GoEmpty {}

/// The methods of these tests.
const METHODS: [&str; 6] =
    ["Arith.Add", "Arith.Divide", "Echo.Echo", "Echo.Bytes", "Users.Get", "Users.List"];

struct NetRpcTestDirectory;

impl MethodDirectory for NetRpcTestDirectory {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let hash = method_hash(name);
        METHODS.contains(&name).then_some(DirectoryEntry {
            hash,
            takes_several: false,
            is_idempotent: false,
            streams: StreamSupport::Unary,
        })
    }

    fn has_service(&self, service: &str) -> bool {
        METHODS.iter().any(|method| method.rsplit_once('.').unwrap().0 == service)
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

fn side(limits: Limits) -> Arc<ServerContext> {
    Arc::new(ServerContext { site: Box::new(NetRpcTestDirectory), ..ServerContext::bare(limits) })
}

/// A decoded message, with the bytes of its body.
type ReceivedMessage = (Message, Vec<u8>);

/// A protocol, driven as a connection does it.
struct NetRpcEnd<W> {
    wire: W,
    held: Vec<u8>,
    bytes_min: usize,
    pool: Pool,
    queue: WriteQueue,
    broken: Option<Broken>,
}

impl<W> NetRpcEnd<W>
where
    W: for<'a> Protocol<Message = Message, Outgoing<'a> = Outgoing<'a>>,
{
    fn of(wire: W) -> NetRpcEnd<W> {
        let (pool, queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        NetRpcEnd { wire, held: Vec::new(), bytes_min: 0, pool, queue, broken: None }
    }

    /// Returns the next message. As in a connection, decoding never sees fewer bytes than it requested.
    fn next(&mut self) -> Option<ReceivedMessage> {
        while self.broken.is_none() && self.held.len() >= self.bytes_min {
            match self.wire.receive(&self.held, &mut Out { queue: &mut self.queue, pool: &mut self.pool }) {
                Received::Message { message, consumed } => {
                    let span = match &message {
                        Message::Request(request) => request.body,
                        Message::Reply(reply) => reply.body,
                        _ => Span::default(),
                    };
                    assert!(span.is_scratch() || span.range().end <= consumed, "a span within its message");
                    let bytes = if span.is_scratch() { self.wire.scratch() } else { &self.held[..] };
                    let body = bytes[span.range()].to_vec();
                    self.held.drain(..consumed);
                    self.bytes_min = 0;
                    return Some((without_place(message), body));
                }
                Received::Skip { consumed } => {
                    self.held.drain(..consumed);
                    self.bytes_min = 1;
                }
                Received::NeedMore { bytes_min } => {
                    assert!(bytes_min > self.held.len(), "asked for bytes that were already received");
                    self.bytes_min = bytes_min;
                }
                Received::Broken(why) => self.broken = Some(why),
                // Only from HTTP before the switch: this protocol has no final message.
                Received::End => return None,
            }
        }
        None
    }

    fn receive(&mut self, bytes: &[u8]) -> Vec<ReceivedMessage> {
        self.held.extend_from_slice(bytes);
        std::iter::from_fn(|| self.next()).collect()
    }

    fn say(&mut self, outgoing: Outgoing<'_>) {
        self.wire.send(outgoing, &mut Out { queue: &mut self.queue, pool: &mut self.pool });
    }

    fn reply(&mut self, id: u64, code: Code, body: SendBody<'_>) {
        self.say(Outgoing::Reply(OutgoingReply {
            id,
            codec: 3,
            compressed: false,
            code,
            queue_us: 1,
            handler_us: 2,
            extras: None,
            body,
        }));
    }

    fn call(&mut self, id: u64, name: &str, one_way: bool, body: &[u8]) {
        self.say(Outgoing::Request(OutgoingCall {
            id,
            name,
            method: method_hash(name),
            codec: 3,
            compressed: false,
            one_way,
            schema: 0,
            time_left_us: 0,
            metadata: &[],
            body: SendBody::Bytes(body),
        }));
    }

    /// Returns the bytes that wait to be written.
    fn output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(first) = self.queue.first() {
            let len = first.len();
            bytes.extend_from_slice(first);
            self.queue.written(&mut self.pool, len);
        }
        bytes
    }
}

/// Removes positions: a body's place depends on the bytes that arrived with it.
fn without_place(mut message: Message) -> Message {
    match &mut message {
        Message::Request(request) => request.body = Span::default(),
        Message::Reply(reply) => reply.body = Span::default(),
        _ => {}
    }
    message
}

fn server_with(limits: Limits) -> NetRpcEnd<NetRpc> {
    NetRpcEnd::of(NetRpc::server(side(limits)))
}

fn server() -> NetRpcEnd<NetRpc> {
    server_with(Limits::default())
}

fn client() -> NetRpcEnd<NetRpcClient> {
    NetRpcEnd::of(NetRpcClient::new(1 << 20))
}

fn body_of<T: Serialize + DeserializeOwned + 'static>(value: &T) -> Vec<u8> {
    let mut body = Vec::new();
    gob::encode(value, &mut body).unwrap();
    body
}

fn request_of(parsed: &ReceivedMessage) -> Request {
    match parsed.0 {
        Message::Request(request) => request,
        ref other => panic!("a request was expected, not {other:?}"),
    }
}

fn refusal_of(parsed: &ReceivedMessage) -> &Refusal {
    match &parsed.0 {
        Message::Refused(refusal) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

fn answer_of(parsed: &ReceivedMessage) -> IncomingReply {
    match parsed.0 {
        Message::Reply(answered) => answered,
        ref other => panic!("an answer was expected, not {other:?}"),
    }
}

/// Answers as a method that returns its argument.
fn echo(end: &mut NetRpcEnd<NetRpc>, parsed: &ReceivedMessage) {
    match &parsed.0 {
        Message::Request(request) => end.reply(request.id, Code::Ok, SendBody::Bytes(&parsed.1)),
        Message::Refused(refusal) => {
            end.reply(refusal.id, refusal.code, SendBody::Bytes(refusal.message.as_bytes()));
        }
        other => panic!("a request was expected, not {other:?}"),
    }
}

/// The stream in two pieces, cut at each position, and byte by byte.
fn each_split(stream: &[u8], mut look: impl FnMut(&mut dyn Iterator<Item = &[u8]>, usize)) {
    for cut in 0..=stream.len() {
        let (first, rest) = stream.split_at(cut);
        look(&mut [first, rest].into_iter(), cut);
    }
    look(&mut stream.chunks(1), stream.len());
}

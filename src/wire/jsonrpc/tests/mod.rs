//! JSON-RPC: both dialects on both sides, every split, every false end of a message.

mod batches;
mod client;
mod golden;
mod parts;
mod properties;
mod server;

use std::sync::Arc;

use coreloop_bufpool::{Pool, PoolConfig, WriteQueue};

use super::*;
use crate::config::Limits;
use crate::message::{Message, Outgoing, OutgoingReply, Refusal, Request, SendBody, Span, method_hash};
use crate::status::Code;
use crate::wire::{
    Broken, DirectoryEntry, MethodDirectory, Out, Protocol, Received, ServerContext, StreamSupport,
};

/// The methods of these tests.
const METHODS: [&str; 4] = ["Arith.Add", "Echo.Echo", "Échos.Tout", "Deep.Name.Get"];

struct JsonRpcTestDirectory;

impl MethodDirectory for JsonRpcTestDirectory {
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
    Arc::new(ServerContext { site: Box::new(JsonRpcTestDirectory), ..ServerContext::bare(limits) })
}

/// A decoded message, with the bytes of its body.
type ReceivedMessage = (Message, Vec<u8>);

/// A protocol, driven as a connection does it.
struct JsonRpcEnd<W> {
    wire: W,
    held: Vec<u8>,
    bytes_min: usize,
    pool: Pool,
    queue: WriteQueue,
    is_over: bool,
    broken: Option<Broken>,
    /// The number of skipped bytes.
    skipped: usize,
}

impl<W> JsonRpcEnd<W>
where
    W: for<'a> Protocol<Message = Message, Outgoing<'a> = Outgoing<'a>>,
{
    fn of(wire: W) -> JsonRpcEnd<W> {
        JsonRpcEnd {
            wire,
            held: Vec::new(),
            bytes_min: 0,
            pool: Pool::new(PoolConfig::default()),
            queue: WriteQueue::new(),
            is_over: false,
            broken: None,
            skipped: 0,
        }
    }

    fn arrive(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Returns the next message. As in a connection, decoding never sees fewer bytes than it requested.
    fn next(&mut self) -> Option<ReceivedMessage> {
        while !self.is_over && self.broken.is_none() && self.held.len() >= self.bytes_min {
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
                    return Some((message, body));
                }
                Received::Skip { consumed } => {
                    assert!(consumed > 0, "a skip goes on");
                    self.held.drain(..consumed);
                    self.skipped += consumed;
                    self.bytes_min = 1;
                }
                Received::NeedMore { bytes_min } => {
                    assert!(bytes_min > self.held.len(), "asked for bytes that were already received");
                    self.bytes_min = bytes_min;
                }
                Received::Broken(why) => self.broken = Some(why),
                Received::End => self.is_over = true,
            }
        }
        None
    }

    fn receive(&mut self, bytes: &[u8]) -> Vec<ReceivedMessage> {
        self.arrive(bytes);
        std::iter::from_fn(|| self.next()).collect()
    }

    fn say(&mut self, outgoing: Outgoing<'_>) {
        self.wire.send(outgoing, &mut Out { queue: &mut self.queue, pool: &mut self.pool });
    }

    fn reply(&mut self, id: u64, code: Code, body: &[u8]) {
        self.say(reply(id, code, SendBody::Bytes(body)));
    }

    /// Returns the bytes that wait to be written.
    fn output(&mut self) -> String {
        let mut bytes = Vec::new();
        while let Some(first) = self.queue.first() {
            let len = first.len();
            bytes.extend_from_slice(first);
            self.queue.written(&mut self.pool, len);
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Answers as a server whose methods return their argument, at once.
    fn echo(&mut self, response: &ReceivedMessage) {
        match &response.0 {
            Message::Request(Request { one_way: true, .. })
            | Message::Refused(Refusal { one_way: true, .. }) => {}
            Message::Request(request) => self.reply(request.id, Code::Ok, &response.1),
            Message::Refused(refusal) => self.reply(refusal.id, refusal.code, refusal.message.as_bytes()),
            other => panic!("a request was expected, not {other:?}"),
        }
    }

    fn receive_and_echo(&mut self, bytes: &[u8]) -> Vec<ReceivedMessage> {
        self.arrive(bytes);
        let mut all = Vec::new();
        while let Some(response) = self.next() {
            self.echo(&response);
            all.push(response);
        }
        all
    }
}

fn reply(id: u64, code: Code, body: SendBody<'_>) -> Outgoing<'_> {
    Outgoing::Reply(OutgoingReply {
        id,
        codec: 2,
        compressed: false,
        code,
        queue_us: 1,
        handler_us: 2,
        extras: None,
        body,
    })
}

fn server_with(limits: Limits) -> JsonRpcEnd<JsonRpc> {
    JsonRpcEnd::of(JsonRpc::server(side(limits)))
}

fn server() -> JsonRpcEnd<JsonRpc> {
    server_with(Limits::default())
}

fn client() -> JsonRpcEnd<JsonRpcClient> {
    JsonRpcEnd::of(JsonRpcClient::new(1 << 20))
}

/// Returns the output of an echo server for these bytes.
fn answers(stream: impl AsRef<[u8]>) -> String {
    let mut server = server();
    server.receive_and_echo(stream.as_ref());
    server.output()
}

fn request_of(response: &ReceivedMessage) -> Request {
    match response.0 {
        Message::Request(request) => request,
        ref other => panic!("a request was expected, not {other:?}"),
    }
}

fn refusal_of(response: &ReceivedMessage) -> &Refusal {
    match &response.0 {
        Message::Refused(refusal) => refusal,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// An error of 2.0.
fn error(id: &str, number: i32, message: &str) -> String {
    let standard = matches!(number, -32700 | -32600);
    let data = match number {
        -32601 => "unimplemented",
        -32602 => "invalid_argument",
        -32008 => "resource_exhausted",
        -32004 => "deadline_exceeded",
        _ => "",
    };
    let data = if standard { String::new() } else { format!(r#","data":{{"code":"{data}"}}"#) };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{number},"message":"{message}"{data}}}}}"#)
}
